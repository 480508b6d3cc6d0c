//! The FUSE protocol's bytes, as far as they pass by in front of `fuser`: headers, and what the kernel is told
//! without having asked. From `include/uapi/linux/fuse.h`; numbers are in the machine's byte order.
//!
//! What must hold: nothing here reads or writes anything, and no message, however short or torn, panics.

use std::ops::Range;

/// Bytes that every request begins with.
pub const IN_HEADER: usize = 40;
/// Bytes that every answer begins with.
pub const OUT_HEADER: usize = 16;
/// Bytes of an entry in an answer: number, generation, times, attributes.
const ENTRY: usize = 128;
/// Bytes of a name in a listing, before the name itself.
const DIRENT: usize = 24;

pub const LOOKUP: u32 = 1;
pub const FORGET: u32 = 2;
pub const GETATTR: u32 = 3;
pub const SETATTR: u32 = 4;
pub const READLINK: u32 = 5;
pub const SYMLINK: u32 = 6;
pub const MKNOD: u32 = 8;
pub const MKDIR: u32 = 9;
pub const LINK: u32 = 13;
pub const READ: u32 = 15;
pub const WRITE: u32 = 16;
pub const STATFS: u32 = 17;
pub const RELEASE: u32 = 18;
pub const FSYNC: u32 = 20;
pub const GETXATTR: u32 = 22;
pub const LISTXATTR: u32 = 23;
pub const FLUSH: u32 = 25;
pub const OPEN: u32 = 14;
pub const INIT: u32 = 26;
pub const OPENDIR: u32 = 27;
pub const READDIR: u32 = 28;
pub const CREATE: u32 = 35;
pub const INTERRUPT: u32 = 36;
pub const DESTROY: u32 = 38;
pub const BATCH_FORGET: u32 = 42;
pub const FALLOCATE: u32 = 43;
pub const READDIRPLUS: u32 = 44;

/// The kernel sets it in the number of a request that it sends again.
pub const SENT_AGAIN: u64 = 1 << 63;
/// In an INIT and its answer: whether the kernel can send requests again (`FUSE_HAS_RESEND`). Of the upper 32 flags.
const HAS_RESEND: u32 = 1 << (39 - 32);

const NOTIFY_RESEND: i32 = 7;
const NOTIFY_INVAL_INODE: i32 = 2;
const NOTIFY_INVAL_ENTRY: i32 = 3;
const NOTIFY_STORE: i32 = 4;

/// What every request says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub opcode: u32,
    /// Of this request among all that are under way; an answer names it.
    pub unique: u64,
    /// The number of the file or directory that it is about.
    pub node: u64,
    /// Of the thread that asks, as the process that mounted sees it; 0 where it is the kernel's own.
    pub thread: u32,
}

impl Header {
    pub fn of(request: &[u8]) -> Option<Header> {
        (request.len() >= IN_HEADER).then_some(())?;
        Some(Header {
            opcode: u32_at(request, 4)?,
            unique: u64_at(request, 8)?,
            node: u64_at(request, 16)?,
            thread: u32_at(request, 32)?,
        })
    }

    /// Whether the kernel waits for an answer.
    pub fn wants_answer(&self) -> bool {
        !matches!(self.opcode, FORGET | BATCH_FORGET | INTERRUPT)
    }

    /// Whether a request that only asks may be left unanswered without anything being half done.
    pub fn only_asks(&self) -> bool {
        let opcodes =
            [LOOKUP, GETATTR, READLINK, READ, STATFS, GETXATTR, LISTXATTR, OPENDIR, READDIR, READDIRPLUS];
        opcodes.contains(&self.opcode)
    }
}

/// What of a file is uncertain if a request was begun and not done to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uncertain {
    /// Its bytes or its size.
    Content,
    /// Whether what was changed is stored.
    Stored,
}

/// What of its file `request` leaves uncertain.
pub fn uncertain(request: &[u8]) -> Option<Uncertain> {
    // Of the attributes that are to be set: `FATTR_SIZE`.
    let sets_size = || u32_at(request, IN_HEADER).is_some_and(|valid| valid & 1 << 3 != 0);
    match Header::of(request)?.opcode {
        WRITE | FALLOCATE => Some(Uncertain::Content),
        SETATTR if sets_size() => Some(Uncertain::Content),
        FLUSH | FSYNC | RELEASE => Some(Uncertain::Stored),
        _ => None,
    }
}

