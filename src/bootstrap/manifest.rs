//! The manifest of an overlay: which files, with which mode, owner and checksum, and which commands afterwards.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::config::{quantity, sha256};

/// What an overlay consists of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    #[serde(default, rename = "file")]
    pub files: Vec<OverlayFile>,
    #[serde(default, rename = "command")]
    pub commands: Vec<Step>,
}

/// One file of an overlay.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OverlayFile {
    /// Where it goes; absolute.
    pub path: PathBuf,
    /// Where it is below the overlay; without it `path`.
    pub source: Option<String>,
    /// Octal, as in `"0644"`.
    pub mode: String,
    /// `user:group`, by names or numbers.
    pub owner: String,
    /// Checksum of the content, 64 hexadecimal digits.
    pub sha256: String,
    /// Version of the object in a bucket that keeps versions.
    pub version: Option<String>,
}

/// One command that is run once all files are in place.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    pub name: String,
    /// Program and arguments; no shell.
    pub run: Vec<String>,
    #[serde(default)]
    pub when: When,
    /// Whether the boot fails with it.
    #[serde(default = "yes")]
    pub essential: bool,
    /// With a unit; 5 minutes without it.
    pub timeout: Option<String>,
}

/// How often a command is run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum When {
    /// At every boot.
    #[default]
    Always,
    /// Until it has succeeded with these words on this host.
    Once,
}

fn yes() -> bool {
    true
}

impl OverlayFile {
    /// Permission bits.
    pub fn bits(&self) -> Option<u32> {
        let octal =
            (3..=4).contains(&self.mode.len()) && self.mode.bytes().all(|b| (b'0'..=b'7').contains(&b));
        u32::from_str_radix(&self.mode, 8).ok().filter(|_| octal)
    }

    /// Where it is below the overlay.
    pub fn key(&self) -> String {
        let path = || self.path.to_string_lossy().trim_start_matches('/').to_owned();
        self.source.clone().unwrap_or_else(path)
    }
}

impl Step {
    /// Longest that it may run.
    pub fn limit(&self) -> Option<Duration> {
        match &self.timeout {
            None => Some(Duration::from_secs(300)),
            Some(text) => quantity::duration(text).ok(),
        }
    }
}

/// Reads a manifest.
///
/// # Errors
///
/// Everything that is wrong with it, one sentence each.
pub fn parse(text: &str) -> Result<Manifest, Vec<String>> {
    let manifest: Manifest =
        toml::from_str(text).map_err(|error| vec![error.to_string().trim().replace('\n', " ")])?;
    let mut faults = Vec::new();
    let mut paths = BTreeSet::new();
    for file in &manifest.files {
        let path = file.path.display();
        let parts = file.path.components().all(|part| !matches!(part, std::path::Component::ParentDir));
        if !file.path.is_absolute() || !parts || file.path.file_name().is_none() {
            faults.push(format!("file {path}: expected an absolute path without \"..\""));
        }
        if file.bits().is_none() {
            faults.push(format!("file {path}: mode {:?}, expected octal digits such as \"0644\"", file.mode));
        }
        if file.owner.split(':').filter(|part| !part.is_empty()).count() != 2 {
            faults.push(format!("file {path}: owner {:?}, expected user:group", file.owner));
        }
        if sha256(&file.sha256).is_err() {
            faults.push(format!("file {path}: sha256 has to be 64 hexadecimal digits"));
        }
        if file.key().split('/').any(|part| matches!(part, "" | "." | "..")) {
            faults.push(format!("file {path}: source {:?} leads out of the overlay", file.key()));
        }
        if !paths.insert(&file.path) {
            faults.push(format!("file {path} is there twice"));
        }
    }
    for step in &manifest.commands {
        if step.run.first().is_none_or(|program| program.is_empty()) {
            faults.push(format!("command {:?}: `run` is empty, expected a program", step.name));
        }
        if step.limit().is_none() {
            faults.push(format!("command {:?}: expected a timeout such as \"60s\"", step.name));
        }
    }
    if faults.is_empty() { Ok(manifest) } else { Err(faults) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SUM: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn a_manifest_says_what_and_where() {
        let text = format!(
            "[[file]]\npath = \"/etc/motd\"\nmode = \"0644\"\nowner = \"root:root\"\nsha256 = \"{SUM}\"\n\
             [[command]]\nname = \"hello\"\nrun = [\"/bin/true\"]\nwhen = \"once\"\nessential = false\n"
        );
        let manifest = parse(&text).unwrap();
        assert_eq!((manifest.files[0].key().as_str(), manifest.files[0].bits()), ("etc/motd", Some(0o644)));
        assert_eq!((manifest.commands[0].when, manifest.commands[0].essential), (When::Once, false));
    }

    #[test]
    fn every_fault_is_named_at_once() {
        let text = "[[file]]\npath = \"etc/../motd\"\nmode = \"999\"\nowner = \"root\"\nsha256 = \"x\"\n\
                    [[command]]\nname = \"hello\"\nrun = []\ntimeout = \"60\"\n";
        let faults = parse(text).unwrap_err();
        assert_eq!(faults.len(), 7, "{faults:#?}");
        assert!(parse("[[files]]\n").unwrap_err()[0].contains("unknown field"));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in any::<String>(), path in any::<String>(), mode in any::<u32>()) {
            let _ = parse(&text);
            let quoted = toml::Value::String(path).to_string();
            let _ = parse(&format!("[[file]]\npath = {quoted}\nmode = \"{mode}\"\nowner = \"a:b\"\nsha256 = \"\"\n"));
        }
    }
}
