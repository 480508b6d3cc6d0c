//! The service under systemd 252, the version of the stock ECS AMI: it works in its sandbox, and whatever ends the agent,
//! the mount stays.
//!
//! So it does from a package, which can be upgraded while it serves, and removed.
//!
//! A container whose first process is systemd, made by `tests/boot/build`, with our unit as it is and this program. Needs
//! root, `/dev/fuse` and a Docker Engine.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use s3_testbed::{ACCESS_KEY, Action, Fault, Operation, SECRET_KEY};
use support::{Host, Kit, OUT_OF_MEMORY, Reach, program};

use crate::kit as support;
use crate::revisions as packages;

/// A container that takes itself for a host.
struct Container {
    name: String,
}

impl Container {
    fn boot(kit: &Kit) -> Container {
        let built = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/boot/build")).status();
        assert!(built.expect("started").success(), "the image of the host");
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let container = Container { name: format!("mapkeeper-host-{}-{number}", std::process::id()) };
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
        docker.args(["exec", &self.name, "timeout", "180", "bash", "-c", command]).output().expect("started")
    }

    fn limit(&self) -> Duration {
        Duration::from_secs(180)
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
    host.sh("systemctl start mapkeeper && mapkeeper wait --timeout 150s");
    is_sandboxed(&host);
    host.outlives_everything().await;
}

/// How long the store takes to list, which a first look does twice; and the longest pause of a reader beside what ends the
/// agent: many times the usual one, and far from the two minutes for which systemd waited for a process that cannot be
/// killed.
const LISTS_IN_MS: u64 = 1500;
const PAUSE: Duration = Duration::from_secs(15);
const WATCHDOG: Duration = Duration::from_secs(10);
/// Has another agent begin: its first look lists.
const ANEW: &str = r#"
agent() { systemctl show --property MainPID --value mapkeeper; }
old=$(agent); systemctl kill --signal KILL --kill-who main mapkeeper
until [ "$(agent)" != 0 ] && [ "$(agent)" != "$old" ]; do sleep 0.05; done
"#;
/// Waits until a look at the mount waits for the store.
const LOOKS: &str = "until pgrep -f '[p]robe-mount .*--list' >/dev/null; do sleep 0.05; done; ";

#[tokio::test(flavor = "multi_thread")]
async fn a_look_that_waits_for_the_store_holds_up_no_successor() {
    let kit = Kit::new("127.0.0.1", &format!("{}s", WATCHDOG.as_secs()), false);
    let control = kit.server.control();
    let slow = Fault::new(Action::Delay { milliseconds: LISTS_IN_MS }).on(Operation::ListObjects);
    control.inject(slow);
    std::fs::write(kit.share.path().join("reads"), "2").expect("written");
    let host = Host::install(Container::boot(&kit), kit).await;
    host.sh("systemctl start mapkeeper && mapkeeper wait --timeout 150s");
    let kill = "systemctl kill --signal KILL --kill-who main mapkeeper";
    let killed = |tenths: u32| ("kill -9", format!("sleep {}.{}; {kill}", tenths / 10, tenths % 10));
    let group = "echo 1 >/sys/fs/cgroup/system.slice/mapkeeper.service/memory.oom.group 2>/dev/null";
    let mut ends = [0, 9, 18, 27].map(killed).to_vec();
    ends.extend([
        ("kill -9 of all", "systemctl kill --signal KILL --kill-who all mapkeeper".to_owned()),
        ("systemctl restart", "systemctl restart mapkeeper".to_owned()),
        ("watchdog", "kill -STOP $(systemctl show --property MainPID --value mapkeeper)".to_owned()),
        ("out of memory", OUT_OF_MEMORY.to_owned()),
        ("out of memory, all", format!("{group}; {OUT_OF_MEMORY}")),
    ]);
    for (what, end) in ends {
        host.sh(ANEW);
        let paused = host.outlives(what, &format!("{LOOKS}{end}")).await;
        let watchdog = if what == "watchdog" { WATCHDOG } else { Duration::ZERO };
        assert!(paused < PAUSE + watchdog, "{what} during a look ({end}): {paused:?}");
    }
    let alone = |host: &Host<Container>| {
        let group = host.says("cat /sys/fs/cgroup/system.slice/mapkeeper.service/cgroup.procs").0;
        group == host.agent()
    };
    host.until("the end of what was left over", alone).await;
    // Nor a stop, where the store never answers again.
    host.sh(ANEW);
    let look = host.sh(&format!("{LOOKS}pgrep -f '[p]robe-mount .*--list'"));
    control.hold_from(0);
    let held = host.sh(&format!("find /proc/{}/fd -printf '%l '", look.lines().next().expect("one")));
    assert!(!["fuse", "socket", "lock", "memfd"].iter().any(|kind| held.contains(kind)), "it keeps {held}");
    host.sh("systemctl stop mapkeeper");
    assert_eq!(host.device(), "", "stopped is unmounted\n{}", host.journal());
    host.until("the end of all", |host| !host.says("pgrep -f '[p]robe-mount|[m]apkeeper run'").1).await;
    control.release();
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

/// What differs between the two kinds of package. `rpm` on Debian has to be told that it is meant.
struct Packaging {
    install: &'static str,
    upgrade: &'static str,
    version: &'static str,
    remove: &'static str,
    /// What is left of the configuration that somebody has changed, after that.
    kept: &'static str,
}

const DEB: Packaging = Packaging {
    install: "dpkg --install /share/1.deb",
    upgrade: "dpkg --install /share/2.deb",
    version: "dpkg-query --show mapkeeper",
    remove: "dpkg --remove mapkeeper",
    kept: "config.toml",
};

const RPM: Packaging = Packaging {
    install: "rpm --force-debian --nodeps --install /share/1.rpm",
    upgrade: "rpm --force-debian --nodeps --upgrade /share/2.rpm",
    version: "rpm --query --queryformat '%{VERSION}-%{RELEASE}' mapkeeper",
    remove: "rpm --force-debian --erase mapkeeper",
    kept: "config.toml.rpmsave",
};

#[tokio::test(flavor = "multi_thread")]
async fn a_deb_is_installed_upgraded_while_it_serves_and_removed() {
    let host = lives_as(&DEB).await;
    host.sh("dpkg --purge mapkeeper");
    assert!(!host.says("test -e /etc/mapkeeper").1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_rpm_is_installed_upgraded_while_it_serves_and_removed() {
    lives_as(&RPM).await;
}

async fn lives_as(packaging: &Packaging) -> Host<Container> {
    let kit = Kit::new("127.0.0.1", "10s", false);
    packages::revisions(&program(), kit.share.path());
    let host = Host { reach: Container::boot(&kit), kit };
    host.until("systemd", |host| host.says("systemctl is-system-running").0 == "running").await;
    host.sh(packaging.install);
    // What is to be mounted is not said yet.
    assert_eq!(
        host.says("systemctl is-enabled mapkeeper; systemctl is-active mapkeeper").0,
        "disabled\ninactive"
    );
    host.sh("cp /share/config.toml /etc/mapkeeper/ && mkdir -p /etc/systemd/system/mapkeeper.service.d \
             && cp /share/test.conf /etc/systemd/system/mapkeeper.service.d/ && systemctl daemon-reload \
             && systemctl enable --quiet --now mapkeeper && mapkeeper wait --timeout 150s");
    host.until_healthy().await;
    println!("resident, with one mount at rest: {} KiB", host.sh(&format!("ps -o rss= -p {}", host.agent())));
    // Preparing the host puts units and a gate beside the files of the package.
    host.sh("AWS_EC2_METADATA_DISABLED=true mapkeeper bootstrap");
    host.outlives("package upgrade", packaging.upgrade).await;
    host.sh("test -s /etc/systemd/system/ecs.service.d/10-mapkeeper.conf");
    assert!(host.sh(packaging.version).ends_with("-2"));
    host.sh("cmp /share/config.toml /etc/mapkeeper/config.toml");
    // mount(8) finds its helper.
    host.sh(&format!(
        "export AWS_ACCESS_KEY_ID={ACCESS_KEY} AWS_SECRET_ACCESS_KEY={SECRET_KEY} && mkdir /srv/again \
         && mount -t mapkeeper s3://maps /srv/again -o region=us-east-1,endpoint_url={} \
         && test $(wc -c </srv/again/maps/3) = 1003 && umount /srv/again",
        host.kit.server.endpoint()
    ));
    host.sh(WITH_ECS);
    host.sh(packaging.remove);
    is_taken_out(&host);
    assert_eq!(host.device(), "", "removed is unmounted");
    assert_eq!(
        host.says("systemctl is-active mapkeeper; command -v mapkeeper; ls /etc/mapkeeper").0,
        format!("inactive\n{}", packaging.kept)
    );
    host
}

/// A host of a cluster, whose ECS agent has to pass the gate.
const WITH_ECS: &str = r#"
mkdir -p /etc/ecs && echo ECS_LOGLEVEL=debug >/etc/ecs/ecs.config
printf '[Service]\nExecStart=/bin/sleep infinity\n' >/etc/systemd/system/ecs.service
{ cat /etc/mapkeeper/config.toml; printf '[ecs]\ncluster = "maps"\n'; } >/tmp/ecs.toml
AWS_EC2_METADATA_DISABLED=true mapkeeper bootstrap --from /tmp/ecs.toml && grep -q ECS_CLUSTER=maps /etc/ecs/ecs.config
systemctl show --property ExecStartPre --value ecs | grep -q /usr/bin/mapkeeper
"#;

/// Nothing is left that calls the program, and ECS starts without it.
fn is_taken_out(host: &Host<Container>) {
    let left = "ls /etc/systemd/system/mapkeeper*.service /etc/systemd/system/*.wants/mapkeeper* /run/mapkeeper-bootstrap.* \
                /etc/systemd/system/ecs.service.d /usr/lib/systemd/system/ecs.service.d 2>/dev/null";
    assert_eq!(host.says(left).0, "");
    assert_eq!(host.sh("cat /etc/ecs/ecs.config"), "ECS_LOGLEVEL=debug");
    host.sh("systemctl start ecs && systemctl is-active ecs");
}
