//! A host with a bucket, a mount, a container and an agent of its own, and what a person would ask it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use bucketfs::mountinfo::MountTable;
use mapkeeper::host::mount;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use s3_testbed::{ACCESS_KEY, Options, SECRET_KEY, Server};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::child::child_of;
use super::port;

/// The promise: repaired within this of the fault.
const PROMISE: Duration = Duration::from_secs(10);
/// Longest wait of the test itself: a loaded machine is no broken promise of ours.
pub const LIMIT: Duration = Duration::from_secs(180);

pub const HEALTH_MAP: &str = r#"
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

/// What differs from a plain host.
#[derive(Clone)]
pub struct Kit {
    pub image: String,
    /// Lines of `[container.probe]` beside the URL; none: the defaults.
    pub probe: &'static str,
    /// The port that the probe asks, where it is not the container's.
    pub probe_port: Option<u16>,
    /// Lines of the mount beside its name, source and path.
    pub mount: String,
    /// Lines at the top of the configuration.
    pub top: String,
    /// Lines at the end of the configuration.
    pub end: String,
    pub environment: Vec<(String, String)>,
    pub owner: &'static str,
    /// How the container is recognised, where not by its name.
    pub select: Option<String>,
    /// The socket of another Docker Engine than the machine's.
    pub engine: Option<String>,
    /// The keys of the bucket are in the agent's environment.
    pub keys: bool,
    /// The agent runs under a supervisor, as systemd is one.
    pub supervised: bool,
}

impl Default for Kit {
    fn default() -> Kit {
        Kit {
            image: "mapserver:8".to_owned(),
            probe: "interval = \"1s\"\ntimeout = \"900ms\"",
            probe_port: None,
            mount: String::new(),
            top: String::new(),
            end: String::new(),
            environment: Vec::new(),
            owner: "mapkeeper",
            select: None,
            engine: None,
            keys: true,
            supervised: false,
        }
    }
}

pub struct World {
    pub kit: Kit,
    pub server: Option<Server>,
    pub scratch: tempfile::TempDir,
    pub container: String,
    pub port: u16,
    pub agent: Option<Child>,
}

impl World {
    /// A host whose chain has become healthy.
    pub async fn healthy(name: &str) -> World {
        World::healthy_with(name, Kit::default()).await
    }

    pub async fn healthy_with(name: &str, kit: Kit) -> World {
        let world = World::started(name, kit);
        world.until("the first health", |status| status["health"] == "healthy").await;
        world
    }

    /// A host whose agent has been started.
    pub fn started(name: &str, kit: Kit) -> World {
        let mut world = World::prepared(name, kit);
        world.start();
        world
    }

    /// A host whose agent can be started.
    pub fn prepared(name: &str, kit: Kit) -> World {
        let server = Server::start(Options::memory(["maps"])).expect("a server");
        server.store().put("maps", "health.map", HEALTH_MAP, &[]).expect("stored");
        let port = port::own();
        let container = format!("mapkeeper-test-{name}-{}", std::process::id());
        let scratch = tempfile::tempdir().expect("a directory");
        let world = World { kit, server: Some(server), scratch, container, port, agent: None };
        std::fs::write(world.config(), world.settings()).expect("written");
        world
    }

    pub fn start(&mut self) {
        let mut command = self.mapkeeper();
        let log = std::fs::File::options().create(true).append(true).open(self.log()).expect("a file");
        if self.kit.supervised {
            command.arg("supervise");
        }
        command.arg("run").arg("--config").arg(self.config()).stderr(log);
        self.agent = Some(command.spawn().expect("started"));
    }

    pub fn server(&self) -> &Server {
        self.server.as_ref().expect("it runs")
    }

    pub fn log(&self) -> PathBuf {
        self.scratch.path().join("agent.log")
    }

    pub fn config(&self) -> PathBuf {
        self.scratch.path().join("config.toml")
    }

    pub fn point(&self) -> PathBuf {
        self.scratch.path().join("srv/mapfiles")
    }

