//! The tree of one mount, and what all questions about it rest on. Nothing here asks the store.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use lru::LruCache;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::path::parent_and_name;
use crate::attr::{Attributes, Defaults, Kind, Timestamp};
use crate::directory::{HEADERS_AT_ONCE, Page};
use crate::error::FsError;
use crate::health::Availability;
use crate::inode::{Eviction, Facts, Node, ROOT, Table};
use crate::journal::{Journal, Recovered};
use crate::listing::Hidden;
use crate::measure::Ages;
use crate::negative_cache::NegativeCache;
use crate::read::{Content, Source};
use crate::resolve::{Answer, DirectoryProbe, MARKER_PATIENCE};
use crate::single_flight::SingleFlight;
use crate::store::{ObjectStore, StoreError};

/// Directories of which the last listing is kept; some 100 KiB each at most.
const PAGES: NonZeroUsize = NonZeroUsize::new(32).expect("not zero");
/// Set-user-ID and set-group-ID.
pub(crate) const SET_ID: u16 = 0o6000;
/// Attributes that the kernel, or root alone, believes.
const PRIVILEGED: [&str; 2] = ["security.", "trusted."];
/// Longest wait for the kernel to drop what it believes.
const INVALIDATE_LIMIT: Duration = Duration::from_secs(1);

/// Has the kernel drop a number's content, and a name.
pub type Invalidate = Box<dyn Fn(u64, Eviction) + Send + Sync>;

/// The rules of one mount.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Key prefix that is the root: empty, or ending in `/`.
    pub prefix: String,
    pub freshness: Duration,
    pub max_stale: Duration,
    pub defaults: Defaults,
    /// Times of a directory that nothing says more about: when the session began.
    pub began: Timestamp,
    /// Whether set-id bits and privileged attributes are shown, as [`crate::Options::suid`] says.
    pub suid: bool,
}

/// What a name leads to, and how long that may be believed without asking again.
#[derive(Clone, Debug)]
pub struct Entry {
    pub ino: u64,
    pub attributes: Attributes,
    pub valid_for: Duration,
}

/// The outcome of a lookup: absence is an answer, and may be believed for a while as well.
#[derive(Clone, Debug)]
pub enum Looked {
    Found(Entry),
    Absent { valid_for: Duration },
}

/// The tree of one mount.
pub struct Tree {
    pub(crate) rules: Rules,
    pub(crate) source: Source,
    pub(crate) hidden: Hidden,
    /// How old the answers about names are that the kernel gets.
    pub(crate) ages: Arc<Ages>,
    table: Mutex<Table<Content>>,
    negative_cache: Mutex<NegativeCache>,
    pub(crate) questions: SingleFlight<Answer>,
    pub(crate) listings: SingleFlight<DirectoryProbe>,
    /// One permit for each header that may be asked for at the same time for a listing.
    pub(crate) headers_at_once: Semaphore,
    /// Whether there was a `_$folder$` key: if so, names are asked for in that guise as well.
    folder_keys: AtomicBool,
    /// Takes the names that the kernel is to drop.
    eviction: Mutex<Option<SyncSender<Eviction>>>,
    /// Small directories as they were last listed, for when they cannot be listed any more.
    pages: Mutex<LruCache<Arc<str>, Arc<Page>>>,
    /// Has the kernel drop what it believes.
    invalidate: OnceLock<Invalidate>,
    /// Finds this tree again from a question that outlives its asker.
    pub(crate) this: std::sync::Weak<Tree>,
}

impl Rules {
    /// A directory that is only a prefix of other keys.
    pub(crate) fn implicit_directory(&self) -> Attributes {
        Attributes::implicit_directory(&self.defaults, self.began)
    }
}

