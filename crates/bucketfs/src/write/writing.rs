//! The writing half of a mount, and what all of its operations rest on.
//!
//! Nothing here asks the store. What must hold: the tables are locked for a moment only; what is held over a wait is a
//! turn, `names`, or memory.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{OwnedMutexGuard, RwLock, Semaphore, SemaphorePermit, watch};
use tokio::time::Instant;

use super::draft::Draft;
use super::handles::Handles;
use super::options::{OnConflict, WriteOptions};
use super::part_layout::PartLayout;
use super::record::Life;
use super::refusals::Refusals;
use super::stage::{Owner, Staging};
use super::state::Base;
use crate::attr::{Kind, Timestamp};
use crate::error::FsError;
use crate::inode::Facts;
use crate::read::Content;
use crate::store::ObjectStore;
use crate::store::write::Heed;
use crate::tree::{Tree, parent_and_name};

/// Bytes of the smallest parts of an upload, where memory allows.
const PART_BYTES: u64 = 8 * 1024 * 1024;
/// Kept files that are named; there may be more.
const KEPT_SHOWN: usize = 100;
/// Longest wait of a mount for what the store does with conditions.
const TRIAL_LIMIT: Duration = Duration::from_secs(20);
/// A unit of memory that writing asks for.
const PERMIT_BYTES: u64 = 1024;

/// The rules of one mount.
pub(super) struct Rules {
    pub(super) on_conflict: OnConflict,
    pub(super) remove_hidden: bool,
    /// Files up to this size are sent in one piece.
    pub(super) single_bytes: u64,
    memory_bytes: u64,
}

/// By number.
pub(super) type Turns = HashMap<u64, Weak<tokio::sync::Mutex<()>>>;

/// The writing half of a mount.
pub struct Writing {
    pub(super) tree: Arc<Tree>,
    pub(super) owner: Owner,
    pub(super) staging: Staging,
    pub(super) rules: Rules,
    pub(super) layout: PartLayout,
    /// Bytes on their way to the store, in units of [`PERMIT_BYTES`].
    memory: Semaphore,
    drafts: Mutex<HashMap<u64, Arc<Draft>>>,
    /// Whoever changes a file that nobody has open, or begins a draft of one: one at a time.
    turns: Mutex<Turns>,
    handles: Mutex<Handles>,
    /// Held exclusively by whoever moves a directory: nothing below it may be stored meanwhile.
    pub(super) names: RwLock<()>,
    kept: Mutex<Vec<PathBuf>>,
    /// Files that the store has just refused, and that are about to be let go.
    pub refused: Refusals,
    /// Moves that were finished for the process before, from where to where.
    finished: Mutex<Vec<(String, String)>>,
    /// Whether what processes of this mount had left behind has been dealt with.
    pub(super) is_cleared: watch::Sender<bool>,
}

