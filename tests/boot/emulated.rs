//! A host on an emulated machine: a kernel of its own (6.1, the line of the stock ECS AMI), firmware that says that it is
//! an instance of EC2, and power that can be cut.
//!
//! The disk is a copy of what `tests/boot/machine` makes, turned into a stock-like host. The machine's network is that of
//! the namespace in which AWS is: whatever address it asks for is asked for there.

use std::cell::{Cell, RefCell};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use crate::world::{ADDRESS, Aws, Machine, done, package};

/// As EC2's firmware has it: both begin with `ec2`.
const IDENTITY: &str = "ec2e1916-9099-7caf-fd21-012345abcdef";

pub struct Emulated {
    /// What `tests/boot/machine` has made.
    made: PathBuf,
    scratch: tempfile::TempDir,
    /// A process in the network namespace.
    holder: u32,
    qemu: RefCell<Option<Child>>,
    boots: Cell<u32>,
}

impl Emulated {
    /// One that has never been on, in the network of `aws`.
    pub fn new(aws: &Aws) -> Emulated {
        let made = PathBuf::from(done(&mut Command::new(package("tests/boot/machine"))));
        let scratch = tempfile::tempdir().expect("a directory");
        let disk = scratch.path().join("disk");
        done(Command::new("cp").args(["--sparse=always"]).arg(made.join("root.raw")).arg(&disk));
        let root = scratch.path().join("root");
        std::fs::create_dir(&root).expect("made");
        done(Command::new("mount").args(["-o", "loop"]).arg(&disk).arg(&root));
        let made_stock = stock(&root, &aws.directory.path().join("ca.pem"));
        done(Command::new("umount").arg(&root));
        made_stock.expect("a stock-like host");
        Emulated { made, scratch, holder: aws.holder, qemu: RefCell::new(None), boots: Cell::new(0) }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn stop(&self) {
        if let Some(mut qemu) = self.qemu.borrow_mut().take() {
            // One that has ended needs no more.
            let _ = qemu.kill();
            let _ = qemu.wait();
        }
    }
}

/// Makes what is below `root` a stock-like host that trusts `authority` and asks the name server of the test.
fn stock(root: &Path, authority: &Path) -> std::io::Result<()> {
    let run = |command: &mut Command| {
        let status = command.stdout(Stdio::null()).status()?;
        if status.success() { Ok(()) } else { Err(std::io::Error::other(format!("{command:?}: {status}"))) }
    };
    run(Command::new(package("tests/boot/stock/install")).arg(root))?;
    // Whatever DHCP says of name servers.
    let dhcp = format!("supersede domain-name-servers {ADDRESS};\nrequest subnet-mask, routers;\n");
    std::fs::write(root.join("etc/dhcp/dhclient.conf"), dhcp)?;
    std::fs::copy(authority, root.join("usr/local/share/ca-certificates/stand-in.crt"))?;
    run(Command::new("chroot").arg(root).arg("update-ca-certificates").stderr(Stdio::null()))
}

impl Machine for Emulated {
    // An emulated processor is slower than any real one by far.
    fn limits(&self) -> (Duration, Duration) {
        (Duration::from_secs(400), Duration::from_secs(400))
    }

    fn start(&self) {
        self.stop();
        self.boots.set(self.boots.get() + 1);
        let mut qemu = Aws::within(self.holder, "qemu-system-x86_64");
        qemu.args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "1G"]);
        qemu.args(["-nodefaults", "-display", "none", "-no-reboot", "-device", "virtio-rng-pci"]);
        qemu.arg("-smbios").arg(format!("type=1,manufacturer=Amazon EC2,uuid={IDENTITY},serial={IDENTITY}"));
        qemu.arg("-kernel").arg(self.made.join("vmlinuz")).arg("-initrd").arg(self.made.join("initrd.img"));
        qemu.args([
            "-append",
            "root=/dev/vda rw console=ttyS0 net.ifnames=0 apparmor=0 mitigations=off audit=0",
        ]);
        qemu.arg("-drive")
            .arg(format!("file={},if=virtio,format=raw,cache=unsafe", self.at("disk").display()));
        qemu.args(["-netdev", "user,id=net,hostfwd=tcp:127.0.0.1:2222-:22"]);
        qemu.args(["-device", "virtio-net-pci,netdev=net,romfile="]);
        qemu.arg("-serial").arg(format!("file:{}", self.at("console").display()));
        let started = qemu.stdin(Stdio::null()).spawn().expect("qemu");
        *self.qemu.borrow_mut() = Some(started);
    }

    fn is_on(&self) -> bool {
        let mut qemu = self.qemu.borrow_mut();
        qemu.as_mut().is_some_and(|qemu| qemu.try_wait().expect("our own child").is_none())
    }

    fn cut_power(&self) {
        self.stop();
    }

    fn run(&self, command: &str) -> Output {
        let mut ssh = Aws::within(self.holder, "ssh");
        ssh.arg("-i").arg(self.made.join("key")).args(["-p", "2222", "-o", "BatchMode=yes", "-o"]);
        ssh.args(["StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]);
        ssh.args(["-o", "ConnectTimeout=20", "-o", "ControlMaster=auto", "-o", "ControlPersist=600", "-o"]);
        // Of each boot its own: the connection of the one before is dead.
        ssh.arg(format!("ControlPath={}", self.at(&format!("ssh-{}", self.boots.get())).display()));
        ssh.args(["root@127.0.0.1", "timeout", "100", "sh", "-s"]).stdin(Stdio::piped());
        let mut child = ssh.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("ssh");
        // One that could not connect does not read.
        let _ = child.stdin.take().expect("piped").write_all(command.as_bytes());
        child.wait_with_output().expect("waited for")
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
        self.stop();
    }
}
