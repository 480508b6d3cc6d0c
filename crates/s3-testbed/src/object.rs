//! What is stored under a key: content, entity tag, headers.
//!
//! An [`Object`] never changes once it is stored; whoever has one reads the same version to its end
//! whatever happens to the key. Content in memory is handed out as slices of the stored bytes, never
//! copied and never hashed again: the tag is computed once, when the object is written.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use s3s::crypto::{Checksum as _, Md5};
use serde::{Deserialize, Serialize};

use super::entity_tag::EntityTag;
use super::file::OpenFile;

/// Largest piece in which content leaves the server, in bytes.
pub(super) const FRAME_BYTES: u64 = 1024 * 1024;

/// One version of one key.
#[derive(Debug, Clone)]
pub struct Object {
    pub content: Content,
    pub tag: EntityTag,
    /// Whole seconds, as S3 has it.
    pub modified: SystemTime,
    pub attributes: Arc<Attributes>,
    /// `None` is S3's version `null`: written while its bucket kept no versions.
    pub version: Option<VersionId>,
}

/// Everything of an object that a client sets beside its bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Attributes {
    /// User metadata without the `x-amz-meta-`, names in lower case.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_control: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_encoding: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_disposition: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_language: Option<String>,
    /// Seconds since 1970 of the `Expires` header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_s: Option<i64>,
    /// Absent means `STANDARD`, which S3 leaves out of its answers too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_class: Option<String>,
    /// Object tags, in the order given.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<(String, String)>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub checksums: Checksums,
}

impl Attributes {
    /// Attributes with this user metadata and nothing else.
    pub fn with_metadata<K, V>(metadata: impl IntoIterator<Item = (K, V)>) -> Self
    where
        K: AsRef<str>,
        V: Into<String>,
    {
        let metadata =
            metadata.into_iter().map(|(name, value)| (name.as_ref().to_ascii_lowercase(), value.into()));
        Self { metadata: metadata.collect(), ..Self::default() }
    }
}

/// Checksums that the writer sent and that were found right: by the name of the algorithm (`crc32`, `crc32c`, `crc64nvme`,
/// `sha1`, `sha256`), in base64 as on the wire.
pub type Checksums = BTreeMap<String, String>;

/// The number of a version within its bucket; later versions have larger ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VersionId(pub(super) u64);

impl VersionId {
    /// The version that `text` names: `Some(None)` for `null`, `None` where no version can have that name.
    pub(super) fn parse(text: &str) -> Option<Option<Self>> {
        match text {
            "null" => Some(None),
            _ if text.len() == 16 => u64::from_str_radix(text, 16).ok().map(|number| Some(Self(number))),
            _ => None,
        }
    }

    pub(super) fn text(version: Option<Self>) -> String {
        version.map_or_else(|| "null".to_owned(), |version| version.to_string())
    }
}

impl fmt::Display for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The bytes of an object.
#[derive(Debug, Clone)]
pub enum Content {
    Bytes(Bytes),
    /// The parts of a multipart upload, as they came.
    Parts(Arc<[Bytes]>),
    /// `pattern` again and again up to `length`: a large object that costs no memory. Choose a pattern whose
    /// length is not a power of two, or a reader's wrong offset can go unnoticed.
    Repeated {
        pattern: Bytes,
        length: u64,
    },
    #[doc(hidden)]
    File(Arc<OpenFile>),
}

impl<T: Into<Bytes>> From<T> for Content {
    fn from(bytes: T) -> Self {
        Self::Bytes(bytes.into())
    }
}

