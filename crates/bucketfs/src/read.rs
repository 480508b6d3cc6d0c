//! Reading the bytes of one version of one object.
//!
//! A [`Content`] belongs to one inode and so to one version for ever: every request carries `If-Match`. Bytes
//! come in *runs*, one ranged GET each, that fill blocks of the cache as they arrive; a reader waits for the
//! blocks it needs and for nothing else, and readers of the same block share the run that brings it.
//!
//! ```text
//!  read(offset, size) -> all blocks cached?  -yes-> bytes
//!        ^                     | no
//!        |               missing blocks: wait for the run that brings them, or start one
//!        '---- ready ----------'            (a sequential reader's runs reach ahead of it)
//! ```
//!
//! What must hold: no byte of another version is ever returned; a run that fails fails its readers, unless what
//! they need has already arrived; a read ends within the deadline whatever the store does.

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::Instant;

use super::cache::{BLOCK, BlockCache, BlockId};
use super::error::FsError;
use super::health::Availability;
use super::random_prefetch::RandomPrefetch;
use super::store::{Body, Condition, Fetch, Fetched, ObjectStore, StoreError, Version};

/// Longest a read waits for the store, all attempts together.
pub const READ_DEADLINE: Duration = Duration::from_secs(30);
/// Longest wait for the next piece of a body before the run is given up.
const STALL: Duration = Duration::from_secs(10);
/// Blocks of one request at the most: 2 MiB, so that a window is several requests at the same time.
const RUN_BLOCKS: u64 = 16;
/// Read-ahead of a reader that has just proved sequential: 2 MiB.
const FIRST_WINDOW: u64 = 16;
/// Blocks by which the kernel's own read-ahead may come out of order: 512 KiB.
const DISORDER: u64 = 4;
/// How many sequential readers of one object are told apart.
const STREAMS: usize = 4;
/// Bytes given to the kernel's page cache at once.
const PUSH_BYTES: usize = 1024 * 1024;
/// Bytes of a page of memory.
const PAGE: usize = 4096;
/// How often a read looks again after what it waited for was dropped from a cache too small to hold it.
const ATTEMPTS: usize = 8;

/// Puts bytes of an inode at an offset into the kernel's page cache. Blocks for as long as the kernel does.
pub type Push = Box<dyn Fn(u64, u64, &[u8]) -> io::Result<()> + Send + Sync>;

/// What reading needs beside the object itself; shared by all files of a mount.
#[derive(Clone)]
pub struct Source {
    pub store: Arc<dyn ObjectStore>,
    pub cache: Arc<BlockCache>,
    pub availability: Arc<Availability>,
    pub runtime: Handle,
    /// Set once there is a connection to the kernel.
    pub push: Arc<OnceLock<Push>>,
}

/// Tells the contents of a process apart: a file that is written keeps its number and gets another content.
static CONTENTS: AtomicU64 = AtomicU64::new(1);

/// The bytes behind one inode.
pub struct Content {
    ino: u64,
    /// Under which its blocks are kept.
    number: u64,
    key: String,
    version: Version,
    size: u64,
    source: Source,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    runs: Vec<Run>,
    streams: Vec<Stream>,
    random_prefetch: RandomPrefetch,
}

/// A request under way for consecutive blocks.
struct Run {
    blocks: Range<u64>,
    progress: watch::Receiver<Progress>,
}

/// How far a run has come.
#[derive(Clone, Debug)]
struct Progress {
    /// Blocks below this index have arrived.
    ready: u64,
    failed: Option<StoreError>,
}

/// A reader that goes through the object from front to back.
struct Stream {
    /// The block behind the last one read.
    next: u64,
    /// Blocks wanted beyond it.
    window: u64,
    /// The block behind the last one asked for: more is asked for once it is a whole request, so that requests
    /// stay large.
    reached: u64,
    used: Instant,
}

impl Content {
    pub fn new(ino: u64, key: String, version: Version, size: u64, source: Source) -> Content {
        let number = CONTENTS.fetch_add(1, Ordering::Relaxed);
        Content { ino, number, key, version, size, source, state: Mutex::default() }
    }

    /// Bytes of all of it.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The version whose bytes these are.
    pub fn version(&self) -> &Version {
        &self.version
    }

