//! The table of faults in `docs/operating.md`: each row is made, timed by the agent's own events, and compared.
//!
//! Detected: from the fault to the first event that tells of it. Repaired: from then, or from when a repair became
//! possible, to the event that everything is good again. Each runs with the defaults of the configuration.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use mapkeeper::host::mount;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use s3_testbed::{Action, Fault, Server};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::{Instant, sleep};

use super::engine::Engine;
use super::machine;
use crate::support::stand_in::Secrets;
use crate::support::world::{HEALTH_MAP, Kit, LIMIT, World, device, output};

const END: &str = "<!-- end of faults -->\n";
/// Both promises of the table, in seconds, with the defaults.
const PROMISE_S: f64 = 10.0;
/// On a machine that does other things as well, a row may be this much slower before the test fails.
const SLACK: f64 = 3.0;
/// Whose silence is waited for until it cannot be slowness: ten times the timeout of the probe.
const WEDGED: &str = "MapServer wedged";
const SILENCE_S: f64 = 50.0;

/// One row, measured.
struct Row {
    fault: String,
    detected_s: f64,
    repaired_s: f64,
    container: &'static str,
}

pub fn defaults() -> Kit {
    Kit { probe: "", ..Kit::default() }
}

pub struct Table {
    rows: Vec<Row>,
    /// When the next fault was made, where that was before its row.
    struck: Option<OffsetDateTime>,
}

/// What is known of a container before a fault.
#[derive(PartialEq)]
pub struct Life {
    id: String,
    started: String,
}

/// What became of a container, in a word of the table.
pub fn became(before: &Life, after: &Life) -> &'static str {
    if after == before {
        "kept"
    } else if after.id == before.id {
        "started again"
    } else {
        "made anew"
    }
}

pub async fn life(world: &World) -> Life {
    let told = world.docker(&["inspect", "--format", "{{.Id}} {{.State.StartedAt}}"]).await;
    let (id, started) = told.split_once(' ').unwrap_or_default();
    Life { id: id.to_owned(), started: started.to_owned() }
}

fn at(event: &Value) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(event["at"].as_str()?, &Rfc3339).ok()
}

/// A moment as the agent writes it: whole milliseconds.
fn now() -> OffsetDateTime {
    let now = OffsetDateTime::from(SystemTime::now());
    now.replace_millisecond(now.millisecond()).expect("the same millisecond")
}

fn find(status: &Value, since: OffsetDateTime, wanted: impl Fn(&Value) -> bool) -> Option<OffsetDateTime> {
    let events = status["events"].as_array()?;
    events.iter().filter(|event| wanted(event)).filter_map(at).find(|at| *at >= since)
}

impl Table {
    /// Makes a fault that can be repaired at once.
    async fn row(&mut self, world: &World, fault: &str, strike: impl AsyncFnOnce()) {
        self.row_with_cure(world, fault, strike, async || ()).await;
    }

    /// Makes a fault; once it was detected and `cure` is done, a repair is possible.
    async fn row_with_cure(
        &mut self,
        world: &World,
        fault: &str,
        strike: impl AsyncFnOnce(),
        cure: impl AsyncFnOnce(),
    ) {
        let before = life(world).await;
        let struck = self.struck.take().unwrap_or_else(now);
        strike().await;
        let detected = |status: &Value| find(status, struck, |event| event["event"] == "detected");
        let (status, _) = world.until(fault, |status| detected(status).is_some()).await;
        let detected = detected(&status).expect("it was waited for");
        let cure_began = now();
        cure().await;
        let possible = if now() - cure_began > Duration::from_millis(50) { now() } else { struck };
        let whole = |event: &Value| event["event"] == "recovered" && event["target"].is_null();
        let good = |status: &Value| find(status, possible.max(detected), whole);
        let healthy = |status: &Value| status["health"] == "healthy" && good(status).is_some();
        let (status, _) = world.until(fault, healthy).await;
        assert!(world.serves().await, "{fault}: the map is not served after the repair");
        let after = life(world).await;
        let container = became(&before, &after);
        let repaired = good(&status).expect("it was waited for") - possible.max(detected);
        self.add(fault, (detected - struck).as_seconds_f64(), repaired.as_seconds_f64(), container);
    }

