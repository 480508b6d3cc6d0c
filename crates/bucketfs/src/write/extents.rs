//! Which bytes of a file that is being changed are where.
//!
//! ```text
//!   0 ............................ base_len ............ size
//!   | in the store's object, but   | on disk: written, or
//!   | on disk where `present`      | never written and zero
//!   '- wherever `released`: in parts of an upload, and nowhere else ------'
//! ```
//!
//! Pure. What must hold: a byte comes from the object only below `base_len`; what is neither `dirty` nor at or behind
//! `base_len` is the same in the object, so it can be copied there by the store itself; what is released is dirty, and
//! nobody has it until the upload has become the object.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::ranges::Ranges;

/// The layout of one file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extents {
    pub size: u64,
    /// How far the object's bytes still count: a file that was cut off does not get them back by growing.
    base_len: u64,
    /// On disk, below `base_len`.
    present: Ranges,
    /// Written since the object was.
    dirty: Ranges,
    /// Dirty, and not on disk any more: the store has it in parts of an upload.
    released: Ranges,
    /// The least that `size` has been since the last snapshot.
    low_water: u64,
}

/// Where a run of bytes is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    Disk(Range<u64>),
    Object(Range<u64>),
    /// Nobody can read it before the upload is completed.
    Upload(Range<u64>),
}

/// What an upload takes, and what it will have made of the file.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub size: u64,
    base_len: u64,
    dirty: Ranges,
}

impl Snapshot {
    /// Whether the object has exactly these bytes already.
    pub fn is_in_object(&self, range: &Range<u64>) -> bool {
        range.end <= self.base_len && !self.dirty.overlaps(range)
    }
}

impl Extents {
    /// A file of which the store holds `size` bytes, none of them on disk.
    pub fn of_object(size: u64) -> Extents {
        Extents { size, base_len: size, low_water: size, ..Extents::default() }
    }

    /// Notes that `range` was written to disk.
    pub fn wrote(&mut self, range: Range<u64>) {
        self.size = self.size.max(range.end);
        self.present.insert(range.start.min(self.base_len)..range.end.min(self.base_len));
        self.released.remove(range.clone());
        self.dirty.insert(range);
    }

    /// Notes that `range`, which is dirty, has left the disk for parts of an upload.
    pub fn released(&mut self, range: Range<u64>) {
        let range = range.start.min(self.size)..range.end.min(self.size);
        self.present.remove(range.clone());
        self.released.insert(range);
    }

    /// Whether any byte of `range` is nowhere but in parts of an upload.
    pub fn is_released(&self, range: &Range<u64>) -> bool {
        self.released.overlaps(range)
    }

    /// What is nowhere but in parts of an upload.
    pub fn all_released(&self) -> Vec<Range<u64>> {
        self.released.iter().collect()
    }

    /// Notes that `range` was brought from the object to disk.
    pub fn brought(&mut self, range: Range<u64>) {
        self.present.insert(range.start.min(self.base_len)..range.end.min(self.base_len));
    }

    /// Notes that the file now ends at `size`, and on disk too.
    pub fn cut(&mut self, size: u64) {
        if size < self.size {
            self.base_len = self.base_len.min(size);
            self.low_water = self.low_water.min(size);
            self.present.remove(size..u64::MAX);
            self.dirty.remove(size..u64::MAX);
            self.released.remove(size..u64::MAX);
        }
        self.size = size;
    }

    /// The run of bytes written last that reaches the end of the file; empty if there is none.
    pub fn last_run(&self) -> Range<u64> {
        let last = self.dirty.iter().last();
        last.filter(|range| range.end == self.size).unwrap_or(self.size..self.size)
    }

    /// The object is what the file was before the process knew it, at `size` bytes: everything that was dirty is taken
    /// to differ from it still, but for what left the disk for it.
    pub fn rebased(&mut self, size: u64) {
        let same = self.size.min(size);
        let new = self.base_len.min(same)..same;
        self.present.insert(new.clone());
        self.dirty.insert(new);
        for range in std::mem::take(&mut self.released).iter() {
            self.present.remove(range.clone());
            self.dirty.remove(range);
        }
        self.base_len = same;
    }

