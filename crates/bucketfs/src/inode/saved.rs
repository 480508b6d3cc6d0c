//! What a successor must know of the numbers that the kernel holds: written down as it changes, and read again.
//!
//! What must hold: what the kernel is about to be told is written down first; a number means the same content to a
//! successor. How current a name is, it finds out by itself: nothing is believed that was not asked since.

use std::sync::Arc;

use super::node::{Facts, Node, ROOT};
use super::table::Table;
use crate::attr::{Attributes, Kind, Timestamp};
use crate::journal::{AttributesRecord, Journal, NodeRecord, Record, Recovered};
use crate::store::{ETag, Version};
use crate::xattr::Xattrs;

/// In the order of their numbers.
const KINDS: [Kind; 7] = [
    Kind::Directory,
    Kind::File,
    Kind::Symlink,
    Kind::Fifo,
    Kind::CharacterDevice,
    Kind::BlockDevice,
    Kind::Socket,
];

impl<C> Table<C> {
    /// Writes down from now on what the kernel is told.
    pub fn keep_in(&mut self, journal: Arc<Journal>) {
        self.journal = Some(journal);
    }

    /// Knows the numbers that the kernel holds of a process before.
    pub fn restore(&mut self, held: &Recovered) {
        self.next = self.next.max(held.next_ino);
        for record in held.nodes.values().filter(|record| record.ino > ROOT && record.lookups > 0) {
            let path: Arc<str> = Arc::from(record.path.as_str());
            let mut node = Node::new(path.clone(), facts_of(record));
            node.lookups = record.lookups;
            node.noted = checksum(record);
            if record.is_named {
                self.names.insert(path, record.ino);
            }
            self.nodes.insert(record.ino, Box::new(node));
            self.enter_queue(record.ino);
        }
    }

    /// The kernel is about to be told of `ino` once more.
    pub(super) fn note_told(&mut self, ino: u64) {
        // Whatever changes them later is written down when it does.
        if self.node(ino).is_some_and(|node| node.noted == 0) {
            self.note_facts(ino);
        }
        self.note(ino, |ino| Record::Counted { ino, by: 1 });
    }

    pub(super) fn note_forgotten(&self, ino: u64, count: u64) {
        self.note(ino, |ino| Record::Counted { ino, by: 0i64.saturating_sub_unsigned(count) });
    }

    pub(super) fn note_all_forgotten(&self, ino: u64) {
        self.note(ino, |ino| Record::Forgotten { ino });
    }

    /// Writes down what a number that the kernel holds means, if that has changed.
    pub(super) fn note_facts(&mut self, ino: u64) {
        if self.journal.is_none() || ino == ROOT {
            return;
        }
        let Some(node) = self.nodes.get(&ino).filter(|node| node.lookups > 0) else { return };
        let record = record_of(ino, node, self.names.get(&node.path) == Some(&ino));
        let checksum = checksum(&record);
        if checksum != node.noted {
            self.note(ino, |_| Record::Node(record));
            self.nodes.get_mut(&ino).expect("found above").noted = checksum;
        }
    }

    fn note(&self, ino: u64, record: impl FnOnce(u64) -> Record) {
        if let Some(journal) = self.journal.as_ref().filter(|_| ino != ROOT) {
            journal.note(&record(ino));
        }
    }
}

/// Never 0, which stands for nothing.
fn checksum(record: &NodeRecord) -> u32 {
    let same = NodeRecord { lookups: 0, ..record.clone() };
    postcard::to_stdvec(&same).map_or(1, |bytes| crc32fast::hash(&bytes).max(1))
}

fn record_of<C>(ino: u64, node: &Node<C>, is_named: bool) -> NodeRecord {
    let facts = &node.facts;
    NodeRecord {
        ino,
        path: node.path.to_string(),
        is_named,
        lookups: 0,
        version: facts.version.as_ref().map(version_record),
        size: facts.size,
        kind: facts.kind.map(kind_number),
        attributes: facts.attributes.as_ref().map(attributes_record),
        xattrs: facts
            .xattrs
            .entries()
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_vec()))
            .collect(),
        target: facts.target.as_ref().map(|target| target.to_vec()),
        settled: facts.settled,
        marker: facts.marker.as_ref().map(version_record),
    }
}

fn facts_of(record: &NodeRecord) -> Facts {
    Facts {
        version: record.version.as_ref().map(version_of),
        size: record.size,
        kind: record.kind.and_then(kind_of),
        attributes: record.attributes.as_ref().and_then(attributes_of),
        xattrs: xattrs_of(&record.xattrs),
        target: record.target.as_deref().map(Arc::from),
        settled: record.settled,
        alone: None,
        marker: record.marker.as_ref().map(version_of),
        marker_checked: None,
        changed: None,
    }
}

fn xattrs_of(pairs: &[(String, Vec<u8>)]) -> Xattrs {
    pairs.iter().fold(Xattrs::default(), |xattrs, (name, value)| xattrs.with(name, value))
}

fn version_record(version: &Version) -> (String, i64, Option<String>) {
    let id = version.version_id.as_deref().map(str::to_string);
    (version.etag.0.to_string(), version.last_modified, id)
}