    pub fn add(&mut self, fault: &str, detected_s: f64, repaired_s: f64, container: &'static str) {
        println!(
            "{fault}: detected after {detected_s:.1} s, repaired after {repaired_s:.1} s, container {container}"
        );
        self.rows.push(Row { fault: fault.to_owned(), detected_s, repaired_s, container });
    }

    fn text(&self) -> String {
        let mut text =
            "| fault | detected after (s) | repaired after (s) | container |\n| --- | --- | --- | --- |\n"
                .to_owned();
        for row in &self.rows {
            let Row { fault, detected_s, repaired_s, container } = row;
            text.push_str(&format!("| {fault} | {detected_s:.1} | {repaired_s:.1} | {container} |\n"));
        }
        text
    }
}

fn document() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operating.md")
}

/// The document before the table of a group, the table, and what is after it.
fn around(text: &str, group: &str) -> (String, String, String) {
    let begin = format!("<!-- faults of {group}: written by tests/it/faults, FAULTS_WRITE=1 -->\n");
    let (before, after) = text.split_once(&begin).expect("the table begins");
    let (table, after) = after.split_once(END).expect("the table ends");
    (before.to_owned() + &begin, table.to_owned(), format!("{END}{after}"))
}

/// The column `container` of a table in the documentation, by fault.
fn promised(group: &str) -> BTreeMap<String, String> {
    let (_, table, _) = around(&std::fs::read_to_string(document()).expect("readable"), group);
    let rows = table.lines().skip(2).map(|line| line.split('|').map(str::trim).collect::<Vec<_>>());
    rows.filter(|cells| cells.len() >= 5).map(|cells| (cells[1].to_owned(), cells[4].to_owned())).collect()
}

/// Makes the rows of one group and compares them with its table in the documentation, or writes that.
async fn compared(group: &str, make: impl AsyncFnOnce(&mut Table)) {
    let mut table = Table { rows: Vec::new(), struck: None };
    make(&mut table).await;
    println!("{}", table.text());
    if std::env::var_os("FAULTS_WRITE").is_some() {
        let (before, _, after) = around(&std::fs::read_to_string(document()).expect("readable"), group);
        std::fs::write(document(), before + &table.text() + &after).expect("written");
    }
    let promised = promised(group);
    for row in &table.rows {
        assert_eq!(promised.get(&row.fault).map(String::as_str), Some(row.container), "{}", row.fault);
        let limit = PROMISE_S * SLACK + if row.fault == WEDGED { SILENCE_S } else { 0.0 };
        assert!(row.detected_s <= limit && row.repaired_s <= limit, "{} took too long", row.fault);
    }
    assert_eq!(promised.len(), table.rows.len(), "the table has rows that were not made");
}

macro_rules! groups {
    ($($group:ident: $make:path,)*) => {
        $(#[tokio::test(flavor = "multi_thread")]
        async fn $group() {
            compared(stringify!($group), $make).await;
        })*
    };
}

/// Every fault is detected and repaired as the table of its group says.
mod every_fault_is_repaired_as_the_table_says {
    use super::*;

    groups! {
        containers: super::containers,
        images: super::images,
        mounts: super::mounts,
        workers: super::workers,
        buckets: super::buckets,
        secrets: super::secrets,
        maps: super::maps,
        disks: machine::disks,
        clocks: machine::clocks,
        agents: super::agents,
        engines: super::engines,
    }
}

async fn pid(world: &World) -> Pid {
    let pid = world.docker(&["inspect", "--format", "{{.State.Pid}}"]).await;
    Pid::from_raw(pid.parse().expect("a number"))
}

async fn containers(table: &mut Table) {
    let world = World::healthy_with("containers", defaults()).await;
    table
        .row(&world, "container killed", async || {
            kill(pid(&world).await, Signal::SIGKILL).expect("it runs");
        })
        .await;
    table.row(&world, "container removed", async || drop(world.docker(&["rm", "--force"]).await)).await;
    table.row(&world, "container paused", async || drop(world.docker(&["pause"]).await)).await;
    table
        .row(&world, "container out of memory", async || {
            // A limit below what it holds already, on the very cgroup.
            world.docker(&["update", "--memory", "6m", "--memory-swap", "6m"]).await;
            let hog = "tail -c 200m /dev/zero | tail";
            let command = ["exec", &world.container, "sh", "-c", hog];
            output(Command::new("docker").args(command)).await;
            kill(pid(&world).await, Signal::SIGKILL).ok();
        })
        .await;
    table
        .row(&world, WEDGED, async || {
            for process in processes_in(&world).await {
                kill(process, Signal::SIGSTOP).ok();
            }
        })
        .await;
    world.end().await;
}

