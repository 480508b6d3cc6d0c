//! FUSE, translated: the requests that change something.
//!
//! What must hold: as for the other half. What is only written to disk is answered on the session's thread, in the order
//! of its coming; what waits for the store becomes a task that holds the reply. A request that a process before may have
//! done already (it was killed before it had answered) finds what it wanted done, and that is no error.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use fuser::{
    Errno, FileHandle, FopenFlags, Generation, InitFlags, OpenAccMode, OpenFlags, RenameFlags, ReplyAttr,
    ReplyCreate, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request, TimeOrNow,
};

use super::adapter::Adapter;
use super::reply::{believed, errno, file_attr, reply_attributes, reply_bytes};
use crate::attr::Kind;
use crate::caller::was_killed;
use crate::error::FsError;
use crate::tree::{Entry, Looked, Tree};
use crate::write::{Caller, Change, Draft, New, Opened, SetXattr, Target, Writing, Wrote};

/// Capabilities asked for where the kernel has them.
pub(super) const WANTED: [InitFlags; 2] = [InitFlags::FUSE_DONT_MASK, InitFlags::FUSE_POSIX_ACL];

/// A name in a directory, as it comes.
type Name<'a> = (u64, &'a OsStr);
/// Mode and umask, as they come.
type Mode = (u32, u32);

impl Adapter {
    /// Has `work` done and its outcome told.
    fn answer<F>(&self, reply: ReplyEmpty, work: impl FnOnce(Arc<Writing>) -> F)
    where
        F: Future<Output = Result<(), FsError>> + Send + 'static,
    {
        let Some(writing) = &self.writing else { return reply.error(Errno::EROFS) };
        let work = work(writing.clone());
        self.spawn(async move {
            match work.await {
                Ok(()) => reply.ok(),
                Err(error) => reply.error(errno(&error)),
            }
        });
    }

    /// Whether a process before may have done what `request` asks for.
    fn may_be_done(&self, request: &Request) -> bool {
        self.relay.as_ref().is_some_and(|relay| relay.may_be_done(request.unique().0))
    }
}

/// What was to be taken away and is not there any more was taken away, if that `may_be_done`.
fn gone(outcome: Result<(), FsError>, may_be_done: bool) -> Result<(), FsError> {
    match outcome {
        Err(FsError::NotFound | FsError::NoAttribute) if may_be_done => Ok(()),
        outcome => outcome,
    }
}

fn text(name: &OsStr) -> Result<String, FsError> {
    name.to_str().map(str::to_string).ok_or(FsError::NotText)
}

pub(super) fn open(adapter: &Adapter, writing: &Arc<Writing>, ino: u64, flags: OpenFlags, reply: ReplyOpen) {
    if flags.acc_mode() == OpenAccMode::O_RDONLY {
        let opened = writing.open_to_read(ino);
        return reply.opened(FileHandle(opened.handle), FopenFlags::FOPEN_KEEP_CACHE);
    }
    let writing = writing.clone();
    adapter.spawn(async move {
        match writing.open_to_write(ino).await {
            Ok(opened) => reply.opened(FileHandle(opened.handle), FopenFlags::FOPEN_KEEP_CACHE),
            Err(error) => reply.error(errno(&error)),
        }
    });
}

pub(super) fn read(
    adapter: &Adapter,
    unique: u64,
    draft: Arc<Draft>,
    (offset, size): (u64, usize),
    reply: ReplyData,
) {
    let (relay, Some(writing)) = (adapter.relay.clone(), adapter.writing.clone()) else {
        return reply.error(Errno::EROFS);
    };
    let answer = move |read: Result<bytes::Bytes, FsError>, reply: ReplyData| match read {
        Ok(bytes) => reply_bytes(relay.as_deref(), unique, reply, &bytes),
        Err(error) => reply.error(errno(&error)),
    };
    if let Some(read) = draft.read_now(offset, size) {
        return answer(read, reply);
    }
    adapter.spawn(async move { answer(writing.read(&draft, offset, size).await, reply) });
}

