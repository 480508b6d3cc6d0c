//! FUSE, translated: what is known, in the protocol's words.
//!
//! What must hold: the kernel believes nothing for longer than the tree allows; errors become numbers in one place
//! (`error.rs`).

use std::time::Duration;

use fuser::{Errno, FileAttr, FileType, Generation, INodeNo, ReplyAttr, ReplyData, ReplyEntry, ReplyXattr};

use crate::attr::{Attributes, Kind, Timestamp};
use crate::error::FsError;
use crate::relay::Relay;
use crate::tree::{Entry, Looked, Tree};

/// What `statfs` shows as a block.
pub(super) const STATFS_BLOCK: u32 = 4096;
/// The longest tick of any kernel, by which it may believe something for longer than it was told.
const TICK: Duration = Duration::from_millis(10);
/// How long the attributes that came with a name hold for those who do not use the name. Without it a mount with
/// `freshness = "0s"` would ask for each part of a path twice: for the name, and for the right to walk through it.
const ATTRIBUTES_AT_LEAST: Duration = Duration::from_millis(100);

/// Answers with the bytes of a file: not through `fuser`, whose answers are copied twice more.
pub(super) fn reply_bytes(relay: Option<&Relay>, unique: u64, reply: ReplyData, bytes: &[u8]) {
    match relay {
        Some(relay) => {
            relay.answer(unique, bytes);
            // Thrown away at the relay, because the request is answered.
            reply.data(&[]);
        }
        None => reply.data(bytes),
    }
}

/// What is asked for with no room is its size.
pub(super) fn reply_sized(reply: ReplyXattr, size: u32, value: &[u8]) {
    match (u32::try_from(value.len()), size) {
        (Ok(needed), 0) => reply.size(needed),
        (Ok(needed), size) if needed <= size => reply.data(value),
        _ => reply.error(Errno::ERANGE),
    }
}

/// What the kernel is told, so that it believes nothing for longer than `valid_for`: it counts in ticks, and rounds
/// up.
pub(super) fn believed(valid_for: Duration) -> Duration {
    valid_for.saturating_sub(TICK)
}

pub(super) fn reply_looked(reply: ReplyEntry, tree: &Tree, answer: Result<Looked, FsError>) {
    match answer {
        Ok(Looked::Found(entry)) => {
            let valid_for = believed(entry.valid_for);
            // Whoever uses the name again asks again; whoever has it open may be told of the same file meanwhile.
            let attributes_for = valid_for.max(ATTRIBUTES_AT_LEAST);
            let attributes = file_attr(tree, entry.ino, &entry.attributes);
            reply.entry_with_ttls(&attributes_for, &valid_for, &attributes, Generation(0));
        }
        // The number 0 says: there is no such name, and that may be believed for a while.
        Ok(Looked::Absent { valid_for }) if !believed(valid_for).is_zero() => {
            reply.entry(&believed(valid_for), &nameless(0, FileType::RegularFile), Generation(0));
        }
        Ok(Looked::Absent { .. }) => reply.error(Errno::ENOENT),
        Err(error) => reply.error(errno(&error)),
    }
}

pub(super) fn reply_attributes(reply: ReplyAttr, tree: &Tree, answer: Result<Entry, FsError>) {
    match answer {
        Ok(entry) => {
            let mut attributes = file_attr(tree, entry.ino, &entry.attributes);
            attributes.nlink = u32::from(tree.has_name(entry.ino));
            reply.attr(&believed(entry.valid_for), &attributes);
        }
        Err(error) => reply.error(errno(&error)),
    }
}

pub(super) fn errno(error: &FsError) -> Errno {
    Errno::from_i32(error.errno())
}

pub(super) fn file_type(kind: Kind) -> FileType {
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

pub(super) fn file_attr(tree: &Tree, ino: u64, attributes: &Attributes) -> FileAttr {
    FileAttr {
        ino: INodeNo(ino),
        size: attributes.size,
        blocks: attributes.size.div_ceil(512),
        atime: attributes.atime.into(),
        mtime: attributes.mtime.into(),
        ctime: attributes.ctime.into(),
        crtime: attributes.mtime.into(),
        kind: file_type(attributes.kind),
        perm: tree.shown_permissions(attributes),
        nlink: 1,
        uid: attributes.uid,
        gid: attributes.gid,
        // No device has this number: what an object says is a device opens none.
        rdev: 0,
        blksize: STATFS_BLOCK,
        flags: 0,
    }
}

/// Attributes of which the kernel takes only number and type.
pub(super) fn nameless(ino: u64, kind: FileType) -> FileAttr {
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
