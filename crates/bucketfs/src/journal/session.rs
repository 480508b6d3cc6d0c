//! The journal of one session: its head, and where its parts lie.
//!
//! What must hold: without a whole head there is nothing to resume.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::deaths::{self, Deaths};
use super::error::{FORMAT, JournalError};
use super::log::{CONTROL_BYTES, HALF_BYTES, Log, Record, Recovered};
use super::region::Region;
use super::requests::{self, Requests, Unanswered};
use crate::attr::Timestamp;

/// The first bytes of every journal.
const MAGIC: u64 = u64::from_ne_bytes(*b"mkledger");
/// Where things are. The head: magic, format, length, checksum, JSON.
const HEAD_TEXT: usize = 24;
const HEAD_BYTES: usize = 64 * 1024;
const GENERATION: usize = HEAD_BYTES;
/// Whether a process answers requests, or has died while it did. Zero in a journal of a version that did not say.
const SERVES: usize = HEAD_BYTES + 8;
const CONTROL: usize = HEAD_BYTES + CONTROL_BYTES;
const DEATHS: usize = CONTROL + CONTROL_BYTES;
const SLOTS: usize = 2 * HEAD_BYTES;
const _: () = assert!(DEATHS + deaths::BYTES <= SLOTS);
const HALVES: [usize; 2] = {
    let first = (SLOTS + requests::BYTES).next_multiple_of(1 << 20);
    [first, first + HALF_BYTES]
};
const BYTES: usize = HALVES[1] + HALF_BYTES;

/// Who is mounted where, and what was agreed with the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionHeader {
    pub path: PathBuf,
    /// Major and minor, as in mountinfo.
    pub device: (u32, u32),
    /// What of the settings a session cannot change while it lives.
    pub settings: String,
    /// The name under which what is written is kept on disk; absent on a mount that is only read.
    pub staging: Option<String>,
    /// The AWS region in which the bucket was asked; absent if the store has none, or the version that wrote this did
    /// not say.
    pub region: Option<String>,
    /// When the session began; absent in what a version wrote that did not say.
    pub began: Option<Timestamp>,
    /// The kernel's init and the answer to it.
    pub init: InitExchange,
}

/// The INIT request and its answer, byte for byte.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitExchange {
    pub request: Vec<u8>,
    pub answer: Vec<u8>,
}

/// The journal of one mount.
pub struct Journal {
    region: Arc<Region>,
    pub requests: Requests,
    pub deaths: Deaths,
    log: Mutex<Log>,
    /// Something could not be written: it says too little from now on.
    broken: AtomicBool,
}

/// A journal that an earlier process has left.
pub struct Found {
    pub journal: Journal,
    pub head: SessionHeader,
    pub held: Recovered,
    pub left: Vec<Unanswered>,
}

impl Journal {
    /// An empty one.
    ///
    /// # Errors
    ///
    /// [`JournalError::Memory`].
    pub fn create() -> Result<Journal, JournalError> {
        let region = Region::create(BYTES as u64).map_err(|source| JournalError::Memory { source })?;
        region.set_u64(0, MAGIC);
        region.set_u32(8, FORMAT);
        Ok(Journal::of(Arc::new(region)).0)
    }

    /// The one behind a descriptor, taken over.
    ///
    /// # Errors
    ///
    /// Any [`JournalError`]: then nothing can be resumed from it.
    pub fn open(descriptor: OwnedFd) -> Result<Found, JournalError> {
        let region = Region::open(descriptor).map_err(|source| JournalError::Memory { source })?;
        if region.bytes() < HEAD_BYTES || region.u64(0) != MAGIC {
            return Err(JournalError::Damaged { what: "its beginning" });
        }
        let found = region.u32(8);
        if found != FORMAT {
            return Err(JournalError::Format { found });
        }
        if region.bytes() != BYTES {
            return Err(JournalError::Damaged { what: "its length" });
        }
        let head = header_of(&region)?;
        let generation = region.u64(GENERATION).saturating_add(1);
        region.set_u64(GENERATION, generation);
        let died = region.u64(SERVES) != 0;
        let (journal, left) = Journal::of(Arc::new(region));
        // What was done already kills nobody by being told.
        let in_hand = left.iter().filter(|left| left.answer.is_none());
        journal.deaths.take_over(in_hand.map(|left| left.header.unique), died);
        journal.serves(false);
        let held = journal.log.lock().unwrap_or_else(PoisonError::into_inner).shorten()?;
        Ok(Found { journal, head, held, left })
    }

    fn of(region: Arc<Region>) -> (Journal, Vec<Unanswered>) {
        let (requests, left) = Requests::new(region.clone(), SLOTS);
        let deaths = Deaths::new(region.clone(), DEATHS);
        let log = Mutex::new(Log::new(region.clone(), CONTROL, HALVES));
        (Journal { region, requests, deaths, log, broken: AtomicBool::new(false) }, left)
    }

    /// This process answers requests from now on, or does so no more: an end meanwhile is a death of which a request may
    /// be the cause.
    pub fn serves(&self, serves: bool) {
        self.region.set_u64(SERVES, u64::from(serves));
    }

