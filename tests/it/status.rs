//! `mapkeeper status` as people and programs meet it: at once whatever hangs, on one screen, in the published shape.
//!
//! Everything is real. Needs root, `/dev/fuse`, Docker, the image `mapserver:8` and Debian's python3-jsonschema.

use crate::support::world;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use mapkeeper::host::mount;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use s3_testbed::{Refusal, Server};
use serde_json::Value;
use tokio::time::Instant;

use world::{HEALTH_MAP, Kit, World, output};

/// Validates documents, one a line, against the published schema; says which does not fit.
const VALIDATE: &str = "
import json, sys
from jsonschema import Draft202012Validator
schema = json.load(open(sys.argv[1]))
Draft202012Validator.check_schema(schema)
validator = Draft202012Validator(schema)
documents = [json.loads(line) for line in open(sys.argv[2])]
faults = [f'{number}: {fault.json_path}: {fault.message}' for number, document in enumerate(documents) for fault in validator.iter_errors(document)]
print(len(documents), *faults, sep='\\n')
sys.exit(bool(faults))
";

/// Shows the screen of a fault, and holds what is true of every screen.
async fn screen(world: &World, what: &str) -> String {
    let shown = output(world.mapkeeper().arg("status")).await;
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    println!("== {what}\n{text}[exit {}]\n", shown.status.code().unwrap_or(-1));
    assert!(text.chars().count() <= 2500, "{} characters", text.chars().count());
    assert!(text.lines().all(|line| line.chars().count() < 80), "{text}");
    assert!(!text.contains('\x1b'), "no colour where nobody sees it");
    text
}