/// Every process of the container.
async fn processes_in(world: &World) -> Vec<Pid> {
    let listed = output(Command::new("docker").args(["top", &world.container, "-eo", "pid"])).await;
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    text.lines().skip(1).filter_map(|line| line.trim().parse().ok()).map(Pid::from_raw).collect()
}

async fn docker(arguments: &[&str]) -> String {
    let done = output(Command::new("docker").args(arguments)).await;
    assert!(done.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).trim().to_owned()
}

/// An image of its own content under `tag`, so that it can be deleted; with another entrypoint if one is given.
async fn image(tag: &str, entrypoint: Option<&str>) {
    let made = docker(&["create", "mapserver:8"]).await;
    let change = entrypoint.map(|entrypoint| format!("ENTRYPOINT [\"{entrypoint}\"]"));
    let mut commit = vec!["commit"];
    commit.extend(change.iter().flat_map(|change| ["--change", change.as_str()]));
    commit.extend([made.as_str(), tag]);
    docker(&commit).await;
    docker(&["rm", &made]).await;
}

async fn images(table: &mut Table) {
    // Nothing can be pulled from there, and it says so at once.
    let tag = format!("127.0.0.1:1/mapkeeper-test:{}", std::process::id());
    image(&tag, None).await;
    let world = World::healthy_with("images", Kit { image: tag.clone(), ..defaults() }).await;
    table
        .row_with_cure(
            &world,
            "image deleted, container gone",
            async || {
                world.docker(&["rm", "--force"]).await;
                docker(&["rmi", "--force", &tag]).await;
            },
            async || image(&tag, None).await,
        )
        .await;
    table
        .row_with_cure(
            &world,
            "port taken",
            async || {
                let taken = std::net::TcpListener::bind(("127.0.0.1", world.port));
                drop(taken);
                world.docker(&["stop", "--time", "0"]).await;
                TAKEN.lock().expect("no panic").replace(
                    std::net::TcpListener::bind(("127.0.0.1", world.port)).expect("nobody else has it"),
                );
            },
            async || {
                sleep(Duration::from_secs(8)).await;
                drop(TAKEN.lock().expect("no panic").take());
            },
        )
        .await;
    world.end().await;
    docker(&["rmi", "--force", &tag]).await;

    let tag = format!("127.0.0.1:1/mapkeeper-test-entry:{}", std::process::id());
    image(&tag, Some("/none")).await;
    table.struck = Some(now());
    let world = World::started("entrypoint", Kit { image: tag.clone(), ..defaults() });
    table
        .row_with_cure(
            &world,
            "wrong entrypoint",
            async || {
                let failed = |status: &Value| !status["last_failure"].is_null();
                world.until("the failure", failed).await;
            },
            async || {
                sleep(Duration::from_secs(15)).await;
                image(&tag, None).await;
            },
        )
        .await;
    world.end().await;
    docker(&["rmi", "--force", &tag]).await;
}

static TAKEN: std::sync::Mutex<Option<std::net::TcpListener>> = std::sync::Mutex::new(None);

async fn mounts(table: &mut Table) {
    let world = World::healthy_with("mounts", defaults()).await;
    let point = world.point();
    table.row(&world, "mount aborted", async || mount::abort(device(&point)).expect("aborted")).await;
    table
        .row(&world, "umount -l", async || {
            assert!(output(Command::new("umount").arg("-l").arg(&point)).await.status.success());
        })
        .await;
    table
        .row(&world, "another file system over the mount point", async || {
            let over = ["-t", "tmpfs", "tmpfs"];
            assert!(output(Command::new("mount").args(over).arg(&point)).await.status.success());
        })
        .await;
    world.end().await;
}

