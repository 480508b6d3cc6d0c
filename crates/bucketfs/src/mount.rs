//! Buckets that are mounted: from the proof that the bucket answers to the last user's leaving.
//!
//! What must hold: what is mounted serves, or nothing is mounted; the calling process never touches a path below its own
//! mount.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use tokio::runtime::Handle;

use super::attr::Timestamp;
use super::cache::{BlockCache, CacheCounts};
use super::health::{Availability, StoreHealth};
use super::journal::{Found, Journal, JournalError, Recovered};
use super::mountinfo::{Device, MountTable};
use super::options::{Memory, Options, flags, settings};
use super::read::{self, Source};
use super::session::{self, Handover, SessionError};
use super::store::{ObjectStore, StoreError};
use super::tree::{Rules, Tree};
use super::write::{Owner, WriteOptions, Writing};
use super::{fuse, measure};

/// Longest wait for what was taken to be answered when a mount is left to a successor, which answers the rest.
const LEAVE_LIMIT: Duration = Duration::from_secs(2);
/// Longest wait for what is still open to be stored when a mount ends.
const FINISH_LIMIT: Duration = Duration::from_secs(60);

/// Why a bucket was not mounted. Nothing is left behind.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    #[error("cannot list {bucket:?}")]
    Store { bucket: String, source: StoreError },
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error("cannot use the staging directory {path:?}")]
    Staging { path: PathBuf, source: io::Error },
    #[error("the file system's own task ended early")]
    Task { source: tokio::task::JoinError },
}

/// Why a session that a process before has left was not resumed. Whoever waits for an answer of it still does.
#[derive(Debug, thiserror::Error)]
pub enum ResumeError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("{found:?} was mounted and {wanted:?} is configured")]
    Settings { found: String, wanted: String },
    #[error(transparent)]
    Mount(#[from] MountError),
}

/// Why a mount could not be taken away.
#[derive(Debug, thiserror::Error)]
#[error("cannot unmount {path:?}")]
pub struct UnmountError {
    pub path: PathBuf,
    pub source: io::Error,
}

/// How a mount does, without asking anybody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Whether the kernel has closed the connection: nothing is served any more.
    pub ended: bool,
    pub store: StoreHealth,
    pub cache: CacheCounts,
    /// Numbers that the kernel holds.
    pub inodes: usize,
    /// Keys seen that cannot be shown as file names.
    pub hidden_keys: u64,
    /// Keys seen that the store says nothing about: files without permissions, directories without a marker.
    pub unreadable_keys: u64,
    /// What was written and could not be stored because somebody else was faster: where it is kept.
    pub kept: Vec<PathBuf>,
    /// Which conditions of writes the store does not keep, and what that means here.
    pub unguarded: Option<String>,
    /// How often another process went on with the session.
    pub resumed: u64,
    /// Requests of the kernel that are in hand.
    pub taken: u64,
}

/// A mounted bucket. Dropping it does not unmount: use [`Session::unmount`].
pub struct Session {
    path: PathBuf,
    tree: Arc<Tree>,
    /// Absent on a mount that is only read.
    writing: Option<Arc<Writing>>,
    connection: Arc<session::Connection>,
}

/// Proves that the bucket can be listed, then mounts it on the directory `path`.
///
/// `runtime` must be multi-threaded: it does the file system's work from now on.
///
/// # Errors
///
/// Any [`MountError`]: the bucket is asked first, so a missing bucket or a wrong key never mounts anything.
pub async fn mount(
    store: Arc<dyn ObjectStore>,
    path: &Path,
    options: Options,
    runtime: Handle,
) -> Result<Session, MountError> {
    let began = Timestamp::now();
    let (tree, push, memory) = prepared(store, (&options, began), &runtime);
    let proof = {
        let tree = tree.clone();
        // On the file system's runtime, because connections to the store belong to the runtime that opens them.
        runtime.spawn(async move { tree.prove().await }).await
    };
    proof
        .map_err(|source| MountError::Task { source })?
        .map_err(|source| MountError::Store { bucket: options.source.clone(), source })?;
    let journal = Arc::new(Journal::create().map_err(|source| SessionError::Journal { source })?);
    tree.keep_in(journal.clone(), &Recovered::default());
    let writing = writing(&tree, (options.read_only, &options.write), owner(&options, path), memory.writing)?;
    if let Some(writing) = &writing {
        writing.cleared().await;
        let tried = writing.clone();
        runtime
            .spawn(async move { tried.try_conditions().await })
            .await
            .map_err(|source| MountError::Task { source })?;
        if let Some(unguarded) = writing.unguarded() {
            tracing::warn!(source = %options.source, %unguarded, "the store does not keep all conditions of writes");
        }
    }
    let staging = writing.as_ref().map(|writing| writing.session().to_string());
    let adapter = adapter(&tree, &writing, &journal, Recovered::default(), options.resend);
    // Where a number gets new content while it is used, nothing is put into the kernel's memory unasked.
    let push = if writing.is_some() { Arc::default() } else { push };
    let (target, settings, flags) = (path.to_path_buf(), settings(&options), flags(&options));
    let open = move || {
        let (path, source, region) = (target.as_path(), options.source.as_str(), options.region);
        let mounting = session::Mounting { path, source, flags, settings, staging, region, began };
        session::Connection::open(session::Serving { adapter, journal, push: &push }, mounting)
    };
    let opened = runtime.spawn_blocking(open).await;
    let connection = opened.map_err(|source| MountError::Task { source })??;
    Ok(Session { path: path.to_path_buf(), tree, writing, connection: Arc::new(connection) })
}

