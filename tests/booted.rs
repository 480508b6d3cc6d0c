//! The service under systemd 252, the version of the stock ECS AMI: it works in its sandbox, and whatever ends the agent,
//! the mount stays.
//!
//! A container whose first process is systemd, made by `tests/boot/build`, with our unit as it is and this program. Needs
//! root, `/dev/fuse` and a Docker Engine.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use support::{Host, Kit, Reach};

#[path = "support/booted.rs"]
mod support;

/// A container that takes itself for a host.
struct Container {
    name: String,
}

impl Container {
    fn boot(kit: &Kit) -> Container {
        let built = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/boot/build")).status();
        assert!(built.expect("started").success(), "the image of the host");
        let container = Container { name: format!("mapkeeper-host-{}", std::process::id()) };
        let share = format!("{}:/share", kit.share.path().display());
        let mut run = Command::new("docker");
        run.args(["run", "--detach", "--name", &container.name, "--cgroupns=private", "--cap-add=ALL"]);
        run.args(["--cap-drop=SYS_RESOURCE", "--security-opt=seccomp=unconfined"]);
        run.args(["--security-opt=apparmor=unconfined", "--device=/dev/fuse", "--network=host"]);
        run.args(["--memory=500m", "--memory-swap=500m", "--tmpfs=/run", "--tmpfs=/tmp", "--volume", &share]);
        let output = run.arg("mapkeeper-host:12").output().expect("started");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        container
    }
}

impl Reach for Container {
    fn run(&self, command: &str) -> Output {
        let mut docker = Command::new("docker");
        docker.args(["exec", &self.name, "timeout", "60", "bash", "-c", command]).output().expect("started")
    }

    fn limit(&self) -> Duration {
        Duration::from_secs(60)
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = Command::new("docker").args(["rm", "--force", "--volumes", &self.name]).output();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mount_outlives_every_end_of_the_agent_and_ends_with_the_service() {
    let kit = Kit::new("127.0.0.1", "10s", false);
    let host = Host::install(Container::boot(&kit), kit).await;
    host.sh("systemctl start mapkeeper && mapkeeper wait --timeout 30s");
    is_sandboxed(&host);
    host.outlives_everything().await;
}

/// The sandbox of the unit, as systemd sees it, and that the agent lives in it with the host's own mounts.
fn is_sandboxed(host: &Host<Container>) {
    // Of a unit without a fault nothing is said.
    assert_eq!(host.says("systemd-analyze verify mapkeeper.service 2>&1"), (String::new(), true));
    let (shown, is_low) = host.says("systemd-analyze security --no-pager --threshold=40 mapkeeper.service");
    println!("{shown}");
    assert!(is_low, "the exposure is above 4.0");
    let agent = host.agent();
    let state = host.sh(&format!("grep -E '^(Seccomp|NoNewPrivs|CapBnd):' /proc/{agent}/status"));
    assert!(state.contains("Seccomp:\t2") && state.contains("NoNewPrivs:\t1"), "{state}");
    // SYS_ADMIN, DAC_READ_SEARCH, DAC_OVERRIDE.
    assert!(state.contains("CapBnd:\t0000000000200006"), "{state}");
    let namespace = |process: &str| host.sh(&format!("readlink /proc/{process}/ns/mnt"));
    assert_eq!(namespace(&agent), namespace("1"), "the mounts of the agent are not the host's");
}
