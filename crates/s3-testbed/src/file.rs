//! An open file whose content must not change under its tag.
//!
//! A file of a served directory can be overwritten in place while it is being sent. The tag was told to the client
//! before the bytes, so every read looks at the file again *after* it has its bytes: bytes that may belong to
//! another version are never handed out under the old tag.
//!
//! A tag is as good as the kernel's timestamps: before Linux 6.13 two writes of the same size within one tick of its
//! clock, some milliseconds, look the same. And a write moves the time when it begins: a file that is overwritten in
//! place, without being cut off first, can be read half old and half new under the new tag while one write call lasts.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::entity_tag::EntityTag;

#[derive(Debug)]
pub struct OpenFile {
    file: File,
    tag: EntityTag,
    size: u64,
    modified: SystemTime,
}

impl OpenFile {
    pub(super) fn new(file: File) -> io::Result<Self> {
        let found = file.metadata()?;
        Ok(Self { tag: tag(&found), size: found.size(), modified: last_modified(&found), file })
    }

    pub(super) fn tag(&self) -> EntityTag {
        self.tag
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn modified(&self) -> SystemTime {
        self.modified
    }

    /// `length` bytes from `offset` on. Waits for the disk.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::ResourceBusy`] if the file is no longer the version that [`tag`](Self::tag) names.
    pub(super) fn read(&self, offset: u64, length: u64) -> io::Result<Bytes> {
        let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        let read = self.file.read_exact_at(&mut bytes, offset);
        if tag(&self.file.metadata()?) != self.tag {
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, "the file changed while it was read"));
        }
        read.map(|()| Bytes::from(bytes))
    }
}

pub(super) fn tag(found: &std::fs::Metadata) -> EntityTag {
    EntityTag::File {
        seconds: found.mtime(),
        nanoseconds: u32::try_from(found.mtime_nsec()).unwrap_or(0),
        size: found.size(),
        inode: found.ino(),
    }
}

/// When the object became what it is: the time of the last change to content *or* attributes. S3 moves
/// `Last-Modified` on a copy that replaces only metadata, and clients that cache metadata rely on it.
pub(super) fn last_modified(found: &std::fs::Metadata) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(found.ctime()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn bytes_of_a_newer_version_are_not_handed_out_under_the_old_tag() {
        let mut writer = tempfile::NamedTempFile::new().unwrap();
        writer.write_all(b"one").unwrap();
        let open = OpenFile::new(writer.reopen().unwrap()).unwrap();
        assert_eq!(open.read(0, 3).unwrap(), "one");
        writer.write_all(b"two").unwrap();
        assert_eq!(open.read(0, 3).unwrap_err().kind(), io::ErrorKind::ResourceBusy);
    }
}