/// What a `setattr` asks for.
pub(super) fn change(
    mode: Option<u32>,
    uid: Option<u32>,
    gid: Option<u32>,
    size: Option<u64>,
    atime: Option<TimeOrNow>,
    mtime: Option<TimeOrNow>,
) -> Change {
    let time = |time| match time {
        TimeOrNow::SpecificTime(time) => time,
        TimeOrNow::Now => SystemTime::now(),
    };
    let permissions = mode.map(|mode| (mode & 0o7777) as u16);
    Change { permissions, uid, gid, size, atime: atime.map(time), mtime: mtime.map(time) }
}

pub(super) fn set_attributes(adapter: &Adapter, ino: u64, change: Change, reply: ReplyAttr) {
    let Some(writing) = adapter.writing.clone() else { return reply.error(Errno::EROFS) };
    let tree = adapter.tree();
    adapter.spawn(async move {
        reply_attributes(reply, &tree, writing.set_attributes(ino, change).await);
    });
}

/// What is to be made, by whom.
fn new<'a>(request: &Request, parent: u64, name: &'a str, (mode, umask): Mode) -> Result<New<'a>, FsError> {
    let kind = match mode & libc::S_IFMT {
        0 | libc::S_IFREG => Kind::File,
        libc::S_IFDIR => Kind::Directory,
        libc::S_IFLNK => Kind::Symlink,
        libc::S_IFIFO => Kind::Fifo,
        libc::S_IFSOCK => Kind::Socket,
        libc::S_IFCHR => Kind::CharacterDevice,
        libc::S_IFBLK => Kind::BlockDevice,
        _ => return Err(FsError::Invalid),
    };
    let (permissions, umask) = ((mode & 0o7777) as u16, (umask & 0o777) as u16);
    let caller = Caller { uid: request.uid(), gid: request.gid() };
    Ok(New { parent, name, kind, permissions, umask, caller })
}

pub(super) fn make(
    adapter: &Adapter,
    request: &Request,
    (parent, name): Name<'_>,
    mode: Mode,
    target: Option<&Path>,
    reply: ReplyEntry,
) {
    let Some(writing) = adapter.writing.clone() else { return reply.error(Errno::EROFS) };
    let target = target.map(|target| target.as_os_str().as_bytes().to_vec()).unwrap_or_default();
    let made = text(name).and_then(|name| {
        let New { kind, permissions, umask, caller, .. } = new(request, parent, "", mode)?;
        Ok((name, kind, permissions, umask, caller))
    });
    let (name, kind, permissions, umask, caller) = match made {
        Ok(made) => made,
        Err(error) => return reply.error(errno(&error)),
    };
    let (may_be_done, tree) = (adapter.may_be_done(request), adapter.tree());
    adapter.spawn(async move {
        let new = New { parent, name: &name, kind, permissions, umask, caller };
        let made = match writing.make_new(new, &target).await {
            Err(FsError::Exists) if may_be_done => tree.lookup(parent, &name).await.and_then(found),
            outcome => outcome,
        };
        match made {
            Ok(Entry { ino, attributes, valid_for }) => {
                reply.entry(&believed(valid_for), &file_attr(&tree, ino, &attributes), Generation(0));
            }
            Err(error) => reply.error(errno(&error)),
        }
    });
}

fn found(looked: Looked) -> Result<Entry, FsError> {
    match looked {
        Looked::Found(entry) => Ok(entry),
        Looked::Absent { .. } => Err(FsError::Exists),
    }
}

