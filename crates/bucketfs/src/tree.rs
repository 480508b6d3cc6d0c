//! Names and directories: a bucket of keys seen as a tree.
//!
//! A key ending in `/` is a directory; so is any prefix of a key. Where a directory and an object have the same
//! name the directory wins and the object is hidden. Nothing here knows of FUSE: numbers and replies are
//! `fuse.rs`'s.
//!
//! ```text
//!   lookup ->  known and asked less than `freshness` ago ............. answer from memory
//!              in a directory listed less than `freshness` ago ....... not there: answer from memory
//!              anything else ......................................... ask the store (`resolve.rs`)
//!              the store cannot be asked ............ what was known, until it is older than `max_stale`
//! ```
//!
//! What must hold: an answer is never older than `freshness` when the store answers; what the kernel is told is
//! counted (`remember`) before the reply leaves.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use lru::LruCache;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::measure::Ages;

use super::attr::{self, Attributes, Defaults, Kind};
use super::directory::{HEADERS_AT_ONCE, Page};
use super::error::FsError;
use super::health::Availability;
use super::inode::{Eviction, Node, ROOT, Table};
use super::journal::{Journal, Recovered};
use super::listing::{Hidden, NAME_MAX};
use super::negative_cache::NegativeCache;
use super::read::{Content, Source};
use super::resolve::{Answer, DirectoryProbe};
use super::single_flight::SingleFlight;
use super::store::{Depth, List, ListStart, ObjectStore, StoreError};
use super::xattr::Xattrs;

/// Directories of which the last listing is kept; some 100 KiB each at most.
const PAGES: NonZeroUsize = NonZeroUsize::new(32).expect("not zero");
/// How often a name is asked for that changes while it is asked for.
const LOOKUPS: usize = 4;
/// How long the kernel may believe attributes that can never change: those of a version that was replaced.
const FOR_EVER: Duration = Duration::from_secs(24 * 3600);

/// Set-user-ID and set-group-ID.
pub(super) const SET_ID: u16 = 0o6000;
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
    /// Whether set-id bits and privileged attributes are shown, as [`super::Options::suid`] says.
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
    pub(super) rules: Rules,
    pub(super) source: Source,
    pub(super) hidden: Hidden,
    /// How old the answers about names are that the kernel gets.
    pub(super) ages: Arc<Ages>,
    table: Mutex<Table>,
    negative_cache: Mutex<NegativeCache>,
    pub(super) questions: SingleFlight<Answer>,
    pub(super) listings: SingleFlight<DirectoryProbe>,
    /// One permit for each header that may be asked for at the same time for a listing.
    pub(super) headers_at_once: Semaphore,
    /// Whether there was a `_$folder$` key: if so, names are asked for in that guise as well.
    folder_keys: AtomicBool,
    /// Takes the names that the kernel is to drop.
    eviction: Mutex<Option<SyncSender<Eviction>>>,
    /// Small directories as they were last listed, for when they cannot be listed any more.
    pages: Mutex<LruCache<Arc<str>, Arc<Page>>>,
    /// Has the kernel drop what it believes.
    invalidate: OnceLock<Invalidate>,
    /// Finds this tree again from a question that outlives its asker.
    pub(super) this: std::sync::Weak<Tree>,
}

