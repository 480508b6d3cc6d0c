//! One number of the table, and what is known of the file or directory that it stands for.

use std::sync::Arc;

use tokio::time::Instant;

use crate::attr::{Attributes, Kind, Timestamp};
use crate::store::{ETag, Version};
use crate::xattr::Xattrs;

/// The root directory's number, fixed by the FUSE protocol.
pub const ROOT: u64 = 1;
/// What a node takes beside its path and its extended attributes, in bytes: measured, with the maps' own overhead.
pub(super) const NODE_BYTES: u64 = 640;

/// What is known of one file or directory. `C` reads its bytes: whatever does that is above the table.
pub struct Node<C> {
    /// Path from the root of the mount without a leading or trailing slash; the root is empty.
    pub path: Arc<str>,
    /// How many times the kernel has been told this number and has not yet forgotten it.
    pub(super) lookups: u64,
    pub facts: Facts,
    /// When the store was last asked about this name, with this answer. `None`: ask before believing.
    pub checked: Option<Instant>,
    /// Where the bytes come from; made at the first read.
    pub content: Option<Arc<C>>,
    /// Of a directory: the file in it, at whatever depth, that was found last.
    pub witness: Option<u64>,
    /// Being changed from here: it is what we say it is, whatever the store answers meanwhile.
    pub is_local: bool,
    pub(super) place: Place,
    /// Which entry of its queue counts: older ones are void.
    pub(super) mark: u64,
    /// Bytes that it is counted with.
    pub(super) weight: u64,
    /// Checksum of what was written down of it for a successor; 0 if nothing was.
    pub(super) noted: u32,
}

/// The queue that a node is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Not known to the kernel.
    Idle,
    /// Known to the kernel. Directories are apart, because dropping a name that leads to somebody's working
    /// directory is felt.
    File,
    Directory,
    /// In none: the root, and whatever is about to enter.
    Nowhere,
}

impl<C> Node<C> {
    pub(super) fn new(path: Arc<str>, facts: Facts) -> Node<C> {
        Node {
            path,
            lookups: 0,
            facts,
            checked: None,
            content: None,
            witness: None,
            is_local: false,
            place: Place::Nowhere,
            mark: 0,
            weight: 0,
            noted: 0,
        }
    }

    pub(super) fn right_place(&self) -> Place {
        match (self.lookups, self.facts.is_directory()) {
            (0, _) => Place::Idle,
            (_, true) => Place::Directory,
            (_, false) => Place::File,
        }
    }

    pub(super) fn weighed(&self) -> u64 {
        let target = self.facts.target.as_ref().map_or(0, |target| target.len());
        NODE_BYTES + self.path.len() as u64 + target as u64 + self.facts.xattrs.bytes()
    }
}

/// What the store said of a name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// Absent for a directory that is a prefix or a marker: those have no content.
    pub version: Option<Version>,
    pub size: u64,
    /// The kind that the headers gave when they were seen last. A listing does not tell.
    pub kind: Option<Kind>,
    /// Absent until the headers have been seen: a listing does not show them.
    pub attributes: Option<Attributes>,
    /// As current as `attributes`.
    pub xattrs: Xattrs,
    /// Where a symbolic link leads if its headers say it.
    pub target: Option<Arc<[u8]>>,
    /// Whether the write was old enough when it was last looked at that a later one, which changes nothing but
    /// headers, would show another time.
    pub settled: bool,
    /// Of an object: when it was last seen that there is no directory of its name.
    pub alone: Option<Instant>,
    /// Of a directory: the marker whose headers `attributes` are. Absent without a marker.
    pub marker: Option<Version>,
    /// Of a directory: when its marker was last asked about. A file found below proves the directory, not these.
    pub marker_checked: Option<Instant>,
    /// Of a directory: when something in it was changed from here, which its marker does not say.
    pub changed: Option<Timestamp>,
}

