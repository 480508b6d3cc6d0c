//! What the kernel was told, written down as it is told.
//!
//! A log in two halves, of which one is in use. Each entry is its length, a checksum and a [`Record`]; the end of the
//! log moves behind an entry when all of it is there. A log that has grown to twice of what is worth keeping is written
//! anew, short, into the other half, and the halves change roles by one store.
//!
//! ```text
//!   control:  which half | end of the one | end of the other
//!   half:     [length checksum record] [length checksum record] ... end
//! ```
//!
//! What must hold: at every moment the half in use says what is true, or what was true before the last entry; what a
//! successor reads was written whole.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::error::JournalError;
use super::region::Region;

/// Bytes of the numbers that say where the log ends.
pub const CONTROL_BYTES: usize = 64;
/// Bytes of one half: more than a million files that the kernel knows.
pub const HALF_BYTES: usize = 1 << 30;
/// A log shorter than this is never written anew.
const SHORT: usize = 1 << 20;
/// Length and checksum.
const FRAME: usize = 8;

/// One thing that the kernel was told or has given back.
#[expect(clippy::large_enum_variant, reason = "made to be written at once, and read one after the other")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// A number, and what it means from now on.
    Node(NodeRecord),
    /// The kernel was told a number so many times more, or has forgotten it so many times.
    Counted {
        ino: u64,
        by: i64,
    },
    /// The kernel has forgotten a number.
    Forgotten {
        ino: u64,
    },
    /// A directory was opened, or has been read up to an offset, which was that of `name`.
    Directory {
        handle: u64,
        ino: u64,
        at: Option<(u64, String)>,
    },
    DirectoryClosed {
        handle: u64,
    },
    /// No number from this one on was ever given.
    NextIno(u64),
}

/// What a number means.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    pub ino: u64,
    pub path: String,
    /// Whether the path leads to it; if not, another version has the name now, or none.
    pub is_named: bool,
    /// How many times the kernel was told. Only a log that was written anew says it here.
    pub lookups: u64,
    /// Entity tag, seconds, version id.
    pub version: Option<(String, i64, Option<String>)>,
    pub size: u64,
    /// By `attr::Kind`'s own order.
    pub kind: Option<u8>,
    pub attributes: Option<AttributesRecord>,
    pub xattrs: Vec<(String, Vec<u8>)>,
    pub target: Option<Vec<u8>>,
    pub settled: bool,
    pub marker: Option<(String, i64, Option<String>)>,
}

/// What `stat` shows of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttributesRecord {
    pub kind: u8,
    pub permissions: u16,
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    /// Seconds and nanoseconds: modified, changed, accessed.
    pub times: [(i64, u32); 3],
}

/// All that a log says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    pub nodes: BTreeMap<u64, NodeRecord>,
    /// Number of the directory, and what it was read up to.
    pub directories: BTreeMap<u64, (u64, Option<(u64, String)>)>,
    pub next_ino: u64,
}

impl Recovered {
    fn apply(&mut self, record: Record) {
        match record {
            Record::Node(node) => {
                self.next_ino = self.next_ino.max(node.ino.saturating_add(1));
                let earlier = self.nodes.get(&node.ino).map_or(0, |earlier| earlier.lookups);
                let lookups = node.lookups.max(earlier);
                self.nodes.insert(node.ino, NodeRecord { lookups, ..node });
            }
            Record::Counted { ino, by } => {
                if let Some(node) = self.nodes.get_mut(&ino) {
                    node.lookups = node.lookups.saturating_add_signed(by);
                }
            }
            Record::Forgotten { ino } => drop(self.nodes.remove(&ino)),
            Record::Directory { handle, ino, at } => drop(self.directories.insert(handle, (ino, at))),
            Record::DirectoryClosed { handle } => drop(self.directories.remove(&handle)),
            Record::NextIno(next) => self.next_ino = self.next_ino.max(next),
        }
    }

    fn records(&self) -> impl Iterator<Item = Record> {
        let directories = self.directories.iter();
        std::iter::once(Record::NextIno(self.next_ino))
            .chain(self.nodes.values().cloned().map(Record::Node))
            .chain(directories.map(|(handle, (ino, at))| Record::Directory {
                handle: *handle,
                ino: *ino,
                at: at.clone(),
            }))
    }
}

/// The log of one mount.
pub struct Log {
    region: Arc<Region>,
    control: usize,
    halves: [usize; 2],
    /// Length at which it is written anew.
    limit: usize,
    /// Used again and again.
    frame: Vec<u8>,
}

impl Log {
    /// The log whose control and halves begin there in `region`.
    pub fn new(region: Arc<Region>, control: usize, halves: [usize; 2]) -> Log {
        Log { region, control, halves, limit: SHORT, frame: Vec::new() }
    }

    /// Writes an entry.
    ///
    /// # Errors
    ///
    /// [`JournalError::Full`].
    pub fn append(&mut self, record: &Record) -> Result<(), JournalError> {
        if self.end(self.active()) > self.limit {
            self.shorten()?;
        }
        self.write(self.active(), record)
    }

    /// All that the log says.
    ///
    /// # Errors
    ///
    /// [`JournalError::Damaged`] if an entry is not what was written.
    pub fn read(&self) -> Result<Recovered, JournalError> {
        let (half, end) = (self.active(), self.end(self.active()));
        let mut held = Recovered::default();
        let mut at = 0;
        while at < end {
            let start = self.halves[half] + at;
            let length = self.region.u32(start) as usize;
            let next = at.checked_add(FRAME + length.next_multiple_of(4)).filter(|next| *next <= end);
            let Some(next) = next else { return Err(JournalError::Damaged { what: "an entry's length" }) };
            let bytes = self.region.copy(start + FRAME, length);
            if crc32fast::hash(&bytes) != self.region.u32(start + 4) {
                return Err(JournalError::Damaged { what: "an entry's checksum" });
            }
            let record = postcard::from_bytes(&bytes);
            held.apply(record.map_err(|_| JournalError::Damaged { what: "an entry" })?);
            at = next;
        }
        Ok(held)
    }