async fn workers(table: &mut Table) {
    let world = World::healthy_with("workers", defaults()).await;
    let agent = world.agent.as_ref().expect("it runs").id();
    let mut stopped = None;
    table.row(&world, "FUSE workers stuck", async || stopped = Some(Stopped::threads(agent, "fuse"))).await;
    drop(stopped);
    world.end().await;
}

/// Threads of a process that stand still, as a debugger makes them, until this is dropped.
struct Stopped(Option<(std::sync::mpsc::Sender<()>, std::thread::JoinHandle<()>)>);

impl Stopped {
    /// Stops the threads of `process` whose name begins with `name`. Who stops a thread has to stay.
    fn threads(process: u32, name: &str) -> Stopped {
        let (release, released) = std::sync::mpsc::channel();
        let (tell, told) = std::sync::mpsc::channel();
        let name = name.to_owned();
        let thread = std::thread::spawn(move || {
            let mut count = 0;
            for entry in std::fs::read_dir(format!("/proc/{process}/task")).expect("it runs").flatten() {
                let called = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
                let id: i32 = entry.file_name().to_string_lossy().parse().expect("a number");
                if called.starts_with(&name) {
                    // SAFETY: both calls take a thread id and numbers, and no memory of ours.
                    let done = unsafe {
                        libc::ptrace(libc::PTRACE_SEIZE, id, 0, 0) == 0
                            && libc::ptrace(libc::PTRACE_INTERRUPT, id, 0, 0) == 0
                    };
                    assert!(done, "cannot stop {called}: {}", std::io::Error::last_os_error());
                    count += 1;
                }
            }
            tell.send(count).expect("it waits");
            // Its end lets them go on.
            let _ = released.recv();
        });
        assert!(told.recv().expect("it tells") > 0, "no thread is called {name:?}", name = "fuse");
        Stopped(Some((release, thread)))
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        if let Some((release, thread)) = self.0.take() {
            let _ = release.send(());
            let _ = thread.join();
        }
    }
}

async fn buckets(table: &mut Table) {
    let mut world = World::healthy_with("buckets", defaults()).await;
    let error = |status, code: &str| Action::Error { status, code: code.to_owned() };
    for (fault, action, length) in [
        ("S3 answers 503", error(503, "SlowDown"), 15),
        ("S3 slow (8 s a request)", Action::Delay { milliseconds: 8_000 }, 20),
        ("S3 answers 403", error(403, "AccessDenied"), 15),
        ("bucket deleted, and there again", error(404, "NoSuchBucket"), 15),
    ] {
        let control = world.server().control();
        table
            .row_with_cure(
                &world,
                fault,
                async || control.inject(Fault::new(action)),
                async || {
                    sleep(Duration::from_secs(length)).await;
                    control.clear_faults();
                },
            )
            .await;
    }
    // The server's address has to be the same again, so it is taken out of the world meanwhile.
    let server = std::sync::Mutex::new(world.server.take());
    let parked = std::sync::Mutex::new(None);
    table
        .row_with_cure(
            &world,
            "S3 down for 30 s",
            async || {
                let running = server.lock().expect("no panic").take().expect("it runs");
                let options = running.stop().await;
                parked.lock().expect("no panic").replace(options);
            },
            async || {
                sleep(Duration::from_secs(30)).await;
                let options = parked.lock().expect("no panic").take().expect("it was stopped");
                let started = Server::start(options).expect("started again");
                server.lock().expect("no panic").replace(started);
            },
        )
        .await;
    world.server = server.into_inner().expect("no panic");
    world.end().await;
}

async fn secrets(table: &mut Table) {
    let secrets = Secrets::start().await;
    let kit = Kit {
        top: "[credentials]\nsecret = \"maps\"".to_owned(),
        environment: vec![
            ("AWS_ENDPOINT_URL_SECRETS_MANAGER".to_owned(), secrets.endpoint.clone()),
            ("AWS_ACCESS_KEY_ID".to_owned(), "role".to_owned()),
            ("AWS_SECRET_ACCESS_KEY".to_owned(), "role".to_owned()),
        ],
        keys: false,
        ..defaults()
    };
    secrets.say("WRONG:secret");
    table.struck = Some(now());
    let world = World::started("secrets", kit);
    table
        .row_with_cure(
            &world,
            "secret wrong, then right",
            async || (),
            async || {
                sleep(Duration::from_secs(15)).await;
                secrets.say_right();
            },
        )
        .await;
    world.end().await;
}

