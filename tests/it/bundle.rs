//! `mapkeeper bundle` on a host that is full of secrets: none of them is in it, and everything else is.
//!
//! Everything is real. Needs root, `/dev/fuse`, Docker and the image `mapserver:8`.

use crate::support::world;

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use s3_testbed::SECRET_KEY;

use world::{Kit, World, output};

/// Each stands in another place, and in no other.
const IN_ENVIRONMENT: &str = "planted-in-the-environment-of-the-container";
const IN_URL: &str = "planted-in-a-url";
const IN_MAPFILE: &str = "plantedInAMapfile0123456789plantedInAMap";
const IN_JOURNAL: &str = "planted-in-the-journal";
const OF_PROCESS: &str = "planted-in-the-environment-of-the-process";

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_a_bundle_and_everything_else_is() {
    let top = String::new();
    let end = format!(
        "[container.environment]\nPGPASSWORD = \"{IN_ENVIRONMENT}\"\nDB = \"postgresql://gis:{IN_URL}@db/maps\"\n"
    );
    let environment = vec![("GIS_TOKEN".to_owned(), OF_PROCESS.to_owned())];
    let world = World::healthy_with("bundle", Kit { top, end, environment, ..Kit::default() }).await;
    let map = format!("MAP CONFIG \"AWS_SECRET_ACCESS_KEY\" \"{IN_MAPFILE}\" NONSENSE {IN_MAPFILE} END");
    world.server().store().put("maps", "health.map", map, &[]).expect("stored");
    world.until("the report", |status| status["health"] != "healthy").await;

    let programs = with_a_journal(&world);
    let tar = world.scratch.path().join("bundle.tar");
    let bundle = || {
        let mut command = world.mapkeeper();
        let path = format!("{}:{}", programs.display(), std::env::var("PATH").expect("a path"));
        command.env("PATH", path).arg("bundle").arg("--config").arg(world.config()).arg("--output").arg(&tar);
        command
    };
    let made = output(&mut bundle()).await;
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    assert_eq!(std::fs::metadata(&tar).expect("there").permissions().mode() & 0o777, 0o600);
    let unpacked = world.scratch.path().join("unpacked");
    std::fs::create_dir(&unpacked).expect("made");
    let mut command = Command::new("tar");
    let done =
        output(command.arg("-xf").arg(&tar).arg("-C").arg(&unpacked).arg("--strip-components=1")).await;
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));

    let raw = std::fs::read(&tar).expect("readable");
    let raw = String::from_utf8_lossy(&raw);
    for secret in [IN_ENVIRONMENT, IN_URL, IN_MAPFILE, IN_JOURNAL, OF_PROCESS, SECRET_KEY] {
        let at =
            raw.find(secret).map(|at| raw[at.saturating_sub(200)..].chars().take(400).collect::<String>());
        assert!(at.is_none(), "{secret} is in it: {at:?}");
    }
    let read =
        |name: &str| std::fs::read_to_string(unpacked.join(name)).unwrap_or_else(|_| panic!("no {name}"));
    assert!(read("status.json").contains("\"health\": \"degraded\""), "{}", read("status.json"));
    assert!(read("config.toml").contains("source = \"s3://maps\""));
    assert!(read("journal.txt").contains("an ordinary line") && read("journal.txt").contains("user=gis"));
    assert!(read("mountinfo.txt").contains("fuse.mapkeeper"));
    assert!(read("doctor.txt").contains("ok    docker socket"), "{}", read("doctor.txt"));
    assert!(read("versions.txt").starts_with("mapkeeper 0."));
    let inspected = std::fs::read_dir(unpacked.join("inspect")).expect("a directory").count();
    assert_eq!(inspected, 1);

    let again = output(&mut bundle()).await;
    assert_eq!(again.status.code(), Some(1), "what is there is not overwritten");
    assert!(String::from_utf8_lossy(&again.stderr).contains("hint: name another file"));
    world.server().store().put("maps", "health.map", world::HEALTH_MAP, &[]).expect("stored");
    world.until("health", |status| status["health"] == "healthy").await;
    world.end().await;
}

/// A directory with a `journalctl` in whose journal somebody has logged what should not be.
fn with_a_journal(world: &World) -> PathBuf {
    let programs = world.scratch.path().join("bin");
    std::fs::create_dir(&programs).expect("made");
    let journal = format!(
        "#!/bin/sh\necho 'connecting with password={IN_JOURNAL} user=gis'\necho 'Authorization: Bearer {IN_JOURNAL}'\necho '{SECRET_KEY}'\necho 'an ordinary line'\n"
    );
    std::fs::write(programs.join("journalctl"), journal).expect("written");
    std::fs::set_permissions(programs.join("journalctl"), std::fs::Permissions::from_mode(0o755))
        .expect("set");
    programs
}
