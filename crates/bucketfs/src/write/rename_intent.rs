//! A move as it is written down before it begins, for whoever has to finish it (`unfinished_moves.rs`).
//!
//! What must hold: a note that was not written whole, or by another version of this program, says nothing.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::store::ETag;

/// Of the format of notes.
const VERSION: u32 = 1;
/// After which a move is left as it is: people have helped themselves by then.
const TOO_OLD: Duration = Duration::from_secs(3600);

/// A move as it is written down before it begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenameIntent {
    version: u32,
    /// Paths from the root of the mount.
    pub from: String,
    pub to: String,
    /// Seconds since the epoch.
    began: u64,
    /// What is in front of the keys under either name.
    pub(super) old: String,
    pub(super) new: String,
    /// What is behind it, and the entity tag.
    pub(super) objects: Vec<(String, String)>,
}

impl RenameIntent {
    pub fn new(
        (from, to): (&str, &str),
        (old, new): (&str, &str),
        objects: impl Iterator<Item = (String, ETag)>,
    ) -> RenameIntent {
        RenameIntent {
            version: VERSION,
            from: from.to_string(),
            to: to.to_string(),
            began: now().as_secs(),
            old: old.to_string(),
            new: new.to_string(),
            objects: objects.map(|(rest, etag)| (rest, etag.0.to_string())).collect(),
        }
    }

    pub fn text(&self) -> String {
        serde_json::to_string(self).expect("plain data: strings, numbers and lists")
    }

    /// What a note says. `None` for one that was not written whole, or is of another version.
    pub fn read(text: &str) -> Option<RenameIntent> {
        serde_json::from_str(text).ok().filter(|read: &RenameIntent| read.version == VERSION)
    }

    pub(super) fn is_too_old(&self) -> bool {
        now().as_secs().saturating_sub(self.began) > TOO_OLD.as_secs()
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
