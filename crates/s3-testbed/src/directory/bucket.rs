//! The calls of a bucket that is a directory.
//!
//! What must hold: a condition is judged and what depends on it is written while nobody else writes.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rustix::fs::{self, AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::attributes::{self, content_type, stored};
use super::beneath::{LINKS_INSIDE, LINKS_NOWHERE, Root, file_error};
use super::place::{Kind, Place};
use super::upload::{Upload, copy};
use super::walk::Walk;
use crate::condition::WriteCondition;
use crate::entity_tag::EntityTag;
use crate::error::StoreError;
use crate::file::{OpenFile, last_modified, tag};
use crate::listing::Cursor;
use crate::object::{Attributes, Checksums, Content, Object};

#[derive(Debug)]
pub(crate) struct DirectoryBucket {
    root: Root,
    /// Held from the check of a condition to the write that depends on it.
    writing: Mutex<()>,
    uploads: AtomicU64,
}

impl DirectoryBucket {
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { root: Root::open(path)?, writing: Mutex::new(()), uploads: AtomicU64::new(0) })
    }

    pub fn cursor(&self) -> impl Cursor {
        Walk::new(&self.root)
    }

    pub fn read(&self, key: &str) -> Result<Arc<Object>, StoreError> {
        let absent = || StoreError::NoSuchKey { key: key.to_owned() };
        let place = Place::of(key).map_err(|_| absent())?;
        let found = self.find(key, &place)?.ok_or_else(absent)?;
        self.object(key, &place, found).map(Arc::new)
    }

    /// Opens what is at `place`, if it is of the kind that the key says.
    fn find(&self, key: &str, place: &Place<'_>) -> Result<Option<File>, StoreError> {
        let nothing_there = |errno: Errno| {
            matches!(
                errno,
                Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV | Errno::NXIO | Errno::NAMETOOLONG
            )
        };
        let opened = self
            .root
            .beneath(&place.parent(), OFlags::PATH | OFlags::DIRECTORY, LINKS_NOWHERE)
            .and_then(|_| {
                let path = key.trim_end_matches('/');
                match place.kind {
                    Kind::Directory => {
                        self.root.beneath(path, OFlags::RDONLY | OFlags::DIRECTORY, LINKS_NOWHERE)
                    }
                    // To open a pipe or a terminal that somebody left here must neither wait nor take it over.
                    Kind::File => self.root.beneath(
                        path,
                        OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY,
                        LINKS_INSIDE,
                    ),
                }
            });
        let file = match opened {
            Ok(fd) => File::from(fd),
            Err(errno) if nothing_there(errno) => return Ok(None),
            Err(errno) => return Err(file_error("open", key)(errno)),
        };
        let found = file.metadata().map_err(file_error("examine", key))?;
        let right_kind = match place.kind {
            Kind::File => found.is_file(),
            Kind::Directory => found.is_dir(),
        };
        Ok(right_kind.then_some(file))
    }

    fn object(&self, key: &str, place: &Place<'_>, file: File) -> Result<Object, StoreError> {
        let stored = stored(&file).map_err(file_error("read the attributes of", key))?;
        let (content, tag, modified) = match place.kind {
            Kind::File => {
                let open = OpenFile::new(file).map_err(file_error("examine", key))?;
                let (tag, modified) = (open.tag(), open.modified());
                (Content::File(Arc::new(open)), tag, modified)
            }
            Kind::Directory => {
                let found = file.metadata().map_err(file_error("examine", key))?;
                (Content::from(Bytes::new()), EntityTag::of(b""), last_modified(&found))
            }
        };
        let mut attributes = stored.attributes;
        if stored.tag != tag.to_string() {
            attributes.checksums = Checksums::default();
        }
        if attributes.content_type.is_none() {
            attributes.content_type = Some(content_type(key).to_owned());
        }
        Ok(Object { content, tag, modified, attributes: Arc::new(attributes), version: None })
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn judge(&self, key: &str, place: &Place<'_>, condition: &WriteCondition) -> Result<(), StoreError> {
        let current = match self.find(key, place)? {
            Some(file) => Some(self.object(key, place, file)?.tag),
            None => None,
        };
        condition.judge(current.as_ref()).map_err(|refusal| StoreError::refused(key, refusal))
    }

    pub fn write(
        &self,
        key: &str,
        content: &Content,
        attributes: &Attributes,
        condition: &WriteCondition,
    ) -> Result<Arc<Object>, StoreError> {
        let place = Place::of(key)?;
        let _writing = self.lock();
        self.judge(key, &place, condition)?;
        match place.kind {
            Kind::Directory if content.size() > 0 => {
                Err(StoreError::NotAFile { key: key.to_owned(), reason: "a directory cannot have content" })
            }
            Kind::Directory => {
                let directory = self.make_directories(key, place.parents.iter().chain([&place.name]))?;
                let directory = File::from(directory);
                attributes::store(key, &directory, attributes)?;
                self.object(key, &place, directory).map(Arc::new)
            }
            Kind::File => self.write_file(key, &place, content, attributes).map(Arc::new),
        }
    }

    fn make_directories<'s>(
        &self,
        key: &str,
        segments: impl Iterator<Item = &'s &'s str>,
    ) -> Result<OwnedFd, StoreError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let mut directory = self.root.beneath(".", flags, LINKS_NOWHERE).map_err(file_error("open", key))?;
        for segment in segments {
            match fs::mkdirat(&directory, *segment, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(file_error("make the directory of", key)(errno)),
            }
            directory =
                fs::openat(&directory, *segment, flags, Mode::empty()).map_err(|errno| match errno {
                    Errno::NOTDIR | Errno::LOOP => StoreError::NotAFile {
                        key: key.to_owned(),
                        reason: "a directory on its way is a file",
                    },
                    _ => file_error("open the directory of", key)(errno),
                })?;
        }
        Ok(directory)
    }

    fn write_file(
        &self,
        key: &str,
        place: &Place<'_>,
        content: &Content,
        attributes: &Attributes,
    ) -> Result<Object, StoreError> {
        let directory = self.make_directories(key, place.parents.iter())?;
        let upload = Upload::create(&directory, self.uploads.fetch_add(1, Ordering::Relaxed))
            .map_err(file_error("create", key))?;
        copy(content, &upload.file).map_err(file_error("write", key))?;
        attributes::store(key, &upload.file, attributes)?;
        let file = upload.move_to(place.name).map_err(|errno| match errno {
            Errno::ISDIR | Errno::NOTEMPTY | Errno::EXIST => {
                StoreError::NotAFile { key: key.to_owned(), reason: "it is a directory" }
            }
            _ => file_error("move into place", key)(errno),
        })?;
        self.object(key, place, file)
    }

    /// Replaces the attributes of a file in place: its content, and so its tag, stay as they are. `of` is the version
    /// whose checksums are among the attributes.
    pub fn write_attributes(
        &self,
        key: &str,
        of: &EntityTag,
        mut attributes: Attributes,
        condition: &WriteCondition,
    ) -> Result<Arc<Object>, StoreError> {
        let place = Place::of(key)?;
        let _writing = self.lock();
        self.judge(key, &place, condition)?;
        let file = self.find(key, &place)?.ok_or_else(|| StoreError::NoSuchKey { key: key.to_owned() })?;
        let found = file.metadata().map_err(file_error("examine", key))?;
        if tag(&found) != *of {
            attributes.checksums = Checksums::default();
        }
        attributes::store(key, &file, &attributes)?;
        self.object(key, &place, file).map(Arc::new)
    }

    /// Deletes the file; a directory only if it is empty, since only then is it an object and nothing else.
    pub fn remove(&self, key: &str, condition: &WriteCondition) -> Result<(), StoreError> {
        // What cannot be a file is not there, and to delete what is not there succeeds.
        let Ok(place) = Place::of(key) else { return Ok(()) };
        let _writing = self.lock();
        let Some(file) = self.find(key, &place)? else { return Ok(()) };
        let tag = self.object(key, &place, file)?.tag;
        condition.judge(Some(&tag)).map_err(|refusal| StoreError::refused(key, refusal))?;
        let directory = self
            .root
            .beneath(&place.parent(), OFlags::PATH | OFlags::DIRECTORY, LINKS_NOWHERE)
            .map_err(file_error("open the directory of", key))?;
        let flags = match place.kind {
            Kind::File => AtFlags::empty(),
            Kind::Directory => AtFlags::REMOVEDIR,
        };
        match fs::unlinkat(&directory, place.name, flags) {
            Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST) => Ok(()),
            Err(errno) => Err(file_error("delete", key)(errno)),
        }
    }
}