/// The bytes of the file that a `READ` is for.
pub fn read_range(request: &[u8]) -> Option<Range<u64>> {
    (Header::of(request)?.opcode == READ).then_some(())?;
    // Behind the number of the open file.
    let (offset, size) = (u64_at(request, IN_HEADER + 8)?, u32_at(request, IN_HEADER + 16)?);
    Some(offset..offset.saturating_add(size.into()))
}

/// The name that a `LOOKUP` is for.
pub fn looked_up(request: &[u8]) -> Option<&str> {
    (Header::of(request)?.opcode == LOOKUP).then_some(())?;
    std::str::from_utf8(request.get(IN_HEADER..)?).ok().map(|name| name.trim_end_matches('\0'))
}

/// The request that an `INTERRUPT` is about.
pub fn interrupted(request: &[u8]) -> Option<u64> {
    u64_at(request, IN_HEADER)
}

/// The request that an answer is for; 0 for what nobody asked for.
pub fn answered(answer: &[u8]) -> Option<u64> {
    u64_at(answer, 8)
}

/// Whether an answer says that what was asked for went wrong.
pub fn is_error(answer: &[u8]) -> bool {
    u32_at(answer, 4).is_some_and(|error| error != 0)
}

/// The header of an answer with `length` bytes behind it. `error` is 0, or an errno with a minus.
pub fn out_header(unique: u64, error: i32, length: usize) -> [u8; OUT_HEADER] {
    let mut header = [0; OUT_HEADER];
    let total = u32::try_from(OUT_HEADER + length).unwrap_or(u32::MAX);
    header[..4].copy_from_slice(&total.to_ne_bytes());
    header[4..8].copy_from_slice(&error.to_ne_bytes());
    header[8..].copy_from_slice(&unique.to_ne_bytes());
    header
}

/// Has the kernel drop `name` in the directory `parent`.
pub fn drop_name(parent: u64, name: &str) -> Vec<u8> {
    let mut body = parent.to_ne_bytes().to_vec();
    body.extend(u32::try_from(name.len()).unwrap_or(u32::MAX).to_ne_bytes());
    body.extend(0u32.to_ne_bytes());
    body.extend(name.as_bytes());
    body.push(0);
    notice(NOTIFY_INVAL_ENTRY, body)
}

/// Has the kernel drop the attributes of `ino` and all pages of its content.
pub fn drop_content(ino: u64) -> Vec<u8> {
    let (offset, length) = (0u64, 0u64);
    notice(NOTIFY_INVAL_INODE, [ino, offset, length].map(u64::to_ne_bytes).concat())
}

/// Puts `length` bytes, which follow, into the page cache of `ino` at `offset`.
pub fn store(ino: u64, offset: u64, length: usize) -> Vec<u8> {
    let mut body = ino.to_ne_bytes().to_vec();
    body.extend(offset.to_ne_bytes());
    body.extend(u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes());
    body.extend(0u32.to_ne_bytes());
    let mut message = notice(NOTIFY_STORE, body);
    let total = u32::try_from(message.len() + length).unwrap_or(u32::MAX);
    message[..4].copy_from_slice(&total.to_ne_bytes());
    message
}

/// The last message of a session: `fuser` ends a thread that takes it.
pub fn destroy() -> [u8; IN_HEADER] {
    let mut message = [0; IN_HEADER];
    message[..4].copy_from_slice(&(IN_HEADER as u32).to_ne_bytes());
    message[4..8].copy_from_slice(&DESTROY.to_ne_bytes());
    message
}

fn notice(code: i32, body: Vec<u8>) -> Vec<u8> {
    let mut message = out_header(0, code, body.len()).to_vec();
    message.extend(body);
    message
}

/// Has the kernel send every request again that was taken and not answered.
pub fn resend() -> Vec<u8> {
    notice(NOTIFY_RESEND, Vec::new())
}

/// Whether the answer to an `INIT` agreed on that.
pub fn can_resend(answer: &[u8]) -> bool {
    // Behind the header: versions, read-ahead, flags, two short numbers, write size, granularity, three short
    // numbers and one more, then the upper flags.
    u32_at(answer, OUT_HEADER + 32).is_some_and(|flags| flags & HAS_RESEND != 0)
}

/// What the answer to an `INIT` promises the kernel: all of it but its header and the read-ahead, which is the kernel's
/// own affair.
pub fn promises(answer: &[u8]) -> Option<&[u8]> {
    answer.get(OUT_HEADER + 12..)
}