    pub fn settings(&self) -> String {
        format!(
            r#"
region = "us-east-1"
{top}
[[mount]]
name = "mapfiles"
source = "s3://maps"
path = "{point}"
freshness = "{freshness}"
endpoint_url = "{endpoint}"
{mount}
[container]
owner = "{owner}"
{select}
image = "{image}"
ports = ["127.0.0.1:{port}:80"]
binds = ["{point}:/mapfiles:ro"]
[container.probe]
url = "http://127.0.0.1:{probe_port}/?map=/mapfiles/health.map&SERVICE=WMS&REQUEST=GetCapabilities"
{probe}
{end}
"#,
            freshness = if self.kit.probe.is_empty() { "1s" } else { "0s" },
            mount = self.kit.mount,
            top = self.kit.top,
            owner = self.kit.owner,
            image = self.kit.image,
            probe = self.kit.probe,
            end = self.kit.end,
            point = self.point().display(),
            endpoint = self.server().endpoint(),
            select = self.kit.select.clone().unwrap_or_else(|| format!("name = \"{}\"", self.container)),
            port = self.port,
            probe_port = self.kit.probe_port.unwrap_or(self.port),
        )
    }

    pub fn mapkeeper(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mapkeeper"));
        if self.kit.keys {
            command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
        }
        command
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .envs(self.kit.environment.iter().cloned())
            .envs(self.kit.engine.iter().map(|socket| ("DOCKER_HOST", socket)))
            .env("MAPKEEPER_RUNTIME_DIR", self.scratch.path().join("run"))
            .stdin(Stdio::null());
        command
    }

    pub async fn status(&self) -> Value {
        let output = output(self.mapkeeper().args(["status", "--json"])).await;
        serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
    }

    /// Waits for a status that `holds`, and answers it with how long that took.
    pub async fn until(&self, what: &str, holds: impl Fn(&Value) -> bool) -> (Value, Duration) {
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
    pub fn recoveries(status: &Value) -> usize {
        let events = status["events"].as_array().cloned().unwrap_or_default();
        events.iter().filter(|event| event["event"] == "recovered").count()
    }

    /// Makes a fault, waits for the repair, and prints what `status --json` says of it.
    pub async fn repaired(&self, fault: &str, make: impl AsyncFnOnce()) -> Value {
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

    pub async fn serves(&self) -> bool {
        let url = format!(
            "http://127.0.0.1:{}/?map=/mapfiles/health.map&SERVICE=WMS&REQUEST=GetCapabilities",
            self.port
        );
        let answer = mapkeeper::host::http::get(&url, Duration::from_secs(20)).await;
        answer.is_ok_and(|answer| String::from_utf8_lossy(&answer.body).contains("WMS_Capabilities"))
    }

    pub async fn docker(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("docker");
        command.envs(self.kit.engine.iter().map(|socket| ("DOCKER_HOST", socket)));
        let output = output(command.args(arguments).arg(&self.container)).await;
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    pub async fn container_id(&self) -> String {
        self.docker(&["inspect", "--format", "{{.Id}}"]).await
    }

    pub async fn end(mut self) {
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
            // Of a supervisor, the agent goes on without it.
            let served_by = self.kit.supervised.then(|| child_of(Pid::from_raw(agent.id() as i32))).flatten();
            let _ = agent.kill();
            let _ = agent.wait();
            let _ = served_by.map(|pid| kill(pid, Signal::SIGKILL));
        }
        let _ = mount::detach(&self.point());
        let remove = ["rm", "--force", "--volumes", &self.container];
        let mut docker = Command::new("docker");
        docker.envs(self.kit.engine.iter().map(|socket| ("DOCKER_HOST", socket)));
        let _ = docker.args(remove).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

pub async fn output(command: &mut Command) -> Output {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
    tokio::task::spawn_blocking(move || child.wait_with_output()).await.expect("waited").expect("ended")
}

pub fn is_mounted(point: &Path) -> bool {
    MountTable::of(None).expect("readable").top(point).is_some()
}

pub fn device(point: &Path) -> mount::Device {
    MountTable::of(None).expect("readable").top(point).expect("mounted").device
}
