//! The table, record by record.

use super::*;
use crate::fs::attr::Defaults;

const DEFAULTS: Defaults = Defaults { uid: 0, gid: 0, file_permissions: 0o644, directory_permissions: 0o755 };

/// A table with room for about so many idle nodes, and as many in use.
fn table(nodes: u64) -> Table {
    Table::new(Attributes::implicit_directory(&DEFAULTS), 2 * nodes * (NODE_BYTES + 8))
}

fn object(etag: &str, last_modified: i64) -> Facts {
    let version = Version { etag: ETag(etag.into()), last_modified, version_id: None };
    Facts::listed(version, 3, true)
}

fn with_headers(facts: Facts) -> Facts {
    let attributes = Attributes { kind: Kind::File, ..Attributes::implicit_directory(&DEFAULTS) };
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