    /// Takes in a body that came with the headers: it begins at the first byte and may end anywhere.
    pub fn begin(self: &Arc<Self>, range: Range<u64>, body: Body) {
        if range.start != 0 || range.end == 0 {
            return;
        }
        let blocks = 0..range.end.div_ceil(BLOCK);
        if range.end < self.size && !range.end.is_multiple_of(BLOCK) {
            return;
        }
        let sender = {
            let mut state = self.state();
            let (sender, progress) = watch::channel(Progress { ready: 0, failed: None });
            state.runs.push(Run { blocks: blocks.clone(), progress });
            sender
        };
        let content = self.clone();
        self.source.runtime.spawn(async move {
            let outcome = content.receive(blocks.clone(), range, body, &sender).await;
            content.state().runs.retain(|run| run.blocks != blocks);
            if let Err(error) = outcome {
                // Nobody asked for it, so nobody fails: who waits starts a run of its own.
                tracing::debug!(key = %content.key, error = %error, "the first bytes did not come");
            }
        });
    }

    /// The bytes at `offset` if all are in memory.
    pub fn read_now(&self, offset: u64, size: usize) -> Option<Bytes> {
        let range = self.clip(offset, size);
        if range.is_empty() {
            return Some(Bytes::new());
        }
        self.assemble(&range)
    }

    /// The bytes at `offset`, fewer than `size` only at the end of the object.
    ///
    /// # Errors
    ///
    /// [`StoreError::Changed`] when the object was replaced and the opened version cannot be had any more;
    /// [`StoreError::TimedOut`] after [`READ_DEADLINE`].
    pub async fn read(self: &Arc<Self>, offset: u64, size: usize) -> Result<Bytes, FsError> {
        let range = self.clip(offset, size);
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        tokio::time::timeout(READ_DEADLINE, self.gather(range))
            .await
            .unwrap_or(Err(StoreError::TimedOut(READ_DEADLINE)))
            .map_err(FsError::from)
    }

    /// Tells where a reader is, so that a sequential one finds its bytes ready; call for reads from memory too.
    pub fn note_position(self: &Arc<Self>, offset: u64, size: usize) {
        let range = self.clip(offset, size);
        if !range.is_empty() {
            let blocks = blocks_of(&range);
            let end = self.state().read_ahead(&blocks, self.window_limit());
            self.start_missing(blocks.start..end.min(self.block_count()));
        }
    }

    async fn gather(self: &Arc<Self>, range: Range<u64>) -> Result<Bytes, StoreError> {
        let blocks = blocks_of(&range);
        self.note_jump(&blocks);
        let mut failed = None;
        for _ in 0..ATTEMPTS {
            self.note_position(range.start, (range.end - range.start) as usize);
            let waits = self.runs_of(&blocks);
            for (needed, mut progress) in waits {
                let seen =
                    progress.wait_for(|progress| progress.ready >= needed || progress.failed.is_some()).await;
                failed = match seen {
                    Ok(progress) if progress.ready < needed => progress.failed.clone(),
                    _ => None,
                };
            }
            if let Some(bytes) = self.assemble(&range) {
                return Ok(bytes);
            }
            if let Some(error) = failed.take() {
                return Err(error);
            }
        }
        // The cache is too small for what is read at once: fetch past it.
        self.fetch_directly(range).await
    }

    /// Fetches more than was asked for of an object that is read all over and has proved hot.
    fn note_jump(self: &Arc<Self>, blocks: &Range<u64>) {
        if self.source.push.get().is_none() {
            return;
        }
        let chunks = {
            let mut state = self.state();
            if state.stream_of(blocks).is_some() || state.run_over(blocks.start).is_some() {
                return;
            }
            state.random_prefetch.random_read(blocks.start * BLOCK, self.size)
        };
        for chunk in chunks {
            let content = self.clone();
            self.source.runtime.spawn(async move {
                if let Err(error) = content.push_to_kernel(chunk).await {
                    tracing::debug!(key = %content.key, error = %error, "a chunk was given up");
                }
                content.state().random_prefetch.ended();
            });
        }
    }

