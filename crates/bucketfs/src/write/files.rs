//! Files that are open: made, written, cut, flushed, closed.
//!
//! What must hold: whoever opens a file to write has seen the version that it replaces; a file stays readable for those
//! who have it open, whatever becomes of its name; the last one to close it leaves nothing behind.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use nix::sys::resource::Resource;

use super::draft::{Changed, Draft};
use super::extents::Extents;
use super::handles::Access;
use super::record::{Life, Record};
use super::stage::{Room, StagedFile, staged_files};
use super::state::{State, Stream};
use super::writing::Writing;
use crate::attr::Attributes;
use crate::error::FsError;
use crate::store::Object;
use crate::store::write::{Headers, Tags};
use crate::xattr::Xattrs;

/// How often something is waited for before it is given up: every time something else was in the way.
const WAITS_MAX: usize = 64;
/// Bytes that are brought to disk before it is looked again how much room that has.
const BROUGHT_UNLOOKED: u64 = 16 * 1024 * 1024;

/// Files that may be open for writing at the same time in a process of `descriptors`: each takes two, and an eighth is
/// left to connections and whoever reads.
pub fn writable_at_once(descriptors: u64) -> u64 {
    (descriptors - descriptors / 8) / 2
}

/// An open file as the kernel is told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    pub handle: u64,
}

/// Whether bytes were written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrote {
    Now,
    /// Nothing has happened yet.
    Later(Wait),
}

/// What a write waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// That parts leave and the disk has room again.
    Room,
    /// That the store has made an object of the parts that have left.
    Object,
}

impl Writing {
    /// Opens a file to read it. Asks nobody.
    pub fn open_to_read(&self, ino: u64) -> Opened {
        Opened { handle: self.handles().open(ino, Access::Read) }
    }

    /// Opens a file to write it; its headers are asked for unless somebody is writing it already.
    ///
    /// # Errors
    ///
    /// [`FsError::Stale`] when the object is another than the one that was looked up; whatever the store says.
    pub async fn open_to_write(&self, ino: u64) -> Result<Opened, FsError> {
        self.may_write()?;
        // First: a draft that somebody opens is not let go by the last one who closes it meanwhile.
        let handle = self.handles().open(ino, Access::Write);
        match self.draft_of(ino).await {
            Ok(_) => Ok(Opened { handle }),
            Err(error) => {
                self.handles().close(handle);
                Err(error)
            }
        }
    }

    /// The draft of a file; begun if there is none.
    pub(super) async fn draft_of(&self, ino: u64) -> Result<Arc<Draft>, FsError> {
        if let Some(draft) = self.draft(ino) {
            return Ok(draft);
        }
        let _turn = self.turn(ino).await;
        match self.draft(ino) {
            Some(draft) => Ok(draft),
            None => self.begin(ino, self.state_now(ino).await?),
        }
    }

    /// What a draft of the file begins with.
    pub(super) async fn state_now(&self, ino: u64) -> Result<State, FsError> {
        let (path, etag, size) = {
            let table = self.tree.table();
            let node = table.node(ino).ok_or(FsError::Stale)?;
            if !table.is_named(ino, node) {
                return Err(FsError::Stale);
            }
            let version = node.facts.version.as_ref();
            let etag = version.map(|version| version.etag.clone()).ok_or(FsError::IsDirectory)?;
            (node.path.clone(), etag, node.facts.size)
        };
        let (object, tags) = self.object(&self.tree.key(&path)).await?;
        if object.version.etag != etag || object.size != size {
            self.drop_name(&path, ino);
            return Err(FsError::Stale);
        }
        Ok(self.state_of_object(ino, path, object, tags))
    }

    fn state_of_object(&self, ino: u64, path: Arc<str>, object: Object, tags: Tags) -> State {
        let key = self.tree.key(&path);
        let attributes = Attributes::of(&path, &object, &self.tree.rules.defaults);
        let xattrs = Xattrs::of(&object.metadata);
        let extents = Extents::of_object(object.size);
        let base = Some(self.base(ino, &key, object.version, object.size));
        let Object { content_type, metadata, kept, .. } = object;
        State {
            path,
            life: Life::Named,
            base,
            headers: Headers { content_type, metadata, kept },
            tags,
            attributes,
            xattrs,
            extents,
            headers_changed: false,
            is_brought: false,
            times_set: false,
            stream: Stream::default(),
            sending: None,
            attempts: Vec::new(),
            refused: None,
        }
    }

