//! What is written down about a file that is being changed, so that another process can go on with it.
//!
//! The first line says what the file was when it was opened; each line behind it is one event. A line that was not
//! written to its end has not happened. What must hold: a reader of a later version can tell what it reads (`version`);
//! the replay of all events gives the state that the process had, but for what it had not yet acknowledged.

use serde::{Deserialize, Serialize};

/// Of the format of records.
pub const VERSION: u32 = 1;

/// What is known of a file when its record begins, or after replaying it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub version: u32,
    /// `s3://bucket/prefix` as the mount shows it: whose upload it is.
    pub source: String,
    pub ino: u64,
    /// The object's key.
    pub key: String,
    /// Entity tag and size of the object that was opened.
    pub base: Option<(String, u64)>,
    pub size: u64,
    /// Ranges written since, in the order of writing.
    #[serde(default)]
    pub written: Vec<(u64, u64)>,
    /// An upload that has begun: its key and its name.
    #[serde(default)]
    pub upload: Option<(String, String)>,
    /// Parts of it that the store has: number and entity tag.
    #[serde(default)]
    pub parts: Vec<(u32, String)>,
    /// Whether the name is gone and only those who have it open still use it.
    #[serde(default)]
    pub orphan: bool,
}

/// Something that has happened to the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// Offset and end.
    Wrote(u64, u64),
    Cut(u64),
    Renamed(String),
    Orphaned,
    Began {
        key: String,
        upload: String,
    },
    Part(u32, String),
    /// A part that was sent is of no use: it was written again.
    Unpart(u32),
    /// The upload is over, well or not.
    Ended,
    /// The store has all of it: entity tag and size.
    Stored(String, u64),
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
    /// As they would have been stored.
    pub metadata: Vec<(String, String)>,
}

/// The line that a record begins with.
pub fn first_line(record: &Record) -> String {
    text(record)
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

/// The state that a record ends in. `None` if it is of another version, or is no record.
pub fn read(text: &str) -> Option<Record> {
    let mut lines = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
    let mut record: Record = serde_json::from_str(lines.next()?).ok()?;
    if record.version != VERSION {
        return None;
    }
    for line in lines {
        // What cannot be read was not finished.
        let Ok(event) = serde_json::from_str(line) else { break };
        record.apply(event);
    }
    Some(record)
}

impl Record {
    fn apply(&mut self, event: Event) {
        match event {
            Event::Wrote(start, end) => {
                self.size = self.size.max(end);
                self.written.push((start, end));
            }
            Event::Cut(size) => {
                self.size = size;
                self.written.retain(|(start, _)| *start < size);
                self.written.iter_mut().for_each(|(_, end)| *end = (*end).min(size));
            }
            Event::Renamed(key) => self.key = key,
            Event::Orphaned => self.orphan = true,
            Event::Began { key, upload } => {
                self.upload = Some((key, upload));
                self.parts.clear();
            }
            Event::Part(number, etag) => {
                self.parts.retain(|(known, _)| *known != number);
                self.parts.push((number, etag));
            }
            Event::Unpart(number) => self.parts.retain(|(known, _)| *known != number),
            Event::Ended => {
                self.upload = None;
                self.parts.clear();
            }
            Event::Stored(etag, size) => {
                self.base = Some((etag, size));
                self.written.clear();
                self.upload = None;
                self.parts.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record() -> Record {
        let source = "s3://bucket".to_string();
        Record { version: VERSION, source, ino: 7, key: "a".into(), ..Record::default() }
    }

    fn replayed(events: &[Event]) -> Option<Record> {
        read(&(first_line(&record()) + &events.iter().map(line).collect::<String>()))
    }

    #[test]
    fn the_state_is_that_after_the_last_event() {
        let events = [
            Event::Wrote(0, 100),
            Event::Began { key: "a".into(), upload: "u".into() },
            Event::Part(1, "e1".into()),
            Event::Part(2, "e2".into()),
            Event::Unpart(1),
            Event::Cut(50),
            Event::Renamed("b".into()),
        ];
        let expected = Record {
            key: "b".into(),
            size: 50,
            written: vec![(0, 50)],
            upload: Some(("a".into(), "u".into())),
            parts: vec![(2, "e2".into())],
            ..record()
        };
        assert_eq!(replayed(&events), Some(expected));
        let stored = replayed(&[Event::Wrote(0, 9), Event::Stored("e".into(), 9), Event::Orphaned]);
        let expected = Record { size: 9, base: Some(("e".into(), 9)), orphan: true, ..record() };
        assert_eq!(stored, Some(expected));
    }

    #[test]
    fn a_line_that_was_cut_off_has_not_happened() {
        let mut text = first_line(&record()) + &line(&Event::Wrote(0, 5)) + &line(&Event::Wrote(5, 9));
        text.truncate(text.len() - 2);
        assert_eq!(read(&text).expect("a record").size, 5);
    }

    #[test]
    fn a_record_of_another_version_is_none_of_ours() {
        assert_eq!(read(&first_line(&Record { version: 2, ..record() })), None);
        assert_eq!(read(""), None);
        assert_eq!(read("{}"), None);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in any::<String>()) {
            read(&text);
        }
    }
}
