//! Blocks of object content in memory, bounded.
//!
//! A block is [`BLOCK`] bytes of one inode's content (the last one of an object is shorter). An inode stands for
//! one version of an object for ever (see `inode.rs`), so a block is never out of date, only dropped. What must
//! hold: the bytes held never exceed the budget; the block used longest ago goes first.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use lru::LruCache;

/// Bytes of a block: what the kernel asks for in one piece when it reads ahead by default.
pub const BLOCK: u64 = 128 * 1024;

/// Names a block: inode number and the block's index in the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BlockId {
    pub ino: u64,
    pub index: u64,
}

/// Blocks of all files of one mount.
pub struct BlockCache {
    budget: u64,
    inner: Mutex<Inner>,
}

struct Inner {
    blocks: LruCache<BlockId, Bytes>,
    held: u64,
    hits: u64,
    misses: u64,
}

/// How well the cache does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheCounts {
    pub hits: u64,
    pub misses: u64,
    pub held_bytes: u64,
}

impl BlockCache {
    /// A cache that never holds more than `budget` bytes.
    pub fn new(budget: u64) -> BlockCache {
        let inner = Inner { blocks: LruCache::unbounded(), held: 0, hits: 0, misses: 0 };
        BlockCache { budget, inner: Mutex::new(inner) }
    }

    /// Bytes the cache may hold.
    pub fn budget(&self) -> u64 {
        self.budget
    }

    pub fn block(&self, id: BlockId) -> Option<Bytes> {
        let mut inner = self.inner();
        let found = inner.blocks.get(&id).cloned();
        match found {
            Some(_) => inner.hits += 1,
            None => inner.misses += 1,
        }
        found
    }

    /// Whether a block is held; does not count as using it.
    pub fn holds(&self, id: BlockId) -> bool {
        self.inner().blocks.contains(&id)
    }

    /// Keeps a block, dropping others as needed. A block larger than the whole budget is not kept.
    pub fn keep(&self, id: BlockId, bytes: Bytes) {
        let size = bytes.len() as u64;
        if size > self.budget {
            return;
        }
        let mut inner = self.inner();
        if let Some(replaced) = inner.blocks.put(id, bytes) {
            inner.held -= replaced.len() as u64;
        }
        inner.held += size;
        while inner.held > self.budget {
            let Some((_, dropped)) = inner.blocks.pop_lru() else { break };
            inner.held -= dropped.len() as u64;
        }
    }

    /// Drops the blocks of one inode below `end`.
    pub fn drop_blocks(&self, ino: u64, end: u64) {
        let mut inner = self.inner();
        let ids: Vec<BlockId> = if end < inner.blocks.len() as u64 {
            (0..end).map(|index| BlockId { ino, index }).collect()
        } else {
            inner.blocks.iter().map(|(id, _)| *id).filter(|id| id.ino == ino && id.index < end).collect()
        };
        for id in ids {
            if let Some(dropped) = inner.blocks.pop(&id) {
                inner.held -= dropped.len() as u64;
            }
        }
    }

    pub fn counts(&self) -> CacheCounts {
        let inner = self.inner();
        CacheCounts { hits: inner.hits, misses: inner.misses, held_bytes: inner.held }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(index: u64) -> BlockId {
        BlockId { ino: 7, index }
    }

    #[test]
    fn the_block_used_longest_ago_goes_first() {
        let cache = BlockCache::new(20);
        cache.keep(id(0), Bytes::from_static(&[0; 10]));
        cache.keep(id(1), Bytes::from_static(&[1; 10]));
        assert!(cache.block(id(0)).is_some());
        cache.keep(id(2), Bytes::from_static(&[2; 10]));
        assert!(cache.holds(id(0)));
        assert!(!cache.holds(id(1)));
        assert_eq!(cache.counts(), CacheCounts { hits: 1, misses: 0, held_bytes: 20 });
    }

    #[test]
    fn blocks_of_a_forgotten_inode_can_be_dropped() {
        let cache = BlockCache::new(100);
        cache.keep(id(0), Bytes::from_static(&[0; 10]));
        cache.keep(id(3), Bytes::from_static(&[0; 10]));
        cache.drop_blocks(7, 3);
        assert!(!cache.holds(id(0)));
        assert!(cache.holds(id(3)));
        assert_eq!(cache.counts().held_bytes, 10);
    }

    proptest! {
        #[test]
        fn the_budget_is_never_exceeded(
            budget in 0u64..200,
            steps in prop::collection::vec((0u64..8, 0usize..100), 0..60),
        ) {
            let cache = BlockCache::new(budget);
            for (index, size) in steps {
                cache.keep(id(index), Bytes::from(vec![0; size]));
                let counts = cache.counts();
                prop_assert!(counts.held_bytes <= budget);
                let held: u64 = (0..8).filter_map(|at| cache.block(id(at))).map(|block| block.len() as u64).sum();
                prop_assert_eq!(held, counts.held_bytes);
            }
        }
    }
}
