//! A bucket in memory seen as a tree, under paused time.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::*;
use crate::attr::{Defaults, Kind, Timestamp};
use crate::cache::BlockCache;
use crate::directory::{Detail, Directory};
use crate::error::FsError;
use crate::health::Availability;
use crate::inode::ROOT;
use crate::read::Source;
use crate::resolve::RESOLVE_DEADLINE;
use crate::store::StoreError;
use crate::store::memory::{Asked, Memory};

const FRESHNESS: Duration = Duration::from_secs(1);

struct World {
    store: Memory,
    tree: Arc<Tree>,
}

fn world_with(freshness: Duration, prefix: &str) -> World {
    let store = Memory::default();
    store.set_latency(Duration::from_millis(20));
    let source = Source {
        store: Arc::new(store.clone()),
        cache: Arc::new(BlockCache::new(16 << 20)),
        availability: Arc::new(Availability::default()),
        runtime: Handle::current(),
        push: Arc::default(),
    };
    let rules = Rules {
        prefix: prefix.to_string(),
        freshness,
        max_stale: Duration::from_secs(3600),
        defaults: Defaults { uid: 0, gid: 0, file_permissions: 0o644, directory_permissions: 0o755 },
        began: Timestamp::EPOCH,
        suid: false,
    };
    World { store, tree: Tree::new(rules, source, 4 << 20) }
}

fn world() -> World {
    world_with(FRESHNESS, "")
}

impl World {
    /// As a program does: from memory, else from the store.
    async fn look(&self, path: &str) -> Result<Option<Entry>, FsError> {
        let mut parent = ROOT;
        let mut found = None;
        for name in path.split('/') {
            let looked = match self.tree.lookup_now(parent, name) {
                Some(looked) => looked?,
                None => self.tree.lookup(parent, name).await?,
            };
            let Looked::Found(entry) = looked else { return Ok(None) };
            parent = entry.ino;
            found = Some(entry);
        }
        Ok(found)
    }

    async fn ino(&self, path: &str) -> u64 {
        self.look(path).await.expect("the store answers").expect("it is there").ino
    }

    async fn read(&self, path: &str) -> Bytes {
        let ino = self.ino(path).await;
        self.tree.content(ino).expect("a file").read(0, 1 << 20).await.expect("the store answers")
    }

