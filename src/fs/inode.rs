//! The inode table: which number means which version of which name.
//!
//! A number stands for one content for as long as the kernel may use it: when S3 holds another version of an
//! object, the name gets a *new* number, as if a new file had been renamed over it. Pages that the kernel caches
//! under a number are therefore never wrong, an open file never mixes versions, and no page ever needs to be
//! thrown away because something changed. Headers that change while the content stays keep the number.
//!
//! ```text
//!            listed / found                 lookup replied                    forgotten by the kernel
//!  (nothing) ---------------> idle node  ------------------> node in use  ---------------------------> idle node
//!                                |                              |  name gets another version
//!                   table full,  |                              v
//!                   oldest first v                           node in use, without its name
//!                            (nothing) <----- forgotten --------'
//! ```
//!
//! What must hold: a node the kernel knows (`lookups > 0`) is never dropped; idle nodes are bounded; every name
//! leads to the node with the newest version known.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use tokio::time::Instant;

use super::attr::{Attributes, Kind};
use super::read::Content;
use super::store::{ETag, Version};

/// The root directory's number, fixed by the FUSE protocol.
pub const ROOT: u64 = 1;

/// What is known of one file or directory.
pub struct Node {
    /// Path from the root of the mount without a leading or trailing slash; the root is empty.
    pub path: Arc<str>,
    /// How many times the kernel has been told this number and has not yet forgotten it.
    lookups: u64,
    pub facts: Facts,
    /// When the store was last asked about this name, with this answer. `None`: ask before believing.
    pub checked: Option<Instant>,
    /// Where the bytes come from; made at the first read.
    pub content: Option<Arc<Content>>,
    /// Which entry of the idle queue counts: older ones are void.
    idle: u64,
}

/// What the store said of a name.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// Absent for a directory that is a prefix or a marker: those have no content.
    pub version: Option<Version>,
    pub size: u64,
    /// Absent until the headers have been seen: a listing does not show them.
    pub attributes: Option<Attributes>,
    pub directory: bool,
    /// Whether the write was old enough when it was last looked at that a later one, which changes nothing but
    /// headers, would show another time.
    pub settled: bool,
}

impl Facts {
    pub fn directory(attributes: Option<Attributes>) -> Facts {
        Facts { version: None, size: 0, attributes, directory: true, settled: false }
    }

    pub fn object(version: Version, size: u64, attributes: Option<Attributes>, settled: bool) -> Facts {
        let directory = attributes.as_ref().is_some_and(|known| known.kind == Kind::Directory);
        Facts { version: Some(version), size, attributes, directory, settled }
    }

    /// Whether both are the same content, so that one number can stand for both.
    fn same_content(&self, other: &Facts) -> bool {
        fn etag(facts: &Facts) -> Option<&ETag> {
            facts.version.as_ref().map(|version| &version.etag)
        }
        match (self.directory, other.directory) {
            (true, true) => true,
            // A listing cannot tell an empty object that is a directory: the same version stays what it is.
            _ => etag(self).is_some() && etag(self) == etag(other) && self.size == other.size,
        }
    }

    /// Takes over what a newer answer says about the same content.
    fn update(&mut self, newer: Facts) {
        let same_write = match (&self.version, &newer.version) {
            (Some(old), Some(new)) => old.last_modified == new.last_modified,
            (None, None) => true,
            _ => false,
        };
        let attributes = match newer.attributes {
            Some(attributes) => Some(attributes),
            // A listing of the same write: the headers seen earlier still hold.
            None if same_write && (self.settled || self.version.is_none()) => self.attributes.take(),
            None => None,
        };
        let version_id = self.version.take().and_then(|version| version.version_id);
        self.version = newer.version.map(|version| Version {
            version_id: version.version_id.or(if same_write { version_id } else { None }),
            ..version
        });
        self.directory = newer.directory || (same_write && self.directory);
        self.size = newer.size;
        self.settled = newer.settled;
        self.attributes = attributes;
    }
}

/// All nodes of a mount.
pub struct Table {
    nodes: HashMap<u64, Node>,
    names: HashMap<Arc<str>, u64>,
    next: u64,
    /// Nodes that the kernel does not know, oldest first, with the mark that makes an entry valid.
    idle: VecDeque<(u64, u64)>,
    idle_count: usize,
    idle_limit: usize,
    marks: u64,
}

