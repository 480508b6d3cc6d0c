//! Writing through the kernel: what other programs do to files on a mount, and what is in the bucket then.
//!
//! Needs root and `/dev/fuse`. Files below the mount are touched by child processes only.

mod described;
mod refused;
mod unanswered;

use std::time::Duration;

use crate::file_system::common::{Bucket, Mounted};
use bucketfs::store::memory::{Asked, Memory};
use bucketfs::store::{Condition, Fetch, Fetched, Object};
use bytes::BytesMut;
use futures::StreamExt;

fn memory(bucket: &Bucket) -> Memory {
    match bucket {
        Bucket::Memory(memory) => memory.clone(),
        _ => panic!("this one is in memory"),
    }
}

/// The object at `key`, whole.
async fn stored(bucket: &Bucket, key: &str) -> Option<(Object, Vec<u8>)> {
    let fetch = Fetch { key, range: None, condition: Condition::Always, version_id: None };
    match bucket.store().fetch(fetch).await.ok()? {
        Fetched::Content { object, mut body, .. } => {
            let mut bytes = BytesMut::new();
            while let Some(piece) = body.next().await {
                bytes.extend_from_slice(&piece.expect("whole"));
            }
            Some((object, bytes.to_vec()))
        }
        Fetched::NotModified { .. } => None,
    }
}

async fn text(bucket: &Bucket, key: &str) -> String {
    match stored(bucket, key).await {
        Some((_, bytes)) => String::from_utf8(bytes).expect("text"),
        None => panic!("{key} is not there"),
    }
}

fn header<'a>(object: &'a Object, name: &str) -> &'a str {
    object.metadata.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
}