    async fn names(&self, path: &str) -> Vec<(String, Kind)> {
        let ino = if path.is_empty() { ROOT } else { self.ino(path).await };
        let directory = Directory::open(&self.tree, ino).await.expect("a directory");
        let (mut names, mut offset) = (Vec::new(), 0);
        loop {
            let batch = directory.batch(&self.tree, offset, Detail::Attributes).await.expect("listed");
            let Some(last) = batch.items().last() else { return names };
            offset = last.next_offset;
            let shown = batch.items().iter().filter(|item| !matches!(&*item.name, "." | ".."));
            let kind = |item| directory.kind_of(&self.tree, item).and_then(|(_, kind)| kind);
            names.extend(shown.filter_map(|item| Some((item.name.to_string(), kind(item)?))));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_unknown_small_file_costs_one_round_trip_and_two_requests() {
    let world = world();
    world.store.put("a.map", "MAP", &[]);
    let began = Instant::now();
    assert_eq!(world.read("a.map").await, "MAP");
    assert_eq!(began.elapsed(), Duration::from_millis(20));
    assert_eq!(world.store.take_asked().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn within_freshness_nothing_is_asked_and_after_it_once_for_all_who_wait() {
    let world = world();
    world.store.put("d/a.map", "MAP", &[]);
    let ino = world.ino("d/a.map").await;
    world.store.take_asked();
    assert_eq!(world.ino("d/a.map").await, ino);
    assert_eq!(world.store.take_asked(), []);
    tokio::time::advance(FRESHNESS).await;
    let (one, two, three) = futures::join!(world.ino("d/a.map"), world.ino("d/a.map"), world.ino("d/a.map"));
    assert_eq!((one, two, three), (ino, ino, ino));
    assert_eq!(world.store.take_asked(), [Asked::Fetch("d/a.map".into())]);
}

#[tokio::test(start_paused = true)]
async fn with_no_freshness_every_open_asks_for_itself() {
    let world = world_with(Duration::ZERO, "");
    world.store.put("a", "1", &[]);
    let _ = world.ino("a").await;
    world.store.take_asked();
    let _ = futures::join!(world.ino("a"), world.ino("a"));
    assert_eq!(world.store.take_asked().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_replaced_file_has_another_number_and_the_open_one_keeps_its_bytes_or_fails() {
    let world = world();
    world.store.put("a", "one", &[]);
    let old = world.ino("a").await;
    let opened = world.tree.content(old).expect("a file");
    assert_eq!(opened.read(0, 10).await.expect("read"), "one");
    world.store.put("a", "two", &[]);
    tokio::time::advance(FRESHNESS).await;
    let new = world.ino("a").await;
    assert_ne!(new, old);
    assert_eq!(world.read("a").await, "two");
    assert_eq!(opened.read(0, 10).await.expect("still in memory"), "one");
    opened.drop_blocks();
    let error = opened.read(0, 10).await.expect_err("the version is gone");
    assert_eq!(error.errno(), libc::ESTALE);
}

#[tokio::test(start_paused = true)]
async fn changed_headers_of_the_same_content_are_seen_and_keep_the_number() {
    let world = world();
    world.store.put("a", "one", &[]);
    let before = world.look("a").await.expect("answered").expect("there");
    world.store.put_headers("a", &[("mode", "33216"), ("uid", "33")]);
    tokio::time::advance(FRESHNESS).await;
    let after = world.look("a").await.expect("answered").expect("there");
    assert_eq!(after.ino, before.ino);
    assert_eq!((after.attributes.permissions, after.attributes.uid), (0o700, 33));
}

#[tokio::test(start_paused = true)]
async fn a_name_asked_for_before_it_existed_appears_after_freshness() {
    let world = world();
    assert!(world.look("new.map").await.expect("answered").is_none());
    world.store.put("new.map", "MAP", &[]);
    tokio::time::advance(FRESHNESS).await;
    assert!(world.look("new.map").await.expect("answered").is_some());
}

#[tokio::test(start_paused = true)]
async fn a_deleted_file_and_a_deleted_directory_disappear() {
    let world = world();
    world.store.put("d/a", "1", &[]);
    let (directory, _) = (world.ino("d").await, world.ino("d/a").await);
    world.store.delete("d/a");
    // Whoever has the directory already is told when it opens it.
    let opened = Directory::open(&world.tree, directory).await;
    assert_eq!(opened.map(drop).expect_err("nothing is in it").errno(), libc::ESTALE);
    tokio::time::advance(FRESHNESS).await;
    assert!(world.look("d/a").await.expect("answered").is_none());
    assert!(world.look("d").await.expect("answered").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_directory_wins_over_an_object_of_its_name() {
    let world = world();
    world.store.put("d", "object", &[]);
    world.store.put("d/a", "1", &[]);
    let entry = world.look("d").await.expect("answered").expect("there");
    assert_eq!(entry.attributes.kind, Kind::Directory);
    assert_eq!(world.names("").await, [("d".to_string(), Kind::Directory)]);
}

#[tokio::test(start_paused = true)]
async fn a_markers_headers_are_the_directorys() {
    let world = world();
    world.store.put("d/", "", &[("mode", "16832"), ("uid", "33")]);
    let entry = world.look("d").await.expect("answered").expect("there");
    assert_eq!((entry.attributes.permissions, entry.attributes.uid), (0o700, 33));
    assert_eq!(world.names("d").await, []);
}

#[tokio::test(start_paused = true)]
async fn a_prefix_is_a_root_and_its_marker_the_roots_owner() {
    let world = world_with(FRESHNESS, "maps/");
    world.store.put("maps/", "", &[("uid", "33")]);
    world.store.put("maps/a", "1", &[]);
    world.store.put("other", "2", &[]);
    world.tree.prove().await.expect("listed");
    assert_eq!(world.names("").await, [("a".to_string(), Kind::File)]);
    assert!(world.look("other").await.expect("answered").is_none());
    let root = world.tree.attributes_now(ROOT).expect("known").expect("the root");
    assert_eq!(root.attributes.uid, 33);
}

#[tokio::test(start_paused = true)]
async fn keys_that_are_no_names_are_hidden_and_counted() {
    let world = world();
    let long = "n".repeat(256);
    for key in ["/lead", "a//b", "..", ".", "nul\0", long.as_str(), "ok"] {
        world.store.put(key, "x", &[]);
    }
    assert_eq!(world.names("").await, [("a".to_string(), Kind::Directory), ("ok".to_string(), Kind::File)]);
    assert_eq!(world.names("a").await, []);
    assert!(world.tree.hidden.count() == 6);
}

#[tokio::test(start_paused = true)]
async fn a_long_directory_is_listed_whole_and_in_order() {
    let world = world();
    world.store.set_latency(Duration::ZERO);
    let names: Vec<String> = (0..2500).map(|number| format!("n{number:05}")).collect();
    for name in &names {
        world.store.put(name, "x", &[]);
    }
    world.store.put("n01000/below", "x", &[]);
    let listed = world.names("").await;
    assert_eq!(listed.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>(), names);
}

#[tokio::test(start_paused = true)]
async fn a_listing_again_asks_for_pages_only() {
    let world = world();
    world.store.put("a", "1", &[("mode", "33188")]);
    world.store.put("l", "target", &[("mode", "41471")]);
    assert_eq!(world.names("").await, [("a".to_string(), Kind::File), ("l".to_string(), Kind::Symlink)]);
    tokio::time::advance(FRESHNESS).await;
    world.store.take_asked();
    world.names("").await;
    assert_eq!(world.store.take_asked(), [Asked::List(String::new())]);
}

#[tokio::test(start_paused = true)]
async fn a_symbolic_link_leads_to_its_body() {
    let world = world();
    world.store.put("l", " ../target ", &[("mode", "41471")]);
    let ino = world.ino("l").await;
    assert_eq!(world.tree.symlink_target(ino).await.expect("a link"), b"../target");
}

#[tokio::test(start_paused = true)]
async fn an_outage_serves_what_was_known_until_it_is_too_old() {
    let world = world();
    world.store.put("a", "one", &[]);
    let ino = world.ino("a").await;
    world.store.set_outage(Some(StoreError::Throttled { code: "SlowDown".into() }));
    tokio::time::advance(Duration::from_secs(60)).await;
    assert_eq!(world.ino("a").await, ino);
    let unknown = world.look("b").await.expect_err("nobody can say");
    assert_eq!(unknown.errno(), libc::EIO);
    tokio::time::advance(Duration::from_secs(3600)).await;
    assert_eq!(world.look("a").await.expect_err("too old").errno(), libc::EIO);
    world.store.set_outage(None);
    assert_eq!(world.ino("a").await, ino);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_never_answers_is_an_error_within_the_deadline() {
    let world = world();
    world.store.set_latency(Duration::from_secs(1_000_000));
    let began = Instant::now();
    assert_eq!(world.look("a").await.expect_err("silence").errno(), libc::EIO);
    assert!(began.elapsed() <= RESOLVE_DEADLINE);
}

#[tokio::test(start_paused = true)]
async fn names_longer_than_linux_knows_are_refused_unasked() {
    let world = world();
    let error = world.look(&"n".repeat(256)).await.expect_err("too long");
    assert_eq!(error.errno(), libc::ENAMETOOLONG);
    assert_eq!(world.store.take_asked(), []);
}

#[tokio::test(start_paused = true)]
async fn a_file_of_a_listed_directory_costs_one_request_and_an_empty_one_no_more() {
    let world = world();
    world.store.put("d/a.map", "MAP", &[]);
    world.store.put("d/empty", "", &[]);
    world.ino("d").await;
    world.store.take_asked();
    assert_eq!(world.read("d/a.map").await, "MAP");
    assert_eq!(world.store.take_asked(), [Asked::Fetch("d/a.map".into())]);
    assert_eq!(world.read("d/empty").await, "");
    assert_eq!(world.store.take_asked(), [Asked::Head("d/empty".into())]);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_empty_file_costs_one_request_more() {
    let world = world();
    world.store.put("empty", "", &[]);
    assert_eq!(world.read("empty").await, "");
    let asked = world.store.take_asked();
    assert_eq!(asked[2..], [Asked::Head("empty".into())]);
}

#[tokio::test(start_paused = true)]
async fn keys_that_appear_below_a_file_make_a_directory_of_it_within_five_minutes() {
    let world = world();
    world.store.put("d", "object", &[]);
    world.ino("d").await;
    world.store.put("d/x", "1", &[]);
    tokio::time::advance(Duration::from_secs(300)).await;
    let entry = world.look("d").await.expect("answered").expect("there");
    assert_eq!(entry.attributes.kind, Kind::Directory);
    assert_eq!(world.read("d/x").await, "1");
}

#[tokio::test(start_paused = true)]
async fn a_directory_is_proved_by_the_file_that_was_found_in_it() {
    let world = world();
    world.store.put("a/b/c.map", "MAP", &[]);
    world.store.put("a/b/d.map", "MAP", &[]);
    let ino = world.ino("a/b/c.map").await;
    tokio::time::advance(FRESHNESS).await;
    world.store.take_asked();
    assert_eq!(world.ino("a/b/c.map").await, ino);
    assert_eq!(world.store.take_asked(), [Asked::Fetch("a/b/c.map".into())]);
    // The witness has gone, what it stood for has not.
    world.store.delete("a/b/c.map");
    tokio::time::advance(FRESHNESS).await;
    assert!(world.look("a/b/c.map").await.expect("answered").is_none());
    world.ino("a/b/d.map").await;
}

#[tokio::test(start_paused = true)]
async fn a_changed_marker_is_seen_within_its_patience_and_at_once_when_the_directory_is_opened() {
    let world = world();
    world.store.put("d/", "", &[("mode", "16832")]);
    world.store.put("d/a", "1", &[]);
    let mode = async || world.look("d").await.expect("answered").expect("there").attributes.permissions;
    assert_eq!(mode().await, 0o700);
    world.store.put_headers("d/", &[("mode", "16877")]);
    tokio::time::advance(Duration::from_secs(30)).await;
    assert_eq!(mode().await, 0o755);
    world.store.put_headers("d/", &[("mode", "16832")]);
    let ino = world.ino("d").await;
    Directory::open(&world.tree, ino).await.expect("a directory");
    tokio::time::advance(FRESHNESS).await;
    assert_eq!(mode().await, 0o700);
}
