//! The part of the staging directory that is one mount's.

use std::fs::{DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use super::super::record::{self, Kept, Record};
use super::super::rename_intent::RenameIntent;
use super::file::{self, RECORD, StagedFile};
use super::left::LeftBehind;
use super::lock::{self, LOCK, Owner, try_lock};
use super::noted::{self, MOVE, NotedIntent};
use super::trusted::{create, inner_directory, private_directory};

/// Bytes of the disk that are left free for others.
const RESERVE: u64 = 64 * 1024 * 1024;
/// What is on disk for convenience only leaves this much of it free: bytes, and the so-manieth part of it.
const PLENTY: (u64, u64) = (256 * 1024 * 1024, 10);
const KEPT: &str = "kept";
const HANDLES: &str = "handles";
/// The part of the staging directory that is one mount's.
pub struct Staging {
    root: PathBuf,
    session: PathBuf,
    /// Closed, it is free.
    lock: File,
    next: AtomicU64,
    /// Everything stays where it is when this process lets go of it: another one goes on with it.
    is_left: Arc<AtomicBool>,
    /// That too many files are open.
    is_told: AtomicBool,
}

/// How much of the disk is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    Plenty,
    /// Enough for what has to be there.
    Some,
    None,
}

impl Staging {
    /// A new session of `owner` in the directory `root`, which is made if it is not there.
    ///
    /// # Errors
    ///
    /// [`NotTrusted`](trusted::NotTrusted) for a directory of others; that of making directories and files.
    pub fn open(root: &Path, owner: &Owner) -> io::Result<Staging> {
        static SESSIONS: AtomicU64 = AtomicU64::new(0);
        private_directory(root)?;
        let kept = root.join(KEPT);
        if kept.symlink_metadata().is_ok() {
            inner_directory(&kept)?;
        }
        let session = loop {
            let number = SESSIONS.fetch_add(1, Ordering::Relaxed);
            let session = root.join(format!("session-{}.{number}", std::process::id()));
            match DirBuilder::new().mode(0o700).create(&session) {
                // Of a process that had our number before a reboot.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => break made.map(|()| session)?,
            }
        };
        let mut lock = create(&session.join(LOCK))?;
        if !try_lock(&lock)? {
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, "the staging directory is in use"));
        }
        lock.write_all(serde_json::to_string(owner).expect("plain data").as_bytes())?;
        Ok(Staging::with(root, session, lock, 1))
    }

    /// The session of an earlier process, to go on with it, and the files in it that were being changed. Nothing is
    /// removed before [`stay`](Self::stay).
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::NotFound`] when it is not there; [`io::ErrorKind::ResourceBusy`] while somebody else uses it;
    /// [`io::ErrorKind::InvalidData`] for files of another version; that of reading it.
    pub fn resume(root: &Path, session: &str) -> io::Result<(Staging, Vec<(Record, StagedFile)>)> {
        let is_session = session.starts_with("session-") && !session.contains('/');
        let session = root.join(session);
        if !is_session || !session.join(LOCK).exists() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "there is no such session"));
        }
        private_directory(root)?;
        inner_directory(&session)?;
        let left = LeftBehind::take(session.clone())
            .ok_or_else(|| io::Error::new(io::ErrorKind::ResourceBusy, "the staging directory is in use"))?;
        let files = left.files()?;
        let next = files.iter().map(|(number, _)| *number).max().unwrap_or(0) + 1;
        let staging = Staging::with(root, session, left.into_lock(), next);
        staging.leave();
        let mut found = Vec::new();
        for (_, path) in files {
            match record::read(&std::fs::read_to_string(path.with_extension(RECORD))?) {
                record::Read::Whole(record) => {
                    let file = StagedFile::reopen(path, &record, staging.is_left.clone())?;
                    found.push((*record, file));
                }
                record::Read::Foreign => return Err(io::ErrorKind::InvalidData.into()),
                // It was about to be made.
                record::Read::Nothing => file::remove(&path),
            }
        }
        Ok((staging, found))
    }

    fn with(root: &Path, session: PathBuf, lock: File, next: u64) -> Staging {
        let (root, next, is_left) = (root.to_path_buf(), AtomicU64::new(next), Arc::default());
        Staging { root, session, lock, next, is_left, is_told: AtomicBool::new(false) }
    }

    /// The session's name below the staging directory.
    pub fn name(&self) -> &str {
        self.session.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }

    /// Where it is noted who has what open.
    pub fn handles(&self) -> PathBuf {
        self.session.join(HANDLES)
    }

    /// From now on nothing is removed: a successor goes on with it.
    pub fn leave(&self) {
        self.is_left.store(true, Ordering::Release);
    }

    /// From now on what this process lets go of is removed.
    pub fn stay(&self) {
        self.is_left.store(false, Ordering::Release);
    }

    /// A new file, of which `record` is written down.
    ///
    /// # Errors
    ///
    /// That of making files.
    pub fn create(&self, record: Record) -> io::Result<StagedFile> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        StagedFile::create(self.session.join(number.to_string()), record, self.is_left.clone())
    }

    /// Tells once that no more files can be opened for writing.
    pub fn tell_too_many(&self, open: u64) {
        if !self.is_told.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                open,
                "no more files can be open for writing: a larger LimitNOFILE, or ulimit -n, allows more"
            );
        }
    }

    /// Writes down that a move begins.
    ///
    /// # Errors
    ///
    /// That of making files.
    pub fn note_move(&self, begun: &RenameIntent) -> io::Result<NotedIntent> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.session.join(number.to_string()).with_extension(MOVE);
        let mut file = create(&path.with_extension("new"))?;
        file.write_all(begun.text().as_bytes())?;
        std::fs::rename(path.with_extension("new"), &path)?;
        Ok(NotedIntent(path))
    }

    /// Takes away every note of this move: whoever asked for it has been told that it did not happen.
    pub fn end_moves(&self, from: &str, to: &str) {
        let moves = self.moves().into_iter();
        moves.filter(|(begun, _)| begun.from == from && begun.to == to).for_each(|(_, noted)| noted.end());
    }

    /// Moves that the process before had under way.
    pub fn moves(&self) -> Vec<(RenameIntent, NotedIntent)> {
        noted::moves(&self.session)
    }

    /// Whether `length` bytes more leave the disk its reserve.
    pub fn room_for(&self, length: u64) -> Room {
        let Ok(disk) = nix::sys::statvfs::statvfs(&self.session) else {
            // What cannot be told is found out by writing.
            return Room::Plenty;
        };
        let (free, all) =
            (disk.blocks_available() * disk.fragment_size(), disk.blocks() * disk.fragment_size());
        match free.saturating_sub(length) {
            left if left >= PLENTY.0.max(all / PLENTY.1) => Room::Plenty,
            left if left >= RESERVE => Room::Some,
            _ => Room::None,
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
        file.cut(size)?;
        let mut about = create(&path.with_added_extension("json"))?;
        about.write_all(record::kept_text(kept).as_bytes())?;
        file.move_to(&path)?;
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

    /// Directories of sessions that have ended without clearing up, each with its lock taken: those of `owner`, or of
    /// its source wherever that was mounted.
    pub fn left_behind(&self, is_ours: impl Fn(&Owner) -> bool) -> Vec<LeftBehind> {
        let Ok(entries) = std::fs::read_dir(&self.root) else { return Vec::new() };
        let is_session = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.starts_with("session-") && *path != self.session
        };
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(is_session);
        // Looked at before its lock is taken: whoever goes on with it must not find it taken.
        paths
            .filter(|path| match inner_directory(path) {
                Ok(()) => true,
                Err(error) => {
                    tracing::warn!(error = %error, "what somebody else has put into the staging directory is left alone");
                    false
                }
            })
            .filter(|path| lock::owner(path).is_some_and(|owner| is_ours(&owner)))
            .filter_map(LeftBehind::take)
            .collect()
    }

    /// As if the process had been killed, for a test in the same process: the lock is free, and all of it stays.
    #[cfg(test)]
    pub fn die(&self) {
        self.leave();
        self.lock.unlock().expect("unlocked");
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // What a move has not come to the end of is the next one's to finish.
        if !self.is_left.load(Ordering::Acquire) && self.moves().is_empty() {
            // Nothing in it is anybody's any more: what was acknowledged is in the store.
            let _ = std::fs::remove_dir_all(&self.session);
        }
        // The lock last: a directory whose lock is free is somebody else's.
        let _ = self.lock.unlock();
    }
}
