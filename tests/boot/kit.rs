//! A host with systemd on which the service runs as its unit says, whatever that host is, and what must hold there.
//!
//! The host is reached by commands only. What the test gives it lies in its `/share`: our program, our unit, a
//! configuration, and scripts that read and ask for maps while the agent is ended.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use s3_testbed::{ACCESS_KEY, Options, SECRET_KEY, Server};
use tokio::time::{Instant, sleep};

const FILES: usize = 50;
/// The map that MapServer is asked for.
const MAP: &str = "MAP\n  NAME \"health\"\n  EXTENT -10 -10 10 10\n  SIZE 100 100\n  PROJECTION \"init=epsg:4326\" END\n  WEB METADATA \
                   \"wms_title\" \"health\" \"wms_enable_request\" \"*\" \"wms_srs\" \"EPSG:4326\" END END\nEND\n";

/// A way to a host.
pub trait Reach {
    /// Runs a command of a shell there, for at most a minute or so.
    fn run(&self, command: &str) -> Output;

    /// Longest wait for anything there.
    fn limit(&self) -> Duration;
}

/// What the host is given.
pub struct Kit {
    pub server: Server,
    /// Files for its `/share`.
    pub share: tempfile::TempDir,
    /// Whether MapServer is to run there.
    pub maps: bool,
}

/// A host that has booted.
pub struct Host<R: Reach> {
    pub reach: R,
    pub kit: Kit,
}

impl Kit {
    /// `s3_host` is the name or address under which the host reaches this machine's loopback; `watchdog` what the unit
    /// says there in place of half a minute.
    pub fn new(s3_host: &str, watchdog: &str, maps: bool) -> Kit {
        let server = Server::start(Options::memory(["maps"])).expect("a server");
        (0..FILES).for_each(|file| {
            let body = vec![file as u8; 1000 + file];
            server.store().put("maps", &format!("maps/{file}"), body, &[]).expect("stored");
        });
        server.store().put("maps", "health.map", MAP, &[]).expect("stored");
        let share = tempfile::tempdir().expect("a directory");
        let put = |name: &str, text: &str| std::fs::write(share.path().join(name), text).expect("written");
        std::fs::copy(program(), share.path().join("mapkeeper")).expect("copied");
        put("mapkeeper.service", include_str!("../../units/mapkeeper.service"));
        let port = server.endpoint().rsplit_once(':').expect("a port").1.to_owned();
        put("config.toml", &configuration(&format!("http://{s3_host}:{port}"), maps));
        put(
            "test.conf",
            &format!(
                "[Service]\nWatchdogSec={watchdog}\nEnvironment=AWS_ACCESS_KEY_ID={ACCESS_KEY} \
                 AWS_SECRET_ACCESS_KEY={SECRET_KEY} AWS_EC2_METADATA_DISABLED=true MAPKEEPER_LOG=debug\n"
            ),
        );
        put("read", READER);
        put("ask", ASKER);
        put("reads", "20");
        Kit { server, share, maps }
    }
}

impl<R: Reach> Host<R> {
    /// Installs the service, as the first command on a host that has booted.
    pub async fn install(reach: R, kit: Kit) -> Host<R> {
        let host = Host { reach, kit };
        host.until("systemd", |host| host.says("systemctl is-system-running").0 == "running").await;
        host.sh("mkdir -p /etc/mapkeeper /etc/systemd/system/mapkeeper.service.d && cp /share/config.toml /etc/mapkeeper/ \
             && cp /share/mapkeeper /usr/bin/ && cp /share/mapkeeper.service /etc/systemd/system/ \
             && cp /share/test.conf /etc/systemd/system/mapkeeper.service.d/ && systemctl daemon-reload");
        host
    }

    /// What a command prints, and whether it succeeded.
    pub fn says(&self, command: &str) -> (String, bool) {
        let output = self.reach.run(command);
        (String::from_utf8_lossy(&output.stdout).trim().to_owned(), output.status.success())
    }

