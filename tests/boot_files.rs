//! The unit and the user data: each does on a scratch root what it says, and a second run changes nothing.
//!
//! What a real boot makes of them is not shown here.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

struct World {
    scratch: tempfile::TempDir,
    hook: PathBuf,
}

fn of_the_package(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect("readable")
}

impl World {
    /// The boothook filled in with a binary of this test, whose checksum is `checksum` if that is given.
    fn new(checksum: Option<&str>) -> World {
        let scratch = tempfile::tempdir().expect("a directory");
        let binary = scratch.path().join("published");
        std::fs::write(&binary, "a binary").expect("written");
        let summed = Command::new("sha256sum").arg(&binary).output().expect("sha256sum").stdout;
        let summed = String::from_utf8(summed).expect("text");
        let right = summed.split(' ').next().expect("a checksum");
        let text = of_the_package("cloud-init/boothook.sh")
            .replace("https://example.com/mapkeeper", &format!("file://{}", binary.display()))
            .replace(&"0".repeat(64), checksum.unwrap_or(right));
        let hook = scratch.path().join("hook");
        std::fs::write(&hook, text).expect("written");
        // Only systemd is not there: what it is told is written down.
        let tools = scratch.path().join("tools");
        std::fs::create_dir(&tools).expect("a directory");
        let systemctl = tools.join("systemctl");
        std::fs::write(&systemctl, "#!/bin/sh\necho \"$@\" >>\"$TOLD\"\n").expect("written");
        std::fs::set_permissions(&systemctl, std::fs::Permissions::from_mode(0o755)).expect("set");
        World { scratch, hook }
    }

    fn boot(&self) -> Output {
        let path = format!(
            "{}:{}",
            self.scratch.path().join("tools").display(),
            std::env::var("PATH").unwrap_or_default()
        );
        Command::new("sh")
            .arg(&self.hook)
            .env("PATH", path)
            .env("TOLD", self.scratch.path().join("told"))
            .env("MAPKEEPER_ROOT", self.root())
            .output()
            .expect("a shell")
    }

    fn root(&self) -> PathBuf {
        self.scratch.path().join("root")
    }

    /// Every file below the root, with its mode, inode and content.
    fn files(&self) -> BTreeMap<PathBuf, (u32, u64, Vec<u8>)> {
        let mut found = BTreeMap::new();
        let mut open = vec![self.root()];
        while let Some(directory) = open.pop() {
            for entry in std::fs::read_dir(directory).into_iter().flatten() {
                let path = entry.expect("readable").path();
                let metadata = path.metadata().expect("readable");
                if metadata.is_dir() {
                    open.push(path);
                } else {
                    let inode = std::os::unix::fs::MetadataExt::ino(&metadata);
                    let content = std::fs::read(&path).expect("readable");
                    found.insert(path, (metadata.permissions().mode() & 0o7777, inode, content));
                }
            }
        }
        found
    }
}

#[test]
fn the_first_boot_installs_everything_and_the_second_changes_nothing() {
    let world = World::new(None);
    let output = world.boot();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let first = world.files();
    let mode = |path: &str| first.get(&world.root().join(path)).map(|(mode, ..)| *mode);
    assert_eq!(mode("usr/bin/mapkeeper"), Some(0o755));
    assert_eq!(mode("etc/mapkeeper/config.toml"), Some(0o644));
    assert_eq!(mode("etc/systemd/system/mapkeeper.service"), Some(0o644));
    assert_eq!(first.len(), 3);
    assert!(world.boot().status.success());
    assert_eq!(world.files(), first);
    let told = std::fs::read_to_string(world.scratch.path().join("told")).expect("told");
    assert!(told.contains("start --no-block mapkeeper.service"), "{told}");
}

#[test]
fn a_binary_that_is_not_the_one_meant_is_not_installed() {
    let world = World::new(Some(&"1".repeat(64)));
    let output = world.boot();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("is not the file with sha256 1111"), "{said}");
    assert!(world.files().is_empty());
}

#[test]
fn the_configuration_in_the_user_data_is_valid() {
    let world = World::new(None);
    assert!(world.boot().status.success());
    let output = Command::new(env!("CARGO_BIN_EXE_mapkeeper"))
        .args(["config", "check", "--config"])
        .arg(world.root().join("etc/mapkeeper/config.toml"))
        .output()
        .expect("started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_user_data_carries_the_unit_as_it_is_and_fits() {
    let unit = of_the_package("units/mapkeeper.service");
    let hook = of_the_package("cloud-init/boothook.sh");
    let plain: Vec<&str> = unit.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    assert!(hook.contains(&plain.join("\n")), "copy units/mapkeeper.service into cloud-init/boothook.sh");
    assert!(hook.starts_with("#cloud-boothook\n#!/bin/sh\n"), "without the second line it is never executed");
    assert!(hook.len() < 16 * 1024);
}