    /// Fetches a chunk and puts it into the kernel's page cache, a piece at a time.
    async fn push_to_kernel(self: &Arc<Self>, chunk: Range<u64>) -> Result<(), StoreError> {
        let (range, mut body) = self.fetch(chunk).await?;
        let mut at = range.start;
        let mut piece = BytesMut::new();
        while at + (piece.len() as u64) < range.end {
            match next_piece(&mut body).await? {
                Some(bytes) => piece.extend_from_slice(&bytes),
                None => return Ok(()),
            }
            // Whole pages only: the kernel throws a part of a page away.
            let whole =
                if at + piece.len() as u64 == range.end { piece.len() } else { piece.len() / PAGE * PAGE };
            if whole >= PUSH_BYTES || at + piece.len() as u64 == range.end {
                let bytes = piece.split_to(whole).freeze();
                let length = bytes.len() as u64;
                if !self.push(at, bytes).await {
                    return Ok(());
                }
                at += length;
            }
        }
        Ok(())
    }

    /// Whether the kernel takes bytes: it does not know an inode that it has forgotten. Those that somebody waits for
    /// already come by another way.
    async fn push(self: &Arc<Self>, offset: u64, bytes: Bytes) -> bool {
        let content = self.clone();
        let pushed = tokio::task::spawn_blocking(move || {
            let Some(push) = content.source.push.get() else { return false };
            push(content.ino, offset, &bytes)
                .map_or_else(|error| error.kind() == io::ErrorKind::WouldBlock, |()| true)
        });
        pushed.await.unwrap_or(false)
    }

    async fn fetch_directly(&self, range: Range<u64>) -> Result<Bytes, StoreError> {
        let (range, mut body) = self.fetch(range).await?;
        let mut bytes = BytesMut::with_capacity((range.end - range.start) as usize);
        while let Some(piece) = next_piece(&mut body).await? {
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes.freeze())
    }

    /// The runs that will bring blocks of `blocks`, each with the index it must pass.
    fn runs_of(&self, blocks: &Range<u64>) -> Vec<(u64, watch::Receiver<Progress>)> {
        let overlap = |run: &Run| run.blocks.start < blocks.end && blocks.start < run.blocks.end;
        let needed = |run: &Run| run.blocks.end.min(blocks.end);
        self.state()
            .runs
            .iter()
            .filter(|run| overlap(run))
            .map(|run| (needed(run), run.progress.clone()))
            .collect()
    }

    /// Starts runs for the blocks of `blocks` that are neither cached nor on their way.
    fn start_missing(self: &Arc<Self>, blocks: Range<u64>) {
        let mut starts = Vec::new();
        {
            let mut state = self.state();
            let mut index = blocks.start;
            while index < blocks.end {
                if let Some(end) = state.run_over(index) {
                    index = end;
                } else if self.source.cache.holds(self.id(index)) {
                    index += 1;
                } else {
                    let limit = blocks.end.min(index + RUN_BLOCKS);
                    let end = (index + 1..limit)
                        .find(|next| {
                            state.run_over(*next).is_some() || self.source.cache.holds(self.id(*next))
                        })
                        .unwrap_or(limit);
                    let (sender, progress) = watch::channel(Progress { ready: index, failed: None });
                    state.runs.push(Run { blocks: index..end, progress });
                    starts.push((index..end, sender));
                    index = end;
                }
            }
        }
        for (blocks, sender) in starts {
            let content = self.clone();
            self.source.runtime.spawn(async move {
                let outcome = content.fetch_blocks(blocks.clone(), &sender).await;
                content.finish(blocks, outcome, &sender);
            });
        }
    }

    /// Fetches `blocks` into the cache; goes on once from where a body broke off.
    async fn fetch_blocks(
        &self,
        blocks: Range<u64>,
        sender: &watch::Sender<Progress>,
    ) -> Result<(), StoreError> {
        let mut retried = false;
        loop {
            let from = sender.borrow().ready;
            let range = from * BLOCK..(blocks.end * BLOCK).min(self.size);
            let outcome = match self.fetch(range).await {
                Ok((range, body)) => self.receive(from..blocks.end, range, body, sender).await,
                Err(error) => Err(error),
            };
            match outcome {
                Err(
                    StoreError::Truncated { .. }
                    | StoreError::Corrupt { .. }
                    | StoreError::TimedOut(_)
                    | StoreError::Unreachable { .. },
                ) if !retried => {
                    retried = true;
                }
                outcome => return outcome,
            }
        }
    }