    /// Makes it one from which can be resumed.
    ///
    /// # Errors
    ///
    /// [`JournalError::Full`] if the head is too long.
    pub fn publish(&self, head: &SessionHeader) -> Result<(), JournalError> {
        let text = serde_json::to_vec(head).map_err(|_| JournalError::Full)?;
        if text.len() > HEAD_BYTES - HEAD_TEXT {
            return Err(JournalError::Full);
        }
        self.region.set_u32(12, 0);
        self.region.write(HEAD_TEXT, &text);
        self.region.set_u32(16, crc32fast::hash(&text));
        self.region.set_u32(12, u32::try_from(text.len()).map_err(|_| JournalError::Full)?);
        Ok(())
    }

    /// How many processes had it before this one.
    pub fn generation(&self) -> u64 {
        self.region.u64(GENERATION)
    }

    /// The first handle that no process before has given.
    pub fn first_handle(&self) -> u64 {
        (self.generation() << 40) + 1
    }

    /// Writes down what the kernel is about to be told, or has given back.
    pub fn note(&self, record: &Record) {
        let outcome = self.log.lock().unwrap_or_else(PoisonError::into_inner).append(record);
        if let Err(error) = outcome
            && !self.broken.swap(true, Ordering::Relaxed)
        {
            tracing::error!(error = %error, "a successor could not resume this mount: it will mount anew");
            // Without a head there is nothing to resume.
            self.region.set_u32(12, 0);
        }
    }
}

impl AsFd for Journal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.region.as_fd()
    }
}

fn header_of(region: &Region) -> Result<SessionHeader, JournalError> {
    let length = region.u32(12) as usize;
    if length == 0 {
        return Err(JournalError::Unfinished);
    }
    if length > HEAD_BYTES - HEAD_TEXT {
        return Err(JournalError::Damaged { what: "its head" });
    }
    let text = region.copy(HEAD_TEXT, length);
    if crc32fast::hash(&text) != region.u32(16) {
        return Err(JournalError::Damaged { what: "its head" });
    }
    serde_json::from_slice(&text).map_err(|_| JournalError::Damaged { what: "its head" })
}

#[cfg(test)]
mod tests {
    use super::super::log::NodeRecord;
    use super::*;

    fn head() -> SessionHeader {
        SessionHeader {
            path: "/srv/maps".into(),
            device: (0, 77),
            settings: "s3://maps".into(),
            staging: None,
            region: None,
            began: None,
            init: InitExchange { request: vec![1, 2], answer: vec![3] },
        }
    }

    fn handed_on(journal: &Journal) -> OwnedFd {
        journal.as_fd().try_clone_to_owned().expect("a descriptor")
    }

    fn why(descriptor: OwnedFd) -> String {
        Journal::open(descriptor).err().expect("nothing to resume").to_string()
    }

    #[test]
    fn a_successor_finds_what_was_written_and_counts() {
        let journal = Journal::create().expect("memory");
        journal.publish(&head()).expect("short");
        let node = NodeRecord { ino: 7, path: "a".into(), is_named: true, ..NodeRecord::default() };
        journal.note(&Record::Node(node));
        assert_eq!(journal.first_handle(), 1);
        let found = Journal::open(handed_on(&journal)).expect("whole");
        assert_eq!((found.head, found.held.nodes[&7].path.as_str()), (head(), "a"));
        assert_eq!(found.journal.generation(), 1);
        assert!(found.journal.first_handle() > 1 << 40);
    }

    #[test]
    fn what_cannot_be_resumed_says_why() {
        let journal = Journal::create().expect("memory");
        assert_eq!(why(handed_on(&journal)), "the process before had not finished mounting");
        journal.publish(&head()).expect("short");
        journal.region.write(HEAD_TEXT + 5, b"X");
        assert_eq!(why(handed_on(&journal)), "its head is damaged");
        journal.region.set_u32(8, FORMAT + 1);
        assert_eq!(
            why(handed_on(&journal)),
            "it was written by another version (format 2, this one reads 1)"
        );
        journal.region.set_u64(0, 0);
        assert_eq!(why(handed_on(&journal)), "its beginning is damaged");
        let file = tempfile::tempfile().expect("a file");
        assert_eq!(why(file.into()), "cannot use the memory of the process before");
    }

    #[test]
    fn a_hundred_thousand_files_are_read_in_time() {
        let journal = Journal::create().expect("memory");
        journal.publish(&head()).expect("short");
        for ino in 2..100_002 {
            let path = format!("a/directory/with/maps/of-the-north-{ino}.tif");
            let version = Some(("\"0123456789abcdef0123456789abcdef\"".into(), 1_700_000_000, None));
            let node = NodeRecord { ino, path, is_named: true, version, ..NodeRecord::default() };
            journal.note(&Record::Node(node));
            journal.note(&Record::Counted { ino, by: 1 });
        }
        let found = Journal::open(handed_on(&journal)).expect("whole");
        assert_eq!(found.held.nodes.len(), 100_000);
    }
}
