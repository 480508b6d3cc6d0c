//! Requests that were taken from the kernel and are not answered: where a successor finds them.
//!
//! ```text
//!   slot:  free -- the kernel writes a request into it --> taken -- an answer is noted --> answered
//!            ^                                               |                                 |
//!            '------------------- released, once the kernel has the answer -------------------'
//! ```
//!
//! The kernel itself writes a request into its slot: there is no moment at which it was taken and nobody would know. It
//! begins with its length, so a slot that begins with zero is free. Most requests are short: they move to a small slot,
//! and the large one takes the next. What must hold: a request is in a slot for as long as the kernel waits for its
//! answer; the answer to a request that changed something is noted before the kernel hears it, so that a successor
//! repeats the answer and not the change.

use std::borrow::Cow;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::region::Region;
use crate::wire::{Header, IN_HEADER};

/// Where the answer stands in a slot, behind its length, and how long it may be.
const ANSWER: usize = 8;
const ANSWER_MAX: usize = REQUEST - ANSWER;
/// Where the request stands in a slot.
const REQUEST: usize = 256;
const SMALL_BYTES: usize = 4096;
const SMALL: usize = 4096;
/// A write of 128 KiB, with room for its headers, behind an answer.
const LARGE_BYTES: usize = 136 * 1024;
const LARGE: usize = 64;

/// Bytes that all slots take, if all were in use.
pub const BYTES: usize = SMALL * SMALL_BYTES + LARGE * LARGE_BYTES;
/// Longest request that fits.
pub const REQUEST_MAX: usize = LARGE_BYTES - REQUEST;

/// A place for one request. Not released by being dropped: a request outlives whoever has it in hand.
#[derive(Debug, PartialEq, Eq)]
pub struct Slot {
    number: usize,
}

impl Slot {
    fn is_small(&self) -> bool {
        self.number < SMALL
    }

    /// Where it begins, from the first slot.
    fn at(&self) -> usize {
        match self.number.checked_sub(SMALL) {
            None => self.number * SMALL_BYTES,
            Some(large) => SMALL * SMALL_BYTES + large * LARGE_BYTES,
        }
    }

    fn room(&self) -> usize {
        if self.is_small() { SMALL_BYTES - REQUEST } else { LARGE_BYTES - REQUEST }
    }
}

/// A request that an earlier process has not answered, or not seen answered.
pub struct Unanswered {
    pub slot: Slot,
    pub header: Header,
    pub request: Vec<u8>,
    /// What the earlier process was about to answer.
    pub answer: Option<Vec<u8>>,
}

/// All slots of a mount.
pub struct Requests {
    region: Arc<Region>,
    /// Where the slots begin in the region.
    base: usize,
    free: Mutex<Free>,
    freed: Condvar,
}

struct Free {
    /// The one used last is used next: the others take no memory until they are needed.
    small: Vec<usize>,
    large: Vec<usize>,
    /// Nobody waits for a slot any more.
    closed: bool,
}

impl Requests {
    /// The slots in `region` from `base` on, and what an earlier process left in them.
    pub fn new(region: Arc<Region>, base: usize) -> (Requests, Vec<Unanswered>) {
        let free = Free { small: Vec::new(), large: Vec::new(), closed: false };
        let requests = Requests { region, base, free: Mutex::new(free), freed: Condvar::new() };
        let left = requests.sort();
        (requests, left)
    }

    /// Finds the free slots, and what is in the others.
    fn sort(&self) -> Vec<Unanswered> {
        let mut left: Vec<Unanswered> = Vec::new();
        let mut free = self.free();
        for number in (0..SMALL + LARGE).rev() {
            let slot = Slot { number };
            let is_small = slot.is_small();
            match self.unanswered_in(slot) {
                // It was being moved from the one slot to the other.
                Some(found) if left.iter().any(|other| other.header.unique == found.header.unique) => {
                    self.void(&found.slot);
                }
                Some(found) => {
                    left.push(found);
                    continue;
                }
                None => {}
            }
            let list = if is_small { &mut free.small } else { &mut free.large };
            list.push(number);
        }
        left
    }

