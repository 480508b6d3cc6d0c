//! What is changed from here: names that are made, moved and taken away, and nodes that are ours for a while.
//!
//! ```text
//!   as the store says -- being changed --> local: as we say -- stored --> as the store says, from that moment on
//! ```
//!
//! What must hold: an answer to a question that left before the change does not undo it.

use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::node::{Facts, Node, ROOT};
use super::table::Table;

/// How long a name that was taken away is remembered: longer than any question takes.
const TOMBSTONE_FOR: Duration = Duration::from_secs(60);
/// Names taken away that are remembered before the old ones are looked for.
const TOMBSTONES_MANY: usize = 4096;

impl<C> Table<C> {
    /// A new number for `path`, which is made here, with what is said of it.
    pub fn make(&mut self, path: Arc<str>, facts: Facts, now: Instant) -> u64 {
        if let Some(ino) = self.find(&path) {
            self.release_name(ino);
        }
        self.tombstones.remove(&path);
        self.insert(path, facts, now)
    }

    /// Says what the node `ino` is from now on; it may be nameless.
    pub fn set_facts(&mut self, ino: u64, change: impl FnOnce(&mut Facts)) {
        if let Some(node) = self.nodes.get_mut(&ino) {
            change(&mut node.facts);
            self.weigh(ino);
        }
    }

    /// Makes the node ours, or the store's again; `now` is when the store was last heard of it.
    pub fn set_local(&mut self, ino: u64, is_local: bool, now: Instant) {
        if let Some(node) = self.nodes.get_mut(&ino) {
            node.is_local = is_local;
            node.checked = node.checked.max(Some(now));
        }
    }

    /// Says whether the store has yet to be told of the name.
    pub fn set_unsent(&mut self, path: &Arc<str>, is_unsent: bool) {
        if is_unsent {
            self.unsent.insert(path.clone());
        } else {
            self.unsent.remove(path);
        }
    }

    /// Whether the store has yet to be told of the name.
    pub fn is_unsent(&self, path: &str) -> bool {
        self.unsent.contains(path)
    }

    /// Names in `directory` that the store does not have yet, with their numbers.
    pub fn unsent_in(&self, directory: &str) -> Vec<(Arc<str>, u64)> {
        let prefix = if directory.is_empty() { String::new() } else { format!("{directory}/") };
        let from = (Bound::Included(prefix.as_str()), Bound::Unbounded);
        self.unsent
            .range::<str, _>(from)
            .take_while(|path| path.starts_with(&prefix))
            .filter_map(|path| {
                let name = path.get(prefix.len()..).filter(|name| !name.contains('/'))?;
                Some((Arc::from(name), self.find(path)?))
            })
            .collect()
    }

    /// Whether somebody has made another file of the name that `ino` had: whoever asked for that to be taken away may have
    /// been killed, and nobody waited.
    pub fn is_made_anew(&self, path: &str, ino: u64) -> bool {
        self.named(path).is_some_and(|(found, node)| found != ino && node.is_local)
    }

    /// Takes the name `path` away.
    pub fn remove_name(&mut self, path: &str, now: Instant) {
        if let Some(ino) = self.find(path) {
            self.release_name(ino);
        }
        self.unsent.remove(path);
        self.note_gone(Arc::from(path), now);
    }

    /// Moves what `from` leads to, and all below it, to `to`; what was there loses its name.
    pub fn rename(&mut self, from: &str, to: &str, now: Instant) {
        let below = format!("{from}/");
        let mut moved: Vec<(Arc<str>, u64)> = self
            .names
            .iter()
            .filter(|(path, _)| ***path == *from || path.starts_with(&below))
            .map(|(path, ino)| (path.clone(), *ino))
            .collect();
        moved.sort();
        if let Some(ino) = self.find(to) {
            self.release_name(ino);
        }
        for (path, ino) in moved {
            let new: Arc<str> = Arc::from(format!("{to}{}", &path[from.len()..]));
            self.names.remove(&path);
            if let Some(replaced) = self.find(&new) {
                self.release_name(replaced);
            }
            self.names.insert(new.clone(), ino);
            self.tombstones.remove(&new);
            if self.unsent.remove(&path) {
                self.unsent.insert(new.clone());
            }
            if let Some(node) = self.nodes.get_mut(&ino) {
                node.path = new;
                node.content = None;
                node.checked = node.checked.map(|_| now);
            }
            self.note_facts(ino);
            self.note_gone(path, now);
        }
    }

    /// Whether the node still has its name.
    pub fn is_named(&self, ino: u64, node: &Node<C>) -> bool {
        self.find(&node.path) == Some(ino)
    }

    fn release_name(&mut self, ino: u64) {
        if ino != ROOT {
            self.unname(ino);
        }
    }

    fn note_gone(&mut self, path: Arc<str>, now: Instant) {
        if self.tombstones.len() > TOMBSTONES_MANY {
            self.tombstones.retain(|_, gone| now - *gone < TOMBSTONE_FOR);
        }
        self.tombstones.insert(path, now);
    }
}
