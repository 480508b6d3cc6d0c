//! Sessions whose process has ended without clearing up.
//!
//! What must hold: whoever holds one of these holds its lock; nothing is removed that another version of this program
//! has written, because it may know more.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use super::super::record::{self, Record};
use super::super::rename_intent::RenameIntent;
use super::file::RECORD;
use super::lock::{LOCK, try_lock};
use super::noted::{NotedIntent, moves};
use super::trusted::open;

/// What a session that has died left on disk.
pub struct LeftBehind {
    path: PathBuf,
    lock: File,
}

impl LeftBehind {
    /// Takes it over unless somebody uses it.
    pub fn take(path: PathBuf) -> Option<LeftBehind> {
        let lock = open(&path.join(LOCK)).ok()?;
        try_lock(&lock).ok()?.then_some(LeftBehind { path, lock })
    }

    pub fn into_lock(self) -> File {
        self.lock
    }

    /// The files in it by their numbers, without extensions.
    ///
    /// # Errors
    ///
    /// That of reading the directory.
    pub fn files(&self) -> io::Result<Vec<(u64, PathBuf)>> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            let path = entry?.path();
            let number = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
            if let Some(number) = number.filter(|_| path.extension().is_some_and(|found| found == RECORD)) {
                files.push((number, path.with_extension("")));
            }
        }
        files.sort();
        Ok(files)
    }

    /// The records in it. `None` if there is one that cannot be understood.
    pub fn records(&self) -> Option<Vec<Record>> {
        let mut records = Vec::new();
        for (_, path) in self.files().ok()? {
            match record::read(&std::fs::read_to_string(path.with_extension(RECORD)).ok()?) {
                record::Read::Whole(record) => records.push(*record),
                record::Read::Nothing => {}
                record::Read::Foreign => return None,
            }
        }
        Some(records)
    }

    /// Moves that were under way.
    pub fn moves(&self) -> Vec<(RenameIntent, NotedIntent)> {
        moves(&self.path)
    }

    /// Removes all of it.
    ///
    /// # Errors
    ///
    /// That of removing files.
    pub fn clear(self) -> io::Result<()> {
        std::fs::remove_dir_all(&self.path)
    }
}
