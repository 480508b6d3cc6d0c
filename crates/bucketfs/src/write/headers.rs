//! What a file is, said in headers: the s3fs on-bucket format, written.
//!
//! Owner, mode and times go into headers of their own, extended attributes into one. What else an object carries is
//! not ours and stays. What must hold: what is written is read back by `attr.rs` and `xattr.rs` as what it was, and
//! by s3fs as well; an attribute that came as a header of its own stays one until it is changed.

use aws_smithy_types::base64;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::attr::{Attributes, Kind, Timestamp};
use crate::store::write::Kept;
use crate::xattr::{S3FS_HEADER, Xattrs, is_attribute};

/// Headers that say what `attributes` say.
const OURS: [&str; 7] = ["mode", "uid", "gid", "mtime", "ctime", "atime", S3FS_HEADER];
/// What the name of a header has in it that another tool notes of the bytes: their sum, or how they are packed.
const OF_BYTES: [&str; 12] = [
    "checksum",
    "chksum",
    "digest",
    "encoding",
    "etag",
    "hash",
    "compression",
    "compressed",
    "uncompressed",
    "unencrypted",
    "encrypted",
    "encryption",
];
/// The same, with what follows of the word: `sha256`, `crc32c`.
const SUMS: [&str; 9] = ["md5", "sha1", "sha2", "sha3", "sha5", "crc", "blake", "xxh", "adler"];
/// Beginnings of headers that say it in a form of their own: of s3cmd, and of clients that encrypt before they send.
const OF_TOOLS: [&str; 2] = ["s3cmd-attrs", "x-amz-"];
/// What s3fs percent-encodes in its header.
const S3FS_ENCODED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// What an object that had the headers `before` has when it is a file like this.
pub fn metadata(
    before: &[(String, String)],
    attributes: &Attributes,
    xattrs: &Xattrs,
    content: Content,
) -> Vec<(String, String)> {
    let xattrs = &match content {
        Content::Same => xattrs.clone(),
        Content::New => of_new_bytes(before, xattrs),
    };
    let is_kept = |name: &str, value: &str| {
        !OURS.contains(&name)
            && (content == Content::Same || !is_of_bytes(name))
            && (!is_attribute(name) || xattrs.is_header(name, value))
    };
    let mut metadata: Vec<(String, String)> = before
        .iter()
        .filter(|(name, value)| is_kept(name, value))
        .map(|(name, value)| (name.clone(), ascii(value)))
        .collect();
    let in_header: Vec<String> = xattrs
        .entries()
        .iter()
        .filter(|(name, value)| !metadata.iter().any(|(header, text)| is_same(header, text, name, value)))
        .map(|(name, value)| format!("\"{name}\":\"{}\"", base64::encode(value)))
        .collect();
    if !in_header.is_empty() {
        let text = format!("{{{}}}", in_header.join(","));
        metadata.push((S3FS_HEADER.to_string(), utf8_percent_encode(&text, S3FS_ENCODED).to_string()));
    }
    let mode = kind_bits(attributes.kind) | u32::from(attributes.permissions);
    metadata.push(("mode".into(), mode.to_string()));
    metadata.push(("uid".into(), attributes.uid.to_string()));
    metadata.push(("gid".into(), attributes.gid.to_string()));
    metadata.push(("mtime".into(), time(attributes.mtime)));
    metadata.push(("ctime".into(), time(attributes.ctime)));
    metadata.push(("atime".into(), time(attributes.atime)));
    metadata
}

/// Whether the bytes stay what they were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    Same,
    New,
}

/// Whether a header of another tool says something about the bytes.
fn is_of_bytes(name: &str) -> bool {
    let mut words = name.split(|letter: char| !letter.is_ascii_alphanumeric());
    OF_TOOLS.iter().any(|start| name.starts_with(start))
        || words.any(|word| OF_BYTES.contains(&word) || SUMS.iter().any(|sum| word.starts_with(sum)))
}

/// The extended attributes of a file that had the headers `before` and has other bytes now: without those that are a
/// header which says something about the bytes.
pub fn of_new_bytes(before: &[(String, String)], xattrs: &Xattrs) -> Xattrs {
    let gone = before.iter().filter(|(name, value)| is_of_bytes(name) && xattrs.is_header(name, value));
    let gone: Vec<(String, String)> = gone.cloned().collect();
    let names = Xattrs::of(&gone);
    names.entries().iter().fold(xattrs.clone(), |left, (name, _)| left.without(name))
}

/// What is kept of an object that gets other bytes. An encoding is one of the bytes that were there; what is archived
/// cannot be read.
pub fn kept_with_new_bytes(kept: &Kept, all_are_new: bool) -> Kept {
    let is_archive = |class: &String| {
        let class = class.to_ascii_uppercase();
        class.contains("ARCHIVE") || class.contains("GLACIER") && class != "GLACIER_IR"
    };
    Kept {
        content_encoding: kept.content_encoding.clone().filter(|_| !all_are_new),
        storage_class: kept.storage_class.clone().filter(|class| !is_archive(class)),
        ..kept.clone()
    }
}

