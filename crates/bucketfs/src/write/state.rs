//! What there is to know of a file that is being changed, in memory.
//!
//! What must hold: a part that has left and was written again since is not taken for sent; whoever is told that the file
//! is clean finds it in the store.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use aws_smithy_types::base64;
use tokio::sync::OnceCell;

use super::extents::{Extents, Snapshot};
use super::headers::{self, Content as HeaderContent};
use super::part_layout::PartLayout;
use super::record::{self, Attempt, Life, Record, VERSION};
use crate::attr::{Attributes, Timestamp};
use crate::error::FsError;
use crate::read::Content;
use crate::store::write::{Headers, Tags};
use crate::store::{ETag, Version};
use crate::xattr::Xattrs;

/// What there is to know of it.
pub struct State {
    /// From the root of the mount.
    pub path: Arc<str>,
    pub life: Life,
    /// The object that it was, or was last stored as.
    pub base: Option<Base>,
    /// As the object has them; what `attributes` and `xattrs` say is written over them.
    pub headers: Headers,
    pub tags: Tags,
    pub attributes: Attributes,
    pub xattrs: Xattrs,
    pub extents: Extents,
    /// Mode, owner, times or extended attributes have changed since it was stored.
    pub headers_changed: bool,
    /// The rest of the object has been asked for.
    pub is_brought: bool,
    /// The times were set by somebody, and not by writing.
    pub times_set: bool,
    pub stream: Stream,
    /// What is being stored at this moment.
    pub sending: Option<Snapshot>,
    /// What the store was asked to make of it since it last said that it had.
    pub attempts: Vec<Attempt>,
    /// Why the store refused it when whoever has it open last asked: it is not asked again by itself.
    pub refused: Option<String>,
}

/// The object that a draft is a change of.
#[derive(Clone)]
pub struct Base {
    pub version: Version,
    pub size: u64,
    /// Reads its bytes.
    pub content: Arc<Content>,
}

/// Where a sequential writer is, and what of the file has already left.
#[derive(Default)]
pub struct Stream {
    /// Where the run of consecutive writes began, and where it has come.
    pub run: Range<u64>,
    pub upload: Option<Arc<Begun>>,
    /// Parts that the store has, and that have not been written since.
    pub sent: BTreeMap<u32, ETag>,
    /// Parts on their way that have not been written since they left.
    pub leaving: BTreeSet<u32>,
    /// Parts on their way that were written again: not to be sent a second time before the first has arrived.
    pub stale: BTreeSet<u32>,
    /// It is being stored as a whole: nothing leaves by itself.
    pub is_closed: bool,
}

/// An upload of a draft.
pub struct Begun {
    pub key: String,
    pub id: OnceCell<String>,
    /// The times that it was begun with: the object will have them.
    pub mtime: Timestamp,
    pub ctime: Timestamp,
    /// With which headers.
    pub headers: Headers,
}

/// A part that can leave.
pub struct ReadyPart {
    pub number: u32,
    pub range: Range<u64>,
}

impl State {
    pub(super) fn alive(&self) -> Result<(), FsError> {
        match &self.life {
            Life::Lost { .. } => Err(FsError::Lost),
            Life::Named | Life::Orphan => Ok(()),
        }
    }

    /// Whether the store does not yet have what the file is.
    pub fn is_dirty(&self) -> bool {
        self.life == Life::Named && (self.is_content_dirty() || self.headers_changed)
    }

    pub fn is_content_dirty(&self) -> bool {
        self.extents.is_dirty(self.base.as_ref().map(|base| base.size))
    }

    pub(super) fn touched(&mut self) {
        let now = Timestamp::now();
        (self.attributes.mtime, self.attributes.ctime) = (now, now);
        self.times_set = false;
        self.attributes.size = self.extents.size;
    }

    /// Makes parts that have left useless if `range` is in them; answers whether there were any.
    pub(super) fn spoil(&mut self, range: &Range<u64>, layout: &PartLayout) -> bool {
        if range.is_empty() || (self.stream.sent.is_empty() && self.stream.leaving.is_empty()) {
            return false;
        }
        let (first, last) = (layout.part_of(range.start), layout.part_of(range.end - 1));
        let before = self.stream.sent.len();
        self.stream.sent.retain(|number, _| !(first..=last).contains(number));
        let leaving: Vec<u32> = self.stream.leaving.range(first..=last).copied().collect();
        for number in leaving {
            self.stream.leaving.remove(&number);
            self.stream.stale.insert(number);
        }
        self.stream.sent.len() < before
    }

    /// Follows the writer: the parts behind a sequential one are complete.
    pub(super) fn ripe(&mut self, range: Range<u64>, layout: &PartLayout) -> Vec<ReadyPart> {
        let run = &mut self.stream.run;
        if range.start == run.end {
            run.end = range.end;
        } else {
            *run = range.clone();
        }
        // Before there are two parts it may well be a file that is sent in one piece.
        if self.life != Life::Named || self.stream.is_closed || run.end < 2 * layout.part_bytes() {
            return Vec::new();
        }
        let begun = self.stream.upload.is_some();
        let first = if begun { layout.part_of(range.start) } else { layout.part_of(run.start) };
        let mut ripe = Vec::new();
        for number in first..=layout.part_of(run.end) {
            let part = layout.range(number);
            let is_away = self.stream.sent.contains_key(&number)
                || self.stream.leaving.contains(&number)
                || self.stream.stale.contains(&number);
            if part.end <= run.end && part.start >= run.start && !is_away && self.extents.is_all_new(&part) {
                self.stream.leaving.insert(number);
                ripe.push(ReadyPart { number, range: part });
            }
        }
        ripe
    }

