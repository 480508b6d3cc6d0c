//! What an object's headers say about the file it is: the s3fs on-bucket format, read.
//!
//! Buckets hold what s3fs, rclone, geesefs, s3sync, the console and scripts have written. Every header is a
//! stranger's text: nothing in it may panic, a number that makes no sense means "not said", and what is not said
//! falls to the mount's defaults. Junk never makes root the owner and never hides a file.
//!
//! ```text
//! mode:  mode | permissions | goog-reserved-posix-mode     uid: uid | owner | goog-reserved-posix-uid
//! mtime: mtime | goog-reserved-file-mtime | Last-Modified  ctime, atime: their own | Last-Modified
//! ```

use std::time::{Duration, SystemTime};

use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};

use super::store::Object;

/// Bits of `st_mode` that say the type (`S_IFMT`).
const TYPE_BITS: u32 = 0o170000;
/// Bits of `st_mode` that are permissions, with set-uid, set-gid and sticky.
const PERMISSION_BITS: u32 = 0o7777;
/// Largest `st_mode` there is.
const MODE_MAX: i64 = 0o177777;
/// Times are kept within what every tool can print: the end of the year 9999.
const LAST_SECOND: i64 = 253_402_300_799;
/// What a directory is said to measure, as s3fs says.
pub const DIRECTORY_SIZE: u64 = 4096;
/// Longest target of a symbolic link that Linux follows: a longer object is a plain file, whatever its mode says.
pub const SYMLINK_MAX: u64 = libc::PATH_MAX as u64 - 1;

/// What kind of file an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Directory,
    File,
    /// The body is the target; geesefs keeps it in a header instead.
    Symlink,
    Fifo,
    CharacterDevice,
    BlockDevice,
    Socket,
}

/// A point in time, seconds since the epoch and nanoseconds below 1,000,000,000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Timestamp {
    pub seconds: i64,
    pub nanoseconds: u32,
}

impl Timestamp {
    pub const EPOCH: Timestamp = Timestamp { seconds: 0, nanoseconds: 0 };

    /// What the clock of the host says.
    pub fn now() -> Timestamp {
        SystemTime::now().into()
    }

    pub fn from_seconds(seconds: i64) -> Timestamp {
        Timestamp { seconds: seconds.clamp(0, LAST_SECOND), nanoseconds: 0 }
    }
}

impl From<Timestamp> for SystemTime {
    fn from(time: Timestamp) -> SystemTime {
        let since = Duration::new(u64::try_from(time.seconds).unwrap_or(0), time.nanoseconds);
        SystemTime::UNIX_EPOCH.checked_add(since).unwrap_or(SystemTime::UNIX_EPOCH)
    }
}

impl From<SystemTime> for Timestamp {
    /// Times before 1970 cannot be stored: they become its beginning.
    fn from(time: SystemTime) -> Timestamp {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let seconds = i64::try_from(since.as_secs()).unwrap_or(LAST_SECOND).min(LAST_SECOND);
        Timestamp { seconds, nanoseconds: since.subsec_nanos() }
    }
}

/// What `stat` shows, apart from the inode's number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    pub kind: Kind,
    /// Permission bits, at most 0o7777.
    pub permissions: u16,
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    pub mtime: Timestamp,
    pub ctime: Timestamp,
    pub atime: Timestamp,
}

/// What files and directories look like when their headers do not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Defaults {
    pub uid: u32,
    pub gid: u32,
    pub file_permissions: u16,
    pub directory_permissions: u16,
}

impl Attributes {
    /// A directory that is only a prefix of other keys: nothing says more about it. Its times are `time`: zip and others
    /// refuse 1970.
    pub fn implicit_directory(defaults: &Defaults, time: Timestamp) -> Attributes {
        Attributes {
            kind: Kind::Directory,
            permissions: defaults.directory_permissions,
            uid: defaults.uid,
            gid: defaults.gid,
            size: DIRECTORY_SIZE,
            mtime: time,
            ctime: time,
            atime: time,
        }
    }