impl Writing {
    pub(super) fn with(
        tree: Arc<Tree>,
        options: &WriteOptions,
        owner: Owner,
        memory_bytes: u64,
        (staging, handles): (Staging, Handles),
    ) -> Arc<Writing> {
        let layout = PartLayout::new(PART_BYTES.min(memory_bytes));
        let rules = Rules {
            on_conflict: options.on_conflict,
            remove_hidden: options.remove_hidden,
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
            refused: Refusals::default(),
            finished: Mutex::default(),
            is_cleared: watch::Sender::new(false),
        })
    }

    /// What was written and could not be stored, because somebody else was faster: where it is kept. What a person has
    /// removed is not named any more.
    pub fn kept(&self) -> Vec<PathBuf> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|path| path.exists());
        kept.clone()
    }

    /// Finds out what the store does with conditions, before anything is written. Where it cannot be, that is done with
    /// the first write.
    pub async fn try_conditions(&self) {
        let tried = tokio::time::timeout(TRIAL_LIMIT, self.store().conditions(&self.tree.rules.prefix)).await;
        if !matches!(tried, Ok(Ok(_))) {
            tracing::debug!(?tried, "not known yet what the store does with conditions");
        }
    }

    /// Which conditions the store does not keep, as far as is known, and what that means.
    pub fn unguarded(&self) -> Option<String> {
        let known = self.store().known_conditions();
        let lacking = known.lacking()?;
        Some(match (known.put == Heed::Kept, self.rules.on_conflict) {
            (true, _) => lacking,
            (false, OnConflict::Overwrite) => format!("{lacking}: the last one wins, as `on_conflict` says"),
            (false, OnConflict::Fail) => {
                format!("{lacking}: nothing is written; `on_conflict = \"overwrite\"` has the last one win")
            }
        })
    }

    /// Files that are open.
    pub fn open_files(&self) -> usize {
        self.handles().count()
    }

    pub(super) fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.tree.source.store
    }

    pub(super) fn drafts(&self) -> MutexGuard<'_, HashMap<u64, Arc<Draft>>> {
        self.drafts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turns(&self) -> MutexGuard<'_, Turns> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn finished(&self) -> MutexGuard<'_, Vec<(String, String)>> {
        self.finished.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn handles(&self) -> MutexGuard<'_, Handles> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `bytes` may be held in memory.
    pub(super) async fn memory_for(&self, bytes: u64) -> Option<SemaphorePermit<'_>> {
        let units = bytes.min(self.rules.memory_bytes) / PERMIT_BYTES;
        self.memory.acquire_many(u32::try_from(units).unwrap_or(u32::MAX)).await.ok()
    }

    pub(super) fn note_kept(&self, path: Option<PathBuf>) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).extend(path);
    }

    /// Whatever is being asked about `path` was asked before it changed.
    pub(super) fn forget_questions(&self, path: &str) {
        self.tree.questions.forget(path);
        self.tree.listings.forget(path);
        let (directory, _) = parent_and_name(path);
        self.tree.listings.forget(directory);
        self.tree.forget_page(path);
        self.tree.forget_page(directory);
    }

    /// Notes that `path` was made or taken away here.
    pub(super) fn note_change(&self, path: &str, is_there: bool) {
        let (directory, name) = parent_and_name(path);
        let now = Instant::now();
        self.tree.negative_cache().note_change(directory, name, is_there, now);
        self.forget_questions(path);
        // Times of a directory are known here only: to store them would cost a request for each file.
        let mut table = self.tree.table();
        let Some(ino) = table.find(directory) else { return };
        table.set_facts(ino, |facts| facts.change_at(Timestamp::now()));
    }

    /// The name belongs to somebody else from now on; `ino` has none.
    pub(super) fn drop_name(&self, path: &Arc<str>, ino: u64) {
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

    /// The draft of a file if somebody is changing it.
    pub fn draft(&self, ino: u64) -> Option<Arc<Draft>> {
        self.drafts().get(&ino).cloned()
    }

    /// The draft of a file as long as the file is that: of one that was lost, what the store has is read.
    pub fn draft_to_read(&self, ino: u64) -> Option<Arc<Draft>> {
        self.draft(ino).filter(|draft| !matches!(draft.state().life, Life::Lost { .. }))
    }

    /// Waits until nobody else changes a file that nobody has open, or begins a draft of it.
    pub(super) async fn turn(&self, ino: u64) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.turns();
            turns.retain(|_, turn| turn.strong_count() > 0);
            let known = turns.get(&ino).and_then(Weak::upgrade);
            let turn = known.unwrap_or_default();
            turns.insert(ino, Arc::downgrade(&turn));
            turn
        };
        turn.lock_owned().await
    }

    /// Whether `ino` is a file that may be written.
    pub fn is_file(&self, ino: u64) -> bool {
        self.tree.table().node(ino).is_some_and(|node| node.facts.kind.unwrap_or(Kind::File) == Kind::File)
    }

    pub(super) fn base(&self, ino: u64, key: &str, version: crate::store::Version, size: u64) -> Base {
        let content = Content::new(ino, key.to_string(), version.clone(), size, self.tree.source.clone());
        Base { version, size, content: Arc::new(content) }
    }

    /// The name of a number that still has one.
    pub(super) fn path_of(&self, ino: u64) -> Result<Arc<str>, FsError> {
        let table = self.tree.table();
        let node = table.node(ino).ok_or(FsError::Stale)?;
        if table.is_named(ino, node) { Ok(node.path.clone()) } else { Err(FsError::Stale) }
    }

    /// Whether another number has, or nobody, what was the name of this one.
    pub(super) fn has_lost_its_name(&self, ino: u64) -> bool {
        let table = self.tree.table();
        table.node(ino).is_some_and(|node| !table.is_named(ino, node))
    }

    pub(super) fn facts<T>(&self, ino: u64, read: impl FnOnce(&Facts) -> T) -> Result<T, FsError> {
        self.tree.table().node(ino).map(|node| read(&node.facts)).ok_or(FsError::Stale)
    }

    /// That nothing is at `path` is not believed any more.
    pub(super) fn doubt_absence(&self, path: &str) {
        self.forget_questions(path);
        self.tree.negative_cache().forget(parent_and_name(path).0, Instant::now());
    }

    /// What is known of a file is asked for again before it is believed.
    pub(super) fn doubt(&self, path: &str, ino: u64) {
        let mut table = self.tree.table();
        if let Some(node) = table.node_mut(ino) {
            node.checked = node.checked.and_then(|checked| checked.checked_sub(self.tree.rules.freshness));
        }
        drop(table);
        self.forget_questions(path);
        // The kernel may hold the name for whoever waits for us, so that nobody can wait for it.
        let tree = self.tree.clone();
        self.tree.runtime().spawn(async move { tree.invalidate(ino).await });
    }
}
