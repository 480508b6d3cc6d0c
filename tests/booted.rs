//! The service under systemd 252, the version of the stock ECS AMI: it works in its sandbox, and whatever ends the agent,
//! the mount stays.
//!
//! A container whose first process is systemd, made by `tests/boot/build`, with our unit as it is and this program. Needs
//! root, `/dev/fuse` and a Docker Engine.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use mapkeeper::s3_server::{ACCESS_KEY, Options, SECRET_KEY, Server};
use tokio::time::{Instant, sleep};

const LIMIT: Duration = Duration::from_secs(60);
const FILES: usize = 50;

/// A host that has booted.
struct Host {
    name: String,
    server: Server,
    _share: tempfile::TempDir,
}

impl Host {
    async fn boot() -> Host {
        let built = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/boot/build")).status();
        assert!(built.expect("started").success(), "the image of the host");
        let server = Server::start(Options::memory(["maps"])).expect("a server");
        (0..FILES).for_each(|file| {
            let body = vec![file as u8; 1000 + file];
            server.store().put("maps", &format!("maps/{file}"), body, &[]).expect("stored");
        });
        let share = tempfile::tempdir().expect("a directory");
        let path = share.path();
        std::fs::copy(env!("CARGO_BIN_EXE_mapkeeper"), path.join("mapkeeper")).expect("copied");
        std::fs::write(path.join("mapkeeper.service"), include_str!("../units/mapkeeper.service"))
            .expect("written");
        std::fs::write(path.join("config.toml"), configuration(&server.endpoint())).expect("written");
        // The keys of the test's server, and a watchdog that does not take half a minute.
        let more = format!(
            "[Service]\nWatchdogSec=10s\nEnvironment=AWS_ACCESS_KEY_ID={ACCESS_KEY} AWS_SECRET_ACCESS_KEY={SECRET_KEY} \
             AWS_EC2_METADATA_DISABLED=true\n"
        );
        std::fs::write(path.join("test.conf"), more).expect("written");
        std::fs::write(path.join("read"), READER).expect("written");
        let host = Host { name: format!("mapkeeper-host-{}", std::process::id()), server, _share: share };
        let share = format!("{}:/share", host._share.path().display());
        let mut run = Command::new("docker");
        run.args(["run", "--detach", "--name", &host.name, "--cgroupns=private", "--cap-add=ALL"]);
        run.args([
            "--cap-drop=SYS_RESOURCE",
            "--security-opt=seccomp=unconfined",
            "--security-opt=apparmor=unconfined",
        ]);
        run.args([
            "--device=/dev/fuse",
            "--network=host",
            "--tmpfs=/run",
            "--tmpfs=/tmp",
            "--volume",
            &share,
        ]);
        let output = run.arg("mapkeeper-host:12").output().expect("started");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        host.until("systemd", |host| host.says("systemctl is-system-running").0 == "running").await;
        host.sh("mkdir -p /etc/mapkeeper /etc/systemd/system/mapkeeper.service.d && cp /share/config.toml /etc/mapkeeper/ \
             && cp /share/mapkeeper /usr/bin/ && cp /share/mapkeeper.service /etc/systemd/system/ \
             && cp /share/test.conf /etc/systemd/system/mapkeeper.service.d/ && systemctl daemon-reload");
        host
    }

    fn run(&self, command: &str) -> Output {
        let mut docker = Command::new("docker");
        docker.args(["exec", &self.name, "timeout", "60", "sh", "-c", command]).output().expect("started")
    }

    /// What a command prints, and whether it succeeded.
    fn says(&self, command: &str) -> (String, bool) {
        let output = self.run(command);
        (String::from_utf8_lossy(&output.stdout).trim().to_owned(), output.status.success())
    }

