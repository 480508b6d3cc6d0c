//! Sets of bytes of a file, kept as ranges.
//!
//! What must hold: ranges are never empty, never overlap and never touch; the set takes memory for its pieces and not
//! for its bytes.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};

/// Bytes by their offsets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let (mut start, mut end) = (range.start, range.end);
        if let Some((&before, &its_end)) = self.0.range(..=start).next_back()
            && its_end >= start
        {
            (start, end) = (before, end.max(its_end));
        }
        let joined: Vec<u64> = self.0.range(start..=end).map(|(&start, _)| start).collect();
        for piece in joined {
            end = end.max(self.0.remove(&piece).unwrap_or(end));
        }
        self.0.insert(start, end);
    }

    pub fn insert_all(&mut self, others: &Ranges) {
        others.iter().for_each(|range| self.insert(range));
    }

    pub fn remove(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        if let Some((&before, &its_end)) = self.0.range(..range.start).next_back()
            && its_end > range.start
        {
            self.0.insert(before, range.start);
            if its_end > range.end {
                self.0.insert(range.end, its_end);
            }
        }
        let cut: Vec<u64> = self.0.range(range.clone()).map(|(&start, _)| start).collect();
        for piece in cut {
            if let Some(end) = self.0.remove(&piece).filter(|end| *end > range.end) {
                self.0.insert(range.end, end);
            }
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.0.iter().map(|(&start, &end)| start..end)
    }

    /// Whether any byte of `range` is in it.
    pub fn overlaps(&self, range: &Range<u64>) -> bool {
        !range.is_empty()
            && self.0.range(..range.end).next_back().is_some_and(|(_, &its_end)| its_end > range.start)
    }

    /// Whether all bytes of `range` are in it.
    pub fn contains(&self, range: &Range<u64>) -> bool {
        range.is_empty()
            || self.0.range(..=range.start).next_back().is_some_and(|(_, &its_end)| its_end >= range.end)
    }

    /// What of `range` is not in it, in order.
    pub fn gaps(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let mut gaps = Vec::new();
        let mut at = range.start;
        let first = self.0.range(..=range.start).next_back().map_or(range.start, |(&start, _)| start);
        for (&start, &end) in self.0.range(first..range.end.max(first)) {
            if start > at {
                gaps.push(at..start);
            }
            at = at.max(end);
        }
        if at < range.end {
            gaps.push(at..range.end);
        }
        gaps
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_set_of_bytes(
            steps in prop::collection::vec((any::<bool>(), 0u64..40, 0u64..12), 0..40),
            asked in (0u64..50, 0u64..12),
        ) {
            let (mut ranges, mut bytes) = (Ranges::default(), [false; 64]);
            for (inserts, start, length) in steps {
                let range = start..start + length;
                for at in range.clone() {
                    bytes[at as usize] = inserts;
                }
                if inserts { ranges.insert(range) } else { ranges.remove(range) }
            }
            let mut last = None;
            for range in ranges.iter() {
                prop_assert!(range.start < range.end && last.is_none_or(|last| last < range.start));
                last = Some(range.end);
            }
            let listed: Vec<u64> = ranges.iter().flatten().collect();
            let expected: Vec<u64> = (0..64).filter(|at| bytes[*at as usize]).collect();
            prop_assert_eq!(listed, expected);
            let asked = asked.0..asked.0 + asked.1;
            prop_assert_eq!(ranges.overlaps(&asked), asked.clone().any(|at| bytes[at as usize]));
            prop_assert_eq!(ranges.contains(&asked), asked.clone().all(|at| bytes[at as usize]));
            let gaps: Vec<u64> = ranges.gaps(asked.clone()).into_iter().flatten().collect();
            let expected: Vec<u64> = asked.filter(|at| !bytes[*at as usize]).collect();
            prop_assert_eq!(gaps, expected);
        }

        #[test]
        fn no_range_panics(ranges in prop::collection::vec((any::<u64>(), any::<u64>(), any::<bool>()), 0..8)) {
            let mut set = Ranges::default();
            for (a, b, inserts) in ranges {
                let range = a.min(b)..a.max(b);
                if inserts { set.insert(range.clone()) } else { set.remove(range.clone()) }
                prop_assert_eq!(set.contains(&range), inserts || range.is_empty());
            }
        }
    }
}
