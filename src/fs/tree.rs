//! Names and directories: a bucket of keys seen as a tree.
//!
//! A key ending in `/` is a directory; so is any prefix of a key. Where a directory and an object have the same
//! name the directory wins and the object is hidden. Nothing here knows of FUSE: numbers and replies are
//! `fuse.rs`'s.
//!
//! ```text
//!   lookup ->  known and asked less than `freshness` ago ............. answer from memory
//!              an object known before ................................ one conditional request
//!              a directory known before .............................. from memory for `DIRECTORY_PATIENCE`
//!              anything else ......... GET of the key and LIST of `key/`, at the same time: one round trip
//!              the store cannot be asked ............ what was known, until it is older than `max_stale`
//! ```
//!
//! What must hold: an answer is never older than `freshness` when the store answers; questions about one name
//! that wait at the same time are asked once; an answer counts from when its question *left*.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::attr::{self, Attributes, Defaults, Kind};
use super::cache::BLOCK;
use super::error::FsError;
use super::health::Pulse;
use super::inode::{Facts, Node, ROOT, Table};
use super::read::{Content, Source};
use super::store::{
    Body, Condition, Depth, Fetch, Fetched, From, List, Object, ObjectStore, StoreError, Version,
};

/// How long a directory that was seen is believed to be one while only names below it are used: a file found
/// below proves it anyway, and opening or listing the directory itself asks. Owner and mode of a directory may
/// be this old. With `freshness = "0s"` there is no patience.
const DIRECTORY_PATIENCE: Duration = Duration::from_secs(30);
/// A write this close to when it was seen may be followed by another one within the same second, which the
/// store's clock cannot tell apart: such an object is asked for its headers, not for a difference.
const SAME_SECOND: i64 = 2;
/// How long the kernel may believe attributes that can never change: those of a version that was replaced.
const FOR_EVER: Duration = Duration::from_secs(24 * 3600);
/// Longest wait for the answer to a question about a name, all attempts together.
pub const ASK_DEADLINE: Duration = Duration::from_secs(30);
/// Longest name that Linux knows.
pub const NAME_MAX: usize = 255;

/// The rules of one mount.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Key prefix that is the root: empty, or ending in `/`.
    pub prefix: String,
    pub freshness: Duration,
    pub max_stale: Duration,
    pub defaults: Defaults,
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
    table: Mutex<Table>,
    flights: Mutex<HashMap<Arc<str>, Flight>>,
    /// Finds this tree again from a question that outlives its asker.
    this: std::sync::Weak<Tree>,
}

type Outcome = Result<Option<u64>, StoreError>;

/// A question about a name that is on its way.
#[derive(Clone)]
struct Flight {
    left: Instant,
    outcome: Shared<BoxFuture<'static, Outcome>>,
}

impl Tree {
    pub fn new(rules: Rules, source: Source, idle_limit: usize) -> Arc<Tree> {
        let root = Attributes::implicit_directory(&rules.defaults);
        Arc::new_cyclic(|this| Tree {
            table: Mutex::new(Table::new(root, idle_limit)),
            rules,
            source,
            flights: Mutex::default(),
            this: this.clone(),
        })
    }

    /// What the store says of the root: that it is reachable, and the root's own marker if there is one.
    ///
    /// # Errors
    ///
    /// Whatever keeps the bucket from being listed.
    pub async fn prove(&self) -> Result<(), StoreError> {
        let first = self.first_below("").await?;
        if !self.rules.prefix.is_empty() && first.as_deref() == Some(self.rules.prefix.as_str()) {
            let marker = self.store().head(&self.rules.prefix).await?;
            let attributes = Attributes::of(&self.rules.prefix, &marker, &self.rules.defaults);
            if let Some(root) = self.table().node_mut(ROOT) {
                root.facts.attributes = Some(attributes);
            }
        }
        Ok(())
    }

    /// Answers from memory if what is known is fresh enough.
    pub fn lookup_now(&self, parent: u64, name: &str) -> Option<Result<Looked, FsError>> {
        let path = match self.child_path(parent, name) {
            Ok(path) => path,
            Err(error) => return Some(Err(error)),
        };
        let mut table = self.table();
        let ino = table.find(&path)?;
        let entry = self.fresh_entry(table.node(ino)?, ino)?;
        table.remember(ino);
        Some(Ok(Looked::Found(entry)))
    }