    /// What a command that succeeds prints.
    fn sh(&self, command: &str) -> String {
        let output = self.run(command);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{command}: {said}\n{}", self.journal());
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn journal(&self) -> String {
        self.says("journalctl -u mapkeeper --no-pager -o cat | tail -n 100").0
    }

    /// Device of what is mounted at the mount's path, or nothing.
    fn device(&self) -> String {
        self.sh("awk '$5 == \"/srv/maps\" { print $3 }' /proc/self/mountinfo")
    }

    fn agent(&self) -> String {
        self.sh("systemctl show --property MainPID --value mapkeeper")
    }

    async fn until(&self, what: &str, holds: impl Fn(&Host) -> bool) {
        let began = Instant::now();
        while !holds(self) {
            assert!(began.elapsed() < LIMIT, "{what} did not come\n{}", self.journal());
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Ends the agent by `command` while files are read: another one serves the same mount, and no read fails.
    async fn outlives(&self, what: &str, command: &str) {
        let (before, device) = (self.agent(), self.device());
        self.sh("rm -f /tmp/enough && (bash /share/read > /tmp/read 2>&1 &)");
        self.sh(command);
        let is_another = |host: &Host| {
            let agent = host.agent();
            agent != "0" && agent != before && host.says("mapkeeper status").1
        };
        self.until(what, is_another).await;
        self.sh("touch /tmp/enough");
        self.until("the reader's end", |host| host.says("grep -q ^reads /tmp/read").1).await;
        let read = self.sh("cat /tmp/read");
        println!("{what}: {read}");
        assert!(
            read.starts_with("reads ") && read.contains(" errors 0 "),
            "{what}: {read}\n{}",
            self.journal()
        );
        assert_eq!(self.device(), device, "{what}: it is another mount\n{}", self.journal());
        assert_eq!(
            self.sh("systemctl show --property NFileDescriptorStore --value mapkeeper"),
            "2",
            "{what}"
        );
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = Command::new("docker").args(["rm", "--force", "--volumes", &self.name]).output();
    }
}

/// Reads file after file, and tells at the end how that went.
const READER: &str = r#"
reads=0 errors=0 slowest=0
until [ -e /tmp/enough ] && [ $reads -gt 20 ]; do
    file=$((RANDOM % 50)) began=$(date +%s%N)
    bytes=$(wc -c 2>&1 < /srv/maps/maps/$file)
    took=$((($(date +%s%N) - began) / 1000000)) reads=$((reads + 1))
    if [ "$bytes" != $((1000 + file)) ]; then errors=$((errors + 1)); echo "$bytes"; fi
    if [ $took -gt $slowest ]; then slowest=$took; fi
done
echo "reads $reads errors $errors slowest ${slowest} ms"
"#;

fn configuration(endpoint: &str) -> String {
    format!(
        "region = \"us-east-1\"\n[[mount]]\nname = \"maps\"\nsource = \"s3://maps\"\npath = \"/srv/maps\"\nfreshness = \"0s\"\n\
         endpoint_url = \"{endpoint}\"\n"
    )
}

impl Host {
    /// The sandbox of the unit, as systemd sees it, and that the agent lives in it with the host's own mounts.
    fn is_sandboxed(&self) {
        // The unit has no fault of its own: nothing is said of it.
        let verified = self.run("systemd-analyze verify mapkeeper.service 2>&1");
        let said = String::from_utf8_lossy(&verified.stdout).into_owned();
        assert!(verified.status.success() && said.is_empty(), "{said}");
        let exposure = self.run("systemd-analyze security --no-pager --threshold=40 mapkeeper.service");
        let shown = String::from_utf8_lossy(&exposure.stdout).into_owned();
        println!("{shown}");
        assert!(exposure.status.success(), "the exposure is above 4.0");
        let agent = self.agent();
        let state = self.sh(&format!("grep -E '^(Seccomp|NoNewPrivs|CapBnd):' /proc/{agent}/status"));
        assert!(state.contains("Seccomp:\t2") && state.contains("NoNewPrivs:\t1"), "{state}");
        // SYS_ADMIN, DAC_READ_SEARCH, DAC_OVERRIDE.
        assert!(state.contains("CapBnd:\t0000000000200006"), "{state}");
        assert_eq!(
            self.sh(&format!("readlink /proc/{agent}/ns/mnt")),
            self.sh("readlink /proc/1/ns/mnt"),
            "the mounts of the agent are not the host's"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mount_outlives_every_end_of_the_agent_and_ends_with_the_service() {
    let host = Host::boot().await;
    host.sh("systemctl start mapkeeper && mapkeeper wait --timeout 30s");
    host.until("health", |host| host.says("mapkeeper status").1).await;
    host.is_sandboxed();
    host.outlives("kill -9", "systemctl kill --signal KILL --kill-who main mapkeeper").await;
    host.outlives("systemctl restart", "systemctl restart mapkeeper").await;
    host.outlives("abort", "systemctl kill --signal ABRT --kill-who main mapkeeper").await;
    host.outlives("SIGTERM by hand", "systemctl kill --signal TERM --kill-who main mapkeeper").await;
    host.outlives("watchdog", "kill -STOP $(systemctl show --property MainPID --value mapkeeper)").await;
    let replaced = "cp /share/mapkeeper /usr/bin/new && mv /usr/bin/new /usr/bin/mapkeeper && systemctl restart mapkeeper";
    host.outlives("another program", replaced).await;
    host.sh("systemctl stop mapkeeper");
    assert_eq!(host.device(), "", "stopped is unmounted\n{}", host.journal());
    assert!(host.server.control().total() > 0);
}