impl Tree {
    /// A tree whose nodes take at most about `budget_bytes`.
    pub fn new(rules: Rules, source: Source, budget_bytes: u64) -> Arc<Tree> {
        let root = Attributes::implicit_directory(&rules.defaults);
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

    /// What the store says of the root: that it is reachable, and the root's own marker if there is one.
    ///
    /// # Errors
    ///
    /// Whatever keeps the bucket from being listed.
    pub async fn prove(&self) -> Result<(), StoreError> {
        let list = List { prefix: &self.rules.prefix, depth: Depth::Tree, from: ListStart::Start, limit: 1 };
        let (listed, root) = futures::join!(self.store().list(list), self.ask_for_root());
        listed?;
        root
    }

    /// Writes down in `journal` what the kernel is told, and knows what `held` says that it was told before.
    pub fn keep_in(&self, journal: Arc<Journal>, held: &Recovered) {
        let mut table = self.table();
        table.restore(held);
        table.keep_in(journal);
    }

    /// Answers from memory if what is known is fresh enough.
    pub fn lookup_now(&self, parent: u64, name: &str) -> Option<Result<Looked, FsError>> {
        let path = match self.child_path(parent, name) {
            Ok(path) => path,
            Err(error) => return Some(Err(error)),
        };
        let (directory, _) = parent_and_name(&path);
        let mut table = self.table();
        table.touch(parent);
        let known = table.named(&path).map(|(ino, node)| (ino, node.checked, self.fresh_entry(node, ino)));
        if let Some((ino, checked, Some(entry))) = known {
            self.remember(&mut table, ino);
            drop(table);
            if let Some(checked) = checked {
                self.ages.note(checked.elapsed());
                self.negative_cache().count_answer(directory, checked);
            }
            return Some(Ok(Looked::Found(entry)));
        }
        drop(table);
        let freshness = self.rules.freshness;
        let listed = self.negative_cache().absent_since(directory, name, Instant::now(), freshness)?;
        // Something was seen there since, and asked about by itself.
        if known.is_some_and(|(_, checked, _)| checked > Some(listed)) {
            return None;
        }
        self.table().record_absent(&path, listed);
        Some(Ok(Looked::Absent { valid_for: freshness.saturating_sub(listed.elapsed()) }))
    }

    /// What `name` in the directory `parent` is. What is found counts as told to the kernel once more.
    ///
    /// # Errors
    ///
    /// [`FsError::NameTooLong`]; [`FsError::Stale`] when `parent` is no number of ours; [`FsError::Store`] when
    /// the store neither answers nor is what was known young enough.
    pub async fn lookup(&self, parent: u64, name: &str) -> Result<Looked, FsError> {
        let path = self.child_path(parent, name)?;
        for _ in 0..LOOKUPS {
            let is_known = self.table().named(&path).is_some_and(|(_, node)| self.is_young(node));
            let Answer { found, sent_at } = match self.patiently(is_known, self.resolve(&path)).await {
                Ok(answer) => answer,
                Err(error) => return self.last_known(&path, error),
            };
            let age = sent_at.elapsed();
            self.ages.note(age);
            let valid_for = self.rules.freshness.saturating_sub(age);
            let Some(ino) = found else { return Ok(Looked::Absent { valid_for }) };
            let mut table = self.table();
            // A question that left later may have found something else meanwhile.
            if let Some(attributes) = table.node(ino).and_then(|node| node.facts.attributes.clone()) {
                self.remember(&mut table, ino);
                return Ok(Looked::Found(Entry { ino, attributes, valid_for }));
            }
        }
        Err(FsError::Stale)
    }

    /// Attributes of a number from memory, if what is known is fresh enough or can never change.
    pub fn attributes_now(&self, ino: u64) -> Option<Result<Entry, FsError>> {
        if ino == ROOT && !self.root_is_believed() {
            return None;
        }
        let table = self.table();
        let Some(node) = table.node(ino) else { return Some(Err(FsError::Stale)) };
        if table.find(&node.path) != Some(ino) && !node.facts.is_directory() {
            let attributes = node.facts.attributes.clone().ok_or(FsError::Stale);
            return Some(attributes.map(|attributes| Entry { ino, attributes, valid_for: FOR_EVER }));
        }
        self.fresh_entry(node, ino).map(Ok)
    }

    /// Attributes of a number.
    ///
    /// A file that is open or mapped keeps the attributes of its version although its name has moved on.
    ///
    /// # Errors
    ///
    /// [`FsError::Stale`] for no number of ours, or for a directory that is none any more.
    pub async fn attributes(&self, ino: u64) -> Result<Entry, FsError> {
        if ino == ROOT {
            return self.root_attributes().await;
        }
        let (path, is_known) = {
            let table = self.table();
            let node = table.node(ino).ok_or(FsError::Stale)?;
            (node.path.clone(), node.facts.attributes.is_some() && self.is_young(node))
        };
        let outcome = self.patiently(is_known, self.resolve(&path)).await;
        let table = self.table();
        let node = table.node(ino).ok_or(FsError::Stale)?;
        let attributes = node.facts.attributes.clone().ok_or(FsError::Stale)?;
        let valid_for = match outcome {
            Ok(Answer { found: Some(now), sent_at }) if now == ino => {
                self.rules.freshness.saturating_sub(sent_at.elapsed())
            }
            Ok(_) if node.facts.is_directory() => return Err(FsError::Stale),
            Ok(_) => Duration::ZERO,
            Err(error) => {
                self.believable(node, &error)?;
                Duration::ZERO
            }
        };
        Ok(Entry { ino, attributes, valid_for })
    }

    /// The root is what is mounted: an outage changes nothing about it.
    async fn root_attributes(&self) -> Result<Entry, FsError> {
        let asked = self.patiently(true, self.ask_for_root()).await;
        let table = self.table();
        let attributes = table.node(ROOT).and_then(|root| root.facts.attributes.clone());
        let valid_for = if asked.is_ok() { self.rules.freshness } else { Duration::ZERO };
        Ok(Entry { ino: ROOT, attributes: attributes.ok_or(FsError::Stale)?, valid_for })
    }

    /// The extended attributes of a number; asks only if they are not known or not fresh.
    ///
    /// # Errors
    ///
    /// As [`attributes`](Self::attributes).
    pub async fn xattrs(&self, ino: u64) -> Result<Xattrs, FsError> {
        match self.attributes_now(ino) {
            Some(known) => known?,
            None => self.attributes(ino).await?,
        };
        self.xattrs_known(ino)
    }

    /// The extended attributes of a number if [`attributes_now`](Self::attributes_now) answers.
    pub fn xattrs_now(&self, ino: u64) -> Option<Result<Xattrs, FsError>> {
        let known = self.attributes_now(ino)?;
        Some(known.and_then(|_| self.xattrs_known(ino)))
    }

    fn xattrs_known(&self, ino: u64) -> Result<Xattrs, FsError> {
        self.table().node(ino).map(|node| node.facts.xattrs.clone()).ok_or(FsError::Stale)
    }

    /// Where the bytes of a file come from.
    ///
    /// # Errors
    ///
    /// [`FsError::IsDirectory`]; [`FsError::Stale`] for no number of ours.
    pub fn content(&self, ino: u64) -> Result<Arc<Content>, FsError> {
        let mut table = self.table();
        let node = table.node_mut(ino).ok_or(FsError::Stale)?;
        if let Some(content) = &node.content {
            return Ok(content.clone());
        }
        let version = match &node.facts.version {
            Some(version) if !node.facts.is_directory() => version.clone(),
            _ => return Err(FsError::IsDirectory),
        };
        let key = format!("{}{}", self.rules.prefix, node.path);
        let content = Arc::new(Content::new(ino, key, version, node.facts.size, self.source.clone()));
        node.content = Some(content.clone());
        Ok(content)
    }

    /// The target of a symbolic link.
    ///
    /// # Errors
    ///
    /// [`FsError::NotSymlink`]; whatever reading its body meets.
    pub async fn symlink_target(&self, ino: u64) -> Result<Vec<u8>, FsError> {
        let (kind, size, target) = {
            let table = self.table();
            let facts = &table.node(ino).ok_or(FsError::Stale)?.facts;
            (facts.kind, facts.size, facts.target.clone())
        };
        if kind != Some(Kind::Symlink) {
            return Err(FsError::NotSymlink);
        }
        if let Some(target) = target {
            return Ok(target.to_vec());
        }
        let body = self.content(ino)?.read(0, size.min(attr::SYMLINK_MAX) as usize).await?;
        Ok(attr::symlink_target_body(&body).to_vec())
    }

    /// Permissions as they are shown: nobody's program runs with the rights of another because an object says so.
    pub fn shown_permissions(&self, attributes: &Attributes) -> u16 {
        let hidden = if self.hides_set_id(attributes.kind) { SET_ID } else { 0 };
        attributes.permissions & !hidden
    }

    /// Whether set-id bits of a file of this kind are kept and not shown. Those of a directory only say which group
    /// belongs to what is made in it.
    pub(super) fn hides_set_id(&self, kind: Kind) -> bool {
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
    pub(super) async fn invalidate(&self, ino: u64) {
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
    pub(super) fn directory_path(&self, ino: u64) -> Result<Arc<str>, FsError> {
        let table = self.table();
        let node = table.node(ino).ok_or(FsError::Stale)?;
        if node.facts.is_directory() { Ok(node.path.clone()) } else { Err(FsError::NotDirectory) }
    }

    /// Key prefix of what is in the directory `path`.
    pub(super) fn directory_prefix(&self, path: &str) -> String {
        match path {
            "" => self.rules.prefix.clone(),
            path => format!("{}{path}/", self.rules.prefix),
        }
    }

    /// Key of the object at `path`.
    pub(super) fn key(&self, path: &str) -> String {
        format!("{}{path}", self.rules.prefix)
    }

    pub(super) fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.source.store
    }

    pub(super) fn availability(&self) -> &Availability {
        &self.source.availability
    }

    pub(super) fn runtime(&self) -> &Handle {
        &self.source.runtime
    }

    pub(super) fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn negative_cache(&self) -> MutexGuard<'_, NegativeCache> {
        self.negative_cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn has_folder_keys(&self) -> bool {
        self.folder_keys.load(Ordering::Relaxed)
    }

    pub(super) fn folder_keys_seen(&self) {
        self.folder_keys.store(true, Ordering::Relaxed);
    }

    /// Counts that the kernel is told `ino` once more, and has it drop others if those are too many.
    pub(super) fn remember(&self, table: &mut Table, ino: u64) {
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

    fn child_path(&self, parent: u64, name: &str) -> Result<Arc<str>, FsError> {
        if name.len() > NAME_MAX {
            return Err(FsError::NameTooLong);
        }
        let parent = self.directory_path(parent)?;
        Ok(join(&parent, name))
    }

    /// What is known of a node, if it may be answered without asking.
    pub(super) fn fresh_entry(&self, node: &Node, ino: u64) -> Option<Entry> {
        let attributes = node.facts.attributes.clone()?;
        let freshness = self.rules.freshness;
        if ino == ROOT || node.is_local {
            return Some(Entry { ino, attributes, valid_for: freshness });
        }
        let age = node.checked?.elapsed();
        let is_believed = node.facts.version.is_some() || self.marker_is_believed(&node.facts);
        (age < freshness && is_believed).then(|| Entry { ino, attributes, valid_for: freshness - age })
    }

    /// Falls back to what was known when the store cannot be asked.
    fn last_known(&self, path: &str, error: StoreError) -> Result<Looked, FsError> {
        let mut table = self.table();
        let Some((ino, node)) = table.named(path) else { return Err(error.into()) };
        self.believable(node, &error)?;
        self.ages.note(node.checked.map_or(Duration::ZERO, |checked| checked.elapsed()));
        let attributes = node.facts.attributes.clone().ok_or(error)?;
        self.remember(&mut table, ino);
        Ok(Looked::Found(Entry { ino, attributes, valid_for: Duration::ZERO }))
    }

    /// Waits for an answer, but not for ever if something `is_known`: the store then counts as silent, and the
    /// question goes on by itself where others may be waiting for it.
    pub(super) async fn patiently<T>(
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
    pub(super) fn last_page(&self, path: &str) -> Option<Arc<Page>> {
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        pages.get(path).filter(|page| page.asked().elapsed() < self.rules.max_stale).cloned()
    }

    pub(super) fn keep_page(&self, path: Arc<str>, page: Arc<Page>) {
        if self.negative_cache().has_changed_since(&path, page.asked()) {
            return;
        }
        self.pages.lock().unwrap_or_else(PoisonError::into_inner).put(path, page);
    }

    /// Forgets how the directory `path` was listed last: something in it was changed from here.
    pub(super) fn forget_page(&self, path: &str) {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner).pop(path);
    }

    /// Whether what is known of a node may be served when the store cannot be asked.
    fn is_young(&self, node: &Node) -> bool {
        node.checked.is_some_and(|checked| checked.elapsed() < self.rules.max_stale)
    }

    fn believable(&self, node: &Node, error: &StoreError) -> Result<(), StoreError> {
        if error.is_outage() && self.is_young(node) { Ok(()) } else { Err(error.clone()) }
    }
}

/// `name` in the directory `parent`.
pub(super) fn join(parent: &str, name: &str) -> Arc<str> {
    if parent.is_empty() { Arc::from(name) } else { Arc::from(format!("{parent}/{name}")) }
}

/// The directory that `path` is in, and its name there.
pub(super) fn parent_and_name(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

#[cfg(test)]
mod tests;
