//! A directory as a bucket, with people working in it.

use std::fs::File;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

use super::place::Place;
use super::*;
use crate::condition::WriteCondition;
use crate::error::StoreError;
use crate::listing::{self, Cursor, Item, Query};
use crate::object::{Attributes, Checksums, Content, Object};

struct World {
    directory: tempfile::TempDir,
    bucket: DirectoryBucket,
}

fn world() -> World {
    let directory = tempfile::tempdir().unwrap();
    let bucket = DirectoryBucket::open(directory.path()).unwrap();
    World { directory, bucket }
}

impl World {
    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    fn drop_in(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn put(&self, key: &str, text: &str) -> Result<Arc<Object>, StoreError> {
        let content = Content::from(text.to_owned());
        self.bucket.write(key, &content, &Attributes::default(), &WriteCondition::default())
    }

    fn text(&self, key: &str) -> Result<String, StoreError> {
        let object = self.bucket.read(key)?;
        let bytes = object.content.bytes(0..object.content.size()).unwrap();
        Ok(String::from_utf8(bytes.to_vec()).unwrap())
    }

    fn list(&self, prefix: &str, delimiter: Option<&str>) -> Vec<String> {
        let query = Query {
            prefix: prefix.to_owned(),
            delimiter: delimiter.map(str::to_owned),
            after: None,
            limit: usize::MAX,
        };
        let page = listing::page(&mut self.bucket.cursor(), &query).unwrap();
        let text = |item| match item {
            Item::Object(entry) => entry.key,
            Item::Prefix(prefix) => prefix,
        };
        page.items.into_iter().map(text).collect()
    }
}

fn absent<T: std::fmt::Debug>(found: Result<T, StoreError>) {
    assert!(matches!(found, Err(StoreError::NoSuchKey { .. })), "{found:?}");
}

#[test]
fn a_file_that_was_dropped_in_is_an_object() {
    let world = world();
    world.drop_in("maps/roads.map", "MAP END");
    assert_eq!(world.text("maps/roads.map").unwrap(), "MAP END");
    let object = world.bucket.read("maps/roads.map").unwrap();
    assert_eq!(object.attributes.content_type.as_deref(), Some("text/plain"));
    assert_eq!(world.bucket.read("maps/").unwrap().content.size(), 0);
    absent(world.bucket.read("maps"));
    absent(world.bucket.read("maps/roads.map/"));
}

#[test]
fn the_tag_moves_when_a_file_is_edited_in_place() {
    let world = world();
    world.drop_in("a", "one");
    let before = world.bucket.read("a").unwrap().tag;
    assert_eq!(world.bucket.read("a").unwrap().tag, before);
    world.drop_in("a", "longer");
    assert_ne!(world.bucket.read("a").unwrap().tag, before);
}

#[test]
fn the_tag_moves_although_somebody_puts_the_old_time_back() {
    let world = world();
    let path = world.path("a");
    world.drop_in("a", "one");
    let time = std::fs::metadata(&path).unwrap().modified().unwrap();
    let set_back = |path: &Path| File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
    let before = world.bucket.read("a").unwrap().tag;
    world.drop_in("b", "two");
    set_back(&world.path("b"));
    std::fs::rename(world.path("b"), &path).unwrap();
    let replaced = world.bucket.read("a").unwrap().tag;
    assert_ne!(replaced, before);
    world.drop_in("a", "longer");
    set_back(&path);
    assert_ne!(world.bucket.read("a").unwrap().tag, replaced);
}

#[test]
fn no_key_leads_out_of_the_directory() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret"), "secret").unwrap();
    let world = world();
    let name = outside.path().file_name().unwrap().to_str().unwrap();
    symlink(outside.path(), world.path("out")).unwrap();
    symlink(outside.path().join("secret"), world.path("link")).unwrap();
    symlink(format!("../{name}/secret"), world.path("relative")).unwrap();
    for key in [
        format!("../{name}/secret"),
        format!("x/../../{name}/secret"),
        "out/secret".to_owned(),
        "out/".to_owned(),
        "link".to_owned(),
        "relative".to_owned(),
        format!("{}/secret", outside.path().display()),
        "/etc/passwd".to_owned(),
        "a\0b".to_owned(),
    ] {
        absent(world.bucket.read(&key));
        world.bucket.remove(&key, &WriteCondition::default()).unwrap();
    }
    for key in [format!("../{name}/new"), "out/new".to_owned(), "out/deep/new".to_owned()] {
        let refused = world.put(&key, "x");
        assert!(matches!(refused, Err(StoreError::NotAFile { .. })), "{key}: {refused:?}");
    }
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
    assert_eq!(world.list("", None), Vec::<String>::new());
}

#[test]
fn writing_over_a_link_replaces_the_link_and_not_what_it_leads_to() {
    let outside = tempfile::NamedTempFile::new().unwrap();
    let world = world();
    symlink(outside.path(), world.path("link")).unwrap();
    world.put("link", "mine").unwrap();
    assert_eq!(world.text("link").unwrap(), "mine");
    assert_eq!(std::fs::read(outside.path()).unwrap(), b"");
}

#[test]
fn a_link_to_a_file_inside_is_that_file_and_a_link_to_a_directory_is_nothing() {
    let world = world();
    world.drop_in("dir/a", "text");
    symlink("dir/a", world.path("b")).unwrap();
    symlink(".", world.path("loop")).unwrap();
    assert_eq!(world.text("b").unwrap(), "text");
    assert_eq!(world.list("", None), ["b", "dir/", "dir/a"]);
    absent(world.bucket.read("loop/"));
    absent(world.bucket.read("loop/b"));
}

