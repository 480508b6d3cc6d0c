//! Writing through the kernel: what other programs do to files on a mount, and what is in the bucket then.
//!
//! Needs root and `/dev/fuse`. Files below the mount are touched by child processes only.

mod common;

use std::time::Duration;

use bytes::BytesMut;
use common::{Bucket, Mounted};
use futures::StreamExt;
use mapkeeper::fs::store::memory::{Asked, Memory};
use mapkeeper::fs::store::{Condition, Fetch, Fetched, Object};

fn memory(bucket: &Bucket) -> Memory {
    match bucket {
        Bucket::Memory(memory) => memory.clone(),
        Bucket::S3 { .. } => panic!("this one is in memory"),
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
    let kept = mapkeeper::fs::store::Kept {
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
    assert_eq!(headers.kept, mapkeeper::fs::store::Kept { tags: 1, ..kept });
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
    let world = world().await;
    world.bucket.put("a", b"before", &[]);
    let (said, done) = tokio::join!(async { world.sh(&slow_writer("a")).await }, intruder(&world.bucket));
    done.expect("done");
    assert_eq!(said, libc::ESTALE.to_string());
    assert_eq!(world.sh("cat a").await, "theirs");
    let kept = world.session.health().kept;
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert_eq!(std::fs::read(&kept[0]).expect("kept"), b"minere");
    world.end().await;
}

/// Opens `name`, writes `mine`, sleeps a second, closes; prints the number of the error or nothing.
fn slow_writer(name: &str) -> String {
    format!(
        "python3 -c \"
import os, time
f = os.open('{name}', os.O_RDWR)
os.write(f, b'mine')
time.sleep(1)
try:
    os.close(f)
except OSError as error:
    print(error.errno)
\""
    )
}

/// Writes `theirs` to `a` in the middle of the second that [`slow_writer`] sleeps.
fn intruder(bucket: &Bucket) -> tokio::task::JoinHandle<()> {
    let bucket = memory(bucket);
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(500)).await;
        bucket.put("a", "theirs", &[]);
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_one_wins_where_the_mount_says_so() {
    let world = Mounted::with(Bucket::memory(), |options| {
        options.read_only = false;
        options.write.on_conflict = mapkeeper::fs::OnConflict::Overwrite;
    })
    .await;
    world.bucket.put("a", b"before", &[]);
    let (said, done) = tokio::join!(async { world.sh(&slow_writer("a")).await }, intruder(&world.bucket));
    done.expect("done");
    assert_eq!(said, "");
    assert_eq!(text(&world.bucket, "a").await, "minere");
    assert_eq!(world.session.health().kept, Vec::<std::path::PathBuf>::new());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_store_refuses_is_an_error_at_close_and_kept() {
    let world = world().await;
    let store = memory(&world.bucket);
    let outage = mapkeeper::fs::store::StoreError::Refused { status: 507, code: "Full".into() };
    let away = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        store.set_outage(Some(outage));
    };
    world.bucket.put("a", b"before", &[]);
    let (said, ()) = tokio::join!(async { world.sh(&slow_writer("a")).await }, away);
    assert_eq!(said, libc::EIO.to_string());
    store.set_outage(None);
    assert_eq!(text(&world.bucket, "a").await, "before");
    let began = tokio::time::Instant::now();
    while world.session.health().kept.is_empty() {
        assert!(began.elapsed() < common::LIMIT, "nothing is kept");
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

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_no_space_and_what_was_stored_stays() {
    let disk = tempfile::tempdir().expect("a directory");
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=80m", "tmpfs"])
        .arg(disk.path())
        .status()
        .expect("mount(8)");
    assert!(mounted.success());
    let staging = disk.path().to_path_buf();
    let world = Mounted::with(Bucket::memory(), |options| {
        options.read_only = false;
        options.write.staging = staging;
    })
    .await;
    world.sh("echo fits > a").await;
    let refused = world.fails("head -c 40000000 /dev/zero > b").await;
    assert!(refused.contains("No space left"), "{refused}");
    assert_eq!(world.sh("cat a; rm -f b; echo again > a; cat a").await, "fits\nagain");
    world.end().await;
    nix::mount::umount2(disk.path(), nix::mount::MntFlags::MNT_DETACH).expect("unmounted");
}
