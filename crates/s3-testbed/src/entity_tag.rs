//! Entity tags: what an object's content is told from another's by.

use std::fmt;

use s3s::crypto::{Checksum as _, Md5};

/// What changes whenever the content does. Its text has no quotes; HTTP adds them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EntityTag {
    /// MD5 of the bytes of one PUT.
    Md5([u8; 16]),
    /// MD5 of the MD5s of the parts of a multipart upload.
    Multipart { digest: [u8; 16], parts: u32 },
    /// A file of a served directory. Not a digest: it also changes when the same bytes are written again.
    File { seconds: i64, nanoseconds: u32, size: u64, inode: u64 },
}

impl EntityTag {
    pub fn of(bytes: &[u8]) -> Self {
        Self::Md5(Md5::checksum(bytes))
    }

    /// The tag of an object put together from parts with these digests.
    pub(super) fn of_parts(digests: &[[u8; 16]]) -> Self {
        let parts = u32::try_from(digests.len()).expect("an upload has at most 10,000 parts");
        Self::Multipart { digest: Md5::checksum(&digests.concat()), parts }
    }
}

impl fmt::Display for EntityTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = |f: &mut fmt::Formatter<'_>, bytes: &[u8]| {
            bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
        };
        match self {
            Self::Md5(digest) => hex(f, digest),
            Self::Multipart { digest, parts } => {
                hex(f, digest)?;
                write!(f, "-{parts}")
            }
            Self::File { seconds, nanoseconds, size, inode } => {
                write!(f, "{seconds:x}.{nanoseconds:x}-{size:x}-{inode:x}")
            }
        }
    }
}
