//! Packages of this program, made for a test.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A deb and an RPM of this revision of `program`, and what holds them.
pub fn build(program: &Path, revision: u32) -> (TempDir, PathBuf, PathBuf) {
    let scratch = tempfile::tempdir().expect("a directory");
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/packages"));
    command.arg(revision.to_string()).env("PROGRAM_UNDER_TEST", program);
    let output = command.env("CARGO_TARGET_DIR", scratch.path()).output().expect("started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut paths = text.lines().map(PathBuf::from);
    let (deb, rpm) = (paths.next().expect("a deb"), paths.next().expect("an RPM"));
    (scratch, deb, rpm)
}

/// Two revisions of `program`, of which the second is newer: `1.deb`, `1.rpm`, `2.deb` and `2.rpm` in `into`.
pub fn revisions(program: &Path, into: &Path) {
    for revision in [1, 2] {
        let (_scratch, deb, rpm) = build(program, revision);
        for (package, kind) in [(deb, "deb"), (rpm, "rpm")] {
            std::fs::copy(package, into.join(format!("{revision}.{kind}"))).expect("copied");
        }
    }
}
