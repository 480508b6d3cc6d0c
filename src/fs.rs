//! A bucket as a file system: the face of everything below `fs/`.
//!
//! ```text
//!   kernel -- door.rs -- fuse.rs --> tree.rs (names) ----> store.rs: S3
//!                                |   directory.rs (lists)-'    ^
//!                                |-> read.rs (bytes) ----------|      inode.rs: numbers   cache.rs: blocks
//!                                '-> write.rs (changes) -------'
//! ```
//!
//! It knows nothing of agents, containers or configuration files. What must hold: what is mounted serves, or
//! nothing is mounted; memory stays within [`Options::memory`]; the calling process never touches a path below
//! its own mount.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, umount2};
use tokio::runtime::Handle;

use crate::mountinfo::{Device, MountTable};

mod ask;
pub mod attr;
pub mod cache;
mod caller;
pub mod directory;
mod door;
pub mod error;
mod flight;
pub mod fuse;
pub mod health;
pub mod inode;
pub mod listing;
mod percent;
pub mod read;
pub mod session;
pub mod store;
mod survey;
pub mod sweep;
pub mod tree;
mod wire;
pub mod write;
pub mod xattr;

pub use attr::Defaults;
pub use cache::CacheCounts;
pub use health::StoreHealth;
pub use session::SessionError;
pub use write::{OnConflict, WriteOptions};

use cache::BlockCache;
use health::Pulse;
use read::Source;
use store::{ObjectStore, StoreError};
use tree::{Rules, Tree};
use write::{Owner, Writing};

/// Longest wait for what is still open to be stored when a mount ends.
const FINISH_LIMIT: Duration = Duration::from_secs(60);

/// Least memory a mount can work with: 16 MiB.
pub const MEMORY_MIN: u64 = 16 * 1024 * 1024;

/// How a bucket is mounted.
#[derive(Clone, Debug)]
pub struct Options {
    /// What `/proc/mounts` shows as the source: `s3://bucket/prefix`.
    pub source: String,
    /// Key prefix that is the root: empty, or ending in `/`.
    pub prefix: String,
    pub read_only: bool,
    /// `MS_NOEXEC`: no program on the mount can be started.
    pub no_exec: bool,
    /// `MS_NOSYMFOLLOW`: symbolic links on the mount are not followed.
    pub no_symlink_follow: bool,
    /// How old an answer may be when a file is opened; zero asks at every open.
    pub freshness: Duration,
    /// How long what is known is served when the store cannot be asked.
    pub max_stale: Duration,
    pub defaults: Defaults,
    /// Bytes for all caches and buffers, at least [`MEMORY_MIN`].
    pub memory: u64,
    /// Of no meaning where nothing is written.
    pub write: WriteOptions,
}

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
    /// What was written and could not be stored because somebody else was faster: where it is kept.
    pub kept: Vec<PathBuf>,
}

/// A mounted bucket. Dropping it does not unmount: use [`Session::unmount`].
pub struct Session {
    path: PathBuf,
    tree: Arc<Tree>,
    /// Absent on a mount that is only read.
    writing: Option<Arc<Writing>>,
    connection: session::Connection,
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
    let memory = Memory::of(&options);
    let cache = Arc::new(BlockCache::new(memory.content));
    let push = Arc::new(OnceLock::new());
    let pulse = Arc::new(Pulse::default());
    let source = Source { store, cache, pulse, runtime: runtime.clone(), push: push.clone() };
    let rules = Rules {
        prefix: options.prefix,
        freshness: options.freshness,
        max_stale: options.max_stale,
        defaults: options.defaults,
    };
    let tree = Tree::new(rules, source, memory.names);
    let proof = {
        let tree = tree.clone();
        // On the file system's runtime, because connections to the store belong to the runtime that opens them.
        runtime.spawn(async move { tree.prove().await }).await
    };
    proof
        .map_err(|source| MountError::Task { source })?
        .map_err(|source| MountError::Store { bucket: options.source.clone(), source })?;
    let owner = Owner { source: options.source.clone(), mount_point: path.to_path_buf() };
    let writing = writing(&tree, (options.read_only, &options.write), owner, memory.writing)?;
    if let Some(writing) = &writing {
        writing.cleared().await;
    }
    let adapter = fuse::Adapter::new(tree.clone(), writing.clone());
    // Where a number gets new content while it is used, nothing is put into the kernel's memory unasked.
    let push = if writing.is_some() { Arc::default() } else { push };
    let mut flags = MsFlags::empty();
    flags.set(MsFlags::MS_RDONLY, options.read_only);
    flags.set(MsFlags::MS_NOEXEC, options.no_exec);
    flags.set(MsFlags::from_bits_retain(libc::MS_NOSYMFOLLOW), options.no_symlink_follow);
    let (target, source) = (path.to_path_buf(), options.source);
    let connection = runtime
        .spawn_blocking(move || session::Connection::open(adapter, &target, &source, flags, &push))
        .await
        .map_err(|source| MountError::Task { source })??;
    Ok(Session { path: path.to_path_buf(), tree, writing, connection })
}

/// Who gets how much of the memory.
struct Memory {
    content: u64,
    names: u64,
    writing: u64,
}

impl Memory {
    fn of(options: &Options) -> Memory {
        let names = options.memory / 4;
        let writing = if options.read_only { 0 } else { options.memory / 8 * 3 };
        Memory { content: options.memory - names - writing, names, writing }
    }
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
            store: self.tree.source.pulse.health(),
            cache: self.tree.source.cache.counts(),
            inodes: self.tree.in_use(),
            hidden_keys: self.tree.hidden.count(),
            kept: self.writing.as_ref().map(|writing| writing.kept()).unwrap_or_default(),
        }
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
