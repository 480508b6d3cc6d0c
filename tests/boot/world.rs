//! A stock-like host that boots, whatever it runs on, and AWS around it in a network namespace.
//!
//! What must hold: the program finds AWS by AWS's own names, with no endpoint of ours anywhere.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use nix::sched::{CloneFlags, setns};
use s3_testbed::{ACCESS_KEY, Options, SECRET_KEY, Server, Store};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

/// Where the host meets AWS.
pub const ADDRESS: &str = "10.254.0.2";
/// What hosts fetch by its name, without any key.
pub const PROGRAMS_URL: &str = "https://mapkeeper-programs.s3.us-east-1.amazonaws.com";
const BUCKET: &str = "mapserver-bucket";
const S3_DOMAIN: &str = "s3.us-east-1.amazonaws.com";

pub fn package(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Where what takes its time is kept.
pub fn cache() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").expect("HOME")).join(".cache/mapkeeper");
    std::env::var_os("MAPKEEPER_CACHE").map_or_else(home, PathBuf::from)
}

/// The program that is shipped, where `make test` built it; else the one of this build.
pub fn program() -> PathBuf {
    std::env::var_os("PROGRAM_UNDER_TEST")
        .map_or(PathBuf::from(env!("CARGO_BIN_EXE_mapkeeper")), PathBuf::from)
}

pub fn shipped() -> Vec<u8> {
    std::fs::read(program()).expect("readable")
}

pub fn sum(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

/// Runs a command that has to succeed, and returns what it prints.
pub fn done(command: &mut Command) -> String {
    let output = command.output().expect("started");
    assert!(output.status.success(), "{command:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

pub fn docker(words: &[&str]) -> String {
    done(Command::new("docker").args(words))
}

/// AWS as one host sees it: `tests/boot/aws` and an S3 server in a network namespace that a container holds.
pub struct Aws {
    pub directory: tempfile::TempDir,
    pub s3: Server,
    pub namespace: String,
    /// A process in it.
    pub holder: u32,
    process: Child,
}

impl Aws {
    /// An account whose bucket holds `maps`, and `program` as what hosts fetch.
    pub fn start(program: &[u8], metadata: Metadata) -> Aws {
        done(Command::new(package("tests/boot/build")).arg("stock"));
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let namespace =
            format!("mapkeeper-boot-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let directory = tempfile::tempdir().expect("a directory");
        docker(&[
            "run",
            "--detach",
            "--name",
            &namespace,
            "--network=none",
            "mapkeeper-stock:12",
            "sleep",
            "infinity",
        ]);
        let holder =
            docker(&["inspect", "--format", "{{.State.Pid}}", &namespace]).parse().expect("a number");
        let s3 = s3_server(holder, &directory.path().join("bucket"));
        let secret =
            format!("{{\"access_key_id\": \"{ACCESS_KEY}\", \"secret_access_key\": \"{SECRET_KEY}\"}}");
        std::fs::write(directory.path().join("secret"), secret).expect("written");
        let process = Command::new("true").spawn().expect("started");
        let mut aws = Aws { directory, s3, namespace, holder, process };
        done(aws.inside("sh").args([
            "-ec",
            &format!(
                "ip address add 169.254.169.254/32 dev lo; ip address add {ADDRESS}/32 dev lo
                ip link add eth0 type veth peer name eth1; ip link set eth1 up; ip link set eth0 up
                ip address add 10.0.0.2/24 dev eth0; ip route add default dev eth0"
            ),
        ]));
        let moto = done(&mut Command::new(package("tests/support/moto")));
        let mut command = aws.inside(&Path::new(&moto).with_file_name("python").display().to_string());
        command.arg(package("tests/boot/aws")).arg(aws.directory.path()).arg(ADDRESS);
        command.arg(aws.s3.address().port().to_string());
        command.args((metadata == Metadata::TokensOptional).then_some("--v1"));
        aws.process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("started");
        let mut line = String::new();
        let out = aws.process.stdout.take().expect("piped above");
        BufReader::new(out).read_line(&mut line).expect("a line");
        assert_eq!(line, "ready\n", "AWS has ended before it was ready");
        aws.put("mapkeeper", program);
        aws
    }

    /// A command in the network namespace of the host, from outside the host.
    pub fn inside(&self, program: &str) -> Command {
        Aws::within(self.holder, program)
    }

    /// A command in the network namespace of the process `holder`.
    pub fn within(holder: u32, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &holder.to_string(), "--net", program]);
        command
    }

    /// Puts what everybody may fetch from [`PROGRAMS_URL`].
    pub fn put(&self, key: &str, content: &[u8]) {
        let file = self.directory.path().join("object");
        std::fs::write(&file, content).expect("written");
        let url = format!("http://127.0.0.1:5555/mapkeeper-programs/{key}");
        let mut command = self.inside("curl");
        command.args(["-fsS", "-H", "x-amz-acl: public-read", "-T"]).arg(&file).arg(url);
        done(&mut command);
    }

    /// What `mapkeeper user-data` says for this configuration becomes this host's user data.
    pub fn instance(&self, config: &str, sum: &str) -> String {
        let file = self.directory.path().join("config.toml");
        std::fs::write(&file, config).expect("written");
        let mut command = Command::new(program());
        let url = format!("{PROGRAMS_URL}/mapkeeper");
        command.args(["user-data", "--url", &url, "--sha256", sum, "--config"]).arg(&file);
        let data = format!("{}\n", done(&mut command));
        std::fs::write(self.directory.path().join("user-data"), &data).expect("written");
        data
    }
}

/// A server of the sample maps, out of `directory`, where the process `holder` has its network.
fn s3_server(holder: u32, directory: &Path) -> Server {
    let drawn = cache().join("boot-data");
    done(Command::new(package("demo/make-data")).arg(&drawn));
    std::fs::create_dir(directory).expect("made");
    done(Command::new("cp").arg("--recursive").arg(&drawn).arg(directory.join("maps")));
    let store = Store::directory(BUCKET, directory).expect("a directory");
    let options = Options { domain: Some(S3_DOMAIN.to_owned()), ..Options::new(store) };
    let network = File::open(format!("/proc/{holder}/ns/net")).expect("it runs");
    // The threads of a server are in the network of the thread that started it.
    let started = std::thread::spawn(move || {
        setns(network, CloneFlags::CLONE_NEWNET).expect("root");
        Server::start(options).expect("a server")
    });
    started.join().expect("started")
}

impl Drop for Aws {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = Command::new("docker").args(["rm", "--force", &self.namespace]).output();
    }
}

/// Whether the host is one of ECS.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Ecs {
    There,
    Absent,
}

