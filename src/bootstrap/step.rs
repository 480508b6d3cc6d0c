//! What a step of the preparation is given, and what it tells.

use std::path::PathBuf;

use super::file::Change;

/// Where a host is prepared.
#[derive(Debug, Clone)]
pub struct HostRoot {
    /// `/`, or a scratch directory in tests.
    pub root: PathBuf,
    /// Where the configuration is to come from, if not from the host itself.
    pub from: Option<String>,
}

/// One step that has been taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    pub what: String,
    pub change: Change,
}
