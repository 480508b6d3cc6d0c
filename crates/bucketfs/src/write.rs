//! Changing a bucket: files that are written, names that are made, moved and taken away.
//!
//! ```text
//!   fuse.rs --> files.rs: open, write, cut, flush, close --> draft.rs: one file, on disk --> commit.rs --> store
//!           '-> names.rs: make, unlink, rmdir  moves.rs: rename (leaving.rs: who has it open)  change.rs: mode, owner, times, attributes
//!                stage.rs, record.rs, resume.rs, rename_intent.rs: the disk   extents.rs, ranges.rs, part_layout.rs: which bytes are where
//! ```
//!
//! What must hold: what a call has acknowledged is in the store, but for bytes written and not yet flushed; whoever
//! reads here sees what was written here; an object is replaced only by somebody who has seen it; a process that dies
//! at any moment leaves every object that was there readable under one name at least.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{RwLock, Semaphore, SemaphorePermit, watch};
use tokio::time::Instant;

use super::attr::Timestamp;
use super::store::ObjectStore;
use super::store::write::Upload;
use super::tree::{Tree, parent_and_name};

mod acl;
mod change;
mod commit;
mod draft;
mod extents;
mod files;
mod handles;
mod headers;
mod leaving;
mod moves;
mod names;
mod part_layout;
mod ranges;
mod record;
mod rename_intent;
mod resume;
mod stage;

use handles::Handles;
use part_layout::PartLayout;
use stage::{LeftBehind, Staging};

pub use change::{Change, SetXattr};
pub use draft::Draft;
pub use files::{Opened, Wrote};
pub use handles::{Access, Handle};
pub use moves::Target;
pub use names::{Caller, New};
pub use stage::Owner;

/// Bytes of the smallest parts of an upload, where memory allows.
const PART_BYTES: u64 = 8 * 1024 * 1024;
/// Kept files that are named; there may be more.
const KEPT_SHOWN: usize = 100;
/// After which nobody goes on any more with what another mount of the same source has left behind.
const OTHERS_WAIT: Duration = Duration::from_secs(60);
/// How long a mount waits for what was left behind to be dealt with.
const CLEAR_PATIENCE: Duration = Duration::from_secs(5);
/// A unit of memory that writing asks for.
const PERMIT_BYTES: u64 = 1024;

/// What happens to an upload if somebody else has written the object since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnConflict {
    /// It is refused, and what was written is kept on disk.
    #[default]
    Fail,
    /// The last one wins.
    Overwrite,
}

/// How a mount writes.
#[derive(Clone, Debug)]
pub struct WriteOptions {
    /// Where files are kept while they are being changed.
    pub staging: PathBuf,
    pub on_conflict: OnConflict,
}

/// The rules of one mount.
struct Rules {
    on_conflict: OnConflict,
    /// Files up to this size are sent in one piece.
    single_bytes: u64,
    memory_bytes: u64,
}

/// By number.
type Turns = HashMap<u64, Weak<tokio::sync::Mutex<()>>>;

/// The writing half of a mount.
pub struct Writing {
    tree: Arc<Tree>,
    owner: Owner,
    staging: Staging,
    rules: Rules,
    layout: PartLayout,
    /// Bytes on their way to the store, in units of [`PERMIT_BYTES`].
    memory: Semaphore,
    drafts: Mutex<HashMap<u64, Arc<Draft>>>,
    /// Whoever changes a file that nobody has open, or begins a draft of one: one at a time.
    turns: Mutex<Turns>,
    handles: Mutex<Handles>,
    /// Held exclusively by whoever moves a directory: nothing below it may be stored meanwhile.
    names: RwLock<()>,
    kept: Mutex<Vec<PathBuf>>,
    /// Moves that were finished for the process before, from where to where.
    finished: Mutex<Vec<(String, String)>>,
    /// Whether what processes of this mount had left behind has been dealt with.
    is_cleared: watch::Sender<bool>,
}

impl Writing {
    /// Sets up the staging directory, and has what an earlier process left there cleared.
    ///
    /// # Errors
    ///
    /// That of the staging directory.
    pub fn new(
        tree: Arc<Tree>,
        options: &WriteOptions,
        owner: Owner,
        memory_bytes: u64,
    ) -> std::io::Result<Arc<Writing>> {
        let staging = Staging::open(&options.staging, &owner)?;
        let handles = Handles::begin(&staging.handles())?;
        let writing = Writing::with(tree, options, owner, memory_bytes, (staging, handles));
        writing.clear_later();
        Ok(writing)
    }

    fn with(
        tree: Arc<Tree>,
        options: &WriteOptions,
        owner: Owner,
        memory_bytes: u64,
        (staging, handles): (Staging, Handles),
    ) -> Arc<Writing> {
        let layout = PartLayout::new(PART_BYTES.min(memory_bytes));
        let rules = Rules {
            on_conflict: options.on_conflict,
            single_bytes: (2 * layout.part_bytes()).min(memory_bytes.max(layout.part_bytes())),
            memory_bytes: memory_bytes.max(layout.part_bytes()),
        };
        let kept = staging.kept(KEPT_SHOWN);
        Arc::new(Writing {
            tree,
            owner,
            staging,
            memory: Semaphore::new((rules.memory_bytes / PERMIT_BYTES) as usize),
            rules,
            layout,
            drafts: Mutex::default(),
            turns: Mutex::default(),
            handles: Mutex::new(handles),
            names: RwLock::default(),
            kept: Mutex::new(kept),
            finished: Mutex::default(),
            is_cleared: watch::Sender::new(false),
        })
    }