    /// A file that is there and whose headers may not be looked at.
    pub fn unreadable(size: u64, modified: i64, defaults: &Defaults) -> Attributes {
        let modified = Timestamp::from_seconds(modified);
        Attributes {
            kind: Kind::File,
            permissions: 0,
            size,
            ..Attributes::implicit_directory(defaults, modified)
        }
    }

    /// What `object`, stored under `key`, is as a file.
    pub fn of(key: &str, object: &Object, defaults: &Defaults) -> Attributes {
        let headers = Headers(&object.metadata);
        let (kind, permissions) = kind_and_permissions(key, object, headers, defaults);
        let modified = Timestamp::from_seconds(object.version.last_modified);
        let time = |names: &[&str]| headers.first(names).and_then(timestamp).unwrap_or(modified);
        Attributes {
            kind,
            permissions,
            uid: headers
                .first(&["uid", "owner", "goog-reserved-posix-uid"])
                .and_then(id)
                .unwrap_or(defaults.uid),
            gid: headers
                .first(&["gid", "group", "goog-reserved-posix-gid"])
                .and_then(id)
                .unwrap_or(defaults.gid),
            size: match kind {
                Kind::Directory => DIRECTORY_SIZE,
                Kind::Symlink => {
                    symlink_target_header(object).map_or(object.size, |target| target.len() as u64)
                }
                _ => object.size,
            },
            mtime: time(&["mtime", "goog-reserved-file-mtime"]),
            ctime: time(&["ctime"]),
            atime: time(&["atime"]),
        }
    }
}

/// The target of a symlink that geesefs wrote: percent-encoded in a header, the body empty.
pub fn symlink_target_header(object: &Object) -> Option<Vec<u8>> {
    let text = Headers(&object.metadata).value("--symlink-target").filter(|_| object.size == 0)?;
    let decoded = percent_decode_str(text).collect::<Vec<u8>>();
    let target = decoded.split(|byte| *byte == 0).next().unwrap_or_default();
    (!target.is_empty() && target.len() as u64 <= SYMLINK_MAX).then(|| target.to_vec())
}

/// The target of a symlink that s3fs wrote: the body up to a NUL, blanks around it trimmed.
pub fn symlink_target_body(body: &[u8]) -> &[u8] {
    let body = body.split(|byte| *byte == 0).next().unwrap_or_default();
    let start = body.iter().position(|byte| *byte != b' ').unwrap_or(body.len());
    let end = body.iter().rposition(|byte| *byte != b' ').map_or(start, |last| last + 1);
    &body[start..end]
}

#[derive(Clone, Copy)]
struct Headers<'a>(&'a [(String, String)]);

impl<'a> Headers<'a> {
    fn value(self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The first of `names` that is present: a header that is there but junk does not pass the word on.
    fn first(self, names: &[&str]) -> Option<&'a str> {
        names.iter().find_map(|name| self.value(name))
    }
}

fn kind_and_permissions(key: &str, object: &Object, headers: Headers, defaults: &Defaults) -> (Kind, u16) {
    let is_directory_key = key.ends_with('/');
    let mode = match headers.first(&["mode", "permissions"]) {
        Some(text) => mode(text),
        None => headers.value("goog-reserved-posix-mode").and_then(octal_mode),
    };
    let typed = mode.and_then(|mode| kind_of(mode & TYPE_BITS));
    let kind = if is_directory_key {
        Kind::Directory
    } else if symlink_target_header(object).is_some() {
        Kind::Symlink
    } else {
        match typed {
            Some(Kind::Symlink) if (1..=SYMLINK_MAX).contains(&object.size) => Kind::Symlink,
            // Something with content is a file, whatever its mode says; and a link that leads nowhere is one too.
            Some(kind) if object.size > 0 || kind == Kind::Symlink => Kind::File,
            Some(kind) => kind,
            None if object.size == 0 && is_directory_type(object.content_type.as_deref()) => Kind::Directory,
            None => Kind::File,
        }
    };
    let permissions = match mode {
        None if kind == Kind::Directory => defaults.directory_permissions,
        // The mode of another kind of file says nothing about a directory.
        Some(_) if kind == Kind::Directory && typed.is_some_and(|typed| typed != Kind::Directory) => {
            defaults.directory_permissions
        }
        None => defaults.file_permissions,
        Some(mode) => {
            let bits = (mode & PERMISSION_BITS) as u16;
            match (typed, bits & 0o777, kind) {
                // As s3fs: a mode without a type that allows nobody anything is taken for a mistake.
                (None, 0, Kind::Directory) => bits | 0o500,
                (None, 0, _) => bits | 0o400,
                _ => bits,
            }
        }
    };
    (kind, permissions)
}