impl Tree {
    /// A tree whose nodes take at most about `budget_bytes`.
    pub fn new(rules: Rules, source: Source, budget_bytes: u64) -> Arc<Tree> {
        let root = rules.implicit_directory();
        Arc::new_cyclic(|this| Tree {
            rules,
            source,
            hidden: Hidden::default(),
            ages: Arc::default(),
            table: Mutex::new(Table::new(root, budget_bytes)),
            negative_cache: Mutex::default(),
            questions: SingleFlight::default(),
            listings: SingleFlight::default(),
            headers_at_once: Semaphore::new(HEADERS_AT_ONCE),
            folder_keys: AtomicBool::new(false),
            eviction: Mutex::default(),
            pages: Mutex::new(LruCache::new(PAGES)),
            invalidate: OnceLock::new(),
            this: this.clone(),
        })
    }

    /// Writes down in `journal` what the kernel is told, and knows what `held` says that it was told before.
    pub fn keep_in(&self, journal: Arc<Journal>, held: &Recovered) {
        let mut table = self.table();
        table.restore(held);
        table.keep_in(journal);
    }

    /// Permissions as they are shown: nobody's program runs with the rights of another because an object says so.
    pub fn shown_permissions(&self, attributes: &Attributes) -> u16 {
        let hidden = if self.hides_set_id(attributes.kind) { SET_ID } else { 0 };
        attributes.permissions & !hidden
    }

    /// Whether set-id bits of a file of this kind are kept and not shown. Those of a directory only say which group
    /// belongs to what is made in it.
    pub(crate) fn hides_set_id(&self, kind: Kind) -> bool {
        !self.rules.suid && kind != Kind::Directory
    }

    /// Whether an extended attribute may be seen and set: not one by which a program gets rights.
    pub fn shows_xattr(&self, name: &str) -> bool {
        self.rules.suid || !PRIVILEGED.iter().any(|space| name.starts_with(space))
    }

    /// Whether a name leads to the number: not if it was taken away, or leads to another version by now.
    pub fn has_name(&self, ino: u64) -> bool {
        let table = self.table();
        table.node(ino).is_some_and(|node| table.is_named(ino, node))
    }

    /// Counts that the kernel dropped `count` of its references to `ino`.
    pub fn forget(&self, ino: u64, count: u64) {
        self.table().forget(ino, count);
    }

    /// How many numbers the kernel holds.
    pub fn in_use(&self) -> usize {
        self.table().in_use()
    }

    /// Bytes that the inode table takes, about.
    pub fn table_bytes(&self) -> u64 {
        self.table().bytes()
    }

    /// From now on hands the names that the kernel is to drop to `takers`, as long as there is room.
    pub fn hand_surplus_to(&self, takers: Option<SyncSender<Eviction>>) {
        *self.eviction.lock().unwrap_or_else(PoisonError::into_inner) = takers;
    }

    /// From now on has `invalidate` tell the kernel what not to believe any more.
    pub fn invalidate_by(&self, invalidate: Invalidate) {
        // Set once: a connection is opened once for each tree.
        let _ = self.invalidate.set(invalidate);
    }

    /// Has the kernel ask again for the content and attributes of `ino`, and for the name that it had; waits for that,
    /// but not for long: somebody who waits for an answer of ours may be in the way.
    pub(crate) async fn invalidate(&self, ino: u64) {
        let (Some(this), Some(name)) = (self.this.upgrade(), self.last_name(ino)) else { return };
        let told = self.runtime().spawn_blocking(move || {
            if let Some(invalidate) = this.invalidate.get() {
                invalidate(ino, name);
            }
        });
        let _ = tokio::time::timeout(INVALIDATE_LIMIT, told).await;
    }

    fn last_name(&self, ino: u64) -> Option<Eviction> {
        let table = self.table();
        let (directory, name) = parent_and_name(&table.node(ino)?.path);
        Some(Eviction { parent: table.find(directory)?, name: name.into() })
    }

    /// Path of a directory from the root of the mount, without slashes around it.
    pub(crate) fn directory_path(&self, ino: u64) -> Result<Arc<str>, FsError> {
        let table = self.table();
        let node = table.node(ino).ok_or(FsError::Stale)?;
        if node.facts.is_directory() { Ok(node.path.clone()) } else { Err(FsError::NotDirectory) }
    }

    /// Key prefix of what is in the directory `path`.
    pub(crate) fn directory_prefix(&self, path: &str) -> String {
        match path {
            "" => self.rules.prefix.clone(),
            path => format!("{}{path}/", self.rules.prefix),
        }
    }