#[test]
fn what_is_no_file_is_no_object_and_delays_nobody() {
    let world = world();
    let pipe = world.path("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    absent(world.bucket.read("pipe"));
    assert_eq!(world.list("", None), Vec::<String>::new());
}

#[test]
fn attributes_survive_in_the_file_and_checksums_only_with_the_content() {
    let world = world();
    let mut attributes = Attributes::with_metadata([("Mode", "33188")]);
    attributes.checksums.insert("crc32".to_owned(), "AAAAAA==".to_owned());
    let content = Content::from("text");
    world.bucket.write("a", &content, &attributes, &WriteCondition::default()).unwrap();
    let again = DirectoryBucket::open(world.directory.path()).unwrap().read("a").unwrap();
    assert_eq!(again.attributes.metadata["mode"], "33188");
    assert_eq!(again.attributes.checksums, attributes.checksums);
    world.drop_in("a", "edited");
    let edited = world.bucket.read("a").unwrap();
    assert_eq!(edited.attributes.metadata["mode"], "33188");
    assert_eq!(edited.attributes.checksums, Checksums::default());
}

#[test]
fn replaced_attributes_leave_the_tag_alone() {
    let world = world();
    let before = world.put("a", "text").unwrap();
    let attributes = Attributes::with_metadata([("mode", "1")]);
    let after =
        world.bucket.write_attributes("a", &before.tag, attributes, &WriteCondition::default()).unwrap();
    assert_eq!(after.tag, before.tag);
    assert_eq!(world.bucket.read("a").unwrap().attributes.metadata["mode"], "1");
}

#[test]
fn checksums_of_another_version_are_not_kept_with_replaced_attributes() {
    let world = world();
    let old = world.put("a", "text").unwrap();
    world.drop_in("a", "edited");
    let mut attributes = Attributes::default();
    attributes.checksums.insert("crc32".to_owned(), "AAAAAA==".to_owned());
    let after = world.bucket.write_attributes("a", &old.tag, attributes, &WriteCondition::default()).unwrap();
    assert_eq!(after.attributes.checksums, Checksums::default());
}

#[test]
fn a_write_leaves_no_trace_but_the_file() {
    let world = world();
    world.put("dir/a", "text").unwrap();
    world.put("dir", "text").unwrap_err();
    world.put("dir/a/b", "text").unwrap_err();
    let names: Vec<_> =
        std::fs::read_dir(world.path("dir")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["a"]);
    assert_eq!(std::fs::read_dir(world.directory.path()).unwrap().count(), 1);
}

#[test]
fn a_file_being_uploaded_is_no_key() {
    let world = world();
    world.drop_in(".mapkeeper-s3-1-2", "half");
    world.drop_in(".hidden", "whole");
    absent(world.bucket.read(".mapkeeper-s3-1-2"));
    assert_eq!(world.list("", None), [".hidden"]);
    let refused = world.put(".mapkeeper-s3-9", "x").unwrap_err();
    let text = "key \".mapkeeper-s3-9\" cannot be a file of the directory: a segment has a reserved name";
    assert_eq!(refused.to_string(), text);
}

#[test]
fn only_an_empty_directory_can_be_deleted() {
    let world = world();
    world.put("dir/a", "text").unwrap();
    world.bucket.remove("dir/", &WriteCondition::default()).unwrap();
    assert_eq!(world.list("", None), ["dir/", "dir/a"]);
    world.bucket.remove("dir/a", &WriteCondition::default()).unwrap();
    world.bucket.remove("dir/", &WriteCondition::default()).unwrap();
    assert_eq!(world.list("", None), Vec::<String>::new());
}

#[test]
fn keys_come_in_byte_order_although_directories_do_not() {
    let world = world();
    for key in ["a0", "é/x", "a/b.c/d", "a/b", "a.txt"] {
        world.put(key, "").unwrap();
    }
    assert_eq!(world.list("", None), ["a.txt", "a/", "a/b", "a/b.c/", "a/b.c/d", "a0", "é/", "é/x"]);
    assert_eq!(world.list("", Some("/")), ["a.txt", "a/", "a0", "é/"]);
    assert_eq!(world.list("a/", Some("/")), ["a/", "a/b", "a/b.c/"]);
    assert_eq!(world.list("a/b", None), ["a/b", "a/b.c/", "a/b.c/d"]);
    assert_eq!(world.list("nothing/", None), Vec::<String>::new());
}

#[test]
fn a_walk_that_jumps_enters_only_directories_that_it_still_wants() {
    let world = world();
    for key in ["a/1", "b/1", "b/2/x", "c/1"] {
        world.put(key, "").unwrap();
    }
    let mut walk = world.bucket.cursor();
    let mut next = |from: &str| {
        walk.skip_to(from.to_owned());
        walk.next().unwrap().unwrap().key
    };
    assert_eq!(next("a/"), "a/");
    assert_eq!(next("b/1"), "b/1");
    assert_eq!(next("b/2/"), "b/2/");
    assert_eq!(next("b0"), "c/");
}

proptest::proptest! {
    #[test]
    fn whatever_the_key_its_place_is_inside(
        key in proptest::prop_oneof![proptest::prelude::any::<String>(), "[./a\\x00]{0,12}"],
    ) {
        if let Ok(place) = Place::of(&key) {
            let segments = || place.parents.iter().chain([&place.name]);
            for segment in segments().copied() {
                proptest::prop_assert!(!matches!(segment, "" | "." | ".."));
                proptest::prop_assert!(!segment.contains(['/', '\0']));
            }
            let path = segments().copied().collect::<Vec<_>>().join("/");
            proptest::prop_assert_eq!(key.trim_end_matches('/'), path);
        }
    }
}
