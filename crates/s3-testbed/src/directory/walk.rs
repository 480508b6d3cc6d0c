//! A directory tree as keys in byte order.
//!
//! Sorted with a `/` behind the names of directories, the entries of a directory are in the order of their keys, and
//! everything below one entry comes before the next entry: a walk in depth is a walk in byte order. A directory is
//! read only if a key in it can be wanted.

use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::OwnedFd;

use rustix::fs::{Dir, FileType, OFlags};
use rustix::io::Errno;

use super::beneath::{LINKS_INSIDE, LINKS_NOWHERE, Root, UPLOADING, file_error};
use crate::entity_tag::EntityTag;
use crate::error::StoreError;
use crate::file::{last_modified, tag};
use crate::listing::{Cursor, Entry};

pub(super) struct Walk<'b> {
    root: &'b Root,
    /// The smallest key still wanted.
    from: String,
    /// The directories that the walk is in, outermost first.
    levels: Vec<Level>,
    /// The directory to enter next.
    entering: Option<String>,
}

struct Level {
    /// The key of the directory; empty for the bucket itself.
    key: String,
    /// Names not yet visited, in the order of their keys; those of directories end in `/`.
    names: VecDeque<String>,
}

impl<'b> Walk<'b> {
    pub fn new(root: &'b Root) -> Self {
        Self { root, from: String::new(), levels: Vec::new(), entering: Some(String::new()) }
    }

    /// Whether anything in the directory `key` can be wanted.
    fn reaches_into(&self, key: &str) -> bool {
        self.from.as_str() <= key || self.from.starts_with(key)
    }

    fn enter(&mut self, key: String) -> Result<(), StoreError> {
        let path = if key.is_empty() { "." } else { key.trim_end_matches('/') };
        let directory = match self.root.beneath(path, OFlags::RDONLY | OFlags::DIRECTORY, LINKS_NOWHERE) {
            Ok(directory) => directory,
            // Deleted or replaced since its name was read.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
            Err(errno) => return Err(file_error("list", &key)(errno)),
        };
        let mut names = self.names(&key, &directory).map_err(file_error("list", &key))?;
        names.sort_unstable();
        self.levels.push(Level { key, names: names.into() });
        Ok(())
    }

    fn names(&self, key: &str, directory: &OwnedFd) -> Result<Vec<String>, Errno> {
        let mut names = Vec::new();
        for entry in Dir::read_from(directory)? {
            let entry = entry?;
            // A name that is not UTF-8 cannot be a key.
            let Ok(name) = entry.file_name().to_str() else { continue };
            if matches!(name, "." | "..") || name.starts_with(UPLOADING) {
                continue;
            }
            match self.kind(key, name, entry.file_type()) {
                Some(FileType::Directory) => names.push(format!("{name}/")),
                Some(FileType::RegularFile) => names.push(name.to_owned()),
                _ => {}
            }
        }
        Ok(names)
    }

    /// What `name` is: for a link, what it leads to if that is a file inside the bucket.
    fn kind(&self, key: &str, name: &str, listed: FileType) -> Option<FileType> {
        match listed {
            FileType::Symlink | FileType::Unknown => {
                let file = self.look(&format!("{key}{name}"))?;
                let found = file.metadata().ok()?;
                if found.is_file() {
                    Some(FileType::RegularFile)
                } else if found.is_dir() && listed == FileType::Unknown {
                    Some(FileType::Directory)
                } else {
                    None
                }
            }
            kind => Some(kind),
        }
    }

    /// The file under `key`, opened only to be examined. `None`: not there, or not to be followed.
    fn look(&self, key: &str) -> Option<File> {
        self.root.beneath(key.trim_end_matches('/'), OFlags::PATH, LINKS_INSIDE).ok().map(File::from)
    }

    /// `None` if the file is gone since its name was read.
    fn entry(&self, key: String) -> Option<Entry> {
        let found = self.look(&key)?.metadata().ok()?;
        let (size, tag) = match (found.is_file(), found.is_dir()) {
            (true, _) => (found.len(), tag(&found)),
            (_, true) => (0, EntityTag::of(b"")),
            _ => return None,
        };
        // The storage class is in the attributes of the file: a list would have to open every one for it.
        Some(Entry { key, size, tag, modified: last_modified(&found), storage_class: None })
    }
}

impl Cursor for Walk<'_> {
    fn next(&mut self) -> Result<Option<Entry>, StoreError> {
        loop {
            if let Some(key) = self.entering.take().filter(|key| self.reaches_into(key)) {
                self.enter(key)?;
            }
            let Some(level) = self.levels.last_mut() else { return Ok(None) };
            let Some(name) = level.names.pop_front() else {
                self.levels.pop();
                continue;
            };
            let key = format!("{}{name}", level.key);
            if name.ends_with('/') && self.reaches_into(&key) {
                self.entering = Some(key.clone());
            }
            if key < self.from {
                continue;
            }
            if let Some(entry) = self.entry(key) {
                return Ok(Some(entry));
            }
        }
    }

    fn skip_to(&mut self, key: String) {
        self.from = key;
    }
}
