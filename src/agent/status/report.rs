//! What a reader finds in the runtime directory, and how far it can be believed.
//!
//! What must hold: nothing is looked at but the file and its writer in `/proc`, so that a reader is answered at once.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::document::{Document, VERSION, Writer, age_ms, is_fresh};
use crate::error::{Advise, Exit};
use ladder::state::{Health, LinkState, Target};

/// The document, in the runtime directory.
pub(super) const FILE: &str = "status.json";

/// What a reader found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub standing: Standing,
    pub document: Option<Document>,
}

/// How far a document can be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    Fresh,
    /// The writer lives but has not kept its promise; the document is this old.
    Stale {
        age_ms: u64,
    },
    /// The writer is gone.
    Ended,
    /// There is no document.
    Absent,
}

/// Why a document could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("cannot read {path:?}")]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("cannot understand {path:?}")]
    Malformed { path: PathBuf, source: serde_json::Error },
    #[error("{path:?} has version {found}, this program reads version {VERSION}")]
    Version { path: PathBuf, found: u32 },
}

impl Advise for ReadError {
    fn hint(&self) -> Option<String> {
        match self {
            ReadError::Unreadable { .. } => Some("check --runtime-dir".to_owned()),
            ReadError::Malformed { .. } | ReadError::Version { .. } => {
                Some("use the mapkeeper binary that the agent runs".to_owned())
            }
        }
    }

    fn exit(&self) -> Exit {
        Exit::NotRunning
    }
}

impl Report {
    /// The exit code of `status`.
    pub fn exit(&self) -> Exit {
        match (&self.standing, &self.document) {
            (Standing::Fresh, Some(document)) if document.health == Health::Healthy => Exit::Success,
            (Standing::Fresh, Some(_)) => Exit::Degraded,
            _ => Exit::NotRunning,
        }
    }

    /// The same without what is counted.
    pub fn without_figures(&self) -> Report {
        let document = self.document.as_ref().map(Document::without_figures);
        Report { standing: self.standing, document }
    }

    /// The document as `status --json` prints it, with how far it can be believed.
    pub fn json(&self) -> serde_json::Value {
        let mut value = match &self.document {
            Some(document) => serde_json::to_value(document),
            None => Ok(serde_json::json!({ "version": VERSION })),
        }
        .expect("a document is made of strings, numbers and string-keyed maps");
        value["standing"] =
            serde_json::to_value(self.standing).expect("a standing is a string or a number in a map");
        value
    }

    /// The mounts that are not proven, each with what is known of it; empty: all are.
    pub fn unproven(&self) -> Vec<String> {
        let Some(document) = &self.document else {
            return vec!["no agent has published a status".to_owned()];
        };
        match self.standing {
            Standing::Fresh => {}
            Standing::Stale { age_ms } => {
                return vec![format!("the agent has not reported for {} s", age_ms / 1000)];
            }
            Standing::Ended | Standing::Absent => return vec!["the agent is not running".to_owned()],
        }
        let mounts = document.links.iter().filter(|link| matches!(link.target, Target::Mount(_)));
        mounts
            .filter(|link| !matches!(link.state, LinkState::Ok | LinkState::Degraded))
            .map(|link| format!("{}: {}", link.target, link.detail))
            .collect()
    }
}

/// Reads the document in the runtime directory `dir` and tells how far it can be believed.
///
/// # Errors
///
/// [`ReadError`] when there is a file that is not a document. No file is no error.
pub fn read(dir: &Path) -> Result<Report, ReadError> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let path = dir.join(FILE);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Report { standing: Standing::Absent, document: None });
        }
        Err(source) => return Err(ReadError::Unreadable { path, source }),
    };
    let malformed = |source| ReadError::Malformed { path: path.clone(), source };
    let Versioned { version } = serde_json::from_slice(&text).map_err(malformed)?;
    if version != VERSION {
        return Err(ReadError::Version { path, found: version });
    }
    let document: Document = serde_json::from_slice(&text).map_err(malformed)?;
    let standing = standing(&document);
    Ok(Report { standing, document: Some(document) })
}

fn standing(document: &Document) -> Standing {
    let lives = Writer::of(document.writer.pid).is_ok_and(|writer| writer == document.writer);
    if !lives {
        return Standing::Ended;
    }
    if is_fresh(document) { Standing::Fresh } else { Standing::Stale { age_ms: age_ms(document) } }
}