async fn world() -> Mounted {
    Mounted::writable(Bucket::memory()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_closed_is_in_the_bucket_with_the_headers_of_s3fs() {
    let world = world().await;
    world.sh("umask 022; echo hello > a.txt; mkdir d; ln -s a.txt link; mkfifo fifo").await;
    assert_eq!(text(&world.bucket, "a.txt").await, "hello\n");
    let (object, _) = stored(&world.bucket, "a.txt").await.expect("there");
    assert_eq!((header(&object, "mode"), header(&object, "uid")), ("33188", "0"));
    assert_eq!(object.content_type.as_deref(), Some("text/plain"));
    let (directory, body) = stored(&world.bucket, "d/").await.expect("there");
    assert_eq!((header(&directory, "mode"), body.len()), ("16877", 0));
    assert_eq!(text(&world.bucket, "link").await, "a.txt");
    assert_eq!(
        world.sh("cat link; stat -c '%F' fifo d; ls").await,
        "hello\nfifo\ndirectory\na.txt\nd\nfifo\nlink"
    );
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_written_anywhere_cut_and_grown() {
    let world = world().await;
    world.bucket.put("old", b"0123456789", &[]);
    world.sh("printf AB | dd of=old bs=1 seek=4 conv=notrunc status=none; printf Z >> old").await;
    assert_eq!(text(&world.bucket, "old").await, "0123AB6789Z");
    world.sh("truncate -s 3 old; truncate -s 6 old").await;
    assert_eq!(stored(&world.bucket, "old").await.expect("there").1, b"012\0\0\0");
    world.sh("echo new > old").await;
    assert_eq!(text(&world.bucket, "old").await, "new\n");
    world.sh("printf x | dd of=sparse bs=1 seek=100000 status=none").await;
    let (object, body) = stored(&world.bucket, "sparse").await.expect("there");
    assert_eq!((object.size, body[99_999], body[100_000]), (100_001, 0, b'x'));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_being_written_is_seen_here_and_by_nobody_else() {
    let world = world().await;
    let seen = world
        .sh("exec 3> f; echo one >&3; cat f; ls; stat -c %s f; mv f g; echo two >&3; cat g; ls; exec 3>&-")
        .await;
    assert_eq!(seen, "one\nf\n4\none\ntwo\ng");
    assert_eq!(text(&world.bucket, "g").await, "one\ntwo\n");
    assert!(stored(&world.bucket, "f").await.is_none());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_stays_readable_for_those_who_have_it_open() {
    let world = world().await;
    world.bucket.put("a", b"content", &[]);
    world.bucket.put("b", b"replaced", &[]);
    world.bucket.put("c", b"new", &[]);
    let seen = world.sh("exec 3< a 4< b; rm a; mv c b; cat <&3; cat <&4; cat b; ls").await;
    assert_eq!(seen, "contentreplacednewb");
    let seen = world.sh("exec 3<> t; rm t; echo x >&3; stat -L -c '%h %s' /dev/fd/3; ls").await;
    assert_eq!(seen, "0 2\nb");
    assert!(stored(&world.bucket, "a").await.is_none());
    assert!(stored(&world.bucket, "t").await.is_none());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_made_moved_and_taken_away() {
    let world = world().await;
    world.sh("mkdir -p d/e; echo 1 > d/e/f; echo 2 > d/g; mv d/g d/e/h; mv d/e i").await;
    assert_eq!(world.sh("find . | sort").await, ".\n./d\n./i\n./i/f\n./i/h");
    assert_eq!(world.sh("cat i/f i/h").await, "1\n2");
    assert!(world.fails("rmdir i").await.contains("not empty"));
    assert!(world.fails("mkdir d").await.contains("exists"));
    assert!(world.fails("ln i/f j").await.contains("not supported"));
    world.sh("rm i/f i/h; rmdir i d").await;
    assert_eq!(world.sh("ls").await, "");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_else_has_just_made_is_not_taken_away_unseen() {
    let world = Mounted::with(Bucket::memory(), |options| {
        options.read_only = false;
        options.freshness = Duration::from_secs(3600);
    })
    .await;
    let store = memory(&world.bucket);
    for key in ["a", "b", "d/"] {
        world.bucket.put(key, key.as_bytes(), &[]);
    }
    world.sh("ls -l a b d").await;
    // What was seen is not there any more: the kernel looks again, and takes away what it finds then.
    store.put("a", "theirs", &[]);
    store.take_asked();
    world.sh("rm a").await;
    let asked = store.take_asked();
    let [Asked::Delete(_), .., Asked::Delete(_)] = &asked[..] else { panic!("{asked:?}") };
    assert!(asked.contains(&Asked::Fetch("a".into())), "{asked:?}");
    assert!(stored(&world.bucket, "a").await.is_none());
    // By now it is a directory.
    store.delete("b");
    store.put("b/file", "theirs", &[]);
    store.put("b", "theirs", &[]);
    assert!(world.fails("rm b").await.contains("s a directory"));
    assert_eq!(text(&world.bucket, "b").await, "theirs");
    // A file that comes between the look into a directory and its end is there all the same.
    store.set_latency(Duration::from_secs(1));
    store.take_asked();
    let others = async {
        let began = tokio::time::Instant::now();
        while !store.take_asked().contains(&Asked::Delete("d/".into())) {
            assert!(began.elapsed() < crate::file_system::common::LIMIT, "it is not taken away");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        store.put("d/new", "theirs", &[]);
    };
    tokio::join!(world.sh("rmdir d"), others);
    store.set_latency(Duration::ZERO);
    assert_eq!(text(&world.bucket, "d/new").await, "theirs");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_of_keys_alone_outlives_its_last_file() {
    let world = world().await;
    world.bucket.put("d/a", b"1", &[]);
    world.sh("rm d/a; ls -d d").await;
    assert!(stored(&world.bucket, "d/").await.is_some());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mode_owner_times_and_attributes_change_and_the_rest_stays() {
    let world = world().await;
    let store = memory(&world.bucket);
    world.bucket.put_typed("a", b"content", Some("text/x-map"), &[("author", "me")]);
    let kept = bucketfs::store::Kept {
        cache_control: Some("max-age=5".into()),
        content_encoding: Some("gzip".into()),
        storage_class: Some("STANDARD_IA".into()),
        ..Default::default()
    };
    store.set_headers("a", kept.clone(), &[("team", "maps")]);
    world.sh("chmod 640 a; chown 33:34 a; touch -d @1000.5 a; setfattr -n user.x -v y a").await;
    assert_eq!(
        world.sh("stat -c '%a %u %g %.1Y' a; getfattr --only-values -n user.x a").await,
        "640 33 34 1000.5\ny"
    );
    world.sh("echo more >> a").await;
    let (headers, tags) = store.headers("a").expect("there");
    assert_eq!(headers.content_type.as_deref(), Some("text/x-map"));
    assert_eq!(*headers.kept, bucketfs::store::Kept { tags: 1, ..kept });
    assert_eq!(tags, [("team".to_string(), "maps".to_string())]);
    let (object, body) = stored(&world.bucket, "a").await.expect("there");
    assert_eq!(
        (header(&object, "mode"), header(&object, "author"), &body[..]),
        ("33184", "me", &b"contentmore\n"[..])
    );
    world.sh("setfattr -x user.x a; chmod 700 .; mkdir d; chmod 1777 d").await;
    assert_eq!(world.sh("stat -c %a . d").await, "700\n1777");
    assert!(stored(&world.bucket, "/").await.is_some());
    assert!(world.fails("getfattr -n user.x a").await.contains("No such attribute"));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn times_of_a_directory_stay_what_they_are_when_it_is_moved_or_said_to_be_another() {
    let world = Mounted::with(Bucket::memory(), |options| {
        options.read_only = false;
        options.freshness = Duration::ZERO;
    })
    .await;
    for key in ["d/", "d/sub/", "d/still/"] {
        world.bucket.put(key, b"", &[("mode", "16877"), ("mtime", "1000")]);
    }
    world.bucket.put("bare/a", b"1", &[]);
    let script = "
shown() { stat -c '%.9Y' \"$1\" \"$1\"/sub \"$1\"/still; }
echo x > d/f; echo x > d/sub/f; rm bare/a
before=$(shown d); bare=$(stat -c '%.9Y' bare)
ls d d/sub > /dev/null; [ \"$(shown d)\" = \"$before\" ] || echo listed
chmod 700 d; [ \"$(shown d)\" = \"$before\" ] || echo chmod
mv d e; [ \"$(shown e)\" = \"$before\" ] || echo moved
mv bare b; [ \"$(stat -c '%.9Y' b)\" = \"$bare\" ] || echo bare
stat -c '%Y' e/still; stat -c '%a' e";
    assert_eq!(world.sh(script).await, "1000\n700");
    let shown = world.sh("stat -c '%.9Y' e e/sub").await;
    for (key, shown) in ["e/", "e/sub/"].iter().zip(shown.lines()) {
        let (marker, _) = stored(&world.bucket, key).await.expect("there");
        assert_eq!(header(&marker, "mtime"), shown, "{key}");
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_leaves_in_parts_and_a_small_change_sends_little() {
    let world = world().await;
    let store = memory(&world.bucket);
    world.sh("head -c 60000000 /dev/urandom > /tmp/.mk-big.$$; cat /tmp/.mk-big.$$ > big; cmp big /tmp/.mk-big.$$; rm /tmp/.mk-big.$$").await;
    let asked = store.take_asked();
    let parts = asked.iter().filter(|asked| matches!(asked, Asked::Part(..))).count();
    assert_eq!((parts, asked.contains(&Asked::Complete("big".into()))), (8, true), "{asked:?}");
    assert_eq!(stored(&world.bucket, "big").await.expect("there").0.size, 60_000_000);
    store.take_asked();
    world.sh("printf here | dd of=big bs=1 seek=30000000 conv=notrunc status=none").await;
    let asked = store.take_asked();
    let count = |what: fn(&Asked) -> bool| asked.iter().filter(|asked| what(asked)).count();
    assert_eq!(count(|asked| matches!(asked, Asked::Part(..))), 1, "{asked:?}");
    assert_eq!(count(|asked| matches!(asked, Asked::CopyPart(..))), 2, "{asked:?}");
    let (_, body) = stored(&world.bucket, "big").await.expect("there");
    assert_eq!(&body[30_000_000..30_000_004], b"here");
    assert_eq!(store.uploads(), Vec::<String>::new());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_small_file_costs_two_requests_at_most() {
    let world = Mounted::with(Bucket::memory(), |options| {
        options.read_only = false;
        options.freshness = Duration::from_secs(1);
    })
    .await;
    let store = memory(&world.bucket);
    world.sh("mkdir d").await;
    store.take_asked();
    world.sh("python3 -c \"\nfor n in range(60):\n  open('d/%d' % n, 'w').write('x')\"").await;
    let asked = store.take_asked();
    assert!(asked.len() <= 2 * 60, "{} requests", asked.len());
    assert_eq!(asked.iter().filter(|asked| matches!(asked, Asked::Put(_))).count(), 60);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_race_is_an_error_and_both_contents_survive() {
    let world = Mounted::with(Bucket::memory(), |options| {
        options.read_only = false;
        options.freshness = Duration::from_secs(3600);
    })
    .await;
    world.bucket.put("a", b"before", &[]);
    let said = written_while(&world, |store| store.put("a", "theirs", &[])).await;
    assert_eq!(said, libc::ESTALE.to_string());
    // The kernel is told to look again.
    assert_eq!(world.sh("cat a").await, "theirs");
    let kept = world.session.health().kept;
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert_eq!(std::fs::read(&kept[0]).expect("kept"), b"minere");
    world.end().await;
}

/// Whether some file that is being changed has these bytes on disk.
fn is_staged(world: &Mounted, bytes: &[u8]) -> bool {
    let sessions = std::fs::read_dir(world.staging.path()).expect("readable").flatten();
    let files = sessions.filter_map(|session| std::fs::read_dir(session.path()).ok()).flatten().flatten();
    files.filter_map(|file| std::fs::read(file.path()).ok()).any(|found| found == bytes)
}

/// Writes `mine` to `a` and closes it after `meanwhile` has happened: the number of the error, or nothing.
async fn written_while(world: &Mounted, meanwhile: impl FnOnce(&Memory)) -> String {
    let signals = tempfile::tempdir().expect("a directory");
    let script = format!(
        "python3 -c \"
import os, time
f = os.open('a', os.O_RDWR)
os.write(f, b'mine')
open('{0}/written', 'w').close()
while not os.path.exists('{0}/go'):
    time.sleep(0.01)
try:
    os.close(f)
except OSError as error:
    print(error.errno)
\"",
        signals.path().display()
    );
    let others = async {
        let began = tokio::time::Instant::now();
        // With the rest of the file, which nobody has any more once it is replaced.
        while !signals.path().join("written").exists() || !is_staged(world, b"minere") {
            assert!(began.elapsed() < crate::file_system::common::LIMIT, "nothing is written");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        meanwhile(&memory(&world.bucket));
        std::fs::write(signals.path().join("go"), "").expect("written");
    };
    tokio::join!(world.sh(&script), others).0
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_one_wins_where_the_mount_says_so() {
    let world = Mounted::with(Bucket::memory(), |options| {
        options.read_only = false;
        options.write.on_conflict = bucketfs::OnConflict::Overwrite;
    })
    .await;
    world.bucket.put("a", b"before", &[]);
    let said = written_while(&world, |store| store.put("a", "theirs", &[])).await;
    assert_eq!(said, "");
    assert_eq!(text(&world.bucket, "a").await, "minere");
    assert_eq!(world.session.health().kept, Vec::<std::path::PathBuf>::new());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_store_refuses_is_an_error_at_close_and_kept() {
    let world = world().await;
    let store = memory(&world.bucket);
    let outage = bucketfs::store::StoreError::Refused { status: 507, code: "Full".into() };
    world.bucket.put("a", b"before", &[]);
    let said = written_while(&world, |store| store.set_outage(Some(outage))).await;
    assert_eq!(said, libc::EIO.to_string());
    store.set_outage(None);
    assert_eq!(text(&world.bucket, "a").await, "before");
    let began = tokio::time::Instant::now();
    while world.session.health().kept.is_empty() {
        assert!(began.elapsed() < crate::file_system::common::LIMIT, "nothing is kept");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let kept = world.session.health().kept;
    assert_eq!(std::fs::read(&kept[0]).expect("kept"), b"minere");
    std::fs::remove_file(&kept[0]).expect("removed");
    assert_eq!(world.session.health().kept.len(), 0);
    assert_eq!(world.sh("cat a").await, "before");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn access_control_lists_are_kept_judged_and_inherited() {
    let world = world().await;
    world.sh("mkdir d; setfacl -m u:games:rwx,d:u:games:rw d; (umask 077; echo x > d/f); chmod 711 .").await;
    let acl = world.sh("getfacl -c d/f").await;
    assert!(acl.contains("user:games:rw-"), "{acl}");
    let as_games = |command: &str| format!("setpriv --reuid=games --clear-groups sh -c '{command}'");
    world.sh(&as_games("cat d/f && echo y >> d/f")).await;
    world.sh("chmod 600 d/f").await;
    assert!(world.sh("getfacl -c d/f").await.contains("#effective:---"));
    assert!(world.fails(&as_games("cat d/f")).await.contains("Permission denied"));
    world.sh("setfacl -b d/f").await;
    assert_eq!(world.sh("stat -c %a d/f").await, "600");
    let (object, _) = stored(&world.bucket, "d/f").await.expect("there");
    assert_eq!(header(&object, "xattr"), "");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_or_metadata_that_the_store_cannot_take_is_an_error() {
    let world = world().await;
    let long = "n".repeat(200);
    assert!(world.fails(&format!("mkdir -p {}", [&*long; 6].join("/"))).await.contains("too long"));
    world.sh("echo x > a").await;
    let big = "v".repeat(1900);
    assert!(world.fails(&format!("setfattr -n user.x -v {big} a")).await.contains("No space left"));
    assert!(world.fails("touch \"$(printf 'a\\377')\"").await.contains("multibyte"));
    assert_eq!(world.sh("cat a; ls | wc -l").await, "x\n2");
    world.end().await;
}

/// A mount that stages on a disk of `megabytes`, of which 64 are left alone.
async fn staged_on(megabytes: u64) -> (Mounted, tempfile::TempDir) {
    bucket_staged_on(Bucket::memory(), megabytes).await
}

async fn bucket_staged_on(bucket: Bucket, megabytes: u64) -> (Mounted, tempfile::TempDir) {
    let disk = tempfile::tempdir().expect("a directory");
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", &format!("size={megabytes}m,mode=0700"), "tmpfs"])
        .arg(disk.path())
        .status()
        .expect("mount(8)");
    assert!(mounted.success());
    let staging = disk.path().to_path_buf();
    let world = Mounted::with(bucket, |options| {
        options.read_only = false;
        options.freshness = Duration::ZERO;
        options.write.staging = staging;
    })
    .await;
    (world, disk)
}

async fn end(world: Mounted, disk: tempfile::TempDir) {
    world.end().await;
    nix::mount::umount2(disk.path(), nix::mount::MntFlags::MNT_DETACH).expect("unmounted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_no_space_and_what_was_stored_stays() {
    let (world, disk) = staged_on(80).await;
    world.sh("echo fits > a").await;
    // Backwards, so that no part is complete before the disk is full.
    let script = "python3 -c \"
f = open('b', 'wb', 0)
for at in range(40, 0, -1):
    f.seek(at << 20)
    f.write(b'x' * (1 << 20))
\"";
    let refused = world.fails(script).await;
    assert!(refused.contains("No space left"), "{refused}");
    assert_eq!(world.sh("cat a; rm -f b; echo again > a; cat a").await, "fits\nagain");
    end(world, disk).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_file_for_which_the_disk_has_no_room_keeps_its_name_unless_the_bucket_keeps_the_version() {
    for versioning in [None, Some(s3_testbed::Versioning::Suspended), Some(s3_testbed::Versioning::Enabled)] {
        let bucket = Bucket::s3().await;
        let Bucket::S3 { server, .. } = &bucket else { panic!("a server") };
        if let Some(versioning) = versioning {
            server.store().set_versioning("bucket", versioning).expect("a bucket");
        }
        let (world, disk) = bucket_staged_on(bucket, 80).await;
        let body: Vec<u8> = (0..40u32 << 20).map(|at| (at / 7) as u8).collect();
        world.bucket.put("big", &body, &[]);
        world.bucket.put("c", b"new", &[]);
        let is_kept = versioning == Some(s3_testbed::Versioning::Enabled);
        let taken = if is_kept { "taken" } else { "No space left on device" };
        for what in ["os.rename('c', 'big')", "os.unlink('big')"] {
            world.bucket.put("big", &body, &[]);
            let script = format!(
                "python3 -c \"
import os, hashlib
f = open('big', 'rb')
try:
    {what}
    print('taken', end=' ')
except OSError as error:
    print(error.strerror, end=' ')
print(hashlib.file_digest(f, 'md5').hexdigest(), end=' ')
\"; md5sum big 2> /dev/null | head -c 32"
            );
            let digest = world.sh("cat big | md5sum | head -c 32").await;
            let now = match what {
                _ if !is_kept => digest.as_str(),
                "os.unlink('big')" => "",
                _ => "22af645d1859cb5ca6da0c484f1f37ea",
            };
            assert_eq!(world.sh(&script).await, format!("{taken} {digest} {now}").trim_end(), "{what}");
        }
        end(world, disk).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_larger_than_the_disk_leaves_while_it_is_written() {
    let (world, disk) = staged_on(112).await;
    world.sh("yes abcdefghijklmnopqrstuvwxyz0123456789 | head -c 268435456 > big").await;
    let (object, body) = stored(&world.bucket, "big").await.expect("there");
    assert_eq!(object.size, 268_435_456);
    let line = b"abcdefghijklmnopqrstuvwxyz0123456789\n";
    assert!(body.iter().zip(line.iter().cycle()).all(|(found, expected)| found == expected));
    end(world, disk).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_have_left_the_disk_are_read_changed_and_cut_all_the_same() {
    let (world, disk) = staged_on(112).await;
    let script = "python3 -c \"
import os
f = os.open('big', os.O_RDWR | os.O_CREAT)
for at in range(100):
    os.write(f, bytes([at]) * (1 << 20))
os.posix_fadvise(f, 0, 0, os.POSIX_FADV_DONTNEED)
print(os.pread(f, 2, (1 << 20) - 1).hex(), os.pread(f, 1, 30 << 20).hex())
for at in range(100, 160):
    os.pwrite(f, bytes([at]) * (1 << 20), at << 20)
os.pwrite(f, b'here', 120 << 20)
os.pwrite(f, b'head', 0)
for at in range(160, 220):
    os.pwrite(f, bytes([at]) * (1 << 20), at << 20)
os.ftruncate(f, (210 << 20) + 5)
os.close(f)
\"";
    assert_eq!(world.sh(script).await, "0001 1e");
    let (object, body) = stored(&world.bucket, "big").await.expect("there");
    let mut expected: Vec<u8> = (0..220u8).flat_map(|at| vec![at; 1 << 20]).collect();
    expected[..4].copy_from_slice(b"head");
    expected[120 << 20..][..4].copy_from_slice(b"here");
    expected.truncate((210 << 20) + 5);
    let differs = body.iter().zip(&expected).position(|(found, expected)| found != expected);
    assert_eq!((object.size as usize, differs), (expected.len(), None));
    assert_eq!(world.sh("ls").await, "big");
    end(world, disk).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_race_for_bytes_that_have_left_names_the_upload_that_has_them() {
    let (world, disk) = staged_on(112).await;
    world.bucket.put("big", b"before", &[]);
    let store = memory(&world.bucket);
    let signals = tempfile::tempdir().expect("a directory");
    let script = format!(
        "python3 -c \"
import os, time
f = os.open('big', os.O_RDWR)
for at in range(100):
    os.write(f, bytes([at]) * (1 << 20))
while not os.path.exists('{}/go'):
    time.sleep(0.01)
try:
    os.close(f)
except OSError as error:
    print(error.errno)
\"",
        signals.path().display()
    );
    let others = async {
        let began = tokio::time::Instant::now();
        while store.uploads().is_empty() {
            assert!(began.elapsed() < crate::file_system::common::LIMIT, "nothing leaves");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        store.put("big", "theirs", &[]);
        std::fs::write(signals.path().join("go"), "").expect("written");
    };
    let (said, ()) = tokio::join!(world.sh(&script), others);
    assert_eq!(said, libc::ESTALE.to_string());
    let kept = world.session.health().kept;
    let about = std::fs::read_to_string(kept[0].with_added_extension("json")).expect("described");
    let about: serde_json::Value = serde_json::from_str(&about).expect("as documented");
    let missing: u64 = about["missing"]
        .as_array()
        .expect("ranges")
        .iter()
        .map(|range| range[1].as_u64().expect("an end") - range[0].as_u64().expect("a beginning"))
        .sum();
    let parts = about["upload"]["parts"].as_array().expect("parts").len() as u64;
    assert!(missing > 0 && missing <= parts * (8 << 20), "{about}");
    assert_eq!(store.uploads(), ["big"]);
    end(world, disk).await;
}
