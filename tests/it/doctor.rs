//! `mapkeeper doctor` on a host that serves, on one where everything hangs, and on one where nothing is as it should be.
//!
//! Everything is real. Needs root, `/dev/fuse`, Docker and the image `mapserver:8`.

use crate::support::world;

use crate::support::stand_in;

use std::collections::BTreeMap;
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use world::{Kit, World, output};

/// What `doctor --json` says, by the name of the check.
struct Checks {
    all: Vec<Value>,
    code: i32,
}

impl Checks {
    async fn of(mut command: Command) -> Checks {
        let output = output(&mut command).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let json: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("no JSON: {said}"));
        let all = json["checks"].as_array().expect("checks").clone();
        Checks { all, code: output.status.code().unwrap_or(-1) }
    }

    fn grade(&self, name: &str) -> &str {
        let check = self.all.iter().find(|check| check["name"] == name);
        check
            .and_then(|check| check["grade"].as_str())
            .unwrap_or_else(|| panic!("no check {name}: {:#?}", self.all))
    }

    fn text(&self, name: &str) -> String {
        let check = self.all.iter().find(|check| check["name"] == name).expect("it is there");
        format!("{} {}", check["detail"], check["hint"])
    }

    /// Whoever is told that something is faulty is told the cure.
    fn assert_whole(&self) {
        let names: BTreeMap<_, _> = self.all.iter().map(|check| (check["name"].to_string(), ())).collect();
        assert!(names.len() >= 25, "{} checks: {:?}", names.len(), names.keys());
        for check in self.all.iter().filter(|check| check["grade"] != "ok") {
            assert!(check["hint"].as_str().is_some_and(|hint| !hint.is_empty()), "no cure: {check:#}");
        }
        assert_eq!(self.code, i32::from(self.all.iter().any(|check| check["grade"] == "fail")));
    }
}

fn doctor(world: &World, json: bool) -> Command {
    let mut command = world.mapkeeper();
    command.arg("doctor").arg("--config").arg(world.config()).args(json.then_some("--json"));
    command
}

