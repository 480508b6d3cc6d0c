//! `owner = "ecs"` beside a stand-in for ECS that behaves as the real one: it knows nothing of mounts, replaces what
//! ended, and stops again what somebody else started. On an instance that is DRAINING it stops what runs and places
//! nothing, and neither does it where `mapkeeper.ready` is not true, as the task demands.
//!
//! Introspection answers at its real address, the cluster's API at one of the test's own, and `systemctl` is a script
//! that tells the stand-in.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mapkeeper::host::mount;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::support::aws::{Http, metadata};
use crate::support::stand_in::{answer, request};
use crate::support::world::{Kit, LIMIT, World, device, output};

/// What the instance metadata of `support/aws.rs` says.
const HOST: &str = "i-0123456789abcdef0";
const INSTANCE: &str = "arn:aws:ecs:us-east-1:1:container-instance/maps/0123";

#[derive(Default)]
struct State {
    registered: bool,
    connected: bool,
    ready: Option<String>,
    drained: bool,
    /// The EC2 instance that the container instance is.
    ec2: String,
    /// How often it has looked at what runs.
    rounds: usize,
    /// Docker ids of all containers that were ever started, the newest last.
    started: Vec<String>,
    told: Vec<String>,
}

struct Cluster {
    state: Arc<Mutex<State>>,
    api: String,
    label: String,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        let script = format!("docker ps -aq --filter label={} | xargs -r docker rm --force", self.label);
        let _ = Command::new("sh").args(["-c", &script]).output();
    }
}

async fn docker(arguments: &[&str]) -> String {
    let done = output(Command::new("docker").args(arguments)).await;
    assert!(done.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).trim().to_owned()
}

/// Listens on `address`, once no connection of another test happens to come from there.
async fn bound(address: &str) -> TcpListener {
    let began = Instant::now();
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(error) => assert!(began.elapsed() < LIMIT, "{address} is not free: {error}"),
        }
        sleep(Duration::from_millis(50)).await;
    }
}

impl Cluster {
    async fn start(label: String) -> Cluster {
        let state = Arc::new(Mutex::new(State {
            registered: true,
            connected: true,
            ready: Some("true".to_owned()),
            ec2: HOST.to_owned(),
            ..State::default()
        }));
        let introspection = bound("127.0.0.1:51678").await;
        let api = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let endpoint = format!("http://{}", api.local_addr().expect("bound"));
        let tasks = vec![
            tokio::spawn(serve(introspection, state.clone(), introspect)),
            tokio::spawn(serve(api, state.clone(), asked)),
        ];
        Cluster { state, api: endpoint, label, tasks }
    }

    /// Replaces what ended, whatever is mounted, and takes away what runs on an instance that is drained.
    fn replaces(&mut self, point: String, port: u16) {
        let (state, label) = (self.state.clone(), self.label.clone());
        self.tasks.push(tokio::spawn(async move {
            loop {
                sleep(Duration::from_millis(500)).await;
                let (may_place, drained, last) = {
                    let mut state = state.lock().expect("no panic");
                    state.rounds += 1;
                    let may_place = state.registered && state.ready.as_deref() == Some("true");
                    (may_place && !state.drained, state.drained, state.started.last().cloned())
                };
                let format = "{{.State.Running}}";
                let runs = match &last {
                    Some(id) => docker(&["inspect", "--format", format, id]).await == "true",
                    None => false,
                };
                if let (true, true, Some(id)) = (drained, runs, &last) {
                    docker(&["stop", "--time", "2", id]).await;
                }
                if !may_place || runs {
                    continue;
                }
                let (publish, bind) = (format!("127.0.0.1:{port}:80"), format!("{point}:/mapfiles:ro"));
                let mut run = vec!["run", "--detach", "--label", &label];
                run.extend(["--label", "com.amazonaws.ecs.cluster=maps", "--publish", &publish]);
                run.extend(["--volume", &bind, "mapserver:8"]);
                let id = docker(&run).await;
                state.lock().expect("no panic").started.push(id);
            }
        }));
    }

