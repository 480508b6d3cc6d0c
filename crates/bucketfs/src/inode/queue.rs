//! Nodes in the order in which they were last used, with what they take.
//!
//! An entry is not looked for when its node leaves: it becomes void, because its mark is no longer the node's,
//! and is dropped when it is met. What must hold: void entries never outnumber the others by more than a handful.

use std::collections::VecDeque;

/// Void entries that are no reason to go through the queue.
const SLACK: usize = 16;

/// Numbers of nodes, oldest first.
#[derive(Default)]
pub struct Queue {
    entries: VecDeque<(u64, u64)>,
    /// Entries that are not void.
    live: usize,
    bytes: u64,
}

impl Queue {
    /// How many nodes are in it.
    pub fn len(&self) -> usize {
        self.live
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Enters a node as the one used last.
    pub fn enter(&mut self, ino: u64, mark: u64, bytes: u64, is_current: impl Fn(u64, u64) -> bool) {
        if self.entries.len() > 2 * self.live + SLACK {
            self.entries.retain(|(ino, mark)| is_current(*ino, *mark));
        }
        self.entries.push_back((ino, mark));
        self.live += 1;
        self.bytes += bytes;
    }

    /// A node leaves: the caller changes its mark.
    pub fn leave(&mut self, bytes: u64) {
        self.live -= 1;
        self.bytes -= bytes;
    }

    /// The node used longest ago. It stays.
    pub fn oldest(&mut self, is_current: impl Fn(u64, u64) -> bool) -> Option<u64> {
        while let Some((ino, mark)) = self.entries.front() {
            if is_current(*ino, *mark) {
                return Some(*ino);
            }
            self.entries.pop_front();
        }
        None
    }

    #[cfg(test)]
    pub fn entries(&self) -> usize {
        self.entries.len()
    }
}
