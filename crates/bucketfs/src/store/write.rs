//! What the file system asks of a store when it writes.
//!
//! What must hold of either store: a write is whole or it has not happened; a write with a condition that does not
//! hold is [`StoreError::Changed`] and changes nothing, as far as the store can ([`Conditions`]); a copy takes exactly the version that was asked for; parts
//! of an upload are in nobody's way until it is completed.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

use super::error::StoreError;
use super::version::ETag;

/// Smallest part of an upload in several parts, the last one aside.
pub const PART_MIN: u64 = 5 * 1024 * 1024;
/// Most parts of one upload.
pub const PARTS_MAX: u32 = 10_000;
/// Largest object that one copy request takes, and largest part of an upload.
pub const COPY_MAX: u64 = 5 * 1024 * 1024 * 1024;
/// Largest object: as many parts of the largest size as there may be, 48.8 TiB. That is what S3 documents ("50 TB") since
/// it is not 5 TiB any more. A larger size in an answer makes no sense.
pub const OBJECT_MAX: u64 = PARTS_MAX as u64 * COPY_MAX;
/// Bytes of all user metadata of an object, names and values together.
pub const METADATA_MAX: usize = 2048;
/// Longest key in bytes.
pub const KEY_MAX: usize = 1024;

/// Everything that an object carries beside its bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Headers {
    pub content_type: Option<String>,
    /// User metadata: names in lower case without the `x-amz-meta-` prefix.
    pub metadata: Vec<(String, String)>,
    pub kept: Box<Kept>,
}

/// Headers that a file system has no use for, and that a change must not lose.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    pub cache_control: Option<String>,
    pub content_disposition: Option<String>,
    pub content_encoding: Option<String>,
    pub content_language: Option<String>,
    /// As the store wrote it.
    pub expires: Option<String>,
    pub website_redirect: Option<String>,
    /// Absent for the usual class.
    pub storage_class: Option<String>,
    pub encryption: Option<Encryption>,
    /// How many tags the object has; the tags themselves are another question.
    pub tags: u32,
}

/// How the store encrypts an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Encryption {
    pub algorithm: String,
    pub key: Option<String>,
    pub bucket_key: Option<bool>,
}

/// How a store keeps what is written to it, where nothing else says so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewContent {
    pub encryption: Option<Encryption>,
    pub storage_class: Option<String>,
    /// A canned ACL: no object tells its own, and a copy does not take it along.
    pub acl: Option<String>,
}

/// Tags of an object.
pub type Tags = Vec<(String, String)>;

/// On which state of the key a write depends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteIf {
    Always,
    /// Only if nothing has the key.
    Absent,
    /// Only while the content is this.
    Unchanged(ETag),
}

/// An object to write.
#[derive(Clone, Debug)]
pub struct Put<'a> {
    pub key: &'a str,
    pub body: Bytes,
    pub headers: &'a Headers,
    pub tags: &'a [(String, String)],
    pub condition: WriteIf,
}

/// A copy within the bucket, of an object of at most [`COPY_MAX`] bytes.
#[derive(Clone, Debug)]
pub struct CopyRequest<'a> {
    pub from: &'a str,
    /// The content that is meant; another is [`StoreError::Changed`].
    pub etag: &'a ETag,
    pub to: &'a str,
    /// The headers of the copy, or those of the source; tags are those of the source.
    pub headers: Option<&'a Headers>,
    pub condition: WriteIf,
}

/// What a write made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    pub etag: ETag,
    pub version_id: Option<Arc<str>>,
}

/// What a store does with the condition of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Heed {
    /// What does not hold is not done.
    #[default]
    Kept,
    /// It is done whether it holds or not.
    Ignored,
    /// It is refused because there is a condition.
    Refused,
}

/// What a store does with the conditions of what changes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// Of objects that are sent whole.
    pub put: Heed,
    /// Of uploads in parts, when they are completed.
    pub complete: Heed,
    /// Of the source of a copy, and of its target.
    pub source: Heed,
    pub copy: Heed,
    pub delete: Heed,
}

