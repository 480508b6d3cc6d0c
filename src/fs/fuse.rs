//! FUSE, translated: the only file that names `fuser`.
//!
//! Requests come in on the session's threads. What is in memory is answered there and then; what needs the store
//! becomes a task on the file system's runtime, which holds the reply. What must hold: every request is answered
//! exactly once, nothing here waits for the store on a session thread, and what the kernel is told to believe for
//! a while is exactly as long as `tree.rs` allows.
//!
//! Files are not opened: `open` is answered `ENOSYS`, after which the kernel opens them by itself. A number
//! stands for one content for ever (`inode.rs`), so there is nothing to decide at `open` that the lookup before
//! it has not decided, and cached pages are always right.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyStatfs, Request,
};

use super::attr::{Attributes, Kind, Timestamp};
use super::directory::{Detail, Directory, Hidden, entry_of};
use super::error::FsError;
use super::tree::{Entry, Looked, NAME_MAX, Tree};

/// Requests of the kernel's own read-ahead that may be under way at once.
const MAX_BACKGROUND: u16 = 64;
/// What `statfs` shows as a block.
const STATFS_BLOCK: u32 = 4096;
/// Blocks of the file system, all free: a bucket has no end. 2^42 blocks are 16 PiB, which every tool can print.
const STATFS_BLOCKS: u64 = 1 << 42;
/// Capabilities asked for where the kernel has them.
const WANTED: [InitFlags; 6] = [
    InitFlags::FUSE_PARALLEL_DIROPS,
    InitFlags::FUSE_DO_READDIRPLUS,
    InitFlags::FUSE_READDIRPLUS_AUTO,
    InitFlags::FUSE_CACHE_SYMLINKS,
    InitFlags::FUSE_ASYNC_DIO,
    InitFlags::FUSE_NO_OPEN_SUPPORT,
];

/// Answers the kernel's requests out of a [`Tree`].
pub struct Adapter {
    tree: Arc<Tree>,
    shared: Arc<Shared>,
}

struct Shared {
    directories: Mutex<HashMap<u64, Arc<Directory>>>,
    next_handle: AtomicU64,
    hidden: Arc<Hidden>,
}

impl Adapter {
    pub fn new(tree: Arc<Tree>, hidden: Arc<Hidden>) -> Adapter {
        let shared = Shared { directories: Mutex::default(), next_handle: AtomicU64::new(1), hidden };
        Adapter { tree, shared: Arc::new(shared) }
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tree.runtime().spawn(task);
    }
}

impl Shared {
    fn directories(&self) -> MutexGuard<'_, HashMap<u64, Arc<Directory>>> {
        self.directories.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn directory(&self, handle: FileHandle) -> Result<Arc<Directory>, FsError> {
        self.directories().get(&handle.0).cloned().ok_or(FsError::Stale)
    }
}