/// Something that an answer gave the kernel to give back later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelRef {
    /// A number: the kernel counts it as told once more.
    Number(u64),
    /// An open file or directory.
    File(u64),
    Directory(u64),
    /// The number whose attributes were set, and perhaps its size: what the kernel has of it is not that any more.
    Content(u64),
}

/// In the offset of a name that is listed: it is told without its number and attributes. `fuser` has no word for it.
pub const NAME_ONLY: u64 = 1 << 63;
/// In the offset of a name that is listed: what kind of file it is, is not known.
pub const KIND_UNKNOWN: u64 = 1 << 62;

/// Says in an answer to `opcode` what the marks in its offsets mean, and takes the marks out.
pub fn settle_listing(opcode: u32, answer: &mut [u8]) {
    let entry = match opcode {
        READDIR => 0,
        READDIRPLUS => ENTRY,
        _ => return,
    };
    let mut at = OUT_HEADER;
    while let (Some(offset), Some(length)) = (u64_at(answer, at + entry + 8), u32_at(answer, at + entry + 16))
    {
        let mut write = |at: usize, bytes: &[u8]| {
            if let Some(place) = answer.get_mut(at..at + bytes.len()) {
                place.copy_from_slice(bytes);
            }
        };
        write(at + entry + 8, &(offset & !(NAME_ONLY | KIND_UNKNOWN)).to_ne_bytes());
        if offset & KIND_UNKNOWN != 0 {
            write(at + entry + 20, &u32::from(libc::DT_UNKNOWN).to_ne_bytes());
        }
        if entry > 0 && offset & NAME_ONLY != 0 {
            // A number that is 0: the kernel takes the name, and asks when it wants more.
            write(at, &0u64.to_ne_bytes());
        }
        at = at.saturating_add((entry + DIRENT).saturating_add(length as usize).next_multiple_of(8));
    }
}

/// What an answer to `opcode` gives the kernel.
pub fn told(opcode: u32, answer: &[u8]) -> Vec<KernelRef> {
    let body = answer.get(OUT_HEADER..).unwrap_or_default();
    let failed = u32_at(answer, 4) != Some(0);
    let number = || u64_at(body, 0).filter(|ino| *ino != 0).map(KernelRef::Number);
    match opcode {
        _ if failed => Vec::new(),
        LOOKUP | SYMLINK | MKNOD | MKDIR | LINK => number().into_iter().collect(),
        CREATE => number().into_iter().chain(u64_at(body, ENTRY).map(KernelRef::File)).collect(),
        OPEN => u64_at(body, 0).map(KernelRef::File).into_iter().collect(),
        OPENDIR => u64_at(body, 0).map(KernelRef::Directory).into_iter().collect(),
        // Behind how long they may be believed.
        SETATTR => u64_at(body, 16).map(KernelRef::Content).into_iter().collect(),
        READDIRPLUS => told_by_listing(body),
        _ => Vec::new(),
    }
}

