//! When a reader that jumps about makes it worth fetching more than it asks for.
//!
//! A raster is read in small pieces all over: fetched one by one they cost a round trip each, fetched in large
//! chunks the first reader waits for megabytes. So both: every piece is fetched by itself at once, and behind it,
//! once the object has proved hot, the large *chunks* around, several at a time. They go to the kernel's page
//! cache, which is not our memory and which answers without asking us again.
//!
//! ```text
//!   jumps so far:   few for the object's size          enough
//!   fetched:        only what is read                   and the chunk it is in, and the next one not yet fetched
//! ```
//!
//! What must hold: nothing here touches anything (it decides); no chunk is fetched twice; a large object must be
//! read in proportionally more places before it is taken for hot, so that what is fetched in vain stays in
//! proportion to what is read.

use std::ops::Range;

/// Bytes of a chunk.
pub const CHUNK: u64 = 8 * 1024 * 1024;
/// Jumps before anything more is fetched: the header, the directory and the first tiles of a GeoTIFF are no pattern.
const JUMPS_MIN: u64 = 8;
/// One more jump is asked for per this many bytes of the object.
const BYTES_PER_JUMP: u64 = 32 * 1024 * 1024;
/// Chunks under way at once for one object.
const AT_ONCE: usize = 4;

/// What has been fetched of one object beyond what was asked for.
#[derive(Debug, Default)]
pub struct RandomPrefetch {
    jumps: u64,
    /// By chunk: fetched, or under way.
    taken: Vec<bool>,
    /// Every chunk before this one is taken.
    first_free: usize,
    under_way: usize,
}

impl RandomPrefetch {
    /// Notes that a reader random_read to `offset` of an object of `size` bytes and found nothing there; answers the
    /// chunks to fetch now.
    pub fn random_read(&mut self, offset: u64, size: u64) -> Vec<Range<u64>> {
        self.jumps += 1;
        if self.jumps < JUMPS_MIN.max(size / BYTES_PER_JUMP) || size <= CHUNK {
            return Vec::new();
        }
        let count = usize::try_from(size.div_ceil(CHUNK)).unwrap_or(usize::MAX);
        if self.taken.len() != count {
            self.taken = vec![false; count];
        }
        let here = usize::try_from(offset / CHUNK).unwrap_or(usize::MAX);
        let mut chunks = Vec::new();
        if self.taken.get(here) == Some(&false) {
            chunks.extend(self.take(here, size));
        }
        while self.first_free < count && self.taken[self.first_free] {
            self.first_free += 1;
        }
        if self.first_free < count {
            chunks.extend(self.take(self.first_free, size));
        }
        chunks
    }

    /// Notes that a chunk has been fetched, or has been given up.
    pub fn ended(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    fn take(&mut self, chunk: usize, size: u64) -> Option<Range<u64>> {
        if self.under_way == AT_ONCE {
            return None;
        }
        self.taken[chunk] = true;
        self.under_way += 1;
        let start = chunk as u64 * CHUNK;
        Some(start..(start + CHUNK).min(size))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn the_first_jumps_fetch_nothing_more() {
        let mut random_prefetch = RandomPrefetch::default();
        for _ in 1..JUMPS_MIN {
            assert_eq!(random_prefetch.random_read(100 * MIB, 200 * MIB), []);
        }
        let first = random_prefetch.random_read(100 * MIB, 200 * MIB);
        assert_eq!(first, [96 * MIB..104 * MIB, 0..8 * MIB]);
        assert_eq!(random_prefetch.random_read(100 * MIB, 200 * MIB).first(), Some(&(8 * MIB..16 * MIB)));
    }

    #[test]
    fn a_larger_object_must_prove_hotter() {
        let mut random_prefetch = RandomPrefetch::default();
        let size = 3200 * MIB;
        let silent = (1..100).all(|_| random_prefetch.random_read(0, size).is_empty());
        assert!(silent);
        assert!(!random_prefetch.random_read(0, size).is_empty());
    }

    #[test]
    fn a_small_object_is_not_swept() {
        let mut random_prefetch = RandomPrefetch::default();
        assert!((0..100).all(|_| random_prefetch.random_read(0, CHUNK).is_empty()));
    }

    proptest! {
        #[test]
        fn chunks_cover_the_object_once_and_few_are_under_way(
            size in 1u64..400 * MIB,
            offsets in prop::collection::vec(any::<u64>(), 0..400),
            ends in prop::collection::vec(0usize..3, 400),
        ) {
            let mut random_prefetch = RandomPrefetch::default();
            let mut seen = std::collections::BTreeSet::new();
            let mut under_way = 0usize;
            for (offset, ended) in offsets.into_iter().zip(ends) {
                for chunk in random_prefetch.random_read(offset % size, size) {
                    prop_assert!(chunk.start < chunk.end && chunk.end <= size);
                    prop_assert_eq!(chunk.start % CHUNK, 0);
                    prop_assert!(seen.insert(chunk.start), "twice: {}", chunk.start);
                    under_way += 1;
                }
                prop_assert!(under_way <= AT_ONCE);
                for _ in 0..ended.min(under_way) {
                    random_prefetch.ended();
                    under_way -= 1;
                }
            }
        }

        #[test]
        fn no_offset_or_size_panics(offset in any::<u64>(), size in 0u64..1 << 40) {
            let mut random_prefetch = RandomPrefetch { jumps: u64::MAX / 2, ..RandomPrefetch::default() };
            random_prefetch.random_read(offset, size);
        }
    }
}
