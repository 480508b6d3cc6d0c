//! A whole machine with Debian's kernel 6.1, the line of the stock ECS AMI: what its kernel cannot send again is answered.
//!
//! Our unit as it is, systemd, Docker and MapServer on an emulated machine. Not among the tests that are run by themselves:
//! `make test-boot`. Needs what `emulator.rs` says.

use std::fs::File;
use std::process::{Command, Output};
use std::time::Duration;

use crate::emulator::Emulated;
use support::{Host, Kit, Reach};

use crate::kit as support;

/// Under which the machine reaches this one's loopback.
const OUTSIDE: &str = "10.0.2.2";
/// Bytes of the disk by which files reach the machine, at most.
const SHARE_BYTES: u64 = 256 << 20;

/// A machine that is on, with the kit's files on a second disk.
fn boot(kit: &Kit) -> Emulated {
    // One host at a time is booted, and nobody else here listens so low.
    let port = 2223;
    let machine = Emulated::new(Box::new(|program: &str| Command::new(program)), port, |made, disk| {
        let mut image = Command::new("qemu-img");
        image.args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"]).args([made, disk]);
        assert!(image.status().expect("qemu-img").success());
        "qcow2"
    });
    let share = machine.at("share");
    let mut tar = Command::new("tar");
    tar.arg("-cf").arg(&share).arg("-C").arg(kit.share.path()).arg(".");
    assert!(tar.status().expect("tar").success());
    let sized = File::options().write(true).open(&share).and_then(|file| file.set_len(SHARE_BYTES));
    sized.expect("sized");
    let drive = format!("file={},if=virtio,format=raw,readonly=on", share.display());
    let machine = machine.with(&["-drive", &drive]);
    machine.start();
    machine
}

impl Reach for Emulated {
    fn run(&self, command: &str) -> Output {
        Emulated::run(self, command)
    }

    fn limit(&self) -> Duration {
        Duration::from_secs(600)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_kernel_6_1_the_mount_outlives_every_end_of_the_agent_and_maps_are_served() {
    let kit = Kit::new(OUTSIDE, "30s", true);
    let machine = boot(&kit);
    let unpack = "mkdir -p /share && dd if=/dev/vdb bs=1M status=none | tar -x -C /share";
    let began = tokio::time::Instant::now();
    while !machine.run(unpack).status.success() {
        assert!(began.elapsed() < machine.limit(), "it does not boot");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    println!("booted in {:?}", began.elapsed());
    let host = Host::install(machine, kit).await;
    println!("kernel {}", host.sh("uname -r"));
    host.outlives_everything().await;
}
