//! The agent on a real host: each fault is made, and is repaired without a person.
//!
//! Everything is real: FUSE through the kernel, Docker Engine, MapServer, an S3 server, `mapkeeper run` as a process of
//! its own, asked by `status --json`. Needs root, `/dev/fuse`, Docker and the image `mapserver:8`.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use mapkeeper::mount;
use mapkeeper::mountinfo::MountTable;
use mapkeeper::s3_server::{ACCESS_KEY, Options, SECRET_KEY, Server};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::time::{Instant, sleep};

/// The promise: repaired within this of the fault.
const PROMISE: Duration = Duration::from_secs(10);
/// Longest wait of the test itself: a loaded machine is no broken promise of ours.
const LIMIT: Duration = Duration::from_secs(60);

const HEALTH_MAP: &str = r#"
MAP
  NAME "health"
  STATUS ON
  EXTENT -10 -10 10 10
  SIZE 100 100
  PROJECTION "init=epsg:4326" END
  WEB METADATA "wms_title" "health" "wms_enable_request" "*" "wms_srs" "EPSG:4326" END END
  LAYER NAME "square" TYPE POLYGON STATUS ON
    FEATURE POINTS -5 -5 5 -5 5 5 -5 5 -5 -5 END END
    CLASS STYLE COLOR 200 30 30 END END
  END
END
"#;

struct World {
    server: Option<Server>,
    scratch: tempfile::TempDir,
    container: String,
    port: u16,
    agent: Option<Child>,
}

impl World {
    /// A host whose chain has become healthy.
    async fn healthy(name: &str) -> World {
        let server = Server::start(Options::memory(["maps"])).expect("a server");
        server.store().put("maps", "health.map", HEALTH_MAP, &[]).expect("stored");
        let free = std::net::TcpListener::bind("0.0.0.0:0").expect("a port");
        let port = free.local_addr().expect("bound").port();
        drop(free);
        let container = format!("mapkeeper-test-{name}-{}", std::process::id());
        let scratch = tempfile::tempdir().expect("a directory");
        let mut world = World { server: Some(server), scratch, container, port, agent: None };
        std::fs::write(world.config(), world.settings()).expect("written");
        world.start();
        world.until("the first health", |status| status["health"] == "healthy").await;
        world
    }

    fn start(&mut self) {
        let mut command = self.mapkeeper();
        let log = std::fs::File::options().create(true).append(true).open(self.log()).expect("a file");
        command.arg("run").arg("--config").arg(self.config()).stderr(log);
        self.agent = Some(command.spawn().expect("started"));
    }

    fn server(&self) -> &Server {
        self.server.as_ref().expect("it runs")
    }

    fn log(&self) -> PathBuf {
        self.scratch.path().join("agent.log")
    }

    fn config(&self) -> PathBuf {
        self.scratch.path().join("config.toml")
    }

    fn point(&self) -> PathBuf {
        self.scratch.path().join("mapfiles")
    }

    fn settings(&self) -> String {
        format!(
            r#"
region = "us-east-1"
[[mount]]
name = "mapfiles"
source = "s3://maps"
path = "{point}"
freshness = "0s"
endpoint_url = "{endpoint}"
[container]
owner = "mapkeeper"
name = "{container}"
image = "mapserver:8"
ports = ["127.0.0.1:{port}:80"]
binds = ["{point}:/mapfiles:ro"]
[container.probe]
url = "http://127.0.0.1:{port}/?map=/mapfiles/health.map&SERVICE=WMS&REQUEST=GetCapabilities"
interval = "1s"
timeout = "900ms"
"#,
            point = self.point().display(),
            endpoint = self.server().endpoint(),
            container = self.container,
            port = self.port,
        )
    }

    fn mapkeeper(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mapkeeper"));
        command
            .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
            .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("MAPKEEPER_RUNTIME_DIR", self.scratch.path().join("run"))
            .stdin(Stdio::null());
        command
    }

    async fn status(&self) -> Value {
        let output = output(self.mapkeeper().args(["status", "--json"])).await;
        serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
    }

