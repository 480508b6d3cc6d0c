//! P2 on a whole host: the agent is killed and replaced, again and again, and MapServer notices at most a pause.

use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use s3_testbed::{Action, Fault, LogEntry};
use tokio::time::{Instant, sleep};

use crate::support::child::child_of;
use crate::support::world::{HEALTH_MAP, Kit, LIMIT, World, device};

/// Kills and replacements, one every two seconds, unless `SURVIVAL_SECONDS` says for how long.
const TIMES: usize = 6;

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_killed_and_replaced_leaves_mount_and_container_alone() {
    let world = World::healthy_with("survival", Kit { supervised: true, ..Kit::default() }).await;
    let started = ["inspect", "--format", "{{.Id}} {{.State.StartedAt}} {{.RestartCount}}"];
    let (container, mounted) = (world.docker(&started).await, device(&world.point()));
    let supervisor = Pid::from_raw(world.agent.as_ref().expect("started").id() as i32);
    let mut slowest = Duration::ZERO;
    let mut answers = 0;
    let seconds = std::env::var("SURVIVAL_SECONDS").ok().and_then(|text| text.parse::<usize>().ok());
    let times = seconds.map_or(TIMES, |seconds| seconds / 2);
    for time in 0..times {
        if time % 3 == 2 {
            kill(supervisor, Signal::SIGUSR1).expect("it runs");
        } else {
            kill(child_of(supervisor).expect("it serves"), Signal::SIGKILL).expect("it runs");
        }
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(2) {
            let asked = Instant::now();
            assert!(world.serves().await, "answer {answers} after kill {time}");
            slowest = slowest.max(asked.elapsed());
            answers += 1;
            sleep(Duration::from_millis(20)).await;
        }
    }
    println!("{times} kills and replacements, {answers} WMS answers, the slowest after {slowest:?}");
    let (status, _) = world.until("health", |status| status["health"] == "healthy").await;
    assert_eq!(world.docker(&started).await, container, "{status:#}");
    assert_eq!(device(&world.point()), mounted);
    assert!(slowest < Duration::from_secs(15), "{slowest:?}");
    world.end().await;
}

