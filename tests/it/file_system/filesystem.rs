//! The file system through the kernel: a store in memory, mounted, read by other programs.
//!
//! Needs root and `/dev/fuse`. Files below the mount are touched by child processes only, each under a deadline:
//! this process is the one that answers.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bucketfs::connection;
use bucketfs::mountinfo::MountTable;
use bucketfs::store::StoreError;
use bucketfs::store::memory::Memory;
use bucketfs::{Defaults, OnConflict, Options, Session, StoreHealth, WriteOptions};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::runtime::Handle;

const LIMIT: Duration = Duration::from_secs(60);

struct World {
    store: Memory,
    session: Session,
    scratch: tempfile::TempDir,
}

/// A bucket that is read, with no caching of names.
fn options() -> Options {
    Options {
        source: "s3://bucket".into(),
        prefix: String::new(),
        read_only: true,
        no_exec: false,
        no_symlink_follow: false,
        suid: false,
        endpoint: None,
        region: None,
        resend: true,
        freshness: Duration::ZERO,
        max_stale: Duration::from_secs(3600),
        defaults: Defaults { uid: 0, gid: 0, file_permissions: 0o644, directory_permissions: 0o755 },
        memory: 64 << 20,
        write: WriteOptions {
            staging: "/nonexistent".into(),
            on_conflict: OnConflict::Fail,
            remove_hidden: false,
        },
    }
}

impl World {
    async fn with(freshness: Duration, fill: impl FnOnce(&Memory)) -> World {
        let store = Memory::default();
        fill(&store);
        let scratch = tempfile::tempdir().expect("a directory");
        let options = Options { freshness, ..options() };
        let session =
            bucketfs::mount(Arc::new(store.clone()), scratch.path(), options, Handle::current()).await;
        World { store, session: session.expect("mounted"), scratch }
    }

    async fn new(fill: impl FnOnce(&Memory)) -> World {
        World::with(Duration::ZERO, fill).await
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// What a shell command, run in the root of the mount, prints.
    async fn sh(&self, command: &str) -> String {
        let output = self.run(command).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{command}: {said}");
        String::from_utf8_lossy(&output.stdout).trim_end().to_string()
    }

    async fn fails(&self, command: &str) -> String {
        let output = self.run(command).await;
        assert!(!output.status.success(), "{command} succeeded");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    async fn run(&self, command: &str) -> Output {
        let script = format!("cd {} && {command}", self.scratch.path().display());
        let child = tokio::process::Command::new("sh")
            .args(["-c", &script])
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        tokio::time::timeout(LIMIT, child).await.expect("the command ends in time").expect("a shell")
    }

    async fn end(self) {
        self.session.unmount().await.expect("unmounted");
        tokio::time::timeout(LIMIT, self.session.ended()).await.expect("the session ends");
    }
}

fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at.wrapping_mul(2_654_435_761) >> 11) as u8).collect()
}

fn spawn(program: &str, arguments: &[&str]) -> tokio::process::Child {
    let mut command = tokio::process::Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    command.kill_on_drop(true).spawn().expect("started")
}