impl Content {
    pub fn size(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Parts(parts) => parts.iter().map(|part| part.len() as u64).sum(),
            Self::Repeated { pattern, length } => {
                if pattern.is_empty() {
                    0
                } else {
                    *length
                }
            }
            Self::File(file) => file.size(),
        }
    }

    /// The tag of this content when it is put as one object.
    ///
    /// Repeated content is not hashed as a whole, which would take seconds a gigabyte: its tag has the shape of a
    /// multipart upload's and is made from its pattern and its length. A file's tag is that of the file.
    pub fn tag(&self) -> EntityTag {
        match self {
            Self::Bytes(bytes) => EntityTag::of(bytes),
            Self::Parts(parts) => {
                EntityTag::of_parts(&parts.iter().map(|part| Md5::checksum(part)).collect::<Vec<_>>())
            }
            Self::Repeated { pattern, length } => {
                EntityTag::of_parts(&[Md5::checksum(pattern), Md5::checksum(&length.to_be_bytes())])
            }
            Self::File(file) => file.tag(),
        }
    }

    /// The stored piece at `offset`, at most `limit` bytes long and without a copy. Empty at the end, and for a file,
    /// which has no bytes in memory.
    pub(super) fn piece(&self, offset: u64, limit: u64) -> Bytes {
        match self {
            Self::Bytes(bytes) => piece_of(bytes, offset, limit),
            Self::Parts(parts) => {
                let mut start = 0;
                for part in parts.iter() {
                    let end = start + part.len() as u64;
                    if offset < end {
                        return piece_of(part, offset - start, limit);
                    }
                    start = end;
                }
                Bytes::new()
            }
            Self::Repeated { pattern, .. } => {
                let left = self.size().saturating_sub(offset);
                if left == 0 {
                    return Bytes::new();
                }
                piece_of(pattern, offset % pattern.len() as u64, limit.min(left))
            }
            Self::File(_) => Bytes::new(),
        }
    }

    /// `range` as one buffer: no copy where it lies in one stored piece. A file is read, and the caller waits for it.
    ///
    /// # Errors
    ///
    /// Those of reading a file; content in memory has none.
    pub fn bytes(&self, range: Range<u64>) -> std::io::Result<Bytes> {
        if let Self::File(file) = self {
            return file.read(range.start, range.end - range.start);
        }
        let length = range.end - range.start;
        let first = self.piece(range.start, length);
        if first.len() as u64 == length {
            return Ok(first);
        }
        let mut whole = BytesMut::with_capacity(usize::try_from(length).unwrap_or(usize::MAX));
        let mut offset = range.start;
        while offset < range.end {
            let piece = self.piece(offset, range.end - offset);
            if piece.is_empty() {
                break;
            }
            offset += piece.len() as u64;
            whole.extend_from_slice(&piece);
        }
        Ok(whole.freeze())
    }
}

fn piece_of(bytes: &Bytes, offset: u64, limit: u64) -> Bytes {
    let length = bytes.len() as u64;
    let start = offset.min(length);
    let end = start.saturating_add(limit).min(length);
    // Both are at most `bytes.len()`, so they fit.
    bytes.slice(start as usize..end as usize)
}

/// `time` without its fraction of a second: S3's clock.
pub(super) fn whole_seconds(time: SystemTime) -> SystemTime {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    UNIX_EPOCH + Duration::from_secs(since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_is_a_slice_of_the_stored_bytes_and_not_a_copy() {
        let stored = Bytes::from(vec![7; 4096]);
        let piece = Content::Bytes(stored.clone()).piece(100, 50);
        assert_eq!(piece.len(), 50);
        assert_eq!(piece.as_ptr(), stored[100..].as_ptr());
    }

    #[test]
    fn parts_and_repeated_content_read_as_one_run_of_bytes() {
        let parts = Content::Parts([Bytes::from("abc"), Bytes::from(""), Bytes::from("defg")].into());
        assert_eq!(parts.bytes(1..6).unwrap(), "bcdef");
        assert_eq!(parts.bytes(0..parts.size()).unwrap(), "abcdefg");
        let repeated = Content::Repeated { pattern: Bytes::from("abc"), length: 8 };
        assert_eq!(repeated.bytes(0..8).unwrap(), "abcabcab");
        assert_eq!(repeated.bytes(4..8).unwrap(), "bcab");
        assert_eq!(repeated.piece(8, 1), "");
    }

    #[test]
    fn an_empty_pattern_is_empty_content() {
        let content = Content::Repeated { pattern: Bytes::new(), length: 8 };
        assert_eq!((content.size(), content.piece(0, 8).len()), (0, 0));
    }

    #[test]
    fn tags_are_those_of_s3() {
        assert_eq!(EntityTag::of(b"hello").to_string(), "5d41402abc4b2a76b9719d911017c592");
        let parts = Content::Parts([Bytes::from("hello"), Bytes::from("hello")].into());
        assert_eq!(parts.tag().to_string(), "616b22817b80eed9f65c3aa38cd29054-2");
    }

    #[test]
    fn version_ids_survive_their_text() {
        let version = VersionId(0xfeed);
        assert_eq!(VersionId::parse(&version.to_string()), Some(Some(version)));
        assert_eq!(VersionId::parse("null"), Some(None));
        assert_eq!(VersionId::parse("what"), None);
    }
}