    /// Has cleared what processes left behind that have died: of this mount at once; of others of the same source only
    /// once whoever goes on with them has had the time to say so.
    fn clear_later(self: &Arc<Self>) {
        let this = Arc::downgrade(self);
        self.tree.runtime().spawn(async move {
            for wait in [Duration::ZERO, OTHERS_WAIT] {
                tokio::time::sleep(wait).await;
                let Some(this) = this.upgrade() else { return };
                let is_ours = |owner: &Owner| *owner == this.owner;
                let is_of_source = |owner: &Owner| owner.source == this.owner.source;
                let left = match wait.is_zero() {
                    true => this.staging.left_behind(is_ours),
                    false => this.staging.left_behind(is_of_source),
                };
                this.clear(left).await;
                this.is_cleared.send_replace(true);
            }
        });
    }

    /// Waits until what processes of this mount have left behind has been dealt with, but no longer than that may take:
    /// a small move is finished before anybody looks.
    pub async fn cleared(&self) {
        let mut is_cleared = self.is_cleared.subscribe();
        let _ = tokio::time::timeout(CLEAR_PATIENCE, is_cleared.wait_for(|is_cleared| *is_cleared)).await;
    }

    /// What was written and could not be stored, because somebody else was faster: where it is kept. What a person has
    /// removed is not named any more.
    pub fn kept(&self) -> Vec<PathBuf> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|path| path.exists());
        kept.clone()
    }

    /// Files that are open.
    pub fn open_files(&self) -> usize {
        self.handles().count()
    }

    /// Stores all that has changed and is not stored yet, or keeps it: for the end of a mount.
    pub async fn finish(&self) {
        let drafts: Vec<Arc<Draft>> = self.drafts().values().cloned().collect();
        for draft in drafts.iter().filter(|draft| draft.state().is_dirty()) {
            self.store_at_last(draft).await;
        }
    }

    /// Aborts the uploads of processes that have died, and takes their files away.
    async fn clear(&self, left: Vec<LeftBehind>) {
        for left in left {
            let Some(records) = left.records() else { continue };
            let mut is_clear = true;
            for (unfinished, noted) in left.moves() {
                let _names = self.names.write().await;
                match self.finish_move(&unfinished).await {
                    Ok(_) => noted.end(),
                    Err(error) => {
                        is_clear = false;
                        tracing::warn!(error = %error, "a move stays unfinished until the next start");
                    }
                }
            }
            for record::Upload { key, id, .. } in records.into_iter().filter_map(|record| record.upload) {
                let aborted = self.store().abort_upload(Upload { key: &key, id: &id }).await;
                is_clear &= aborted.is_ok();
                tracing::info!(key, ok = aborted.is_ok(), "aborted an upload that was left behind");
            }
            if is_clear && let Err(error) = left.clear() {
                tracing::warn!(error = %error, "cannot clear what was left behind");
            }
        }
    }

    fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.tree.source.store
    }

    fn drafts(&self) -> MutexGuard<'_, HashMap<u64, Arc<Draft>>> {
        self.drafts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turns(&self) -> MutexGuard<'_, Turns> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn finished(&self) -> MutexGuard<'_, Vec<(String, String)>> {
        self.finished.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handles(&self) -> MutexGuard<'_, Handles> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `bytes` may be held in memory.
    async fn memory_for(&self, bytes: u64) -> Option<SemaphorePermit<'_>> {
        let units = bytes.min(self.rules.memory_bytes) / PERMIT_BYTES;
        self.memory.acquire_many(u32::try_from(units).unwrap_or(u32::MAX)).await.ok()
    }

    fn note_kept(&self, path: Option<PathBuf>) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).extend(path);
    }

    /// Whatever is being asked about `path` was asked before it changed.
    fn forget_questions(&self, path: &str) {
        self.tree.questions.forget(path);
        self.tree.listings.forget(path);
        let (directory, _) = parent_and_name(path);
        self.tree.listings.forget(directory);
        self.tree.forget_page(path);
        self.tree.forget_page(directory);
    }

    /// Notes that `path` was made or taken away here.
    fn note_change(&self, path: &str, is_there: bool) {
        let (directory, name) = parent_and_name(path);
        let now = Instant::now();
        self.tree.negative_cache().note_change(directory, name, is_there, now);
        self.forget_questions(path);
        // Times of a directory are known here only: to store them would cost a request for each file.
        let time = Timestamp::now();
        let mut table = self.tree.table();
        let Some(ino) = table.find(directory) else { return };
        table.set_facts(ino, |facts| {
            if let Some(attributes) = &mut facts.attributes {
                (attributes.mtime, attributes.ctime) = (time, time);
            }
        });
    }

    /// The name belongs to somebody else from now on; `ino` has none.
    fn drop_name(&self, path: &Arc<str>, ino: u64) {
        let mut table = self.tree.table();
        let now = Instant::now();
        table.set_local(ino, false, now);
        table.set_unsent(path, false);
        if table.find(path) == Some(ino) {
            table.remove_name(path, now);
        }
        drop(table);
        self.forget_questions(path);
        self.tree.negative_cache().forget(parent_and_name(path).0, now);
    }
}