    /// Key of the object at `path`.
    pub(crate) fn key(&self, path: &str) -> String {
        format!("{}{path}", self.rules.prefix)
    }

    pub(crate) fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.source.store
    }

    pub(crate) fn availability(&self) -> &Availability {
        &self.source.availability
    }

    pub(crate) fn runtime(&self) -> &Handle {
        &self.source.runtime
    }

    pub(crate) fn table(&self) -> MutexGuard<'_, Table<Content>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn negative_cache(&self) -> MutexGuard<'_, NegativeCache> {
        self.negative_cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn has_folder_keys(&self) -> bool {
        self.folder_keys.load(Ordering::Relaxed)
    }

    pub(crate) fn folder_keys_seen(&self) {
        self.folder_keys.store(true, Ordering::Relaxed);
    }

    /// Counts that the kernel is told `ino` once more, and has it drop others if those are too many.
    pub(crate) fn remember(&self, table: &mut Table<Content>, ino: u64) {
        table.remember(ino);
        // Two for one, so that their number falls.
        for eviction in std::iter::from_fn(|| table.eviction()).take(2) {
            let takers = self.eviction.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(takers) = &*takers {
                // Where there is no room they are not urgent: they come again.
                let _ = takers.try_send(eviction);
            }
        }
    }

    /// What is known of a node, if it may be answered without asking.
    pub(crate) fn fresh_entry(&self, node: &Node<Content>, ino: u64) -> Option<Entry> {
        let attributes = node.facts.attributes.clone()?;
        let freshness = self.rules.freshness;
        if ino == ROOT || node.is_local {
            return Some(Entry { ino, attributes, valid_for: freshness });
        }
        let age = node.checked?.elapsed();
        let is_believed = node.facts.version.is_some() || self.marker_is_believed(&node.facts);
        (age < freshness && is_believed).then(|| Entry { ino, attributes, valid_for: freshness - age })
    }

    /// Waits for an answer, but not for ever if something `is_known`: the store then counts as silent, and the
    /// question goes on by itself where others may be waiting for it.
    pub(crate) async fn patiently<T>(
        &self,
        is_known: bool,
        answer: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        if !is_known {
            return answer.await;
        }
        let patience = self.availability().patience();
        tokio::time::timeout(patience, answer).await.unwrap_or_else(|_| {
            let silence = Err(StoreError::TimedOut(patience));
            self.availability().note(&silence);
            silence
        })
    }

    /// What the directory `path` held when it was last listed whole, if that may be served in an outage.
    pub(crate) fn last_page(&self, path: &str) -> Option<Arc<Page>> {
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        pages.get(path).filter(|page| page.asked().elapsed() < self.rules.max_stale).cloned()
    }

    pub(crate) fn keep_page(&self, path: Arc<str>, page: Arc<Page>) {
        if self.negative_cache().has_changed_since(&path, page.asked()) {
            return;
        }
        self.pages.lock().unwrap_or_else(PoisonError::into_inner).put(path, page);
    }

    /// Forgets how the directory `path` was listed last: something in it was changed from here.
    pub(crate) fn forget_page(&self, path: &str) {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner).pop(path);
    }

    /// Whether owner and mode of a directory can be had from memory.
    pub(crate) fn marker_is_believed(&self, facts: &Facts) -> bool {
        let freshness = self.rules.freshness;
        let patience = if freshness.is_zero() { freshness } else { freshness.max(MARKER_PATIENCE) };
        let young = facts.marker_checked.is_some_and(|checked| checked.elapsed() < patience);
        facts.attributes.is_some() && young
    }

    /// Whether the root's own marker is to be asked about.
    pub(crate) fn root_is_believed(&self) -> bool {
        let table = self.table();
        let checked = table.node(ROOT).and_then(|root| root.facts.marker_checked);
        // Before the first question the defaults do.
        checked.is_none_or(|checked| checked.elapsed() < MARKER_PATIENCE.max(self.rules.freshness))
    }
}
