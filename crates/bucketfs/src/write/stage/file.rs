//! One file that is being changed, on disk: its bytes and its record.
//!
//! What must hold: the record is readable whenever the process dies; a line that could not be written whole is taken
//! back; the record does not grow without end.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use rustix::fs::FallocateFlags;

use super::super::record::{self, Event, Life, Record};
use super::trusted::{create, open};

/// Extensions: of the bytes, and of what they are.
pub(super) const DATA: &str = "data";
pub(super) const RECORD: &str = "record";
/// Bytes of events after which everything is written anew, beside four times what that took the last time.
const EVENTS_MAX: u64 = 1024 * 1024;

/// Files that are staged by this process, whichever mount they are of.
static STAGED: AtomicU64 = AtomicU64::new(0);

/// How many files this process has staged, each with two descriptors.
pub fn staged_files() -> u64 {
    STAGED.load(Ordering::Relaxed)
}

/// A file that is being changed.
pub struct StagedFile {
    data: File,
    log: Mutex<Log>,
    /// Of both, without extension.
    path: PathBuf,
    is_left: Arc<AtomicBool>,
}

struct Log {
    file: File,
    /// Where the next line begins.
    end: u64,
    /// What the last full state took.
    state: u64,
}

impl StagedFile {
    pub(super) fn create(path: PathBuf, record: Record, is_left: Arc<AtomicBool>) -> io::Result<StagedFile> {
        let data = create(&path.with_extension(DATA))?;
        StagedFile::begin(path, data, record, is_left)
    }

    /// A file of which a dead process has left this.
    pub(super) fn reopen(path: PathBuf, record: &Record, is_left: Arc<AtomicBool>) -> io::Result<StagedFile> {
        let data = match &record.life {
            // What was lost and could be kept was moved there.
            Life::Lost { kept: Some(kept) } if kept.exists() => kept.clone(),
            _ => path.with_extension(DATA),
        };
        let data = open(&data)?;
        StagedFile::begin(path, data, record.clone(), is_left)
    }

    fn begin(path: PathBuf, data: File, record: Record, is_left: Arc<AtomicBool>) -> io::Result<StagedFile> {
        let log = Log::begin(&path, &record::line(&Event::All(Box::new(record))))?;
        STAGED.fetch_add(1, Ordering::Relaxed);
        Ok(StagedFile { data, log: Mutex::new(log), path, is_left })
    }

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

    /// Gives the disk back what `range` takes of it.
    ///
    /// # Errors
    ///
    /// That of the disk: not every file system can.
    pub fn release(&self, range: &Range<u64>) -> io::Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(rustix::fs::fallocate(&self.data, flags, range.start, range.end - range.start)?)
    }

    /// The time that was set last, or that of the last write.
    ///
    /// # Errors
    ///
    /// That of the disk.
    pub fn modified(&self) -> io::Result<SystemTime> {
        self.data.metadata()?.modified()
    }

    /// Notes the file's time where it costs least.
    pub fn set_modified(&self, time: SystemTime) {
        if let Err(error) = self.data.set_modified(time) {
            tracing::debug!(error = %error, "the time of a staged file stays what it was");
        }
    }

    /// Writes down what has happened to the file; `all` says all there is to know, should that be shorter by now.
    ///
    /// # Errors
    ///
    /// That of writing.
    pub fn note(&self, event: &Event, all: impl FnOnce() -> Record) -> io::Result<()> {
        let mut log = self.log();
        if log.is_long() {
            *log = Log::begin(&self.path, &record::line(&Event::All(Box::new(all()))))?;
        }
        log.append(&record::line(event), matches!(event, Event::All(_)))
    }

    pub(super) fn move_to(&self, path: &Path) -> io::Result<()> {
        std::fs::rename(self.path.with_extension(DATA), path)
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log {
    /// A log that begins with `state`, in the place of whatever is there: at no moment is there none.
    fn begin(path: &Path, state: &str) -> io::Result<Log> {
        let new = path.with_extension("new");
        let file = create(&new)?;
        let mut log = Log { file, end: 0, state: 0 };
        log.append(state, true)?;
        std::fs::rename(new, path.with_extension(RECORD))?;
        Ok(log)
    }

    fn append(&mut self, line: &str, is_state: bool) -> io::Result<()> {
        let length = line.len() as u64;
        if let Err(error) = self.file.write_all_at(line.as_bytes(), self.end) {
            // Half a line would hide all that come behind it.
            let _ = self.file.set_len(self.end);
            return Err(error);
        }
        self.end += length;
        if is_state {
            self.state = length;
        }
        Ok(())
    }

    fn is_long(&self) -> bool {
        self.end > EVENTS_MAX + 4 * self.state
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        STAGED.fetch_sub(1, Ordering::Relaxed);
        if !self.is_left.load(Ordering::Acquire) {
            remove(&self.path);
        }
    }
}

/// Moved to what is kept, or of no use to anybody.
pub(super) fn remove(path: &Path) {
    // The record first: bytes without one are nobody's.
    for extension in [RECORD, DATA] {
        let _ = std::fs::remove_file(path.with_extension(extension));
    }
}
