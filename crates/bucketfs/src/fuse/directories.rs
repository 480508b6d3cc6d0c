//! Open directories, as the kernel has them: numbers that also a successor must know.
//!
//! What must hold: what the kernel may read on with is written down before it is told, and a directory that a process
//! before has opened is opened again when it is read on.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fuser::{FileHandle, FileType, Generation, INodeNo, ReplyDirectory, ReplyDirectoryPlus};

use super::reply::{believed, file_attr, file_type, nameless};
use crate::attr::Kind;
use crate::directory::{Detail, Directory, Item};
use crate::error::FsError;
use crate::journal::{Journal, Record, Recovered};
use crate::tree::{Entry, Tree};
use crate::wire::{KIND_UNKNOWN, NAME_ONLY};

/// Directories that were closed, of which it is known what was listed: whoever lists one looks up its names next.
const CLOSED_KEPT: usize = 4;

/// All open directories of a mount.
pub(super) struct Directories {
    open: Mutex<HashMap<u64, Opened>>,
    closed: Mutex<VecDeque<Arc<Directory>>>,
    next_handle: AtomicU64,
    journal: Arc<Journal>,
}

/// An open directory, as far as this process knows it.
enum Opened {
    Here(Arc<Directory>),
    /// By a process before: its number, and what it was read up to.
    Before(u64, Option<(u64, String)>),
}

impl Directories {
    /// Those that are `held` from a process before.
    pub(super) fn new(journal: Arc<Journal>, held: Recovered) -> Directories {
        let before = |(handle, (ino, read_to))| (handle, Opened::Before(ino, read_to));
        Directories {
            open: Mutex::new(held.directories.into_iter().map(before).collect()),
            closed: Mutex::default(),
            next_handle: AtomicU64::new(journal.first_handle()),
            journal,
        }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<u64, Opened>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn open(&self, directory: Arc<Directory>) -> u64 {
        let handle = self.next_handle.fetch_add(1, Ordering::Relaxed);
        self.journal.note(&Record::Directory { handle, ino: directory.ino(), at: None });
        self.all().insert(handle, Opened::Here(directory));
        handle
    }

    async fn opened(&self, tree: &Arc<Tree>, handle: FileHandle) -> Result<Arc<Directory>, FsError> {
        let (ino, read_to) = match self.all().get(&handle.0) {
            Some(Opened::Here(directory)) => return Ok(directory.clone()),
            Some(Opened::Before(ino, read_to)) => (*ino, read_to.clone()),
            None => return Err(FsError::Stale),
        };
        let directory = Directory::reopen(tree, ino, read_to).await?;
        self.all().insert(handle.0, Opened::Here(directory.clone()));
        Ok(directory)
    }

    /// Notes how far a directory was read.
    fn note_read(&self, handle: FileHandle, directory: &Directory, last: Option<&Item>) {
        if let Some(item) = last {
            let at = Some((item.next_offset, item.name.to_string()));
            self.journal.note(&Record::Directory { handle: handle.0, ino: directory.ino(), at });
        }
    }

    pub(super) fn close(&self, handle: u64) {
        if let Some(Opened::Here(directory)) = self.all().remove(&handle) {
            let mut closed = self.closed();
            closed.retain(|other| other.ino() != directory.ino());
            closed.push_front(directory);
            closed.truncate(CLOSED_KEPT);
        }
        self.journal.note(&Record::DirectoryClosed { handle });
    }

    fn closed(&self) -> MutexGuard<'_, VecDeque<Arc<Directory>>> {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What `name` in the directory `ino` is, if that was asked for together with the names that were listed around it:
    /// somebody looks up one after the other.
    pub(super) async fn look_up_in_turn(&self, tree: &Arc<Tree>, ino: u64, name: &str) -> Option<Entry> {
        let open = self.all().values().find_map(|opened| match opened {
            Opened::Here(directory) if directory.ino() == ino => Some(directory.clone()),
            _ => None,
        });
        let closed = || self.closed().iter().find(|directory| directory.ino() == ino).cloned();
        let is_open = open.is_some();
        open.or_else(closed)?.look_up_in_turn(tree, name, is_open).await
    }
}

/// Fills `reply` with names and kinds.
pub(super) async fn list_names(
    tree: &Arc<Tree>,
    directories: &Directories,
    handle: FileHandle,
    offset: u64,
    reply: &mut ReplyDirectory,
) -> Result<(), FsError> {
    let directory = directories.opened(tree, handle).await?;
    let batch = directory.batch(tree, offset, Detail::Names).await?;
    let mut last = None;
    for item in batch.items() {
        let Some((ino, kind)) = directory.kind_of(tree, item) else { continue };
        let (kind, mark) = marked(kind);
        if reply.add(INodeNo(ino), item.next_offset | mark, kind, &*item.name) {
            break;
        }
        last = Some(item);
    }
    directories.note_read(handle, &directory, last);
    Ok(())
}

/// A kind as `fuser` can say it, and what the relay is told if it is none.
fn marked(kind: Option<Kind>) -> (FileType, u64) {
    kind.map_or((FileType::RegularFile, KIND_UNKNOWN), |kind| (file_type(kind), 0))
}

/// Fills `reply` with entries and their attributes; each one is counted as told to the kernel. It always begins a directory
/// so, and goes on so only if names were looked up meanwhile: until then nothing is asked for that is not known.
pub(super) async fn list_plus(
    tree: &Arc<Tree>,
    directories: &Directories,
    handle: FileHandle,
    offset: u64,
    reply: &mut ReplyDirectoryPlus,
) -> Result<(), FsError> {
    let directory = directories.opened(tree, handle).await?;
    let detail = if offset == 0 { Detail::Names } else { Detail::Attributes };
    let batch = directory.batch(tree, offset, detail).await?;
    let mut last = None;
    for item in batch.items() {
        // The kernel takes only the names of these two, and does not count them as told.
        let is_dot = matches!(&*item.name, "." | "..");
        let entry = match detail {
            _ if is_dot => None,
            Detail::Names => directory.known_entry(tree, item),
            Detail::Attributes => match directory.entry_of(tree, &batch, item).await {
                None => continue,
                entry => entry,
            },
        };
        let Some(entry) = entry else {
            let Some((ino, kind)) = directory.kind_of(tree, item) else { continue };
            let (kind, mark) = marked(kind);
            let offset = item.next_offset | mark | if is_dot { 0 } else { NAME_ONLY };
            let (unknown, name) = (nameless(ino, kind), &*item.name);
            if reply.add(INodeNo(ino), offset, name, &Duration::ZERO, &unknown, Generation(0)) {
                break;
            }
            last = Some(item);
            continue;
        };
        let (ino, attributes) = (INodeNo(entry.ino), file_attr(tree, entry.ino, &entry.attributes));
        let (name, valid_for) = (&*item.name, believed(entry.valid_for));
        if reply.add(ino, item.next_offset, name, &valid_for, &attributes, Generation(0)) {
            // It did not fit, so the kernel has not been told.
            tree.forget(entry.ino, 1);
            break;
        }
        last = Some(item);
    }
    directories.note_read(handle, &directory, last);
    Ok(())
}
