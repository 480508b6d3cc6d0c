//! `mapkeeper run` as a process of its own, on buckets of a server in this process; what it says and how it ends.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bucketfs::mountinfo::MountTable;
use mapkeeper::host::mount;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use s3_testbed::{ACCESS_KEY, Options, SECRET_KEY, Server};
use serde_json::Value;
use tokio::time::{Instant, sleep};

/// Longest wait for anything.
pub const LIMIT: Duration = Duration::from_secs(120);

/// An agent with its configuration, in a directory of its own.
pub struct Agent {
    pub server: Server,
    pub scratch: tempfile::TempDir,
    pub process: Option<Child>,
    pub program: PathBuf,
    /// Further variables of the agent's environment.
    pub variables: Vec<(String, String)>,
}

impl Agent {
    /// Buckets `maps` and `fonts` with one object each; nothing runs yet.
    pub fn new() -> Agent {
        Agent::of(env!("CARGO_BIN_EXE_mapkeeper").into())
    }

    /// The same of another build.
    pub fn of(program: PathBuf) -> Agent {
        let server = Server::start(Options::memory(["maps", "fonts"])).expect("a server");
        for bucket in ["maps", "fonts"] {
            server.store().put(bucket, "file", bucket, &[]).expect("stored");
        }
        let scratch = tempfile::tempdir().expect("a directory");
        let keys = [("AWS_ACCESS_KEY_ID", ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY)];
        let variables = keys.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        Agent { server, scratch, process: None, program, variables }
    }

    pub fn point(&self, bucket: &str) -> PathBuf {
        self.scratch.path().join(bucket)
    }

    /// The `[[mount]]` of a bucket.
    pub fn mount(&self, bucket: &str, more: &str) -> String {
        format!(
            "[[mount]]\nname = \"{bucket}\"\nsource = \"s3://{bucket}\"\npath = \"{}\"\nendpoint_url = \"{}\"\n{more}\n",
            self.point(bucket).display(),
            self.server.endpoint()
        )
    }

    pub fn file(&self) -> PathBuf {
        self.scratch.path().join("c.toml")
    }

    pub fn log(&self) -> PathBuf {
        self.scratch.path().join("log")
    }

    pub fn said(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }

    pub fn write(&self, text: &str) {
        std::fs::write(self.file(), format!("region = \"us-east-1\"\n{text}")).expect("written");
    }

    pub fn mapkeeper(&self) -> Command {
        let mut command = Command::new(&self.program);
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy().into_owned();
            if text.starts_with("AWS_") || text.starts_with("MAPKEEPER_") {
                command.env_remove(name);
            }
        }
        command
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_CONFIG_FILE", "/dev/null")
            .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
            .envs(self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str())))
            .env("MAPKEEPER_RUNTIME_DIR", self.scratch.path().join("run"))
            .env("MAPKEEPER_CONFIG", self.file())
            .stdin(Stdio::null());
        command
    }

    pub fn start(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(self.log()).expect("a file");
        self.process = Some(self.mapkeeper().arg("run").stderr(log).spawn().expect("started"));
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.process.as_ref().expect("it runs").id() as i32)
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("it runs");
    }

    pub async fn status(&self) -> Value {
        let mut command = self.mapkeeper();
        command.args(["status", "--json"]);
        let output = tokio::process::Command::from(command).output().await.expect("a status");
        serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
    }

    /// Waits for a status that `holds`.
    pub async fn until(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        loop {
            let status = self.status().await;
            if status["standing"] == "fresh" && holds(&status) {
                return status;
            }
            assert!(
                began.elapsed() < LIMIT,
                "{what} did not come: {status:#}\nthe agent said:\n{}",
                self.said()
            );
            sleep(Duration::from_millis(50)).await;
        }
    }

    pub async fn healthy(&self) -> Value {
        self.until("health", |status| status["health"] == "healthy").await
    }

    /// What the kernel shows at the mount point of a bucket.
    pub fn device(&self, bucket: &str) -> Option<bucketfs::mountinfo::Device> {
        let table = MountTable::of(None).expect("a list of mounts");
        table.top(&self.point(bucket).canonicalize_parent()).map(|entry| entry.device)
    }

    pub async fn end(mut self) {
        self.signal(Signal::SIGTERM);
        let mut process = self.process.take().expect("it runs");
        let ended =
            tokio::task::spawn_blocking(move || process.wait()).await.expect("waited").expect("ended");
        assert_eq!(ended.code(), Some(0), "{}", self.said());
        assert!(MountTable::of(None).expect("a list").top(&self.point("maps")).is_none());
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
        for bucket in ["maps", "fonts"] {
            let _ = mount::detach(&self.point(bucket));
        }
    }
}

/// The path with the links of its parent followed: its last part may be a mount, which is not touched.
trait CanonicalParent {
    fn canonicalize_parent(&self) -> PathBuf;
}

impl CanonicalParent for Path {
    fn canonicalize_parent(&self) -> PathBuf {
        let parent = self.parent().expect("not the root").canonicalize().expect("it exists");
        parent.join(self.file_name().expect("a name"))
    }
}
