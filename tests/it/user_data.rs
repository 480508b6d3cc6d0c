//! `mapkeeper user-data`: what it prints boots a scratch root, fits, and holds no secret. `tests/boot` boots a host by it.
//!
//! Needs root.

use crate::support::aws as support;
use crate::support::scratch;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use scratch::{CONFIG, ECS, World};
use sha2::{Digest, Sha256};
use support::{mapkeeper, streams};

/// What `mapkeeper user-data` prints for a configuration.
fn user_data(config: &str, more: &[&str]) -> (Option<i32>, String, String) {
    let scratch = tempfile::tempdir().expect("a directory");
    let path = scratch.path().join("c.toml");
    std::fs::write(&path, config).expect("written");
    streams(mapkeeper().arg("user-data").arg("--config").arg(&path).args(more))
}

/// A boothook as `user-data` prints it, turned on the scratch root, and systemd-run as far as the hook needs it.
struct Hook<'a> {
    world: &'a World,
    script: PathBuf,
}

impl Hook<'_> {
    /// For a program whose checksum is `sum`, or the right one.
    fn new<'a>(world: &'a World, sum: Option<&str>) -> Hook<'a> {
        let binary = Path::new(env!("CARGO_BIN_EXE_mapkeeper"));
        let content = std::fs::read(binary).expect("readable");
        let right: String = Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect();
        let more = ["--url", "https://example.com/mapkeeper", "--sha256", sum.unwrap_or(&right)];
        let (code, text, errors) = user_data(&format!("{CONFIG}{ECS}"), &more);
        assert_eq!(code, Some(0), "{errors}");
        // Without the second line it is never run.
        assert!(text.starts_with("#cloud-boothook\n#!/bin/sh\n"), "{text}");
        let (_, config) = text.split_once("<<'MAPKEEPER'\n").expect("the configuration begins");
        let (config, _) = config.split_once("\nMAPKEEPER\n").expect("the configuration ends");
        // A later program has its own defaults.
        assert!(!config.contains("freshness"), "{config}");
        let beside = text.len() - config.len();
        println!("{} bytes, {beside} beside the configuration", text.len());
        assert!(beside < 1024, "{beside}");
        let root = world.root();
        let at = |path: &str| format!("{}{path}", root.display());
        let text = text
            .replace("https://example.com/mapkeeper", &format!("file://{}", binary.display()))
            .replace("/run/", &at("/run/"))
            .replace("/etc/systemd", &at("/etc/systemd"))
            .replace("p=/usr/bin", &format!("p={}", at("/usr/bin")))
            .replace("bootstrap --from", &format!("bootstrap --root {} --from", root.display()));
        let script = world.scratch.path().join("hook");
        std::fs::write(&script, text).expect("written");
        let runs = world.scratch.path().join("tools/systemd-run");
        let text = "#!/bin/sh\necho systemd-run \"$@\" >>\"$TOLD\"\nuntil [ \"$1\" = sh ]; do shift; done\nexec \"$@\"\n";
        std::fs::write(&runs, text).expect("written");
        std::fs::set_permissions(&runs, PermissionsExt::from_mode(0o755)).expect("set");
        for directory in ["run", "usr/bin"] {
            std::fs::create_dir_all(world.at(directory)).expect("made");
        }
        Hook { world, script }
    }

    fn boot(&self) -> (Option<i32>, String, String) {
        let inner = self.world.command();
        let mut command = Command::new("sh");
        command.arg(&self.script);
        command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
        streams(&mut command)
    }

    /// What stays on the disk.
    fn kept(&self) -> BTreeMap<PathBuf, (u32, u32, u64, i64, Vec<u8>)> {
        let mut files = self.world.files();
        files.retain(|path, _| !path.starts_with(self.world.at("run")));
        files
    }
}

