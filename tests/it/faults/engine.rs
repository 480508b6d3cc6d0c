//! A Docker Engine of a test's own, so that it can be stopped without anybody else noticing.
//!
//! It has its own socket, directories and bridge, and leaves the machine's packet filter alone: published ports are
//! served by its proxy.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::{Instant, sleep};

use crate::support::world::output;

const BRIDGE: &str = "mapkeeper-test";
const LIMIT: Duration = Duration::from_secs(120);

pub struct Engine {
    directory: tempfile::TempDir,
    daemon: Option<Child>,
}

impl Engine {
    pub async fn start() -> Engine {
        // Left over by a test that was killed: no error.
        let _ = output(Command::new("ip").args(["link", "delete", BRIDGE])).await;
        for arguments in [
            &["link", "add", BRIDGE, "type", "bridge"][..],
            &["addr", "add", "172.31.254.1/24", "dev", BRIDGE],
            &["link", "set", BRIDGE, "up"],
        ] {
            let done = output(Command::new("ip").args(arguments)).await;
            assert!(done.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
        }
        let mut engine = Engine { directory: tempfile::tempdir().expect("a directory"), daemon: None };
        engine.run().await;
        engine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn socket(&self) -> String {
        format!("unix://{}", self.path("docker.sock").display())
    }

    pub async fn run(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(self.path("log")).expect("a file");
        let mut daemon = Command::new("dockerd");
        daemon.arg("--host").arg(self.socket());
        for (option, name) in [("--data-root", "data"), ("--exec-root", "exec"), ("--pidfile", "pid")] {
            daemon.arg(option).arg(self.path(name));
        }
        daemon.args(["--iptables=false", "--ip6tables=false", "--bridge", BRIDGE]);
        daemon.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.daemon = Some(daemon.spawn().expect("dockerd"));
        let began = Instant::now();
        loop {
            let asked = Command::new("docker").env("DOCKER_HOST", self.socket()).arg("version").output();
            if asked.is_ok_and(|answer| answer.status.success()) {
                return;
            }
            let said = || std::fs::read_to_string(self.path("log")).unwrap_or_default();
            assert!(began.elapsed() < LIMIT, "dockerd does not answer:\n{}", said());
            sleep(Duration::from_millis(100)).await;
        }
    }

    pub async fn stop(&mut self) {
        let Some(mut daemon) = self.daemon.take() else { return };
        kill(Pid::from_raw(daemon.id() as i32), Signal::SIGTERM).expect("it runs");
        tokio::task::spawn_blocking(move || daemon.wait()).await.expect("waited").expect("ended");
    }

    /// Copies an image of the machine's engine.
    pub async fn load(&self, image: &str) {
        let script = format!("docker save {image} | DOCKER_HOST={} docker load", self.socket());
        let done = output(Command::new("sh").args(["-c", &script])).await;
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = kill(Pid::from_raw(daemon.id() as i32), Signal::SIGTERM);
            let _ = daemon.wait();
        }
        let _ = Command::new("ip").args(["link", "delete", BRIDGE]).status();
    }
}
