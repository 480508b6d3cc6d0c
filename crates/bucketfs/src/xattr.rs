//! Extended attributes, as the headers of an object carry them.
//!
//! s3fs keeps all of them in one header: `x-amz-meta-xattr`, percent-encoded text that looks like JSON and is not,
//! because nothing in a name is escaped: `{"user.a":"base64","user.b":""}`. geesefs makes each one a header of its
//! own, `x-amz-meta-NAME` for `user.NAME`, percent-encoded; so do people who set metadata by hand. Both are shown,
//! and where both name the same attribute the first is meant.
//!
//! What must hold: junk hides at most the attribute it is in, and never the file; headers that say mode, owner or
//! times are no attributes.

use std::sync::Arc;

use aws_smithy_types::base64;
use percent_encoding::percent_decode_str;

/// The header in which s3fs keeps them.
pub const S3FS_HEADER: &str = "xattr";
/// Longest name of an extended attribute that Linux knows.
const NAME_MAX: usize = 255;
/// Longest value, and longest list of names, that Linux knows.
const SIZE_MAX: usize = 64 * 1024;
/// What the allocations of one attribute take beside its bytes.
const ENTRY_BYTES: u64 = 64;
/// Headers that are read as something else (`attr.rs`), or are what another tool notes for itself.
const NO_ATTRIBUTES: [&str; 20] = [
    S3FS_HEADER,
    "mode",
    "permissions",
    "uid",
    "owner",
    "gid",
    "group",
    "mtime",
    "ctime",
    "atime",
    "btime",
    "rdev",
    "--symlink-target",
    "md5chksum",
    "goog-reserved-posix-mode",
    "goog-reserved-posix-uid",
    "goog-reserved-posix-gid",
    "goog-reserved-file-mtime",
    "goog-reserved-file-atime",
    "s3cmd-attrs",
];

/// The extended attributes of a file, sorted by name. Cheap to clone, and empty for nearly every file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Xattrs(Option<Arc<[Xattr]>>);

/// Name and value.
pub type Xattr = (Box<str>, Box<[u8]>);

impl Xattrs {
    /// Those that an object's user metadata carries.
    pub fn of(metadata: &[(String, String)]) -> Xattrs {
        let mut found: Vec<Xattr> = Vec::new();
        let mut add = |name: String, value: Vec<u8>| {
            let fits = !name.is_empty() && name.len() <= NAME_MAX && !name.contains('\0');
            if fits && value.len() <= SIZE_MAX && found.iter().all(|(known, _)| **known != *name) {
                found.push((name.into(), value.into()));
            }
        };
        if let Some((_, text)) = metadata.iter().find(|(name, _)| name == S3FS_HEADER) {
            of_s3fs(text).into_iter().for_each(|(name, value)| add(name, value));
        }
        for (name, value) in metadata.iter().filter(|(name, _)| !NO_ATTRIBUTES.contains(&name.as_str())) {
            let name = percent_decode_str(name).decode_utf8_lossy().into_owned();
            add(format!("user.{name}"), percent_decode_str(value).collect());
        }
        found.sort();
        while found.iter().map(|(name, _)| name.len() + 1).sum::<usize>() > SIZE_MAX {
            found.pop();
        }
        Xattrs((!found.is_empty()).then(|| found.into()))
    }

    pub fn value(&self, name: &str) -> Option<&[u8]> {
        self.entries().iter().find(|(known, _)| **known == *name).map(|(_, value)| &**value)
    }

    /// All names that are `shown`, each followed by a NUL, as `listxattr` wants them.
    pub fn names(&self, shown: impl Fn(&str) -> bool) -> Vec<u8> {
        let shown = self.entries().iter().filter(|(name, _)| shown(name));
        shown.flat_map(|(name, _)| name.bytes().chain([0])).collect()
    }

    /// What they take in memory.
    pub fn bytes(&self) -> u64 {
        self.entries().iter().map(|(name, value)| ENTRY_BYTES + (name.len() + value.len()) as u64).sum()
    }

    pub fn entries(&self) -> &[Xattr] {
        self.0.as_deref().unwrap_or_default()
    }

    /// These, and this one.
    pub fn with(&self, name: &str, value: &[u8]) -> Xattrs {
        let mut entries = self.all_but(name);
        entries.push((name.into(), value.into()));
        entries.sort();
        Xattrs(Some(entries.into()))
    }

    /// These without one.
    pub fn without(&self, name: &str) -> Xattrs {
        let entries = self.all_but(name);
        Xattrs((!entries.is_empty()).then(|| entries.into()))
    }

    /// Whether the attribute that a header of its own says is still what it says.
    pub fn is_header(&self, header: &str, text: &str) -> bool {
        let said = Xattrs::of(&[(header.to_string(), text.to_string())]);
        said.entries().iter().all(|(name, value)| self.value(name) == Some(value))
    }

    fn all_but(&self, name: &str) -> Vec<Xattr> {
        self.entries().iter().filter(|(known, _)| **known != *name).cloned().collect()
    }
}

/// Whether a header says an extended attribute by itself.
pub fn is_attribute(header: &str) -> bool {
    !NO_ATTRIBUTES.contains(&header)
}

/// The pairs between the first `{` and the last `}`. Nothing is escaped, so a comma in a name can be told from one
/// behind a value only by the quotes around both.
fn of_s3fs(text: &str) -> Vec<(String, Vec<u8>)> {
    let text = percent_decode_str(text).decode_utf8_lossy().into_owned();
    let Some(inside) = text.find('{').zip(text.rfind('}')).and_then(|(from, to)| text.get(from + 1..to))
    else {
        return Vec::new();
    };
    let mut quotes = 0;
    let pairs = inside.split(|letter| {
        quotes += usize::from(letter == '"');
        letter == ',' && quotes % 2 == 0
    });
    pairs.filter_map(pair).collect()
}