/// `Content-Type` of what was called `from` and is called `to` now: one that was derived from the name is derived again,
/// one that somebody has set stays. Nobody has set what S3 says of an object that came without one.
pub fn moved_type(said: Option<&str>, from: &str, to: &str, kind: Kind) -> Option<String> {
    match said {
        Some(said) if said != content_type(from, kind) && said != "binary/octet-stream" => Some(said.into()),
        _ => Some(content_type(to, kind).into()),
    }
}

fn is_same(header: &str, text: &str, name: &str, value: &[u8]) -> bool {
    let single = [(header.to_string(), text.to_string())];
    is_attribute(header) && Xattrs::of(&single).value(name) == Some(value)
}

/// A header is ASCII: anything else is said the way S3 itself says it (RFC 2047).
fn ascii(value: &str) -> String {
    if value.is_ascii() { value.to_string() } else { format!("=?UTF-8?B?{}?=", base64::encode(value)) }
}

fn time(time: Timestamp) -> String {
    match time.nanoseconds {
        0 => time.seconds.to_string(),
        nanoseconds => format!("{}.{nanoseconds:09}", time.seconds),
    }
}

/// `S_IFMT` of a kind of file.
pub fn kind_bits(kind: Kind) -> u32 {
    match kind {
        Kind::Directory => libc::S_IFDIR,
        Kind::File => libc::S_IFREG,
        Kind::Symlink => libc::S_IFLNK,
        Kind::Fifo => libc::S_IFIFO,
        Kind::CharacterDevice => libc::S_IFCHR,
        Kind::BlockDevice => libc::S_IFBLK,
        Kind::Socket => libc::S_IFSOCK,
    }
}