fn version_of((etag, last_modified, version_id): &(String, i64, Option<String>)) -> Version {
    Version {
        etag: ETag(Arc::from(etag.as_str())),
        last_modified: *last_modified,
        version_id: version_id.as_deref().map(Arc::from),
    }
}

fn attributes_record(attributes: &Attributes) -> AttributesRecord {
    let time = |time: Timestamp| (time.seconds, time.nanoseconds);
    AttributesRecord {
        kind: kind_number(attributes.kind),
        permissions: attributes.permissions,
        uid: attributes.uid,
        gid: attributes.gid,
        size: attributes.size,
        times: [time(attributes.mtime), time(attributes.ctime), time(attributes.atime)],
    }
}

fn attributes_of(record: &AttributesRecord) -> Option<Attributes> {
    let [mtime, ctime, atime] = record.times.map(|(seconds, nanoseconds)| Timestamp { seconds, nanoseconds });
    Some(Attributes {
        kind: kind_of(record.kind)?,
        permissions: record.permissions,
        uid: record.uid,
        gid: record.gid,
        size: record.size,
        mtime,
        ctime,
        atime,
    })
}

fn kind_number(kind: Kind) -> u8 {
    KINDS.iter().position(|known| *known == kind).and_then(|at| u8::try_from(at).ok()).unwrap_or(u8::MAX)
}

fn kind_of(number: u8) -> Option<Kind> {
    KINDS.get(usize::from(number)).copied()
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::path::PathBuf;

    use tokio::time::Instant;

    use super::*;
    use crate::attr::Defaults;
    use crate::journal::{InitExchange, SessionHeader};

    const DEFAULTS: Defaults =
        Defaults { uid: 1, gid: 2, file_permissions: 0o644, directory_permissions: 0o755 };

    fn table() -> (Table<()>, Arc<Journal>) {
        let journal = Arc::new(Journal::create().expect("memory"));
        let init = InitExchange::default();
        let (path, settings) = (PathBuf::new(), String::new());
        let head =
            SessionHeader { path, device: (0, 0), settings, staging: None, region: None, began: None, init };
        journal.publish(&head).expect("short");
        let mut table = Table::new(Attributes::implicit_directory(&DEFAULTS, Timestamp::EPOCH), 1 << 20);
        table.keep_in(journal.clone());
        (table, journal)
    }

    /// The table of a successor.
    fn succeeded(journal: &Journal) -> Table<()> {
        let descriptor = journal.as_fd().try_clone_to_owned().expect("a descriptor");
        let found = Journal::open(descriptor).expect("whole");
        let mut table = Table::new(Attributes::implicit_directory(&DEFAULTS, Timestamp::EPOCH), 1 << 20);
        table.restore(&found.held);
        table
    }

    fn facts(etag: &str) -> Facts {
        let version_id = Some(Arc::from("v1"));
        let version = Version { etag: ETag(Arc::from(etag)), last_modified: 1_700_000_000, version_id };
        let time = Timestamp { seconds: 5, nanoseconds: 6 };
        Facts {
            kind: Some(Kind::Symlink),
            attributes: Some(Attributes {
                kind: Kind::Symlink,
                permissions: 0o640,
                mtime: time,
                size: 9,
                ..Attributes::implicit_directory(&DEFAULTS, Timestamp::EPOCH)
            }),
            xattrs: Xattrs::default().with("user.a", b"b"),
            target: Some(Arc::from(&b"target"[..])),
            ..Facts::listed(version, 9, true)
        }
    }

    #[tokio::test]
    async fn a_successor_knows_what_the_kernel_holds_and_nothing_else() {
        let (mut table, journal) = table();
        let now = Instant::now();
        let held = table.record("a/map", facts("1"), now);
        table.record("never told", facts("2"), now);
        let forgotten = table.record("forgotten", facts("3"), now);
        for ino in [held, held, held, forgotten] {
            table.remember(ino);
        }
        table.forget(held, 1);
        table.forget(forgotten, 1);
        let next = succeeded(&journal);
        assert_eq!(next.in_use(), 2, "the root and one more");
        let (ino, node) = next.named("a/map").expect("named");
        assert_eq!((ino, node.lookups, node.checked), (held, 2, None));
        assert_eq!(node.facts, facts("1"));
        assert!(next.next > forgotten);
    }

    #[tokio::test]
    async fn a_number_whose_name_went_on_to_another_version_stays_what_it_was() {
        let (mut table, journal) = table();
        let old = table.record("map", facts("1"), Instant::now());
        table.remember(old);
        let new = table.record("map", facts("2"), Instant::now());
        table.remember(new);
        let next = succeeded(&journal);
        assert_eq!(next.find("map"), Some(new));
        assert_eq!(next.node(old).expect("held").facts, facts("1"));
    }

    #[tokio::test]
    async fn what_is_learned_later_and_a_new_name_are_known_too() {
        let (mut table, journal) = table();
        let ino = table.record("map", facts("1"), Instant::now());
        table.remember(ino);
        table.set_facts(ino, |facts| facts.xattrs = Xattrs::default());
        table.rename("map", "other", Instant::now());
        let next = succeeded(&journal);
        assert_eq!(next.find("map"), None);
        let (found, node) = next.named("other").expect("renamed");
        assert_eq!((found, node.facts.xattrs.entries().len()), (ino, 0));
    }
}
