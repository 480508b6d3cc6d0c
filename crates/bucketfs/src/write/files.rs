//! Files that are open: made, written, cut, flushed, closed.
//!
//! What must hold: whoever opens a file to write has seen the version that it replaces; a file stays readable for those
//! who have it open, whatever becomes of its name; the last one to close it leaves nothing behind.

use std::path::PathBuf;
use std::sync::{Arc, MutexGuard, Weak};

use bytes::Bytes;
use tokio::sync::OwnedMutexGuard;

use super::draft::{Changed, Draft, Life, State, Stream, version_of};
use super::extents::Extents;
use super::handles::{Access, Handle};
use super::record::{Kept as KeptRecord, Record};
use super::stage::{Room, StagedFile};
use super::{Change, Writing};
use crate::attr::{Attributes, Kind};
use crate::error::FsError;
use crate::store::write::{Headers, Tags};
use crate::store::{Object, StoreError};
use crate::wire::Uncertain;
use crate::xattr::Xattrs;

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

/// How often something is waited for before it is given up: every time something else was in the way.
const WAITS_MAX: usize = 64;

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

    /// The draft of a file if somebody is changing it.
    pub fn draft(&self, ino: u64) -> Option<Arc<Draft>> {
        self.drafts().get(&ino).cloned()
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

    /// Waits until nobody else changes a file that nobody has open, or begins a draft of it.
    pub(super) async fn turn(&self, ino: u64) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.turns();
            turns.retain(|_, turn| turn.strong_count() > 0);
            let known = turns.get(&ino).and_then(Weak::upgrade);
            let turn = known.unwrap_or_default();
            turns.insert(ino, Arc::downgrade(&turn));
            turn
        };
        turn.lock_owned().await
    }

    /// What a draft of the file begins with.
    async fn state_now(&self, ino: u64) -> Result<State, FsError> {
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

    /// The headers of an object, and its tags if it has any.
    pub(super) async fn object(&self, key: &str) -> Result<(Object, Tags), FsError> {
        let answer = self.store().head(key).await;
        self.tree.availability().note(&answer);
        let object = match answer {
            Err(StoreError::NotFound { .. }) => return Err(FsError::Stale),
            answer => answer?,
        };
        let tags = if object.kept.tags > 0 { self.store().tags(key).await? } else { Tags::new() };
        Ok((object, tags))
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

    fn staged(&self, record: Record) -> Result<StagedFile, FsError> {
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

    /// Ends a file at `size` and makes the `rest` of the change: of an open one here, of any other in the store, and
    /// nobody sees anything of it before the store has agreed.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write) and [`commit`](Self::commit).
    pub(super) async fn cut(&self, ino: u64, size: u64, rest: Change) -> Result<(), FsError> {
        {
            let _names = self.names.read().await;
            let _turn = self.turn(ino).await;
            if self.handles().writers(ino) == 0 {
                if let Some(draft) = self.draft(ino) {
                    self.retire(&draft).await;
                }
                if self.draft(ino).is_none() {
                    return self.cut_unopened(ino, size, rest).await;
                }
            }
        }
        let draft = self.draft_of(ino).await?;
        self.cut_draft(&draft, size).await?;
        if rest == Change::default() { Ok(()) } else { self.change(ino, rest.edit(self.tree.clone())).await }
    }

    async fn cut_unopened(&self, ino: u64, size: u64, rest: Change) -> Result<(), FsError> {
        let state = self.state_now(ino).await?;
        let path = state.path.clone();
        let file = self.staged(Record { is_of_one_call: true, ..state.record(ino, &self.layout) })?;
        let draft = Draft::of_one_call(ino, file, self.layout, state);
        draft.cut(size)?;
        if rest != Change::default() {
            let State { attributes, xattrs, headers_changed, .. } = &mut *draft.state();
            rest.edit(self.tree.clone())(attributes, xattrs)?;
            *headers_changed = true;
        }
        let outcome = self.commit_locked(&draft).await;
        if outcome.is_err() {
            self.give_up_upload(&draft).await;
            self.doubt(&path, ino);
        }
        outcome
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

    /// The bytes of a file that is being changed, if they are on disk. `None`: not being changed, or not on disk.
    pub fn read_now(&self, ino: u64, offset: u64, size: usize) -> Option<Result<Bytes, FsError>> {
        self.draft(ino)?.read_now(offset, size)
    }

    /// Waits until the store has what was written.
    ///
    /// # Errors
    ///
    /// As [`commit`](Self::commit).
    pub async fn flush(&self, ino: u64) -> Result<(), FsError> {
        let Some(draft) = self.draft(ino) else { return Ok(()) };
        let outcome = self.commit(&draft).await;
        if let Err(error) = &outcome {
            let mut state = draft.state();
            state.refused = Some(error.to_string());
            if let Err(error) = draft.note_all(&state) {
                tracing::debug!(error = %error, "a successor would ask the store once more");
            }
        }
        outcome
    }

    /// Whether a handle cannot have changed anything.
    pub fn only_reads(&self, handle: u64) -> bool {
        self.handles().only_reads(handle)
    }

    /// Whether flushing the file would do nothing.
    pub fn is_clean(&self, ino: u64) -> bool {
        self.draft(ino).is_none_or(|draft| {
            let state = draft.state();
            !state.is_dirty() && !matches!(state.life, Life::Lost { .. })
        })
    }

    /// Closes a file: what pages of a mapping brought since it was flushed is stored now.
    pub async fn release(&self, handle: u64) {
        let Some(Handle { ino, .. }) = self.handles().close(handle) else { return };
        if let Some(draft) = self.draft(ino) {
            self.end(&draft).await;
        }
    }

    /// Stores what is left of a draft that nobody has open for writing any more, and lets it go.
    pub(super) async fn end(&self, draft: &Arc<Draft>) {
        if self.handles().writers(draft.ino) == 0 && draft.state().is_dirty() {
            self.store_at_last(draft).await;
        }
        self.retire(draft).await;
    }

    /// Stores what nobody will ask for any more, or keeps it. What the store has refused is not asked for again:
    /// somebody was told that it is not stored.
    pub(super) async fn store_at_last(&self, draft: &Draft) {
        let refused = draft.state().refused.clone();
        let refused = match refused {
            Some(reason) => Some(reason),
            None => self.commit(draft).await.err().map(|error| error.to_string()),
        };
        if let Some(reason) = refused {
            {
                let _one = draft.commits.lock().await;
                self.keep_unstored(draft, draft.state(), &reason);
            }
            self.tree.invalidate(draft.ino).await;
        }
    }

    /// A request that leaves so much of a file uncertain is not done again: what was written is kept and not stored, and
    /// whoever writes, flushes or closes it from now on is told.
    pub fn give_up(&self, ino: u64, what: Uncertain) {
        let Some(draft) = self.draft(ino) else { return };
        let state = draft.state();
        if what == Uncertain::Content || state.is_dirty() {
            self.keep_unstored(&draft, state, &FsError::Deadly.to_string());
            let tree = self.tree.clone();
            self.tree.runtime().spawn(async move { tree.invalidate(ino).await });
        }
    }

    /// It cannot be stored: the bytes are kept where a person can find them.
    fn keep_unstored(&self, draft: &Draft, mut state: MutexGuard<'_, State>, reason: &str) {
        if state.life != Life::Named {
            return;
        }
        let kept = self.kept_of(&mut state, reason);
        let path = match self.staging.keep(&draft.file, state.extents.size, &kept) {
            Ok(path) => {
                tracing::error!(key = %kept.key, ?path, reason, "a file could not be stored and is kept");
                Some(path)
            }
            Err(error) => {
                tracing::error!(key = %kept.key, reason, error = %error, "a file could be neither stored nor kept: it is lost");
                None
            }
        };
        self.note_lost(draft, state, path);
    }

    /// The draft is no more than what is `kept` of it: whoever uses the name sees what the store has.
    pub(super) fn note_lost(&self, draft: &Draft, mut state: MutexGuard<'_, State>, kept: Option<PathBuf>) {
        state.life = Life::Lost { kept: kept.clone() };
        state.sending = None;
        if let Err(error) = draft.note_all(&state) {
            tracing::debug!(error = %error, "a successor would try to store it again");
        }
        self.tree.show_stored(draft.ino, &state);
        let name = state.path.clone();
        drop(state);
        self.note_kept(kept);
        self.drop_name(&name, draft.ino);
    }

    /// What is said of a draft that is kept. An upload that alone has some of its bytes is left to whoever reads that.
    pub(super) fn kept_of(&self, state: &mut State, reason: &str) -> KeptRecord {
        let has_bytes = !state.extents.all_released().is_empty();
        let upload = state.stream.record().filter(|_| has_bytes);
        if upload.is_some() {
            state.stream = Stream::default();
        }
        KeptRecord {
            source: self.owner.source.clone(),
            key: self.tree.key(&state.path),
            reason: reason.to_string(),
            size: state.extents.size,
            missing: state.missing(),
            upload,
            metadata: state.headers.metadata.clone(),
        }
    }

    /// Lets a draft go that nobody needs any more.
    pub(super) async fn retire(&self, draft: &Arc<Draft>) {
        let _one = draft.commits.lock().await;
        let (life, is_dirty) = {
            let state = draft.state();
            (state.life.clone(), state.is_dirty())
        };
        let gives_up = {
            let mut drafts = self.drafts();
            let handles = self.handles();
            let is_needed = match life {
                Life::Orphan => handles.users(draft.ino) > 0,
                Life::Named => handles.writers(draft.ino) > 0 || is_dirty,
                Life::Lost { .. } => handles.writers(draft.ino) > 0,
            };
            if is_needed {
                return;
            }
            drafts.remove(&draft.ino).is_some()
        };
        if gives_up {
            self.give_up_upload(draft).await;
        }
    }

    /// Whether `ino` is a file that may be written.
    pub fn is_file(&self, ino: u64) -> bool {
        self.tree.table().node(ino).is_some_and(|node| node.facts.kind.unwrap_or(Kind::File) == Kind::File)
    }
}

/// What is said of a file that was only just made, or moved.
pub(super) fn unknown_version() -> crate::store::Version {
    version_of(&crate::store::ETag("".into()), None)
}
