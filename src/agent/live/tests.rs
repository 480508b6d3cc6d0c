//! The live host against real parts: binds, mounts of this kernel, probes by child processes.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, umount2};
use tokio::time::timeout;

use super::mounts::device;
use super::*;
use crate::agent::Host;
use crate::config::{self, Config, Mount};
use crate::error::{Chain, Exit};
use crate::host::container::{Engine, Found};
use crate::host::credentials::{Holder, Secret};
use crate::host::mount::MountTable;
use ladder::state::{
    Action, ContainerState, Device, MountAnswer, Origin, Owner, Phase, Proof, Reason, Repair, Seen, Target,
};

/// Longest wait for something that is about to happen.
const SOON: Duration = Duration::from_secs(20);

pub(super) fn mount(name: &str, path: impl AsRef<Path>) -> Mount {
    // Nobody listens there: every attempt to mount fails at once.
    let text = format!(
        "[[mount]]\nname = {name:?}\nsource = \"s3://bucket\"\npath = {:?}\nmax_stale = \"0s\"\nmemory = \"16MiB\"\n\
         endpoint_url = \"http://127.0.0.1:1\"\npath_style = true\nregion = \"us-east-1\"\n",
        path.as_ref()
    );
    config::tests::config(&text).mounts.remove(0)
}

fn container(name: &str, source: &str) -> config::Container {
    config::tests::container(&format!(
        "owner = \"mapkeeper\"\nname = {name:?}\nimage = \"mapserver:8\"\nbinds = [\"{source}:/mapfiles\"]\n"
    ))
}

pub(super) fn config(mounts: Vec<Mount>, containers: Vec<config::Container>) -> Config {
    Config { mounts, containers, ..config::tests::config(config::tests::LEAST) }
}

fn live(config: &Config, script: &str) -> Live {
    let keys = Holder::fixed(Secret::new("id".to_owned()), Secret::new("key".to_owned()), None);
    let program = ["/bin/sh", "-c", script].map(OsString::from).to_vec();
    let options = Options { credentials: Some(keys), program, ..Options::default() };
    Live::new(config, options).unwrap()
}

/// A tmpfs, taken away at the end; `None` where we may not mount.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    fn new() -> Option<Tmpfs> {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED: needs root to mount");
            return None;
        }
        let tmpfs = Tmpfs(tempfile::tempdir().unwrap());
        tmpfs.mount();
        Some(tmpfs)
    }

    fn mount(&self) {
        nix::mount::mount(Some("other"), self.path(), Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        while umount2(self.0.path(), MntFlags::MNT_DETACH).is_ok() {}
    }
}

/// Removes the container that a test should not have made.
struct Removed(String);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = std::process::Command::new("docker").args(["rm", "-f", &self.0]).output();
    }
}

#[test]
fn a_mount_is_seen_where_the_bind_puts_it() {
    let cases = [
        ("/srv/maps", Some("/mapfiles")),
        ("/srv/maps/deeper", Some("/mapfiles")),
        ("/srv", Some("/mapfiles/maps")),
        ("/", Some("/mapfiles/srv/maps")),
        ("/srv/map", None),
        ("/srv/maps2", None),
    ];
    for (source, expected) in cases {
        let seen = seen_at(Path::new(source), "/mapfiles", Path::new("/srv/maps"));
        assert_eq!(seen.as_deref(), expected.map(Path::new), "{source}");
    }
}

#[test]
fn the_plan_is_told_which_container_stands_on_which_mount() {
    let mut other = container("web", "/srv/rasters/deep");
    other.owner = config::Owner::Ecs;
    let config = config(
        vec![mount("maps", "/srv/maps"), mount("rasters", "/srv/rasters")],
        vec![container("web", "/srv"), other, container("none", "/var")],
    );
    let settings = settings(&config);
    assert_eq!(settings.mounts, ["maps", "rasters"]);
    let told: Vec<_> = settings
        .containers
        .iter()
        .map(|container| (container.name.as_str(), container.owner, container.mounts.clone()))
        .collect();
    let both = vec!["maps".to_owned(), "rasters".to_owned()];
    assert_eq!(
        told,
        [
            ("web", Owner::Mapkeeper, both),
            ("web #2", Owner::Ecs, vec!["rasters".to_owned()]),
            ("none", Owner::Mapkeeper, Vec::new()),
        ]
    );
}

#[tokio::test]
async fn a_path_where_nothing_is_mounted_is_asked_by_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let live = live(&config(vec![mount("maps", dir.path())], Vec::new()), "exit 1");
    assert_eq!(live.mount_entry("maps").await, Seen::Known(None));
    assert_eq!(live.session("maps").await, Seen::Known(None));
    let answer = live.mount_answer("maps").await;
    assert_eq!(answer, Seen::Unknown("nothing is mounted there".to_owned()));
}