    /// What `name` in the directory `parent` is. What is found counts as told to the kernel once more.
    ///
    /// # Errors
    ///
    /// [`FsError::NameTooLong`]; [`FsError::Stale`] when `parent` is no number of ours; [`FsError::Store`] when
    /// the store neither answers nor is what was known young enough.
    pub async fn lookup(&self, parent: u64, name: &str) -> Result<Looked, FsError> {
        let path = self.child_path(parent, name)?;
        let (left, outcome) = self.ask(&path).await;
        let found = match outcome {
            Ok(found) => found,
            Err(error) => return self.last_known(&path, error),
        };
        let valid_for = self.rules.freshness.saturating_sub(left.elapsed());
        let Some(ino) = found else { return Ok(Looked::Absent { valid_for }) };
        let mut table = self.table();
        let node = table.node(ino).ok_or(FsError::Stale)?;
        let attributes = node.facts.attributes.clone().ok_or(FsError::Stale)?;
        table.remember(ino);
        Ok(Looked::Found(Entry { ino, attributes, valid_for }))
    }

    /// Attributes of a number from memory, if what is known is fresh enough or can never change.
    pub fn attributes_now(&self, ino: u64) -> Option<Result<Entry, FsError>> {
        let table = self.table();
        let Some(node) = table.node(ino) else { return Some(Err(FsError::Stale)) };
        if table.find(&node.path) != Some(ino) && !node.facts.directory {
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
        let path = self.table().node(ino).ok_or(FsError::Stale)?.path.clone();
        let (left, outcome) = self.ask(&path).await;
        let table = self.table();
        let node = table.node(ino).ok_or(FsError::Stale)?;
        let attributes = node.facts.attributes.clone().ok_or(FsError::Stale)?;
        let valid_for = match outcome {
            Ok(Some(now)) if now == ino => self.rules.freshness.saturating_sub(left.elapsed()),
            Ok(_) if node.facts.directory => return Err(FsError::Stale),
            Ok(_) => Duration::ZERO,
            Err(error) => {
                self.believable(node, &error)?;
                Duration::ZERO
            }
        };
        Ok(Entry { ino, attributes, valid_for })
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
            Some(version) if !node.facts.directory => version.clone(),
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
        let (path, kind, size) = {
            let table = self.table();
            let node = table.node(ino).ok_or(FsError::Stale)?;
            let kind = node.facts.attributes.as_ref().map(|known| known.kind);
            (node.path.clone(), kind, node.facts.size)
        };
        if kind != Some(Kind::Symlink) {
            return Err(FsError::NotSymlink);
        }
        if size == 0 {
            let object = self.store().head(&format!("{}{path}", self.rules.prefix)).await?;
            return attr::symlink_target_header(&object).ok_or(FsError::NotSymlink);
        }
        let body = self.content(ino)?.read(0, size.min(libc::PATH_MAX as u64) as usize).await?;
        Ok(attr::symlink_target_body(&body).to_vec())
    }

    /// Counts that the kernel dropped `count` of its references to `ino`.
    pub fn forget(&self, ino: u64, count: u64) {
        self.table().forget(ino, count);
    }

    /// How many numbers the kernel holds.
    pub fn in_use(&self) -> usize {
        self.table().in_use()
    }

    /// Path of a directory from the root of the mount, without slashes around it.
    pub(super) fn directory_path(&self, ino: u64) -> Result<Arc<str>, FsError> {
        let table = self.table();
        let node = table.node(ino).ok_or(FsError::Stale)?;
        if node.facts.directory { Ok(node.path.clone()) } else { Err(FsError::NotDirectory) }
    }

    /// Key prefix of what is in the directory `path`.
    pub(super) fn directory_prefix(&self, path: &str) -> String {
        match path {
            "" => self.rules.prefix.clone(),
            path => format!("{}{path}/", self.rules.prefix),
        }
    }

    pub(super) fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.source.store
    }

    pub(super) fn pulse(&self) -> &Pulse {
        &self.source.pulse
    }

    pub(super) fn runtime(&self) -> &Handle {
        &self.source.runtime
    }

    pub(super) fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn child_path(&self, parent: u64, name: &str) -> Result<Arc<str>, FsError> {
        if name.len() > NAME_MAX {
            return Err(FsError::NameTooLong);
        }
        let parent = self.directory_path(parent)?;
        Ok(join(&parent, name))
    }

