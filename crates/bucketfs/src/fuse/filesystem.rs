//! Each request of the kernel, given to what knows the answer.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::time::SystemTime;

use fuser::{
    BsdFileFlags, Errno, FileHandle, Filesystem, FopenFlags, INodeNo, InitFlags, KernelConfig, LockOwner,
    OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus,
    ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};

use super::adapter::Adapter;
use super::directories::{list_names, list_plus};
use super::reply::{STATFS_BLOCK, errno, reply_attributes, reply_bytes, reply_looked, reply_sized};
use super::write;
use crate::directory::Directory;
use crate::error::FsError;
use crate::listing::NAME_MAX;
use crate::relay::WRITE_MAX;
use crate::tree::Looked;

/// Requests of the kernel's own read-ahead that may be under way at once.
const MAX_BACKGROUND: u16 = 64;
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

impl Filesystem for Adapter {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let written = if self.writing.is_some() { write::WANTED.as_slice() } else { &[] };
        let again = if self.resend { [InitFlags::FUSE_HAS_RESEND].as_slice() } else { &[] };
        for &flag in WANTED.iter().chain(written).chain(again) {
            if let Err(missing) = config.add_capabilities(flag) {
                tracing::debug!(?missing, "this kernel lacks a capability");
            }
        }
        // Both keep what they had where the kernel allows less.
        let _ = config.set_max_write(WRITE_MAX);
        let _ = config.set_max_background(MAX_BACKGROUND);
        let _ = config.set_max_readahead(u32::MAX).or_else(|most| config.set_max_readahead(most));
        Ok(())
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let Some(name) = name.to_str() else { return reply.error(Errno::ENOENT) };
        let in_the_way = self.about_to_go(parent.0, Some(name));
        if in_the_way.is_none()
            && let Some(answer) = self.tree.lookup_now(parent.0, name)
        {
            return reply_looked(reply, &self.tree, answer);
        }
        let (tree, directories, name) = (self.tree.clone(), self.directories.clone(), name.to_string());
        self.spawn(async move {
            if let Some(in_the_way) = in_the_way {
                in_the_way.await;
                if let Some(answer) = tree.lookup_now(parent.0, &name) {
                    return reply_looked(reply, &tree, answer);
                }
            }
            let answer = match directories.look_up_in_turn(&tree, parent.0, &name).await {
                Some(entry) => Ok(Looked::Found(entry)),
                None => tree.lookup(parent.0, &name).await,
            };
            reply_looked(reply, &tree, answer);
        });
    }

    fn forget(&self, _request: &Request, ino: INodeNo, count: u64) {
        self.tree.forget(ino.0, count);
    }

    fn getattr(&self, _request: &Request, ino: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        if let Some(answer) = self.tree.attributes_now(ino.0) {
            return reply_attributes(reply, &self.tree, answer);
        }
        let tree = self.tree.clone();
        self.spawn(async move { reply_attributes(reply, &tree, tree.attributes(ino.0).await) });
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

    fn open(&self, _request: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        match &self.writing {
            None => reply.error(Errno::ENOSYS),
            Some(writing) => write::open(self, writing, ino.0, flags, reply),
        }
    }

    fn read(
        &self,
        request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        if let Some(draft) = self.writing.as_ref().and_then(|writing| writing.draft_to_read(ino.0)) {
            return write::read(self, request.unique().0, draft, (offset, size as usize), reply);
        }
        let content = match self.tree.content(ino.0) {
            Ok(content) => content,
            Err(error) => return reply.error(errno(&error)),
        };
        let (size, unique, relay) = (size as usize, request.unique().0, self.relay.clone());
        if let Some(bytes) = content.read_now(offset, size) {
            content.note_position(offset, size);
            return reply_bytes(relay.as_deref(), unique, reply, &bytes);
        }
        self.spawn(async move {
            match content.read(offset, size).await {
                Ok(bytes) => reply_bytes(relay.as_deref(), unique, reply, &bytes),
                Err(error) => reply.error(errno(&error)),
            }
        });
    }

    fn opendir(&self, _request: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let (tree, directories) = (self.tree.clone(), self.directories.clone());
        let in_the_way = self.about_to_go(ino.0, None);
        self.spawn(async move {
            if let Some(in_the_way) = in_the_way {
                in_the_way.await;
            }
            match Directory::open(&tree, ino.0).await {
                Ok(directory) => {
                    reply.opened(FileHandle(directories.open(directory)), FopenFlags::empty());
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
        let (tree, directories) = (self.tree.clone(), self.directories.clone());
        self.spawn(async move {
            match list_names(&tree, &directories, handle, offset, &mut reply).await {
                Ok(()) => reply.ok(),
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
        let (tree, directories) = (self.tree.clone(), self.directories.clone());
        self.spawn(async move {
            match list_plus(&tree, &directories, handle, offset, &mut reply).await {
                Ok(()) => reply.ok(),
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
        self.directories.close(handle.0);
        reply.ok();
    }

    fn getxattr(&self, _request: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let name = name.to_string_lossy().into_owned();
        if !self.tree.shows_xattr(&name) {
            return reply.error(errno(&FsError::NoAttribute));
        }
        self.with_xattrs(ino, reply, move |xattrs, reply| match xattrs.value(&name) {
            Some(value) => reply_sized(reply, size, value),
            None => reply.error(errno(&FsError::NoAttribute)),
        });
    }

    fn listxattr(&self, _request: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        let tree = self.tree.clone();
        self.with_xattrs(ino, reply, move |xattrs, reply| {
            reply_sized(reply, size, &xattrs.names(|name| tree.shows_xattr(name)));
        });
    }

    fn setattr(
        &self,
        _request: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _handle: Option<FileHandle>,
        _created: Option<SystemTime>,
        _changed: Option<SystemTime>,
        _backed_up: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let change = write::change(mode, uid, gid, size, atime, mtime);
        write::set_attributes(self, ino.0, change, reply);
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _rdev: u32,
        reply: ReplyEntry,
    ) {
        write::make(self, request, (parent.0, name), (mode, umask), None, reply);
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let mode = mode & 0o7777 | libc::S_IFDIR;
        write::make(self, request, (parent.0, name), (mode, umask), None, reply);
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let mode = libc::S_IFLNK | 0o777;
        write::make(self, request, (parent.0, name), (mode, 0), Some(target), reply);
    }

    fn unlink(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        write::unlink(self, request, (parent.0, name), reply);
    }

    fn rmdir(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        write::rmdir(self, request, (parent.0, name), reply);
    }

    fn rename(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        write::rename(self, request, (parent.0, name), (new_parent.0, new_name), flags, reply);
    }

    fn link(&self, _: &Request, _ino: INodeNo, _parent: INodeNo, _name: &OsStr, reply: ReplyEntry) {
        reply.error(Errno::EOPNOTSUPP);
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        write::create(self, request, (parent.0, name), (mode, umask), flags, reply);
    }

    fn write(
        &self,
        request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        write::write(self, request, ino.0, offset, data, reply);
    }

    fn flush(
        &self,
        request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        _lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        write::close(self, request, ino.0, handle.0, reply);
    }

    fn fsync(
        &self,
        _request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        _data_only: bool,
        reply: ReplyEmpty,
    ) {
        write::flush(self, ino.0, reply);
    }

    fn fsyncdir(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _handle: FileHandle,
        _data_only: bool,
        reply: ReplyEmpty,
    ) {
        // A name that was made or taken away is in the store already.
        reply.ok();
    }

    fn release(
        &self,
        _request: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        write::release(self, handle.0, reply);
    }

    fn fallocate(
        &self,
        _request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        write::allocate(self, ino.0, offset, length, mode, reply);
    }

    fn setxattr(
        &self,
        request: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        write::set_xattr(self, request, ino.0, name, value, flags, reply);
    }

    fn removexattr(&self, request: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        write::remove_xattr(self, request, ino.0, name, reply);
    }

    fn statfs(&self, _request: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        let (blocks, files) = (STATFS_BLOCKS, STATFS_BLOCKS);
        reply.statfs(blocks, blocks, blocks, files, files, STATFS_BLOCK, NAME_MAX as u32, STATFS_BLOCK);
    }
}
