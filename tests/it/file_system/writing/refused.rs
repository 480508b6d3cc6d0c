//! What the store refuses has not happened: not at once, not later, and not to those who have a file open.

use std::time::Duration;

use bucketfs::store::memory::{Asked, Memory};

use super::{header, memory, stored, text, world};
use crate::file_system::common::{Bucket, Mounted};

/// What the kernel was told it believes for an hour, unless it is told otherwise.
async fn world_of_an_hour() -> Mounted {
    Mounted::with(Bucket::memory(), |options| {
        options.read_only = false;
        options.freshness = Duration::from_secs(3600);
    })
    .await
}

fn deletions(asked: &Asked) -> bool {
    matches!(asked, Asked::Delete(_))
}

fn copies(asked: &Asked) -> bool {
    matches!(asked, Asked::Copy(..))
}

fn uploads(asked: &Asked) -> bool {
    matches!(asked, Asked::Put(_) | Asked::Complete(_))
}

/// Has a file open with bytes that are not stored yet, does `what` to its name, and stores them.
async fn write_around(world: &Mounted, what: &str) -> String {
    let script = format!(
        "python3 -c \"
import os
f = os.open('a', os.O_RDWR)
os.write(f, b'mine')
try:
    {what}
except OSError as error:
    print(error.errno)
print(os.pread(f, 9, 0).decode(), open('a').read())
os.fsync(f)
os.close(f)
print(*sorted(os.listdir()))
\""
    );
    world.sh(&script).await
}