    /// What a command that succeeds prints.
    pub fn sh(&self, command: &str) -> String {
        let output = self.reach.run(command);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{command}: {said}\n{}", self.journal());
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    pub fn journal(&self) -> String {
        self.says(
            "mapkeeper status; journalctl -u mapkeeper --no-pager -o cat | grep -vx round | tail -n 100",
        )
        .0
    }

    /// Device of what is mounted at the mount's path, or nothing.
    pub fn device(&self) -> String {
        self.sh("awk '$5 == \"/srv/maps\" { print $3 }' /proc/self/mountinfo")
    }

    pub fn agent(&self) -> String {
        self.sh("systemctl show --property MainPID --value mapkeeper")
    }

    pub async fn until(&self, what: &str, holds: impl Fn(&Host<R>) -> bool) {
        let began = Instant::now();
        while !holds(self) {
            assert!(began.elapsed() < self.reach.limit(), "{what} did not come\n{}", self.journal());
            sleep(Duration::from_millis(100)).await;
        }
    }

    pub async fn until_healthy(&self) {
        self.until("health", |host| host.says("mapkeeper status").1).await;
    }

    /// The container, when it was started, and the device that it sees; nothing where no maps are served.
    fn container(&self) -> String {
        if !self.kit.maps {
            return String::new();
        }
        let inspect = "docker inspect --format '{{.Id}} {{.State.StartedAt}} {{.RestartCount}}' mapserver";
        let seen = "awk '$5 == \"/mapfiles\" { print $3 }' /proc/$(docker inspect --format '{{.State.Pid}}' mapserver)/mountinfo";
        format!("{} {}", self.sh(inspect), self.sh(seen))
    }

    /// Ends the agent by `command` while files are read and maps asked for: another one serves the same mount, no read
    /// and no request fails, and the container is left alone. Answers how long the slowest of them took.
    pub async fn outlives(&self, what: &str, command: &str) -> Duration {
        let (before, device, container) = (self.agent(), self.device(), self.container());
        let mut scripts = vec!["read"];
        scripts.extend(self.kit.maps.then_some("ask"));
        self.sh("rm -f /tmp/enough");
        for script in &scripts {
            self.sh(&format!("bash /share/{script} > /tmp/{script} 2>&1 < /dev/null &"));
        }
        self.sh(command);
        let is_another = |host: &Host<R>| {
            let agent = host.agent();
            agent != "0" && agent != before && host.says("mapkeeper status").1
        };
        self.until(what, is_another).await;
        self.sh("touch /tmp/enough");
        let mut slowest = 0;
        for script in scripts {
            self.until("the script's end", |host| host.says(&format!("grep -q ^done /tmp/{script}")).1).await;
            let told = self.sh(&format!("cat /tmp/{script}"));
            println!("{what}: {script}: {told}");
            assert!(
                told.starts_with("done ") && told.contains(" errors 0 "),
                "{what}: {told}\n{}",
                self.journal()
            );
            let words: Vec<&str> = told.split(' ').collect();
            let took = words.iter().position(|word| *word == "slowest").and_then(|at| words.get(at + 1));
            slowest = slowest.max(took.and_then(|took| took.parse().ok()).expect("a number"));
        }
        let told = "journalctl -u mapkeeper --no-pager -o cat | grep -E 'Main process exited|Watchdog|Failed with|out of memory|OOM|left to|refused|mount goes on' | tail -n 3";
        println!("{what}: journal: {}", self.says(told).0.replace('\n', " | "));
        assert_eq!(self.device(), device, "{what}: it is another mount\n{}", self.journal());
        assert_eq!(self.container(), container, "{what}: the container\n{}", self.journal());
        let stored = self.sh("systemctl show --property NFileDescriptorStore --value mapkeeper");
        // Two for the mount, and the settings.
        assert_eq!(stored, "3", "{what}");
        Duration::from_millis(slowest)
    }

    /// Every way in which an agent ends while the host goes on; then the service is stopped, and so is the mount.
    pub async fn outlives_everything(&self) {
        self.sh("systemctl start mapkeeper && mapkeeper wait --timeout 150s");
        self.until_healthy().await;
        self.outlives("kill -9", "systemctl kill --signal KILL --kill-who main mapkeeper").await;
        self.outlives("systemctl restart", "systemctl restart mapkeeper").await;
        self.outlives("abort", "systemctl kill --signal ABRT --kill-who main mapkeeper").await;
        self.outlives("SIGTERM by hand", "systemctl kill --signal TERM --kill-who main mapkeeper").await;
        self.outlives("watchdog", "kill -STOP $(systemctl show --property MainPID --value mapkeeper)").await;
        let replaced = "cp /share/mapkeeper /usr/bin/new && mv /usr/bin/new /usr/bin/mapkeeper && systemctl restart mapkeeper";
        self.outlives("another program", replaced).await;
        self.outlives("out of memory", OUT_OF_MEMORY).await;
        let wrong = "cp /etc/mapkeeper/config.toml /tmp/right && echo 'nonsense = 1' >> /etc/mapkeeper/config.toml \
                     && systemctl restart mapkeeper";
        self.outlives("a wrong configuration", wrong).await;
        let status = self.says("mapkeeper status").0;
        assert!(status.contains("an older configuration is in force"), "it says so: {status}");
        self.sh("cp /tmp/right /etc/mapkeeper/config.toml && systemctl reload mapkeeper");
        self.until("the right configuration", |host| !host.says("mapkeeper status").0.contains("older"))
            .await;
        self.sh("systemctl stop mapkeeper");
        assert_eq!(self.device(), "", "stopped is unmounted\n{}", self.journal());
        assert!(self.kit.server.control().total() > 0);
    }
}

/// The program that is installed: this build's, or an optimized one for a host that is emulated.
pub fn program() -> PathBuf {
    let named = std::env::var_os("PROGRAM_UNDER_TEST").map(PathBuf::from);
    named.unwrap_or_else(|| Path::new(env!("CARGO_BIN_EXE_mapkeeper")).to_owned())
}

fn configuration(endpoint: &str, maps: bool) -> String {
    let mount = format!(
        "region = \"us-east-1\"\n[[mount]]\nname = \"maps\"\nsource = \"s3://maps\"\npath = \"/srv/maps\"\nfreshness = \"0s\"\n\
         endpoint_url = \"{endpoint}\"\n"
    );
    let container = "[container]\nowner = \"mapkeeper\"\nname = \"mapserver\"\nimage = \"mapserver:8\"\n\
                     ports = [\"127.0.0.1:8080:80\"]\nbinds = [\"/srv/maps:/mapfiles:ro\"]\n[container.probe]\nurl = \
                     \"http://127.0.0.1:8080/?map=/mapfiles/health.map&SERVICE=WMS&REQUEST=GetCapabilities\"\n";
    if maps { mount + container } else { mount }
}

/// The kernel ends the agent for want of memory, and then what wanted it.
pub const OUT_OF_MEMORY: &str = r#"
agent=$(systemctl show --property MainPID --value mapkeeper)
echo 1000 > /proc/$agent/oom_score_adj
if grep -q memory /sys/fs/cgroup/system.slice/cgroup.controllers 2>/dev/null; then
    systemctl set-property --runtime mapkeeper.service MemoryMax=200M
    (echo $BASHPID > /sys/fs/cgroup/system.slice/mapkeeper.service/cgroup.procs; exec tail /dev/zero) 2>/dev/null
    systemctl set-property --runtime mapkeeper.service MemoryMax=infinity
else
    tail /dev/zero 2>/dev/null
fi
[ "$agent" != "$(systemctl show --property MainPID --value mapkeeper)" ]
"#;

/// Reads file after file, at least so many as `/share/reads` says, and tells at the end how that went.
const READER: &str = r#"
reads=0 errors=0 slowest=0 least=$(cat /share/reads)
until [ -e /tmp/enough ] && [ $reads -gt $least ]; do
    file=$((RANDOM % 50)) began=$(date +%s%N)
    bytes=$(wc -c 2>&1 < /srv/maps/maps/$file)
    took=$((($(date +%s%N) - began) / 1000000)) reads=$((reads + 1))
    if [ "$bytes" != $((1000 + file)) ]; then errors=$((errors + 1)); echo "$bytes"; fi
    if [ $took -gt $slowest ]; then slowest=$took; fi
done
echo "done $reads reads, errors $errors slowest ${slowest} ms"
"#;

/// Asks for the map again and again, and tells at the end how that went. An answer may take as long as the watchdog waits,
/// and a restart on an emulated processor.
const ASKER: &str = r#"
answers=0 errors=0 slowest=0
until [ -e /tmp/enough ] && [ $answers -gt 5 ]; do
    began=$(date +%s%N)
    said=$(curl -s --max-time 60 "http://127.0.0.1:8080/?map=/mapfiles/health.map&SERVICE=WMS&REQUEST=GetCapabilities" 2>&1)
    took=$((($(date +%s%N) - began) / 1000000)) answers=$((answers + 1))
    if ! grep -q WMS_Capabilities <<< "$said"; then errors=$((errors + 1)); echo "$said" | head -n 3; fi
    if [ $took -gt $slowest ]; then slowest=$took; fi
done
echo "done $answers answers, errors $errors slowest ${slowest} ms"
"#;