    fn unanswered_in(&self, slot: Slot) -> Option<Unanswered> {
        let at = self.base + slot.at();
        let length = self.region.peek_u32(at + REQUEST) as usize;
        let is_one = (IN_HEADER..=slot.room()).contains(&length);
        let request = is_one.then(|| self.region.copy(at + REQUEST, length))?;
        let header = Header::of(&request)?;
        let answer = match self.region.u32(at) as usize {
            0 => None,
            length => Some(self.region.copy(at + ANSWER, length.min(ANSWER_MAX))),
        };
        Some(Unanswered { slot, header, request, answer })
    }

    /// A slot into which any request fits; waits until one is free. `None` once nobody is to wait any more.
    pub fn large(&self) -> Option<Slot> {
        let mut free = self.free();
        loop {
            if free.closed {
                return None;
            }
            if let Some(number) = free.large.pop() {
                drop(free);
                let slot = Slot { number };
                // Touched once: the kernel must not meet a page that is not there, because it gives a request up for it.
                let at = self.base + slot.at();
                (at..at + LARGE_BYTES).step_by(SMALL_BYTES).for_each(|page| self.region.set_u32(page, 0));
                self.void(&slot);
                return Some(slot);
            }
            free = self.freed.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Where the kernel is to write a request.
    pub fn room<'a>(&'a self, slot: &'a mut Slot) -> &'a mut [u8] {
        let (at, room) = (self.base + slot.at() + REQUEST, slot.room());
        // SAFETY: a slot that was taken belongs to its one holder, who lends it for as long as the slice lives.
        unsafe { self.region.part(at, room) }
    }

    /// The slot that a request of this length stays in, which is a small one if it fits; the large one, to go on with,
    /// unless it stays there; and the request.
    pub fn settle(&self, large: Slot, request_bytes: usize) -> (Slot, Option<Slot>, Cow<'_, [u8]>) {
        let from = self.base + large.at() + REQUEST;
        let small = (request_bytes <= SMALL_BYTES - REQUEST).then(|| self.free().small.pop()).flatten();
        let Some(number) = small else {
            // SAFETY: nobody writes there before the request is answered, which is after it was passed on.
            let request = unsafe { self.region.part(from, request_bytes.min(large.room())) };
            return (large, None, Cow::Borrowed(request));
        };
        let slot = Slot { number };
        let to = self.base + slot.at() + REQUEST;
        let request = self.region.copy(from, request_bytes);
        self.region.set_u32(self.base + slot.at(), 0);
        // Its length, by which it is one, comes last.
        self.region.write(to + 4, request.get(4..).unwrap_or_default());
        self.region.set_u32(to, u32::try_from(request_bytes).unwrap_or(0));
        self.void(&large);
        (slot, Some(large), Cow::Owned(request))
    }

    /// Makes a slot that was not given to anybody free for the next request.
    pub fn void(&self, slot: &Slot) {
        let at = self.base + slot.at();
        self.region.set_u32(at + REQUEST, 0);
        self.region.set_u32(at, 0);
    }

    /// Notes what is about to be answered; an answer that is too long is not noted.
    pub fn note_answer(&self, slot: &Slot, answer: &[u8]) {
        if answer.len() <= ANSWER_MAX {
            let at = self.base + slot.at();
            self.region.write(at + ANSWER, answer);
            self.region.set_u32(at, u32::try_from(answer.len()).unwrap_or(0));
        }
    }

    /// The kernel has its answer.
    pub fn release(&self, slot: Slot) {
        self.void(&slot);
        let mut free = self.free();
        let list = if slot.is_small() { &mut free.small } else { &mut free.large };
        list.push(slot.number);
        drop(free);
        if !slot.is_small() {
            self.freed.notify_one();
        }
    }

    /// Whoever waits for a slot gets none.
    pub fn close(&self) {
        self.free().closed = true;
        self.freed.notify_all();
    }

    fn free(&self) -> MutexGuard<'_, Free> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{LOOKUP, MKDIR};

    fn request(unique: u64, opcode: u32, bytes: usize) -> Vec<u8> {
        let mut request = vec![7; bytes];
        request[..4].copy_from_slice(&(bytes as u32).to_ne_bytes());
        request[4..8].copy_from_slice(&opcode.to_ne_bytes());
        request[8..16].copy_from_slice(&unique.to_ne_bytes());
        request
    }

    fn region() -> Arc<Region> {
        Arc::new(Region::create(BYTES as u64).expect("memory"))
    }

    /// Has a request arrive, and settles it.
    fn arrives(requests: &Requests, request: &[u8]) -> Slot {
        let mut large = requests.large().expect("open");
        requests.room(&mut large)[..request.len()].copy_from_slice(request);
        let (slot, rest, settled) = requests.settle(large, request.len());
        assert_eq!(*settled, *request);
        if let Some(large) = rest {
            requests.release(large);
        }
        slot
    }

    #[test]
    fn what_is_not_answered_is_found_with_its_answer_if_there_is_one() {
        let region = region();
        let (requests, none) = Requests::new(region.clone(), 0);
        assert!(none.is_empty());
        let short = request(2, LOOKUP, 60);
        let long = request(4, 16, 100_000);
        let answered = arrives(&requests, &request(6, MKDIR, 70));
        arrives(&requests, &short);
        arrives(&requests, &long);
        let gone = arrives(&requests, &request(8, LOOKUP, 60));
        requests.note_answer(&answered, b"an answer");
        requests.release(gone);

        let (_, mut left) = Requests::new(region, 0);
        left.sort_by_key(|left| left.header.unique);
        let found: Vec<_> = left.iter().map(|left| (left.header.unique, left.answer.as_deref())).collect();
        assert_eq!(found, [(2, None), (4, None), (6, Some(&b"an answer"[..]))]);
        assert_eq!((&left[0].request, &left[1].request), (&short, &long));
    }

    #[test]
    fn a_request_that_was_being_moved_is_found_once() {
        let region = region();
        let (requests, _) = Requests::new(region.clone(), 0);
        let bytes = request(2, LOOKUP, 60);
        arrives(&requests, &bytes);
        // The moment before the large slot is made void.
        let mut large = requests.large().expect("open");
        requests.room(&mut large)[..bytes.len()].copy_from_slice(&bytes);
        let (requests, left) = Requests::new(region.clone(), 0);
        assert_eq!(left.len(), 1);
        requests.release(left.into_iter().next().expect("one").slot);
        assert!(Requests::new(region, 0).1.is_empty());
    }

    #[test]
    fn whoever_waits_for_a_slot_gets_the_next_one_or_none_at_the_end() {
        let (requests, _) = Requests::new(region(), 0);
        let requests = Arc::new(requests);
        let mut taken: Vec<Slot> = (0..LARGE).map(|_| requests.large().expect("free")).collect();
        let waiting = |requests: &Arc<Requests>| {
            let requests = requests.clone();
            std::thread::spawn(move || requests.large())
        };
        let waits = waiting(&requests);
        requests.release(taken.pop().expect("one"));
        assert!(waits.join().expect("no panic").is_some());
        let waits = waiting(&requests);
        requests.close();
        assert!(waits.join().expect("no panic").is_none());
    }

    #[test]
    fn junk_in_a_slot_is_no_request() {
        let region = region();
        for (at, length) in [(0, 39u32), (SMALL_BYTES, u32::MAX), (2 * SMALL_BYTES, 5000)] {
            region.set_u32(at + REQUEST, length);
        }
        assert!(Requests::new(region, 0).1.is_empty());
    }
}
