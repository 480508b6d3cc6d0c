//! What is written down about a file that is being changed, so that another process can go on with it.
//!
//! A record begins with all that there is to know of the file; each line behind it is one event, or all of it again. A
//! line that was not written to its end has not happened. What must hold: a reader of a later version can tell what it
//! reads (`version`); the replay of all lines gives the state that the process had, but for what it had not yet
//! acknowledged; bytes are replayed by the same rules that they were written by (`extents.rs`).

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::extents::Extents;
use super::part_layout::PartLayout;
use crate::attr::{Attributes, Timestamp};
use crate::store::write::{Headers, Tags, Written};
use crate::store::{Object, Version};

/// Of the format of records.
pub const VERSION: u32 = 2;

/// All that there is to know of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub version: u32,
    pub ino: u64,
    /// From the root of the mount.
    pub path: String,
    pub life: Life,
    /// The object that it was, or was last stored as.
    pub base: Option<Base>,
    pub headers: Headers,
    pub tags: Tags,
    pub attributes: Attributes,
    /// Names and values, these in base64.
    pub xattrs: Vec<(String, String)>,
    pub headers_changed: bool,
    pub times_set: bool,
    pub extents: Extents,
    /// Of the layout by which it is cut into parts.
    pub part_bytes: u64,
    pub upload: Option<Upload>,
    /// What the store was asked to make of it since it last said that it had: it may have done so.
    pub attempts: Vec<Attempt>,
    /// Why the store refused it when whoever has it open last asked.
    #[serde(default)]
    pub refused: Option<String>,
    /// It is of no call but one, which has not been answered: whoever comes after has nothing to do with it.
    #[serde(default)]
    pub is_of_one_call: bool,
    /// The store is being asked for its name: whether it has agreed is to be found out.
    #[serde(default)]
    pub is_leaving: bool,
}

/// Whether a file is still to be stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Life {
    Named,
    /// Its name is gone: it lives as long as somebody has it open, and on disk only.
    Orphan,
    /// Somebody else has written the object meanwhile; what was written here is kept there.
    Lost {
        kept: Option<PathBuf>,
    },
}

/// A version of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    pub etag: String,
    pub version_id: Option<String>,
    pub last_modified: i64,
    pub size: u64,
}

/// An upload that has begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upload {
    pub key: String,
    pub id: String,
    pub mtime: Timestamp,
    pub ctime: Timestamp,
    pub headers: Headers,
    /// Parts of it that the store has: number and entity tag.
    pub parts: Vec<(u32, String)>,
}

/// By what an object can be told to be ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    pub size: u64,
    pub metadata: Vec<(String, String)>,
}

/// A line of a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// Everything, as it is now.
    All(Box<Record>),
    /// Offset and end. Parts that it is in are to be sent again.
    Wrote(u64, u64),
    Cut(u64),
    /// Offset and end of what came from the object.
    Brought(u64, u64),
    /// Offset and end of what the upload has and the disk no more.
    Released(u64, u64),
    Part(u32, String),
    Attempt(Attempt),
}

/// What is said of bytes that were kept because they could not be stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    pub source: String,
    pub key: String,
    pub reason: String,
    pub size: u64,
    /// What of it was not written here and could not be had any more.
    pub missing: Vec<(u64, u64)>,
    /// The upload that has those of them which had left the disk already: whoever completes it with these parts has
    /// them. It is not aborted.
    #[serde(default)]
    pub upload: Option<Upload>,
    /// As they would have been stored.
    pub metadata: Vec<(String, String)>,
}

/// What a record turns out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    Whole(Box<Record>),
    /// It was never written to the end of its first line: nothing was acknowledged.
    Nothing,
    /// Of another version.
    Foreign,
}

/// The line of an event.
pub fn line(event: &Event) -> String {
    text(event)
}

/// What is put beside a kept file.
pub fn kept_text(kept: &Kept) -> String {
    text(kept)
}

fn text<T: Serialize>(value: &T) -> String {
    let mut text = serde_json::to_string(value).expect("plain data: strings, numbers and lists");
    text.push('\n');
    text
}

/// The state that a record ends in.
pub fn read(text: &str) -> Read {
    #[derive(Deserialize)]
    struct First {
        all: Version,
    }
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let mut lines = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
    let Some(first) = lines.next() else { return Read::Nothing };
    let mut record = match serde_json::from_str(first) {
        Ok(Event::All(record)) if record.version == VERSION => record,
        _ => {
            let version = serde_json::from_str::<First>(first).map(|first| first.all.version);
            return if version.is_ok_and(|version| version != VERSION) {
                Read::Foreign
            } else {
                Read::Nothing
            };
        }
    };
    for line in lines {
        // What cannot be read was not finished.
        let Ok(event) = serde_json::from_str(line) else { break };
        record.apply(event);
    }
    Read::Whole(record)
}

impl Attempt {
    /// The object if it is exactly what was to be made: the times in it are ours to the nanosecond.
    pub fn made(&self, found: &Object) -> Option<Written> {
        let sorted = |metadata: &[(String, String)]| {
            let mut metadata = metadata.to_vec();
            metadata.sort();
            metadata
        };
        let is_it = found.size == self.size && sorted(&found.metadata) == sorted(&self.metadata);
        let Version { etag, version_id, .. } = found.version.clone();
        is_it.then_some(Written { etag, version_id })
    }
}

