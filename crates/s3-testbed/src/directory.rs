//! A bucket that is a directory: the path of a file is its key.
//!
//! Nothing is remembered between requests, so files that people drop in with any tool just work. A sub-directory is
//! also the key `dir/` of zero bytes. What a file cannot say of itself (user metadata, content type) is in its
//! extended attribute `user.mapkeeper.s3`.
//!
//! What must hold: no key reaches anything outside the directory. Keys are checked, and the kernel is asked to
//! resolve them beneath the directory only. A link is followed to a file inside; a link to a directory is not
//! served, since it could be a loop. Files being uploaded have a reserved name and are no keys.
//!
//! Different from S3, because a file system is: a key cannot have empty segments, nor be a file and a directory at
//! once, and directories stay when the last key in them is deleted.

mod walk;

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rustix::fs::{self, AtFlags, Mode, OFlags, ResolveFlags, XattrFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::condition::WriteCondition;
use super::error::StoreError;
use super::file::{OpenFile, last_modified, tag};
use super::listing::Cursor;
use super::object::{Attributes, Checksums, Content, EntityTag, FRAME_BYTES, Object};

/// Beginning of the names of files that are being uploaded.
const UPLOADING: &str = ".mapkeeper-s3-";
const ATTRIBUTES: &str = "user.mapkeeper.s3";
const ATTRIBUTES_LIMIT_BYTES: usize = 64 * 1024;

#[derive(Debug)]
pub(super) struct DirectoryBucket {
    root: OwnedFd,
    /// Held from the check of a condition to the write that depends on it.
    writing: Mutex<()>,
    uploads: AtomicU64,
}

/// The extended attribute of a file.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    #[serde(flatten)]
    attributes: Attributes,
    /// The version that the checksums were made of: another program may have changed the file since.
    #[serde(default)]
    tag: String,
}

/// A key as a place in the directory.
struct Place<'k> {
    /// Directories on the way, none empty.
    parents: Vec<&'k str>,
    name: &'k str,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    Directory,
}

impl<'k> Place<'k> {
    fn of(key: &'k str) -> Result<Self, StoreError> {
        let refuse = |reason| Err(StoreError::NotAFile { key: key.to_owned(), reason });
        let (path, kind) = match key.strip_suffix('/') {
            Some(path) => (path, Kind::Directory),
            None => (key, Kind::File),
        };
        let mut parents: Vec<&str> = path.split('/').collect();
        for segment in &parents {
            match *segment {
                "" => return refuse("a segment is empty"),
                "." | ".." => return refuse("a segment is \".\" or \"..\""),
                _ if segment.contains('\0') => return refuse("a segment has a zero byte"),
                _ if segment.len() > 255 => return refuse("a segment is longer than 255 bytes"),
                _ if segment.starts_with(UPLOADING) => return refuse("a segment has a reserved name"),
                _ => {}
            }
        }
        let name = parents.pop().expect("a split has at least one piece");
        Ok(Self { parents, name, kind })
    }

    fn parent(&self) -> String {
        if self.parents.is_empty() { ".".to_owned() } else { self.parents.join("/") }
    }
}

fn file_error(action: &'static str, key: &str) -> impl Fn(Errno) -> StoreError {
    move |source| StoreError::File { action, key: key.to_owned(), source: source.into() }
}

