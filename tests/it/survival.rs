//! P2: the process that serves a mount is killed, again and again, and whoever uses the mount notices a pause.
//!
//! The supervisor of `mapkeeper mount` keeps the session here; systemd does the same by the same protocol. What uses the
//! mount are processes of their own: this test's program, started as a worker. Needs root and `/dev/fuse`.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bucketfs::mountinfo::{Device, MountTable};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use s3_testbed::{ACCESS_KEY, Action, Fault, LogEntry, Operation, Options, SECRET_KEY, Server};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, timeout};

use child::child_of;

use crate::support::child;

const LIMIT: Duration = Duration::from_secs(90);
/// Files of each reader, and in the directory that is listed.
const FILES: usize = 20;
const LISTED: usize = 400;
/// Says what a worker does, where, and until which file is there.
const WORK: &str = "SURVIVAL_WORK";

/// What a worker met.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Met {
    operations: u64,
    /// By errno, or what was wrong.
    errors: BTreeMap<String, u64>,
    slowest_ms: u64,
    /// Operations that took longer than 30 ms.
    pauses_ms: Vec<u64>,
}

impl Met {
    fn note(&mut self, began: Instant, outcome: std::io::Result<Result<(), String>>) {
        let took = began.elapsed().as_millis() as u64;
        self.operations += 1;
        self.slowest_ms = self.slowest_ms.max(took);
        if took > 30 {
            self.pauses_ms.push(took);
        }
        let wrong = match outcome {
            Ok(Ok(())) => return,
            Ok(Err(wrong)) => wrong,
            Err(error) => error.to_string(),
        };
        *self.errors.entry(wrong).or_default() += 1;
    }
}

