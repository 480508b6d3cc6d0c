//! How a large file is cut into the parts of an upload.
//!
//! Parts have fixed places, so that one can leave while the file behind it is still being written, and one that is
//! written again is sent again under its number. They grow, because there are at most 10,000 of them:
//!
//! ```text
//!   parts 1 to 1,000: the least size (8 MiB)     to 4,000: four times that     to 10,000: sixteen times
//! ```
//!
//! Pure. What must hold: parts follow each other without a gap; none but the last is smaller than S3 takes; bytes that
//! the object has already are not sent but copied there, in pieces as large as may be.

use std::ops::Range;

use super::extents::Snapshot;
use crate::store::write::{PART_MIN, PARTS_MAX};

/// Parts of the least size, then of four times, then of sixteen times that.
const STEPS: [(u32, u64); 3] = [(1_000, 1), (4_000, 4), (PARTS_MAX, 16)];
/// Most that the store is asked to copy as one part.
const COPY_AT_ONCE: u64 = 512 * 1024 * 1024;

/// The parts of a file of any size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartLayout {
    part_bytes: u64,
}

/// One part of an upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub number: u32,
    pub range: Range<u64>,
    pub how: How,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    Send,
    /// From the object that the file was.
    Copy,
}

impl PartLayout {
    /// `part_bytes` is raised to what S3 takes.
    pub fn new(part_bytes: u64) -> PartLayout {
        PartLayout { part_bytes: part_bytes.max(PART_MIN) }
    }

    pub fn part_bytes(&self) -> u64 {
        self.part_bytes
    }

    /// Bytes of the largest file.
    pub fn largest_file(&self) -> u64 {
        self.range(PARTS_MAX).end
    }

    /// The bytes of part `number`, which counts from 1, in a file without end.
    pub fn range(&self, number: u32) -> Range<u64> {
        let (mut start, mut first) = (0, 1);
        for (last, times) in STEPS {
            let size = self.part_bytes * times;
            if number <= last {
                let start = start + u64::from(number - first) * size;
                return start..start + size;
            }
            start += u64::from(last + 1 - first) * size;
            first = last + 1;
        }
        start..start
    }

    /// The part that the byte at `offset` is in; beyond the largest file the last.
    pub fn part_of(&self, offset: u64) -> u32 {
        let (mut start, mut first) = (0, 1);
        for (last, times) in STEPS {
            let size = self.part_bytes * times;
            let end = start + u64::from(last + 1 - first) * size;
            if offset < end {
                return first + ((offset - start) / size) as u32;
            }
            (start, first) = (end, last + 1);
        }
        PARTS_MAX
    }

    /// All parts of an upload, in order.
    pub fn parts(&self, snapshot: &Snapshot) -> Vec<Part> {
        let mut parts: Vec<Part> = Vec::new();
        let mut number = 1;
        loop {
            let range = self.range(number);
            let range = range.start..range.end.min(snapshot.size);
            if range.is_empty() {
                return parts;
            }
            let how = if snapshot.is_in_object(&range) { How::Copy } else { How::Send };
            match parts.last_mut() {
                Some(last)
                    if last.how == How::Copy
                        && how == How::Copy
                        && range.end - last.range.start <= COPY_AT_ONCE =>
                {
                    last.range.end = range.end;
                }
                _ => parts.push(Part { number, range, how }),
            }
            number += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::extents::Extents;
    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn ten_thousand_parts_hold_most_of_a_terabyte() {
        assert_eq!(PartLayout::new(8 * MIB).largest_file(), (1_000 + 3_000 * 4 + 6_000 * 16) * 8 * MIB);
    }

    #[test]
    fn what_the_object_has_is_copied_in_large_pieces() {
        let layout = PartLayout::new(8 * MIB);
        let mut extents = Extents::of_object(100 * MIB);
        extents.wrote(50 * MIB..50 * MIB + 1);
        let parts = layout.parts(&extents.snapshot());
        let shown: Vec<_> = parts
            .iter()
            .map(|part| (part.number, part.range.start / MIB, part.range.end / MIB, part.how))
            .collect();
        assert_eq!(shown, [(1, 0, 48, How::Copy), (7, 48, 56, How::Send), (8, 56, 100, How::Copy)]);
    }

    proptest! {
        #[test]
        fn a_byte_is_in_the_part_that_it_is_said_to_be_in(offset in 0u64..1 << 40, part in 5u64..9) {
            let layout = PartLayout::new(part * MIB);
            let number = layout.part_of(offset);
            prop_assert!(offset >= layout.largest_file() || layout.range(number).contains(&offset));
        }

        #[test]
        fn parts_cover_the_file_in_order(
            object in 0u64..200 * MIB,
            writes in prop::collection::vec((0u64..300 * MIB, 1u64..20 * MIB), 0..6),
        ) {
            let layout = PartLayout::new(5 * MIB);
            let mut extents = Extents::of_object(object);
            for (at, length) in writes {
                extents.wrote(at..at + length);
            }
            let snapshot = extents.snapshot();
            let parts = layout.parts(&snapshot);
            let (mut at, mut number) = (0, 0);
            for (index, part) in parts.iter().enumerate() {
                prop_assert_eq!(part.range.start, at);
                prop_assert!(part.number > number);
                prop_assert_eq!(part.how == How::Copy, snapshot.is_in_object(&part.range));
                prop_assert!(index + 1 == parts.len() || part.range.end - part.range.start >= PART_MIN);
                (at, number) = (part.range.end, part.number);
            }
            prop_assert_eq!(at, snapshot.size);
        }
    }
}