#[tokio::test(flavor = "multi_thread")]
async fn files_directories_and_links_look_as_their_headers_say() {
    let world = World::new(|store| {
        store.put("plain.map", "MAP", &[]);
        store.put(
            "maps/owned.map",
            "12345",
            &[("mode", "33184"), ("uid", "33"), ("gid", "34"), ("mtime", "86400")],
        );
        store.put("marked/", "", &[("mode", "16832")]);
        store.put("link", "maps/owned.map", &[("mode", "41471")]);
        store.put("empty", "", &[]);
    })
    .await;
    assert_eq!(world.sh("ls").await, "empty\nlink\nmaps\nmarked\nplain.map");
    assert_eq!(world.sh("cat plain.map link empty").await, "MAP12345");
    assert_eq!(
        world.sh("stat -c '%a %u %g %s %Y %F' maps/owned.map").await,
        "640 33 34 5 86400 regular file"
    );
    assert_eq!(world.sh("stat -c '%a %F' marked maps").await, "700 directory\n755 directory");
    assert_eq!(
        world.sh("stat -c '%a %s %F' plain.map empty").await,
        "644 3 regular file\n644 0 regular empty file"
    );
    assert_eq!(world.sh("find . -type l").await, "./link");
    assert_eq!(world.sh("readlink link").await, "maps/owned.map");
    assert!(world.fails("cat absent").await.contains("No such file or directory"));
    assert!(world.fails("cat plain.map/below").await.contains("Not a directory"));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_user_reads_what_the_mode_allows_and_nothing_else() {
    let world = World::new(|store| {
        store.put("open.map", "MAP", &[]);
        store.put("closed.map", "MAP", &[("mode", "33152")]);
    })
    .await;
    assert_eq!(world.sh("setpriv --reuid=65534 --clear-groups cat open.map").await, "MAP");
    let refused = world.fails("setpriv --reuid=65534 --clear-groups cat closed.map").await;
    assert!(refused.contains("Permission denied"), "{refused}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_mount_refuses_writing() {
    let world = World::new(|store| store.put("a", "1", &[])).await;
    for command in ["echo x > a", "echo x > new", "rm a", "mkdir d", "mv a b", "chmod 600 a"] {
        let refused = world.fails(command).await;
        assert!(refused.contains("Read-only file system"), "{command}: {refused}");
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_files_are_read_whole_and_anywhere() {
    let body = pattern(9_000_001);
    let expected = body.clone();
    let world = World::new(|store| store.put("big.tif", body, &[])).await;
    let copy = tempfile::NamedTempFile::new().expect("a file");
    world.sh(&format!("cat big.tif > {}", copy.path().display())).await;
    assert!(std::fs::read(copy.path()).expect("copied") == expected, "the copy differs");
    let command =
        format!("dd if=big.tif of={} bs=1 skip=5000001 count=777 status=none", copy.path().display());
    world.sh(&command).await;
    assert!(
        std::fs::read(copy.path()).expect("copied") == expected[5_000_001..5_000_778],
        "the piece differs"
    );
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_freshness_the_next_open_sees_every_change() {
    let world = World::new(|store| store.put("a.map", "one", &[])).await;
    assert_eq!(world.sh("cat a.map").await, "one");
    world.store.put("a.map", "two", &[]);
    assert_eq!(world.sh("cat a.map").await, "two");
    world.store.delete("a.map");
    assert!(world.fails("cat a.map").await.contains("No such file"));
    world.store.put("a.map", "three", &[]);
    assert_eq!(world.sh("cat a.map").await, "three");
    world.store.delete("a.map");
    world.store.put("a.map/inside", "four", &[]);
    assert_eq!(world.sh("cat a.map/inside").await, "four");
    world.store.delete("a.map/inside");
    world.store.put("a.map", "five", &[]);
    assert_eq!(world.sh("cat a.map").await, "five");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_file_never_mixes_versions() {
    let (one, two) = (vec![b'1'; 1 << 20], vec![b'2'; 1 << 20]);
    let world = World::new(|store| store.put("a", one, &[])).await;
    // The reader opens and reads a piece, says so, and reads on once the object has been replaced.
    let go = world.scratch.path().with_extension("go");
    let script = format!(
        "exec 3<a; head -c 1000 <&3 >/dev/null; while [ ! -e {go} ]; do :; done; \
         {{ cat <&3 || echo refused; }} | tr -d '\\0' | fold -w1 | sort -u | tr -d '\\n'",
        go = go.display()
    );
    let reader = world.sh(&script);
    let replace = async {
        loop {
            if world.store.take_asked().iter().any(|asked| format!("{asked:?}").contains("Fetch")) {
                world.store.put("a", two, &[]);
                assert_eq!(world.sh("head -c 1 a").await, "2");
                std::fs::write(&go, "").expect("written");
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    let (seen, ()) = tokio::join!(reader, replace);
    std::fs::remove_file(&go).expect("written above");
    assert!(!seen.contains('2'), "the old file showed {seen:?}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn within_freshness_opening_again_asks_nothing() {
    let world = World::with(Duration::from_secs(60), |store| store.put("d/a.map", "MAP", &[])).await;
    assert_eq!(world.sh("cat d/a.map").await, "MAP");
    world.store.take_asked();
    assert_eq!(world.sh("cat d/a.map; cat d/a.map").await, "MAPMAP");
    assert_eq!(world.store.take_asked(), []);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_of_thousands_is_listed_once_each() {
    let world = World::new(|store| {
        for number in 0..3000 {
            store.put(&format!("many/n{number:04}"), vec![0; 5000], &[]);
        }
    })
    .await;
    assert_eq!(
        world.sh("ls many | wc -l; ls many | sort -u | wc -l; ls -f many | wc -l").await,
        "3000\n3000\n3002"
    );
    assert_eq!(world.sh("ls -l many | grep -c ' 5000 '").await, "3000");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_an_error_for_the_unknown_and_nothing_for_the_known() {
    let world = World::with(Duration::from_millis(1), |store| store.put("a.map", "MAP", &[])).await;
    assert_eq!(world.sh("cat a.map").await, "MAP");
    world.store.set_outage(Some(StoreError::Throttled { code: "SlowDown".into() }));
    assert_eq!(world.sh("cat a.map").await, "MAP");
    assert!(world.fails("cat unknown").await.contains("Input/output error"));
    assert!(matches!(world.session.health().store, StoreHealth::Silent { .. }));
    world.store.set_outage(None);
    assert!(world.fails("cat unknown").await.contains("No such file"));
    assert_eq!(world.session.health().store, StoreHealth::Answering);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_an_outage_a_directory_is_listed_as_it_was() {
    let world = World::new(|store| {
        store.put("a.map", "MAP", &[]);
        store.put("d/b.map", "MAP", &[]);
    })
    .await;
    assert_eq!(world.sh("ls; ls d").await, "a.map\nd\nb.map");
    world.store.set_outage(Some(StoreError::Throttled { code: "SlowDown".into() }));
    assert_eq!(world.sh("ls; ls -l d | wc -l; stat -c %F .").await, "a.map\nd\n2\ndirectory");
    world.store.set_outage(None);
    world.store.put("new.map", "MAP", &[]);
    assert_eq!(world.sh("ls").await, "a.map\nd\nnew.map");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_stalls_does_not_hold_up_what_is_known() {
    let world = World::with(Duration::from_millis(1), |store| store.put("a.map", "MAP", &[])).await;
    assert_eq!(world.sh("ls; cat a.map").await, "a.map\nMAP");
    world.store.set_latency(Duration::from_secs(3600));
    let began = tokio::time::Instant::now();
    assert_eq!(world.sh("ls; cat a.map; cat a.map").await, "a.map\nMAPMAP");
    assert!(began.elapsed() < LIMIT, "{:?}", began.elapsed());
    assert!(matches!(world.session.health().store, StoreHealth::Silent { .. }));
    world.session.unmount().await.expect("unmounted");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_for_a_silent_store_can_be_killed() {
    let world = World::new(|store| {
        ["a.map", "b.map", "d/c.map"].iter().for_each(|name| store.put(name, "MAP", &[]));
        store.put("large.tif", pattern(8 << 20), &[]);
    })
    .await;
    let large = world.path("large.tif");
    // Known and open, so that it is the read that waits.
    let reader =
        format!("exec 3<{0}; head -c 1 <&3 >/dev/null; echo open; read go; exec cat <&3", large.display());
    let mut reading = spawn("bash", &["-c", &reader]);
    let mut said = reading.stdout.take().expect("piped");
    let mut line = [0; 5];
    tokio::io::AsyncReadExt::read_exact(&mut said, &mut line).await.expect("it opens");
    world.store.set_latency(Duration::from_secs(15));
    let mut waiting = vec![reading];
    for (program, name) in [("cat", "a.map"), ("stat", "b.map"), ("ls", "d")] {
        let path = world.path(name).display().to_string();
        waiting.push(spawn(program, &[&path]));
    }
    tokio::io::AsyncWriteExt::write_all(waiting[0].stdin.as_mut().expect("piped"), b"go\n")
        .await
        .expect("it reads");
    let begun = tokio::time::Instant::now();
    while connection::requests_waiting(world.session.device()).expect("connected") < waiting.len() as u64 {
        assert!(begun.elapsed() < LIMIT, "not all of them wait");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let begun = tokio::time::Instant::now();
    for (number, mut child) in waiting.into_iter().enumerate() {
        assert_eq!(child.try_wait().expect("a child"), None, "number {number} did not wait");
        let pid = Pid::from_raw(child.id().expect("alive") as i32);
        let signal = if number % 2 == 0 { Signal::SIGKILL } else { Signal::SIGTERM };
        kill(pid, signal).expect("a signal");
        let ended = tokio::time::timeout(Duration::from_secs(8), child.wait()).await;
        assert!(ended.is_ok(), "number {number} outlives its signal");
    }
    assert!(begun.elapsed() < Duration::from_secs(12), "{:?}", begun.elapsed());
    world.store.set_latency(Duration::ZERO);
    assert_eq!(world.sh("cat a.map d/c.map").await, "MAPMAP");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_that_is_handled_disturbs_no_read() {
    let world = World::new(|store| store.put("a.map", "MAP", &[])).await;
    world.store.set_latency(Duration::from_millis(1600));
    let script = r#"$SIG{ALRM} = sub { $rang++ }; alarm 1;
        open(F, "<", "a.map") or die "open: $!"; defined sysread(F, $b, 10) or die "read: $!"; print "$b $rang""#;
    assert_eq!(world.sh(&format!("perl -e '{script}'")).await, "MAP 1");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_does_not_answer_is_not_mounted() {
    let store = Memory::default();
    store.set_outage(Some(StoreError::NoBucket { bucket: "bucket".into() }));
    let scratch = tempfile::tempdir().expect("a directory");
    let options = Options { max_stale: Duration::ZERO, ..options() };
    let refused = bucketfs::mount(Arc::new(store), scratch.path(), options, Handle::current()).await;
    let error = refused.map(drop).expect_err("there is no bucket");
    assert_eq!(error.to_string(), "cannot list \"s3://bucket\"");
    assert!(!is_mounted(scratch.path()));
}

#[tokio::test(flavor = "multi_thread")]
async fn aborting_the_connection_ends_the_session_and_frees_readers() {
    let world = World::new(|store| store.put("a", "1", &[])).await;
    world.store.set_latency(Duration::from_secs(3600));
    let reader = world.run("cat a");
    let abort = async {
        loop {
            if connection::requests_waiting(world.session.device()).expect("connected") > 0 {
                return connection::detach(world.scratch.path()).expect("detached");
            }
            tokio::task::yield_now().await;
        }
    };
    let (output, ()) = tokio::join!(reader, abort);
    assert!(!output.status.success());
    tokio::time::timeout(LIMIT, world.session.ended()).await.expect("the session ends");
    assert!(world.session.health().ended);
    assert!(!is_mounted(world.scratch.path()));
    world.session.unmount().await.expect("nothing is left to unmount");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_mount_disappears_from_its_path_and_ends_with_its_last_user() {
    let world = World::new(|store| store.put("a", pattern(1000), &[])).await;
    let held = "exec 3<a; echo held; read line; cat <&3 | wc -c";
    let mut holder = tokio::process::Command::new("sh")
        .args(["-c", held])
        .current_dir(world.scratch.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("a shell");
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    let mut lines = BufReader::new(holder.stdout.take().expect("piped")).lines();
    assert_eq!(lines.next_line().await.expect("readable").as_deref(), Some("held"));
    world.session.unmount().await.expect("unmounted lazily");
    assert!(!is_mounted(world.scratch.path()));
    assert!(!world.session.health().ended);
    holder.stdin.take().expect("piped").write_all(b"\n").await.expect("it listens");
    assert_eq!(lines.next_line().await.expect("readable").as_deref(), Some("1000"));
    tokio::time::timeout(LIMIT, world.session.ended()).await.expect("the session ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kernel_shows_the_mount_as_what_it_is() {
    let world = World::new(|_| {}).await;
    let table = MountTable::of(None).expect("readable");
    let entry = table.top(world.scratch.path()).expect("mounted");
    assert_eq!(entry.device, world.session.device());
    assert_eq!((entry.source.as_str(), entry.fs_type.as_str()), ("s3://bucket", "fuse.mapkeeper"));
    assert!(entry.read_only);
    assert!(world.path("").exists());
    world.end().await;
}

fn is_mounted(path: &Path) -> bool {
    MountTable::of(None).expect("readable").top(path).is_some()
}