    /// What is known of a node, if it may be answered without asking.
    fn fresh_entry(&self, node: &Node, ino: u64) -> Option<Entry> {
        let attributes = node.facts.attributes.clone()?;
        if ino == ROOT {
            return Some(Entry { ino, attributes, valid_for: self.rules.freshness });
        }
        let age = node.checked?.elapsed();
        let freshness = self.rules.freshness;
        let patience = match node.facts.version {
            None if !freshness.is_zero() => freshness.max(DIRECTORY_PATIENCE),
            _ => freshness,
        };
        if age >= patience {
            return None;
        }
        let valid_for = match node.facts.version {
            None => freshness,
            Some(_) => freshness - age,
        };
        Some(Entry { ino, attributes, valid_for })
    }

    /// Falls back to what was known when the store cannot be asked.
    fn last_known(&self, path: &str, error: StoreError) -> Result<Looked, FsError> {
        let mut table = self.table();
        let known = table.find(path).and_then(|ino| table.node(ino).map(|node| (ino, node)));
        let Some((ino, node)) = known else { return Err(error.into()) };
        self.believable(node, &error)?;
        let attributes = node.facts.attributes.clone().ok_or(error)?;
        table.remember(ino);
        Ok(Looked::Found(Entry { ino, attributes, valid_for: Duration::ZERO }))
    }

    fn believable(&self, node: &Node, error: &StoreError) -> Result<(), StoreError> {
        let young = node.checked.is_some_and(|checked| checked.elapsed() < self.rules.max_stale);
        if error.is_outage() && young { Ok(()) } else { Err(error.clone()) }
    }

    /// Asks the store about `path`, together with whoever is asking already, and records the answer. With the
    /// moment at which the question left.
    async fn ask(&self, path: &Arc<str>) -> (Instant, Outcome) {
        let flight = {
            let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
            match flights.get(path) {
                // A question that left before the freshness asked for cannot be joined: its answer may be older.
                Some(flight) if flight.left.elapsed() < self.rules.freshness => flight.clone(),
                _ => {
                    let flight = self.depart(path.clone());
                    flights.insert(path.clone(), flight.clone());
                    flight
                }
            }
        };
        (flight.left, flight.outcome.await)
    }

    fn depart(&self, path: Arc<str>) -> Flight {
        let this = self.this.clone();
        let left = Instant::now();
        let task = self.runtime().spawn(async move {
            let Some(tree) = this.upgrade() else {
                return Err(StoreError::Malformed { reason: "the mount is gone".into() });
            };
            let outcome = tokio::time::timeout(ASK_DEADLINE, tree.question(&path, left))
                .await
                .unwrap_or(Err(StoreError::TimedOut(ASK_DEADLINE)));
            tree.pulse().note(&outcome);
            let mut flights = tree.flights.lock().unwrap_or_else(PoisonError::into_inner);
            if flights.get(&path).is_some_and(|flight| flight.left == left) {
                flights.remove(&path);
            }
            outcome
        });
        let outcome = async move {
            task.await.unwrap_or_else(|error| Err(StoreError::Malformed { reason: error.to_string() }))
        };
        Flight { left, outcome: outcome.boxed().shared() }
    }

    async fn question(&self, path: &str, left: Instant) -> Outcome {
        let known = {
            let table = self.table();
            table.find(path).and_then(|ino| table.node(ino)).map(|node| node.facts.clone())
        };
        match known {
            Some(Facts { version: Some(version), attributes: Some(_), settled: true, .. }) => {
                self.still(path, version, left).await
            }
            // The headers are wanted: those of a listed object have not been seen, others may have changed unseen.
            Some(Facts { version: Some(_), .. }) => self.headers(path, left).await,
            _ => self.discover(path, left).await,
        }
    }

    /// Whether the object at `path` is still `version`: one conditional request.
    async fn still(&self, path: &str, version: Version, left: Instant) -> Outcome {
        match self.fetch_first(&self.key(path), Condition::Changed(version.etag.clone())).await {
            Ok(Fetched::Content { object, range, body }) => {
                Ok(Some(self.record_object(path, object, left, Some((range, body)))))
            }
            Ok(Fetched::NotModified { last_modified }) if last_modified == Some(version.last_modified) => {
                match self.record_unchanged(path, left) {
                    Some(ino) => Ok(Some(ino)),
                    None => self.headers(path, left).await,
                }
            }
            // The same content written again, perhaps with other headers; or nothing left of the first bytes.
            Ok(Fetched::NotModified { .. }) | Err(StoreError::RangeOutside { .. }) => {
                self.headers(path, left).await
            }
            Err(StoreError::NotFound { .. }) => self.whether_directory(path, left).await,
            Err(error) => Err(error),
        }
    }

