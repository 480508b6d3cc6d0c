//! Pages of any keys, cut anywhere.

use std::collections::{BTreeMap, BTreeSet};

use futures::FutureExt;
use proptest::prelude::*;

use super::*;
use crate::store::memory::Memory;
use crate::store::{Depth, List, ListStart, ObjectStore};

/// All names that listing `prefix` in pages of `limit` shows, in that order: `true` for directories.
fn listed(keys: &BTreeSet<String>, prefix: &str, limit: u16, hidden: &Hidden) -> Vec<(String, bool)> {
    let store = Memory::default();
    for key in keys {
        store.put(key, "x", &[]);
    }
    let (mut shown, mut open, mut next) = (Vec::new(), Open::default(), None);
    for _ in 0..=2 * keys.len() + 2 {
        let from = next.as_deref().map_or(ListStart::Start, ListStart::Page);
        let list = List { prefix, depth: Depth::Directory, from, limit };
        let page = store.list(list).now_or_never().expect("it does not wait").expect("it answers");
        next = page.next.clone();
        let names = names(prefix, page, open, hidden);
        shown.extend(
            names.shown.into_iter().map(|(name, shown)| (name.to_string(), shown == Shown::Directory)),
        );
        open = names.open;
        if next.is_none() {
            return shown;
        }
    }
    panic!("the listing does not end");
}

fn of(keys: &[&str], limit: u16) -> Vec<(String, bool)> {
    listed(&keys.iter().map(|key| key.to_string()).collect(), "", limit, &Hidden::default())
}

#[test]
fn a_directory_wins_however_far_from_the_object_it_is_listed() {
    for limit in 1..8 {
        let mut found = of(&["d", "d!", "d-1/x", "d.map", "d/x", "e"], limit);
        found.sort();
        let expected = [("d", true), ("d!", false), ("d-1", true), ("d.map", false), ("e", false)];
        let expected: Vec<_> = expected.iter().map(|(name, kind)| (name.to_string(), *kind)).collect();
        assert_eq!(found, expected, "pages of {limit}");
    }
}

#[test]
fn a_folder_key_is_a_directory_once_beside_whatever_else_has_its_name() {
    for limit in 1..8 {
        let found = of(&["d", "d/x", "d0", "d_$folder$", "e_$folder$"], limit);
        let names: BTreeMap<_, _> = found.iter().cloned().collect();
        assert_eq!(names.len(), found.len(), "pages of {limit}: {found:?}");
        assert_eq!((names["d"], names["d0"], names["e"]), (true, false, true), "pages of {limit}");
    }
    assert_eq!(of(&["_$folder$"], 5), [("_$folder$".to_string(), false)]);
}

#[test]
fn a_key_that_is_no_name_is_counted_once() {
    let hidden = Hidden::default();
    let keys = ["/lead", "a//b", "..", ".", "nul\0", "ok"].iter().map(|key| key.to_string()).collect();
    for _ in 0..3 {
        assert_eq!(listed(&keys, "", 10, &hidden).len(), 2);
        assert_eq!(listed(&keys, "a/", 10, &hidden).len(), 0);
    }
    assert_eq!(hidden.count(), 5);
}

#[test]
fn the_roots_own_key_is_not_counted_once_it_is_known() {
    let hidden = Hidden::default();
    hidden.root_key_is_known();
    assert_eq!(listed(&["/".to_string()].into(), "", 10, &hidden), []);
    assert_eq!(hidden.count(), 0);
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => "[ad!/._-]{1,5}",
        2 => "[ad!/.]{0,3}_\\$folder\\$",
        1 => any::<String>().prop_filter("S3 has no empty key", |key| !key.is_empty()),
    ]
}

proptest! {
    #[test]
    fn every_key_is_shown_once_as_what_it_is_or_is_hidden(
        keys in prop::collection::btree_set(key(), 0..14),
        prefix in prop::sample::select(vec!["", "a/", "d/"]),
        limit in 1u16..6,
    ) {
        let mut expected: BTreeMap<String, bool> = BTreeMap::new();
        for rest in keys.iter().filter_map(|key| key.strip_prefix(prefix)) {
            let (name, is_directory) = match (rest.split_once('/'), rest.strip_suffix(FOLDER_SUFFIX)) {
                (Some((name, _)), _) => (name, true),
                (None, Some(name)) if !name.is_empty() => (name, true),
                _ => (rest, false),
            };
            if is_name(name) {
                *expected.entry(name.to_string()).or_default() |= is_directory;
            }
        }
        let found = listed(&keys, prefix, limit, &Hidden::default());
        let unique: BTreeMap<String, bool> = found.iter().cloned().collect();
        prop_assert_eq!(unique.len(), found.len(), "a name is shown twice: {:?}", found);
        prop_assert_eq!(unique, expected);
    }
}