/// Takes a request of `waiter` out of the journal of a process that is stopped, as if nobody had ever written it down;
/// false if there is none. Behind the head and the control lie the small slots, and each of them begins with its request,
/// or with 0.
fn forget_request(process: Pid, waiter: u32) -> bool {
    const FIRST: u64 = 128 * 1024 + 256;
    const SLOT: u64 = 4096;
    /// Where `struct fuse_in_header` has the process that asks.
    const PID: usize = 32;
    let is_journal = |entry: &std::fs::DirEntry| {
        let target = std::fs::read_link(entry.path()).unwrap_or_default();
        target.to_string_lossy().contains("mapkeeper-ledger")
    };
    let mut open = std::fs::read_dir(format!("/proc/{process}/fd")).expect("readable").flatten();
    let path = open.find(is_journal).expect("a journal").path();
    let journal = std::fs::File::options().read(true).write(true).open(path).expect("a memfd");
    let is_the_waiters = |at: &u64| {
        let mut header = [0; PID + 4];
        journal.read_exact_at(&mut header, *at).expect("read");
        header[..4] != [0; 4] && header[PID..] == waiter.to_ne_bytes()
    };
    let Some(at) = (0..4096).map(|slot| FIRST + slot * SLOT).find(is_the_waiters) else { return false };
    journal.write_all_at(&[0; 4], at).expect("written");
    true
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_for_a_request_that_nobody_knows_of_is_freed_by_the_ladder() {
    let kit = Kit { supervised: true, mount: "resend = false".to_owned(), ..Kit::default() };
    let world = World::healthy_with("lost", kit).await;
    let supervisor = Pid::from_raw(world.agent.as_ref().expect("started").id() as i32);
    world.server().store().put("maps", "deep/slow", vec![7; 100_000], &[]).expect("stored");
    world.server().control().inject(Fault::new(Action::Stall).under("deep/slow"));
    let mut reader = Command::new("cat");
    reader.arg(world.point().join("deep/slow")).stdout(Stdio::null()).stderr(Stdio::null());
    let mut reader = reader.spawn().expect("started");
    let process = child_of(supervisor).expect("it serves");
    let is_asked = |one: &LogEntry| one.key == "deep/slow" && one.status.is_none();
    while !world.server().control().log().iter().any(is_asked) {
        assert!(reader.try_wait().expect("asked").is_none(), "it has an answer");
        sleep(Duration::from_millis(20)).await;
    }
    loop {
        kill(process, Signal::SIGSTOP).expect("it runs");
        if forget_request(process, reader.id()) {
            break;
        }
        kill(process, Signal::SIGCONT).expect("it runs");
        sleep(Duration::from_millis(50)).await;
    }
    kill(process, Signal::SIGKILL).expect("it runs");
    let began = Instant::now();
    let said = |status: &serde_json::Value| status.to_string().contains("an answer that nobody will give");
    let (status, _) = world.until("the report", said).await;
    while reader.try_wait().expect("asked").is_none() {
        assert!(began.elapsed() < LIMIT, "the reader hangs: {status:#}");
        sleep(Duration::from_millis(50)).await;
    }
    println!("a lost request: its reader freed after {:?}", began.elapsed());
    world.server().control().clear_faults();
    world.until("health", |status| status["health"] == "healthy").await;
    assert!(world.serves().await);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demo_that_is_killed_goes_on_with_its_mount_and_its_container() {
    let data = tempfile::tempdir().expect("a directory");
    std::fs::write(data.path().join("health.map"), HEALTH_MAP).expect("written");
    let log = data.path().with_extension("log");
    let port = crate::support::port::own();
    let mut demo = Command::new(env!("CARGO_BIN_EXE_mapkeeper"));
    demo.arg("demo")
        .arg(data.path())
        .args(["--port", &port.to_string(), "--output"])
        .arg(data.path().join("map.png"));
    let file = std::fs::File::create(&log).expect("a file");
    demo.stdin(Stdio::null()).stdout(file.try_clone().expect("a file")).stderr(file);
    let mut demo = Demo { supervisor: demo.spawn().expect("started"), log };
    demo.until("the first map", |said| said.contains("WMS:")).await;
    let point = std::path::Path::new(mapkeeper::demo::RUNTIME_DIR).join("mapfiles");
    let container = || {
        let inspect = ["inspect", "--format", "{{.Id}} {{.State.StartedAt}}", "mapkeeper-demo"];
        String::from_utf8(Command::new("docker").args(inspect).output().expect("docker").stdout)
            .expect("text")
    };
    let before = (container(), device(&point));
    let supervisor = Pid::from_raw(demo.supervisor.id() as i32);
    kill(child_of(supervisor).expect("it plays"), Signal::SIGKILL).expect("it runs");
    let url =
        format!("http://127.0.0.1:{port}/?map=/mapfiles/health.map&SERVICE=WMS&REQUEST=GetCapabilities");
    let asked = Instant::now();
    let answer = mapkeeper::host::http::get(&url, Duration::from_secs(20)).await.expect("an answer");
    assert!(String::from_utf8_lossy(&answer.body).contains("WMS_Capabilities"));
    println!("killed, and the next map served after {:?}", asked.elapsed());
    demo.until("another process", |said| said.matches("WMS:").count() == 2).await;
    assert_eq!((container(), device(&point)), before);
    kill(supervisor, Signal::SIGINT).expect("it runs");
    let began = Instant::now();
    while demo.supervisor.try_wait().expect("asked").is_none() {
        assert!(began.elapsed() < Duration::from_secs(60), "it does not end: {}", demo.said());
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!((container().trim(), point.exists()), ("", false), "{}", demo.said());
}

/// A demo, and what it says.
struct Demo {
    supervisor: Child,
    log: PathBuf,
}

impl Demo {
    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    async fn until(&self, what: &str, holds: impl Fn(&str) -> bool) {
        let began = Instant::now();
        while !holds(&self.said()) {
            assert!(began.elapsed() < Duration::from_secs(120), "{what} did not come: {}", self.said());
            sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // In order, which takes mount and container away.
        let _ = kill(Pid::from_raw(self.supervisor.id() as i32), Signal::SIGTERM);
        let _ = self.supervisor.wait();
        let _ = std::fs::remove_file(&self.log);
    }
}