#[test]
fn user_data_is_a_small_boothook_that_boots_and_a_second_boot_changes_nothing() {
    let world = World::new("");
    let hook = Hook::new(&world, None);
    let (code, _, errors) = hook.boot();
    assert_eq!(code, Some(0), "{errors}");
    assert!(world.read("etc/ecs/ecs.config").contains("ECS_CLUSTER=maps"));
    let first = hook.kept();
    assert_eq!(hook.boot().0, Some(0));
    assert_eq!(hook.kept(), first);
    let told = world.told();
    let gate = told.find("daemon-reload").expect("systemd is told of the gate");
    let begun = told.find("systemd-run -umapkeeper-boot").expect("the rest is a service");
    assert!(gate < begun, "{told}");
}

#[test]
fn a_program_that_is_not_the_one_meant_is_not_installed_and_the_gate_stands() {
    let world = World::new("");
    let hook = Hook::new(&world, Some(&"1".repeat(64)));
    let (code, said, errors) = hook.boot();
    assert_ne!(code, Some(0));
    assert!(said.contains("mapkeeper.new: FAILED") && errors.contains("did NOT match"), "{said}{errors}");
    assert!(!world.at("usr/bin/mapkeeper").exists() && !world.at("etc/mapkeeper").exists());
    let gate = world.read("etc/systemd/system/ecs.service.d/10-mapkeeper.conf");
    assert!(gate.contains("ExecStartPre=/usr/bin/mapkeeper wait\n"), "{gate}");
    // A gate that a power cut has left empty is none.
    std::fs::write(world.at("etc/systemd/system/ecs.service.d/10-mapkeeper.conf"), "").expect("written");
    assert_ne!(hook.boot().0, Some(0));
    assert_eq!(world.read("etc/systemd/system/ecs.service.d/10-mapkeeper.conf"), gate);
}

#[test]
fn user_data_of_a_host_without_ecs_brings_docker() {
    let container = "[container]\nowner = \"mapkeeper\"\nname = \"mapserver\"\nimage = \"m\"\n";
    let program = ["--url", "https://example.com/x", "--sha256", &"0".repeat(64)];
    let (code, text, errors) = user_data(&format!("{CONFIG}{container}"), &program);
    assert_eq!(code, Some(0), "{errors}");
    assert!(text.starts_with("MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="), "{text}");
    let hook = text.find("\n\n#cloud-boothook\n#!/bin/sh\n").expect("the hook");
    let docker = text.find("\n\n#cloud-config\n").expect("Docker");
    assert!(hook < docker && text.contains("systemctl enable --now docker"), "{text}");
}

#[test]
fn user_data_holds_no_secret_and_says_what_it_lacks() {
    let secret = format!(
        "{CONFIG}[container]\nowner = \"mapkeeper\"\nname = \"mapserver\"\nimage = \"m\"\nenvironment = {{ PGPASSWORD = \"hunter2\" }}\n"
    );
    let program = ["--url", "https://example.com/x", "--sha256", &"0".repeat(64)];
    let (code, text, errors) = user_data(&secret, &program);
    assert_eq!((code, text.as_str()), (Some(64), ""));
    assert!(errors.contains("PGPASSWORD") && !errors.contains("hunter2"), "{errors}");
    let (code, _, errors) = user_data(CONFIG, &[]);
    assert_eq!(code, Some(64));
    assert!(errors.starts_with("mapkeeper: it is not said where the program is"), "{errors}");
    for (url, sum) in [
        ("http://example.com/x", "0"),
        ("https://u:p@example.com/x", "0"),
        ("https://x/'", "0"),
        ("https://x/", "0"),
    ] {
        assert_eq!(user_data(CONFIG, &["--url", url, "--sha256", sum]).0, Some(64), "{url}");
    }
    let large: String = (0..2000).map(|n| format!("A{n} = \"{n}\"\n")).collect();
    let large = format!("{CONFIG}[container]\nname = \"mapserver\"\n[container.environment]\n{large}");
    let (code, _, errors) = user_data(&large, &program);
    assert_eq!(code, Some(64));
    assert!(errors.contains("bytes, and EC2 takes 16384"), "{errors}");
}
