//! The RPM and the deb: both hold the same files, and the program in them is the one that was built.
//!
//! That they can be installed, upgraded while they serve and removed is shown by `tests/boot/booted.rs`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::revisions as packages;

/// What a host gets beside manual pages and documentation; a `*` stands for a name that differs.
const FILES: &[&str] = &[
    "/etc/mapkeeper/config.toml",
    "/usr/bin/mapkeeper",
    "/usr/lib/mapkeeper/undo-bootstrap",
    "/usr/lib/systemd/system/ecs.service.d/10-mapkeeper.conf",
    "/usr/lib/systemd/system/mapkeeper-volume.service",
    "/usr/lib/systemd/system/mapkeeper.service",
    "/usr/sbin/mount.mapkeeper",
    "/usr/share/bash-completion/completions/mapkeeper",
    "/usr/share/doc/mapkeeper/README.md",
    "/usr/share/fish/vendor_completions.d/mapkeeper.fish",
    "/usr/share/licenses/mapkeeper/LICENSE-APACHE",
    "/usr/share/licenses/mapkeeper/LICENSE-MIT",
    "/usr/share/man/man1/mapkeeper-run.1.gz",
    "/usr/share/man/man1/mapkeeper.1.gz",
    "/usr/share/man/man8/mount.mapkeeper.8.gz",
];

fn said(command: &mut Command) -> String {
    let output = command.output().expect("started");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// A directory for the test, and both packages.
fn build() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let program =
        std::env::var_os("PROGRAM_UNDER_TEST").unwrap_or_else(|| env!("CARGO_BIN_EXE_mapkeeper").into());
    packages::build(Path::new(&program), 1)
}

#[test]
fn both_hold_the_program_and_everything_that_belongs_to_it() {
    let (scratch, deb, rpm) = build();
    let listed = said(Command::new("rpm").args(["--query", "--list", "--package"]).arg(&rpm));
    println!("{listed}");
    let in_rpm: BTreeSet<&str> = listed.lines().collect();
    let tree = scratch.path().join("deb");
    said(Command::new("dpkg-deb").arg("--extract").arg(&deb).arg(&tree));
    for file in FILES {
        assert!(in_rpm.contains(file), "{file} is not in the RPM");
        assert!(
            tree.join(file.trim_start_matches('/')).symlink_metadata().is_ok(),
            "{file} is not in the deb"
        );
    }
    let other = scratch.path().join("rpm");
    std::fs::create_dir(&other).expect("made");
    let unpack = "rpm2cpio \"$0\" | cpio --quiet --extract --make-directories";
    said(Command::new("sh").args(["-c", unpack]).arg(&rpm).current_dir(&other));
    let same = |path: &str| {
        std::fs::read(tree.join(path)).expect("there") == std::fs::read(other.join(path)).expect("there")
    };
    assert!(same("usr/bin/mapkeeper") && same("usr/lib/systemd/system/mapkeeper.service"));
    assert_eq!(
        std::fs::read_link(other.join("usr/sbin/mount.mapkeeper")).expect("a link"),
        Path::new("../bin/mapkeeper")
    );
    // What somebody has changed stays at an upgrade.
    let kept = said(Command::new("rpm").args(["--query", "--configfiles", "--package"]).arg(&rpm));
    assert_eq!(kept.trim(), "/etc/mapkeeper/config.toml");
    let kept = said(Command::new("dpkg-deb").arg("--info").arg(&deb).arg("conffiles"));
    assert_eq!(kept.trim(), "/etc/mapkeeper/config.toml");
    // Every command that is told to people has a page, and every page says something.
    let help = said(Command::new(tree.join("usr/bin/mapkeeper")).arg("--help"));
    let commands =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    for command in
        commands.filter_map(|line| line.split_whitespace().next()).filter(|command| *command != "help")
    {
        let page = tree.join(format!("usr/share/man/man1/mapkeeper-{command}.1.gz"));
        let text = said(Command::new("gzip").arg("--decompress").arg("--stdout").arg(&page));
        assert!(text.contains(".SH SYNOPSIS") && text.contains(".SH DESCRIPTION"), "{command}: {text}");
    }
}
