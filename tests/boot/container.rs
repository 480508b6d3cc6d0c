//! A host in a container whose first process is systemd: nothing of it comes from the machine that runs the test but its
//! kernel.

use std::process::{Command, Output};
use std::time::Duration;

use crate::world::{ADDRESS, Aws, Ecs, Machine, docker, done};

const SYSTEMD: &[&str] = &[
    "--cgroupns=private",
    "--cap-add=ALL",
    "--cap-drop=SYS_RESOURCE",
    "--security-opt=seccomp=unconfined",
    "--security-opt=apparmor=unconfined",
    "--device=/dev/fuse",
    "--tmpfs=/run",
    "--tmpfs=/tmp",
];

/// A container whose first process is systemd, with a disk for Docker.
pub struct Container(String);

impl Container {
    /// One that has never been on, in the network of `aws`.
    pub fn new(aws: &Aws, ecs: Ecs) -> Container {
        let container = Container(format!("{}-host", aws.namespace));
        let name = container.0.as_str();
        docker(&["volume", "create", name]);
        let at = |volume| docker(&["volume", "inspect", "--format", "{{.Mountpoint}}", volume]);
        let (from, to) = (format!("{}/.", at("mapkeeper-boot-images")), at(name));
        done(Command::new("cp").args(["--archive", &from, &to]));
        let network = format!("--network=container:{}", aws.namespace);
        let (disk, asks) =
            (format!("--volume={name}:/var/lib/docker"), format!("--env=NAMESERVER={ADDRESS}"));
        let mut create = vec!["create", "--name", name, &network, &disk, &asks];
        create.extend(SYSTEMD);
        create.push("mapkeeper-stock:12");
        docker(&create);
        let authority = aws.directory.path().join("ca.pem").display().to_string();
        docker(&["cp", &authority, &format!("{name}:/usr/local/share/ca-certificates/stand-in.crt")]);
        if ecs == Ecs::Absent {
            let masked = aws.directory.path().join("ecs.service");
            std::os::unix::fs::symlink("/dev/null", &masked).expect("made");
            docker(&[
                "cp",
                &masked.display().to_string(),
                &format!("{name}:/etc/systemd/system/ecs.service"),
            ]);
        }
        container
    }
}

impl Machine for Container {
    fn limits(&self) -> (Duration, Duration) {
        (Duration::from_secs(120), Duration::from_secs(120))
    }

    fn start(&self) {
        docker(&["start", &self.0]);
    }

    fn is_on(&self) -> bool {
        docker(&["inspect", "--format", "{{.State.Running}}", &self.0]) == "true"
    }

    fn cut_power(&self) {
        docker(&["kill", &self.0]);
    }

    fn run(&self, command: &str) -> Output {
        let words = ["exec", &self.0, "timeout", "180", "sh", "-c", command];
        Command::new("docker").args(words).output().expect("started")
    }

    fn terminal(&self, command: &str) -> Output {
        let words = ["exec", "--tty", &self.0, "sh", "-c", command];
        Command::new("docker").args(words).output().expect("started")
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = Command::new("docker").args(["rm", "--force", "--volumes", &self.0]).output();
        let _ = Command::new("docker").args(["volume", "rm", "--force", &self.0]).output();
    }
}