pub(super) fn create(
    adapter: &Adapter,
    request: &Request,
    (parent, name): Name<'_>,
    (mode, umask): Mode,
    flags: i32,
    reply: ReplyCreate,
) {
    let Some(writing) = adapter.writing.clone() else { return reply.error(Errno::EROFS) };
    let name = match text(name) {
        Ok(name) => name,
        Err(error) => return reply.error(errno(&error)),
    };
    let (permissions, umask) = ((mode & 0o7777) as u16, (umask & 0o777) as u16);
    let caller = Caller { uid: request.uid(), gid: request.gid() };
    let is_exclusive = flags & libc::O_EXCL != 0;
    let (may_be_done, tree) = (adapter.may_be_done(request), adapter.tree());
    adapter.spawn(async move {
        let new = New { parent, name: &name, kind: Kind::File, permissions, umask, caller };
        let created = match may_be_done {
            true => created_before(&tree, &writing, parent, &name).await,
            false => None,
        };
        let created = match created {
            Some(created) => created,
            None => writing.create(new, is_exclusive).await,
        };
        match created {
            Ok((Entry { ino, attributes, valid_for }, opened)) => {
                let (handle, flags) = (FileHandle(opened.handle), FopenFlags::FOPEN_KEEP_CACHE);
                let attributes = file_attr(&tree, ino, &attributes);
                reply.created(&believed(valid_for), &attributes, Generation(0), handle, flags);
            }
            Err(error) => reply.error(errno(&error)),
        }
    });
}

/// The file that a process before has made, opened; `None` if it has not.
async fn created_before(
    tree: &Tree,
    writing: &Writing,
    parent: u64,
    name: &str,
) -> Option<Result<(Entry, Opened), FsError>> {
    let Ok(Looked::Found(entry)) = tree.lookup(parent, name).await else { return None };
    let opened = writing.open_to_write(entry.ino).await;
    Some(opened.map(|opened| (entry, opened)))
}

pub(super) fn unlink(adapter: &Adapter, request: &Request, (parent, name): Name<'_>, reply: ReplyEmpty) {
    let (name, may_be_done) = (text(name), adapter.may_be_done(request));
    adapter
        .answer(reply, move |writing| async move { gone(writing.unlink(parent, &name?).await, may_be_done) });
}

pub(super) fn rmdir(adapter: &Adapter, request: &Request, (parent, name): Name<'_>, reply: ReplyEmpty) {
    let (name, may_be_done) = (text(name), adapter.may_be_done(request));
    adapter
        .answer(reply, move |writing| async move { gone(writing.rmdir(parent, &name?).await, may_be_done) });
}

pub(super) fn rename(
    adapter: &Adapter,
    request: &Request,
    (parent, name): Name<'_>,
    (new_parent, new_name): Name<'_>,
    flags: RenameFlags,
    reply: ReplyEmpty,
) {
    let target = match flags {
        flags if flags.is_empty() => Target::Replace,
        RenameFlags::RENAME_NOREPLACE => Target::Keep,
        // Two names cannot change places at one moment.
        _ => return reply.error(Errno::EINVAL),
    };
    let (name, new_name) = (text(name), text(new_name));
    let (may_be_done, tree) = (adapter.may_be_done(request), adapter.tree());
    adapter.answer(reply, move |writing| async move {
        let (name, new_name) = (name?, new_name?);
        match writing.rename(parent, &name, new_parent, &new_name, target).await {
            Err(FsError::NotFound) if may_be_done => {
                let Entry { ino, .. } = found(tree.lookup(new_parent, &new_name).await?)?;
                // The kernel was not told of it.
                tree.forget(ino, 1);
                Ok(())
            }
            outcome => outcome,
        }
    });
}

