//! A process is killed while it changes files, and another goes on.

use std::path::PathBuf;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use tokio::runtime::Handle;

use super::*;
use crate::attr::{Defaults, Kind, Timestamp};
use crate::cache::BlockCache;
use crate::error::FsError;
use crate::health::Availability;
use crate::inode::ROOT;
use crate::read::Source;
use crate::store::memory::{Asked, Memory};
use crate::store::{Condition, Fetch, Fetched, ObjectStore};
use crate::tree::{Looked, Rules};
use crate::wire::Uncertain;
use crate::write::rename_intent::RenameIntent;
use crate::write::{Caller, Change, New, OnConflict, SetXattr};

const MIB: u64 = 1024 * 1024;
const LIMIT: Duration = Duration::from_secs(20);

/// The tree stands for the kernel, which outlives the processes that serve it.
struct World {
    store: Memory,
    tree: Arc<Tree>,
    staging: tempfile::TempDir,
}

fn world() -> World {
    let store = Memory::default();
    let source = Source {
        store: Arc::new(store.clone()),
        cache: Arc::new(BlockCache::new(64 << 20)),
        availability: Arc::new(Availability::default()),
        runtime: Handle::current(),
        push: Arc::default(),
    };
    let rules = Rules {
        prefix: "p/".into(),
        freshness: Duration::ZERO,
        max_stale: Duration::ZERO,
        defaults: Defaults { uid: 0, gid: 0, file_permissions: 0o644, directory_permissions: 0o755 },
        began: Timestamp::EPOCH,
        suid: false,
    };
    let tree = Tree::new(rules, source, 4 << 20);
    World { store, tree, staging: tempfile::tempdir().expect("a directory") }
}

impl World {
    fn options(&self) -> WriteOptions {
        WriteOptions {
            staging: self.staging.path().into(),
            on_conflict: OnConflict::Fail,
            remove_hidden: false,
        }
    }

    fn owner(&self) -> Owner {
        Owner { source: "s3://bucket/p".into(), mount_point: "/srv/maps".into() }
    }

    fn begin(&self) -> Arc<Writing> {
        Writing::new(self.tree.clone(), &self.options(), self.owner(), 64 * MIB).expect("it begins")
    }

    /// Kills the process that is `writing`, and starts the one that goes on.
    async fn killed(&self, writing: Arc<Writing>) -> Arc<Writing> {
        let session = writing.session().to_string();
        writing.staging.die();
        // No destructor runs.
        std::mem::forget(writing);
        self.resume(&session).await.expect("it goes on")
    }

    async fn resume(&self, session: &str) -> io::Result<Arc<Writing>> {
        Writing::resume(self.tree.clone(), &self.options(), self.owner(), 64 * MIB, session).await
    }

    async fn ino(&self, name: &str) -> u64 {
        match self.tree.lookup(ROOT, name).await {
            Ok(Looked::Found(entry)) => entry.ino,
            other => panic!("{other:?}"),
        }
    }

    async fn stored(&self, key: &str) -> Option<Bytes> {
        let fetch = Fetch { key, range: None, condition: Condition::Always, version_id: None };
        let Fetched::Content { mut body, .. } = self.store.fetch(fetch).await.ok()? else { return None };
        let mut bytes = BytesMut::new();
        while let Some(piece) = body.next().await {
            bytes.extend_from_slice(&piece.expect("whole"));
        }
        Some(bytes.freeze())
    }

    fn on_disk(&self, writing: &Writing) -> Vec<PathBuf> {
        let session = std::fs::read_dir(self.staging.path().join(writing.session())).expect("readable");
        let paths = session.map(|entry| entry.expect("readable").path());
        paths.filter(|path| path.extension().is_some()).collect()
    }
}

fn new(name: &str) -> New<'_> {
    let caller = Caller { uid: 33, gid: 34 };
    New { parent: ROOT, name, kind: Kind::File, permissions: 0o640, umask: 0, caller }
}