fn is_directory_type(content_type: Option<&str>) -> bool {
    let essence = content_type.and_then(|text| text.split(';').next()).unwrap_or("").trim();
    essence.eq_ignore_ascii_case("application/x-directory")
        || essence.eq_ignore_ascii_case("httpd/unix-directory")
}

fn kind_of(type_bits: u32) -> Option<Kind> {
    match type_bits {
        0o040000 => Some(Kind::Directory),
        0o100000 => Some(Kind::File),
        0o120000 => Some(Kind::Symlink),
        0o010000 => Some(Kind::Fifo),
        0o020000 => Some(Kind::CharacterDevice),
        0o060000 => Some(Kind::BlockDevice),
        0o140000 => Some(Kind::Socket),
        _ => None,
    }
}

fn is_mode(value: i64) -> bool {
    (0..=MODE_MAX).contains(&value)
        && (value as u32 & TYPE_BITS == 0 || kind_of(value as u32 & TYPE_BITS).is_some())
}

/// A mode as s3fs writes it (decimal, or what `strtoll` with base 0 reads), or as rclone does (octal digits
/// without a prefix: recognised by making no sense in decimal).
fn mode(text: &str) -> Option<u32> {
    match number(text) {
        Some(value) if is_mode(value) => Some(value as u32),
        Some(_) => octal_mode(text),
        None => None,
    }
}

fn octal_mode(text: &str) -> Option<u32> {
    let digits = text.trim_start();
    i64::from_str_radix(digits, 8)
        .ok()
        .filter(|_| !digits.starts_with(['+', '-']))
        .filter(|value| is_mode(*value))
        .map(|value| value as u32)
}

/// An owner or group. The largest id is `(uid_t)-1`, which no file can have.
fn id(text: &str) -> Option<u32> {
    number(text).and_then(|value| u32::try_from(value).ok()).filter(|value| *value != u32::MAX)
}

/// An integer as `strtoll` reads it with base 0, and nothing behind it: `0x` hexadecimal, `0` octal, else decimal.
fn number(text: &str) -> Option<i64> {
    let text = text.trim_start();
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let (radix, digits) = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hexadecimal) => (16, hexadecimal),
        None if digits.len() > 1 && digits.starts_with('0') => (8, &digits[1..]),
        None => (10, digits),
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    i64::from_str_radix(&format!("{sign}{digits}"), radix).ok()
}

/// Seconds with an optional decimal fraction, or RFC 3339. Negative times count as not said.
fn timestamp(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    let (whole, fraction) = match text.split_once('.') {
        Some((whole, fraction)) => (whole, fraction),
        None => (text, ""),
    };
    if whole.bytes().all(|byte| byte.is_ascii_digit()) && fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        let seconds: i64 = whole.parse().ok()?;
        return Some(Timestamp { seconds: seconds.min(LAST_SECOND), nanoseconds: nanoseconds(fraction) });
    }
    let time = time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).ok()?;
    (time.unix_timestamp() >= 0).then(|| Timestamp {
        seconds: time.unix_timestamp().min(LAST_SECOND),
        nanoseconds: time.nanosecond(),
    })
}

/// The decimal digits behind the point as nanoseconds; digits beyond the ninth are dropped.
fn nanoseconds(fraction: &str) -> u32 {
    fraction
        .bytes()
        .chain(std::iter::repeat(b'0'))
        .take(9)
        .fold(0, |value, digit| value * 10 + u32::from(digit - b'0'))
}

#[cfg(test)]
mod tests;
