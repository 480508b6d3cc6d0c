//! `mapkeeper user-data`: what a launch template takes as user data for this configuration.
//!
//! What must hold: it is below EC2's 16 KiB, and takes less than 1 KiB beside the configuration; it runs at every boot (a
//! boothook, with the `#!` without which cloud-init ignores it), fetches the program by URL and checksum, and has no secret
//! in it: everybody on the instance, and every container that reaches the metadata service, can read user data. A host
//! whose container is ours has no ECS, so perhaps no Docker: a second part installs it.

use super::arguments::UserDataArguments;
use super::config;
use crate::config::{Loaded, Owner, https_url, sha256};
use crate::error::{Advise, Exit, Failed};

/// What EC2 takes, before base64.
const LIMIT_BYTES: usize = 16 * 1024;
const BOUNDARY: &str = "==mapkeeper==";
const HOOK: &str = include_str!("../../cloud-init/user-data.sh");
const DOCKER: &str = include_str!("../../cloud-init/docker.yaml");

/// Why there is no user data.
#[derive(Debug, thiserror::Error)]
pub(super) enum UserDataError {
    #[error("it is not said where the program is and which checksum it has")]
    NoProgram,
    #[error("{what} is {found:?}, expected {expected}")]
    Program { what: &'static str, found: String, expected: String },
    #[error("the configuration holds what looks like a secret: {line}")]
    Secret { line: String },
    #[error("the user data would have {found} bytes, and EC2 takes {LIMIT_BYTES}")]
    TooLarge { found: usize },
}

impl Advise for UserDataError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            UserDataError::NoProgram | UserDataError::Program { .. } => {
                "set `bootstrap.binary_url` and `bootstrap.binary_sha256`, or pass --url and --sha256".to_owned()
            }
            UserDataError::Secret { .. } => {
                "move it to a SecureString below `sources.parameters`; user data can be read by everybody there"
                    .to_owned()
            }
            UserDataError::TooLarge { .. } => {
                "put the configuration into a bucket or Parameter Store and only name it here".to_owned()
            }
        })
    }

    fn exit(&self) -> Exit {
        Exit::Usage
    }
}

/// Prints the user data.
///
/// # Errors
///
/// Whatever keeps it from being what it has to be.
pub(super) fn print(arguments: &UserDataArguments) -> Result<(), Failed> {
    let inputs = arguments.file.inputs();
    let loaded = Loaded::local(&inputs)?;
    let text = user_data(&loaded, arguments.url.as_deref(), arguments.sha256.as_deref())?;
    config::print(&text);
    Ok(())
}

fn user_data(loaded: &Loaded, url: Option<&str>, sum: Option<&str>) -> Result<String, UserDataError> {
    let bootstrap = &loaded.config.bootstrap;
    let url = url.or(bootstrap.binary_url.as_deref()).ok_or(UserDataError::NoProgram)?;
    let sum = sum.or(bootstrap.binary_sha256.as_deref()).ok_or(UserDataError::NoProgram)?;
    let wrong = |what, found: &str, expected: &dyn std::fmt::Display| UserDataError::Program {
        what,
        found: found.to_owned(),
        expected: expected.to_string().trim_start_matches("expected ").to_owned(),
    };
    let url = https_url(url).map_err(|expected| wrong("the URL", url, &expected))?;
    let sum = sha256(sum).map_err(|expected| wrong("the checksum", sum, &expected))?;
    let said = loaded.said();
    if let Some(line) = said.lines().find(|line| line.contains("[redacted]")) {
        return Err(UserDataError::Secret { line: line.to_owned() });
    }
    let hook = HOOK.replace("@URL@", &url).replace("@SHA256@", &sum).replace("@CONFIG@", said.trim_end());
    let text = match loaded.config.containers.iter().any(|container| container.owner == Owner::Mapkeeper) {
        false => hook,
        true => parts(&[("cloud-boothook", &hook), ("cloud-config", DOCKER)]),
    };
    match text.len() {
        found if found > LIMIT_BYTES => Err(UserDataError::TooLarge { found }),
        _ => Ok(text),
    }
}

/// Several parts as cloud-init takes them, each with its kind.
fn parts(parts: &[(&str, &str)]) -> String {
    let part = |(kind, text): &(&str, &str)| {
        format!("--{BOUNDARY}\nContent-Type: text/{kind}; charset=\"utf-8\"\nMIME-Version: 1.0\n\n{text}\n")
    };
    let all: String = parts.iter().map(part).collect();
    format!(
        "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"{BOUNDARY}\"\n\n{all}--{BOUNDARY}--\n"
    )
}