    /// Whether the content differs from an object of `base` bytes.
    pub fn is_dirty(&self, base: Option<u64>) -> bool {
        base.is_none_or(|base| base != self.size || self.base_len < base) || !self.dirty.is_empty()
    }

    /// Whether all of `range` was written since the object was.
    pub fn is_all_new(&self, range: &Range<u64>) -> bool {
        range.start >= self.base_len || self.dirty.contains(range)
    }

    /// Whether a write to `range` is one of bytes that are dirty already and within the file.
    pub fn is_known_dirty(&self, range: &Range<u64>) -> bool {
        range.end <= self.size && self.dirty.contains(range)
    }

    /// What of `range` has to be fetched before it can be read from disk.
    pub fn missing(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let end = range.end.min(self.base_len);
        if range.start >= end {
            return Vec::new();
        }
        let gaps = self.present.gaps(range.start..end);
        gaps.into_iter().flat_map(|gap| self.released.gaps(gap)).collect()
    }

    /// Where the bytes of `range`, cut at the end of the file, are.
    pub fn pieces(&self, range: Range<u64>) -> Vec<Piece> {
        let range = range.start.min(self.size)..range.end.min(self.size);
        let mut pieces = Vec::new();
        let mut at = range.start;
        for held in self.released.gaps(range.clone()) {
            if held.start > at {
                pieces.push(Piece::Upload(at..held.start));
            }
            at = held.end;
            self.pieces_held(held, &mut pieces);
        }
        if at < range.end {
            pieces.push(Piece::Upload(at..range.end));
        }
        pieces
    }

    fn pieces_held(&self, range: Range<u64>, pieces: &mut Vec<Piece>) {
        let mut at = range.start;
        for gap in self.missing(range.clone()) {
            if gap.start > at {
                pieces.push(Piece::Disk(at..gap.start));
            }
            at = gap.end;
            pieces.push(Piece::Object(gap));
        }
        if at < range.end {
            pieces.push(Piece::Disk(at..range.end));
        }
    }

    /// Begins an upload: what is written from now on counts as written after it.
    pub fn snapshot(&mut self) -> Snapshot {
        self.low_water = self.size;
        Snapshot { size: self.size, base_len: self.base_len, dirty: std::mem::take(&mut self.dirty) }
    }

    /// The upload has succeeded: the object is now what the snapshot was.
    pub fn stored(&mut self, snapshot: &Snapshot) {
        let same = self.low_water.min(snapshot.size);
        // What was behind the old object's end is on disk.
        self.present.insert(self.base_len.min(same)..same);
        for range in std::mem::take(&mut self.released).iter() {
            self.present.remove(range);
        }
        self.base_len = same;
    }

    /// As it is if `snapshot`, which is under way, comes to nothing: what a successor may count on.
    pub fn without(&self, snapshot: Option<&Snapshot>) -> Extents {
        let mut extents = self.clone();
        if let Some(snapshot) = snapshot {
            extents.not_stored(snapshot.clone());
        }
        extents
    }