    fn with<T>(&self, of: impl FnOnce(&mut State) -> T) -> T {
        of(&mut self.state.lock().expect("no panic"))
    }
}

async fn serve(listener: TcpListener, state: Arc<Mutex<State>>, of: fn(&mut State, &str) -> Value) {
    loop {
        let Ok((mut stream, _)) = listener.accept().await else { continue };
        let state = state.clone();
        tokio::spawn(async move {
            let Some(text) = request(&mut stream).await else { return };
            let body = of(&mut state.lock().expect("no panic"), &text);
            answer(&mut stream, 200, &body.to_string()).await;
        });
    }
}

fn introspect(state: &mut State, request: &str) -> Value {
    if request.starts_with("GET /v1/tasks") {
        let newest = state.started.last().cloned().unwrap_or_default();
        return json!({"Tasks": [{"Arn": "t", "Containers": [{"DockerId": newest, "Name": "mapserver"}]}]});
    }
    // Green, also while it is disconnected or deregistered: the agent does not know better.
    json!({"Cluster": "maps", "ContainerInstanceArn": INSTANCE, "Version": "1.105.0"})
}

fn asked(state: &mut State, request: &str) -> Value {
    let body = request.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let body: Value = serde_json::from_str(body).unwrap_or_default();
    let is = |operation: &str| request.to_lowercase().contains(&operation.to_lowercase());
    if is("DescribeContainerInstances") {
        if !state.registered {
            return json!({"containerInstances": [], "failures": [{"arn": INSTANCE, "reason": "MISSING"}]});
        }
        let attributes: Vec<Value> =
            state.ready.iter().map(|ready| json!({"name": "mapkeeper.ready", "value": ready})).collect();
        return json!({"containerInstances": [{
            "containerInstanceArn": INSTANCE,
            "ec2InstanceId": state.ec2,
            "status": if state.drained { "DRAINING" } else { "ACTIVE" },
            "agentConnected": state.connected,
            "attributes": attributes,
        }], "failures": []});
    }
    let operation = ["PutAttributes", "UpdateContainerInstancesState"].into_iter().find(|one| is(one));
    state.told.extend(operation.map(str::to_owned));
    if is("PutAttributes") {
        state.ready = body["attributes"][0]["value"].as_str().map(str::to_owned);
    }
    if is("UpdateContainerInstancesState") {
        state.drained = body["status"] == "DRAINING";
    }
    json!({})
}

/// A `systemctl` that writes down what it is told.
fn systemctl(world: &std::path::Path) -> String {
    let bin = world.join("bin");
    std::fs::create_dir_all(&bin).expect("made");
    let script = bin.join("systemctl");
    let told = world.join("systemctl.told");
    std::fs::write(&script, format!("#!/bin/sh\necho \"$*\" >> {}\n", told.display())).expect("written");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("made executable");
    format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default())
}

/// A host of the cluster, with instance metadata, whose container ECS has placed.
fn member(name: &str, cluster: &mut Cluster, metadata: &Http, path: String) -> World {
    let variable = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let kit = Kit {
        owner: "ecs",
        select: Some(format!("match = {{ label = \"{}\" }}", cluster.label)),
        end: "[ecs]\ncluster = \"maps\"\nattributes = { \"mapkeeper.ready\" = \"true\" }".to_owned(),
        environment: vec![
            variable("AWS_ENDPOINT_URL_ECS", &cluster.api),
            variable("AWS_EC2_METADATA_SERVICE_ENDPOINT", &metadata.url),
            variable("AWS_EC2_METADATA_DISABLED", "false"),
            variable("PATH", &path),
        ],
        ..Kit::default()
    };
    let world = World::prepared(name, kit);
    std::fs::create_dir_all(world.point()).expect("made");
    cluster.replaces(world.point().display().to_string(), world.port);
    world
}