/// How cloud-init's data source speaks to the metadata service.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Metadata {
    /// With a token, as where the firmware says that this is EC2.
    Tokens,
    /// Also without.
    TokensOptional,
}

/// What a host runs on: the scenario knows no more of it.
pub trait Machine {
    /// Longest time from the start of the machine to the first map, and longest wait for anything else.
    fn limits(&self) -> (Duration, Duration);
    /// Switches it on.
    fn start(&self);
    /// Whether it is on.
    fn is_on(&self) -> bool;
    /// Takes its power away.
    fn cut_power(&self);
    /// Runs a command of the shell in it, as root, for at most 300 s.
    fn run(&self, command: &str) -> Output;
    /// Runs a command at a terminal.
    fn terminal(&self, command: &str) -> Output;
}

/// One host, off at first.
pub struct Host {
    machine: Box<dyn Machine>,
    pub aws: Aws,
    pub started: SystemTime,
}

impl Host {
    /// A host that has never booted, with user data for `config`; what it fetches has to be the real program.
    pub fn new<M: Machine + 'static>(aws: Aws, config: &str, machine: impl FnOnce(&Aws) -> M) -> Host {
        let right = sum(&shipped());
        println!("{}", aws.instance(config, &right));
        Host { machine: Box::new(machine(&aws)), aws, started: SystemTime::UNIX_EPOCH }
    }

    /// Switches it on.
    pub fn start(&mut self) {
        self.started = SystemTime::now();
        self.machine.start();
    }

    /// Has it go down in order, and come up again.
    pub fn reboot(&mut self) {
        // It goes away while it answers.
        let _ = self.run("systemctl reboot");
        self.until("the end of the boot before", |host| !host.machine.is_on());
        self.start();
    }

    /// Takes its power away, and gives it back.
    pub fn cut_power(&mut self) {
        self.machine.cut_power();
        self.start();
    }

    fn run(&self, command: &str) -> Output {
        self.machine.run(command)
    }

    /// What a command prints, and whether it succeeded.
    pub fn says(&self, command: &str) -> (String, bool) {
        let output = self.run(command);
        (text(&output.stdout), output.status.success())
    }

    /// What a command that succeeds prints.
    pub fn sh(&self, command: &str) -> String {
        let output = self.run(command);
        assert!(output.status.success(), "{command}: {}\n{}", text(&output.stderr), self.story());
        text(&output.stdout)
    }

    /// What a command prints that is run at a terminal, and whether it succeeded.
    pub fn shows(&self, command: &str) -> (String, bool) {
        let output = self.machine.terminal(command);
        (text(&output.stdout), output.status.success())
    }

    /// What the units of this boot said, each line with the time since 1970.
    pub fn story(&self) -> String {
        let units = "-u cloud-init -u cloud-final -u docker -u mapkeeper-boot -u mapkeeper -u ecs";
        let command =
            format!("journalctl -b --no-pager -o short-unix {units} | grep -v 'level=info' | tail -n 120");
        format!("{}\n{}", self.says(&command).0, self.says("mapkeeper status").0)
    }

    /// Longest time from the start of the machine to the first map.
    pub fn first_map_limit(&self) -> Duration {
        self.machine.limits().0
    }

    pub fn until(&self, what: &str, holds: impl Fn(&Host) -> bool) {
        let began = Instant::now();
        while !holds(self) {
            assert!(began.elapsed() < self.machine.limits().1, "{what} did not come\n{}", self.story());
            std::thread::park_timeout(Duration::from_millis(200));
        }
    }

    /// Seconds after the start at which the last line with these words was written.
    pub fn at(&self, words: &str) -> f64 {
        let line =
            self.sh(&format!("journalctl --no-pager -o short-unix | grep -F -- '{words}' | tail -n 1"));
        let time: f64 = line.split(' ').next().and_then(|time| time.parse().ok()).expect("a time");
        time - self.started.duration_since(SystemTime::UNIX_EPOCH).expect("later").as_secs_f64()
    }
}