impl Filesystem for Adapter {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        for flag in WANTED {
            if let Err(missing) = config.add_capabilities(flag) {
                tracing::debug!(?missing, "this kernel lacks a capability");
            }
        }
        // Both keep what they had where the kernel allows less.
        let _ = config.set_max_background(MAX_BACKGROUND);
        let _ = config.set_max_readahead(u32::MAX).or_else(|most| config.set_max_readahead(most));
        Ok(())
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let Some(name) = name.to_str() else { return reply.error(Errno::ENOENT) };
        if let Some(answer) = self.tree.lookup_now(parent.0, name) {
            return reply_looked(reply, answer);
        }
        let (tree, name) = (self.tree.clone(), name.to_string());
        self.spawn(async move { reply_looked(reply, tree.lookup(parent.0, &name).await) });
    }

    fn forget(&self, _request: &Request, ino: INodeNo, count: u64) {
        self.tree.forget(ino.0, count);
    }

    fn getattr(&self, _request: &Request, ino: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        if let Some(answer) = self.tree.attributes_now(ino.0) {
            return reply_attributes(reply, answer);
        }
        let tree = self.tree.clone();
        self.spawn(async move { reply_attributes(reply, tree.attributes(ino.0).await) });
    }

    fn readlink(&self, _request: &Request, ino: INodeNo, reply: ReplyData) {
        let tree = self.tree.clone();
        self.spawn(async move {
            match tree.symlink_target(ino.0).await {
                Ok(target) => reply.data(&target),
                Err(error) => reply.error(errno(&error)),
            }
        });
    }

    fn open(&self, _request: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.error(Errno::ENOSYS);
    }

    fn read(
        &self,
        _request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let content = match self.tree.content(ino.0) {
            Ok(content) => content,
            Err(error) => return reply.error(errno(&error)),
        };
        let size = size as usize;
        if let Some(bytes) = content.read_now(offset, size) {
            content.note_position(offset, size);
            return reply.data(&bytes);
        }
        self.spawn(async move {
            match content.read(offset, size).await {
                Ok(bytes) => reply.data(&bytes),
                Err(error) => reply.error(errno(&error)),
            }
        });
    }

    fn opendir(&self, _request: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let (tree, shared) = (self.tree.clone(), self.shared.clone());
        self.spawn(async move {
            match Directory::open(&tree, ino.0, &shared.hidden).await {
                Ok(directory) => {
                    let handle = shared.next_handle.fetch_add(1, Ordering::Relaxed);
                    shared.directories().insert(handle, Arc::new(directory));
                    reply.opened(FileHandle(handle), FopenFlags::empty());
                }
                Err(error) => reply.error(errno(&error)),
            }
        });
    }

    fn readdir(
        &self,
        _request: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let (tree, shared) = (self.tree.clone(), self.shared.clone());
        self.spawn(async move {
            let directory = match shared.directory(handle) {
                Ok(directory) => directory,
                Err(error) => return reply.error(errno(&error)),
            };
            match directory.items(&tree, offset, Detail::Names, &shared.hidden).await {
                Ok(items) => {
                    for item in &items {
                        let name = item.name.as_ref();
                        if reply.add(INodeNo(item.ino), item.next_offset, file_type(item.kind), name) {
                            break;
                        }
                    }
                    reply.ok();
                }
                Err(error) => reply.error(errno(&error)),
            }
        });
    }

    fn readdirplus(
        &self,
        _request: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let (tree, shared) = (self.tree.clone(), self.shared.clone());
        self.spawn(async move {
            let directory = match shared.directory(handle) {
                Ok(directory) => directory,
                Err(error) => return reply.error(errno(&error)),
            };
            match directory.items(&tree, offset, Detail::Attributes, &shared.hidden).await {
                Ok(items) => {
                    for item in &items {
                        // The kernel takes only the names of these two, and does not count them as told.
                        let is_dots = item.name.as_ref() == "." || item.name.as_ref() == "..";
                        let entry = if is_dots { None } else { entry_of(&tree, item) };
                        let (attributes, valid_for) = match &entry {
                            Some(entry) => (file_attr(entry.ino, &entry.attributes), entry.valid_for),
                            None if is_dots => (nameless(item.ino, FileType::Directory), Duration::ZERO),
                            None => continue,
                        };
                        let (ino, name) = (INodeNo(item.ino), item.name.as_ref());
                        if reply.add(ino, item.next_offset, name, &valid_for, &attributes, Generation(0)) {
                            // It did not fit, so the kernel has not been told.
                            if let Some(entry) = entry {
                                tree.forget(entry.ino, 1);
                            }
                            break;
                        }
                    }
                    reply.ok();
                }
                Err(error) => reply.error(errno(&error)),
            }
        });
    }

    fn releasedir(
        &self,
        _request: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.shared.directories().remove(&handle.0);
        reply.ok();
    }

    fn statfs(&self, _request: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        let (blocks, files) = (STATFS_BLOCKS, STATFS_BLOCKS);
        reply.statfs(blocks, blocks, blocks, files, files, STATFS_BLOCK, NAME_MAX as u32, STATFS_BLOCK);
    }
}

fn reply_looked(reply: ReplyEntry, answer: Result<Looked, FsError>) {
    match answer {
        Ok(Looked::Found(entry)) => {
            reply.entry(&entry.valid_for, &file_attr(entry.ino, &entry.attributes), Generation(0));
        }
        // The number 0 says: there is no such name, and that may be believed for a while.
        Ok(Looked::Absent { valid_for }) if !valid_for.is_zero() => {
            reply.entry(&valid_for, &nameless(0, FileType::RegularFile), Generation(0));
        }
        Ok(Looked::Absent { .. }) => reply.error(Errno::ENOENT),
        Err(error) => reply.error(errno(&error)),
    }
}

fn reply_attributes(reply: ReplyAttr, answer: Result<Entry, FsError>) {
    match answer {
        Ok(entry) => reply.attr(&entry.valid_for, &file_attr(entry.ino, &entry.attributes)),
        Err(error) => reply.error(errno(&error)),
    }
}

fn errno(error: &FsError) -> Errno {
    Errno::from_i32(error.errno())
}

fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::Directory => FileType::Directory,
        Kind::File => FileType::RegularFile,
        Kind::Symlink => FileType::Symlink,
        Kind::Fifo => FileType::NamedPipe,
        Kind::CharacterDevice => FileType::CharDevice,
        Kind::BlockDevice => FileType::BlockDevice,
        Kind::Socket => FileType::Socket,
    }
}

fn file_attr(ino: u64, attributes: &Attributes) -> FileAttr {
    FileAttr {
        ino: INodeNo(ino),
        size: attributes.size,
        blocks: attributes.size.div_ceil(512),
        atime: attributes.atime.into(),
        mtime: attributes.mtime.into(),
        ctime: attributes.ctime.into(),
        crtime: attributes.mtime.into(),
        kind: file_type(attributes.kind),
        perm: attributes.permissions,
        nlink: 1,
        uid: attributes.uid,
        gid: attributes.gid,
        rdev: 0,
        blksize: STATFS_BLOCK,
        flags: 0,
    }
}

/// Attributes of which the kernel takes only number and type.
fn nameless(ino: u64, kind: FileType) -> FileAttr {
    let time = Timestamp::EPOCH.into();
    FileAttr {
        ino: INodeNo(ino),
        size: 0,
        blocks: 0,
        atime: time,
        mtime: time,
        ctime: time,
        crtime: time,
        kind,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 0,
        flags: 0,
    }
}