fn told_by_listing(mut body: &[u8]) -> Vec<KernelRef> {
    let mut told = Vec::new();
    while let (Some(ino), Some(length)) = (u64_at(body, 0), u32_at(body, ENTRY + 16)) {
        let from = ENTRY + DIRENT;
        let name = body.get(from..from.saturating_add(length as usize)).unwrap_or_default();
        // Of these two the kernel takes only the names.
        if ino != 0 && name != b"." && name != b".." {
            told.push(KernelRef::Number(ino));
        }
        let end = from.saturating_add(length as usize).next_multiple_of(8);
        body = body.get(end..).unwrap_or_default();
    }
    told
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn listed(names: &[(u64, &str)]) -> Vec<u8> {
        let mut body = Vec::new();
        for (ino, name) in names {
            body.extend(ino.to_ne_bytes());
            body.resize(body.len() + ENTRY - 8 + 16, 7);
            body.extend((name.len() as u32).to_ne_bytes());
            body.extend([0; 4]);
            body.extend(name.as_bytes());
            body.resize(body.len().next_multiple_of(8), 0);
        }
        [out_header(5, 0, body.len()).to_vec(), body].concat()
    }

    #[test]
    fn a_listing_tells_of_every_name_but_the_two_dots() {
        let answer = listed(&[(1, "."), (1, ".."), (7, "a"), (8, "of 8 byt"), (0, "unknown"), (9, "b.map")]);
        assert_eq!(
            told(READDIRPLUS, &answer),
            [KernelRef::Number(7), KernelRef::Number(8), KernelRef::Number(9)]
        );
        assert_eq!(told(READDIR, &answer), []);
    }

    #[test]
    fn an_entry_tells_of_itself_unless_there_is_none() {
        let entry = |ino: u64| [out_header(5, 0, ENTRY).to_vec(), ino.to_ne_bytes().to_vec()].concat();
        assert_eq!(told(LOOKUP, &entry(7)), [KernelRef::Number(7)]);
        assert_eq!(told(LOOKUP, &entry(0)), []);
        assert_eq!(told(GETATTR, &entry(7)), []);
        assert_eq!(told(LOOKUP, &out_header(5, -2, 0)), []);
    }

    #[test]
    fn what_was_opened_is_told_of() {
        let handle = |before: usize| [vec![0; before], 9u64.to_ne_bytes().to_vec(), vec![0; 8]].concat();
        let answer = |body: Vec<u8>| [out_header(5, 0, body.len()).to_vec(), body].concat();
        assert_eq!(told(OPEN, &answer(handle(0))), [KernelRef::File(9)]);
        assert_eq!(told(OPENDIR, &answer(handle(0))), [KernelRef::Directory(9)]);
        assert_eq!(told(SETATTR, &answer(handle(16))), [KernelRef::Content(9)]);
        let mut created = handle(ENTRY);
        created[0] = 7;
        assert_eq!(told(CREATE, &answer(created)), [KernelRef::Number(7), KernelRef::File(9)]);
    }

    #[test]
    fn headers_say_what_they_were_made_of() {
        let answer = out_header(u64::MAX, -4, 100);
        assert_eq!((answered(&answer), u32_at(&answer, 0)), (Some(u64::MAX), Some(116)));
        let last = Header::of(&destroy()).expect("a whole header");
        assert_eq!(last, Header { opcode: DESTROY, unique: 0, node: 0, thread: 0 });
        assert_eq!(store(1, 2, 1000).len(), 40);
        assert_eq!(u32_at(&store(1, 2, 1000), 0), Some(1040));
        assert_eq!(drop_name(1, "ab").len(), 16 + 16 + 3);
    }

    #[test]
    fn only_what_changes_bytes_or_stores_them_leaves_a_file_uncertain() {
        let request = |opcode: u32, valid: u32| {
            let mut request = [0; IN_HEADER + 8];
            request[4..8].copy_from_slice(&opcode.to_ne_bytes());
            request[IN_HEADER..IN_HEADER + 4].copy_from_slice(&valid.to_ne_bytes());
            uncertain(&request)
        };
        assert_eq!(
            (request(WRITE, 0), request(SETATTR, 8)),
            (Some(Uncertain::Content), Some(Uncertain::Content))
        );
        assert_eq!(
            (request(FSYNC, 0), request(RELEASE, 0)),
            (Some(Uncertain::Stored), Some(Uncertain::Stored))
        );
        // chmod, and what only asks.
        assert_eq!((request(SETATTR, 1), request(READ, 8)), (None, None));
    }

    #[test]
    fn a_marked_name_is_told_without_number_or_kind() {
        let mut answer = listed(&[(7, "a"), (8, "b")]);
        let second = OUT_HEADER + (ENTRY + DIRENT + 1).next_multiple_of(8);
        for (at, mark) in [(OUT_HEADER, 0), (second, NAME_ONLY | KIND_UNKNOWN)] {
            answer[at + ENTRY + 8..at + ENTRY + 16].copy_from_slice(&(5 | mark).to_ne_bytes());
            answer[at + ENTRY + 20..at + ENTRY + 24].copy_from_slice(&8u32.to_ne_bytes());
        }
        settle_listing(READDIRPLUS, &mut answer);
        assert_eq!(told(READDIRPLUS, &answer), [KernelRef::Number(7)]);
        let said = |at: usize| (u64_at(&answer, at + ENTRY + 8), u32_at(&answer, at + ENTRY + 20));
        assert_eq!((said(OUT_HEADER), said(second)), ((Some(5), Some(8)), (Some(5), Some(0))));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(opcode in 0u32..60, bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = (Header::of(&bytes), interrupted(&bytes), answered(&bytes));
            let _ = (uncertain(&bytes), looked_up(&bytes), read_range(&bytes));
            let told = told(opcode, &bytes);
            settle_listing(opcode, &mut bytes.clone());
            prop_assert!(told.len() <= bytes.len() / 8);
        }
    }
}
