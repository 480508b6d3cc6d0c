//! Requests that were in hand when a process died: one of them may have been the cause.
//!
//! ```text
//!   taken -- the process dies --> counted once -- given to the next process -- it dies as well --> counted twice
//!                                     '-- answered --> forgotten                                        |
//!                                                                          answered with an error, not done again
//! ```
//!
//! They are told by the kernel's number for them, which stays the same when it sends them again. What must hold: only a
//! process that had begun with a request counts, and only if it has not left in order; a table that is full counts less,
//! and loses nothing else.
//!
//! ```text
//!   used | number, deaths and whether it was begun | number, deaths ... | ...
//! ```

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::region::Region;
use crate::wire::SENT_AGAIN;

/// So many processes may die of a request. One may have been killed by somebody else.
pub const MOST: u64 = 2;
const ENTRY: usize = 16;
const ENTRIES: usize = 4000;
/// Bytes that the table takes.
pub const BYTES: usize = 8 + ENTRIES * ENTRY;
/// Beside the number of deaths: a process has begun with it.
const BEGUN: u64 = 1 << 32;

/// The table of one mount.
pub struct Deaths {
    region: Arc<Region>,
    base: usize,
    known: Mutex<HashMap<u64, Known>>,
    /// As is mostly the case: then nobody needs the lock.
    is_empty: AtomicBool,
}

#[derive(Clone, Copy)]
struct Known {
    at: usize,
    deaths: u64,
}

impl Deaths {
    /// The table that begins there in `region`.
    pub fn new(region: Arc<Region>, base: usize) -> Deaths {
        Deaths { region, base, known: Mutex::default(), is_empty: AtomicBool::new(true) }
    }

    /// Takes over what processes before have counted. Of one that `died`, counts the requests that it had begun: of those
    /// `in_hand`, the ones that were not given back by a process before, or that it had taken up again.
    pub fn take_over(&self, in_hand: impl Iterator<Item = u64>, died: bool) {
        let mut in_hand: HashSet<u64> = in_hand.map(plain).collect();
        let used = usize::try_from(self.region.u64(self.base)).unwrap_or(0).min(ENTRIES);
        let mut entries = Vec::new();
        for at in 0..used {
            let (unique, state) = (self.region.u64(self.at(at)), self.region.u64(self.at(at) + 8));
            if unique == 0 {
                continue;
            }
            let is_in_hand = in_hand.remove(&unique);
            let once_more = died && is_in_hand && state & BEGUN != 0;
            entries.push((unique, (state & (BEGUN - 1)) + u64::from(once_more)));
        }
        if died {
            entries.extend(in_hand.into_iter().map(|unique| (unique, 1)));
        }
        // Those asked last are the ones that may still come.
        entries.sort_unstable_by_key(|entry| std::cmp::Reverse(entry.0));
        entries.truncate(ENTRIES);
        let mut known = self.known();
        self.region.set_u64(self.base, 0);
        for (at, (unique, deaths)) in entries.iter().copied().enumerate() {
            self.region.set_u64(self.at(at), unique);
            self.region.set_u64(self.at(at) + 8, deaths);
            known.insert(unique, Known { at, deaths });
        }
        self.region.set_u64(self.base, entries.len() as u64);
        self.is_empty.store(known.is_empty(), Ordering::Relaxed);
    }

    /// How many processes have died with the request `unique` in hand.
    pub fn of(&self, unique: u64) -> u64 {
        if self.is_empty.load(Ordering::Relaxed) {
            return 0;
        }
        self.known().get(&plain(unique)).map_or(0, |known| known.deaths)
    }

    /// This process begins with a request: should it die, that counts.
    pub fn begin(&self, unique: u64) {
        if let Some(Known { at, deaths }) = self.known().get(&plain(unique)).copied() {
            self.region.set_u64(self.at(at) + 8, deaths | BEGUN);
        }
    }

    /// A request was answered; whether it had been counted.
    pub fn forget(&self, unique: u64) -> bool {
        if self.is_empty.load(Ordering::Relaxed) {
            return false;
        }
        let mut known = self.known();
        let Some(Known { at, .. }) = known.remove(&plain(unique)) else { return false };
        self.region.set_u64(self.at(at), 0);
        self.is_empty.store(known.is_empty(), Ordering::Relaxed);
        true
    }

    fn at(&self, entry: usize) -> usize {
        self.base + 8 + entry * ENTRY
    }

    fn known(&self) -> MutexGuard<'_, HashMap<u64, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The number of a request, whether or not it was sent again.
fn plain(unique: u64) -> u64 {
    unique & !SENT_AGAIN
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIED: bool = true;

    fn region() -> Arc<Region> {
        Arc::new(Region::create(BYTES as u64).expect("memory"))
    }

    fn successor(region: &Arc<Region>, in_hand: &[u64], died: bool) -> Deaths {
        let deaths = Deaths::new(region.clone(), 0);
        deaths.take_over(in_hand.iter().copied(), died);
        deaths
    }

    #[test]
    fn a_request_counts_for_each_process_that_died_with_it_in_hand() {
        let region = region();
        let second = successor(&region, &[2, 4, 6], DIED);
        assert_eq!([2, 4, 6, 8].map(|unique| second.of(unique)), [1, 1, 1, 0]);
        second.begin(2 | SENT_AGAIN);
        second.begin(4);
        assert!(second.forget(4 | SENT_AGAIN) && !second.forget(4) && !second.forget(8));
        // 6 waits to be sent again; 8 is new.
        let third = successor(&region, &[2 | SENT_AGAIN, 8], DIED);
        assert_eq!([2, 4, 6, 8].map(|unique| third.of(unique)), [MOST, 0, 1, 1]);
        let fourth = successor(&region, &[6 | SENT_AGAIN, 8], DIED);
        assert_eq!([6, 8].map(|unique| fourth.of(unique)), [1, 1], "nobody had begun with them");
    }

    #[test]
    fn a_process_that_left_in_order_does_not_count() {
        let region = region();
        let second = successor(&region, &[2], DIED);
        second.begin(2);
        let third = successor(&region, &[2, 4], !DIED);
        assert_eq!([2, 4].map(|unique| third.of(unique)), [1, 0]);
        let fourth = successor(&region, &[2], DIED);
        assert_eq!(fourth.of(2), 1, "the third had not begun with it");
    }

    #[test]
    fn junk_and_too_many_are_no_danger() {
        let region = region();
        region.set_u64(0, u64::MAX);
        region.set_u64(8, 7);
        region.set_u64(16, u64::MAX);
        let deaths = successor(&region, &(1..=5000).collect::<Vec<u64>>(), DIED);
        assert_eq!((deaths.of(1), deaths.of(5000)), (0, 1));
    }
}
