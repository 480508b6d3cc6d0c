//! Keys as places in a directory: which can be one, and of what kind.

use super::beneath::UPLOADING;
use crate::error::StoreError;

/// A key as a place in the directory.
pub(super) struct Place<'k> {
    /// Directories on the way, none empty.
    pub parents: Vec<&'k str>,
    pub name: &'k str,
    pub kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Directory,
}

impl<'k> Place<'k> {
    pub fn of(key: &'k str) -> Result<Self, StoreError> {
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

    pub fn parent(&self) -> String {
        if self.parents.is_empty() { ".".to_owned() } else { self.parents.join("/") }
    }
}