async fn maps(table: &mut Table) {
    let world = World::healthy_with("maps", defaults()).await;
    let put = |text: &str| {
        drop(world.server().store().put("maps", "health.map", text.to_owned(), &[]).expect("stored"))
    };
    table
        .row_with_cure(
            &world,
            "mapfile broken, then corrected",
            async || put("MAP\n  NONSENSE\nEND\n"),
            async || {
                // Long enough for a repair that must not come.
                let until = Instant::now() + Duration::from_secs(15);
                while Instant::now() < until {
                    let status = world.status().await;
                    assert_eq!(status["acting"], Value::Null, "{status:#}");
                    sleep(Duration::from_millis(200)).await;
                }
                put(HEALTH_MAP);
            },
        )
        .await;
    let logged =
        HEALTH_MAP.replacen("MAP\n", "MAP\n  CONFIG \"MS_ERRORFILE\" \"/var/log/old/ms_error.log\"\n", 1);
    table
        .row_with_cure(
            &world,
            "error log missing that only the mapfile names",
            async || put(&logged),
            async || {
                let told = |status: &Value| status.to_string().contains("error_file_unnamed");
                let (status, _) = world.until("what is missed", told).await;
                assert_eq!(status["acting"], Value::Null, "{status:#}");
                put(HEALTH_MAP);
            },
        )
        .await;
    world.end().await;
}

/// The agent is killed in the middle of each repair; the next one finishes it.
async fn agents(table: &mut Table) {
    let strikes: [(&str, &[&str], &str); 5] = [
        ("agent killed while it starts a container", &["kill"], "start"),
        ("agent killed while it makes a container", &["rm", "--force"], "create"),
        ("agent killed while it unpauses a container", &["pause"], "unpause"),
        ("agent killed while it mounts", &[], "remount"),
        ("agent killed while it restarts a container on a new mount", &[], "restart"),
    ];
    for (fault, strike, wanted) in strikes {
        let mut world = World::healthy_with("agents", defaults()).await;
        let before = life(&world).await;
        let struck = Instant::now();
        match strike {
            [] => mount::abort(device(&world.point())).expect("aborted"),
            arguments => drop(world.docker(arguments).await),
        }
        let dir = world.scratch.path().join("run");
        let mut detected = None;
        loop {
            let report = mapkeeper::agent::status::read(&dir).expect("readable");
            let document = report.document.expect("published");
            let acting = document.acting.as_ref().map(|acting| format!("{:?}", acting.action).to_lowercase());
            if document.health != ladder::state::Health::Healthy {
                detected.get_or_insert_with(|| struck.elapsed());
            }
            if acting.is_some_and(|acting| acting == wanted) {
                break;
            }
            assert!(struck.elapsed() < LIMIT, "{fault}: no repair began");
            sleep(Duration::from_millis(2)).await;
        }
        let mut killed = world.agent.take().expect("it runs");
        killed.kill().expect("it runs");
        tokio::task::spawn_blocking(move || killed.wait()).await.expect("waited").expect("ended");
        world.start();
        let began = Instant::now();
        world.until(fault, |status| status["health"] == "healthy").await;
        assert!(world.serves().await, "{fault}: the map is not served");
        let after = life(&world).await;
        let container = became(&before, &after);
        let detected = detected.unwrap_or_default().as_secs_f64();
        table.add(fault, detected, began.elapsed().as_secs_f64(), container);
        world.end().await;
    }
}

async fn engines(table: &mut Table) {
    let mut engine = Engine::start().await;
    engine.load("mapserver:8").await;
    let world = World::healthy_with("engines", Kit { engine: Some(engine.socket()), ..defaults() }).await;
    let held = tokio::sync::Mutex::new(&mut engine);
    table
        .row(&world, "dockerd restarted", async || {
            let mut engine = held.lock().await;
            engine.stop().await;
            engine.run().await;
        })
        .await;
    table
        .row_with_cure(
            &world,
            "dockerd stopped for 30 s",
            async || held.lock().await.stop().await,
            async || {
                sleep(Duration::from_secs(30)).await;
                held.lock().await.run().await;
            },
        )
        .await;
    world.end().await;
}
