//! The table, record by record.

use std::sync::Arc;

use tokio::time::Instant;

use super::node::{NODE_BYTES, Place};
use super::*;
use crate::attr::{Attributes, Defaults, Kind, Timestamp};
use crate::store::{ETag, Version};
use crate::xattr::Xattrs;

const DEFAULTS: Defaults = Defaults { uid: 0, gid: 0, file_permissions: 0o644, directory_permissions: 0o755 };

/// A table with room for about so many idle nodes, and as many in use.
fn table(nodes: u64) -> Table<()> {
    Table::new(Attributes::implicit_directory(&DEFAULTS, Timestamp::EPOCH), 2 * nodes * (NODE_BYTES + 8))
}

fn object(etag: &str, last_modified: i64) -> Facts {
    let version = Version { etag: ETag(etag.into()), last_modified, version_id: None };
    Facts::listed(version, 3, true)
}

fn with_headers(facts: Facts) -> Facts {
    let attributes =
        Attributes { kind: Kind::File, ..Attributes::implicit_directory(&DEFAULTS, Timestamp::EPOCH) };
    Facts { kind: Some(Kind::File), attributes: Some(attributes), ..facts }
}

#[test]
fn the_same_version_keeps_its_number() {
    let mut table = table(10);
    let now = Instant::now();
    let first = table.record("a", object("1", 5), now);
    assert_eq!(table.record("a", object("1", 5), now), first);
}

#[test]
fn another_version_gets_another_number_and_the_old_one_lives_on() {
    let mut table = table(10);
    let now = Instant::now();
    let old = table.record("a", object("1", 5), now);
    table.remember(old);
    let new = table.record("a", object("2", 6), now);
    assert_ne!(new, old);
    assert_eq!(table.find("a"), Some(new));
    assert!(table.node(old).is_some());
    table.forget(old, 1);
    assert!(table.node(old).is_none());
}

#[test]
fn an_answer_to_an_older_question_changes_nothing() {
    let mut table = table(10);
    let early = Instant::now();
    let late = early + std::time::Duration::from_secs(1);
    let new = table.record("a", object("2", 6), late);
    assert_eq!(table.record("a", object("1", 5), early), new);
    table.record_absent("a", early);
    assert_eq!(table.find("a"), Some(new));
    table.record_absent("a", late);
    assert_eq!(table.find("a"), None);
}

#[test]
fn headers_outlive_a_listing_of_the_same_write_only() {
    let mut table = table(10);
    let now = Instant::now();
    let ino = table.record("a", with_headers(object("1", 5)), now);
    table.record("a", object("1", 5), now);
    assert!(table.node(ino).expect("recorded").facts.attributes.is_some());
    assert_eq!(table.record("a", object("1", 6), now), ino);
    assert!(table.node(ino).expect("recorded").facts.attributes.is_none());
}

#[test]
fn headers_of_a_write_just_made_do_not_outlive_a_listing() {
    let mut table = table(10);
    let now = Instant::now();
    let just_made = Facts { settled: false, ..with_headers(object("1", 5)) };
    let ino = table.record("a", just_made, now);
    table.record("a", object("1", 5), now);
    assert!(table.node(ino).expect("recorded").facts.attributes.is_none());
}

#[test]
fn what_the_kernel_knows_is_never_dropped_and_the_rest_is_bounded() {
    let mut table = table(3);
    let now = Instant::now();
    let held = table.record("held", object("1", 5), now);
    table.remember(held);
    for number in 0..1000 {
        table.record(&format!("n{number}"), object("1", 5), now);
    }
    assert!(table.node(held).is_some());
    assert_eq!(table.nodes.len(), 2 + 3);
    assert_eq!(table.names.len(), 2 + 3);
    assert!(table.queues[Place::Idle as usize].entries() <= 2 * 3 + 17);
    assert_eq!(table.find("n0"), None);
    assert!(table.find("n999").is_some());
}

#[test]
fn a_node_forgotten_and_remembered_again_and_again_keeps_the_queue_small() {
    let mut table = table(3);
    let ino = table.record("a", object("1", 5), Instant::now());
    for _ in 0..1000 {
        table.remember(ino);
        table.forget(ino, 1);
    }
    assert!(table.node(ino).is_some());
    assert!(table.queues[Place::Idle as usize].entries() <= 2 * 3 + 17);
    assert_eq!(table.in_use(), 1);
}

#[test]
fn the_root_cannot_be_forgotten_or_replaced() {
    let mut table = table(3);
    table.forget(ROOT, 1_000);
    table.record("", object("1", 5), Instant::now());
    table.record_absent("", Instant::now());
    assert_eq!(table.find(""), Some(ROOT));
    assert!(table.node(ROOT).expect("the root stays").facts.is_directory());
}

#[test]
fn a_directory_replaced_by_an_object_gets_another_number() {
    let mut table = table(3);
    let now = Instant::now();
    let directory = table.record("d", Facts::directory(), now);
    assert_eq!(table.record("d", Facts::directory(), now), directory);
    assert_ne!(table.record("d", object("1", 5), now), directory);
}