/// What a look must not change: mounts, containers, files of the scratch directory.
async fn state(world: &World) -> (String, String, Vec<String>) {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("readable");
    let ours = mounts.lines().filter(|line| line.contains(&world.scratch.path().display().to_string()));
    let container =
        world.docker(&["inspect", "--format", "{{.Id}} {{.State.StartedAt}} {{.RestartCount}}"]).await;
    let entries = std::fs::read_dir(world.scratch.path()).expect("readable");
    let mut files: Vec<_> =
        entries.map(|entry| entry.expect("readable").path().display().to_string()).collect();
    files.sort();
    (ours.collect(), container, files)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_serves_fails_no_check_of_the_chain_and_is_left_as_it_is() {
    let world = World::healthy("doctor").await;
    let before = state(&world).await;
    let keys = world.server().store().keys("maps").expect("keys");
    let checks = Checks::of(doctor(&world, true)).await;
    checks.assert_whole();
    let chain = [
        "configuration",
        "user",
        "/dev/fuse",
        "credentials",
        "dns",
        "connection to S3",
        "bucket",
        "s3:ListBucket",
        "s3:GetObject",
        "clock against S3",
        "headers in bucket",
        "mount point",
        "mount answers",
        "docker socket",
        "docker version",
        "image",
        "container",
        "bind",
        "MS_MAP_PATTERN",
        "MS_ERRORFILE",
        "probe",
        "agent",
        "health.listen",
    ];
    for name in chain {
        assert_eq!(checks.grade(name), "ok", "{name}: {}", checks.text(name));
    }
    assert_eq!(state(&world).await, before, "nothing is changed by asking");
    assert_eq!(world.server().store().keys("maps").expect("keys"), keys);
    assert_eq!(world.server().store().open_uploads("maps"), 0);
    let screen = output(&mut doctor(&world, false)).await;
    let screen = String::from_utf8_lossy(&screen.stdout).into_owned();
    println!("$ mapkeeper doctor\n{screen}");
    assert!(screen.lines().all(|line| line.chars().count() < 80), "{screen}");
    assert!(screen.contains(" checks: "), "{screen}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_to_write_is_asked_for_without_writing() {
    let world =
        World::prepared("doctor-write", Kit { mount: "read_only = false".to_owned(), ..Kit::default() });
    let keys = world.server().store().keys("maps").expect("keys");
    let checks = Checks::of(doctor(&world, true)).await;
    assert_eq!(checks.grade("s3:PutObject"), "ok", "{}", checks.text("s3:PutObject"));
    assert!(checks.text("s3:PutObject").contains("allowed"));
    assert_eq!(world.server().store().keys("maps").expect("keys"), keys);
    world.server().control().refuse_all(Some(s3_testbed::Refusal::AccessDenied));
    let checks = Checks::of(doctor(&world, true)).await;
    for name in ["s3:ListBucket", "s3:GetObject", "s3:PutObject"] {
        assert_eq!(checks.grade(name), "fail", "{name}: {}", checks.text(name));
        assert!(checks.text(name).contains("allow s3:"), "{}", checks.text(name));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_is_malformed_wrong_or_right_is_told_apart_and_never_shown() {
    let secrets = stand_in::Secrets::start().await;
    let kit = Kit {
        top: "[credentials]\nsecret = \"maps\"".to_owned(),
        environment: vec![
            ("AWS_ENDPOINT_URL_SECRETS_MANAGER".to_owned(), secrets.endpoint.clone()),
            ("AWS_ACCESS_KEY_ID".to_owned(), "role".to_owned()),
            ("AWS_SECRET_ACCESS_KEY".to_owned(), "role".to_owned()),
        ],
        keys: false,
        ..Kit::default()
    };
    let world = World::prepared("doctor-secret", kit);
    secrets.say("hunter2hunter2hunter2");
    let checks = Checks::of(doctor(&world, true)).await;
    assert_eq!(checks.grade("secret"), "fail", "{}", checks.text("secret"));
    assert!(checks.text("secret").contains("ACCESS_KEY_ID:SECRET_ACCESS_KEY"), "{}", checks.text("secret"));
    assert!(!format!("{:?}", checks.all).contains("hunter2"));
    secrets.say("AKIAWRONG:hunter2hunter2hunter2");
    let checks = Checks::of(doctor(&world, true)).await;
    assert_eq!((checks.grade("secret"), checks.grade("bucket")), ("ok", "fail"), "{}", checks.text("bucket"));
    assert!(checks.text("bucket").contains("check the access key"), "{}", checks.text("bucket"));
    assert!(!format!("{:?}", checks.all).contains("hunter2"));
    secrets.say_right();
    let checks = Checks::of(doctor(&world, true)).await;
    assert_eq!((checks.grade("secret"), checks.grade("s3:ListBucket")), ("ok", "ok"));
    assert!(checks.text("secret").contains("version 1111"), "{}", checks.text("secret"));
    // A port of the container that somebody else has.
    let taken = std::net::TcpListener::bind(("127.0.0.1", world.port)).expect("free");
    let checks = Checks::of(doctor(&world, true)).await;
    let name = format!("port {}", world.port);
    assert_eq!(checks.grade(&name), "fail", "{}", checks.text(&name));
    assert!(checks.text(&name).contains("ss -ltnp"), "{}", checks.text(&name));
    drop(taken);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_hangs_is_told_within_its_deadline_and_holds_up_no_other_check() {
    let mut world = World::prepared("doctor-hang", Kit::default());
    world.server().control().hold_from(0);
    let socket = world.scratch.path().join("docker.sock");
    // Connections are taken into the queue, and nobody ever reads them.
    let _silent = UnixListener::bind(&socket).expect("bound");
    world.kit.engine = Some(format!("unix://{}", socket.display()));
    let began = Instant::now();
    let checks = Checks::of(doctor(&world, true)).await;
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    checks.assert_whole();
    assert_eq!(checks.grade("bucket"), "fail");
    assert!(checks.text("bucket").contains("no answer within"), "{}", checks.text("bucket"));
    assert_eq!(checks.grade("docker socket"), "fail");
    for name in ["configuration", "/dev/fuse", "dns", "connection to S3", "mount point", "credentials"] {
        assert_eq!(checks.grade(name), "ok", "{name}: {}", checks.text(name));
    }
    world.kit.engine = None;
}

/// A place without devices, network, Docker, systemd or a configuration that makes sense.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_on_which_nothing_is_right_is_told_what_to_do() {
    let world = World::prepared("doctor-broken", Kit::default());
    let broken =
        world.settings().replace("[container.probe]", "[ecs]\ncluster = \"maps\"\n[container.probe]");
    let broken =
        broken.replace("memory", "").replace("freshness = \"0s\"", "freshness = \"0s\"\nmemory = \"900GiB\"");
    let broken = broken.replace(&world.server().endpoint(), "http://s3.nowhere.invalid:9000");
    let configuration = world.scratch.path().join("broken.toml");
    std::fs::write(&configuration, broken).expect("written");
    let inside = |more: &[&str]| {
        let mut command = Command::new("docker");
        let program = format!("{}:/usr/bin/mapkeeper:ro", env!("CARGO_BIN_EXE_mapkeeper"));
        let configuration = format!("{}:/etc/mapkeeper/config.toml:ro", configuration.display());
        command.args([
            "run",
            "--rm",
            "--network",
            "none",
            "--user",
            "33",
            "-v",
            &program,
            "-v",
            &configuration,
        ]);
        command.args(["--entrypoint", "/usr/bin/mapkeeper", "mapserver:8", "doctor"]).args(more);
        command
    };
    let screen = output(&mut inside(&[])).await;
    println!("$ mapkeeper doctor\n{}", String::from_utf8_lossy(&screen.stdout));
    let checks = Checks::of(inside(&["--json"])).await;
    checks.assert_whole();
    assert_eq!(checks.code, 1);
    let wrong = [
        ("user", "sudo"),
        ("/dev/fuse", "modprobe fuse"),
        ("credentials", "give the instance a role"),
        ("dns", "endpoint_url"),
        ("memory budget", "lower `memory`"),
        ("docker socket", "docker"),
        ("ecs.config", "mapkeeper bootstrap"),
        ("ecs agent", "ecs"),
        ("gate of ecs.service", "mapkeeper bootstrap"),
        ("probe", "mapkeeper status"),
    ];
    for (name, cure) in wrong {
        assert_eq!(checks.grade(name), "fail", "{name}: {}", checks.text(name));
        assert!(checks.text(name).contains(cure), "{name}: {}", checks.text(name));
    }
    // Without any configuration the host is looked at all the same.
    std::fs::write(&configuration, "nonsense = ").expect("written");
    let checks = Checks::of(inside(&["--json"])).await;
    assert_eq!((checks.grade("configuration"), checks.grade("/dev/fuse")), ("fail", "fail"));
    assert!(checks.text("configuration").contains("line 1"), "{}", checks.text("configuration"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_is_checked_with_those_who_have_what_it_names() {
    let mut world = World::prepared("remote", Kit::default());
    let check = |world: &World| {
        let mut command = world.mapkeeper();
        command.args(["config", "check", "--remote", "--config"]).arg(world.config());
        command
    };
    let right = output(&mut check(&world)).await;
    let said = String::from_utf8_lossy(&right.stdout).into_owned();
    assert!(right.status.success(), "{said}");
    assert!(said.starts_with("the configuration is valid: 1 mount, 1 container\n"), "{said}");
    assert!(
        said.lines().any(|line| line.contains("bucket") && line.trim_start().starts_with("ok")),
        "{said}"
    );
    let settings = world.settings().replace("s3://maps", "s3://elsewhere");
    std::fs::write(world.config(), settings).expect("written");
    let wrong = output(&mut check(&world)).await;
    let said = String::from_utf8_lossy(&wrong.stdout).into_owned();
    assert_eq!(wrong.status.code(), Some(1), "{said}");
    assert!(said.contains("fail") && said.contains("elsewhere") && said.contains("hint: "), "{said}");
    // Nothing was mounted for it, and nothing runs.
    assert!(world.agent.take().is_none() && !world::is_mounted(&world.point()));
}
