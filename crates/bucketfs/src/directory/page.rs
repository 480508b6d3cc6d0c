//! One page of an open directory, and the offsets that the kernel knows its entries by.

use std::sync::Arc;

use tokio::time::Instant;

use crate::attr::Kind;
use crate::listing::Shown;

/// Headers that one mount asks for at the same time for the sake of listings.
pub const HEADERS_AT_ONCE: usize = 128;

/// Bits of an offset that say the position within a page: beside its own entries a page shows at most as many as a
/// name has bytes that the page before left open.
pub(super) const PAGE_BITS: u32 = 11;

/// One name in a directory, as it was listed.
#[derive(Clone, Debug)]
pub struct Item {
    pub name: Arc<str>,
    pub(super) ino: u64,
    pub(super) kind: Kind,
    /// Where the next item is read from.
    pub next_offset: u64,
}

/// A page that was listed.
pub struct Page {
    pub(super) number: usize,
    pub(super) items: Vec<Item>,
    pub(super) asked: Instant,
    pub(super) is_last: bool,
    /// Whether there was any key at all.
    pub(super) has_keys: bool,
}

impl Page {
    /// The whole of the directory `ino`, listed by a question that left at `asked`.
    pub(crate) fn whole(ino: u64, shown: Vec<(Arc<str>, Shown)>, inos: Vec<u64>, asked: Instant) -> Page {
        Page { number: 0, items: items(ino, 0, shown, inos), asked, is_last: true, has_keys: true }
    }

    /// When the question left that it answers.
    pub fn asked(&self) -> Instant {
        self.asked
    }
}

/// What page `number` of the directory `ino` shows, in its order.
pub(super) fn items(ino: u64, number: usize, shown: Vec<(Arc<str>, Shown)>, inos: Vec<u64>) -> Vec<Item> {
    let dots = [".", ".."].map(|name| (Arc::from(name), ino, Kind::Directory));
    let listed = shown.into_iter().zip(inos).map(|((name, shown), ino)| {
        (name, ino, if shown == Shown::Directory { Kind::Directory } else { Kind::File })
    });
    let all = dots.into_iter().filter(|_| number == 0).chain(listed);
    all.enumerate()
        .map(|(position, (name, ino, kind))| {
            let next_offset = (number as u64) << PAGE_BITS | (position as u64 + 1);
            Item { name, ino, kind, next_offset }
        })
        .collect()
}
