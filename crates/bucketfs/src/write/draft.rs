//! One file that is being changed.
//!
//! ```text
//!   opened to be written --> clean -- write, cut --> dirty -- commit.rs --> clean -- last one closes --> gone
//!                                                     |
//!                                  another has written the object: lost -- kept, ESTALE to whoever flushes
//! ```
//!
//! What must hold: every change is on disk and in the record before it is answered; nothing here waits for the store;
//! the state is locked before the table of names, never after it.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::sync::watch;
use tokio::time::Instant;

use super::extents::Piece;
use super::part_layout::PartLayout;
use super::record::{Event, Life, Record};
use super::stage::StagedFile;
use super::state::{Base, ReadyPart, State};
use crate::attr::Attributes;
use crate::error::FsError;
use crate::store::write::Headers;
use crate::store::{Object, StoreError};
use crate::tree::Tree;
use crate::xattr::Xattrs;

/// A file that is being changed.
pub struct Draft {
    pub ino: u64,
    pub file: StagedFile,
    pub layout: PartLayout,
    /// Of one call alone: nobody is shown it before the store has it.
    is_of_one_call: bool,
    state: Mutex<State>,
    /// Held by whoever stores it, moves it or takes it away: one at a time.
    pub commits: Arc<tokio::sync::Mutex<()>>,
    /// Parts of the upload that are on their way.
    pub parts_under_way: watch::Sender<usize>,
}

/// How a change of a draft ended.
pub enum Changed {
    /// It is on disk. These parts are now complete and may leave.
    Done(Vec<ReadyPart>),
    /// Nothing has happened: bytes that are needed are nowhere but in parts of an upload, so that has to become the
    /// object first.
    Released,
}

impl Draft {
    pub fn new(ino: u64, file: StagedFile, layout: PartLayout, state: State) -> Draft {
        Draft {
            ino,
            file,
            layout,
            is_of_one_call: false,
            state: Mutex::new(state),
            commits: Arc::default(),
            parts_under_way: watch::Sender::new(0),
        }
    }

