//! A whole machine with Debian's kernel 6.1, the line of the stock ECS AMI: what its kernel cannot send again is answered.
//!
//! qemu without hardware acceleration, on a disk that `tests/boot/machine` has made, with our unit as it is, systemd,
//! Docker and MapServer. Not among the tests that `cargo test` runs by itself: `make test-boot`. Needs root, qemu, ssh and
//! a Docker Engine (to make the disk); a minute until it has booted.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use support::{Host, Kit, Reach};

#[path = "support/booted.rs"]
mod support;

/// Under which the machine reaches this one's loopback.
const OUTSIDE: &str = "10.0.2.2";
/// Bytes of the disk by which files reach the machine, at most.
const SHARE_BYTES: u64 = 256 << 20;

/// A machine, until this is dropped.
struct Machine {
    /// What `tests/boot/machine` has made.
    made: PathBuf,
    /// Its own disk, console and the socket of the connection by ssh.
    scratch: tempfile::TempDir,
    port: u16,
    qemu: Child,
}

impl Machine {
    fn boot(kit: &Kit) -> Machine {
        let maker = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/boot/machine");
        let output = Command::new(maker).stderr(Stdio::inherit()).output().expect("started");
        assert!(output.status.success(), "the machine's disk");
        let made = PathBuf::from(String::from_utf8(output.stdout).expect("a path").trim());
        let scratch = tempfile::tempdir().expect("a directory");
        let (disk, share) = (scratch.path().join("disk"), scratch.path().join("share"));
        let mut image = Command::new("qemu-img");
        image.args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"]).arg(made.join("root.raw")).arg(&disk);
        assert!(image.status().expect("qemu-img").success());
        let mut tar = Command::new("tar");
        tar.arg("-cf").arg(&share).arg("-C").arg(kit.share.path()).arg(".");
        assert!(tar.status().expect("tar").success());
        std::fs::File::options()
            .write(true)
            .open(&share)
            .and_then(|file| file.set_len(SHARE_BYTES))
            .expect("sized");
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = free.local_addr().expect("bound").port();
        drop(free);
        let qemu = qemu(&made, &scratch.path().join("console"), &disk, &share, port).spawn().expect("qemu");
        Machine { made, scratch, port, qemu }
    }

    fn console(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.scratch.path().join("console")).unwrap_or_default())
            .into_owned()
    }
}

fn qemu(made: &Path, console: &Path, disk: &Path, share: &Path, port: u16) -> Command {
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "1G"]);
    qemu.args(["-nodefaults", "-display", "none", "-no-reboot", "-device", "virtio-rng-pci"]);
    qemu.arg("-kernel").arg(made.join("vmlinuz")).arg("-initrd").arg(made.join("initrd.img"));
    qemu.args(["-append", "root=/dev/vda rw console=ttyS0 net.ifnames=0 apparmor=0 mitigations=off audit=0"]);
    qemu.arg("-drive").arg(format!("file={},if=virtio,cache=unsafe", disk.display()));
    qemu.arg("-drive").arg(format!("file={},if=virtio,format=raw,readonly=on", share.display()));
    qemu.arg("-netdev").arg(format!("user,id=net,hostfwd=tcp:127.0.0.1:{port}-:22"));
    qemu.args(["-device", "virtio-net-pci,netdev=net,romfile="]);
    qemu.arg("-serial").arg(format!("file:{}", console.display())).stdin(Stdio::null());
    qemu
}

impl Reach for Machine {
    fn run(&self, command: &str) -> Output {
        let mut ssh = Command::new("ssh");
        ssh.arg("-i").arg(self.made.join("key")).args(["-p", &self.port.to_string(), "-o", "BatchMode=yes"]);
        ssh.args([
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
            "-o",
            "LogLevel=ERROR",
        ]);
        ssh.args(["-o", "ConnectTimeout=20", "-o", "ControlMaster=auto", "-o", "ControlPersist=600", "-o"]);
        ssh.arg(format!("ControlPath={}", self.scratch.path().join("ssh").display()));
        ssh.args(["root@127.0.0.1", "timeout", "120", "bash", "-s"]).stdin(Stdio::piped());
        ssh.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = ssh.spawn().expect("ssh");
        // One that could not connect does not read.
        let _ = std::io::Write::write_all(&mut child.stdin.take().expect("piped"), command.as_bytes());
        child.wait_with_output().expect("waited for")
    }

    fn limit(&self) -> Duration {
        Duration::from_secs(300)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let console = self.console();
            let last = console.lines().rev().take(20).collect::<Vec<_>>();
            eprintln!("the last lines of the console, the last first:\n{}", last.join("\n"));
        }
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_kernel_6_1_the_mount_outlives_every_end_of_the_agent_and_maps_are_served() {
    let kit = Kit::new(OUTSIDE, "30s", true);
    let machine = Machine::boot(&kit);
    let unpack = "mkdir -p /share && dd if=/dev/vdb bs=1M status=none | tar -x -C /share";
    let began = std::time::Instant::now();
    while !machine.run(unpack).status.success() {
        assert!(began.elapsed() < machine.limit(), "it does not boot\n{}", machine.console());
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    println!("booted in {:?}", began.elapsed());
    let host = Host::install(machine, kit).await;
    println!("kernel {}", host.sh("uname -r"));
    host.outlives_everything().await;
}
