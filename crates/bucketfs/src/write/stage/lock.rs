//! The lock of a session's directory: it is held for as long as the process lives, and says whose the session is.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Name of the file.
pub(super) const LOCK: &str = "lock";

/// Whose a session is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// `s3://bucket/prefix`.
    pub source: String,
    /// Where it is mounted.
    pub mount_point: PathBuf,
}

/// Whether nobody else had the lock.
pub(super) fn try_lock(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Whose the session is. `None` for one that was about to be made, or is of another version.
pub fn owner(session: &Path) -> Option<Owner> {
    serde_json::from_str(&std::fs::read_to_string(session.join(LOCK)).ok()?).ok()
}