impl DirectoryBucket {
    pub fn open(path: &Path) -> io::Result<Self> {
        let root = fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { root, writing: Mutex::new(()), uploads: AtomicU64::new(0) })
    }

    pub fn cursor(&self) -> impl Cursor {
        walk::Walk::new(self)
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
        let opened =
            self.beneath(&place.parent(), OFlags::PATH | OFlags::DIRECTORY, LINKS_NOWHERE).and_then(|_| {
                let path = key.trim_end_matches('/');
                match place.kind {
                    Kind::Directory => self.beneath(path, OFlags::RDONLY | OFlags::DIRECTORY, LINKS_NOWHERE),
                    // To open a pipe or a terminal that somebody left here must neither wait nor take it over.
                    Kind::File => {
                        self.beneath(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY, LINKS_INSIDE)
                    }
                }
            });
        let file = match opened {
            Ok(fd) => File::from(fd),
            Err(errno) if nothing_there(errno) => return Ok(None),
            Err(errno) => return Err(file_error("open", key)(errno)),
        };
        let found = file.metadata().map_err(|source| StoreError::File {
            action: "examine",
            key: key.to_owned(),
            source,
        })?;
        let right_kind = match place.kind {
            Kind::File => found.is_file(),
            Kind::Directory => found.is_dir(),
        };
        Ok(right_kind.then_some(file))
    }

    fn beneath(&self, path: &str, flags: OFlags, resolve: ResolveFlags) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlags::CLOEXEC;
        loop {
            // EAGAIN: something was renamed while the kernel looked; the answer could have been wrong.
            match fs::openat2(&self.root, path, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                answer => return answer,
            }
        }
    }

    fn object(&self, key: &str, place: &Place<'_>, file: File) -> Result<Object, StoreError> {
        let failed =
            |action| move |source: io::Error| StoreError::File { action, key: key.to_owned(), source };
        let stored = stored(&file).map_err(failed("read the attributes of"))?;
        let (content, tag, modified) = match place.kind {
            Kind::File => {
                let open = OpenFile::new(file).map_err(failed("examine"))?;
                let (tag, modified) = (open.tag(), open.modified());
                (Content::File(Arc::new(open)), tag, modified)
            }
            Kind::Directory => {
                let found = file.metadata().map_err(failed("examine"))?;
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
                self.store(key, &directory, attributes)?;
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
        let mut directory = self.beneath(".", flags, LINKS_NOWHERE).map_err(file_error("open", key))?;
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
        copy(content, &upload.file).map_err(|source| StoreError::File {
            action: "write",
            key: key.to_owned(),
            source,
        })?;
        self.store(key, &upload.file, attributes)?;
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
        let found = file.metadata().map_err(|source| StoreError::File {
            action: "examine",
            key: key.to_owned(),
            source,
        })?;
        if tag(&found) != *of {
            attributes.checksums = Checksums::default();
        }
        self.store(key, &file, &attributes)?;
        self.object(key, &place, file).map(Arc::new)
    }

    fn store(&self, key: &str, file: &File, attributes: &Attributes) -> Result<(), StoreError> {
        let failed = |source: io::Error| StoreError::File {
            action: "keep the attributes of",
            key: key.to_owned(),
            source,
        };
        if *attributes == Attributes::default() {
            return match fs::fremovexattr(file, ATTRIBUTES) {
                Ok(()) | Err(Errno::NODATA | Errno::NOTSUP) => Ok(()),
                Err(errno) => Err(failed(errno.into())),
            };
        }
        let found = file.metadata().map_err(failed)?;
        let stored = Stored { attributes: attributes.clone(), tag: tag(&found).to_string() };
        let text = serde_json::to_vec(&stored).map_err(|error| failed(error.into()))?;
        fs::fsetxattr(file, ATTRIBUTES, &text, XattrFlags::empty()).map_err(|errno| failed(errno.into()))
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

const LINKS_NOWHERE: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS);
const LINKS_INSIDE: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS);

/// A file that is not yet under its name. Dropped, it is gone.
struct Upload<'d> {
    directory: &'d OwnedFd,
    name: String,
    file: File,
}

impl<'d> Upload<'d> {
    fn create(directory: &'d OwnedFd, number: u64) -> Result<Self, Errno> {
        let name = format!("{UPLOADING}{}-{number}", std::process::id());
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let fd = fs::openat(directory, &name, flags, Mode::from_raw_mode(0o644))?;
        Ok(Self { directory, name, file: File::from(fd) })
    }

    fn move_to(self, name: &str) -> Result<File, Errno> {
        fs::renameat(self.directory, &self.name, self.directory, name)?;
        self.file.try_clone().map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
    }
}

impl Drop for Upload<'_> {
    fn drop(&mut self) {
        // After `move_to` there is nothing of this name; before it, what is left behind is no key and disturbs nobody.
        let _ = fs::unlinkat(self.directory, &self.name, AtFlags::empty());
    }
}

fn copy(content: &Content, mut to: &File) -> io::Result<()> {
    if let Content::File(from) = content {
        let mut offset = 0;
        while offset < from.size() {
            let piece = from.read(offset, FRAME_BYTES.min(from.size() - offset))?;
            offset += piece.len() as u64;
            to.write_all(&piece)?;
        }
        return Ok(());
    }
    let mut offset = 0;
    loop {
        let piece = content.piece(offset, FRAME_BYTES);
        if piece.is_empty() {
            return Ok(());
        }
        offset += piece.len() as u64;
        to.write_all(&piece)?;
    }
}

fn stored(file: impl AsFd) -> io::Result<Stored> {
    let mut text = vec![0; ATTRIBUTES_LIMIT_BYTES];
    match fs::fgetxattr(file, ATTRIBUTES, &mut text) {
        Ok(length) => {
            text.truncate(length);
            serde_json::from_slice(&text).map_err(io::Error::from)
        }
        Err(Errno::NODATA | Errno::NOTSUP) => {
            Ok(Stored { attributes: Attributes::default(), tag: String::new() })
        }
        Err(errno) => Err(errno.into()),
    }
}

/// The content type of a file that nobody gave one.
fn content_type(key: &str) -> &'static str {
    if key.ends_with('/') {
        return "application/x-directory";
    }
    let extension = key.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
    match extension.as_deref() {
        Some("map" | "txt" | "sym" | "prj") => "text/plain",
        Some("csv") => "text/csv",
        Some("html") => "text/html",
        Some("xml" | "sld" | "gml" | "vrt") => "application/xml",
        Some("json") => "application/json",
        Some("geojson") => "application/geo+json",
        Some("kml") => "application/vnd.google-earth.kml+xml",
        Some("gpkg") => "application/geopackage+sqlite3",
        Some("tif" | "tiff") => "image/tiff",
        Some("png") => "image/png",
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("svg") => "image/svg+xml",
        _ => "binary/octet-stream",
    }
}

#[cfg(test)]
mod tests;