/// The first fault is told with these words in its cause and in its cure.
fn tells(text: &str, cause: &str, cure: &str) {
    let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(flat.contains(cause), "{text}");
    let (_, hint) = flat.split_once("hint: ").unwrap_or_else(|| panic!("no cure: {text}"));
    assert!(hint.contains(cure), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_fault_is_on_the_screen_with_its_cause_and_cure_in_the_published_shape() {
    let mut world = World::prepared("screens", Kit::default());
    let mut documents = vec![world.status().await];
    assert_eq!(documents[0]["standing"], "absent");
    world.start();
    world.until("health", |status| status["health"] == "healthy").await;
    let healthy = screen(&world, "healthy").await;
    for line in [
        "credentials",
        "bucket of mapfiles",
        "mount mapfiles",
        "docker",
        "fresh    mapfiles: ",
        "s3  ",
        "agent    0.",
    ] {
        assert!(healthy.contains(line), "{line}: {healthy}");
    }
    documents.push(world.status().await);

    world
        .server()
        .store()
        .put("maps", "health.map", HEALTH_MAP.replace("EXTENT", "EXTNT"), &[])
        .expect("stored");
    world.until("the map", |status| status["first_fault"]["trigger"] == "map_broken").await;
    tells(&screen(&world, "mapfile broken").await, "broken at line 5, near \"EXTNT\"", "correct the mapfile");
    documents.push(world.status().await);
    world.server().store().put("maps", "health.map", HEALTH_MAP, &[]).expect("stored");
    world.until("health", |status| status["health"] == "healthy").await;

    documents.extend(faults_of_s3(&mut world).await);

    assert!(output(world.mapkeeper().arg("pause")).await.status.success());
    mount::detach(&world.point()).expect("detached");
    world.until("the loss", |status| status["first_fault"]["target"]["kind"] == "mount").await;
    let lost = screen(&world, "mount gone, repairs paused").await;
    tells(&lost, "mount mapfiles: ", "mapkeeper resume has it repaired");
    assert!(lost.contains("paused: nothing is repaired until mapkeeper resume"), "{lost}");
    documents.push(world.status().await);
    assert!(output(world.mapkeeper().arg("resume")).await.status.success());
    world.until("health", |status| status["health"] == "healthy").await;

    let mut agent = world.agent.take().expect("it runs");
    agent.kill().expect("killed");
    tokio::task::spawn_blocking(move || agent.wait()).await.expect("waited").expect("ended");
    tells(
        &screen(&world, "agent killed").await,
        "mapkeeper: not running; last known: healthy",
        "systemctl start mapkeeper",
    );
    documents.push(world.status().await);
    world.start();
    let (after, _) = world.until("health", |status| status["health"] == "healthy").await;
    documents.push(after);
    world.end().await;
    validated(&documents);
}

/// S3 refuses, and S3 is away: what `status` says of each.
async fn faults_of_s3(world: &mut World) -> [Value; 2] {
    world.server().control().refuse_all(Some(Refusal::AccessDenied));
    world.until("the refusal", |status| status["first_fault"]["trigger"] == "store_refuses").await;
    tells(
        &screen(world, "S3 refuses").await,
        "access to \"maps\" is denied (AccessDenied)",
        "allow s3:ListBucket",
    );
    let refused = world.status().await;
    world.server().control().refuse_all(None);
    world.until("health", |status| status["health"] == "healthy").await;

    let stopped = world.server.take().expect("it runs").stop().await;
    world.until("the outage", |status| status["first_fault"]["trigger"] == "store_away").await;
    tells(&screen(world, "S3 away").await, "bucket of mapfiles: ", "check the endpoint");
    let away = world.status().await;
    world.server = Some(Server::start(stopped).expect("started again"));
    world.until("health", |status| status["health"] == "healthy").await;
    [refused, away]
}

fn validated(documents: &[Value]) {
    let scratch = tempfile::tempdir().expect("a directory");
    let lines: Vec<String> = documents.iter().map(Value::to_string).collect();
    let file = scratch.path().join("documents");
    std::fs::write(&file, lines.join("\n")).expect("written");
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/status.schema.json");
    let validate = |file: &Path| {
        let judged = Command::new("/usr/bin/python3").args(["-c", VALIDATE]).arg(&schema).arg(file).output();
        let judged = judged.expect("python3");
        (
            judged.status.success(),
            String::from_utf8_lossy(&[judged.stdout, judged.stderr].concat()).into_owned(),
        )
    };
    let (fits, said) = validate(&file);
    assert!(fits && said.starts_with(&documents.len().to_string()), "{said}");
    // The schema is not so kind that anything fits.
    let mut wrong = documents[1].clone();
    wrong["links"][0]["state"] = "splendid".into();
    std::fs::write(&file, wrong.to_string()).expect("written");
    assert!(!validate(&file).0);
}

/// P9.
#[tokio::test(flavor = "multi_thread")]
async fn status_answers_at_once_while_s3_docker_and_the_mount_hang() {
    let world = World::healthy("hang").await;
    // S3 takes requests and answers none. The agent is stopped, and with it the mount that it serves; to `status` Docker
    // is a socket at which nobody answers.
    world.server().control().hold_from(0);
    let agent = Pid::from_raw(world.agent.as_ref().expect("it runs").id() as i32);
    kill(agent, Signal::SIGSTOP).expect("it runs");
    let socket = world.scratch.path().join("docker.sock");
    let _silent = std::os::unix::net::UnixListener::bind(&socket).expect("bound");
    let mut stuck =
        Command::new("ls").arg(world.point()).stdout(std::process::Stdio::null()).spawn().expect("started");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(stuck.try_wait().expect("asked").is_none(), "the mount hangs");
    let mut took = Vec::new();
    for _ in 0..21 {
        let mut status = world.mapkeeper();
        status.env("DOCKER_HOST", format!("unix://{}", socket.display())).arg("status");
        let began = Instant::now();
        let shown = output(&mut status).await;
        took.push(began.elapsed());
        assert!(String::from_utf8_lossy(&shown.stdout).starts_with("mapkeeper: "), "{shown:?}");
    }
    took.sort();
    println!("status while all hangs: median {:?}, slowest {:?}", took[10], took[20]);
    // The machine of a test does other things as well: half of them have to keep the promise, none may wait for what hangs.
    assert!(took[10] < Duration::from_millis(100), "{took:?}");
    assert!(took[20] < Duration::from_secs(2), "{took:?}");
    kill(agent, Signal::SIGCONT).expect("it is there");
    world.server().control().release();
    tokio::task::spawn_blocking(move || stuck.wait()).await.expect("waited").expect("ended");
    world.until("health", |status| status["health"] == "healthy").await;
    world.end().await;
}