/// Goes on with a session that a process before has left: what it has not answered is answered. The bucket is not asked
/// for anything. `connect` makes its client, for the region in which the process before asked it, if that is known.
///
/// # Errors
///
/// Any [`ResumeError`]: then the mount is still there, and only to be taken away.
pub async fn resume(
    connect: impl AsyncFnOnce(Option<&str>) -> Result<Arc<dyn ObjectStore>, StoreError>,
    handover: Handover,
    options: Options,
    runtime: Handle,
) -> Result<Session, ResumeError> {
    let Found { journal, head, held, left } = Journal::open(handover.journal)?;
    let wanted = settings(&options);
    if head.settings != wanted {
        return Err(ResumeError::Settings { found: head.settings, wanted });
    }
    let store = connect(head.region.as_deref()).await;
    let store = store.map_err(|source| MountError::Store { bucket: options.source.clone(), source })?;
    let began = head.began.unwrap_or_else(Timestamp::now);
    let (tree, push, memory) = prepared(store, (&options, began), &runtime);
    let journal = Arc::new(journal);
    tree.keep_in(journal.clone(), &held);
    let path = head.path.clone();
    let writing = match &head.staging {
        None => None,
        Some(session) => {
            let (tree, session, owner) = (tree.clone(), session.clone(), owner(&options, &path));
            let write = options.write.clone();
            // On the file system's runtime, as everything that may ask the store.
            let resumed = runtime
                .spawn(async move { Writing::resume(tree, &write, owner, memory.writing, &session).await });
            let resumed = resumed.await.map_err(|source| MountError::Task { source })?;
            let path = options.write.staging.clone();
            Some(resumed.map_err(|source| MountError::Staging { path, source })?)
        }
    };
    let adapter = adapter(&tree, &writing, &journal, held, options.resend);
    let push = if writing.is_some() { Arc::default() } else { push };
    let resume = move || {
        let serving = session::Serving { adapter, journal, push: &push };
        session::Connection::resume(serving, handover.device, &head, left)
    };
    let resumed = runtime.spawn_blocking(resume).await.map_err(|source| MountError::Task { source })?;
    let connection = resumed.map_err(MountError::Session)?;
    Ok(Session { path, tree, writing, connection: Arc::new(connection) })
}

/// Where the session behind `handover` is mounted, if it still is.
pub fn path_of(handover: Handover) -> Option<PathBuf> {
    let Found { head, .. } = Journal::open(handover.journal).ok()?;
    let entry = MountTable::of(None).ok()?.top(&head.path)?.device;
    (entry == Device { major: head.device.0, minor: head.device.1 }).then_some(head.path)
}

fn owner(options: &Options, path: &Path) -> Owner {
    Owner { source: options.source.clone(), mount_point: path.to_path_buf() }
}

/// A tree over `store`, and the way into the kernel's memory.
fn prepared(
    store: Arc<dyn ObjectStore>,
    (options, began): (&Options, Timestamp),
    runtime: &Handle,
) -> (Arc<Tree>, Arc<OnceLock<read::Push>>, Memory) {
    let memory = Memory::of(options);
    let cache = Arc::new(BlockCache::new(memory.content));
    let push = Arc::new(OnceLock::new());
    let availability = Arc::new(Availability::default());
    let source = Source { store, cache, availability, runtime: runtime.clone(), push: push.clone() };
    let rules = Rules {
        prefix: options.prefix.clone(),
        freshness: options.freshness,
        max_stale: options.max_stale,
        defaults: options.defaults,
        began,
        suid: options.suid,
    };
    (Tree::new(rules, source, memory.names), push, memory)
}

