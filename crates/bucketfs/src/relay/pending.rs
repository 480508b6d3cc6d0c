//! What the relay knows of the requests that it has in hand.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use tokio::time::Instant;

use crate::journal::{InitExchange, Slot};
use crate::wire::{self, Header};

pub(super) struct Pending {
    pub(super) header: Header,
    pub(super) slot: Slot,
    pub(super) taken: Instant,
    /// What it reads of the file.
    pub(super) range: Option<Range<u64>>,
}

impl Pending {
    pub(super) fn new(header: Header, slot: Slot, request: &[u8]) -> Pending {
        Pending { header, slot, taken: Instant::now(), range: wire::read_range(request) }
    }

    /// Whether it waits for some of these bytes.
    pub(super) fn reads(&self, ino: u64, bytes: &Range<u64>) -> bool {
        let overlaps = |range: &Range<u64>| range.start < bytes.end && bytes.start < range.end;
        self.header.node == ino && self.range.as_ref().is_some_and(overlaps)
    }
}

#[derive(Default)]
pub(super) struct State {
    pub(super) pending: HashMap<u64, Pending>,
    /// Of those pending, the ones that somebody tried to interrupt.
    pub(super) interrupted: Vec<u64>,
    /// Answered already, and not yet by `fuser`.
    pub(super) abandoned: HashMap<u64, Header>,
    /// Of those pending, the ones that a process before may have done already.
    pub(super) repeated: HashSet<u64>,
    pub(super) init: InitExchange,
    /// The kernel has had the answer to its init from a process before.
    pub(super) is_initialized: bool,
    pub(super) closed: bool,
}
