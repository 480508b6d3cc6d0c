//! Where files that are being changed are on disk: the staging directory.
//!
//! ```text
//!   staging/ session-PID.N/ lock          held for as long as the process lives
//!                           3.data        the bytes, sparse
//!                           3.record      what they are: version, then one event a line (`record.rs`)
//!            kept/          TIME-NAME     what was written and could not be stored, with TIME-NAME.json beside it
//! ```
//!
//! Nobody but root sees any of it. What must hold: no two processes use one session's directory; a directory whose
//! lock is free belongs to nobody and may be taken over or cleared; the disk is never filled to its end.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use super::record::{self, Event, Kept, Record};

/// Bytes of the disk that are left free for others.
const RESERVE: u64 = 64 * 1024 * 1024;
const LOCK: &str = "lock";
const KEPT: &str = "kept";

/// The part of the staging directory that is one mount's.
pub struct Staging {
    root: PathBuf,
    session: PathBuf,
    /// The lock; closed, it is free.
    _lock: File,
    next: AtomicU64,
}

/// A file that is being changed.
pub struct StagedFile {
    data: File,
    record: Mutex<File>,
    path: PathBuf,
}

impl Staging {
    /// A new session in the directory `root`, which is made if it is not there.
    ///
    /// # Errors
    ///
    /// That of making directories and files.
    pub fn open(root: &Path) -> io::Result<Staging> {
        static SESSIONS: AtomicU64 = AtomicU64::new(0);
        private_directory(root)?;
        let number = SESSIONS.fetch_add(1, Ordering::Relaxed);
        let session = root.join(format!("session-{}.{number}", std::process::id()));
        private_directory(&session)?;
        let lock = create(&session.join(LOCK))?;
        if !try_lock(&lock)? {
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, "the staging directory is in use"));
        }
        Ok(Staging { root: root.to_path_buf(), session, _lock: lock, next: AtomicU64::new(1) })
    }

    /// A new file, of which `record` is written down.
    ///
    /// # Errors
    ///
    /// That of making files.
    pub fn create(&self, record: &Record) -> io::Result<StagedFile> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.session.join(number.to_string());
        let data = create(&path.with_extension("data"))?;
        let mut file = create(&path.with_extension("record"))?;
        file.write_all(record::first_line(record).as_bytes())?;
        Ok(StagedFile { data, record: Mutex::new(file), path })
    }

    /// Whether `length` bytes more leave the disk its reserve.
    pub fn has_room(&self, length: u64) -> bool {
        match nix::sys::statvfs::statvfs(&self.session) {
            Ok(disk) => {
                let free = disk.blocks_available() as u64 * disk.fragment_size() as u64;
                free >= length.saturating_add(RESERVE)
            }
            // What cannot be told is found out by writing.
            Err(_) => true,
        }
    }

    /// Keeps the bytes of a file that could not be stored, and says under which path.
    ///
    /// # Errors
    ///
    /// That of moving the file: it then stays where it is.
    pub fn keep(&self, file: &StagedFile, size: u64, kept: &Kept) -> io::Result<PathBuf> {
        let directory = self.root.join(KEPT);
        private_directory(&directory)?;
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let name = kept.key.rsplit('/').next().unwrap_or_default();
        let name: String = name.chars().filter(|c| !c.is_control()).take(60).collect();
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = directory.join(format!("{seconds}-{}.{number}-{name}", std::process::id()));
        file.data.set_len(size)?;
        let mut about = create(&path.with_added_extension("json"))?;
        about.write_all(record::kept_text(kept).as_bytes())?;
        std::fs::rename(file.path.with_extension("data"), &path)?;
        Ok(path)
    }

    /// What has been kept, by whichever mount that uses this directory: oldest first, at most `limit`.
    pub fn kept(&self, limit: usize) -> Vec<PathBuf> {
        let Ok(entries) = std::fs::read_dir(self.root.join(KEPT)) else { return Vec::new() };
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let mut paths: Vec<PathBuf> =
            paths.filter(|path| path.extension().is_none_or(|extension| extension != "json")).collect();
        paths.sort();
        paths.truncate(limit);
        paths
    }

    /// Directories of sessions that have ended without clearing up, each with its lock taken.
    pub fn left_behind(&self) -> Vec<LeftBehind> {
        let Ok(entries) = std::fs::read_dir(&self.root) else { return Vec::new() };
        let is_session = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.starts_with("session-") && *path != self.session
        };
        entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(is_session)
            .filter_map(LeftBehind::take)
            .collect()
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Nothing in it is anybody's any more: what was acknowledged is in the store.
        let _ = std::fs::remove_dir_all(&self.session);
    }
}

/// What a session that has died left on disk.
pub struct LeftBehind {
    path: PathBuf,
    _lock: File,
}

impl LeftBehind {
    fn take(path: PathBuf) -> Option<LeftBehind> {
        let lock =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path.join(LOCK));
        let lock = lock.ok()?;
        try_lock(&lock).ok()?.then_some(LeftBehind { path, _lock: lock })
    }

    /// The records in it, those that cannot be read left out.
    pub fn records(&self) -> Vec<Record> {
        let Ok(entries) = std::fs::read_dir(&self.path) else { return Vec::new() };
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        paths
            .filter(|path| path.extension().is_some_and(|extension| extension == "record"))
            .filter_map(|path| record::read(&std::fs::read_to_string(path).ok()?))
            .collect()
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

impl StagedFile {
    /// Writes all of `bytes`.
    ///
    /// # Errors
    ///
    /// That of writing: `ENOSPC` for a full disk.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.data.write_all_at(bytes, offset)
    }

    /// The bytes of a range; behind the end of what was written there are zeros.
    ///
    /// # Errors
    ///
    /// That of reading.
    pub fn read(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        let mut filled = 0;
        while filled < length {
            match self.data.read_at(&mut bytes[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(bytes)
    }

    /// Ends the file at `size`; what a longer one gains is zero.
    ///
    /// # Errors
    ///
    /// That of the disk.
    pub fn cut(&self, size: u64) -> io::Result<()> {
        self.data.set_len(size)
    }

    /// Writes down what has happened to the file.
    ///
    /// # Errors
    ///
    /// That of writing.
    pub fn note(&self, event: &Event) -> io::Result<()> {
        let line = record::line(event);
        self.record.lock().unwrap_or_else(PoisonError::into_inner).write_all(line.as_bytes())
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        for extension in ["data", "record"] {
            // Moved to what is kept, or of no use to anybody.
            let _ = std::fs::remove_file(self.path.with_extension(extension));
        }
    }
}

fn private_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(path)
}

/// Whether nobody else had the lock.
fn try_lock(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}
