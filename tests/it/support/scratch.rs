//! `mapkeeper bootstrap` on a scratch root. Only systemd is not there: what it is told is written down.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::process::Command;

use s3_testbed::{ACCESS_KEY, SECRET_KEY};

use super::aws::{alone, streams};

pub const CONFIG: &str = r#"
[[mount]]
name = "mapfiles"
source = "s3://maps"
path = "/srv/mapkeeper/mapfiles"
"#;

pub const ECS: &str = "[ecs]\ncluster = \"maps\"\nattributes = { \"mapkeeper.ready\" = \"true\" }\n";

/// A scratch root, and what is there to be fetched.
pub struct World {
    pub program: PathBuf,
    pub scratch: tempfile::TempDir,
}

impl World {
    pub fn new(config: &str) -> World {
        let program = env!("CARGO_BIN_EXE_mapkeeper").into();
        let world = World { program, scratch: tempfile::tempdir().expect("a directory") };
        world.publish(config);
        let tools = world.scratch.path().join("tools");
        std::fs::create_dir(&tools).expect("a directory");
        let systemctl = tools.join("systemctl");
        std::fs::write(&systemctl, "#!/bin/sh\necho \"$@\" >>\"$TOLD\"\n").expect("written");
        std::fs::set_permissions(&systemctl, PermissionsExt::from_mode(0o755)).expect("set");
        world
    }

    /// What is there to be fetched.
    pub fn publish(&self, config: &str) {
        std::fs::write(self.published(), config).expect("written");
    }

    pub fn published(&self) -> PathBuf {
        self.scratch.path().join("published.toml")
    }

    pub fn root(&self) -> PathBuf {
        self.scratch.path().join("root")
    }

    pub fn at(&self, path: &str) -> PathBuf {
        self.root().join(path.trim_start_matches('/'))
    }

    pub fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.at(path)).unwrap_or_default()
    }

    pub fn told(&self) -> String {
        std::fs::read_to_string(self.scratch.path().join("told")).unwrap_or_default()
    }

    pub fn command(&self) -> Command {
        self.command_from(&self.published().display().to_string())
    }

    pub fn command_from(&self, from: &str) -> Command {
        let mut command = alone(&self.program);
        let path = format!(
            "{}:{}",
            self.scratch.path().join("tools").display(),
            std::env::var("PATH").unwrap_or_default()
        );
        command
            .arg("bootstrap")
            .arg("--root")
            .arg(self.root())
            .arg("--from")
            .arg(from)
            .env("PATH", path)
            .env("TOLD", self.scratch.path().join("told"))
            .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
            .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
        command
    }

    pub fn boot(&self) -> (Option<i32>, String, String) {
        streams(&mut self.command())
    }

    /// Every file below the root but those of this boot: mode, owner, inode, time and content.
    pub fn files(&self) -> BTreeMap<PathBuf, (u32, u32, u64, i64, Vec<u8>)> {
        let mut found = BTreeMap::new();
        let mut open = vec![self.root()];
        while let Some(directory) = open.pop() {
            for entry in std::fs::read_dir(directory).into_iter().flatten() {
                let path = entry.expect("readable").path();
                let metadata = path.symlink_metadata().expect("readable");
                if metadata.is_dir() {
                    open.push(path);
                } else {
                    let content = std::fs::read(&path).expect("readable");
                    let facts =
                        (metadata.mode() & 0o7777, metadata.uid(), metadata.ino(), metadata.mtime(), content);
                    found.insert(path, facts);
                }
            }
        }
        found
    }
}