    /// All that the log says, after it was written anew into the other half: what does not matter any more is gone.
    ///
    /// # Errors
    ///
    /// As [`Log::read`] and [`Log::append`].
    pub fn shorten(&mut self) -> Result<Recovered, JournalError> {
        let held = self.read()?;
        let (old, new) = (self.active(), 1 - self.active());
        self.region.set_u64(self.control + 8 + 8 * new, 0);
        for record in held.records() {
            self.write(new, &record)?;
        }
        self.region.set_u64(self.control, new as u64);
        self.region.clear(self.halves[old], self.end(old));
        self.limit = SHORT.max(2 * self.end(new));
        Ok(held)
    }

    fn write(&mut self, half: usize, record: &Record) -> Result<(), JournalError> {
        let mut frame = std::mem::take(&mut self.frame);
        frame.clear();
        frame.resize(FRAME, 0);
        let mut frame = postcard::to_extend(record, frame).map_err(|_| JournalError::Full)?;
        let length = frame.len() - FRAME;
        let checksum = crc32fast::hash(&frame[FRAME..]);
        frame[..4].copy_from_slice(&u32::try_from(length).map_err(|_| JournalError::Full)?.to_ne_bytes());
        frame[4..FRAME].copy_from_slice(&checksum.to_ne_bytes());
        frame.resize(frame.len().next_multiple_of(4), 0);
        let end = self.end(half);
        if end + frame.len() > HALF_BYTES {
            return Err(JournalError::Full);
        }
        self.region.write(self.halves[half] + end, &frame);
        self.region.set_u64(self.control + 8 + 8 * half, (end + frame.len()) as u64);
        self.frame = frame;
        Ok(())
    }

    fn active(&self) -> usize {
        usize::from(self.region.u64(self.control) == 1)
    }

    fn end(&self, half: usize) -> usize {
        usize::try_from(self.region.u64(self.control + 8 + 8 * half))
            .map_or(HALF_BYTES, |end| end.min(HALF_BYTES))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HALVES: [usize; 2] = [4096, 4096 + HALF_BYTES];

    fn region() -> Arc<Region> {
        Arc::new(Region::create((HALVES[1] + HALF_BYTES) as u64).expect("memory"))
    }

    fn log(region: &Arc<Region>) -> Log {
        Log::new(region.clone(), 0, HALVES)
    }

    fn node(ino: u64, path: &str) -> Record {
        Record::Node(NodeRecord { ino, path: path.into(), is_named: true, ..NodeRecord::default() })
    }

    #[test]
    fn what_was_written_is_read_by_another() {
        let region = region();
        let mut written = log(&region);
        for record in [
            node(2, "a"),
            Record::Counted { ino: 2, by: 3 },
            node(3, "b"),
            Record::Counted { ino: 2, by: -1 },
            Record::Forgotten { ino: 3 },
            Record::Directory { handle: 1, ino: 1, at: None },
            Record::Directory { handle: 1, ino: 1, at: Some((7, "a".into())) },
            Record::Directory { handle: 2, ino: 1, at: None },
            Record::DirectoryClosed { handle: 2 },
        ] {
            written.append(&record).expect("room");
        }
        let held = log(&region).read().expect("whole");
        assert_eq!(held.nodes.len(), 1);
        assert_eq!((held.nodes[&2].path.as_str(), held.nodes[&2].lookups, held.next_ino), ("a", 2, 4));
        assert_eq!(held.directories, BTreeMap::from([(1, (1, Some((7, "a".into()))))]));
    }

    #[test]
    fn a_log_that_is_written_anew_says_the_same_in_less() {
        let region = region();
        let mut log = log(&region);
        log.append(&node(2, "a")).expect("room");
        for _ in 0..100_000 {
            log.append(&Record::Counted { ino: 2, by: 1 }).expect("room");
        }
        assert!(log.end(log.active()) < SHORT + 64, "{} bytes", log.end(log.active()));
        assert_eq!(log.read().expect("whole").nodes[&2].lookups, 100_000);
        let before = log.read().expect("whole");
        log.shorten().expect("room");
        assert_eq!(log.read().expect("whole"), before);
        assert!(log.end(log.active()) < 100);
    }

    #[test]
    fn an_entry_that_was_not_finished_is_none_and_one_that_was_changed_is_damage() {
        let region = region();
        let mut log = log(&region);
        log.append(&node(2, "a")).expect("room");
        let end = log.end(0);
        log.append(&node(3, "b")).expect("room");
        region.set_u64(8, end as u64);
        assert_eq!(log.read().expect("whole").nodes.len(), 1);
        region.write(HALVES[0] + FRAME + 2, b"x");
        assert!(matches!(log.read(), Err(JournalError::Damaged { what: "an entry's checksum" })));
        region.set_u64(8, end as u64 - 4);
        assert!(matches!(log.read(), Err(JournalError::Damaged { what: "an entry's length" })));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), end in any::<u64>()) {
            let region = Arc::new(Region::create((HALVES[1] + HALF_BYTES) as u64).expect("memory"));
            region.write(HALVES[0], &bytes);
            region.set_u64(8, end % 300);
            let _ = log(&region).read();
        }
    }
}
