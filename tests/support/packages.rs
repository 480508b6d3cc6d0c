//! Packages of this program, made for a test.
#![allow(dead_code)] // Each test uses a part of it.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A deb and an RPM of `program`, and what holds them.
pub fn build(program: &Path) -> (TempDir, PathBuf, PathBuf) {
    let scratch = tempfile::tempdir().expect("a directory");
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/packages"));
    command.env("PROGRAM_UNDER_TEST", program).env("CARGO_TARGET_DIR", scratch.path());
    let output = command.output().expect("started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut paths = text.lines().map(PathBuf::from);
    let (deb, rpm) = (paths.next().expect("a deb"), paths.next().expect("an RPM"));
    (scratch, deb, rpm)
}

/// Two debs of `program`, of which the second is newer: `first.deb` and `second.deb` in `into`.
pub fn upgrade(program: &Path, into: &Path) {
    let (scratch, deb, _) = build(program);
    std::fs::copy(&deb, into.join("first.deb")).expect("copied");
    let again = "dpkg-deb -R \"$0\" tree && sed -i 's/^Version: .*/&.1/' tree/DEBIAN/control && dpkg-deb -Znone -b tree \"$1\"";
    let mut command = Command::new("sh");
    command.args(["-c", again]).arg(&deb).arg(into.join("second.deb")).current_dir(scratch.path());
    assert!(command.output().expect("started").status.success(), "the second deb");
}
