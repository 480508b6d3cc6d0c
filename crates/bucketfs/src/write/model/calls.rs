//! The calls of a step, as the adapter makes them for the kernel.
//!
//! What must hold: a name is looked up before it is used, and let go afterwards unless it was opened.

use std::sync::Arc;

use super::oracle::{NAMES, Oracle, Slot};
use super::step::Op;
use crate::attr::Kind;
use crate::error::FsError;
use crate::inode::ROOT;
use crate::tree::{Entry, Looked, Tree};
use crate::write::{Caller, Change, New, Opened, Target, Writing};

/// What a call has answered.
#[derive(Clone, Copy, Debug)]
pub enum Told {
    Done,
    /// A file that was found, or made, and opened.
    Opened(Slot),
    /// Done to the file that was looked up.
    To(u64),
    /// There was nothing to ask.
    Skipped,
}

pub type Outcome = Result<Told, FsError>;

/// A mount, as the kernel sees it.
pub struct Mount<'a> {
    pub tree: &'a Arc<Tree>,
    pub writing: &'a Arc<Writing>,
}

impl Mount<'_> {
    async fn lookup(&self, name: usize) -> Result<Looked, FsError> {
        match self.tree.lookup_now(ROOT, NAMES[name]) {
            Some(known) => known,
            None => self.tree.lookup(ROOT, NAMES[name]).await,
        }
    }

    /// Bytes of the file by what `stat` says.
    pub async fn size(&self, ino: u64) -> Result<u64, FsError> {
        let entry = match self.tree.attributes_now(ino) {
            Some(known) => known?,
            None => self.tree.attributes(ino).await?,
        };
        Ok(entry.attributes.size)
    }

    /// What has the name; it is not held.
    pub async fn look(&self, name: usize) -> Result<Option<Entry>, FsError> {
        match self.lookup(name).await? {
            Looked::Found(entry) => {
                self.tree.forget(entry.ino, 1);
                Ok(Some(entry))
            }
            Looked::Absent { .. } => Ok(None),
        }
    }

    /// What a call looks up before it is made: the file that it is about, 0 for one that is to be made.
    ///
    /// # Errors
    ///
    /// What the kernel says by itself: nothing is asked then.
    pub async fn find(&self, op: &Op) -> Result<u64, FsError> {
        let (name, may_be_made) = match *op {
            Op::Open { name, writes, .. } => (name, writes),
            Op::CreateNew { name, .. } if self.look(name).await?.is_some() => return Err(FsError::Exists),
            Op::CreateNew { name, .. } => (name, true),
            Op::Truncate { name, .. } | Op::Chmod { name, .. } | Op::Unlink { name } => (name, false),
            Op::Rename { from, to, .. } => {
                self.look(to).await?;
                (from, false)
            }
            _ => return Ok(0),
        };
        match self.look(name).await? {
            Some(entry) => Ok(entry.ino),
            None if may_be_made => Ok(0),
            None => Err(FsError::NotFound),
        }
    }

    /// All that whoever reads the file gets.
    pub async fn read(&self, ino: u64) -> Result<Vec<u8>, FsError> {
        let bytes = match self.writing.draft(ino) {
            Some(draft) => self.writing.read(&draft, 0, 64).await?,
            None => self.tree.content(ino)?.read(0, 64).await?,
        };
        Ok(bytes.to_vec())
    }

    /// Makes a call about `ino`, which was found.
    pub async fn ask(&self, op: &Op, ino: u64, oracle: &Oracle) -> Outcome {
        match *op {
            Op::Open { slot, .. } | Op::CreateNew { slot, .. } if oracle.slots.contains_key(&slot) => {
                Ok(Told::Skipped)
            }
            Op::Open { name, writes, .. } => self.open(name, writes).await,
            Op::CreateNew { name, .. } => self.create(name, true).await,
            Op::Write { slot, .. } | Op::Cut { slot, .. } | Op::Flush { slot } | Op::Close { slot } => {
                match oracle.slots.get(&slot) {
                    Some(open) => self.ask_open(op, *open, &oracle.written).await,
                    None => Ok(Told::Skipped),
                }
            }
            Op::Truncate { size, .. } => {
                let change = Change { size: Some(u64::from(size)), ..Change::default() };
                self.writing.set_attributes(ino, change).await.map(|_| Told::To(ino))
            }
            Op::Chmod { mode, .. } => {
                let change = Change { permissions: Some(mode), ..Change::default() };
                self.writing.set_attributes(ino, change).await.map(|_| Told::To(ino))
            }
            Op::Unlink { name } => self.writing.unlink(ROOT, NAMES[name]).await.map(|()| Told::To(ino)),
            Op::Rename { from, to, keeps } => {
                let target = if keeps { Target::Keep } else { Target::Replace };
                let moved = self.writing.rename(ROOT, NAMES[from], ROOT, NAMES[to], target).await;
                moved.map(|()| Told::To(ino))
            }
            Op::Replace { .. } | Op::Remove { .. } | Op::Restart | Op::Remount => Ok(Told::Skipped),
        }
    }

    async fn ask_open(&self, op: &Op, Slot { ino, handle, writes }: Slot, bytes: &[u8]) -> Outcome {
        match *op {
            Op::Write { .. } | Op::Cut { .. } if !writes => return Ok(Told::Skipped),
            Op::Write { at, .. } => self.writing.write(ino, u64::from(at), bytes).await?,
            Op::Cut { size, .. } => {
                let change = Change { size: Some(u64::from(size)), ..Change::default() };
                self.writing.set_attributes(ino, change).await?;
            }
            Op::Flush { .. } => self.flush(ino).await?,
            _ => {
                let flushed = if writes { self.flush(ino).await } else { Ok(()) };
                self.writing.release(handle).await;
                flushed?;
            }
        }
        Ok(Told::Done)
    }

    async fn flush(&self, ino: u64) -> Result<(), FsError> {
        if self.writing.is_clean(ino) { Ok(()) } else { self.writing.flush(ino).await }
    }

    /// Opens a file, and keeps the number that the kernel was told.
    async fn open(&self, name: usize, writes: bool) -> Outcome {
        let ino = match self.lookup(name).await? {
            Looked::Found(entry) => entry.ino,
            Looked::Absent { .. } if writes => return self.create(name, false).await,
            Looked::Absent { .. } => return Err(FsError::NotFound),
        };
        let opened = match writes {
            true => self.writing.open_to_write(ino).await.inspect_err(|_| self.tree.forget(ino, 1))?,
            false => self.writing.open_to_read(ino),
        };
        Ok(Told::Opened(Slot { ino, handle: opened.handle, writes }))
    }

    async fn create(&self, name: usize, is_exclusive: bool) -> Outcome {
        let caller = Caller { uid: 0, gid: 0 };
        let new =
            New { parent: ROOT, name: NAMES[name], kind: Kind::File, permissions: 0o644, umask: 0, caller };
        let (Entry { ino, .. }, Opened { handle }) = self.writing.create(new, is_exclusive).await?;
        Ok(Told::Opened(Slot { ino, handle, writes: true }))
    }
}
