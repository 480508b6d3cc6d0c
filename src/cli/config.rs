//! `mapkeeper config check`, `mapkeeper config show` and `mapkeeper config schema`.

use std::io::{self, Write};

use super::arguments::{CheckArguments, ShowArguments};
use crate::config::{self, ConfigError, Origins};
use crate::diagnose::doctor;
use crate::diagnose::result;
use crate::error::Exit;
use crate::host::configuration;
use crate::terminal::{Style, counted, while_waiting};

/// Says whether the configuration is valid: one line for a person, warnings on standard error. If asked to, also what
/// others say to it, a line each.
///
/// # Errors
///
/// Every fault of the configuration at once.
pub(super) async fn check(arguments: &CheckArguments) -> Result<Exit, ConfigError> {
    let inputs = arguments.file.inputs();
    let loaded = while_waiting("asking Parameter Store and tags", configuration::load(&inputs, None)).await?;
    loaded.doubts().for_each(|doubt| eprintln!("warning: {doubt}"));
    let (mounts, containers) = (loaded.config.mounts.len(), loaded.config.containers.len());
    print(&format!(
        "the configuration is valid: {}, {}\n",
        counted(mounts, "mount"),
        counted(containers, "container")
    ));
    if !arguments.remote {
        return Ok(Exit::Success);
    }
    let results = while_waiting("asking AWS", doctor::remote(&loaded.config)).await;
    print(&result::text(&results, Style::of(&io::stdout())));
    Ok(result::exit(&results))
}

/// Prints the effective configuration as TOML, without secrets.
///
/// # Errors
///
/// Every fault of the configuration at once.
pub(super) async fn show(arguments: &ShowArguments) -> Result<(), ConfigError> {
    let inputs = arguments.file.inputs();
    let loaded = while_waiting("asking Parameter Store and tags", configuration::load(&inputs, None)).await?;
    for warning in &loaded.warnings {
        eprintln!("warning: {warning}");
    }
    let origins = if arguments.origin { Origins::Shown } else { Origins::Hidden };
    print(&loaded.show(origins));
    Ok(())
}

/// Prints the JSON Schema of a configuration file.
pub(super) fn schema() {
    print(&format!("{:#}\n", config::schema()));
}

/// Writes to standard output. A reader that has gone away (`| head`) is no failure.
pub(super) fn print(text: &str) {
    let _gone = io::stdout().lock().write_all(text.as_bytes());
}