impl Table {
    /// A table with the root in it; keeps at most `idle_limit` nodes that the kernel does not know.
    pub fn new(root: Attributes, idle_limit: usize) -> Table {
        let mut table = Table {
            nodes: HashMap::new(),
            names: HashMap::new(),
            next: ROOT + 1,
            idle: VecDeque::new(),
            idle_count: 0,
            idle_limit,
            marks: 0,
        };
        let path: Arc<str> = Arc::from("");
        let facts = Facts::directory(Some(root));
        table.names.insert(path.clone(), ROOT);
        let root = Node { path, lookups: 1, facts, checked: None, content: None, idle: 0 };
        table.nodes.insert(ROOT, root);
        table
    }

    pub fn node(&self, ino: u64) -> Option<&Node> {
        self.nodes.get(&ino)
    }

    pub fn node_mut(&mut self, ino: u64) -> Option<&mut Node> {
        self.nodes.get_mut(&ino)
    }

    /// The number that `path` leads to.
    pub fn find(&self, path: &str) -> Option<u64> {
        self.names.get(path).copied()
    }

    /// Records what the store, asked at `asked`, said of `path`, and answers the number that stands for it.
    pub fn record(&mut self, path: &str, facts: Facts, asked: Instant) -> u64 {
        if let Some(ino) = self.find(path) {
            let node = self.nodes.get_mut(&ino).expect("every name leads to a node");
            // The root is what is mounted; and an answer to an older question changes nothing.
            if ino == ROOT || node.checked.is_some_and(|checked| checked > asked) {
                return ino;
            }
            if node.facts.same_content(&facts) {
                node.facts.update(facts);
                node.checked = Some(asked);
                return ino;
            }
            self.unname(ino);
        }
        self.insert(Arc::from(path), facts, asked)
    }

    /// Records that nothing has the name `path`.
    pub fn record_absent(&mut self, path: &str, asked: Instant) {
        let Some(ino) = self.find(path) else { return };
        let newer = self.nodes.get(&ino).and_then(|node| node.checked).is_some_and(|checked| checked > asked);
        if ino != ROOT && !newer {
            self.unname(ino);
        }
    }

    /// Counts that the kernel is told `ino` once more. Call before the reply leaves.
    pub fn remember(&mut self, ino: u64) {
        if let Some(node) = self.nodes.get_mut(&ino) {
            if node.lookups == 0 {
                self.idle_count -= 1;
                node.idle = 0;
            }
            node.lookups += 1;
        }
    }

    /// Counts that the kernel has dropped `count` of its references.
    pub fn forget(&mut self, ino: u64, count: u64) {
        let Some(node) = self.nodes.get_mut(&ino) else { return };
        if ino == ROOT || node.lookups == 0 {
            return;
        }
        node.lookups = node.lookups.saturating_sub(count);
        if node.lookups > 0 {
            return;
        }
        node.content = None;
        if self.names.get(&node.path) == Some(&ino) {
            self.make_idle(ino);
        } else {
            self.nodes.remove(&ino);
        }
    }

    /// How many nodes the kernel holds a reference to, the root included.
    pub fn in_use(&self) -> usize {
        self.nodes.len() - self.idle_count
    }

    fn insert(&mut self, path: Arc<str>, facts: Facts, asked: Instant) -> u64 {
        let ino = self.next;
        self.next += 1;
        let node =
            Node { path: path.clone(), lookups: 0, facts, checked: Some(asked), content: None, idle: 0 };
        self.names.insert(path, ino);
        self.nodes.insert(ino, node);
        self.make_idle(ino);
        ino
    }

    /// Takes the name from a node: another version has it now, or none.
    fn unname(&mut self, ino: u64) {
        let Some(node) = self.nodes.get(&ino) else { return };
        if self.names.get(&node.path) == Some(&ino) {
            self.names.remove(&node.path);
        }
        if node.lookups == 0 {
            self.nodes.remove(&ino);
            self.idle_count -= 1;
        }
    }

