//! A stock-like host on an emulated machine: a kernel of its own, firmware that says that it is an instance of EC2, and
//! power that can be cut.
//!
//! Its network is that of the namespace in which AWS is: whatever address it asks for is asked for there.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use crate::emulator::Emulated;

use crate::world::{ADDRESS, Aws, Machine, done, package};

/// As EC2's firmware has it: both begin with `ec2`.
const FIRMWARE: &str = "type=1,manufacturer=Amazon EC2,uuid=ec2e1916-9099-7caf-fd21-012345abcdef,serial=ec2e1916-9099-7caf-fd21-\
                        012345abcdef";
/// Of loopback, in a network that is the test's alone.
const PORT: u16 = 2222;

/// One that has never been on, in the network of `aws`.
pub fn stock(aws: &Aws) -> Emulated {
    let (holder, authority) = (aws.holder, aws.directory.path().join("ca.pem"));
    let run = Box::new(move |program: &str| Aws::within(holder, program));
    let machine = Emulated::new(run, PORT, |made, disk| {
        done(Command::new("cp").args(["--sparse=always"]).args([made, disk]));
        let root = tempfile::tempdir().expect("a directory");
        done(Command::new("mount").args(["-o", "loop"]).arg(disk).arg(root.path()));
        let turned = turn(root.path(), &authority);
        done(Command::new("umount").arg(root.path()));
        turned.expect("a stock-like host");
        "raw"
    });
    machine.with(&["-smbios", FIRMWARE])
}

/// Makes what is below `root` a stock-like host that trusts `authority` and asks the name server of the test.
fn turn(root: &Path, authority: &Path) -> std::io::Result<()> {
    let run = |command: &mut Command| {
        let status = command.stdout(Stdio::null()).status()?;
        if status.success() { Ok(()) } else { Err(std::io::Error::other(format!("{command:?}: {status}"))) }
    };
    run(Command::new(package("tests/boot/stock/install")).arg(root))?;
    std::fs::write(root.join("etc/resolv.conf"), format!("nameserver {ADDRESS}\n"))?;
    std::fs::copy(authority, root.join("usr/local/share/ca-certificates/stand-in.crt"))?;
    run(Command::new("chroot").arg(root).arg("update-ca-certificates").stderr(Stdio::null()))
}

impl Machine for Emulated {
    // An emulated processor is slower than any real one by far.
    fn limits(&self) -> (Duration, Duration) {
        (Duration::from_secs(600), Duration::from_secs(600))
    }

    fn start(&self) {
        Emulated::start(self);
    }

    fn is_on(&self) -> bool {
        Emulated::is_on(self)
    }

    fn cut_power(&self) {
        Emulated::cut_power(self);
    }

    fn run(&self, command: &str) -> Output {
        Emulated::run(self, command)
    }

    fn terminal(&self, command: &str) -> Output {
        Emulated::terminal(self, command)
    }
}
