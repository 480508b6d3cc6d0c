//! All nodes of a mount, by number and by name.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use tokio::time::Instant;

use super::node::{Eviction, Facts, Node, Place, ROOT};
use super::queue::Queue;
use crate::attr::Attributes;
use crate::journal::Journal;

/// All nodes of a mount.
pub struct Table<C> {
    pub(super) nodes: HashMap<u64, Box<Node<C>>>,
    pub(super) names: HashMap<Arc<str>, u64>,
    pub(super) next: u64,
    /// By [`Place`]; those of nodes in use are in the order of when the kernel was last told.
    pub(super) queues: [Queue; 3],
    budget_bytes: u64,
    marks: u64,
    /// Names made here that the store does not have yet.
    pub(super) unsent: BTreeSet<Arc<str>>,
    /// Names that were taken away here, and when: an answer to an older question does not bring them back.
    pub(super) tombstones: HashMap<Arc<str>, Instant>,
    /// Where a successor finds what the kernel was told.
    pub(super) journal: Option<Arc<Journal>>,
}

impl<C> Table<C> {
    /// A table with the root in it, for nodes of `budget_bytes` in all.
    pub fn new(root: Attributes, budget_bytes: u64) -> Table<C> {
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

    pub fn node(&self, ino: u64) -> Option<&Node<C>> {
        self.nodes.get(&ino).map(|node| &**node)
    }

    pub fn node_mut(&mut self, ino: u64) -> Option<&mut Node<C>> {
        self.nodes.get_mut(&ino).map(|node| &mut **node)
    }

    /// The number that `path` leads to.
    pub fn find(&self, path: &str) -> Option<u64> {
        self.names.get(path).copied()
    }

    /// The node that `path` leads to.
    pub fn named(&self, path: &str) -> Option<(u64, &Node<C>)> {
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
    fn each_above(&mut self, ino: u64, change: impl Fn(&mut Node<C>)) {
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

    pub(super) fn insert(&mut self, path: Arc<str>, facts: Facts, asked: Instant) -> u64 {
        let ino = self.next;
        self.next += 1;
        let node = Node { checked: Some(asked), ..Node::new(path.clone(), facts) };
        self.names.insert(path, ino);
        self.nodes.insert(ino, Box::new(node));
        self.enter_queue(ino);
        ino
    }

    /// Takes the name from a node: another version has it now, or none.
    pub(super) fn unname(&mut self, ino: u64) {
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
    pub(super) fn weigh(&mut self, ino: u64) {
        let is_counted_wrong =
            |node: &Node<C>| node.weight != node.weighed() || node.place != node.right_place();
        if self.node(ino).is_some_and(is_counted_wrong) {
            self.leave_queue(ino);
            self.enter_queue(ino);
        }
        self.note_facts(ino);
    }

    pub(super) fn enter_queue(&mut self, ino: u64) {
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

fn is_current<C>(nodes: &HashMap<u64, Box<Node<C>>>, ino: u64, mark: u64) -> bool {
    nodes.get(&ino).is_some_and(|node| node.mark == mark)
}