    /// As [`new`](Self::new), of one call alone.
    pub fn of_one_call(ino: u64, file: StagedFile, layout: PartLayout, state: State) -> Draft {
        Draft { is_of_one_call: true, ..Draft::new(ino, file, layout, state) }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes down what has happened to it.
    ///
    /// # Errors
    ///
    /// That of the disk.
    pub fn note(&self, state: &State, event: &Event) -> Result<(), FsError> {
        Ok(self.file.note(event, || self.record(state))?)
    }

    /// Writes down all there is to know of it.
    ///
    /// # Errors
    ///
    /// That of the disk.
    pub fn note_all(&self, state: &State) -> Result<(), FsError> {
        self.note(state, &Event::All(Box::new(self.record(state))))
    }

    /// As [`note_all`](Self::note_all), and that the store is about to be asked for its name.
    ///
    /// # Errors
    ///
    /// That of the disk.
    pub fn note_leaving(&self, state: &State) -> Result<(), FsError> {
        self.note(state, &Event::All(Box::new(Record { is_leaving: true, ..self.record(state) })))
    }

    fn record(&self, state: &State) -> Record {
        Record { is_of_one_call: self.is_of_one_call, ..state.record(self.ino, &self.layout) }
    }

    /// Writes.
    ///
    /// # Errors
    ///
    /// [`FsError::Lost`] when the file cannot be stored any more; [`FsError::TooLarge`]; that of the disk.
    pub fn write(&self, tree: &Tree, offset: u64, bytes: &[u8]) -> Result<Changed, FsError> {
        let layout = &self.layout;
        let end = offset.checked_add(bytes.len() as u64).ok_or(FsError::TooLarge)?;
        let range = offset..end;
        let mut state = self.state();
        state.alive()?;
        if end.max(state.extents.size) > layout.largest_file() {
            return Err(FsError::TooLarge);
        }
        if state.extents.is_released(&range) {
            return Ok(Changed::Released);
        }
        let event = Event::Wrote(offset, end);
        if state.spoil(&range, layout) {
            // A part with the bytes of before is not to count, should this be the last that is heard of us.
            self.note(&state, &event)?;
            self.file.write(offset, bytes)?;
        } else {
            self.file.write(offset, bytes)?;
            if !state.extents.is_known_dirty(&range) {
                self.note(&state, &event)?;
            }
        }
        state.extents.wrote(range.clone());
        self.touched(&mut state);
        let ripe = state.ripe(range, layout);
        tree.show(self.ino, &state);
        Ok(Changed::Done(ripe))
    }

    /// Ends the file at `size`; nobody is shown it.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write).
    pub fn cut(&self, size: u64) -> Result<Changed, FsError> {
        let layout = &self.layout;
        if size > layout.largest_file() {
            return Err(FsError::TooLarge);
        }
        let mut state = self.state();
        state.alive()?;
        let before = state.extents.size;
        let part = layout.range(layout.part_of(size)).start;
        if state.extents.is_released(&(part.min(size)..size)) {
            return Ok(Changed::Released);
        }
        // Bytes that are cut off are not to be counted on: so this is said before it is done.
        self.note(&state, &Event::Cut(size))?;
        if let Err(error) = self.file.cut(size) {
            self.note_all(&state)?;
            return Err(error.into());
        }
        state.extents.cut(size);
        state.spoil(&(size.min(before)..size.max(before)), layout);
        if size != before {
            self.touched(&mut state);
        }
        Ok(Changed::Done(Vec::new()))
    }

    /// Gives the disk back what parts take of it that the store has. They are dirty all the same.
    pub fn release_sent(&self, state: &mut State) {
        // What is being stored stays as it was when that began.
        if state.life != Life::Named || state.sending.is_some() {
            return;
        }
        let parts: Vec<Range<u64>> =
            state.stream.sent.keys().map(|number| self.layout.range(*number)).collect();
        for part in parts {
            if state.extents.is_released(&part) {
                continue;
            }
            let outcome = self.note(state, &Event::Released(part.start, part.end)).and_then(|()| {
                self.file.release(&part).inspect_err(|_| drop(self.note_all(state))).map_err(FsError::from)
            });
            if let Err(error) = outcome {
                tracing::debug!(error = %error, "a part that was sent stays on disk");
                return;
            }
            state.extents.released(part);
        }
        self.file.set_modified(state.attributes.mtime.into());
    }

    fn touched(&self, state: &mut State) {
        state.touched();
        self.file.set_modified(state.attributes.mtime.into());
    }

    /// The bytes of a range if all of them are on disk.
    ///
    /// # Errors
    ///
    /// That of the disk.
    pub fn read_now(&self, offset: u64, size: usize) -> Option<Result<Bytes, FsError>> {
        let state = self.state();
        let range = offset..offset.saturating_add(size as u64);
        match state.extents.pieces(range).as_slice() {
            [] => Some(Ok(Bytes::new())),
            [Piece::Disk(range)] => {
                let read = self.file.read(range.start, (range.end - range.start) as usize);
                Some(read.map(Bytes::from).map_err(FsError::from))
            }
            _ => None,
        }
    }

    /// The bytes of a range, wherever they are. `None`: in parts of an upload, where nobody can read them.
    ///
    /// # Errors
    ///
    /// That of the disk; whatever reading the object meets.
    pub async fn read(&self, offset: u64, size: usize) -> Result<Option<Bytes>, FsError> {
        let (pieces, base) = {
            let state = self.state();
            let range = offset..offset.saturating_add(size as u64);
            (state.extents.pieces(range), state.base.clone())
        };
        let mut bytes = BytesMut::with_capacity(size);
        for piece in pieces {
            match piece {
                Piece::Disk(range) => {
                    let read = self.file.read(range.start, (range.end - range.start) as usize)?;
                    bytes.extend_from_slice(&read);
                }
                Piece::Object(range) => {
                    let base = base.as_ref().ok_or(FsError::Stale)?;
                    read_object(base, range, &mut bytes).await?;
                }
                Piece::Upload(_) => return Ok(None),
            }
        }
        Ok(Some(bytes.freeze()))
    }

    /// Brings all of `range` to disk.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub async fn hydrate(&self, range: Range<u64>) -> Result<(), FsError> {
        let (missing, base) = {
            let state = self.state();
            (state.extents.missing(range), state.base.clone())
        };
        for gap in missing {
            let base = base.as_ref().ok_or(FsError::Stale)?;
            let mut at = gap.start;
            while at < gap.end {
                let piece = at..gap.end.min(at + BRING_AT_ONCE);
                let mut bytes = BytesMut::new();
                read_object(base, piece.clone(), &mut bytes).await?;
                let mut state = self.state();
                // What was written meanwhile is newer.
                for hole in state.extents.missing(piece.clone()) {
                    let from = (hole.start - piece.start) as usize;
                    let to = (hole.end - piece.start) as usize;
                    self.file.write(hole.start, bytes.get(from..to).ok_or(FsError::Stale)?)?;
                    self.note(&state, &Event::Brought(hole.start, hole.end))?;
                    state.extents.brought(hole);
                }
                self.file.set_modified(state.attributes.mtime.into());
                at = piece.end;
            }
        }
        Ok(())
    }
}

/// Bytes of the object that are brought to disk at once.
const BRING_AT_ONCE: u64 = 1024 * 1024;

async fn read_object(base: &Base, range: Range<u64>, bytes: &mut BytesMut) -> Result<(), FsError> {
    let mut at = range.start;
    while at < range.end {
        let read = base.content.read(at, (range.end - at) as usize).await?;
        if read.is_empty() {
            let (key, expected) = (String::new(), range.end - range.start);
            return Err(StoreError::Truncated { key, found: at - range.start, expected }.into());
        }
        at += read.len() as u64;
        bytes.extend_from_slice(&read);
    }
    Ok(())
}

impl Tree {
    /// Shows what a draft is like.
    pub fn show(&self, ino: u64, state: &State) {
        let (attributes, xattrs) = (state.shown(), state.xattrs.clone());
        let mut table = self.table();
        table.set_local(ino, state.is_dirty(), Instant::now());
        table.set_facts(ino, |facts| {
            facts.size = attributes.size;
            facts.kind = Some(attributes.kind);
            facts.attributes = Some(attributes);
            facts.xattrs = xattrs;
        });
    }

    /// Shows what the store has of a draft that was lost: to those who still have it open.
    pub fn show_stored(&self, ino: u64, state: &State) {
        let (key, size) = (self.key(&state.path), state.base.as_ref().map_or(0, |base| base.size));
        let Headers { content_type, metadata, kept } = state.headers.clone();
        let version = state.base.as_ref().map(|base| base.version.clone());
        let mut table = self.table();
        if let Some(node) = table.node_mut(ino) {
            node.content = None;
        }
        table.set_facts(ino, |facts| {
            facts.size = size;
            let Some(version) = version else { return };
            let object = Object { size, version, content_type, metadata, kept };
            facts.attributes = Some(Attributes::of(&key, &object, &self.rules.defaults));
            facts.xattrs = Xattrs::of(&object.metadata);
        });
    }
}
