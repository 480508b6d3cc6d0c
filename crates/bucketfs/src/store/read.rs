//! What the file system asks of a store when it reads.
//!
//! What must hold of either store: a body that ends early is an error, never a short object; an answer is about what was
//! asked.

use std::ops::Range;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;

use super::error::StoreError;
use super::version::{ETag, Version};
use super::write::{Kept, ObjectStoreWrite};

/// An object's headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Bytes of the whole object, whatever range was asked for.
    pub size: u64,
    pub version: Version,
    pub content_type: Option<String>,
    /// User metadata: names in lower case without the `x-amz-meta-` prefix.
    pub metadata: Vec<(String, String)>,
    /// What a change of the object must not lose. Only a HEAD tells.
    pub kept: Box<Kept>,
}

/// The bytes of one answer, in order, in pieces of the store's choosing.
pub type Body = BoxStream<'static, Result<Bytes, StoreError>>;

/// On which state of the object an answer is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    Always,
    /// Only while the content is still this; otherwise [`StoreError::Changed`].
    Unchanged(ETag),
    /// Only if the content is no longer this; otherwise [`Fetched::NotModified`].
    Changed(ETag),
}

/// An answer to [`ObjectStore::fetch`].
pub enum Fetched {
    /// `body` holds exactly the bytes `range` of the object.
    Content { object: Object, range: Range<u64>, body: Body },
    /// The content is still the one named in [`Condition::Changed`]. `last_modified` is there if the store
    /// repeated it: headers can change under the same entity tag, and this is the only trace of it.
    NotModified { last_modified: Option<i64> },
}

/// Which version of an object is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch<'a> {
    pub key: &'a str,
    /// Bytes wanted; cut at the end of the object. `None`: the whole object.
    pub range: Option<Range<u64>>,
    pub condition: Condition,
    pub version_id: Option<&'a str>,
}

impl Fetch<'_> {
    /// Whether the bytes `range` of `object` are what was asked for. A whole object is, where a range was asked for that
    /// it lies in: then it is the same bytes.
    ///
    /// # Errors
    ///
    /// [`StoreError::Malformed`]: nothing of the answer is to be believed; [`StoreError::Changed`].
    pub fn is_answered_by(&self, object: &Object, range: &Range<u64>) -> Result<(), StoreError> {
        let key = self.key;
        let asked = self.range.clone().unwrap_or(0..u64::MAX);
        let wanted = asked.start..asked.end.min(object.size);
        if *range != wanted {
            let reason = format!("bytes {wanted:?} of {key:?} were asked for, and bytes {range:?} came");
            return Err(StoreError::Malformed { reason });
        }
        let Version { etag, version_id, .. } = &object.version;
        let is_other = match (self.version_id, version_id) {
            (Some(wanted), Some(came)) => wanted != &**came,
            _ => false,
        };
        let is_changed = matches!(&self.condition, Condition::Unchanged(wanted) if wanted != etag);
        // A store that does not look at the condition says by its answer that it does not hold.
        if is_changed && self.version_id.is_none() {
            return Err(StoreError::Changed { key: key.to_string() });
        }
        if is_other || is_changed {
            let reason = format!("one version of {key:?} was asked for, and another came: {}", etag.0);
            return Err(StoreError::Malformed { reason });
        }
        Ok(())
    }
}

/// One object as a listing shows it: no headers. Where size or entity tag made no sense, the size is 0 and the tag empty,
/// which no object has: only its headers tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub key: String,
    pub size: u64,
    pub etag: ETag,
    pub last_modified: i64,
}

/// One page of a listing, both parts in the order of their bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    pub objects: Vec<Listed>,
    /// Prefixes rolled up at the delimiter, each ending in `/`.
    pub prefixes: Vec<String>,
    /// Where the next page starts; `None` on the last one.
    pub next: Option<String>,
}

/// Pages without a key, or a name, in a row that are gone through: S3 may send one.
pub const EMPTY_PAGES: usize = 100;

/// What to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List<'a> {
    pub prefix: &'a str,
    pub depth: Depth,
    pub from: ListStart<'a>,
    /// Most entries in the page, 1 to 1,000.
    pub limit: u16,
}

/// Whether keys below a `/` are rolled up into prefixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Only this directory: everything behind the next `/` is one prefix.
    Directory,
    /// Every key below the prefix.
    Tree,
}

/// Where a page begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListStart<'a> {
    Start,
    /// The `next` of the page before.
    Page(&'a str),
}

/// The seam between the file system and S3.
pub trait ObjectStore: ObjectStoreWrite {
    /// The object's headers.
    fn head<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Object, StoreError>>;
    /// The object's headers and the bytes asked for.
    ///
    /// # Errors
    ///
    /// [`StoreError::RangeOutside`] when the range begins at or behind the end: an empty object has no range.
    fn fetch<'a>(&'a self, fetch: Fetch<'a>) -> BoxFuture<'a, Result<Fetched, StoreError>>;
    /// One page of keys.
    fn list<'a>(&'a self, list: List<'a>) -> BoxFuture<'a, Result<Page, StoreError>>;
}
