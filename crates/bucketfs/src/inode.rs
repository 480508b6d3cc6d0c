//! The inode table: which number means which version of which name.
//!
//! A number stands for one content for as long as the kernel may use it: when S3 holds another version of an
//! object, the name gets a *new* number, as if a new file had been renamed over it. Pages that the kernel caches
//! under a number are therefore never wrong, an open file never mixes versions, and no page ever needs to be
//! thrown away because something changed. Headers that change while the content stays keep the number, unless
//! they make another kind of file of it.
//!
//! ```text
//!            listed / found                 lookup replied                    forgotten by the kernel
//!  (nothing) ---------------> idle node  ------------------> node in use  ---------------------------> idle node
//!                                |                              |  name gets another version
//!              too many bytes,   |                              v
//!                 oldest first   v                           node in use, without its name
//!                            (nothing) <----- forgotten --------'
//! ```
//!
//! What must hold: a node the kernel knows (`lookups > 0`) is never dropped; idle nodes take at most half of the
//! budget, and of those in use the oldest are named (`eviction`) as soon as they take more than the other half;
//! every name leads to the node with the newest version known.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use tokio::time::Instant;

use super::attr::{Attributes, Kind};
use super::journal::Journal;
use super::read::Content;
use super::store::{ETag, Version};
use super::xattr::Xattrs;

mod local;
mod queue;
mod saved;

use queue::Queue;

/// The root directory's number, fixed by the FUSE protocol.
pub const ROOT: u64 = 1;
/// What a node takes beside its path and its extended attributes, in bytes: measured, with the maps' own overhead.
const NODE_BYTES: u64 = 640;

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
    /// Of a directory: the file in it, at whatever depth, that was found last.
    pub witness: Option<u64>,
    /// Being changed from here: it is what we say it is, whatever the store answers meanwhile.
    pub is_local: bool,
    place: Place,
    /// Which entry of its queue counts: older ones are void.
    mark: u64,
    /// Bytes that it is counted with.
    weight: u64,
    /// Checksum of what was written down of it for a successor; 0 if nothing was.
    noted: u32,
}

/// The queue that a node is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Not known to the kernel.
    Idle,
    /// Known to the kernel. Directories are apart, because dropping a name that leads to somebody's working
    /// directory is felt.
    File,
    Directory,
    /// In none: the root, and whatever is about to enter.
    Nowhere,
}

impl Node {
    fn new(path: Arc<str>, facts: Facts) -> Node {
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

    fn right_place(&self) -> Place {
        match (self.lookups, self.facts.is_directory()) {
            (0, _) => Place::Idle,
            (_, true) => Place::Directory,
            (_, false) => Place::File,
        }
    }

    fn weighed(&self) -> u64 {
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

    pub fn is_directory(&self) -> bool {
        self.kind == Some(Kind::Directory)
    }

    /// Whether both can stand under one number: the same content, and nothing that makes another file of it.
    fn is_same_file(&self, newer: &Facts) -> bool {
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
    fn update(&mut self, newer: Facts) {
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
            *self = newer;
        }
    }
}

/// A name that the kernel is to be asked to drop: its node is in use and one of too many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Eviction {
    pub parent: u64,
    pub name: Box<str>,
}

/// All nodes of a mount.
pub struct Table {
    nodes: HashMap<u64, Box<Node>>,
    names: HashMap<Arc<str>, u64>,
    next: u64,
    /// By [`Place`]; those of nodes in use are in the order of when the kernel was last told.
    queues: [Queue; 3],
    budget_bytes: u64,
    marks: u64,
    /// Names made here that the store does not have yet.
    unsent: BTreeSet<Arc<str>>,
    /// Names that were taken away here, and when: an answer to an older question does not bring them back.
    tombstones: HashMap<Arc<str>, Instant>,
    /// Where a successor finds what the kernel was told.
    journal: Option<Arc<Journal>>,
}

impl Table {
    /// A table with the root in it, for nodes of `budget_bytes` in all.
    pub fn new(root: Attributes, budget_bytes: u64) -> Table {
        let mut table = Table {
            nodes: HashMap::new(),
            names: HashMap::new(),
            next: ROOT + 1,
            queues: Default::default(),
            budget_bytes,
            marks: 0,
            unsent: BTreeSet::new(),
            tombstones: HashMap::new(),
            journal: None,
        };
        let path: Arc<str> = Arc::from("");
        let facts = Facts { attributes: Some(root), ..Facts::directory() };
        table.names.insert(path.clone(), ROOT);
        let root = Node { lookups: 1, ..Node::new(path, facts) };
        table.nodes.insert(ROOT, Box::new(root));
        table
    }