impl Record {
    fn apply(&mut self, event: Event) {
        match event {
            Event::All(record) => *self = *record,
            Event::Wrote(start, end) => {
                if start < end {
                    self.spoil(start, end);
                    self.extents.wrote(start..end);
                }
            }
            Event::Cut(size) => {
                let before = self.extents.size;
                self.spoil(size.min(before), size.max(before));
                self.extents.cut(size);
            }
            Event::Brought(start, end) => self.extents.brought(start..end.max(start)),
            Event::Released(start, end) => self.extents.released(start..end.max(start)),
            Event::Part(number, etag) => {
                if let Some(upload) = &mut self.upload {
                    upload.parts.retain(|(known, _)| *known != number);
                    upload.parts.push((number, etag));
                }
            }
            Event::Attempt(attempt) => self.attempts.push(attempt),
        }
    }

    /// Parts that have bytes between `start` and `end` are of no use any more.
    fn spoil(&mut self, start: u64, end: u64) {
        let Some(upload) = &mut self.upload else { return };
        if start < end {
            let layout = PartLayout::new(self.part_bytes);
            let stale = layout.part_of(start)..=layout.part_of(end - 1);
            upload.parts.retain(|(number, _)| !stale.contains(number));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::attr::Kind;

    const PART: u64 = 8 * 1024 * 1024;

    fn record() -> Record {
        let attributes = Attributes {
            kind: Kind::File,
            permissions: 0o644,
            uid: 1,
            gid: 2,
            size: 0,
            mtime: Timestamp::EPOCH,
            ctime: Timestamp::EPOCH,
            atime: Timestamp::EPOCH,
        };
        Record {
            version: VERSION,
            ino: 7,
            path: "a".into(),
            life: Life::Named,
            base: None,
            headers: Headers::default(),
            tags: Tags::new(),
            attributes,
            xattrs: Vec::new(),
            headers_changed: true,
            times_set: false,
            extents: Extents::default(),
            part_bytes: PART,
            upload: None,
            attempts: Vec::new(),
            refused: None,
            is_of_one_call: false,
            is_leaving: false,
        }
    }

    fn upload() -> Upload {
        let (mtime, ctime) = (Timestamp::EPOCH, Timestamp::EPOCH);
        let (key, id) = ("a".to_string(), "u".to_string());
        Upload { key, id, mtime, ctime, headers: Headers::default(), parts: Vec::new() }
    }

    fn text_of(events: &[Event]) -> String {
        line(&Event::All(Box::new(record()))) + &events.iter().map(line).collect::<String>()
    }

    fn replayed(events: &[Event]) -> Record {
        match read(&text_of(events)) {
            Read::Whole(record) => *record,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_state_is_that_after_the_last_event() {
        let begun = Record { upload: Some(upload()), ..record() };
        let events = [
            Event::All(Box::new(begun)),
            Event::Wrote(0, 4 * PART),
            Event::Part(1, "e1".into()),
            Event::Part(2, "e2".into()),
            Event::Part(3, "e3".into()),
            Event::Wrote(PART, PART + 1),
            Event::Cut(2 * PART + 1),
        ];
        let mut expected = Extents::default();
        expected.wrote(0..4 * PART);
        expected.cut(2 * PART + 1);
        let found = replayed(&events);
        assert_eq!(found.extents, expected);
        assert_eq!(found.upload.expect("begun").parts, [(1, "e1".to_string())]);
        let last = Record { path: "b".into(), life: Life::Orphan, ..record() };
        assert_eq!(replayed(&[Event::Wrote(0, 9), Event::All(Box::new(last.clone()))]), last);
    }

    #[test]
    fn a_line_that_was_cut_off_has_not_happened() {
        let mut text = text_of(&[Event::Wrote(0, 5), Event::Wrote(5, 9)]);
        text.truncate(text.len() - 2);
        let Read::Whole(record) = read(&text) else { panic!("no record") };
        assert_eq!(record.extents.size, 5);
        let text = text_of(&[]);
        assert_eq!(read(&text[..text.len() - 1]), Read::Nothing);
    }

    #[test]
    fn a_record_of_another_version_is_none_of_ours() {
        let other = Record { version: VERSION + 1, ..record() };
        assert_eq!(read(&line(&Event::All(Box::new(other)))), Read::Foreign);
        assert_eq!(read("{\"all\":{\"version\":9,\"new\":1}}\n"), Read::Foreign);
        assert_eq!(read(""), Read::Nothing);
        assert_eq!(read("{}\n"), Read::Nothing);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in any::<String>()) {
            read(&text);
        }

        #[test]
        fn no_event_panics(events in prop::collection::vec((0u8..4, any::<u64>(), any::<u64>()), 0..9)) {
            let events: Vec<Event> = events.into_iter().map(|(kind, a, b)| match kind {
                0 => Event::Wrote(a, b),
                1 => Event::Cut(a),
                2 => Event::Brought(a, b),
                _ => Event::Released(a, b),
            }).collect();
            let begun = Event::All(Box::new(Record { upload: Some(upload()), ..record() }));
            replayed(&[&[begun][..], &events].concat());
        }
    }
}