impl Facts {
    /// A directory of which only the existence is known.
    pub fn directory() -> Facts {
        Facts { kind: Some(Kind::Directory), ..Facts::default() }
    }

    /// A directory whose marker, or the absence of one, was seen at `checked`.
    pub fn known_directory(
        attributes: Attributes,
        xattrs: Xattrs,
        marker: Option<(Version, bool)>,
        checked: Instant,
    ) -> Facts {
        let settled = marker.as_ref().is_none_or(|(_, settled)| *settled);
        Facts {
            attributes: Some(attributes),
            xattrs,
            settled,
            marker: marker.map(|(version, _)| version),
            marker_checked: Some(checked),
            ..Facts::directory()
        }
    }

    /// An object as a listing shows it.
    pub fn listed(version: Version, size: u64, settled: bool) -> Facts {
        Facts { version: Some(version), size, settled, ..Facts::default() }
    }

    /// Notes that something in the directory was changed from here.
    pub fn change_at(&mut self, time: Timestamp) {
        if let Some(attributes) = &mut self.attributes {
            (attributes.mtime, attributes.ctime) = (time, time);
        }
        self.changed = Some(time);
    }

    pub fn is_directory(&self) -> bool {
        self.kind == Some(Kind::Directory)
    }

    /// Whether both can stand under one number: the same content, and nothing that makes another file of it.
    pub(super) fn is_same_file(&self, newer: &Facts) -> bool {
        fn etag(facts: &Facts) -> Option<&ETag> {
            facts.version.as_ref().map(|version| &version.etag)
        }
        if self.is_directory() && newer.is_directory() {
            return true;
        }
        let same_content = etag(self).is_some() && etag(self) == etag(newer) && self.size == newer.size;
        // A listing does not tell the kind: the same content stays what it is until its headers are seen.
        let same_kind = self.kind == newer.kind && self.target == newer.target;
        same_content && (newer.attributes.is_none() || self.kind.is_none() || same_kind)
    }

    /// Takes over what a newer answer says about the same file.
    pub(super) fn update(&mut self, newer: Facts) {
        if newer.version.is_none() {
            return self.update_directory(newer);
        }
        let write = |facts: &Facts| facts.version.as_ref().map(|version| version.last_modified);
        let same_write = write(self) == write(&newer);
        let earlier = std::mem::replace(self, newer);
        self.kind = self.kind.or(earlier.kind);
        self.alone = self.alone.max(earlier.alone);
        if self.attributes.is_none() {
            self.target = earlier.target;
            // A listing of the same write: the headers seen earlier still hold.
            if same_write && earlier.settled {
                self.attributes = earlier.attributes;
                self.xattrs = earlier.xattrs;
            }
        }
        if same_write
            && let Some(version) = &mut self.version
            && version.version_id.is_none()
        {
            version.version_id = earlier.version.and_then(|version| version.version_id);
        }
    }

    /// That it is a directory says nothing against what its marker said.
    fn update_directory(&mut self, newer: Facts) {
        let says_more = newer.attributes.is_some() && newer.marker_checked >= self.marker_checked;
        if says_more || self.version.is_some() {
            let earlier = std::mem::replace(self, newer);
            if let Some(changed) = earlier.changed.filter(|_| self.has_marker_of(&earlier)) {
                self.change_at(changed);
            }
        }
    }

    /// Whether the marker, or the absence of one, is what it was.
    fn has_marker_of(&self, earlier: &Facts) -> bool {
        match (&earlier.marker, &self.marker) {
            (None, None) => true,
            // Of what was written from here the store's time is not known.
            (Some(earlier), Some(now)) => {
                let is_known = earlier.last_modified != 0;
                earlier.etag == now.etag && (!is_known || earlier.last_modified == now.last_modified)
            }
            _ => false,
        }
    }
}

/// A name that the kernel is to be asked to drop: its node is in use and one of too many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Eviction {
    pub parent: u64,
    pub name: Box<str>,
}
