//! Moves that are under way, and written down to be.

use std::path::{Path, PathBuf};

use super::super::rename_intent::RenameIntent;

/// Extension of a note.
pub(super) const MOVE: &str = "move";

/// A move that is under way, and written down to be.
pub struct NotedIntent(pub(super) PathBuf);

impl NotedIntent {
    /// It is over: well, or with everybody told.
    pub fn end(self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::debug!(error = %error, "a move will be looked at again");
        }
    }
}

/// The moves that are noted in a session's directory; those that cannot be understood are left out.
pub fn moves(session: &Path) -> Vec<(RenameIntent, NotedIntent)> {
    let Ok(entries) = std::fs::read_dir(session) else { return Vec::new() };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths
        .filter(|path| path.extension().is_some_and(|found| found == MOVE))
        .filter_map(|path| {
            Some((RenameIntent::read(&std::fs::read_to_string(&path).ok()?)?, NotedIntent(path)))
        })
        .collect()
}