fn adapter(
    tree: &Arc<Tree>,
    writing: &Option<Arc<Writing>>,
    journal: &Arc<Journal>,
    held: Recovered,
    resend: bool,
) -> fuse::Adapter {
    let adapter = fuse::Adapter::new(tree.clone(), writing.clone(), journal.clone(), held);
    if resend { adapter } else { adapter.without_resend() }
}

fn writing(
    tree: &Arc<Tree>,
    (read_only, options): (bool, &WriteOptions),
    owner: Owner,
    memory: u64,
) -> Result<Option<Arc<Writing>>, MountError> {
    if read_only {
        return Ok(None);
    }
    let writing = Writing::new(tree.clone(), options, owner, memory);
    let path = options.staging.clone();
    writing.map(Some).map_err(|source| MountError::Staging { path, source })
}

impl Session {
    /// The device number by which every mount of this session can be recognised.
    pub fn device(&self) -> Device {
        self.connection.device()
    }

    /// The directory it was mounted on.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn health(&self) -> Health {
        Health {
            ended: self.connection.has_ended(),
            store: self.tree.source.availability.health(),
            cache: self.tree.source.cache.counts(),
            inodes: self.tree.in_use(),
            hidden_keys: self.tree.hidden.count(),
            unreadable_keys: self.tree.hidden.unreadable(),
            kept: self.writing.as_ref().map(|writing| writing.kept()).unwrap_or_default(),
            unguarded: self.writing.as_ref().and_then(|writing| writing.unguarded()),
            resumed: self.connection.resumed(),
            taken: self.connection.taken(),
        }
    }

    /// What is counted while this process serves.
    pub fn counted(&self) -> measure::Mount {
        measure::Mount { operations: self.connection.operations(), ages: self.tree.ages.clone() }
    }

    /// Bytes that the cache of content may hold.
    pub fn cache_budget(&self) -> u64 {
        self.tree.source.cache.budget()
    }

    /// Bytes that the table of names takes.
    pub fn table_bytes(&self) -> u64 {
        self.tree.table_bytes()
    }

    /// What a successor needs, for whoever holds it until there is one.
    ///
    /// # Errors
    ///
    /// When this process may have no more descriptors.
    pub fn handover(&self) -> io::Result<Handover> {
        self.connection.handover()
    }

    /// Serves no more and leaves the mount to a successor: what was taken is answered, what cannot be in time waits for
    /// the successor.
    pub async fn leave(&self) {
        let connection = self.connection.clone();
        let left = self.tree.runtime().spawn_blocking(move || connection.leave(LEAVE_LIMIT)).await;
        if let Some(writing) = self.writing.clone() {
            let leave = self.tree.runtime().spawn(async move { writing.leave().await });
            // What is on its way to the store is asked for again by the successor.
            let _ = tokio::time::timeout(LEAVE_LIMIT, leave).await;
        }
        tracing::info!(path = ?self.path, unanswered = left.unwrap_or_default(), "left to a successor");
    }

    /// Waits until the kernel has closed the connection. Safe to drop and to call again.
    pub async fn ended(&self) {
        self.connection.ended().await;
    }

    /// Unmounts; a mount that is in use disappears from its path at once and ends with its last user.
    ///
    /// # Errors
    ///
    /// When the kernel refuses. A path where something else is mounted by now is left alone and is no error.
    pub async fn unmount(&self) -> Result<(), UnmountError> {
        let (path, device) = (self.path.clone(), self.device());
        let unmounted = tokio::task::spawn_blocking(move || unmount_if(&path, device)).await;
        if let Some(writing) = self.writing.clone() {
            let finish = self.tree.runtime().spawn(async move { writing.finish().await });
            if tokio::time::timeout(FINISH_LIMIT, finish).await.is_err() {
                tracing::error!("the store does not take what is still open: giving up");
            }
        }
        unmounted
            .unwrap_or_else(|error| Err(io::Error::other(error)))
            .map_err(|source| UnmountError { path: self.path.clone(), source })
    }
}

fn unmount_if(path: &Path, device: Device) -> io::Result<()> {
    if MountTable::of(None)?.top(path).map(|entry| entry.device) != Some(device) {
        return Ok(());
    }
    match umount2(path, MntFlags::UMOUNT_NOFOLLOW) {
        Err(Errno::EBUSY) => umount2(path, MntFlags::UMOUNT_NOFOLLOW | MntFlags::MNT_DETACH),
        outcome => outcome,
    }
    .map_err(io::Error::from)
}