fn pair(text: &str) -> Option<(String, Vec<u8>)> {
    // No value has a colon in it: it is base64.
    let (name, value) = text.rsplit_once(':')?;
    let value = base64::decode(unquoted(value)?).ok()?;
    Some((unquoted(name)?.to_string(), value))
}

/// What is between the quotes, or the whole if there are none.
fn unquoted(text: &str) -> Option<&str> {
    let Some(start) = text.find('"') else { return Some(text.trim()) };
    let rest = &text[start + 1..];
    let end = rest.rfind('"')?;
    Some(&rest[..end])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(metadata: &[(&str, &str)]) -> Xattrs {
        let owned: Vec<_> =
            metadata.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        Xattrs::of(&owned)
    }

    #[test]
    fn the_header_of_s3fs_is_read() {
        let xattrs = of(&[("xattr", "%7B%22user.a%22%3A%22dmFsdWU%3D%22%2C%22user.empty%22%3A%22%22%7D")]);
        assert_eq!(xattrs.value("user.a"), Some(&b"value"[..]));
        assert_eq!(xattrs.value("user.empty"), Some(&b""[..]));
        assert_eq!(xattrs.value("user.b"), None);
        assert_eq!(xattrs.names(|_| true), b"user.a\0user.empty\0");
    }

    #[test]
    fn a_plus_is_a_plus_and_a_slash_may_be_raw() {
        // 0xfb 0xff is "+/8=" in base64.
        let bytes = Some(&[0xfb, 0xff][..]);
        assert_eq!(of(&[("xattr", "{\"user.a\":\"+/8=\"}")]).value("user.a"), bytes);
        assert_eq!(of(&[("xattr", "%7B%22user.a%22:%22%2B/8%3D%22%7D")]).value("user.a"), bytes);
        assert_eq!(of(&[("xattr", "{\"user.a+b\":\"\"}")]).value("user.a+b"), Some(&b""[..]));
    }

    #[test]
    fn names_with_commas_colons_and_blanks_are_whole() {
        let xattrs = of(&[("xattr", "{\"user.a,b:c d\":\"dg==\",\"user.e\":\"dg==\"}")]);
        assert_eq!(xattrs.names(|_| true), b"user.a,b:c d\0user.e\0");
    }

    #[test]
    fn one_broken_pair_hides_only_itself() {
        let xattrs = of(&[("xattr", "{\"user.a\":\"???\",\"user.b\":\"dg==\",\"user.c\"}")]);
        assert_eq!(xattrs.names(|_| true), b"user.b\0");
        for junk in ["", "{", "}", "}{", "%", "{,,}", "{:}", "{\"\":\"\"}"] {
            assert_eq!(of(&[("xattr", junk)]), Xattrs::default(), "{junk:?}");
        }
    }

    #[test]
    fn other_metadata_is_shown_as_user_attributes() {
        let xattrs = of(&[("mode", "33188"), ("uid", "1"), ("mtime", "1"), ("co%6Cor", "dark%20blue")]);
        assert_eq!(xattrs.names(|_| true), b"user.color\0");
        assert_eq!(xattrs.value("user.color"), Some(&b"dark blue"[..]));
    }

    #[test]
    fn what_s3fs_wrote_wins_over_a_header_of_the_same_name() {
        let xattrs = of(&[("a", "header"), ("xattr", "{\"user.a\":\"dg==\"}")]);
        assert_eq!(xattrs.value("user.a"), Some(&b"v"[..]));
        assert_eq!(xattrs.names(|_| true), b"user.a\0");
    }

    #[test]
    fn names_that_linux_cannot_have_are_left_out() {
        let long = "n".repeat(256);
        let text = format!("{{\"{long}\":\"\",\"user.nul%00\":\"\",\"user.a\":\"\"}}");
        assert_eq!(of(&[("xattr", &text)]).names(|_| true), b"user.a\0");
    }

    proptest! {
        #[test]
        fn no_metadata_panics_or_makes_a_name_that_cannot_be_listed(
            entries in prop::collection::vec((any::<String>(), any::<String>()), 0..6),
            header in prop_oneof![any::<String>(), "[{}\",:%a-z0-9=+/]{0,60}"],
        ) {
            let mut metadata = entries;
            metadata.push(("xattr".into(), header));
            let xattrs = Xattrs::of(&metadata);
            let names = xattrs.names(|_| true);
            for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
                let name = std::str::from_utf8(name).expect("names are text");
                prop_assert!(xattrs.value(name).is_some());
            }
        }

        #[test]
        fn every_header_that_s3fs_can_write_is_read_back(
            pairs in prop::collection::btree_map("[a-z.][a-z0-9._ -]{0,20}", prop::collection::vec(any::<u8>(), 0..40), 1..5),
        ) {
            let inside: Vec<String> =
                pairs.iter().map(|(name, value)| format!("\"{name}\":\"{}\"", base64::encode(value))).collect();
            let encoded: String = format!("{{{}}}", inside.join(","))
                .bytes()
                .map(|byte| match byte {
                    b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_' | b'~' | b'/' => char::from(byte).to_string(),
                    byte => format!("%{byte:02X}"),
                })
                .collect();
            let xattrs = of(&[("xattr", &encoded)]);
            for (name, value) in &pairs {
                prop_assert_eq!(xattrs.value(name), Some(&value[..]));
            }
        }
    }
}