    /// A file that the store does not have yet.
    pub(super) fn state_of_new(
        &self,
        path: Arc<str>,
        attributes: Attributes,
        xattrs: Xattrs,
        content_type: &str,
    ) -> State {
        let content_type = Some(content_type.to_string());
        State {
            path,
            life: Life::Named,
            base: None,
            headers: Headers { content_type, ..Headers::default() },
            tags: Tags::new(),
            attributes,
            xattrs,
            extents: Extents::default(),
            headers_changed: true,
            is_brought: false,
            times_set: false,
            stream: Stream::default(),
            sending: None,
            attempts: Vec::new(),
            refused: None,
        }
    }

    /// Begins a draft; if another was faster, that one counts.
    pub(super) fn begin(&self, ino: u64, state: State) -> Result<Arc<Draft>, FsError> {
        let file = self.staged(state.record(ino, &self.layout))?;
        let draft = || Arc::new(Draft::new(ino, file, self.layout, state));
        Ok(self.drafts().entry(ino).or_insert_with(draft).clone())
    }

    /// A new file on disk.
    ///
    /// # Errors
    ///
    /// [`FsError::TooManyOpen`] while there are descriptors left: readers and the store need some as well.
    pub(super) fn staged(&self, record: Record) -> Result<StagedFile, FsError> {
        let (soft, _) = nix::sys::resource::getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((u64::MAX, 0));
        if staged_files() >= writable_at_once(soft) {
            self.staging.tell_too_many(staged_files());
            return Err(FsError::TooManyOpen);
        }
        let (size, modified) = (record.extents.size, record.attributes.mtime);
        let file = self.staging.create(record)?;
        file.cut(size)?;
        file.set_modified(modified.into());
        Ok(file)
    }

    /// Writes into an open file, unless there is something to be waited for.
    ///
    /// # Errors
    ///
    /// [`FsError::NoRoom`]; as [`Draft::write`].
    pub fn write_now(self: &Arc<Self>, ino: u64, offset: u64, bytes: &[u8]) -> Result<Wrote, FsError> {
        let draft = self.draft(ino).ok_or(FsError::Stale)?;
        if self.staging.room_for(bytes.len() as u64) == Room::None {
            draft.release_sent(&mut draft.state());
            if self.staging.room_for(bytes.len() as u64) == Room::None {
                let leaves = *draft.parts_under_way.borrow() > 0;
                return if leaves { Ok(Wrote::Later(Wait::Room)) } else { Err(FsError::NoRoom) };
            }
        }
        let ripe = match draft.write(&self.tree, offset, bytes)? {
            Changed::Done(ripe) => ripe,
            Changed::Released => return Ok(Wrote::Later(Wait::Object)),
        };
        self.hydrate_small(&draft);
        if !ripe.is_empty() {
            self.send_ripe(&draft, ripe);
        }
        Ok(Wrote::Now)
    }

    /// Writes into an open file, and waits for what there is to be waited for.
    ///
    /// # Errors
    ///
    /// As [`write_now`](Self::write_now); as [`commit`](Self::commit) if bytes that had left are needed again.
    pub async fn write(self: &Arc<Self>, ino: u64, offset: u64, bytes: &[u8]) -> Result<(), FsError> {
        for _ in 0..WAITS_MAX {
            let wait = match self.write_now(ino, offset, bytes)? {
                Wrote::Now => return Ok(()),
                Wrote::Later(wait) => wait,
            };
            let draft = self.draft(ino).ok_or(FsError::Stale)?;
            match wait {
                Wait::Object => self.commit(&draft).await?,
                Wait::Room => {
                    let mut under_way = draft.parts_under_way.subscribe();
                    let now = *under_way.borrow_and_update();
                    // The sender lives in the draft, so waiting cannot fail; and no part takes for ever to leave.
                    let _ = under_way.wait_for(|count| *count < now.max(1)).await;
                }
            }
        }
        Err(FsError::NoRoom)
    }