    /// Asks for `range` of exactly this version: by condition, else by version id where the object was replaced. A
    /// whole object comes with its checksum, which the store's client verifies; a part of one has none.
    async fn fetch(&self, range: Range<u64>) -> Result<(Range<u64>, Body), StoreError> {
        let wanted = range;
        let ask = |condition, version_id| Fetch {
            key: &self.key,
            range: (wanted != (0..self.size)).then(|| wanted.clone()),
            condition,
            version_id,
        };
        let unchanged = Condition::Unchanged(self.version.etag.clone());
        let first = self.source.store.fetch(ask(unchanged, None)).await;
        let answer = match (first, self.version.version_id.as_deref()) {
            (Err(StoreError::Changed { .. } | StoreError::NotFound { .. }), Some(version_id)) => {
                self.source.store.fetch(ask(Condition::Always, Some(version_id))).await
            }
            (Err(StoreError::NotFound { key }), None) => Err(StoreError::Changed { key }),
            (answer, _) => answer,
        };
        self.source.availability.note(&answer);
        match answer? {
            // A store that looks at no condition, or an object of another size than was said of it.
            Fetched::Content { object, range, .. }
                if range != wanted
                    || (object.size, &object.version.etag) != (self.size, &self.version.etag) =>
            {
                let (came, size) = (&object.version.etag.0, object.size);
                let reason = format!(
                    "bytes {wanted:?} of {:?}, version {}, {} bytes, were asked for: bytes {range:?} of {came}, {size} bytes, came",
                    self.key, self.version.etag.0, self.size
                );
                Err(StoreError::Malformed { reason })
            }
            Fetched::Content { range, body, .. } => Ok((range, body)),
            Fetched::NotModified { .. } => {
                Err(StoreError::Malformed { reason: "\"not modified\" to an If-Match".into() })
            }
        }
    }

    /// Cuts a body that holds the bytes `range` into blocks and keeps them: those of a whole object only when it has
    /// ended, because its checksum is known no earlier.
    async fn receive(
        &self,
        blocks: Range<u64>,
        range: Range<u64>,
        mut body: Body,
        sender: &watch::Sender<Progress>,
    ) -> Result<(), StoreError> {
        let mut index = blocks.start;
        let mut at = range.start;
        let mut block = BytesMut::new();
        let mut arrived = Vec::new();
        let is_whole = range == (0..self.size);
        while let Some(mut piece) = next_piece(&mut body).await? {
            at += piece.len() as u64;
            if at > range.end {
                return Err(StoreError::Malformed {
                    reason: format!("a body of {:?} that goes on", self.key),
                });
            }
            while !piece.is_empty() {
                let whole = self.block_size(index + arrived.len() as u64) as usize;
                let taken = piece.split_to(piece.len().min(whole - block.len()));
                if block.capacity() == 0 {
                    block.reserve(whole);
                }
                block.extend_from_slice(&taken);
                if block.len() == whole {
                    arrived.push(std::mem::take(&mut block).freeze());
                    if !is_whole {
                        index = self.keep(index, &mut arrived, sender);
                    }
                }
            }
        }
        index = self.keep(index, &mut arrived, sender);
        if index < blocks.end {
            let expected = range.end - range.start;
            return Err(StoreError::Truncated { key: self.key.clone(), found: at - range.start, expected });
        }
        Ok(())
    }

    /// Keeps blocks that have arrived, from `index` on, and answers the index behind them.
    fn keep(&self, index: u64, arrived: &mut Vec<Bytes>, sender: &watch::Sender<Progress>) -> u64 {
        let next = index + arrived.len() as u64;
        for (index, block) in (index..next).zip(arrived.drain(..)) {
            self.source.cache.keep(self.id(index), block);
        }
        sender.send_modify(|progress| progress.ready = next);
        next
    }

