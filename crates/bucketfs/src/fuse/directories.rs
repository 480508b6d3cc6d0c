//! Open directories, as the kernel has them: numbers that also a successor must know.
//!
//! What must hold: what the kernel may read on with is written down before it is told, and a directory that a process
//! before has opened is opened again when it is read on.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fuser::{FileHandle, Generation, INodeNo, ReplyDirectory, ReplyDirectoryPlus};

use super::reply::{believed, file_attr, file_type, nameless};
use crate::directory::{Detail, Directory, Item};
use crate::error::FsError;
use crate::journal::{Journal, Record, Recovered};
use crate::tree::Tree;

/// All open directories of a mount.
pub(super) struct Directories {
    open: Mutex<HashMap<u64, Opened>>,
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
        self.all().remove(&handle);
        self.journal.note(&Record::DirectoryClosed { handle });
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
        if reply.add(INodeNo(ino), item.next_offset, file_type(kind), &*item.name) {
            break;
        }
        last = Some(item);
    }
    directories.note_read(handle, &directory, last);
    Ok(())
}

/// Fills `reply` with entries and their attributes; each one is counted as told to the kernel.
pub(super) async fn list_plus(
    tree: &Arc<Tree>,
    directories: &Directories,
    handle: FileHandle,
    offset: u64,
    reply: &mut ReplyDirectoryPlus,
) -> Result<(), FsError> {
    let directory = directories.opened(tree, handle).await?;
    let batch = directory.batch(tree, offset, Detail::Attributes).await?;
    let mut last = None;
    for item in batch.items() {
        // The kernel takes only the names of these two, and does not count them as told.
        if matches!(&*item.name, "." | "..") {
            let Some((ino, kind)) = directory.kind_of(tree, item) else { continue };
            let unknown = nameless(ino, file_type(kind));
            let name = &*item.name;
            if reply.add(INodeNo(ino), item.next_offset, name, &Duration::ZERO, &unknown, Generation(0)) {
                break;
            }
            last = Some(item);
            continue;
        }
        let Some(entry) = directory.entry_of(tree, &batch, item).await else { continue };
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