    pub fn node(&self, ino: u64) -> Option<&Node> {
        self.nodes.get(&ino).map(|node| &**node)
    }

    pub fn node_mut(&mut self, ino: u64) -> Option<&mut Node> {
        self.nodes.get_mut(&ino).map(|node| &mut **node)
    }

    /// The number that `path` leads to.
    pub fn find(&self, path: &str) -> Option<u64> {
        self.names.get(path).copied()
    }

    /// The node that `path` leads to.
    pub fn named(&self, path: &str) -> Option<(u64, &Node)> {
        let ino = self.find(path)?;
        Some((ino, self.node(ino)?))
    }

    /// Records what the store, asked at `asked`, said of `path`, and answers the number that stands for it.
    pub fn record(&mut self, path: &str, facts: Facts, asked: Instant) -> u64 {
        if let Some(ino) = self.find(path) {
            let node = self.nodes.get_mut(&ino).expect("every name leads to a node");
            // The root is what is mounted; and an answer to an older question changes nothing.
            let is_newer = node.checked.is_none_or(|checked| checked <= asked);
            if node.is_local {
                return ino;
            }
            let are_directories = node.facts.is_directory() && facts.is_directory();
            if !are_directories && (ino == ROOT || !is_newer) {
                return ino;
            }
            if node.facts.is_same_file(&facts) {
                node.facts.update(facts);
                node.checked = node.checked.max(Some(asked));
                self.weigh(ino);
                return ino;
            }
            self.unname(ino);
        }
        let ino = self.insert(Arc::from(path), facts, asked);
        if self.tombstones.get(path).is_some_and(|gone| *gone >= asked) {
            // An answer from before it was taken away: to be asked again before it is believed.
            self.nodes.get_mut(&ino).expect("inserted above").checked = None;
        }
        ino
    }

    /// Records that nothing has the name `path`.
    pub fn record_absent(&mut self, path: &str, asked: Instant) {
        let Some((ino, node)) = self.named(path) else { return };
        if ino != ROOT && !node.is_local && node.checked.is_none_or(|checked| checked <= asked) {
            self.unname(ino);
        }
    }

    /// Records that `ino`, of which was asked at `asked`, is there: what it is in are directories.
    pub fn prove_above(&mut self, ino: u64, asked: Instant) {
        self.each_above(ino, |directory| directory.checked = directory.checked.max(Some(asked)));
    }

    /// Notes that `ino` was found by its name: if it is a file, it can prove what it is in.
    pub fn bear_witness(&mut self, ino: u64) {
        if self.node(ino).is_some_and(|node| !node.facts.is_directory()) {
            self.each_above(ino, |directory| directory.witness = Some(ino));
        }
    }

    /// All directories that `ino` is in, but for the root and those that an object of their name makes.
    fn each_above(&mut self, ino: u64, change: impl Fn(&mut Node)) {
        let Some(path) = self.node(ino).map(|node| node.path.clone()) else { return };
        let mut rest: &str = &path;
        while let Some((above, _)) = rest.rsplit_once('/') {
            rest = above;
            let directory = self.find(above).and_then(|ino| self.nodes.get_mut(&ino));
            if let Some(directory) = directory
                && directory.facts.is_directory()
                && directory.facts.version.is_none()
            {
                change(directory);
            }
        }
    }

    /// The path of the file by which the directory `ino` can be proved.
    pub fn witness(&self, ino: u64) -> Option<Arc<str>> {
        let witness = self.node(ino)?.witness?;
        let node = self.node(witness)?;
        let is_file = node.facts.version.is_some() && !node.facts.is_directory();
        (is_file && self.find(&node.path) == Some(witness)).then(|| node.path.clone())
    }

    /// Counts that the kernel is told `ino` once more. Call before the reply leaves.
    pub fn remember(&mut self, ino: u64) {
        self.leave_queue(ino);
        if let Some(node) = self.nodes.get_mut(&ino) {
            node.lookups += 1;
        }
        self.note_told(ino);
        self.enter_queue(ino);
    }

    /// Notes that a name in the directory `ino` was used.
    pub fn touch(&mut self, ino: u64) {
        self.leave_queue(ino);
        self.enter_queue(ino);
    }