/// `Content-Type` of what has this name: what a browser is told, and s3fs says the same.
pub fn content_type(name: &str, kind: Kind) -> &'static str {
    if kind == Kind::Directory {
        return "application/x-directory";
    }
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension).to_ascii_lowercase();
    match extension.as_str() {
        _ if kind != Kind::File => "application/octet-stream",
        "html" | "htm" => "text/html",
        "txt" | "log" => "text/plain",
        "css" => "text/css",
        "csv" => "text/csv",
        "xml" | "xsd" | "xsl" => "application/xml",
        "json" => "application/json",
        "geojson" => "application/geo+json",
        "js" => "application/javascript",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "svg" => "image/svg+xml",
        "tif" | "tiff" => "image/tiff",
        "webp" => "image/webp",
        "pdf" => "application/pdf",
        "zip" => "application/zip",
        "gz" => "application/gzip",
        "kml" => "application/vnd.google-earth.kml+xml",
        "kmz" => "application/vnd.google-earth.kmz",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::attr::Defaults;
    use crate::store::{ETag, Object, Version};

    const DEFAULTS: Defaults =
        Defaults { uid: 7, gid: 7, file_permissions: 0o600, directory_permissions: 0o700 };

    fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    fn read(metadata: Vec<(String, String)>, size: u64, key: &str) -> Attributes {
        let version = Version { etag: ETag("e".into()), last_modified: 1, version_id: None };
        let object = Object { size, version, content_type: None, metadata, kept: Default::default() };
        Attributes::of(key, &object, &DEFAULTS)
    }

    fn some() -> Attributes {
        let at = |seconds, nanoseconds| Timestamp { seconds, nanoseconds };
        Attributes {
            kind: Kind::File,
            permissions: 0o4755,
            uid: 33,
            gid: 34,
            size: 9,
            mtime: at(5, 0),
            ctime: at(6, 7),
            atime: at(0, 999_999_999),
        }
    }

    #[test]
    fn headers_are_those_of_s3fs() {
        let written = metadata(&[], &some(), &Xattrs::default(), Content::New);
        let expected = [
            ("mode", "35309"),
            ("uid", "33"),
            ("gid", "34"),
            ("mtime", "5"),
            ("ctime", "6.000000007"),
            ("atime", "0.999999999"),
        ];
        assert_eq!(written, owned(&expected));
    }

    #[test]
    fn what_is_not_ours_stays_and_what_was_said_of_the_old_bytes_goes() {
        let before = owned(&[("author", "Andr\u{e9}"), ("mode", "1"), ("md5chksum", "x"), ("rdev", "5")]);
        let xattrs = Xattrs::of(&before);
        let same = metadata(&before, &some(), &xattrs, Content::Same);
        assert_eq!(
            same[..3],
            owned(&[("author", "=?UTF-8?B?QW5kcsOp?="), ("md5chksum", "x"), ("rdev", "5")])
        );
        let sums = [
            "md5chksum",
            "s3cmd-attrs",
            "content-md5",
            "sha256",
            "x-amz-iv",
            "crc32c_sum",
            "my-checksum",
            "content-encoding",
        ];
        let before = owned(&sums.map(|name| (name, "x")));
        let before = [before, owned(&[("shape", "x"), ("hashtag", "x")])].concat();
        let new = metadata(&before, &some(), &Xattrs::of(&before), Content::New);
        let left: Vec<&str> = new.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(left, ["shape", "hashtag", "mode", "uid", "gid", "mtime", "ctime", "atime"]);
        let same = metadata(&before, &some(), &Xattrs::of(&before), Content::Same);
        assert_eq!(same[..before.len()], before);
    }

    #[test]
    fn an_attribute_that_somebody_set_here_stays_whatever_its_name() {
        let before = owned(&[("md5", "old")]);
        let xattrs = Xattrs::of(&before).with("user.md5", b"new").with("user.sha1", b"s");
        let new = metadata(&before, &some(), &xattrs, Content::New);
        assert_eq!(Xattrs::of(&new), xattrs);
    }

    #[test]
    fn new_bytes_are_in_a_class_that_can_be_read_and_encoded_as_they_are() {
        let kept = |class: &str| Kept {
            storage_class: Some(class.into()),
            content_encoding: Some("gzip".into()),
            cache_control: Some("max-age=9".into()),
            ..Kept::default()
        };
        for (class, is_left) in
            [("GLACIER", false), ("DEEP_ARCHIVE", false), ("GLACIER_IR", true), ("COLD", true)]
        {
            let new = kept_with_new_bytes(&kept(class), true);
            assert_eq!((new.storage_class.is_some(), new.content_encoding), (is_left, None), "{class}");
            assert_eq!(new.cache_control.as_deref(), Some("max-age=9"));
        }
        assert!(kept_with_new_bytes(&kept("STANDARD_IA"), false).content_encoding.is_some());
    }

    #[test]
    fn a_type_that_the_name_gave_goes_with_the_name() {
        let moved = |said, from, to| moved_type(said, from, to, Kind::File).unwrap_or_default();
        assert_eq!(moved(Some("application/octet-stream"), "x.tmp", "d/x.json"), "application/json");
        assert_eq!(moved(Some("application/json"), "x.json", "x.json~"), "application/octet-stream");
        assert_eq!(moved(Some("binary/octet-stream"), "x.tmp", "x.png"), "image/png");
        assert_eq!(moved(None, "x.tmp", "x.png"), "image/png");
        assert_eq!(moved(Some("text/x-own"), "x.tmp", "x.json"), "text/x-own");
        assert_eq!(moved(Some("application/octet-stream"), "x.tif", "y.json"), "application/octet-stream");
    }

    #[test]
    fn an_attribute_moves_to_the_common_header_once_it_is_changed() {
        let before = owned(&[("color", "blue")]);
        let changed = Xattrs::of(&before).with("user.color", b"red");
        let written = metadata(&before, &some(), &changed, Content::Same);
        assert!(written.iter().all(|(name, _)| name != "color"));
        assert_eq!(Xattrs::of(&written).value("user.color"), Some(&b"red"[..]));
        let removed = metadata(&before, &some(), &Xattrs::of(&before).without("user.color"), Content::Same);
        assert_eq!(Xattrs::of(&removed), Xattrs::default());
    }

    #[test]
    fn a_type_is_told_by_the_name() {
        assert_eq!(content_type("a.b.MAP", Kind::File), "application/octet-stream");
        assert_eq!(content_type("a.TIF", Kind::File), "image/tiff");
        assert_eq!(content_type("a.tif", Kind::Symlink), "application/octet-stream");
        assert_eq!(content_type("a.tif", Kind::Directory), "application/x-directory");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            permissions in 0u16..0o10000,
            ids in (0..u32::MAX, 0..u32::MAX),
            times in prop::collection::vec((0i64..253_402_300_799, 0u32..1_000_000_000), 3),
            pairs in prop::collection::btree_map("user\\.[a-z.,:]{1,9}", prop::collection::vec(any::<u8>(), 0..40), 0..4),
            is_directory in any::<bool>(),
        ) {
            let time = |at: usize| Timestamp { seconds: times[at].0, nanoseconds: times[at].1 };
            let kind = if is_directory { Kind::Directory } else { Kind::File };
            let size = if is_directory { crate::attr::DIRECTORY_SIZE } else { 9 };
            let attributes = Attributes {
                kind, permissions, uid: ids.0, gid: ids.1, size, mtime: time(0), ctime: time(1), atime: time(2),
            };
            let xattrs = pairs.iter().fold(Xattrs::default(), |all, (name, value)| all.with(name, value));
            let written = metadata(&[], &attributes, &xattrs, Content::New);
            prop_assert_eq!(Xattrs::of(&written), xattrs);
            let key = if is_directory { "d/" } else { "f" };
            let size = if is_directory { 0 } else { 9 };
            prop_assert_eq!(read(written, size, key), attributes);
        }
    }
}