#[test]
fn the_names_told_longest_ago_are_surplus_files_before_directories() {
    let mut table = table(4);
    let now = Instant::now();
    let directory = table.record("d", Facts::directory(), now);
    table.remember(directory);
    for number in 0..4 {
        let ino = table.record(&format!("d/n{number}"), object("1", 5), now);
        table.remember(ino);
    }
    // Whoever is told again is no longer the oldest.
    let first = table.find("d/n0").expect("recorded");
    table.remember(first);
    let eviction = table.eviction().expect("five are too many");
    assert_eq!(eviction, Eviction { parent: directory, name: "n1".into() });
    let second = table.find("d/n1").expect("still there: the kernel has not forgotten it");
    table.forget(second, 1);
    assert_eq!(table.eviction(), None);
    for number in [0, 2, 3] {
        let ino = table.find(&format!("d/n{number}")).expect("recorded");
        table.forget(ino, 2);
    }
    for number in 0..5 {
        let ino = table.record(&format!("e{number}"), Facts::directory(), now);
        table.remember(ino);
    }
    assert_eq!(table.eviction(), Some(Eviction { parent: ROOT, name: "d".into() }));
}

#[test]
fn a_file_without_its_name_is_not_asked_to_be_dropped() {
    let mut table = table(1);
    let now = Instant::now();
    for etag in ["1", "2", "3"] {
        let ino = table.record("a", object(etag, 5), now);
        table.remember(ino);
    }
    assert_eq!(table.eviction(), None, "the oldest has lost its name to the newest");
    assert_eq!(table.in_use(), 4);
}

#[test]
fn a_file_proves_the_directories_that_it_is_in() {
    let mut table = table(10);
    let early = Instant::now();
    let late = early + std::time::Duration::from_secs(1);
    let above = table.record("d", Facts::directory(), early);
    table.record("d/e", Facts::directory(), early);
    let file = table.record("d/e/a", with_headers(object("1", 5)), late);
    table.prove_above(file, late);
    table.bear_witness(file);
    assert_eq!(table.node(above).expect("recorded").checked, Some(late));
    assert_eq!(table.witness(above).as_deref(), Some("d/e/a"));
    table.record_absent("d/e/a", late);
    assert_eq!(table.witness(above), None);
}

#[test]
fn headers_that_make_another_kind_of_file_give_another_number() {
    let mut table = table(10);
    let now = Instant::now();
    let kind = |kind| Facts { kind: Some(kind), ..with_headers(object("1", 5)) };
    let file = table.record("a", kind(Kind::File), now);
    assert_eq!(table.record("a", kind(Kind::File), now), file);
    // A listing of another write does not tell.
    assert_eq!(table.record("a", object("1", 6), now), file);
    let link = table.record("a", kind(Kind::Symlink), now);
    assert_ne!(link, file);
    let turned = Facts { target: Some(Arc::from(&b"elsewhere"[..])), ..kind(Kind::Symlink) };
    assert_ne!(table.record("a", turned, now), link);
}

#[test]
fn what_a_marker_said_outlives_being_seen_as_a_prefix() {
    let mut table = table(10);
    let early = Instant::now();
    let late = early + std::time::Duration::from_secs(1);
    let attributes = Attributes { uid: 33, ..Attributes::implicit_directory(&DEFAULTS, Timestamp::EPOCH) };
    let known = |checked| Facts::known_directory(attributes.clone(), Xattrs::default(), None, checked);
    let ino = table.record("d", known(early), early);
    assert_eq!(table.record("d", Facts::directory(), late), ino);
    let uid = |table: &Table<()>| {
        table.node(ino).and_then(|node| node.facts.attributes.clone()).map(|known| known.uid)
    };
    assert_eq!(uid(&table), Some(33));
    // The marker was asked about before the directory was proved, and answers all the same.
    let newer = Attributes { uid: 34, ..attributes.clone() };
    let between = early + std::time::Duration::from_millis(500);
    table.record("d", Facts::known_directory(newer, Xattrs::default(), None, between), between);
    assert_eq!(uid(&table), Some(34));
    assert_eq!(table.node(ino).expect("recorded").checked, Some(late));
}

#[test]
fn every_byte_is_counted_and_none_is_left_when_all_is_gone() {
    let mut table = table(1000);
    let now = Instant::now();
    for number in 0..100 {
        let name = format!("{}{number}", "n".repeat(number));
        let ino = table.record(&name, object("1", 5), now);
        if number % 3 == 0 {
            table.remember(ino);
        }
        let metadata = [("xattr".to_string(), "{\"user.a\":\"dg==\"}".to_string())];
        let facts = Facts { xattrs: Xattrs::of(&metadata), ..with_headers(object("1", 5)) };
        assert_eq!(table.record(&name, facts, now), ino);
    }
    let paths: u64 = (0..100).map(|number: u64| number + number.to_string().len() as u64).sum();
    let xattr = Xattrs::of(&[("xattr".to_string(), "{\"user.a\":\"dg==\"}".to_string())]).bytes();
    assert_eq!(table.bytes(), paths + 100 * (NODE_BYTES + xattr));
    for number in 0..100 {
        let name = format!("{}{number}", "n".repeat(number));
        let ino = table.find(&name).expect("recorded");
        table.record_absent(&name, now);
        table.forget(ino, 1);
    }
    assert_eq!((table.bytes(), table.in_use()), (0, 1));
}