fn content(name: &str, bytes: usize) -> Vec<u8> {
    let seed = name.bytes().fold(7u32, |seed, byte| seed.wrapping_mul(31).wrapping_add(byte.into()));
    (0..bytes as u32).map(|at| (seed.wrapping_add(at).wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn expect(same: bool, otherwise: &str) -> Result<(), String> {
    if same { Ok(()) } else { Err(otherwise.to_string()) }
}

/// As a worker this does what it was started for; as a test it proves that a worker tells what went wrong.
#[test]
fn what_a_worker_meets_is_told() {
    let mut met = Met::default();
    let Ok(work) = std::env::var(WORK) else {
        met.note(now(), Ok(Ok(())));
        met.note(now(), Ok(expect(false, "wrong content")));
        met.note(now(), read(Path::new("/nonexistent"), "0", 0));
        let told: Vec<_> = met.errors.into_iter().collect();
        let absent = "No such file or directory (os error 2)".to_string();
        return assert_eq!((met.operations, told), (3, vec![(absent, 1), ("wrong content".into(), 1)]));
    };
    let [kind, root, until] = *work.split('|').collect::<Vec<_>>() else { panic!("{work}") };
    let (root, until) = (Path::new(root), Path::new(until));
    for round in 0.. {
        if until.exists() {
            break;
        }
        let began = now();
        let outcome = match kind.split_at(1) {
            ("r", number) => read(root, number, round),
            ("p", _) => pulse(root),
            ("l", _) => list(root),
            ("w", _) => write(root, round),
            _ => panic!("{kind}"),
        };
        met.note(began, outcome);
    }
    std::fs::write(until.with_extension(kind), serde_json::to_vec(&met).expect("JSON")).expect("told");
}

fn now() -> Instant {
    Instant::now()
}

/// Opens one file, reads it in four pieces past the kernel's memory, and compares.
fn read(root: &Path, number: &str, round: usize) -> std::io::Result<Result<(), String>> {
    let name = format!("read/{number}/{}", round % FILES);
    let mut file = File::open(root.join(&name))?;
    nix::fcntl::posix_fadvise(file.as_fd(), 0, 0, nix::fcntl::PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
    let expected = content(&name, 100_000);
    let mut found = vec![0; 50_000];
    file.read_exact(&mut found)?;
    file.seek(SeekFrom::Start(50_000))?;
    file.read_to_end(&mut found)?;
    Ok(expect(found == expected, "wrong content"))
}

/// Reads one small file past the kernel's memory, every few milliseconds.
fn pulse(root: &Path) -> std::io::Result<Result<(), String>> {
    std::thread::park_timeout(Duration::from_millis(2));
    let name = "list/a-name-of-some-length-0000";
    let mut file = File::open(root.join(name))?;
    nix::fcntl::posix_fadvise(file.as_fd(), 0, 0, nix::fcntl::PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
    let mut found = Vec::new();
    file.read_to_end(&mut found)?;
    Ok(expect(found == content(name, 10), "wrong content"))
}

fn list(root: &Path) -> std::io::Result<Result<(), String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(root.join("list"))? {
        names.push(entry?.file_name());
    }
    names.sort();
    let all = names.len();
    names.dedup();
    Ok(expect(
        names.len() == LISTED && all == LISTED,
        &format!("listed {all} names, {} of them once", names.len()),
    ))
}

/// Makes a file, writes, syncs, writes on, closes, reads it again, moves it and takes it away.
fn write(root: &Path, round: usize) -> std::io::Result<Result<(), String>> {
    let step = |what: &'static str| {
        move |error: std::io::Error| std::io::Error::new(error.kind(), format!("{what}: {error}"))
    };
    let (path, moved) = (root.join(format!("written/{round}")), root.join(format!("written/{round}-moved")));
    let bytes = content(&format!("{round}"), 60_000);
    let file = OpenOptions::new().write(true).create_new(true).open(&path).map_err(step("create"))?;
    file.write_all_at(&bytes[..30_000], 0).map_err(step("write"))?;
    file.sync_all().map_err(step("sync"))?;
    (&file).seek(SeekFrom::End(0)).map_err(step("seek"))?;
    (&file).write_all(&bytes[30_000..]).map_err(step("write on"))?;
    // What close would say, and drop does not.
    file.sync_all().map_err(step("sync at the end"))?;
    drop(file);
    std::fs::rename(&path, &moved).map_err(step("rename"))?;
    let found = std::fs::read(&moved).map_err(step("read"))?;
    std::fs::remove_file(&moved).map_err(step("remove"))?;
    Ok(expect(found == bytes, "written otherwise"))
}

struct World {
    server: Server,
    scratch: tempfile::TempDir,
    supervisor: Option<Child>,
}

impl World {
    fn new() -> World {
        let server = Server::start(Options::memory(["maps"])).expect("a server");
        let put = |key: String, bytes: usize| {
            server.store().put("maps", &key, content(&key, bytes), &[]).expect("stored");
        };
        for reader in 0..8 {
            (0..FILES).for_each(|file| put(format!("read/{reader}/{file}"), 100_000));
        }
        (0..LISTED).for_each(|file| put(format!("list/a-name-of-some-length-{file:04}"), 10));
        server.store().put("maps", "written/", "", &[("mode", "16895")]).expect("stored");
        let scratch = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(scratch.path().join("maps")).expect("a directory");
        World { server, scratch, supervisor: None }
    }

    fn point(&self) -> PathBuf {
        self.scratch.path().join("maps")
    }

    async fn mount(&mut self, more: &str) {
        let options = format!(
            "endpoint_url={},path_style,region=us-east-1,staging={},{more}",
            self.server.endpoint(),
            self.scratch.path().join("staging").display()
        );
        let log = File::create(self.scratch.path().join("log")).expect("a file");
        // Another program, for measuring one that is optimized.
        let program = std::env::var_os("SURVIVAL_PROGRAM").unwrap_or(env!("CARGO_BIN_EXE_mapkeeper").into());
        let mut command = Command::new(program);
        command.args(["mount", "s3://maps"]).arg(self.point()).args(["-o", &options]);
        command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
        command.env("AWS_EC2_METADATA_DISABLED", "true").env("MAPKEEPER_LOG", "debug");
        self.supervisor = Some(command.stdin(Stdio::null()).stderr(log).spawn().expect("started"));
        // By then the session is kept as well.
        until(|| self.log().contains("mount serves"), "the mount").await;
    }

    fn supervisor(&self) -> Pid {
        Pid::from_raw(self.supervisor.as_ref().expect("started").id() as i32)
    }

    /// The process that serves, of which the supervisor has at most one.
    fn serving(&self) -> Option<Pid> {
        child_of(self.supervisor())
    }

    /// Ends the process that serves by `signal`, sent to it or to its supervisor; returns when there is another one.
    async fn replaced(&self, signal: Signal) {
        until(|| self.serving().is_some(), "a process").await;
        let before = self.serving().expect("it serves");
        let whom = if signal == Signal::SIGKILL { before } else { self.supervisor() };
        kill(whom, signal).expect("it runs");
        until(|| self.serving().is_some_and(|pid| pid != before), "a successor").await;
    }

    /// How often the store was asked the same thing about `key`, at most.
    fn asked(&self, key: &str) -> usize {
        let mut times = BTreeMap::new();
        let log = self.server.control().log();
        log.iter().filter(|entry| entry.key == key).for_each(|entry| {
            *times.entry(format!("{:?}", entry.operation)).or_default() += 1;
        });
        times.into_values().max().unwrap_or_default()
    }

    /// Kills every process that asks the store for `key`, until so many have died.
    async fn deadly(&self, key: &str, deaths: usize) {
        for death in 1..=deaths {
            until(|| self.asked(key) == death, "the question").await;
            self.replaced(Signal::SIGKILL).await;
        }
    }

    fn device(&self) -> Option<Device> {
        MountTable::of(None).expect("readable").top(&self.point()).map(|entry| entry.device)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.scratch.path().join("log")).unwrap_or_default()
    }

    fn work(&self, kind: &str) -> Child {
        let until = self.scratch.path().join("enough");
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command
            .args(["--exact", "survival::what_a_worker_meets_is_told"])
            .stdout(Stdio::null())
            .stdin(Stdio::null());
        command.env(WORK, format!("{kind}|{}|{}", self.point().display(), until.display()));
        command.spawn().expect("started")
    }

    /// Has workers work while `disturb` goes on, and tells what each of them met.
    async fn soak(&self, kinds: &[&str], disturb: impl AsyncFnOnce()) -> BTreeMap<String, Met> {
        let workers: Vec<Child> = kinds.iter().map(|kind| self.work(kind)).collect();
        disturb().await;
        std::fs::write(self.scratch.path().join("enough"), "").expect("written");
        for mut worker in workers {
            let pid = worker.id();
            let ended = timeout(LIMIT, tokio::task::spawn_blocking(move || worker.wait())).await;
            assert!(ended.is_ok(), "worker {pid} hangs\n{}", self.log());
        }
        let met = |kind: &&str| {
            let told =
                std::fs::read(self.scratch.path().join("enough").with_extension(kind)).expect("it told");
            (kind.to_string(), serde_json::from_slice(&told).expect("JSON"))
        };
        kinds.iter().map(met).collect()
    }

    async fn end(mut self) {
        let mut supervisor = self.supervisor.take().expect("started");
        kill(Pid::from_raw(supervisor.id() as i32), Signal::SIGTERM).expect("it runs");
        let ended = tokio::task::spawn_blocking(move || supervisor.wait());
        let ended = timeout(LIMIT, ended).await.expect("it ends").expect("waited for").expect("waited for");
        assert!(ended.success(), "{ended}\n{}", self.log());
        assert_eq!(self.device(), None, "unmounted\n{}", self.log());
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let serving = self.supervisor.is_some().then(|| self.serving()).flatten();
        if let Some(mut supervisor) = self.supervisor.take() {
            let _ = supervisor.kill();
            let _ = supervisor.wait();
            if let Some(serving) = serving {
                let _ = kill(serving, Signal::SIGKILL);
            }
            let _ = mapkeeper::host::mount::detach(&self.point());
        }
    }
}

async fn until(mut condition: impl FnMut() -> bool, what: &str) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < LIMIT, "{what} did not happen");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Kills, replaces, kills, ... every two seconds for so long.
async fn disturb(world: &World, length: Duration) -> (u32, u32) {
    let began = Instant::now();
    let (mut kills, mut replaced) = (0, 0);
    while began.elapsed() < length {
        sleep(Duration::from_secs(2)).await;
        if (kills + replaced) % 3 == 2 {
            kill(world.supervisor(), Signal::SIGUSR1).expect("it runs");
            replaced += 1;
        } else if let Some(serving) = world.serving() {
            kill(serving, Signal::SIGKILL).expect("it runs");
            kills += 1;
        }
    }
    sleep(Duration::from_secs(1)).await;
    (kills, replaced)
}

async fn soak(more: &str) {
    let mut world = World::new();
    world.mount(&format!("rw,freshness=0s,{more}")).await;
    let device = world.device();
    let length = std::env::var("SURVIVAL_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(20);
    let kinds = ["r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7", "l", "w"];
    let mut times = (0, 0);
    let met = world.soak(&kinds, async || times = disturb(&world, Duration::from_secs(length)).await).await;
    let mut pauses: Vec<u64> = Vec::new();
    for (kind, met) in &met {
        println!(
            "{kind}: {} operations, errors {:?}, slowest {} ms",
            met.operations, met.errors, met.slowest_ms
        );
        pauses.extend(met.pauses_ms.iter().filter(|_| kind.starts_with('r')));
    }
    pauses.sort_unstable();
    let median = pauses.get(pauses.len() / 2);
    println!(
        "{more}: killed {} times, replaced {} times; pauses of readers: {} over 30 ms, median {median:?} ms, worst {:?} ms",
        times.0,
        times.1,
        pauses.len(),
        pauses.last()
    );
    assert!(times.0 >= 3 && times.1 >= 1, "{times:?}");
    for (kind, met) in &met {
        assert!(met.errors.is_empty(), "{kind}: {:?}\n{}", met.errors, world.log());
        assert!(met.operations > 0 && met.slowest_ms < 10_000, "{kind}: {met:?}");
    }
    assert_eq!(world.device(), device);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_asks_the_bucket_where_it_lives() {
    let mut world = World::new();
    // Not where the options say: the process that mounts is told so.
    world.server.control().live_in("eu-north-1");
    world.mount("freshness=0s").await;
    for name in ["read/0/0", "read/0/1", "read/0/2"] {
        let before = world.serving().expect("it serves");
        kill(before, Signal::SIGKILL).expect("it runs");
        until(|| world.serving().is_some_and(|pid| pid != before), "a successor").await;
        let path = world.point().join(name);
        let read = tokio::task::spawn_blocking(move || std::fs::read(path));
        let found = timeout(LIMIT, read).await.expect("an answer").expect("no panic");
        assert_eq!(found.expect("readable"), content(name, 100_000), "{}", world.log());
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_a_lister_and_a_writer_do_not_notice_that_the_process_is_killed() {
    soak("resend=true").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_do_they_where_the_kernel_cannot_send_again() {
    soak("resend=false").await;
}

/// Measures, and promises nothing of the time: `make bench-restart` says how long a restart is felt, on an idle machine.
/// `SURVIVAL_KNOWN` is the number of files that the kernel knows beside those that are read.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_feels_each_restart_as_a_pause() {
    let mut world = World::new();
    let known: usize = std::env::var("SURVIVAL_KNOWN").map_or(0, |text| text.parse().expect("a number"));
    for file in 0..known {
        world.server.store().put("maps", &format!("known/{}/{file:06}", file % 8), "x", &[]).expect("stored");
    }
    // Long enough for what is known to stay so until the last of it is.
    world.mount(if known > 0 { "freshness=1h,memory=512MiB" } else { "freshness=0s" }).await;
    let find = |directory: usize| {
        let mut find = Command::new("find");
        find.arg(world.point().join(format!("known/{directory}"))).args(["-type", "f", "-size", "1c"]);
        find.stdout(Stdio::piped()).spawn().expect("started")
    };
    let finds: Vec<Child> = (0..known.min(8)).map(find).collect();
    let lines = |find: Child| {
        let found = find.wait_with_output().expect("waited for").stdout;
        found.iter().filter(|byte| **byte == b'\n').count()
    };
    assert_eq!(finds.into_iter().map(lines).sum::<usize>(), known);
    let length = Duration::from_secs(if std::env::var_os("SURVIVAL_PROGRAM").is_some() { 60 } else { 10 });
    let mut times = (0, 0);
    let met = world.soak(&["p"], async || times = disturb(&world, length).await).await;
    let met = &met["p"];
    let mut pauses = met.pauses_ms.clone();
    pauses.sort_unstable();
    println!(
        "killed {} times, replaced {} times, {} reads; pauses over 30 ms: {}, median {:?} ms, worst {} ms",
        times.0,
        times.1,
        met.operations,
        pauses.len(),
        pauses.get(pauses.len() / 2),
        met.slowest_ms
    );
    assert!(met.errors.is_empty(), "{:?}\n{}", met.errors, world.log());
    assert!(times.0 + times.1 >= 4 && met.operations > 100, "{times:?} {met:?}");
    world.end().await;
}

async fn killer_is_refused(more: &str) {
    let mut world = World::new();
    world.server.store().put("maps", "deadly", "", &[]).expect("stored");
    world.server.control().inject(Fault::new(Action::Stall).under("deadly"));
    world.mount(&format!("freshness=0s,{more}")).await;
    let mut killer = Command::new("cat");
    killer
        .arg(world.point().join("deadly"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let (mut said, mut asked) = (String::new(), 0);
    let kinds = ["r0", "r1", "r2", "r3", "p", "l"];
    let met = world
        .soak(&kinds, async || {
            let killer = killer.spawn().expect("started");
            world.deadly("deadly", 2).await;
            let ended = timeout(LIMIT, tokio::task::spawn_blocking(move || killer.wait_with_output())).await;
            let output = ended.expect("it hangs").expect("no panic").expect("waited for");
            asked = world.asked("deadly");
            said = String::from_utf8_lossy(&output.stderr).into_owned();
        })
        .await;
    assert!(said.contains("Input/output error"), "{said}\n{}", world.log());
    assert_eq!(asked, 2, "{}", world.log());
    let told = "processes have died with this request in hand";
    assert_eq!(world.log().matches(told).count(), 1, "{}", world.log());
    for (kind, met) in &met {
        assert!(met.errors.is_empty() && met.operations > 0, "{kind}: {met:?}\n{}", world.log());
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_of_which_two_processes_have_died_is_an_error_and_not_done_again() {
    killer_is_refused("resend=true").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_is_it_where_the_kernel_cannot_send_again() {
    killer_is_refused("resend=false").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_outlives_processes_which_left_in_order_is_done() {
    let mut world = World::new();
    world.server.store().put("maps", "slow", "content", &[]).expect("stored");
    let control = world.server.control();
    control.inject(Fault::new(Action::Stall).under("slow"));
    world.mount("freshness=0s").await;
    let mut reader = Command::new("cat");
    reader.arg(world.point().join("slow")).stdin(Stdio::null()).stdout(Stdio::piped());
    let reader = reader.spawn().expect("started");
    for (times, signal) in [Signal::SIGUSR1, Signal::SIGKILL, Signal::SIGUSR1].into_iter().enumerate() {
        until(|| world.asked("slow") > times, "the question").await;
        if times == 2 {
            control.clear_faults();
        }
        world.replaced(signal).await;
    }
    let ended = timeout(LIMIT, tokio::task::spawn_blocking(move || reader.wait_with_output())).await;
    let output = ended.expect("it hangs").expect("no panic").expect("waited for");
    assert_eq!(output.stdout, b"content", "{}", world.log());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_stored_only_by_processes_that_die_is_an_error_and_is_kept() {
    let mut world = World::new();
    let control = world.server.control();
    control.inject(Fault::new(Action::Stall).on(Operation::PutObject).under("written/deadly"));
    let is_upload =
        |entry: &LogEntry| entry.operation == Operation::PutObject && entry.key == "written/deadly";
    let uploads = || control.log().iter().filter(|entry| is_upload(entry)).count();
    world.mount("rw,freshness=0s").await;
    let mut writer = Command::new("dd");
    writer.arg(format!("of={}", world.point().join("written/deadly").display()));
    writer
        .args(["if=/dev/zero", "bs=1000", "count=1", "conv=fsync"])
        .stdin(Stdio::null())
        .stderr(Stdio::piped());
    let writer = writer.spawn().expect("started");
    for death in 1..=2 {
        until(|| uploads() >= death, "the upload").await;
        world.replaced(Signal::SIGKILL).await;
    }
    let ended = timeout(LIMIT, tokio::task::spawn_blocking(move || writer.wait_with_output())).await;
    let output = ended.expect("it hangs").expect("no panic").expect("waited for");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let is_told = ["fsync failed", "closing output file"].iter().all(|call| said.contains(call));
    assert!(!output.status.success() && is_told, "{said}\n{}", world.log());
    assert!(world.log().contains("a file could not be stored and is kept"), "{}", world.log());
    assert!(world.server.store().get("maps", "written/deadly").is_err());
    world.end().await;
    assert_eq!(uploads(), 2, "nobody tries again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_without_marker_keeps_its_time_when_the_process_is_replaced() {
    let mut world = World::new();
    world.mount("freshness=0s").await;
    let time = || {
        let mut stat = Command::new("stat");
        stat.args(["-c", "%Y.%y"]).arg(world.point()).arg(world.point().join("list"));
        String::from_utf8(stat.output().expect("started").stdout).expect("text")
    };
    let before = time();
    assert!(!before.contains("1970"), "{before}");
    for signal in [Signal::SIGKILL, Signal::SIGUSR1] {
        world.replaced(signal).await;
        assert_eq!(time(), before);
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mount_whose_supervisor_is_killed_is_served_on() {
    let mut world = World::new();
    world.mount("freshness=0s").await;
    let serving = world.serving().expect("it serves");
    let mut supervisor = world.supervisor.take().expect("started");
    supervisor.kill().expect("it ran");
    supervisor.wait().expect("it ended");
    let read = Command::new("cat").arg(world.point().join("list/a-name-of-some-length-0000")).output();
    assert_eq!(read.expect("started").stdout, content("list/a-name-of-some-length-0000", 10));
    kill(serving, Signal::SIGTERM).expect("it runs");
    until(|| world.device().is_none(), "the end of the mount").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_resume_mounts_anew_and_says_why() {
    let mut world = World::new();
    world.mount("freshness=0s").await;
    let serving = world.serving().expect("it serves");
    // As a version that writes it otherwise: the number of the format is the third word of the journal.
    let journal =
        std::fs::read_dir(format!("/proc/{serving}/fd")).expect("readable").flatten().find(|entry| {
            std::fs::read_link(entry.path())
                .is_ok_and(|link| link.to_string_lossy().contains("mapkeeper-ledger"))
        });
    let journal = OpenOptions::new().write(true).open(journal.expect("a journal").path()).expect("a memfd");
    journal.write_all_at(&99u32.to_ne_bytes(), 8).expect("written");
    kill(serving, Signal::SIGKILL).expect("it runs");
    let reason = "it was written by another version (format 99, this one reads 1)";
    until(|| world.log().contains(reason), "the reason").await;
    until(|| world.log().matches("mount serves").count() == 2, "another mount").await;
    let read = Command::new("cat").arg(world.point().join("list/a-name-of-some-length-0000")).output();
    assert_eq!(read.expect("started").stdout, content("list/a-name-of-some-length-0000", 10));
    world.end().await;
}
