//! Headers as tools write them, and as nobody should.

use proptest::prelude::*;

use super::*;
use crate::store::{ETag, Version};

const MODIFIED: i64 = 1_700_000_000;
const DEFAULTS: Defaults =
    Defaults { uid: 1000, gid: 1001, file_permissions: 0o644, directory_permissions: 0o755 };

fn object(size: u64, metadata: &[(&str, &str)]) -> Object {
    Object {
        size,
        version: Version { etag: ETag("\"e\"".into()), last_modified: MODIFIED, version_id: None },
        content_type: None,
        metadata: metadata.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
        kept: Default::default(),
    }
}

fn of(key: &str, size: u64, metadata: &[(&str, &str)]) -> Attributes {
    Attributes::of(key, &object(size, metadata), &DEFAULTS)
}

fn mode_of(key: &str, size: u64, text: &str) -> (Kind, u16) {
    let attributes = of(key, size, &[("mode", text)]);
    (attributes.kind, attributes.permissions)
}

#[test]
fn an_object_without_headers_has_the_defaults() {
    let attributes = of("a.map", 7, &[]);
    assert_eq!(attributes.kind, Kind::File);
    assert_eq!((attributes.permissions, attributes.uid, attributes.gid), (0o644, 1000, 1001));
    assert_eq!(attributes.size, 7);
    assert_eq!(attributes.mtime, Timestamp::from_seconds(MODIFIED));
}

#[test]
fn a_key_with_a_slash_is_a_directory_even_with_a_body() {
    let attributes = of("a/", 9, &[]);
    assert_eq!((attributes.kind, attributes.permissions), (Kind::Directory, 0o755));
    assert_eq!(attributes.size, DIRECTORY_SIZE);
}

#[test]
fn modes_are_read_in_every_base_that_tools_write() {
    assert_eq!(mode_of("a", 1, "33188"), (Kind::File, 0o644));
    assert_eq!(mode_of("a", 1, "33204"), (Kind::File, 0o664));
    assert_eq!(mode_of("a", 1, "0644"), (Kind::File, 0o644));
    assert_eq!(mode_of("a", 1, "0x81a4"), (Kind::File, 0o644));
    assert_eq!(mode_of("a", 1, "420"), (Kind::File, 0o644));
    assert_eq!(mode_of("d/", 0, "493"), (Kind::Directory, 0o755));
    assert_eq!(mode_of("d/", 0, "16877"), (Kind::Directory, 0o755));
    assert_eq!(mode_of("l", 3, "41471"), (Kind::Symlink, 0o777));
    assert_eq!(mode_of("p", 0, "4516"), (Kind::Fifo, 0o644));
    assert_eq!(mode_of("c", 0, "8612"), (Kind::CharacterDevice, 0o644));
    assert_eq!(mode_of("b", 0, "24996"), (Kind::BlockDevice, 0o644));
    assert_eq!(mode_of("s", 0, "49645"), (Kind::Socket, 0o755));
}

#[test]
fn octal_modes_without_a_prefix_are_recognised() {
    assert_eq!(mode_of("a", 1, "100755"), (Kind::File, 0o755));
    assert_eq!(mode_of("d", 0, "40755"), (Kind::Directory, 0o755));
    assert_eq!(mode_of("l", 1, "120777"), (Kind::Symlink, 0o777));
}

#[test]
fn a_junk_mode_is_the_default() {
    for text in ["", "rw-r--r--", "33188x", "-5", "99999999999999999999", "0x", "0o644", "89999"] {
        assert_eq!(mode_of("a", 1, text), (Kind::File, 0o644), "{text:?}");
    }
}

#[test]
fn a_mode_that_allows_nothing_is_completed_only_without_a_type() {
    assert_eq!(mode_of("a", 1, "0"), (Kind::File, 0o400));
    assert_eq!(mode_of("d/", 0, "0"), (Kind::Directory, 0o500));
    assert_eq!(mode_of("a", 1, "32768"), (Kind::File, 0));
}

#[test]
fn an_empty_object_of_directory_mode_or_type_is_a_directory() {
    assert_eq!(mode_of("d", 0, "16877").0, Kind::Directory);
    assert_eq!(mode_of("d", 5, "16877"), (Kind::File, 0o755));
    let mut marker = object(0, &[]);
    marker.content_type = Some("application/x-directory; charset=utf-8".into());
    assert_eq!(Attributes::of("d", &marker, &DEFAULTS).kind, Kind::Directory);
}