    /// Bytes of a file that is being changed.
    ///
    /// # Errors
    ///
    /// As [`Draft::read`]; as [`commit`](Self::commit) if bytes that had left are needed again.
    pub async fn read(&self, draft: &Draft, offset: u64, size: usize) -> Result<Bytes, FsError> {
        for _ in 0..WAITS_MAX {
            match draft.read(offset, size).await? {
                Some(bytes) => return Ok(bytes),
                None => self.commit(draft).await?,
            }
        }
        Err(FsError::Stale)
    }

    pub(super) async fn cut_draft(&self, draft: &Draft, size: u64) -> Result<(), FsError> {
        for _ in 0..WAITS_MAX {
            match draft.cut(size)? {
                Changed::Done(_) => {
                    self.tree.show(draft.ino, &draft.state());
                    return Ok(());
                }
                Changed::Released => self.commit(draft).await?,
            }
        }
        Err(FsError::Stale)
    }

    /// Brings all of `range` to disk, as far as that has room.
    ///
    /// # Errors
    ///
    /// [`FsError::NoRoom`], told before anything is brought where it can be; as [`Draft::hydrate`].
    pub(super) async fn hydrate(&self, draft: &Draft, range: Range<u64>) -> Result<(), FsError> {
        let missing = draft.state().extents.missing(range);
        let room_for = |bytes: u64| match bytes {
            1.. if self.staging.room_for(bytes) == Room::None => Err(FsError::NoRoom),
            _ => Ok(()),
        };
        room_for(missing.iter().map(|gap| gap.end - gap.start).sum())?;
        for gap in missing {
            let mut at = gap.start;
            while at < gap.end {
                let piece = at..gap.end.min(at + BROUGHT_UNLOOKED);
                // Others take of it as well.
                room_for(piece.end - piece.start)?;
                at = piece.end;
                draft.hydrate(piece).await?;
            }
        }
        Ok(())
    }

    /// Brings the rest of a small file to disk as soon as a part of it is written: should somebody else replace the
    /// object meanwhile, what is kept is whole.
    fn hydrate_small(self: &Arc<Self>, draft: &Arc<Draft>) {
        let size = {
            let mut state = draft.state();
            let is_wanted = !state.is_brought && state.extents.size <= self.rules.single_bytes;
            state.is_brought = true;
            if !is_wanted || state.extents.missing(0..state.extents.size).is_empty() {
                return;
            }
            state.extents.size
        };
        let draft = draft.clone();
        self.tree.runtime().spawn(async move {
            if let Err(error) = draft.hydrate(0..size).await {
                tracing::debug!(error = %error, "the rest of a file that is written did not come");
            }
        });
    }

    /// Makes room in a file, or zeros in it.
    ///
    /// # Errors
    ///
    /// [`FsError::NotSupported`] for what would move bytes; as [`write`](Self::write).
    pub async fn allocate(
        self: &Arc<Self>,
        ino: u64,
        offset: u64,
        length: u64,
        mode: i32,
    ) -> Result<(), FsError> {
        let end = offset.checked_add(length).ok_or(FsError::TooLarge)?;
        let draft = self.draft(ino).ok_or(FsError::Stale)?;
        let size = draft.state().extents.size;
        let keeps_size = mode & libc::FALLOC_FL_KEEP_SIZE != 0;
        let zeroes = mode & (libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_ZERO_RANGE) != 0;
        let known = libc::FALLOC_FL_KEEP_SIZE | libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_ZERO_RANGE;
        if mode & !known != 0 || (mode & libc::FALLOC_FL_PUNCH_HOLE != 0 && !keeps_size) {
            return Err(FsError::NotSupported);
        }
        if self.staging.room_for(end.saturating_sub(size)) == Room::None {
            return Err(FsError::NoRoom);
        }
        if zeroes {
            let mut at = offset;
            while at < end.min(size) {
                let piece = (end.min(size) - at).min(1024 * 1024);
                self.write(ino, at, &vec![0; piece as usize]).await?;
                at += piece;
            }
        }
        if end > size && !keeps_size {
            self.cut_draft(&draft, end).await?;
        }
        Ok(())
    }
}
