//! Open directories over a store in memory, under paused time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::page::PAGE_BITS;
use super::*;
use crate::attr::{Attributes, Defaults, Kind, Timestamp};
use crate::cache::BlockCache;
use crate::health::Availability;
use crate::inode::ROOT;
use crate::read::Source;
use crate::store::StoreError;
use crate::store::memory::{Asked, Memory};
use crate::tree::{Entry, Looked, Rules, Tree};

const LATENCY: Duration = Duration::from_millis(20);

fn tree(store: &Memory, budget_bytes: u64) -> Arc<Tree> {
    let source = Source {
        store: Arc::new(store.clone()),
        cache: Arc::new(BlockCache::new(16 << 20)),
        availability: Arc::new(Availability::default()),
        runtime: Handle::current(),
        push: Arc::default(),
    };
    let rules = Rules {
        prefix: String::new(),
        freshness: Duration::from_secs(60),
        max_stale: Duration::from_secs(3600),
        defaults: Defaults { uid: 1, gid: 2, file_permissions: 0o644, directory_permissions: 0o755 },
        began: Timestamp::EPOCH,
        suid: false,
    };
    Tree::new(rules, source, budget_bytes)
}

/// All that a reader of attributes is told, read as the kernel does: a few entries at a time.
async fn entries(tree: &Arc<Tree>, ino: u64) -> BTreeMap<String, Entry> {
    let directory = Directory::open(tree, ino).await.expect("a directory");
    let (mut found, mut offset) = (BTreeMap::new(), 0);
    loop {
        let batch = directory.batch(tree, offset, Detail::Attributes).await.expect("listed");
        if batch.items().is_empty() {
            return found;
        }
        for item in batch.items().iter().take(30) {
            offset = item.next_offset;
            if matches!(&*item.name, "." | "..") {
                continue;
            }
            if let Some(entry) = directory.entry_of(tree, &batch, item).await {
                let again = found.insert(item.name.to_string(), entry);
                assert!(again.is_none(), "{} is shown twice", item.name);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn headers_of_a_long_listing_arrive_as_fast_as_their_bound_allows() {
    let store = Memory::default();
    (0..3000).for_each(|number| store.put(&format!("n{number:04}"), "x", &[("uid", &number.to_string())]));
    store.set_latency(LATENCY);
    let tree = tree(&store, 32 << 20);
    let began = Instant::now();
    let found = entries(&tree, ROOT).await;
    assert_eq!(found.len(), 3000);
    assert!(found.iter().all(|(name, entry)| name[1..].parse() == Ok(entry.attributes.uid)));
    // Pages and headers overlap: what remains is the first page, its first chunk, and the headers in their turns.
    let turns = 3000_u32.div_ceil(HEADERS_AT_ONCE as u32);
    assert!(began.elapsed() <= LATENCY * (turns + 6), "{:?}", began.elapsed());
    let asked = store.take_asked();
    assert_eq!(asked.iter().filter(|asked| matches!(asked, Asked::Head(_))).count(), 3000);
    assert_eq!(asked.len(), 3003);
}

#[tokio::test(start_paused = true)]
async fn a_table_too_small_for_a_page_hides_nothing() {
    let store = Memory::default();
    (0..700).for_each(|number| store.put(&format!("n{number:04}"), "x", &[("uid", &number.to_string())]));
    let tree = tree(&store, 64 << 10);
    let found = entries(&tree, ROOT).await;
    assert_eq!(found.len(), 700);
    assert!(found.iter().all(|(name, entry)| name[1..].parse() == Ok(entry.attributes.uid)));
}

#[tokio::test(start_paused = true)]
async fn a_name_deleted_while_it_is_listed_is_left_out() {
    let store = Memory::default();
    ["a", "b", "c"].iter().for_each(|name| store.put(name, "x", &[]));
    let tree = tree(&store, 1 << 20);
    let directory = Directory::open(&tree, ROOT).await.expect("a directory");
    store.delete("b");
    let batch = directory.batch(&tree, 0, Detail::Attributes).await.expect("listed");
    let mut found = Vec::new();
    for item in &batch.items()[2..] {
        found.extend(directory.entry_of(&tree, &batch, item).await.map(|_| item.name.to_string()));
    }
    assert_eq!(found, ["a", "c"]);
}

#[tokio::test(start_paused = true)]
async fn a_directory_opened_again_within_freshness_is_not_listed_again() {
    let store = Memory::default();
    ["d/a", "d/b", "d/c/x"].iter().for_each(|name| store.put(name, "x", &[]));
    let tree = tree(&store, 1 << 20);
    let Looked::Found(Entry { ino, .. }) = tree.lookup(ROOT, "d").await.expect("it answers") else {
        panic!("d is there");
    };
    let first = entries(&tree, ino).await;
    store.take_asked();
    assert_eq!(entries(&tree, ino).await.len(), first.len());
    assert_eq!(store.take_asked(), []);
    tokio::time::advance(tree.rules.freshness).await;
    store.put("d/e", "x", &[]);
    assert_eq!(entries(&tree, ino).await.len(), first.len() + 1);
}

#[tokio::test(start_paused = true)]
async fn a_directory_in_which_a_name_was_seen_to_change_is_listed_again() {
    let store = Memory::default();
    ["a", "b"].iter().for_each(|name| store.put(name, "x", &[]));
    let tree = tree(&store, 1 << 20);
    assert_eq!(entries(&tree, ROOT).await.len(), 2);
    store.delete("a");
    store.put("c", "x", &[]);
    tree.resolve(&"a".into()).await.expect("it answers");
    let names: Vec<String> = entries(&tree, ROOT).await.into_keys().collect();
    assert_eq!(names, ["b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn going_back_lists_again_and_shows_what_is_new() {
    let store = Memory::default();
    store.put("a", "x", &[]);
    let tree = tree(&store, 1 << 20);
    let directory = Directory::open(&tree, ROOT).await.expect("a directory");
    assert_eq!(directory.batch(&tree, 0, Detail::Names).await.expect("listed").items().len(), 3);
    store.put("b", "x", &[]);
    tokio::time::advance(Duration::from_secs(60)).await;
    assert_eq!(directory.batch(&tree, 0, Detail::Names).await.expect("listed").items().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn an_offset_that_no_page_has_is_an_error() {
    let store = Memory::default();
    (0..1500).for_each(|number| store.put(&format!("n{number:04}"), "x", &[]));
    let tree = tree(&store, 8 << 20);
    let directory = Directory::open(&tree, ROOT).await.expect("a directory");
    for offset in [7 << PAGE_BITS, u64::MAX] {
        assert!(directory.batch(&tree, offset, Detail::Names).await.is_err(), "{offset:#x}");
    }
    let end = directory.batch(&tree, (1 << PAGE_BITS) - 1, Detail::Names).await;
    assert!(!end.expect("the next page").items().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_outage_in_the_middle_of_a_listing_is_an_error_and_not_an_end() {
    let store = Memory::default();
    (0..1500).for_each(|number| store.put(&format!("n{number:04}"), vec![0; 5000], &[]));
    let tree = tree(&store, 8 << 20);
    let directory = Directory::open(&tree, ROOT).await.expect("a directory");
    store.set_outage(Some(StoreError::Throttled { code: "SlowDown".into() }));
    let error = directory.batch(&tree, (1 << PAGE_BITS) - 1, Detail::Names).await.map(drop);
    assert_eq!(error.expect_err("it is not over").errno(), libc::EIO);
}

/// What stat shows, apart from the inode.
fn shown(entry: &Entry) -> Attributes {
    entry.attributes.clone()
}

fn header() -> impl Strategy<Value = (&'static str, String)> {
    let name = prop::sample::select(vec!["mode", "uid", "mtime", "--symlink-target", "xattr", "other"]);
    let value = prop_oneof![
        any::<u64>().prop_map(|value| value.to_string()),
        prop::sample::select(vec!["33188", "16877", "41471", "4516", "493"]).prop_map(str::to_string),
        any::<String>(),
    ];
    (name, value)
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[ad/.-]{1,4}",
        1 => "[ad]{1,2}_\\$folder\\$",
        1 => any::<String>().prop_filter("S3 has no empty key", |key| !key.is_empty()),
    ]
}

proptest! {
    #[test]
    fn every_listed_name_can_be_looked_up_and_is_what_it_was_listed_as(
        objects in prop::collection::btree_map(key(), (0usize..3, prop::collection::vec(header(), 0..3)), 0..10),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let store = Memory::default();
            for (key, (size, headers)) in &objects {
                let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
                store.put(key, vec![b'x'; *size], &headers);
            }
            let listing = tree(&store, 1 << 20);
            // Asks by name only, but has seen that there are folder keys.
            let asking = tree(&store, 1 << 20);
            entries(&asking, ROOT).await;
            for (name, listed) in entries(&listing, ROOT).await {
                match asking.lookup(ROOT, &name).await {
                    Ok(Looked::Found(found)) => prop_assert_eq!(shown(&found), shown(&listed), "{:?}", name),
                    other => prop_assert!(false, "{name:?} is listed, and looked up it is {other:?}"),
                }
                if listed.attributes.kind == Kind::Directory {
                    let above = asking.table().find(&name).expect("found above");
                    for (below, listed) in entries(&listing, listed.ino).await {
                        match asking.lookup(above, &below).await {
                            Ok(Looked::Found(found)) => prop_assert_eq!(shown(&found), shown(&listed), "{:?}", below),
                            other => prop_assert!(false, "{below:?} is listed, and looked up it is {other:?}"),
                        }
                    }
                }
            }
            Ok(())
        })?;
    }
}