fn label(test: &str) -> String {
    format!("mapkeeper-test-{test}={}", std::process::id())
}

impl Cluster {
    /// Waits for what `holds` of the cluster.
    async fn until(&self, what: &str, holds: impl Fn(&mut State) -> bool) {
        let began = Instant::now();
        while !self.with(&holds) {
            assert!(
                began.elapsed() < LIMIT,
                "{what} did not come: {:?}",
                self.with(|state| state.told.clone())
            );
            sleep(Duration::from_millis(100)).await;
        }
    }

    async fn running(&self) -> String {
        docker(&["ps", "--quiet", "--filter", &format!("label={}", self.label)]).await
    }

    /// Waits until it has looked at what runs so often again.
    async fn rounds(&self, count: usize) {
        let wanted = self.with(|state| state.rounds) + count;
        self.until("a look of ECS", |state| state.rounds >= wanted).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stand_in_takes_tasks_from_a_drained_instance_and_places_none_before_it_is_active() {
    let mut cluster = Cluster::start(label("obeys")).await;
    let scratch = tempfile::tempdir().expect("a directory");
    let port = crate::support::port::own();
    cluster.replaces(scratch.path().display().to_string(), port);
    let started = |count: usize| move |state: &mut State| state.started.len() == count;
    cluster.until("a task", started(1)).await;
    for (count, taken, given) in [
        (1, json!({"status": "DRAINING"}), json!({"status": "ACTIVE"})),
        (2, json!({"attributes": [{"value": "false"}]}), json!({"attributes": [{"value": "true"}]})),
    ] {
        let ask = |body: &Value| {
            let operation = if count == 1 { "UpdateContainerInstancesState" } else { "PutAttributes" };
            cluster.with(|state| asked(state, &format!("{operation}\r\n\r\n{body}")));
        };
        ask(&taken);
        // A drain stops what runs; without the attribute, what ended is not replaced.
        if count == 2 {
            docker(&["stop", "--time", "2", &cluster.running().await]).await;
        }
        cluster.rounds(6).await;
        assert_eq!(
            (cluster.running().await.as_str(), cluster.with(|state| state.started.len())),
            ("", count)
        );
        ask(&given);
        cluster.until("the next task", started(count + 1)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_host_whose_mount_came_back_gets_its_tasks_again_from_a_new_agent_too() {
    let mut cluster = Cluster::start(label("drain")).await;
    let scratch = tempfile::tempdir().expect("a directory");
    let metadata = metadata(&[]);
    let mut world = member("drain", &mut cluster, &metadata, systemctl(scratch.path()));
    world.start();
    world.until("health", |status| status["health"] == "healthy").await;
    for renewed in [false, true] {
        // Nothing can be mounted on a directory that is not empty.
        let in_the_way = world.point().join("in-the-way");
        let began = Instant::now();
        loop {
            mount::detach(&world.point()).expect("detached");
            if std::fs::write(&in_the_way, "").is_ok() {
                break;
            }
            assert!(began.elapsed() < LIMIT, "it is mounted again each time");
        }
        cluster.until("the drain", |state| state.drained && state.ready.as_deref() == Some("false")).await;
        let began = Instant::now();
        while !cluster.running().await.is_empty() {
            assert!(began.elapsed() < LIMIT, "ECS takes its task away");
            sleep(Duration::from_millis(100)).await;
        }
        if renewed {
            let mut killed = world.agent.take().expect("it runs");
            killed.kill().expect("it runs");
            tokio::task::spawn_blocking(move || killed.wait()).await.expect("waited").expect("ended");
        }
        std::fs::remove_file(&in_the_way).expect("removed");
        let struck = Instant::now();
        if renewed {
            world.start();
        }
        cluster.until("the end of the drain", |state| !state.drained).await;
        world.until("health", |status| status["health"] == "healthy").await;
        assert_eq!(cluster.with(|state| state.ready.clone()).as_deref(), Some("true"));
        assert!(world.serves().await);
        println!("mount back, new agent {renewed}: tasks back after {:.1} s", struck.elapsed().as_secs_f64());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_is_another_host_is_not_marked_whoever_says_that_it_is_this_one() {
    let mut cluster = Cluster::start(label("stranger")).await;
    cluster.with(|state| {
        (state.ec2, state.drained, state.ready) = ("i-0a".to_owned(), true, Some("false".to_owned()))
    });
    let scratch = tempfile::tempdir().expect("a directory");
    let metadata = metadata(&[]);
    let mut world = member("stranger", &mut cluster, &metadata, systemctl(scratch.path()));
    world.start();
    let words = format!("the ECS agent names instance i-0a, this host is {HOST}");
    world.until("the fault", |status| status["first_fault"]["cause"].to_string().contains(&words)).await;
    // As long as it takes to mark one that is this host, several times over.
    cluster.rounds(30).await;
    assert_eq!(cluster.with(|state| state.told.clone()), Vec::<String>::new());
    cluster.with(|state| state.ec2 = HOST.to_owned());
    cluster.until("the end of the drain", |state| !state.drained).await;
    world.until("health", |status| status["health"] == "healthy").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_of_ecs_are_stopped_for_ecs_to_replace_and_its_agent_is_helped() {
    let mut cluster = Cluster::start(label("ecs")).await;
    let scratch = tempfile::tempdir().expect("a directory");
    let metadata = metadata(&[]);
    let mut world = member("ecs", &mut cluster, &metadata, systemctl(scratch.path()));
    let point = world.point();
    cluster.until("a task", |state| !state.started.is_empty()).await;
    println!("ECS has started a container before anything is mounted");
    world.start();
    let (status, took) = world.until("health", |status| status["health"] == "healthy").await;
    assert!(cluster.with(|state| state.started.len()) >= 2, "{status:#}");
    assert!(world.serves().await);
    println!(
        "the container on no mount was stopped, ECS has replaced it: healthy after {:.1} s",
        took.as_secs_f64()
    );

    let before = cluster.with(|state| state.started.len());
    mount::abort(device(&point)).expect("aborted");
    world.until("the fault", |status| status["health"] != "healthy").await;
    let (_, took) = world.until("health", |status| status["health"] == "healthy").await;
    assert_eq!(cluster.with(|state| state.started.len()), before + 1);
    assert!(world.serves().await);
    println!(
        "mount aborted: mounted again, container stopped and replaced by ECS after {:.1} s",
        took.as_secs_f64()
    );

    cluster.with(|state| state.connected = false);
    let told = scratch.path().join("systemctl.told");
    let (_, took) = world.until("a restart of the agent", |_| told.exists()).await;
    cluster.with(|state| state.connected = true);
    world.until("health", |status| status["health"] == "healthy").await;
    println!("ECS agent not heard: systemctl {} after {:.1} s", said(&told), took.as_secs_f64());

    std::fs::remove_file(&told).expect("removed");
    cluster.with(|state| state.registered = false);
    let (_, took) = world.until("a new registration", |_| said(&told).contains("start")).await;
    cluster.with(|state| state.registered = true);
    world.until("health", |status| status["health"] == "healthy").await;
    println!("instance unknown to the cluster: systemctl {} after {:.1} s", said(&told), took.as_secs_f64());

    let log = std::fs::read_to_string(world.log()).expect("readable");
    for never in ["action=\"restart\"", "action=\"start\"", "action=\"create\"", "action=\"recreate\""] {
        assert!(!log.contains(never), "{never}: {log}");
    }
    for line in log.lines().filter(|line| line.contains("repair done")) {
        println!("  {line}");
    }
    let container = cluster.with(|state| state.started.last().cloned()).expect("one runs");
    assert_eq!(docker(&["inspect", "--format", "{{.RestartCount}}", &container]).await, "0");
}

fn said(told: &std::path::Path) -> String {
    std::fs::read_to_string(told).unwrap_or_default().trim().replace('\n', "; ")
}