pub(super) fn write(
    adapter: &Adapter,
    request: &Request,
    ino: u64,
    offset: u64,
    data: &[u8],
    reply: ReplyWrite,
) {
    let Some(writing) = &adapter.writing else { return reply.error(Errno::EROFS) };
    if request.uid() != 0 {
        writing.drop_set_id(ino);
    }
    // The kernel never sends more than it can count.
    let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
    match writing.write_now(ino, offset, data) {
        Ok(Wrote::Now) => reply.written(length),
        Ok(Wrote::Later(_)) => {
            let (writing, data) = (writing.clone(), data.to_vec());
            adapter.spawn(async move {
                match writing.write(ino, offset, &data).await {
                    Ok(()) => reply.written(length),
                    Err(error) => reply.error(errno(&error)),
                }
            });
        }
        Err(error) => reply.error(errno(&error)),
    }
}

/// Somebody closes a descriptor: what others are writing is not stored for one that only reads.
pub(super) fn close(adapter: &Adapter, request: &Request, ino: u64, handle: u64, reply: ReplyEmpty) {
    match &adapter.writing {
        Some(writing) if writing.only_reads(handle) => reply.ok(),
        Some(writing) if !writing.is_clean(ino) => {
            let (writing, caller) = (writing.clone(), request.pid());
            let mut stored = adapter.tree().runtime().spawn(async move { writing.flush(ino).await });
            // Beside it: what `/proc` says of a process that becomes another program may come only once we have answered.
            let killed = adapter.tree().runtime().spawn_blocking(move || was_killed(caller));
            adapter.spawn(async move {
                // Both go on by themselves, so that nothing is lost with the one that is dropped.
                let outcome = tokio::select! {
                    outcome = &mut stored => outcome.unwrap_or(Err(FsError::Deadly)),
                    // Nobody is left to be told, and who was killed is to go: it is stored all the same.
                    Ok(true) = killed => Ok(()),
                };
                match outcome {
                    Ok(()) => reply.ok(),
                    Err(error) => reply.error(errno(&error)),
                }
            });
        }
        _ => flush(adapter, ino, reply),
    }
}

pub(super) fn flush(adapter: &Adapter, ino: u64, reply: ReplyEmpty) {
    let Some(writing) = &adapter.writing else { return reply.error(Errno::ENOSYS) };
    if writing.is_clean(ino) {
        return reply.ok();
    }
    adapter.answer(reply, move |writing| async move { writing.flush(ino).await });
}

pub(super) fn release(adapter: &Adapter, handle: u64, reply: ReplyEmpty) {
    if adapter.writing.is_none() {
        return reply.ok();
    }
    adapter.answer(reply, move |writing| async move {
        writing.release(handle).await;
        Ok(())
    });
}

pub(super) fn allocate(adapter: &Adapter, ino: u64, offset: u64, length: u64, mode: i32, reply: ReplyEmpty) {
    adapter.answer(reply, move |writing| async move { writing.allocate(ino, offset, length, mode).await });
}

pub(super) fn set_xattr(
    adapter: &Adapter,
    request: &Request,
    ino: u64,
    name: &OsStr,
    value: &[u8],
    flags: i32,
    reply: ReplyEmpty,
) {
    let (name, value, tree) = (text(name), value.to_vec(), adapter.tree());
    let how = match flags {
        _ if adapter.may_be_done(request) => SetXattr::Any,
        libc::XATTR_CREATE => SetXattr::Create,
        libc::XATTR_REPLACE => SetXattr::Replace,
        _ => SetXattr::Any,
    };
    adapter.answer(reply, move |writing| async move {
        let name = name?;
        if !tree.shows_xattr(&name) {
            return Err(FsError::NotSupported);
        }
        writing.set_xattr(ino, &name, &value, how).await
    });
}

pub(super) fn remove_xattr(adapter: &Adapter, request: &Request, ino: u64, name: &OsStr, reply: ReplyEmpty) {
    let (name, may_be_done, tree) = (text(name), adapter.may_be_done(request), adapter.tree());
    adapter.answer(reply, move |writing| async move {
        let name = name?;
        if !tree.shows_xattr(&name) {
            return Err(FsError::NotSupported);
        }
        gone(writing.remove_xattr(ino, &name).await, may_be_done)
    });
}
