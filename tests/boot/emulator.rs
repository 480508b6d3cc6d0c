//! A whole machine with Debian's kernel 6.1, the line of the stock ECS AMI, whose power can be cut.
//!
//! qemu without hardware acceleration, on a disk of `tests/boot/machine`. It is reached by ssh. Needs root, qemu, ssh and a
//! Docker Engine (to make the disk); a minute until it has booted.

use std::cell::{Cell, RefCell};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// A command of this machine, where the emulated one has its network.
type Run = Box<dyn Fn(&str) -> Command + Send + Sync>;

/// One that is off, until it is started or dropped.
pub struct Emulated {
    /// What `tests/boot/machine` has made.
    made: PathBuf,
    /// Its disk, its console, the sockets of connections by ssh.
    scratch: tempfile::TempDir,
    run: Run,
    /// Of loopback, where ssh answers.
    port: u16,
    /// Further words for qemu.
    more: Vec<String>,
    qemu: RefCell<Option<Child>>,
    boots: Cell<u32>,
}

impl Emulated {
    /// One that has never been on. `disk` makes its disk, a file in the format that it returns, out of the disk that is
    /// never to be written.
    pub fn new(run: Run, port: u16, disk: impl FnOnce(&Path, &Path) -> &'static str) -> Emulated {
        let maker = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/boot/machine");
        let output = Command::new(maker).stderr(Stdio::inherit()).output().expect("started");
        assert!(output.status.success(), "the machine's disk");
        let made = PathBuf::from(String::from_utf8(output.stdout).expect("a path").trim());
        let scratch = tempfile::tempdir().expect("a directory");
        let file = scratch.path().join("disk");
        let format = disk(&made.join("root.raw"), &file);
        let drive = format!("file={},if=virtio,format={format},cache=unsafe", file.display());
        let more = vec!["-drive".to_owned(), drive];
        Emulated { made, scratch, run, port, more, qemu: RefCell::new(None), boots: Cell::new(0) }
    }

    /// The same with what these words of qemu's say.
    pub fn with(mut self, words: &[&str]) -> Emulated {
        self.more.extend(words.iter().map(|word| (*word).to_owned()));
        self
    }

    /// Where a file of this name may lie that goes with it.
    pub fn at(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// Switches it on.
    pub fn start(&self) {
        self.cut_power();
        self.boots.set(self.boots.get() + 1);
        let mut qemu = (self.run)("qemu-system-x86_64");
        // Each level of page tables costs.
        qemu.args(["-accel", "tcg,thread=multi", "-cpu", "max,la57=off", "-smp", "2", "-m", "1G"]);
        qemu.args(["-nodefaults", "-display", "none", "-no-reboot", "-device", "virtio-rng-pci"]);
        qemu.arg("-kernel").arg(self.made.join("vmlinuz")).arg("-initrd").arg(self.made.join("initrd.img"));
        qemu.args([
            "-append",
            "root=/dev/vda rw quiet console=ttyS0 net.ifnames=0 apparmor=0 mitigations=off audit=0",
        ]);
        qemu.arg("-netdev").arg(format!("user,id=net,hostfwd=tcp:127.0.0.1:{}-:22", self.port));
        qemu.args(["-device", "virtio-net-pci,netdev=net,romfile="]).args(&self.more);
        qemu.arg("-serial").arg(format!("file:{}", self.at("console").display()));
        *self.qemu.borrow_mut() = Some(qemu.stdin(Stdio::null()).spawn().expect("qemu"));
    }

    /// Whether it is on.
    pub fn is_on(&self) -> bool {
        let mut qemu = self.qemu.borrow_mut();
        qemu.as_mut().is_some_and(|qemu| qemu.try_wait().expect("our own child").is_none())
    }

    /// Takes its power away.
    pub fn cut_power(&self) {
        if let Some(mut qemu) = self.qemu.borrow_mut().take() {
            // One that has ended needs no more.
            let _ = qemu.kill();
            let _ = qemu.wait();
        }
    }

    /// Runs a command of the shell in it, as root, for at most 300 s.
    pub fn run(&self, command: &str) -> Output {
        let mut ssh = self.ssh("no");
        ssh.args(["timeout", "300", "bash", "-s"]).stdin(Stdio::piped());
        let mut child = ssh.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("ssh");
        // One that could not connect does not read.
        let _ = child.stdin.take().expect("piped").write_all(command.as_bytes());
        child.wait_with_output().expect("waited for")
    }

    /// Runs a command as somebody does who is logged in and has a terminal.
    pub fn terminal(&self, command: &str) -> Output {
        self.ssh("force").arg(command).stdin(Stdio::null()).output().expect("ssh")
    }

    fn ssh(&self, terminal: &str) -> Command {
        let mut ssh = (self.run)("ssh");
        ssh.arg("-i").arg(self.made.join("key")).args(["-p", &self.port.to_string()]);
        // Of each boot its own: the connection of the one before is dead.
        let socket = self.at(&format!("ssh-{}", self.boots.get()));
        for option in [
            "BatchMode=yes",
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "LogLevel=ERROR",
            "ConnectTimeout=20",
            "ControlMaster=auto",
            "ControlPersist=600",
            &format!("ControlPath={}", socket.display()),
            &format!("RequestTTY={terminal}"),
        ] {
            ssh.args(["-o", option]);
        }
        ssh.arg("root@127.0.0.1");
        ssh
    }
}

impl Drop for Emulated {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let console = std::fs::read(self.at("console")).unwrap_or_default();
            let console = String::from_utf8_lossy(&console).into_owned();
            let last = console.lines().rev().take(30).collect::<Vec<_>>();
            eprintln!("the last lines of the console, the last first:\n{}", last.join("\n"));
        }
        self.cut_power();
    }
}