    /// What of the file is not on disk.
    pub fn missing(&self) -> Vec<(u64, u64)> {
        let missing = self.extents.missing(0..self.extents.size);
        let mut missing: Vec<(u64, u64)> = (missing.into_iter().chain(self.extents.all_released()))
            .map(|range| (range.start, range.end))
            .collect();
        missing.sort();
        missing
    }

    /// As the kernel is to see it.
    pub fn shown(&self) -> Attributes {
        Attributes { size: self.extents.size, ..self.attributes.clone() }
    }

    /// What is to be written down of it.
    pub fn record(&self, ino: u64, layout: &PartLayout) -> Record {
        let base = |base: &Base| record::Base {
            etag: base.version.etag.0.to_string(),
            version_id: base.version.version_id.as_deref().map(str::to_string),
            last_modified: base.version.last_modified,
            size: base.size,
        };
        let xattrs = self.xattrs.entries().iter();
        Record {
            version: VERSION,
            ino,
            path: self.path.to_string(),
            life: self.life.clone(),
            base: self.base.as_ref().map(base),
            headers: self.headers.clone(),
            tags: self.tags.clone(),
            attributes: self.attributes.clone(),
            xattrs: xattrs.map(|(name, value)| (name.to_string(), base64::encode(value))).collect(),
            headers_changed: self.headers_changed,
            times_set: self.times_set,
            extents: self.extents.without(self.sending.as_ref()),
            part_bytes: layout.part_bytes(),
            upload: self.stream.record(),
            attempts: self.attempts.clone(),
            refused: self.refused.clone(),
            is_of_one_call: false,
            is_leaving: false,
        }
    }

    /// What the store may have made of it without our knowing.
    pub(super) fn attempts(&self) -> Vec<Attempt> {
        let begun = self.stream.upload.iter().flat_map(|begun| {
            let metadata = &begun.headers.metadata;
            self.attempts.iter().map(|attempt| Attempt { metadata: metadata.clone(), ..*attempt })
        });
        self.attempts.iter().cloned().chain(begun).collect()
    }

    /// The headers that the object is to have.
    pub(super) fn headers_of(&self, attributes: &Attributes, is_new_content: bool) -> Headers {
        let content = if is_new_content { HeaderContent::New } else { HeaderContent::Same };
        let metadata = headers::metadata(&self.headers.metadata, attributes, &self.xattrs, content);
        let kept = match is_new_content {
            true => headers::kept_with_new_bytes(
                &self.headers.kept,
                self.extents.is_all_new(&(0..self.extents.size)),
            ),
            false => (*self.headers.kept).clone(),
        };
        Headers { metadata, content_type: self.headers.content_type.clone(), kept: Box::new(kept) }
    }
}

impl Stream {
    pub(super) fn resumed(upload: Option<record::Upload>, run: std::ops::Range<u64>) -> Stream {
        let Some(upload) = upload else { return Stream { run, ..Stream::default() } };
        let sent: BTreeMap<u32, ETag> =
            upload.parts.into_iter().map(|(number, etag)| (number, ETag(etag.into()))).collect();
        let begun = Begun {
            key: upload.key,
            id: OnceCell::new_with(Some(upload.id)),
            mtime: upload.mtime,
            ctime: upload.ctime,
            headers: upload.headers,
        };
        let upload = Some(Arc::new(begun));
        Stream { run, upload, sent, leaving: BTreeSet::new(), stale: BTreeSet::new(), is_closed: false }
    }

    pub fn record(&self) -> Option<record::Upload> {
        let begun = self.upload.as_ref()?;
        Some(record::Upload {
            key: begun.key.clone(),
            id: begun.id.get()?.clone(),
            mtime: begun.mtime,
            ctime: begun.ctime,
            headers: begun.headers.clone(),
            parts: self.sent.iter().map(|(number, etag)| (*number, etag.0.to_string())).collect(),
        })
    }
}

impl Begun {
    pub(super) fn new(key: &str, attributes: &Attributes, headers: Headers) -> Begun {
        let (mtime, ctime): (Timestamp, Timestamp) = (attributes.mtime, attributes.ctime);
        Begun { key: key.to_string(), id: OnceCell::new(), mtime, ctime, headers }
    }
}

/// What is said of a file that was only just made, or moved.
pub(super) fn unknown_version() -> Version {
    version_of(&ETag("".into()), None)
}

/// A version of which only the entity tag is known.
pub fn version_of(etag: &ETag, version_id: Option<Arc<str>>) -> Version {
    Version { etag: etag.clone(), last_modified: 0, version_id }
}