fn keys(store: &Memory, keys: &[&str]) -> Vec<String> {
    keys.iter().filter(|key| store.headers(key).is_some()).map(|key| key.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_could_not_be_taken_away_is_that_of_the_same_open_file() {
    let world = world_of_an_hour().await;
    world.bucket.put("a", b"before", &[]);
    memory(&world.bucket).refuse(Some(deletions));
    assert_eq!(write_around(&world, "os.unlink('a')").await, "13\nminere minere\na");
    assert_eq!(text(&world.bucket, "a").await, "minere");
    // A reader keeps the file, and so does everybody else.
    assert_eq!(world.sh("exec 3< a; rm -f a 2> /dev/null; cat <&3; cat a").await, "minereminere");
    memory(&world.bucket).refuse(None);
    assert_eq!(write_around(&world, "os.unlink('a'); open('a', 'w').write('new')").await, "minere new\na");
    assert_eq!(text(&world.bucket, "a").await, "new");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_could_not_be_moved_replaces_nothing() {
    for refused in [copies, deletions] {
        let world = world_of_an_hour().await;
        world.bucket.put("a", b"before", &[]);
        world.bucket.put("b", b"moved", &[]);
        memory(&world.bucket).refuse(Some(refused));
        assert_eq!(write_around(&world, "os.rename('b', 'a')").await, "13\nminere minere\na b");
        assert!(world.fails("mv b c").await.contains("Permission denied"));
        assert_eq!(world.sh("ls; cat a b").await, "a\nb\nminere\nmoved".replace("minere\n", "minere"));
        assert_eq!(text(&world.bucket, "a").await, "minere");
        assert_eq!(keys(&memory(&world.bucket), &["a", "b", "c"]), ["a", "b"]);
        memory(&world.bucket).refuse(None);
        assert_eq!(write_around(&world, "os.rename('b', 'a')").await, "minere moved\na");
        assert_eq!(text(&world.bucket, "a").await, "moved");
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_could_not_be_moved_is_where_it_was_and_so_is_the_one_in_its_way() {
    let last: [fn(&Asked) -> bool; 4] = [
        deletions,
        copies,
        |asked| *asked == Asked::Copy("d/2".into(), "e/2".into()),
        |asked| *asked == Asked::Delete("d/2".into()),
    ];
    let there = ["d/", "d/1", "d/2", "d/3", "e/", "e/1", "e/2", "e/3"];
    for refused in last {
        let world = world_of_an_hour().await;
        for key in ["d/1", "d/2", "d/3"] {
            world.bucket.put(key, key.as_bytes(), &[]);
        }
        world.bucket.put("d/", b"", &[("mode", "16877")]);
        world.bucket.put("e/", b"", &[("mode", "16832")]);
        world.sh("ls -l d e").await;
        memory(&world.bucket).refuse(Some(refused));
        assert!(world.fails("mv -T d e").await.contains("Permission denied"));
        assert_eq!(world.sh("ls d e; cat d/2; stat -c %a e").await, "d:\n1\n2\n3\n\ne:\nd/2700");
        memory(&world.bucket).refuse(None);
        assert_eq!(keys(&memory(&world.bucket), &there), ["d/", "d/1", "d/2", "d/3", "e/"]);
        let (marker, _) = stored(&world.bucket, "e/").await.expect("there");
        assert_eq!(header(&marker, "mode"), "16832");
        world.sh("echo more >> d/1; mv -T d e").await;
        assert_eq!(keys(&memory(&world.bucket), &there), ["e/", "e/1", "e/2", "e/3"]);
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_where_the_answer_to_a_deletion_is() {
    let world = world().await;
    for key in ["a", "over", "d/", "d/1", "d/2", "d/3"] {
        world.bucket.put(key, key.as_bytes(), &[]);
    }
    // What is asked whether names may be deleted is answered.
    memory(&world.bucket)
        .lose(Some(|asked| matches!(asked, Asked::Delete(key) if !key.contains(".mapkeeper-"))));
    assert_eq!(world.sh("mv a b; mv b over; cat over").await, "a");
    memory(&world.bucket).lose(Some(|asked| *asked == Asked::Delete("d/2".into())));
    assert_eq!(world.sh("mv d e; ls; cat e/1 e/2 e/3").await, "e\nover\nd/1d/2d/3");
    // And what then is there cannot be told either.
    memory(&world.bucket)
        .lose(Some(|asked| matches!(asked, Asked::Delete(key) | Asked::Head(key) if key == "e/2")));
    assert!(world.fails("mv e d").await.contains("Input/output error"));
    memory(&world.bucket).lose(None);
    assert_eq!(world.sh("cat e/1 e/3; cat d/2 e/2 2> /dev/null | head -c 3").await, "d/1d/3d/2");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_truncate_hides_nothing_and_is_never_done() {
    let world = Mounted::with(Bucket::memory(), |options| {
        options.read_only = false;
        options.freshness = Duration::ZERO;
    })
    .await;
    let store = memory(&world.bucket);
    world.bucket.put("a", b"before", &[]);
    store.refuse(Some(uploads));
    assert!(world.fails("python3 -c \"import os; os.truncate('a', 2)\"").await.contains("Errno 13"));
    assert_eq!(world.sh("stat -c %s a; cat a").await, "6\nbefore");
    store.refuse(None);
    store.put("a", "what others write", &[]);
    assert_eq!(world.sh("cat a").await, "what others write");
    // Whoever has it open to write does not get it either.
    store.refuse(Some(uploads));
    let script = "python3 -c \"
import os
try:
    os.truncate('a', 4)
except OSError as error:
    print(error.errno)
print(open('a', 'r+').read())
\"";
    assert_eq!(world.sh(script).await, "13\nwhat others write");
    store.refuse(None);
    let bucket = Bucket::Memory(store);
    world.end().await;
    assert_eq!(text(&bucket, "a").await, "what others write");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_of_an_open_file_and_refused_is_not_said_later() {
    let world = world_of_an_hour().await;
    let store = memory(&world.bucket);
    world.bucket.put("a", b"before", &[("mode", "33188"), ("mtime", "1000")]);
    store.refuse(Some(copies));
    let script = "python3 -c \"
import os
f = os.open('a', os.O_RDWR)
for change in [lambda: os.fchmod(f, 0o600), lambda: os.chown('a', 5, 5), lambda: os.utime(f, (7, 7)),
               lambda: os.setxattr('a', 'user.x', b'y'), lambda: os.chmod('a', 0o700)]:
    try:
        change()
        print('done')
    except OSError as error:
        print(error.errno, end=' ')
found = os.stat('a')
print(oct(found.st_mode), found.st_uid, int(found.st_mtime), os.listxattr('a'))
os.write(f, b'mine')
os.close(f)
\"";
    assert_eq!(world.sh(script).await, "13 13 13 13 13 0o100644 0 1000 []");
    let (object, body) = stored(&world.bucket, "a").await.expect("there");
    assert_eq!((header(&object, "mode"), header(&object, "uid"), &body[..]), ("33188", "0", &b"minere"[..]));
    assert_eq!(header(&object, "xattr"), "");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_refused_close_readers_see_the_bucket_at_once_and_nothing_is_stored_later() {
    let world = world_of_an_hour().await;
    let store = memory(&world.bucket);
    world.bucket.put("a", b"before", &[]);
    world.sh("cat a").await;
    store.refuse(Some(uploads));
    let script = "python3 -c \"
import os, time
r = os.open('a', os.O_RDONLY)
for name in ['a', 'new']:
    f = os.open(name, os.O_RDWR | os.O_CREAT)
    os.write(f, b'rejected and longer')
    open(name).read()
    try:
        os.close(f)
    except OSError as error:
        print(error.errno)
\"";
    assert_eq!(world.sh(script).await, "13\n13");
    store.refuse(None);
    // `close` returns before the file is let go.
    let seen = "for i in $(seq 200); do [ \"$(cat a)\" = before ] && [ ! -e new ] && break; sleep 0.05; done
        stat -c %s a; cat a; ls";
    assert_eq!(world.sh(seen).await, "6\nbeforea");
    assert_eq!(world.session.health().kept.len(), 2);
    let bucket = Bucket::Memory(store);
    world.end().await;
    assert_eq!(text(&bucket, "a").await, "before");
    assert!(stored(&bucket, "new").await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_told_of_a_refusal_sees_the_bucket_at_once() {
    let world = world_of_an_hour().await;
    let store = memory(&world.bucket);
    for number in 0..20 {
        world.bucket.put(&format!("old{number}"), b"before", &[]);
    }
    store.refuse(Some(uploads));
    let script = "python3 -c \"
import os
for number in range(40):
    name = ['old', 'new'][number % 2] + str(number // 2)
    if number % 2 == 0:
        r = os.open(name, os.O_RDONLY)
        os.read(r, 9)
    f = os.open(name, os.O_RDWR | os.O_CREAT)
    os.write(f, b'rejected and longer')
    open(name).read()
    if number % 3 == 0:
        try:
            os.fsync(f)
        except OSError as error:
            assert error.errno == 13
    try:
        os.close(f)
        print('closed')
    except OSError as error:
        assert error.errno == 13
    if number % 2 == 1:
        if number % 4 == 1:
            assert not os.path.exists(name), name
        assert name not in os.listdir(), name
        continue
    assert os.stat(name).st_size == 6, name
    assert open(name).read() == 'before', name
    assert os.pread(r, 99, 0) == b'before', name
    assert os.fstat(r).st_size == 6, name
    os.close(r)
\"";
    assert_eq!(world.sh(script).await, "");
    store.refuse(None);
    let bucket = Bucket::Memory(store);
    world.end().await;
    assert_eq!(text(&bucket, "old7").await, "before");
    assert!(stored(&bucket, "new7").await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_is_refused_leaves_no_marker() {
    let refusals: [fn(&Asked) -> bool; 2] =
        [deletions, |asked| matches!(asked, Asked::Delete(key) if key == "d/a" || key == "d/e/")];
    for refused in refusals {
        let world = world_of_an_hour().await;
        let store = memory(&world.bucket);
        for key in ["d/a", "d/e/", "f/b"] {
            world.bucket.put(key, b"", &[("mode", if key.ends_with('/') { "16877" } else { "33188" })]);
        }
        store.refuse(Some(refused));
        for command in ["rm d/a", "rmdir d/e", "mv d/a f/c"] {
            assert!(world.fails(command).await.contains("Permission denied"), "{command}");
        }
        assert_eq!(keys(&store, &["d/", "d/a", "d/e/", "f/", "f/c"]), ["d/a", "d/e/"]);
        store.refuse(None);
        world.sh("rm d/a; ls d").await;
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exclusive_creation_is_whole_or_an_error_and_nothing() {
    let world = world().await;
    let store = memory(&world.bucket);
    store.refuse(Some(|asked| matches!(asked, Asked::Head(_))));
    world.sh("set -C; echo x > new; ls").await;
    assert_eq!(text(&world.bucket, "new").await, "x\n");
    store.refuse(Some(uploads));
    for refused in ["set -C; echo x > b", "mkdir c", "ln -s x d", "mkfifo e"] {
        assert!(world.fails(refused).await.contains("Permission denied"), "{refused}");
    }
    assert_eq!(world.sh("ls").await, "new");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_only_reads_stores_nothing_of_what_others_are_writing() {
    let world = world().await;
    world.bucket.put("a", b"before", &[]);
    memory(&world.bucket).refuse(Some(uploads));
    let script = "python3 -c \"
import os
f = os.open('a', os.O_RDWR)
os.write(f, b'mine')
print(os.system('cat a'), flush=True)
try:
    os.close(f)
except OSError as error:
    print(error.errno)
\"";
    assert_eq!(world.sh(script).await, "minere0\n13");
    memory(&world.bucket).refuse(None);
    assert_eq!(text(&world.bucket, "a").await, "before");
    world.end().await;
}
