//! The agent on a real host: each fault is made, and is repaired without a person.
//!
//! Everything is real: FUSE through the kernel, Docker Engine, MapServer, an S3 server, `mapkeeper run` as a process of
//! its own, asked by `status --json`. Needs root, `/dev/fuse`, Docker and the image `mapserver:8`.
//!
//! `table.rs` makes every fault of the table in `docs/operating.md`, measures it, and compares what became of the
//! container; `FAULTS_WRITE=1` writes the table anew.

mod ecs;
mod engine;
mod machine;
mod survival;
mod table;

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bucketfs::mountinfo::MountTable;
use mapkeeper::host::mount;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use s3_testbed::Server;
use serde_json::Value;
use std::path::Path;
use tokio::time::{Instant, sleep};

use crate::support::world::{HEALTH_MAP, Kit, World, device, is_mounted, output};

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
async fn a_mount_hidden_by_one_over_its_parent_serves_on_and_is_left_alone() {
    let world = World::healthy("hidden").await;
    let started = world.docker(&["inspect", "--format", "{{.State.StartedAt}}"]).await;
    let mounted = device(&world.point());
    let point = world.point();
    let parent = point.parent().expect("it has one");
    let over = output(Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(parent)).await;
    assert!(over.status.success(), "{}", String::from_utf8_lossy(&over.stderr));
    let named = format!("hidden by tmpfs at {}", parent.display());
    let told = |status: &Value| status["first_fault"]["cause"].to_string().contains(&named);
    world.until("the name of what hides it", told).await;
    // Longer than a mount that fails is waited for.
    let looks = Instant::now();
    while looks.elapsed() < Duration::from_secs(12) {
        let status = world.status().await;
        assert_eq!((&status["acting"], &status["last_failure"]), (&Value::Null, &Value::Null), "{status:#}");
        assert!(world.serves().await, "the container holds the mount: {status:#}");
        sleep(Duration::from_millis(500)).await;
    }
    assert!(output(Command::new("umount").arg(parent)).await.status.success());
    world.until("health", |status| status["health"] == "healthy").await;
    assert_eq!(device(&world.point()), mounted);
    assert_eq!(world.docker(&["inspect", "--format", "{{.State.StartedAt}}"]).await, started);
    world.end().await;
}

/// Passes on what it is asked, so many milliseconds later, to a port that is told once it is known.
async fn passes_on(listener: tokio::net::TcpListener, port: Arc<AtomicU64>, late_ms: Arc<AtomicU64>) {
    loop {
        let (mut asked, _) = listener.accept().await.expect("accepted");
        let (port, late) = (port.load(Relaxed) as u16, Duration::from_millis(late_ms.load(Relaxed)));
        tokio::spawn(async move {
            sleep(late).await;
            if let Ok(mut service) = tokio::net::TcpStream::connect(("127.0.0.1", port)).await {
                let _ = tokio::io::copy_bidirectional(&mut asked, &mut service).await;
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_answers_late_is_told_to_be_slow_and_never_restarted() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let probe_port = Some(listener.local_addr().expect("bound").port());
    let (port, late_ms) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let kit = Kit { probe: "interval = \"1s\"\ntimeout = \"1s\"", probe_port, ..Kit::default() };
    let mut world = World::prepared("slow", kit);
    port.store(u64::from(world.port), Relaxed);
    let passing = tokio::spawn(passes_on(listener, port, late_ms.clone()));
    world.start();
    world.until("the first health", |status| status["health"] == "healthy").await;
    let started = world.docker(&["inspect", "--format", "{{.State.StartedAt}}"]).await;
    late_ms.store(1_300, Relaxed);
    let slow = |status: &Value| {
        let text = status["first_fault"].to_string();
        status["health"] == "degraded" && text.contains("answers after") && text.contains("1.0 s")
    };
    world.until("how slow it is", slow).await;
    // Longer than a service that is silent is waited for.
    let looks = Instant::now();
    while looks.elapsed() < Duration::from_secs(35) {
        let status = world.status().await;
        assert_eq!((&status["acting"], &status["last_failure"]), (&Value::Null, &Value::Null), "{status:#}");
        assert_eq!(world.docker(&["inspect", "--format", "{{.State.StartedAt}}"]).await, started);
        sleep(Duration::from_millis(500)).await;
    }
    late_ms.store(0, Relaxed);
    world.until("health", |status| status["health"] == "healthy").await;
    assert_eq!(world.docker(&["inspect", "--format", "{{.State.StartedAt}}"]).await, started);
    passing.abort();
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
        // The first that ask after S3 has gone wait for it, each for some seconds.
        let served = world.serves().await || world.serves().await;
        assert!(served, "a map that is known is served: {status:#}");
        sleep(Duration::from_millis(500)).await;
    }
    world.server = Some(Server::start(stopped).expect("started again"));
    world.until("health", |status| status["health"] == "healthy").await;
    assert_eq!(world.docker(&["inspect", "--format", "{{.State.StartedAt}}"]).await, started);
    assert_eq!(device(&world.point()), mounted);
    world.end().await;
}