#[tokio::test]
async fn what_a_child_finds_is_the_answer_and_what_it_cannot_find_is_unknown() {
    let Some(tmpfs) = Tmpfs::new() else { return };
    let config = config(vec![mount("maps", tmpfs.path())], Vec::new());
    let cases = [
        (
            r#"{"listed":{"device":[0,50],"entries":2}}"#,
            Ok(MountAnswer::Serves(Device { major: 0, minor: 50 })),
        ),
        (r#"{"elsewhere":{"device":[0,51]}}"#, Ok(MountAnswer::Serves(Device { major: 0, minor: 51 }))),
        (r#"{"failed":{"errno":"ENOTCONN"}}"#, Ok(MountAnswer::Errno("ENOTCONN".to_owned()))),
        ("nonsense", Err(())),
    ];
    for (line, expected) in cases {
        let found = live(&config, &format!("echo '{line}'")).mount_answer("maps").await;
        match expected {
            Ok(answer) => assert_eq!(found, Seen::Known(answer)),
            Err(()) => assert!(matches!(found, Seen::Unknown(_)), "{found:?}"),
        }
    }
}

#[tokio::test]
async fn a_foreign_mount_is_recognised() {
    let Some(tmpfs) = Tmpfs::new() else { return };
    let live = live(&config(vec![mount("maps", tmpfs.path())], Vec::new()), "exit 1");
    let Seen::Known(Some(entry)) = live.mount_entry("maps").await else { panic!("nothing seen") };
    assert_eq!(
        (entry.origin, entry.fs_type.as_str(), entry.source.as_str()),
        (Origin::Foreign, "tmpfs", "other")
    );
}

#[tokio::test]
async fn a_change_at_our_path_nudges_and_one_elsewhere_does_not() {
    let Some(ours) = Tmpfs::new() else { return };
    let Some(other) = Tmpfs::new() else { return };
    let live = live(&config(vec![mount("maps", ours.path())], Vec::new()), "exit 1");
    live.mount_entry("maps").await;
    other.mount();
    assert!(timeout(Duration::from_millis(300), live.wake()).await.is_err());
    ours.mount();
    timeout(SOON, live.wake()).await.unwrap();
}

#[tokio::test]
async fn a_mount_that_fails_says_why_how_to_cure_it_and_with_which_exit_code() {
    let Some(tmpfs) = Tmpfs::new() else { return };
    let live = live(&config(vec![mount("maps", tmpfs.path())], Vec::new()), "exit 1");
    let action = Action {
        target: Target::Mount("maps".to_owned()),
        repair: Repair::Mount,
        trigger: Reason::NothingMounted,
        rests_on: Vec::new(),
    };
    let failure = live.apply(&action).await.unwrap_err();
    assert!(failure.error.contains("is already mounted on"), "{failure:?}");
    assert_eq!(failure.exit, Exit::AlreadyMounted.code());
    assert!(failure.hint.is_some());
}

#[tokio::test]
async fn a_container_is_not_touched_when_its_mount_changed_after_the_look() {
    if let Err(error) = Engine::connect().await {
        eprintln!("SKIPPED: needs Docker: {}", Chain(&error));
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().to_str().unwrap();
    let name = format!("mapkeeper-test-proof-{}", std::process::id());
    let config = config(vec![mount("maps", dir.path())], vec![container(&name, source)]);
    let live = live(&config, "exit 1");
    let _removed = Removed(name.clone());
    let action = Action {
        target: Target::Container(name),
        repair: Repair::Create,
        trigger: Reason::ContainerAbsent,
        rests_on: vec![Proof { mount: "maps".to_owned(), device: Device { major: 0, minor: 1 } }],
    };
    let failure = live.apply(&action).await.unwrap_err();
    assert_eq!(failure.error, "mount maps changed in the meantime");
    let container = &settings(&config).containers[0];
    assert_eq!(live.container(container).await, Seen::Known(ContainerState::Absent));
}

#[tokio::test]
async fn an_agent_that_ends_puts_away_what_it_made_and_nothing_of_another() {
    let Ok(engine) = Engine::connect().await else {
        eprintln!("SKIPPED: needs Docker");
        return;
    };
    let (dir, first, second) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let name = format!("mapkeeper-test-two-{}", std::process::id());
    let config = config(Vec::new(), vec![container(&name, dir.path().to_str().unwrap())]);
    let engine = engine.on_behalf_of(first.path());
    let _removed = Removed(name);
    engine.create(&config.containers[0], None).await.unwrap();
    let phase = async || match engine.find(&config.containers[0]).await.unwrap() {
        Found::Present(facts) => facts.seen.phase,
        other => panic!("{other:?}"),
    };
    let agent = |dir: &Path| {
        let options = Options { runtime_dir: Some(dir.to_owned()), ..Options::default() };
        Live::new(&config, options).unwrap()
    };
    let other = agent(second.path());
    let seen = other.container(&settings(&config).containers[0]).await;
    let owner = first.path().to_str();
    assert!(
        matches!(&seen, Seen::Known(ContainerState::Foreign { agent, .. }) if agent.as_deref() == owner),
        "{seen:?}"
    );
    other.shut_down().await;
    assert_eq!(phase().await, Phase::Running);
    agent(first.path()).shut_down().await;
    assert_eq!(phase().await, Phase::Exited);
}

#[tokio::test]
async fn what_a_process_sees_is_read_from_its_own_mount_table() {
    let Some(tmpfs) = Tmpfs::new() else { return };
    let Some(target) = Tmpfs::new() else { return };
    let mut wanted = container("web", tmpfs.path().to_str().unwrap());
    wanted.binds[0].target = target.path().to_str().unwrap().to_owned();
    let config = config(vec![mount("maps", tmpfs.path())], vec![wanted]);
    let live = live(&config, "exit 1");
    let container = &settings(&config).containers[0];
    // This very process stands for the container's.
    let table = MountTable::of(None).unwrap();
    let expected = table.top(target.path()).map(|entry| device(entry.device));
    let view = live.view(container, std::process::id(), "maps").await;
    assert_eq!(view, Seen::Known(expected));
    assert!(expected.is_some());
    let gone = live.view(container, u32::MAX, "maps").await;
    assert!(matches!(&gone, Seen::Unknown(reason) if reason.contains("4294967295")), "{gone:?}");
}