impl Conditions {
    /// What of it is not kept, in words; `None`: all is.
    pub fn lacking(&self) -> Option<String> {
        if self.put != Heed::Kept {
            let done = if self.put == Heed::Ignored { "ignores" } else { "refuses" };
            return Some(format!("the store {done} conditions: a change of somebody else could be lost"));
        }
        let others = [
            (self.complete, "large files"),
            (self.source.max(self.copy), "copies"),
            (self.delete, "deletions"),
        ];
        let lacking = others.iter().filter(|(heed, _)| *heed != Heed::Kept).map(|(_, what)| *what);
        let lacking: Vec<&str> = lacking.collect();
        (!lacking.is_empty()).then(|| {
            format!(
                "the store keeps no conditions of {}: the object is looked at just before, and a change in that moment could be lost",
                lacking.join(", ")
            )
        })
    }
}

/// An upload in parts that was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upload<'a> {
    pub key: &'a str,
    pub id: &'a str,
}

/// Bytes of an object as a part of an upload.
#[derive(Clone, Debug)]
pub struct PartOf<'a> {
    pub from: &'a str,
    pub etag: &'a ETag,
    pub range: Range<u64>,
}

/// The writing half of the seam between the file system and S3.
pub trait ObjectStoreWrite: Send + Sync + 'static {
    fn put<'a>(&'a self, put: Put<'a>) -> BoxFuture<'a, Result<Written, StoreError>>;
    /// What headers of a new content are to say, whatever those of the content before said.
    fn stamp(&self, _kept: &mut Kept) {}
    /// Within the bucket, by the store itself.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`] without a source; [`StoreError::Changed`] where it, or the target, is another.
    fn copy<'a>(&'a self, copy: CopyRequest<'a>) -> BoxFuture<'a, Result<Written, StoreError>>;
    /// What has no such key is no error.
    fn delete<'a>(&'a self, key: &'a str, condition: WriteIf) -> BoxFuture<'a, Result<(), StoreError>>;
    fn tags<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Tags, StoreError>>;
    /// Begins an upload and answers its name.
    fn begin_upload<'a>(
        &'a self,
        key: &'a str,
        headers: &'a Headers,
        tags: &'a [(String, String)],
    ) -> BoxFuture<'a, Result<String, StoreError>>;
    /// Parts count from 1; one that comes again replaces the one before.
    fn put_part<'a>(
        &'a self,
        upload: Upload<'a>,
        number: u32,
        body: Bytes,
    ) -> BoxFuture<'a, Result<ETag, StoreError>>;
    fn copy_part<'a>(
        &'a self,
        upload: Upload<'a>,
        number: u32,
        part: PartOf<'a>,
    ) -> BoxFuture<'a, Result<ETag, StoreError>>;
    /// Makes the object of its parts, which are in the order of their numbers.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoUpload`] where there is none (any more).
    fn complete_upload<'a>(
        &'a self,
        upload: Upload<'a>,
        parts: &'a [(u32, ETag)],
        condition: WriteIf,
    ) -> BoxFuture<'a, Result<Written, StoreError>>;
    /// What is not there (any more) is no error.
    fn abort_upload<'a>(&'a self, upload: Upload<'a>) -> BoxFuture<'a, Result<(), StoreError>>;
    /// What the store does with conditions: found out once, by what it does with an object of a moment whose key begins
    /// with `prefix`.
    fn conditions<'a>(&'a self, _prefix: &'a str) -> BoxFuture<'a, Result<Conditions, StoreError>> {
        Box::pin(std::future::ready(Ok(Conditions::default())))
    }
    /// The same as far as it has been found out; asks nobody.
    fn known_conditions(&self) -> Conditions {
        Conditions::default()
    }
}

/// Bytes that metadata takes of [`METADATA_MAX`].
pub fn metadata_bytes(metadata: &[(String, String)]) -> usize {
    metadata.iter().map(|(name, value)| name.len() + value.len()).sum()
}
