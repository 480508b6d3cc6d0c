//! How the last bootstrap of this boot ended, where `status` and the unit find it.
//!
//! The file lies in `/run`, so a new boot begins without one. While it says that something failed, a second file is
//! there, whose existence keeps systemd from starting the agent.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::file::{Attributes, below, put};

const OUTCOME: &str = "/run/mapkeeper-bootstrap.json";
/// `ConditionPathExists=!` of the unit.
const FAILED: &str = "/run/mapkeeper-bootstrap.failed";

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Why it failed; `None`: it did not.
    pub fault: Option<String>,
}

pub(super) fn write(root: &Path, fault: Option<String>) -> Result<(), (PathBuf, io::Error)> {
    let plain = Attributes { mode: 0o644, owner: None };
    let (outcome, failed) = (below(root, Path::new(OUTCOME)), below(root, Path::new(FAILED)));
    let text = serde_json::to_vec(&Outcome { fault: fault.clone() }).expect("texts are JSON");
    put(&outcome, &text, plain).map_err(|error| (outcome, error))?;
    let marked = match &fault {
        Some(fault) => put(&failed, fault.as_bytes(), plain).map(|_| ()),
        None => match fs::remove_file(&failed) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        },
    };
    marked.map_err(|error| (failed, error))
}

/// How the last one of this boot ended; `None`: none has, or it cannot be told.
pub fn last_outcome(root: &Path) -> Option<Outcome> {
    serde_json::from_slice(&fs::read(below(root, Path::new(OUTCOME))).ok()?).ok()
}