    fn finish(&self, blocks: Range<u64>, outcome: Result<(), StoreError>, sender: &watch::Sender<Progress>) {
        self.state().runs.retain(|run| run.blocks != blocks);
        if let Err(error) = outcome {
            tracing::debug!(key = %self.key, ?blocks, error = %error, "read from the store failed");
            sender.send_modify(|progress| progress.failed = Some(error));
        }
    }

    fn assemble(&self, range: &Range<u64>) -> Option<Bytes> {
        let blocks = blocks_of(range);
        if blocks.end - blocks.start == 1 {
            let block = self.source.cache.block(self.id(blocks.start))?;
            let base = blocks.start * BLOCK;
            return Some(block.slice((range.start - base) as usize..(range.end - base) as usize));
        }
        let parts: Vec<Bytes> =
            blocks.clone().map(|index| self.source.cache.block(self.id(index))).collect::<Option<_>>()?;
        let mut bytes = BytesMut::with_capacity((range.end - range.start) as usize);
        for (index, part) in blocks.zip(parts) {
            let base = index * BLOCK;
            let from = range.start.saturating_sub(base) as usize;
            let to = (range.end - base).min(BLOCK) as usize;
            bytes.extend_from_slice(part.get(from..to)?);
        }
        Some(bytes.freeze())
    }

    fn clip(&self, offset: u64, size: usize) -> Range<u64> {
        offset.min(self.size)..offset.saturating_add(size as u64).min(self.size)
    }

    fn id(&self, index: u64) -> BlockId {
        BlockId { ino: self.number, index }
    }

    fn block_count(&self) -> u64 {
        self.size.div_ceil(BLOCK)
    }

    fn block_size(&self, index: u64) -> u64 {
        BLOCK.min(self.size - index * BLOCK)
    }

    /// Blocks a reader's read-ahead may reach: a sixth of the cache, so that several readers fit.
    fn window_limit(&self) -> u64 {
        self.source.cache.budget() / BLOCK / 6
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Content {
    /// Drops what is in memory of it.
    pub(super) fn drop_blocks(&self) {
        self.source.cache.drop_blocks(self.number, self.block_count());
    }
}

impl Drop for Content {
    fn drop(&mut self) {
        self.drop_blocks();
    }
}

impl State {
    /// The end of the run that brings block `index`.
    fn run_over(&self, index: u64) -> Option<u64> {
        self.runs.iter().find(|run| run.blocks.contains(&index)).map(|run| run.blocks.end)
    }

    /// The sequential reader that `blocks` continue. The kernel's own read-ahead may come out of order by a few
    /// requests.
    fn stream_of(&self, blocks: &Range<u64>) -> Option<usize> {
        let reach = blocks.end - blocks.start + DISORDER;
        self.streams.iter().position(|stream| {
            blocks.start <= stream.next + reach && stream.next <= blocks.end + reach && blocks.end > 0
        })
    }

    /// The block up to which `blocks` is to be fetched: no further for a reader that jumps, ever further for one
    /// that goes on.
    fn read_ahead(&mut self, blocks: &Range<u64>, limit: u64) -> u64 {
        let now = Instant::now();
        if let Some(stream) = self.stream_of(blocks).and_then(|index| self.streams.get_mut(index)) {
            if blocks.end > stream.next {
                stream.next = blocks.end;
                stream.window = (stream.window * 2).max(FIRST_WINDOW).min(limit);
            }
            stream.used = now;
            if stream.reached + RUN_BLOCKS.min(stream.window) <= stream.next + stream.window {
                stream.reached = stream.next + stream.window;
                return stream.reached;
            }
            return blocks.end;
        }
        if self.streams.len() == STREAMS {
            self.streams.sort_by_key(|stream| std::cmp::Reverse(stream.used));
            self.streams.pop();
        }
        self.streams.push(Stream { next: blocks.end, window: 0, reached: blocks.end, used: now });
        blocks.end
    }
}

fn blocks_of(range: &Range<u64>) -> Range<u64> {
    range.start / BLOCK..range.end.div_ceil(BLOCK)
}

async fn next_piece(body: &mut Body) -> Result<Option<Bytes>, StoreError> {
    tokio::time::timeout(STALL, body.next()).await.map_err(|_| StoreError::TimedOut(STALL))?.transpose()
}

#[cfg(test)]
mod tests;