    fn make_idle(&mut self, ino: u64) {
        self.marks += 1;
        if let Some(node) = self.nodes.get_mut(&ino) {
            node.idle = self.marks;
            self.idle.push_back((ino, self.marks));
            self.idle_count += 1;
        }
        while self.idle_count > self.idle_limit || self.idle.len() > 2 * self.idle_limit + 16 {
            let Some((oldest, mark)) = self.idle.pop_front() else { return };
            if self.nodes.get(&oldest).is_some_and(|node| node.idle == mark && node.lookups == 0) {
                if self.idle_count > self.idle_limit {
                    self.unname(oldest);
                } else {
                    self.idle.push_back((oldest, mark));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::attr::Defaults;

    const DEFAULTS: Defaults =
        Defaults { uid: 0, gid: 0, file_permissions: 0o644, directory_permissions: 0o755 };

    fn table(idle_limit: usize) -> Table {
        Table::new(Attributes::implicit_directory(&DEFAULTS), idle_limit)
    }

    fn object(etag: &str, last_modified: i64) -> Facts {
        let version = Version { etag: ETag(etag.into()), last_modified, version_id: None };
        Facts::object(version, 3, None, true)
    }

    fn with_headers(facts: Facts) -> Facts {
        let attributes = Attributes { kind: Kind::File, ..Attributes::implicit_directory(&DEFAULTS) };
        Facts { attributes: Some(attributes), ..facts }
    }

    #[test]
    fn the_same_version_keeps_its_number() {
        let mut table = table(10);
        let now = Instant::now();
        let first = table.record("a", object("1", 5), now);
        assert_eq!(table.record("a", object("1", 5), now), first);
    }

    #[test]
    fn another_version_gets_another_number_and_the_old_one_lives_on() {
        let mut table = table(10);
        let now = Instant::now();
        let old = table.record("a", object("1", 5), now);
        table.remember(old);
        let new = table.record("a", object("2", 6), now);
        assert_ne!(new, old);
        assert_eq!(table.find("a"), Some(new));
        assert!(table.node(old).is_some());
        table.forget(old, 1);
        assert!(table.node(old).is_none());
    }

    #[test]
    fn an_answer_to_an_older_question_changes_nothing() {
        let mut table = table(10);
        let early = Instant::now();
        let late = early + std::time::Duration::from_secs(1);
        let new = table.record("a", object("2", 6), late);
        assert_eq!(table.record("a", object("1", 5), early), new);
        table.record_absent("a", early);
        assert_eq!(table.find("a"), Some(new));
        table.record_absent("a", late);
        assert_eq!(table.find("a"), None);
    }

    #[test]
    fn headers_outlive_a_listing_of_the_same_write_only() {
        let mut table = table(10);
        let now = Instant::now();
        let ino = table.record("a", with_headers(object("1", 5)), now);
        table.record("a", object("1", 5), now);
        assert!(table.node(ino).expect("recorded").facts.attributes.is_some());
        assert_eq!(table.record("a", object("1", 6), now), ino);
        assert!(table.node(ino).expect("recorded").facts.attributes.is_none());
    }

    #[test]
    fn headers_of_a_write_just_made_do_not_outlive_a_listing() {
        let mut table = table(10);
        let now = Instant::now();
        let just_made = Facts { settled: false, ..with_headers(object("1", 5)) };
        let ino = table.record("a", just_made, now);
        table.record("a", object("1", 5), now);
        assert!(table.node(ino).expect("recorded").facts.attributes.is_none());
    }

    #[test]
    fn what_the_kernel_knows_is_never_dropped_and_the_rest_is_bounded() {
        let mut table = table(3);
        let now = Instant::now();
        let held = table.record("held", object("1", 5), now);
        table.remember(held);
        for number in 0..1000 {
            table.record(&format!("n{number}"), object("1", 5), now);
        }
        assert!(table.node(held).is_some());
        assert_eq!(table.nodes.len(), 2 + 3);
        assert_eq!(table.names.len(), 2 + 3);
        assert!(table.idle.len() <= 2 * 3 + 16);
        assert_eq!(table.find("n0"), None);
        assert!(table.find("n999").is_some());
    }

    #[test]
    fn a_node_forgotten_and_remembered_again_and_again_keeps_the_queue_small() {
        let mut table = table(3);
        let ino = table.record("a", object("1", 5), Instant::now());
        for _ in 0..1000 {
            table.remember(ino);
            table.forget(ino, 1);
        }
        assert!(table.node(ino).is_some());
        assert!(table.idle.len() <= 2 * 3 + 16);
        assert_eq!(table.in_use(), 1);
    }

    #[test]
    fn the_root_cannot_be_forgotten_or_replaced() {
        let mut table = table(3);
        table.forget(ROOT, 1_000);
        table.record("", object("1", 5), Instant::now());
        table.record_absent("", Instant::now());
        assert_eq!(table.find(""), Some(ROOT));
        assert!(table.node(ROOT).expect("the root stays").facts.directory);
    }

    #[test]
    fn a_directory_replaced_by_an_object_gets_another_number() {
        let mut table = table(3);
        let now = Instant::now();
        let directory = table.record("d", Facts::directory(None), now);
        assert_eq!(table.record("d", Facts::directory(None), now), directory);
        assert_ne!(table.record("d", object("1", 5), now), directory);
    }
}