    /// Counts that the kernel has dropped `count` of its references.
    pub fn forget(&mut self, ino: u64, count: u64) {
        let Some(node) = self.nodes.get(&ino) else { return };
        if ino == ROOT || node.lookups == 0 {
            return;
        }
        if node.lookups > count {
            self.nodes.get_mut(&ino).expect("found above").lookups -= count;
            self.note_forgotten(ino, count);
            return;
        }
        let is_named = self.names.get(&node.path) == Some(&ino);
        self.leave_queue(ino);
        let node = self.nodes.get_mut(&ino).expect("found above");
        (node.lookups, node.noted) = (0, 0);
        node.content = None;
        self.note_all_forgotten(ino);
        if is_named {
            self.enter_queue(ino);
        } else {
            self.nodes.remove(&ino);
        }
    }

    /// How many nodes the kernel holds a reference to, the root included.
    pub fn in_use(&self) -> usize {
        self.nodes.len() - self.queues[Place::Idle as usize].len()
    }

    /// Bytes that all nodes are counted with.
    pub fn bytes(&self) -> u64 {
        self.queues.iter().map(Queue::bytes).sum()
    }

    /// The name that was told to the kernel longest ago, if those in use are too many. It counts as told just
    /// now: should the kernel not be able to drop it, the others get their turn first.
    pub fn eviction(&mut self) -> Option<Eviction> {
        let [_, files, directories] = &self.queues;
        if files.bytes() + directories.bytes() <= self.budget_bytes / 2 {
            return None;
        }
        let ino = self.oldest(Place::File).or_else(|| self.oldest(Place::Directory))?;
        self.touch(ino);
        let node = self.node(ino)?;
        if self.find(&node.path) != Some(ino) {
            // Without its name it goes by itself, when the last who has it open closes it.
            return None;
        }
        let (above, name) = node.path.rsplit_once('/').unwrap_or(("", &node.path));
        Some(Eviction { parent: self.find(above)?, name: name.into() })
    }

    fn insert(&mut self, path: Arc<str>, facts: Facts, asked: Instant) -> u64 {
        let ino = self.next;
        self.next += 1;
        let node = Node { checked: Some(asked), ..Node::new(path.clone(), facts) };
        self.names.insert(path, ino);
        self.nodes.insert(ino, Box::new(node));
        self.enter_queue(ino);
        ino
    }

    /// Takes the name from a node: another version has it now, or none.
    fn unname(&mut self, ino: u64) {
        let Some(node) = self.nodes.get(&ino) else { return };
        if self.names.get(&node.path) == Some(&ino) {
            self.names.remove(&node.path);
        }
        if node.lookups == 0 {
            self.leave_queue(ino);
            self.nodes.remove(&ino);
        } else {
            self.note_facts(ino);
        }
    }

    /// Counts a node whose facts have changed with what it takes now.
    fn weigh(&mut self, ino: u64) {
        let is_counted_wrong =
            |node: &Node| node.weight != node.weighed() || node.place != node.right_place();
        if self.node(ino).is_some_and(is_counted_wrong) {
            self.leave_queue(ino);
            self.enter_queue(ino);
        }
        self.note_facts(ino);
    }

    fn enter_queue(&mut self, ino: u64) {
        let Some(node) = self.nodes.get_mut(&ino) else { return };
        if ino == ROOT || node.place != Place::Nowhere {
            return;
        }
        self.marks += 1;
        (node.place, node.mark, node.weight) = (node.right_place(), self.marks, node.weighed());
        let (place, mark, weight) = (node.place, node.mark, node.weight);
        let nodes = &self.nodes;
        self.queues[place as usize].enter(ino, mark, weight, |ino, mark| is_current(nodes, ino, mark));
        while place == Place::Idle && self.is_too_much_idle() {
            let Some(oldest) = self.oldest(Place::Idle) else { return };
            self.unname(oldest);
        }
    }

    fn leave_queue(&mut self, ino: u64) {
        let Some(node) = self.nodes.get_mut(&ino) else { return };
        if node.place != Place::Nowhere {
            self.queues[node.place as usize].leave(node.weight);
            (node.place, node.mark) = (Place::Nowhere, 0);
        }
    }

    fn oldest(&mut self, place: Place) -> Option<u64> {
        let nodes = &self.nodes;
        self.queues[place as usize].oldest(|ino, mark| is_current(nodes, ino, mark))
    }

    fn is_too_much_idle(&self) -> bool {
        let idle = &self.queues[Place::Idle as usize];
        // The newest stays whatever it takes: it is about to be used.
        idle.len() > 1 && idle.bytes() > self.budget_bytes / 2
    }
}

fn is_current(nodes: &HashMap<u64, Box<Node>>, ino: u64, mark: u64) -> bool {
    nodes.get(&ino).is_some_and(|node| node.mark == mark)
}

#[cfg(test)]
mod tests;