    /// Waits for a status that `holds`, and answers it with how long that took.
    async fn until(&self, what: &str, holds: impl Fn(&Value) -> bool) -> (Value, Duration) {
        let began = Instant::now();
        loop {
            let status = self.status().await;
            if status["standing"] == "fresh" && holds(&status) {
                return (status, began.elapsed());
            }
            if began.elapsed() > LIMIT {
                let said = std::fs::read_to_string(self.log()).unwrap_or_default();
                panic!("{what} did not come: {status:#}\nthe agent said:\n{said}");
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// How many times anything has recovered: each repair ends with one more.
    fn recoveries(status: &Value) -> usize {
        let events = status["events"].as_array().cloned().unwrap_or_default();
        events.iter().filter(|event| event["event"] == "recovered").count()
    }

    /// Makes a fault, waits for the repair, and prints what `status --json` says of it.
    async fn repaired(&self, fault: &str, make: impl AsyncFnOnce()) -> Value {
        let before = World::recoveries(&self.status().await);
        let began = Instant::now();
        make().await;
        let repaired = |status: &Value| status["health"] == "healthy" && World::recoveries(status) > before;
        let (status, _) = self.until(fault, repaired).await;
        let reported = status["events"]
            .as_array()
            .into_iter()
            .flatten()
            .rev()
            .find(|event| event["event"] == "recovered");
        let reported = reported.map_or(Value::Null, |event| event["elapsed_ms"].clone());
        println!(
            "{fault}: repaired after {:.1} s, status reports {reported} ms",
            began.elapsed().as_secs_f64()
        );
        assert!(self.serves().await, "{fault}: the map is not served after the repair");
        if began.elapsed() > PROMISE {
            println!("{fault}: slower than the promise of {} s on this machine", PROMISE.as_secs());
        }
        status
    }

    async fn serves(&self) -> bool {
        let url = format!(
            "http://127.0.0.1:{}/?map=/mapfiles/health.map&SERVICE=WMS&REQUEST=GetCapabilities",
            self.port
        );
        let answer = mapkeeper::probe::ask_service(&url, Duration::from_secs(5)).await;
        answer.is_ok_and(|answer| String::from_utf8_lossy(&answer.body).contains("WMS_Capabilities"))
    }

    async fn docker(&self, arguments: &[&str]) -> String {
        let output = output(Command::new("docker").args(arguments).arg(&self.container)).await;
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    async fn container_id(&self) -> String {
        self.docker(&["inspect", "--format", "{{.Id}}"]).await
    }

    async fn end(mut self) {
        let mut agent = self.agent.take().expect("it was started");
        kill(Pid::from_raw(agent.id() as i32), Signal::SIGTERM).expect("it runs");
        let code =
            tokio::task::spawn_blocking(move || agent.wait()).await.expect("waited").expect("ended").code();
        assert_eq!(code, Some(0));
        assert!(!is_mounted(&self.point()));
        assert_eq!(self.docker(&["inspect", "--format", "{{.State.Running}}"]).await, "false");
        assert_eq!(output(self.mapkeeper().arg("status")).await.status.code(), Some(2));
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            let _ = agent.kill();
            let _ = agent.wait();
        }
        let _ = mount::detach(&self.point());
        let remove = ["rm", "--force", "--volumes", &self.container];
        let _ = Command::new("docker").args(remove).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

async fn output(command: &mut Command) -> Output {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
    tokio::task::spawn_blocking(move || child.wait_with_output()).await.expect("waited").expect("ended")
}

fn is_mounted(point: &Path) -> bool {
    MountTable::of(None).expect("readable").top(point).is_some()
}

fn device(point: &Path) -> mount::Device {
    MountTable::of(None).expect("readable").top(point).expect("mounted").device
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_is_killed_or_removed_comes_back() {
    let world = World::healthy("container").await;
    let first = world.container_id().await;
    world
        .repaired("container killed", async || {
            let pid = world.docker(&["inspect", "--format", "{{.State.Pid}}"]).await;
            kill(Pid::from_raw(pid.parse().expect("a number")), Signal::SIGKILL).expect("it runs");
        })
        .await;
    assert_eq!(world.container_id().await, first, "a dead container is started, not made anew");
    let device_before = device(&world.point());
    world.repaired("container removed", async || drop(world.docker(&["rm", "--force"]).await)).await;
    assert_ne!(world.container_id().await, first);
    assert_eq!(device(&world.point()), device_before, "the mount had nothing to do with it");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mount_that_is_unmounted_or_aborted_comes_back_and_the_container_sees_it() {
    let world = World::healthy("mount").await;
    for fault in ["umount -l", "connection aborted"] {
        let old = device(&world.point());
        let status = world
            .repaired(fault, async || match fault {
                "umount -l" => {
                    let (lazily, point) = ("-l", world.point());
                    assert!(output(Command::new("umount").arg(lazily).arg(point)).await.status.success());
                }
                _ => mount::abort(old).expect("aborted"),
            })
            .await;
        assert!(is_mounted(&world.point()));
        let pid = world.docker(&["inspect", "--format", "{{.State.Pid}}"]).await.parse().expect("a number");
        let seen = MountTable::of(Some(pid)).expect("readable");
        let seen = seen.top(Path::new("/mapfiles")).expect("bound").device;
        assert_eq!(seen, device(&world.point()), "{fault}: the container is on the old mount: {status:#}");
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_mapfile_is_reported_and_nothing_is_repaired() {
    let world = World::healthy("mapfile").await;
    let first = world.docker(&["inspect", "--format", "{{.State.StartedAt}}"]).await;
    world.server().store().put("maps", "health.map", "MAP\n  NONSENSE\nEND\n", &[]).expect("stored");
    let (status, _) = world.until("the report", |status| status["health"] != "healthy").await;
    let cause = status["first_fault"]["cause"].to_string();
    assert!(cause.contains("health.map"), "{cause}");
    // Long enough for several looks at the default pace of this configuration.
    let looks = Instant::now();
    while looks.elapsed() < Duration::from_secs(5) {
        let status = world.status().await;
        assert_eq!(status["acting"], Value::Null, "{status:#}");
        sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(world.docker(&["inspect", "--format", "{{.State.StartedAt}}"]).await, first);
    world.server().store().put("maps", "health.map", HEALTH_MAP, &[]).expect("stored");
    world.until("health", |status| status["health"] == "healthy").await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_agent_takes_over_from_one_that_was_killed() {
    let mut world = World::healthy("agent").await;
    let container = world.container_id().await;
    let mut killed = world.agent.take().expect("it runs");
    killed.kill().expect("it runs");
    tokio::task::spawn_blocking(move || killed.wait()).await.expect("waited").expect("ended");
    let dead = output(world.mapkeeper().arg("status")).await;
    assert_eq!(dead.status.code(), Some(2), "{}", String::from_utf8_lossy(&dead.stdout));
    world.start();
    world.until("health", |status| status["health"] == "healthy").await;
    assert!(world.serves().await);
    assert_eq!(
        world.container_id().await,
        container,
        "the container is kept, and restarted on the new mount"
    );
    let second = output(world.mapkeeper().arg("run").arg("--config").arg(world.config())).await;
    assert_eq!(second.status.code(), Some(20), "{}", String::from_utf8_lossy(&second.stderr));
    let wait = output(world.mapkeeper().args(["wait", "--timeout", "5s"])).await;
    assert_eq!(wait.status.code(), Some(0));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_s3_repairs_nothing_and_serves_what_is_known() {
    let mut world = World::healthy("outage").await;
    let started = world.docker(&["inspect", "--format", "{{.State.StartedAt}}"]).await;
    let mounted = device(&world.point());
    let stopped = world.server.take().expect("it runs").stop().await;
    world.until("the report", |status| status["health"] == "degraded").await;
    let outage = Instant::now();
    while outage.elapsed() < Duration::from_secs(12) {
        let status = world.status().await;
        assert_eq!(status["acting"], Value::Null, "{status:#}");
        assert!(world.serves().await, "a map that is known is served: {status:#}");
        sleep(Duration::from_millis(500)).await;
    }
    world.server = Some(Server::start(stopped).expect("started again"));
    world.until("health", |status| status["health"] == "healthy").await;
    assert_eq!(world.docker(&["inspect", "--format", "{{.State.StartedAt}}"]).await, started);
    assert_eq!(device(&world.point()), mounted);
    world.end().await;
}
