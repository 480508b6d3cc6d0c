//! What the file system asks of an object store, and nothing more.
//!
//! Two stores exist: [`s3`] speaks to S3 and its like, [`memory`] holds objects in the process for tests. Both
//! pass the same contract test. What must hold of either: answers are whole or errors (a body that ends early
//! is an error, never a short object), errors say whether asking again later can help, and nothing here knows of
//! directories, inodes or FUSE.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;

pub mod memory;
pub mod s3;
pub mod write;

pub use write::{Headers, Kept, ObjectStoreWrite};

/// The quoted or bare entity tag exactly as the store gave it; compared, never interpreted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ETag(pub Arc<str>);

/// Which content a name held: two equal versions mean equal bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    pub etag: ETag,
    /// Whole seconds since the epoch, as S3 counts them: two writes within a second share it.
    pub last_modified: i64,
    /// Present where the bucket keeps versions: the handle by which a replaced object can still be read.
    pub version_id: Option<Arc<str>>,
}

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
    /// [`StoreError::Malformed`]: nothing of the answer is to be believed.
    pub fn is_answered_by(&self, object: &Object, range: &Range<u64>) -> Result<(), StoreError> {
        let key = self.key;
        let asked = self.range.clone().unwrap_or(0..u64::MAX);
        let wanted = asked.start..asked.end.min(object.size);
        if *range != wanted {
            let reason = format!("bytes {wanted:?} of {key:?} were asked for, and bytes {range:?} came");
            return Err(StoreError::Malformed { reason });
        }
        let Version { etag, version_id, .. } = &object.version;
        let is_other = match (&self.condition, self.version_id, version_id) {
            (Condition::Unchanged(wanted), ..) => wanted != etag,
            (_, Some(wanted), Some(came)) => wanted != &**came,
            _ => false,
        };
        if is_other {
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
    /// Keys behind this one.
    After(&'a str),
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

/// Why the store did not answer as asked.
///
/// `Clone`, because one request may have been made for many waiting readers.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    #[error("no object has the key {key:?}")]
    NotFound { key: String },
    #[error("no bucket is named {bucket:?}")]
    NoBucket { bucket: String },
    #[error("access to {what:?} is denied ({code})")]
    Denied { what: String, code: String },
    #[error("the credentials are refused ({code})")]
    Credentials { code: String, skew: Option<ClockSkew> },
    #[error("there are no usable credentials")]
    NoCredentials { reason: String },
    #[error("it is not known in which AWS region the bucket {bucket:?} is to be asked")]
    NoRegion { bucket: String },
    #[error("the bucket {bucket:?} lives in another region{}", region.as_ref().map(|r| format!(", {r:?}")).unwrap_or_default())]
    WrongRegion { bucket: String, region: Option<String> },
    #[error("the object {key:?} is no longer the version that was opened")]
    Changed { key: String },
    #[error("no upload of {key:?} has this name")]
    NoUpload { key: String },
    #[error("the object {key:?} would be larger than the store takes")]
    TooLarge { key: String },
    #[error("the metadata of {key:?} would take more than the store's 2 KB")]
    MetadataTooLarge { key: String },
    #[error("bytes {start}- of {key:?} are behind its end")]
    RangeOutside { key: String, start: u64 },
    #[error("the object {key:?} is archived")]
    Archived { key: String },
    #[error("the key {key:?} is longer than S3 takes")]
    KeyTooLong { key: String },
    #[error("the body of {key:?} ended after {found} of {expected} bytes")]
    Truncated { key: String, found: u64, expected: u64 },
    #[error("the bytes of {key:?} do not have the checksum that the store gave for them")]
    Corrupt { key: String },
    #[error("no answer within {}", seconds(.0))]
    TimedOut(Duration),
    #[error("cannot reach the store at {endpoint:?}: {reason}")]
    Unreachable { endpoint: String, reason: String },
    #[error("the store is asked too often ({code})")]
    Throttled { code: String },
    #[error("the store answered {status} {code}")]
    Refused { status: u16, code: String },
    #[error("the store's answer makes no sense: {reason}")]
    Malformed { reason: String },
    #[error("{what:?} cannot be asked about: {reason}")]
    NotSent { what: String, reason: String },
}

/// That the clocks of the host and of the store differ by more than a signature may be old.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClockSkew {
    /// What the store holds the time to be, as it wrote it.
    pub server_time: Option<String>,
}

impl StoreError {
    /// Whether the store could not be asked, as opposed to having answered: what is known of its objects then
    /// stays the best there is.
    pub fn is_outage(&self) -> bool {
        matches!(
            self,
            StoreError::TimedOut(_)
                | StoreError::Unreachable { .. }
                | StoreError::Throttled { .. }
                | StoreError::Credentials { .. }
                | StoreError::NoCredentials { .. }
                | StoreError::Truncated { .. }
                | StoreError::Refused { status: 500..=599, .. }
        )
    }

    /// Whether this is about one object: it was asked for and refused, or what came makes no sense. All others may be
    /// well.
    pub fn is_about_one(&self) -> bool {
        let is_refusal = matches!(
            self,
            StoreError::Denied { .. }
                | StoreError::Archived { .. }
                | StoreError::KeyTooLong { .. }
                | StoreError::RangeOutside { .. }
                | StoreError::Corrupt { .. }
                | StoreError::Refused { .. }
                | StoreError::Malformed { .. }
                | StoreError::NotSent { .. }
        );
        is_refusal && !self.is_outage()
    }
}

fn seconds(limit: &Duration) -> String {
    format!("{:.1} s", limit.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_told_from_an_answer() {
        let outage = StoreError::Refused { status: 503, code: "SlowDown".into() };
        let answer = StoreError::Refused { status: 405, code: "MethodNotAllowed".into() };
        assert!(outage.is_outage());
        assert!(!answer.is_outage());
        assert_eq!([outage, answer].map(|error| error.is_about_one()), [false, true]);
        let unsent = StoreError::NotSent { what: "a".into(), reason: "x".into() };
        assert!(!unsent.is_outage());
        assert!(!StoreError::NotFound { key: "a".into() }.is_outage());
    }

    #[test]
    fn every_error_names_what_was_wrong() {
        let texts = [
            (StoreError::NotFound { key: "a".into() }, "no object has the key \"a\""),
            (StoreError::NoBucket { bucket: "b".into() }, "no bucket is named \"b\""),
            (
                StoreError::Denied { what: "a".into(), code: "AccessDenied".into() },
                "access to \"a\" is denied (AccessDenied)",
            ),
            (
                StoreError::Credentials { code: "InvalidAccessKeyId".into(), skew: None },
                "the credentials are refused (InvalidAccessKeyId)",
            ),
            (StoreError::NoCredentials { reason: "x".into() }, "there are no usable credentials"),
            (
                StoreError::NoRegion { bucket: "b".into() },
                "it is not known in which AWS region the bucket \"b\" is to be asked",
            ),
            (
                StoreError::WrongRegion { bucket: "b".into(), region: Some("eu-west-1".into()) },
                "the bucket \"b\" lives in another region, \"eu-west-1\"",
            ),
            (
                StoreError::Changed { key: "a".into() },
                "the object \"a\" is no longer the version that was opened",
            ),
            (StoreError::RangeOutside { key: "a".into(), start: 7 }, "bytes 7- of \"a\" are behind its end"),
            (StoreError::Archived { key: "a".into() }, "the object \"a\" is archived"),
            (StoreError::KeyTooLong { key: "a".into() }, "the key \"a\" is longer than S3 takes"),
            (StoreError::NoUpload { key: "a".into() }, "no upload of \"a\" has this name"),
            (
                StoreError::TooLarge { key: "a".into() },
                "the object \"a\" would be larger than the store takes",
            ),
            (
                StoreError::MetadataTooLarge { key: "a".into() },
                "the metadata of \"a\" would take more than the store's 2 KB",
            ),
            (
                StoreError::Corrupt { key: "a".into() },
                "the bytes of \"a\" do not have the checksum that the store gave for them",
            ),
            (
                StoreError::Truncated { key: "a".into(), found: 1, expected: 2 },
                "the body of \"a\" ended after 1 of 2 bytes",
            ),
            (StoreError::TimedOut(Duration::from_millis(1500)), "no answer within 1.5 s"),
            (
                StoreError::Unreachable { endpoint: "http://h".into(), reason: "refused".into() },
                "cannot reach the store at \"http://h\": refused",
            ),
            (StoreError::Throttled { code: "SlowDown".into() }, "the store is asked too often (SlowDown)"),
            (
                StoreError::Refused { status: 500, code: "InternalError".into() },
                "the store answered 500 InternalError",
            ),
            (
                StoreError::Malformed { reason: "no size".into() },
                "the store's answer makes no sense: no size",
            ),
            (
                StoreError::NotSent { what: "a".into(), reason: "too long".into() },
                "\"a\" cannot be asked about: too long",
            ),
        ];
        for (error, text) in texts {
            assert_eq!(error.to_string(), text);
        }
    }
}