    /// The headers of an object known to be at `path`.
    async fn headers(&self, path: &str, left: Instant) -> Outcome {
        match self.store().head(&self.key(path)).await {
            Ok(object) => Ok(Some(self.record_object(path, object, left, None))),
            Err(StoreError::NotFound { .. }) => self.whether_directory(path, left).await,
            Err(error) => Err(error),
        }
    }

    /// What `path` is, knowing nothing: the object and the directory of that name are asked for at once.
    async fn discover(&self, path: &str, left: Instant) -> Outcome {
        let key = self.key(path);
        let (object, first) =
            futures::join!(self.fetch_first(&key, Condition::Always), self.first_below(path));
        if let Some(first) = first? {
            return self.record_directory(path, &first, left).await.map(Some);
        }
        match object {
            Ok(Fetched::Content { object, range, body }) => {
                Ok(Some(self.record_object(path, object, left, Some((range, body)))))
            }
            Ok(Fetched::NotModified { .. }) => {
                Err(StoreError::Malformed { reason: "\"not modified\" without a condition".into() })
            }
            // An empty object has no first bytes.
            Err(StoreError::RangeOutside { .. }) => {
                let object = self.store().head(&key).await?;
                Ok(Some(self.record_object(path, object, left, None)))
            }
            Err(StoreError::NotFound { .. }) => {
                self.table().record_absent(path, left);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether `path`, where no object is, is a directory.
    async fn whether_directory(&self, path: &str, left: Instant) -> Outcome {
        match self.first_below(path).await? {
            Some(first) => self.record_directory(path, &first, left).await.map(Some),
            None => {
                self.table().record_absent(path, left);
                Ok(None)
            }
        }
    }

    async fn fetch_first(&self, key: &str, condition: Condition) -> Result<Fetched, StoreError> {
        self.store().fetch(Fetch { key, range: Some(0..BLOCK), condition, version_id: None }).await
    }

    /// The first key in the directory `path`: its marker if it has one.
    async fn first_below(&self, path: &str) -> Result<Option<String>, StoreError> {
        let prefix = self.directory_prefix(path);
        let list = List { prefix: &prefix, depth: Depth::Tree, from: From::Start, limit: 1 };
        let page = self.store().list(list).await?;
        Ok(page.objects.into_iter().next().map(|object| object.key))
    }

    async fn record_directory(&self, path: &str, first: &str, left: Instant) -> Result<u64, StoreError> {
        let marker = self.directory_prefix(path);
        let attributes = if first == marker { self.marker_attributes(&marker).await? } else { None };
        let attributes = attributes.unwrap_or_else(|| Attributes::implicit_directory(&self.rules.defaults));
        Ok(self.table().record(path, Facts::directory(Some(attributes)), left))
    }

    /// What the headers of a directory's marker say; `None` if there is no marker.
    pub(super) async fn marker_attributes(&self, marker: &str) -> Result<Option<Attributes>, StoreError> {
        match self.store().head(marker).await {
            Ok(object) => Ok(Some(Attributes::of(marker, &object, &self.rules.defaults))),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn record_object(
        &self,
        path: &str,
        object: Object,
        left: Instant,
        first: Option<(std::ops::Range<u64>, Body)>,
    ) -> u64 {
        let attributes = Attributes::of(path, &object, &self.rules.defaults);
        let settled = is_settled(object.version.last_modified);
        let facts = Facts::object(object.version, object.size, Some(attributes), settled);
        let ino = self.table().record(path, facts, left);
        if let Some((range, body)) = first
            && let Ok(content) = self.content(ino)
        {
            content.begin(range, body);
        }
        ino
    }

    fn record_unchanged(&self, path: &str, left: Instant) -> Option<u64> {
        let mut table = self.table();
        let facts = table.find(path).and_then(|ino| table.node(ino)).map(|node| node.facts.clone())?;
        Some(table.record(path, facts, left))
    }

    fn key(&self, path: &str) -> String {
        format!("{}{path}", self.rules.prefix)
    }
}

/// `name` in the directory `parent`.
pub(super) fn join(parent: &str, name: &str) -> Arc<str> {
    if parent.is_empty() { Arc::from(name) } else { Arc::from(format!("{parent}/{name}")) }
}

/// Whether a write is old enough that another one would show in the store's clock.
pub(super) fn is_settled(last_modified: i64) -> bool {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX));
    now.saturating_sub(last_modified) >= SAME_SECOND
}

#[cfg(test)]
mod tests;