async fn until(mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < LIMIT, "it does not come to that");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Bytes that differ from place to place.
fn pattern(range: std::ops::Range<u64>) -> Vec<u8> {
    range.map(|at| (at * 31 + at / 251) as u8).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_is_stored_by_whoever_comes_after() {
    let world = world();
    world.store.put("p/old", "0123456789", &[("author", "me")]);
    let before = world.begin();
    let (made, opened) = before.create(new("new"), false).await.expect("made");
    before.write(made.ino, 0, b"hello").await.expect("written");
    let old = world.ino("old").await;
    let other = before.open_to_write(old).await.expect("opened");
    before.write(old, 3, b"xyz").await.expect("written");
    let change = Change { permissions: Some(0o600), ..Change::default() };
    before.set_attributes(old, change).await.expect("changed");
    before.set_xattr(old, "user.k", b"v", SetXattr::Any).await.expect("set");
    before.set_attributes(old, Change { size: Some(8), ..Change::default() }).await.expect("cut");
    before.write(made.ino, 5, b" there").await.expect("written");
    let shown = world.tree.attributes(made.ino).await.expect("known");

    let after = world.killed(before).await;
    assert_eq!(after.session().split('-').next(), Some("session"));
    assert_eq!(after.open_files(), 2);
    assert_eq!(
        after.draft(made.ino).expect("a draft").read_now(0, 99).expect("on disk").expect("readable"),
        "hello there"
    );
    assert_eq!(world.tree.attributes(made.ino).await.expect("known").attributes, shown.attributes);
    after.write(old, 0, b"A").await.expect("written");
    for (ino, handle) in [(made.ino, opened.handle), (old, other.handle)] {
        after.flush(ino).await.expect("stored");
        after.release(handle).await;
    }
    assert_eq!(world.stored("p/new").await.expect("there"), "hello there");
    assert_eq!(world.stored("p/old").await.expect("there"), "A12xyz67");
    let (headers, _) = world.store.headers("p/old").expect("there");
    let header =
        |name: &str| headers.metadata.iter().find(|(known, _)| known == name).map(|(_, value)| &**value);
    assert_eq!((header("mode"), header("author")), (Some("33152"), Some("me")));
    assert_eq!(Xattrs::of(&headers.metadata).value("user.k"), Some(&b"v"[..]));
    assert_eq!((after.open_files(), world.on_disk(&after)), (0, Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_is_gone_on_with_where_it_was() {
    let world = world();
    let before = world.begin();
    let (made, opened) = before.create(new("big"), false).await.expect("made");
    for at in 0..30 {
        before.write(made.ino, at * MIB, &pattern(at * MIB..(at + 1) * MIB)).await.expect("written");
    }
    let draft = before.draft(made.ino).expect("a draft");
    until(|| draft.state().stream.sent.len() == 3).await;
    drop(draft);
    // A part that has left is written again, and is not to be counted on.
    before.write(made.ino, 9 * MIB, b"again").await.expect("written");
    world.store.take_asked();

    let after = world.killed(before).await;
    for at in 30..40 {
        after.write(made.ino, at * MIB, &pattern(at * MIB..(at + 1) * MIB)).await.expect("written");
    }
    after.flush(made.ino).await.expect("stored");
    after.release(opened.handle).await;
    let mut parts: Vec<u32> = (world.store.take_asked().iter())
        .filter_map(|asked| if let Asked::Part(_, number) = asked { Some(*number) } else { None })
        .collect();
    parts.sort();
    assert_eq!(parts, [2, 4, 5]);
    let mut expected = pattern(0..40 * MIB);
    expected[9 * MIB as usize..][..5].copy_from_slice(b"again");
    assert!(world.stored("p/big").await.expect("there") == expected);
    assert_eq!(world.store.uploads(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_store_had_accepted_when_the_answer_got_lost_is_our_own() {
    for size in [5, 40 * MIB] {
        let world = world();
        world.store.put("p/a", "before", &[]);
        let before = world.begin();
        let ino = world.ino("a").await;
        let opened = before.open_to_write(ino).await.expect("opened");
        before.set_attributes(ino, Change { size: Some(0), ..Change::default() }).await.expect("cut");
        for at in 0..size.div_ceil(MIB) {
            before.write(ino, at * MIB, &pattern(at * MIB..size.min((at + 1) * MIB))).await.expect("written");
        }
        world.store.set_latency(Duration::from_millis(300));
        let flush = tokio::spawn({
            let before = before.clone();
            async move { before.flush(ino).await }
        });
        let began = Instant::now();
        while world.store.headers("p/a").expect("there").0.metadata.is_empty() {
            assert!(began.elapsed() < LIMIT, "it is not stored");
            sleep(Duration::from_millis(1)).await;
        }
        flush.abort();
        assert!(flush.await.is_err_and(|error| error.is_cancelled()), "the answer came");
        world.store.set_latency(Duration::ZERO);

        let after = world.killed(before).await;
        after.write(ino, 2, b"++").await.expect("written");
        after.flush(ino).await.expect("stored: nobody else has written");
        let mut expected = pattern(0..size);
        expected[2..4].copy_from_slice(b"++");
        let found = world.stored("p/a").await.expect("there");
        let differs = found.iter().zip(&expected).position(|(found, expected)| found != expected);
        assert_eq!((found.len(), differs), (expected.len(), None));
        assert_eq!(after.kept(), Vec::<PathBuf>::new());
        // And somebody else's doing is somebody else's still.
        after.write(ino, 0, b"mine").await.expect("written");
        world.store.put("p/a", "theirs", &[]);
        assert!(matches!(after.flush(ino).await, Err(FsError::Lost)));
        after.release(opened.handle).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_processes_have_died_of_is_kept_and_whoever_stores_it_is_told() {
    let world = world();
    let before = world.begin();
    let (made, opened) = before.create(new("new"), false).await.expect("made");
    before.write(made.ino, 0, b"hello").await.expect("written");
    let after = world.killed(before).await;
    after.give_up(made.ino, Uncertain::Content);
    assert!(matches!(after.flush(made.ino).await, Err(FsError::Lost)));
    assert!(matches!(after.write(made.ino, 5, b"!").await, Err(FsError::Lost)));
    after.release(opened.handle).await;
    assert_eq!(world.stored("p/new").await, None);
    let kept = after.kept();
    assert_eq!(std::fs::read(kept.first().expect("it is kept")).expect("readable"), b"hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_in_which_nothing_has_changed_outlives_a_flush_that_is_given_up() {
    let world = world();
    world.store.put("p/a", "content", &[]);
    let writing = world.begin();
    let ino = world.ino("a").await;
    let opened = writing.open_to_write(ino).await.expect("opened");
    writing.give_up(ino, Uncertain::Stored);
    writing.write(ino, 0, b"C").await.expect("written");
    writing.flush(ino).await.expect("stored");
    writing.release(opened.handle).await;
    assert_eq!(world.stored("p/a").await.expect("there"), "Content");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_without_a_name_is_still_there_for_who_has_it_open() {
    let world = world();
    world.store.put("p/a", "content", &[]);
    let before = world.begin();
    let ino = world.ino("a").await;
    let opened = before.open_to_read(ino);
    before.unlink(ROOT, "a").await.expect("taken away");

    let after = world.killed(before).await;
    assert_eq!(
        after.draft(ino).expect("a draft").read_now(0, 99).expect("on disk").expect("readable"),
        "content"
    );
    after.release(opened.handle).await;
    until(|| world.on_disk(&after).is_empty()).await;
    assert_eq!(world.stored("p/a").await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_about_to_be_stored_and_is_open_nowhere_is_stored() {
    let world = world();
    let before = world.begin();
    let (made, opened) = before.create(new("new"), false).await.expect("made");
    before.write(made.ino, 0, b"hello").await.expect("written");
    before.handles().close(opened.handle);
    let after = world.killed(before).await;
    until(|| world.on_disk(&after).is_empty()).await;
    assert_eq!(world.stored("p/new").await.expect("there"), "hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_on_purpose_stays_and_a_stranger_is_refused() {
    let world = world();
    let before = world.begin();
    let (made, _) = before.create(new("new"), false).await.expect("made");
    before.write(made.ino, 0, b"hello").await.expect("written");
    let session = before.session().to_string();
    assert_eq!(
        world.resume("session-1.1").await.err().map(|error| error.kind()),
        Some(io::ErrorKind::NotFound)
    );
    before.leave().await;
    drop(before);
    let record = world.staging.path().join(&session).join("1.record");
    let text = std::fs::read_to_string(&record).expect("left");
    std::fs::write(&record, text.replace("\"version\":2", "\"version\":3")).expect("written");
    let refused = world.resume(&session).await.err().map(|error| error.kind());
    assert_eq!(refused, Some(io::ErrorKind::InvalidData));
    // Half a line at its end has not happened.
    std::fs::write(&record, text + "{\"wrote\":[0,").expect("written");
    let after = world.resume(&session).await.expect("it goes on");
    after.flush(made.ino).await.expect("stored");
    assert_eq!(world.stored("p/new").await.expect("there"), "hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_that_was_begun_is_finished_and_may_be_asked_for_once_more() {
    let world = world();
    let before = world.begin();
    for key in ["p/d/", "p/d/copied", "p/d/open", "p/d/untouched", "p/d/changed"] {
        world.store.put(key, key, &[]);
    }
    let etag = async |key: &str| world.store.head(key).await.expect("there").version.etag;
    let mut objects = Vec::new();
    for rest in ["", "copied", "open", "untouched", "changed"] {
        objects.push((rest.to_string(), etag(&format!("p/d/{rest}")).await));
    }
    let directory = world.ino("d").await;
    let open = match world.tree.lookup(directory, "open").await {
        Ok(Looked::Found(entry)) => entry.ino,
        other => panic!("{other:?}"),
    };
    let opened = before.open_to_write(open).await.expect("opened");
    let begun = RenameIntent::new(("d", "e"), ("p/d/", "p/e/"), objects.into_iter());
    let noted = before.staging.note_move(&begun).expect("noted");
    world.store.put("p/e/copied", "p/d/copied", &[]);
    world.store.put("p/d/changed", "theirs", &[]);

    let after = world.killed(before).await;
    drop(noted);
    assert_eq!(world.stored("p/e/copied").await.expect("there"), "p/d/copied");
    assert_eq!(world.stored("p/e/untouched").await.expect("there"), "p/d/untouched");
    assert_eq!((world.stored("p/d/copied").await, world.stored("p/d/untouched").await), (None, None));
    assert_eq!(world.stored("p/d/changed").await.expect("there"), "theirs");
    assert!(world.on_disk(&after).iter().all(|path| path.extension().is_some_and(|found| found != "move")));
    after.release(opened.handle).await;

    // Nothing was changed meanwhile: all of it has the new name, and whoever asks again hears that it is done.
    world.store.put("p/f", "file", &[]);
    let file = world.ino("f").await;
    let opened = after.open_to_write(file).await.expect("opened");
    let object = std::iter::once((String::new(), etag("p/f").await));
    after.staging.note_move(&RenameIntent::new(("f", "g"), ("p/f", "p/g"), object)).expect("noted");
    let last = world.killed(after).await;
    last.rename(ROOT, "f", ROOT, "g", crate::write::Target::Replace).await.expect("it was done");
    last.write(file, 0, b"F").await.expect("written");
    last.flush(file).await.expect("stored");
    last.release(opened.handle).await;
    assert_eq!(world.stored("p/g").await.expect("there"), "File");
    assert_eq!(world.stored("p/f").await, None);
    // The same again, and anew.
    world.store.put("p/f", "new", &[]);
    world.ino("f").await;
    last.rename(ROOT, "f", ROOT, "g", crate::write::Target::Replace).await.expect("moved");
    assert_eq!(world.stored("p/g").await.expect("there"), "new");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_refused_is_not_stored_by_whoever_comes_after() {
    let world = world();
    world.store.put("p/closed", "before", &[]);
    world.store.put("p/cut", "before", &[]);
    let before = world.begin();
    let closed = world.ino("closed").await;
    let opened = before.open_to_write(closed).await.expect("opened");
    before.write(closed, 0, b"mine").await.expect("written");
    world.store.refuse(Some(|asked| matches!(asked, Asked::Put(_))));
    before.flush(closed).await.expect_err("refused");
    // And one call that was not answered.
    let ino = world.ino("cut").await;
    world.store.set_latency(Duration::from_millis(300));
    let cut = tokio::spawn({
        let before = before.clone();
        async move { before.set_attributes(ino, Change { size: Some(2), ..Change::default() }).await }
    });
    let records = || {
        world.on_disk(&before).iter().filter(|path| path.extension().is_some_and(|e| e == "record")).count()
    };
    until(|| records() == 2).await;
    cut.abort();
    let _ = cut.await;
    world.store.set_latency(Duration::ZERO);
    world.store.refuse(None);

    let after = world.killed(before).await;
    after.release(opened.handle).await;
    until(|| after.kept().len() == 1).await;
    assert_eq!(std::fs::read(&after.kept()[0]).expect("kept"), b"minere");
    after.finish().await;
    for key in ["p/closed", "p/cut"] {
        assert_eq!(world.stored(key).await.expect("there"), "before", "{key}");
    }
    assert!(world.store.uploads().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_whose_answer_got_lost_is_asked_for_again_and_may_be_refused_then() {
    for is_refused in [false, true] {
        let world = world();
        world.store.put("p/a", "before", &[]);
        let before = world.begin();
        let ino = world.ino("a").await;
        let (reader, writer) = (before.open_to_read(ino), before.open_to_write(ino).await.expect("opened"));
        before.write(ino, 0, b"mine").await.expect("written");
        world.store.set_latency(Duration::from_millis(300));
        world.store.take_asked();
        let removal = tokio::spawn({
            let before = before.clone();
            async move { before.unlink(ROOT, "a").await }
        });
        let mut asked = Vec::new();
        until(|| {
            asked.extend(world.store.take_asked());
            asked.contains(&Asked::Delete("p/a".into()))
        })
        .await;
        removal.abort();
        let _ = removal.await;
        world.store.set_latency(Duration::ZERO);

        let after = world.killed(before).await;
        if is_refused {
            world.store.refuse(Some(|asked| matches!(asked, Asked::Delete(_))));
        }
        assert_eq!(after.unlink(ROOT, "a").await.is_err(), is_refused);
        assert_eq!(
            after.draft(ino).expect("a draft").read_now(0, 99).expect("on disk").expect("readable"),
            "minere"
        );
        after.flush(ino).await.expect("stored, or without a name");
        after.release(writer.handle).await;
        after.release(reader.handle).await;
        let stored = world.stored("p/a").await;
        assert_eq!(stored.as_deref(), is_refused.then_some(&b"minere"[..]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_of_which_all_but_the_note_is_done_is_done() {
    let world = world();
    let target = crate::write::Target::Replace;
    for key in ["p/f", "p/d/", "p/d/1"] {
        world.store.put(key, key, &[]);
    }
    let mut writing = world.begin();
    for (from, to, old, new) in [("f", "g", "p/f", "p/g"), ("d", "e", "p/d/", "p/e/")] {
        let ino = world.ino(from).await;
        let etag = world.store.head(old).await.expect("there").version.etag;
        writing.rename(ROOT, from, ROOT, to, target).await.expect("moved");
        // Killed before the note was taken away.
        let object = std::iter::once((String::new(), etag));
        writing.staging.note_move(&RenameIntent::new((from, to), (old, new), object)).expect("noted");
        writing = world.killed(writing).await;
        writing.rename(ROOT, from, ROOT, to, target).await.expect("it was done");
        assert!(world.tree.has_name(ino), "{to}");
        assert_eq!(world.ino(to).await, ino);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_is_known_here_before_its_note_is_taken_away() {
    let world = world();
    world.store.put("p/f", "file", &[]);
    let writing = world.begin();
    let ino = world.ino("f").await;
    let opened = writing.open_to_write(ino).await.expect("opened");
    let session = world.staging.path().join(writing.session());
    let watcher = std::thread::spawn(move || {
        let note = session.join("2.move");
        let began = Instant::now();
        while !note.exists() {
            assert!(began.elapsed() < LIMIT, "nothing is noted");
        }
        while note.exists() {}
        std::fs::read_to_string(session.join("1.record")).expect("readable")
    });
    world.store.set_latency(Duration::from_millis(20));
    writing.rename(ROOT, "f", ROOT, "g", crate::write::Target::Replace).await.expect("moved");
    let record = watcher.join().expect("it was noted");
    let record::Read::Whole(record) = record::read(&record) else { panic!("{record}") };
    assert_eq!(record.path, "g");
    writing.release(opened.handle).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_whose_removal_nobody_asks_for_again_is_stored() {
    let world = world();
    world.store.put("p/a", "before", &[]);
    let before = world.begin();
    let ino = world.ino("a").await;
    let opened = before.open_to_write(ino).await.expect("opened");
    before.write(ino, 0, b"mine").await.expect("written");
    world.store.set_latency(Duration::from_millis(300));
    world.store.take_asked();
    let removal = tokio::spawn({
        let before = before.clone();
        async move { before.unlink(ROOT, "a").await }
    });
    let mut asked = Vec::new();
    until(|| {
        asked.extend(world.store.take_asked());
        asked.contains(&Asked::Delete("p/a".into()))
    })
    .await;
    // It does not get through, and who asked has been killed.
    removal.abort();
    let _ = removal.await;
    world.store.set_latency(Duration::ZERO);
    let after = world.killed(before).await;
    after.flush(ino).await.expect("stored");
    assert_eq!(world.stored("p/a").await.expect("there"), "minere");
    after.release(opened.handle).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_removed_is_what_the_store_has_although_it_did_not_say_so() {
    for is_new in [true, false] {
        let world = world();
        let writing = world.begin();
        let (ino, opened) = match is_new {
            true => {
                let (made, opened) = writing.create(new("a"), false).await.expect("made");
                (made.ino, opened)
            }
            false => {
                world.store.put("p/a", "before", &[]);
                let ino = world.ino("a").await;
                (ino, writing.open_to_write(ino).await.expect("opened"))
            }
        };
        writing.write(ino, 0, b"mine").await.expect("written");
        world.store.lose(Some(|asked| matches!(asked, Asked::Put(_) | Asked::Head(_))));
        writing.flush(ino).await.expect_err("nobody answers");
        world.store.lose(None);
        assert!(world.stored("p/a").await.is_some());
        writing.unlink(ROOT, "a").await.expect("taken away");
        assert_eq!(world.stored("p/a").await, None);
        writing.release(opened.handle).await;
        writing.finish().await;
        assert_eq!(world.stored("p/a").await, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_cut_when_its_writer_has_just_closed_it_is_stored_or_an_error() {
    let world = world();
    world.store.put("p/a", "before", &[]);
    let writing = world.begin();
    let ino = world.ino("a").await;
    for is_refused in [true, false] {
        world.store.refuse(is_refused.then_some(|asked| matches!(asked, Asked::Put(_))));
        let ino = if is_refused { ino } else { world.ino("a").await };
        let cut = writing.cut_opened(ino, 2, Change::default()).await;
        assert_eq!(cut.is_err(), is_refused);
        world.store.refuse(None);
        writing.finish().await;
        let expected = if is_refused { "before" } else { "be" };
        assert_eq!(world.stored("p/a").await.expect("there"), expected);
        assert!(writing.draft(ino).is_none());
    }
}