    /// The upload has failed: everything is as if it had not begun.
    pub fn not_stored(&mut self, snapshot: Snapshot) {
        self.dirty.insert_all(&snapshot.dirty);
        self.dirty.remove(self.size..u64::MAX);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The same file byte by byte: its content, what is on disk, and the object.
    #[derive(Default)]
    struct Model {
        content: Vec<u8>,
        disk: Vec<u8>,
        object: Vec<u8>,
        upload: Vec<u8>,
    }

    impl Model {
        /// Does to the bytes what a step says, and notes it.
        fn change(&mut self, extents: &mut Extents, step: Step) {
            match step {
                // Whoever writes there waits until the upload has become the object.
                Step::Write(at, length, _) if extents.is_released(&(at..at + length)) => {}
                Step::Write(at, length, byte) => {
                    let (start, end) = (at as usize, (at + length) as usize);
                    for file in [&mut self.content, &mut self.disk] {
                        if file.len() < end {
                            file.resize(end, 0);
                        }
                        file[start..end].fill(byte);
                    }
                    extents.wrote(at..at + length);
                }
                Step::Cut(size) => {
                    self.content.resize(size as usize, 0);
                    self.disk.resize(size as usize, 0);
                    extents.cut(size);
                }
                Step::Bring(at, length) => {
                    for gap in extents.missing(at..(at + length).min(extents.size)) {
                        let (start, end) = (gap.start as usize, gap.end as usize);
                        if self.disk.len() < end {
                            self.disk.resize(end, 0);
                        }
                        self.disk[start..end].copy_from_slice(&self.object[start..end]);
                        extents.brought(gap);
                    }
                }
                Step::Release(at, length) => {
                    let range = at..at + length;
                    if extents.is_known_dirty(&range) && !extents.is_released(&range) {
                        let bytes = range.start as usize..range.end as usize;
                        self.upload[bytes.clone()].copy_from_slice(&self.disk[bytes.clone()]);
                        self.disk[bytes].fill(0xff);
                        extents.released(range);
                    }
                }
                Step::Begin | Step::Stored | Step::Failed => {}
            }
        }

        fn read(&self, extents: &Extents) -> Vec<u8> {
            let mut bytes = Vec::new();
            for piece in extents.pieces(0..u64::MAX) {
                let (from, range) = match piece {
                    Piece::Disk(range) => (&self.disk, range),
                    Piece::Object(range) => (&self.object, range),
                    Piece::Upload(range) => (&self.upload, range),
                };
                bytes.extend((range.start..range.end).map(|at| from.get(at as usize).copied().unwrap_or(0)));
            }
            bytes
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Write(u64, u64, u8),
        Cut(u64),
        Bring(u64, u64),
        Release(u64, u64),
        Begin,
        Stored,
        Failed,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0u64..40, 1u64..10, 1u8..255).prop_map(|(at, length, byte)| Step::Write(at, length, byte)),
            2 => (0u64..50).prop_map(Step::Cut),
            1 => (0u64..40, 1u64..10).prop_map(|(at, length)| Step::Bring(at, length)),
            1 => (0u64..40, 1u64..10).prop_map(|(at, length)| Step::Release(at, length)),
            1 => Just(Step::Begin),
            1 => Just(Step::Stored),
            1 => Just(Step::Failed),
        ]
    }

    proptest! {
        #[test]
        fn every_byte_is_found_where_it_is_said_to_be(
            object in prop::collection::vec(1u8..255, 0..40),
            steps in prop::collection::vec(step(), 0..30),
        ) {
            let mut extents = Extents::of_object(object.len() as u64);
            let mut model = Model { content: object.clone(), object, upload: vec![0; 64], ..Model::default() };
            let mut under_way: Option<(Snapshot, Vec<u8>)> = None;
            for step in steps {
                match step {
                    // What is being stored stays as it is.
                    Step::Release(..) if under_way.is_some() => {}
                    Step::Begin if under_way.is_none() => {
                        under_way = Some((extents.snapshot(), model.content.clone()));
                    }
                    Step::Stored => if let Some((snapshot, content)) = under_way.take() {
                        for (at, byte) in (0u64..).zip(&content) {
                            if snapshot.is_in_object(&(at..at + 1)) {
                                prop_assert_eq!(Some(byte), model.object.get(at as usize));
                            }
                        }
                        extents.stored(&snapshot);
                        model.object = content;
                    },
                    Step::Failed => if let Some((snapshot, _)) = under_way.take() {
                        extents.not_stored(snapshot);
                    },
                    step => model.change(&mut extents, step),
                }
                prop_assert_eq!(extents.size, model.content.len() as u64);
                prop_assert_eq!(model.read(&extents), model.content.clone());
                if under_way.is_none() && !extents.is_dirty(Some(model.object.len() as u64)) {
                    prop_assert_eq!(&model.object, &model.content);
                }
            }
        }
    }
}
