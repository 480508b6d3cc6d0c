//! Credentials that change under load: Secrets Manager played by moto, an S3 server that takes only the keys that are
//! good at that moment, `mapkeeper run` in between, and readers that notice every error.
//!
//! Needs root and `/dev/fuse`.

use crate::support::agent;
use crate::support::aws as support;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use agent::Agent;
use aws_sdk_secretsmanager::Client;
use s3_testbed::ACCESS_KEY;
use serde_json::Value;
use support::Moto;
use tokio::process::Command;
use tokio::time::{Instant, sleep};

const ROTATIONS: u32 = 50;
const READERS: usize = 3;

/// An agent whose keys come from the secret `maps/s3`.
struct World {
    agent: Agent,
    moto: Moto,
    client: Client,
}

impl World {
    async fn new(refresh: &str) -> World {
        let moto = Moto::start(&[]);
        let client = Client::new(&moto.sdk().await);
        let mut agent = Agent::new();
        agent.variables = [
            ("AWS_ACCESS_KEY_ID", "test".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
            ("AWS_ENDPOINT_URL_SECRETS_MANAGER", moto.url()),
            ("MAPKEEPER_LOG", "trace".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec();
        let credentials = format!("[credentials]\nsecret = \"maps/s3\"\nrefresh = \"{refresh}\"\n");
        agent.write(&(credentials + &agent.mount("maps", "freshness = \"0s\"")));
        // Only keys of the secret are good.
        agent.server.control().revoke_key(ACCESS_KEY);
        World { agent, moto, client }
    }

    async fn create(&self, id: &str, key: &str) -> String {
        let value = format!(r#"{{"access_key_id":"{id}","secret_access_key":"{key}"}}"#);
        let created = self.client.create_secret().name("maps/s3").secret_string(value).send().await;
        created.expect("moto creates a secret").version_id.expect("it has a version")
    }

    async fn put(&self, id: &str, key: &str) -> String {
        let value = format!("{id}:{key}");
        let put = self.client.put_secret_value().secret_id("maps/s3").secret_string(value).send().await;
        put.expect("moto stores a value").version_id.expect("it has a version")
    }

    /// What the status says of the credentials.
    fn credentials(status: &Value) -> String {
        let links = status["links"].as_array().map(Vec::as_slice).unwrap_or_default();
        let link = links.iter().find(|link| link["kind"] == "credentials" || link["target"] == "credentials");
        link.or_else(|| links.first()).and_then(|link| link["detail"].as_str()).unwrap_or_default().to_owned()
    }

    /// Waits until requests are signed with this version.
    async fn until_version(&self, version: &str) {
        let began = Instant::now();
        let switched = |line: &str| line.contains("credentials changed") && line.contains(version);
        while !self.agent.said().lines().any(switched) {
            assert!(began.elapsed() < agent::LIMIT, "{version} is not used:\n{}", self.agent.said());
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Reads the same file again and again in a process of its own; `[reads, errors]`.
struct Readers {
    stop: Arc<AtomicBool>,
    reads: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<Vec<String>>>,
}

impl Readers {
    fn start(file: PathBuf) -> Readers {
        let (stop, reads) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let tasks = (0..READERS)
            .map(|_| {
                let (stop, reads, file) = (stop.clone(), reads.clone(), file.clone());
                tokio::spawn(async move {
                    let mut errors = Vec::new();
                    while !stop.load(Ordering::Relaxed) {
                        // Twenty opens to one process: the shell is not what is measured.
                        let script = "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do read -r x <\"$0\" || true; [ \"$x\" = maps ] || { echo \"read: $x\" >&2; exit 1; }; done";
                        let ended = Command::new("sh").args(["-c", script]).arg(&file).output().await;
                        let ended = ended.expect("a shell");
                        reads.fetch_add(20, Ordering::Relaxed);
                        if !ended.status.success() {
                            errors.push(String::from_utf8_lossy(&ended.stderr).into_owned());
                        }
                    }
                    errors
                })
            })
            .collect();
        Readers { stop, reads, tasks }
    }

    async fn end(self) -> (u64, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let mut errors = Vec::new();
        for task in self.tasks {
            errors.extend(task.await.expect("a reader ends"));
        }
        (self.reads.load(Ordering::Relaxed), errors)
    }
}

#[tokio::test]
async fn fifty_rotations_under_load_fail_no_read_and_a_wrong_secret_never_replaces_a_working_one() {
    let mut world = World::new("1s").await;
    let control = world.agent.server.control();
    control.accept_key("AKIAROTATION0", "secret-0");
    world.create("AKIAROTATION0", "secret-0").await;
    world.agent.start();
    world.agent.healthy().await;
    let readers = Readers::start(world.agent.point("maps").join("file"));
    let (began, mut abrupt, mut wrong) = (Instant::now(), 0, 0);
    for number in 1..=ROTATIONS {
        if number % 10 == 0 {
            // Well-formed, and no key of this server.
            world.put("AKIANOBODYKNOWS", "hunter2").await;
            wrong += 1;
            let refused = |agent: &Agent| agent.said().matches("credentials not refreshed").count();
            let looked = Instant::now();
            while refused(&world.agent) < wrong {
                assert!(looked.elapsed() < agent::LIMIT, "the wrong secret is not looked at");
                sleep(Duration::from_millis(20)).await;
            }
            // A look at the bucket may just be waiting for the key after the one that was revoked.
            world.agent.healthy().await;
        }
        let (old, new) = (format!("AKIAROTATION{}", number - 1), format!("AKIAROTATION{number}"));
        control.accept_key(&new, &format!("secret-{number}"));
        let version = world.put(&new, &format!("secret-{number}")).await;
        if number % 2 == 0 {
            // The old key ends at once: a request that is refused has to find the new one.
            abrupt += 1;
            control.revoke_key(&old);
        }
        world.until_version(&version).await;
        control.revoke_key(&old);
    }
    let took = began.elapsed();
    let (reads, errors) = readers.end().await;
    println!(
        "{ROTATIONS} rotations in {:.1} s, {abrupt} of them with the old key revoked at once, {wrong} wrong secrets: \
         {reads} reads, {} failed",
        took.as_secs_f64(),
        errors.len()
    );
    assert_eq!(errors, Vec::<String>::new());
    assert!(reads > 1000, "{reads} reads are no load");
    let said = world.agent.said();
    assert!(said.contains("credentials not refreshed") && said.contains("is refused by the store"), "{said}");
    world.agent.end().await;
}

#[tokio::test]
async fn the_previous_version_serves_while_the_current_one_is_wrong_and_a_pending_one_is_never_used() {
    let mut world = World::new("1s").await;
    let control = world.agent.server.control();
    control.accept_key("AKIAGOOD", "good");
    let good = world.create("AKIAGOOD", "good").await;
    world.put("AKIAWRONG", "wrong").await;
    // In the middle of a rotation there is a third one, which nobody has tested.
    control.accept_key("AKIAPENDING", "pending");
    let pending = world.client.put_secret_value().secret_id("maps/s3").secret_string("AKIAPENDING:pending");
    pending.version_stages("AWSPENDING").send().await.expect("moto stores a value");
    world.agent.start();
    let status = world.agent.healthy().await;
    let told = World::credentials(&status);
    assert!(told.contains(&good) && told.contains("(AWSPREVIOUS), from secret \"maps/s3\""), "{told}");
    assert!(world.agent.said().contains("the current version is refused, the previous one is used"));
    control.accept_key("AKIANEXT", "next");
    let next = world.put("AKIANEXT", "next").await;
    world.until_version(&next).await;
    world.agent.end().await;
}

/// Every file below a directory that holds `needle`.
fn found_in(directory: &std::path::Path, needle: &str) -> Vec<PathBuf> {
    let output = std::process::Command::new("grep").args(["-rla", needle]).arg(directory).output();
    let text = String::from_utf8_lossy(&output.expect("grep").stdout).into_owned();
    text.lines().map(PathBuf::from).collect()
}

#[tokio::test]
async fn looking_more_often_is_no_reason_to_mount_again() {
    let mut world = World::new("1d").await;
    world.agent.server.control().accept_key("AKIAONE", "one");
    world.create("AKIAONE", "one").await;
    world.agent.start();
    world.agent.healthy().await;
    let device = world.agent.device("maps");
    world.agent.server.control().accept_key("AKIATWO", "two");
    let second = world.put("AKIATWO", "two").await;
    let text = std::fs::read_to_string(world.agent.file()).expect("readable");
    std::fs::write(world.agent.file(), text.replace("\"1d\"", "\"1s\"")).expect("written");
    world.agent.signal(nix::sys::signal::Signal::SIGHUP);
    world.until_version(&second).await;
    let status = world.agent.healthy().await;
    assert!(status.to_string().contains("credentials is set anew"), "{status:#}");
    assert_eq!(world.agent.device("maps"), device);
    assert_eq!(world.agent.said().matches("mount serves").count(), 1, "{}", world.agent.said());
    world.agent.end().await;
}

#[tokio::test]
async fn the_secret_is_in_no_file_environment_log_status_or_core_dump() {
    const NEEDLE: &str = "hunter2NeverSeenOutside0123456789";
    let mut world = World::new("1s").await;
    world.agent.server.control().accept_key("AKIAHIDDEN", NEEDLE);
    world.create("AKIAHIDDEN", NEEDLE).await;
    world.agent.start();
    let from_secret = |status: &serde_json::Value| status.to_string().contains("from secret");
    world.agent.until("word of the secret", from_secret).await;
    world.agent.healthy().await;
    assert!(!world.agent.status().await.to_string().contains(NEEDLE));
    let pid = world.agent.pid();
    let proc = PathBuf::from(format!("/proc/{pid}"));
    for file in ["environ", "cmdline", "status", "mountinfo"] {
        let content = std::fs::read(proc.join(file)).expect("readable by root");
        assert!(!String::from_utf8_lossy(&content).contains(NEEDLE), "{file}");
    }
    assert_eq!(found_in(world.agent.scratch.path(), NEEDLE), Vec::<PathBuf>::new());
    for descriptor in std::fs::read_dir(proc.join("fd")).expect("readable by root").flatten() {
        // Regular files only: reading from a pipe or a device would take from the process.
        if descriptor.path().metadata().is_ok_and(|found| found.is_file()) {
            let content = std::fs::read(descriptor.path()).unwrap_or_default();
            assert!(!String::from_utf8_lossy(&content).contains(NEEDLE), "{:?}", descriptor.path());
        }
    }
    let filter = std::fs::read_to_string(proc.join("coredump_filter")).expect("readable by root");
    assert_eq!(filter.trim(), "00000000");
    // Somebody raises the limit, where that is allowed, and it crashes: even so there is no core.
    let limit = format!("--pid={pid}");
    let raised = std::process::Command::new("prlimit").args([&limit, "--core=unlimited"]).output();
    println!("limit of core dumps raised: {}", raised.expect("prlimit").status.success());
    world.agent.signal(nix::sys::signal::Signal::SIGABRT);
    let mut process = world.agent.process.take().expect("it runs");
    let ended = tokio::task::spawn_blocking(move || process.wait()).await.expect("waited").expect("ended");
    use std::os::unix::process::ExitStatusExt;
    println!("killed by signal {:?}, core dumped: {}", ended.signal(), ended.core_dumped());
    assert_eq!((ended.signal(), ended.core_dumped()), (Some(6), false));
    assert_eq!(found_in(world.agent.scratch.path(), NEEDLE), Vec::<PathBuf>::new());
    drop(world.moto);
}