#[test]
fn junk_never_makes_root_the_owner() {
    for text in ["", "root", "-1", "4294967295", "4294967296", "18446744073709551615", "1e3", "0x"] {
        let attributes = of("a", 1, &[("uid", text), ("gid", text)]);
        assert_eq!((attributes.uid, attributes.gid), (1000, 1001), "{text:?}");
    }
    assert_eq!(of("a", 1, &[("uid", "0")]).uid, 0);
    assert_eq!(of("a", 1, &[("owner", "33")]).uid, 33);
}

#[test]
fn times_may_have_fractions_and_be_rfc_3339() {
    let mtime = |text| of("a", 1, &[("mtime", text)]).mtime;
    assert_eq!(mtime("5"), Timestamp { seconds: 5, nanoseconds: 0 });
    assert_eq!(mtime("5.000000007"), Timestamp { seconds: 5, nanoseconds: 7 });
    assert_eq!(mtime("5.25"), Timestamp { seconds: 5, nanoseconds: 250_000_000 });
    assert_eq!(mtime("1970-01-01T00:00:05.5Z"), Timestamp { seconds: 5, nanoseconds: 500_000_000 });
    for fallback in ["-5", "junk", "", "99999999999999999999", "1969-12-31T23:59:59Z"] {
        assert_eq!(mtime(fallback), Timestamp::from_seconds(MODIFIED), "{fallback:?}");
    }
}

#[test]
fn ctime_and_atime_do_not_follow_mtime() {
    let attributes = of("a", 1, &[("mtime", "5")]);
    assert_eq!(attributes.ctime, Timestamp::from_seconds(MODIFIED));
    assert_eq!(attributes.atime, Timestamp::from_seconds(MODIFIED));
}

#[test]
fn a_symlink_of_geesefs_has_its_target_in_a_header() {
    let link = object(0, &[("--symlink-target", "a%20b/c")]);
    let attributes = Attributes::of("l", &link, &DEFAULTS);
    assert_eq!((attributes.kind, attributes.size), (Kind::Symlink, 5));
    assert_eq!(symlink_target_header(&link).as_deref(), Some(&b"a b/c"[..]));
}

#[test]
fn blanks_around_a_symlink_body_are_trimmed() {
    assert_eq!(symlink_target_body(b"  a b "), b"a b");
    assert_eq!(symlink_target_body(b"   "), b"");
    assert_eq!(symlink_target_body(b""), b"");
}

fn header_value() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<u64>().prop_map(|value| value.to_string()),
        any::<i64>().prop_map(|value| value.to_string()),
        any::<u64>().prop_map(|value| format!("0{value:o}")),
        any::<u64>().prop_map(|value| format!("{value:#x}")),
        (any::<u64>(), any::<u64>()).prop_map(|(whole, fraction)| format!("{whole}.{fraction}")),
        any::<String>(),
    ]
}

proptest! {
    #[test]
    fn no_header_panics_or_leaves_the_limits(
        key in "[a-z/]{0,8}",
        size in any::<u64>(),
        modified in any::<i64>(),
        name in prop::sample::select(vec![
            "mode", "permissions", "goog-reserved-posix-mode", "uid", "gid", "owner", "group", "mtime", "ctime",
            "atime", "--symlink-target",
        ]),
        value in header_value(),
    ) {
        let mut object = object(size, &[(name, &value)]);
        object.version.last_modified = modified;
        let attributes = Attributes::of(&key, &object, &DEFAULTS);
        prop_assert!(attributes.permissions <= 0o7777);
        prop_assert!(attributes.mtime.nanoseconds < 1_000_000_000);
        let _: std::time::SystemTime = attributes.mtime.into();
        prop_assert_eq!(attributes.kind == Kind::Directory && attributes.size != DIRECTORY_SIZE, false);
    }

    #[test]
    fn every_mode_that_s3fs_writes_is_read_back(kind in prop::sample::select(vec![
        0o040000u32, 0o100000, 0o120000, 0o010000, 0o020000, 0o060000, 0o140000]), bits in 0u32..=0o7777) {
        let (_, permissions) = mode_of("a", 0, &(kind | bits).to_string());
        prop_assert_eq!(u32::from(permissions), bits);
    }
}
