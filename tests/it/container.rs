//! Containers on a real Docker Engine: made, watched, repaired and left alone.
//!
//! Needs Docker and the image `mapserver:8`; without them each test says so and proves nothing. Every
//! test uses a name and a port of its own and removes what it made, also when it fails.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::support::port;
use ladder::state::Phase;
use mapkeeper::config::{Bind, Container, Owner, Port, Protocol, Selector};
use mapkeeper::error::{Advise, Chain, Exit};
use mapkeeper::host::container::{ContainerError, Engine, Facts, Found, fingerprint, follow_events};
use tokio::time::{Instant, sleep, timeout};

const IMAGE: &str = "mapserver:8";

/// A container that is removed at the end of its test.
struct Made {
    wanted: Container,
    name: String,
}

impl Made {
    /// What `label` describes, on a free port, with `dir` bound.
    fn new(label: &str, dir: &Path) -> Made {
        let name = format!("mapkeeper-test-{label}-{}", std::process::id());
        let wanted = Container {
            owner: Owner::Mapkeeper,
            selector: Selector::Name(name.clone()),
            image: Some(IMAGE.to_owned()),
            ports: vec![Port {
                host_ip: Some("127.0.0.1".parse().unwrap()),
                host: port::own(),
                container: 80,
                protocol: Protocol::Tcp,
            }],
            binds: vec![Bind {
                source: dir.to_owned(),
                target: "/mapfiles".to_owned(),
                options: vec!["ro".to_owned()],
            }],
            environment: [("MS_ERRORFILE".to_owned(), "stderr".to_owned())].into(),
            probe: None,
        };
        Made { wanted, name }
    }

    fn port(&self) -> u16 {
        self.wanted.ports[0].host
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let _ = Command::new("docker").args(["rm", "-f", &self.name]).output();
    }
}

fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "docker {arguments:?}: {told}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Docker, if it is there with the image.
async fn engine() -> Option<Engine> {
    let engine = match Engine::connect().await {
        Ok(engine) => engine,
        Err(error) => {
            eprintln!("SKIPPED: needs Docker: {}", Chain(&error));
            return None;
        }
    };
    let image = Command::new("docker").args(["image", "inspect", IMAGE]).output();
    if !image.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: needs the image {IMAGE}");
        return None;
    }
    Some(engine)
}

async fn present(engine: &Engine, wanted: &Container) -> Facts {
    match engine.find(wanted).await.unwrap() {
        Found::Present(facts) => *facts,
        other => panic!("{other:?}"),
    }
}

async fn until_phase(engine: &Engine, wanted: &Container, phase: Phase) -> Facts {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let facts = present(engine, wanted).await;
        if facts.seen.phase == phase {
            return facts;
        }
        assert!(Instant::now() < deadline, "{facts:?}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// Pauses a container; Docker cannot while its processes are still being started.
async fn pause(name: &str) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !Command::new("docker").args(["pause", name]).output().unwrap().status.success() {
        assert!(Instant::now() < deadline, "it cannot be paused");
        sleep(Duration::from_millis(200)).await;
    }
}

macro_rules! engine_or_skip {
    () => {
        match engine().await {
            Some(engine) => engine,
            None => return,
        }
    };
}

#[tokio::test]
async fn a_container_is_made_as_configured_and_runs() {
    let engine = engine_or_skip!();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("seen.map"), "MAP END").unwrap();
    let made = Made::new("create", dir.path());
    assert_eq!(engine.find(&made.wanted).await.unwrap(), Found::Absent);
    engine.create(&made.wanted, None).await.unwrap();
    let facts = until_phase(&engine, &made.wanted, Phase::Running).await;
    assert_eq!(facts.name, made.name);
    assert_eq!(facts.seen.image, IMAGE);
    assert_eq!(facts.specification, Some(fingerprint(&made.wanted)));
    assert_eq!(facts.binds, [(dir.path().to_str().unwrap().to_owned(), "/mapfiles".to_owned())]);
    assert!(Path::new(&format!("/proc/{}", facts.seen.pid.unwrap())).exists());
    assert_eq!(docker(&["exec", &made.name, "ls", "/mapfiles"]), "seen.map");
    assert_eq!(docker(&["exec", &made.name, "printenv", "MS_ERRORFILE"]), "stderr");
    let policy = docker(&["inspect", "-f", "{{.HostConfig.RestartPolicy.Name}}", &made.name]);
    assert_eq!(policy, "no");
    assert!(TcpStream::connect(("127.0.0.1", made.port())).is_ok());
}

#[tokio::test]
async fn a_killed_container_is_seen_exited_and_starts_again() {
    let engine = engine_or_skip!();
    let dir = tempfile::tempdir().unwrap();
    let made = Made::new("kill", dir.path());
    engine.create(&made.wanted, None).await.unwrap();
    let before = until_phase(&engine, &made.wanted, Phase::Running).await;
    docker(&["kill", "-s", "KILL", &made.name]);
    let exited = until_phase(&engine, &made.wanted, Phase::Exited).await;
    assert_eq!((exited.seen.exit_code, exited.seen.pid, exited.seen.oom_killed), (Some(137), None, false));
    engine.start(&made.wanted).await.unwrap();
    let after = until_phase(&engine, &made.wanted, Phase::Running).await;
    assert_eq!(after.seen.id, before.seen.id);
    assert_ne!(after.seen.started, before.seen.started);
}

#[tokio::test]
async fn a_restart_is_a_new_life_of_the_same_container() {
    let engine = engine_or_skip!();
    let dir = tempfile::tempdir().unwrap();
    let made = Made::new("restart", dir.path());
    engine.create(&made.wanted, None).await.unwrap();
    let before = until_phase(&engine, &made.wanted, Phase::Running).await;
    engine.restart(&made.wanted).await.unwrap();
    let after = until_phase(&engine, &made.wanted, Phase::Running).await;
    assert_eq!(after.seen.id, before.seen.id);
    assert_ne!((after.seen.started, after.seen.pid), (before.seen.started, before.seen.pid));
}

#[tokio::test]
async fn a_stopped_container_is_exited_and_stopping_it_again_is_no_error() {
    let engine = engine_or_skip!();
    let dir = tempfile::tempdir().unwrap();
    let made = Made::new("stop", dir.path());
    engine.stop(&made.wanted).await.unwrap();
    engine.create(&made.wanted, None).await.unwrap();
    engine.stop(&made.wanted).await.unwrap();
    until_phase(&engine, &made.wanted, Phase::Exited).await;
    engine.stop(&made.wanted).await.unwrap();
}

#[tokio::test]
async fn a_paused_container_goes_on() {
    let engine = engine_or_skip!();
    let dir = tempfile::tempdir().unwrap();
    let made = Made::new("pause", dir.path());
    engine.create(&made.wanted, None).await.unwrap();
    pause(&made.name).await;
    until_phase(&engine, &made.wanted, Phase::Paused).await;
    engine.unpause(&made.wanted).await.unwrap();
    until_phase(&engine, &made.wanted, Phase::Running).await;
}

#[tokio::test]
async fn a_removed_container_is_absent_and_removing_it_again_is_no_error() {
    let engine = engine_or_skip!();
    let dir = tempfile::tempdir().unwrap();
    let made = Made::new("remove", dir.path());
    engine.create(&made.wanted, None).await.unwrap();
    engine.remove(&made.wanted).await.unwrap();
    assert_eq!(engine.find(&made.wanted).await.unwrap(), Found::Absent);
    engine.remove(&made.wanted).await.unwrap();
    let error = engine.start(&made.wanted).await.unwrap_err();
    assert!(matches!(error, ContainerError::Gone { .. }), "{error:?}");
}

#[tokio::test]
async fn a_changed_configuration_shows_and_is_put_in_force_by_recreation() {
    let engine = engine_or_skip!();
    let dir = tempfile::tempdir().unwrap();
    let mut made = Made::new("drift", dir.path());
    engine.create(&made.wanted, None).await.unwrap();
    let before = present(&engine, &made.wanted).await;
    made.wanted.environment.insert("NEW".to_owned(), "1".to_owned());
    assert_ne!(before.specification, Some(fingerprint(&made.wanted)));
    engine.recreate(&made.wanted, None).await.unwrap();
    let after = present(&engine, &made.wanted).await;
    assert_ne!(after.seen.id, before.seen.id);
    assert_eq!(after.specification, Some(fingerprint(&made.wanted)));
    assert_eq!(docker(&["exec", &made.name, "printenv", "NEW"]), "1");
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_and_nothing_is_left_behind() {
    let engine = engine_or_skip!();
    let dir = tempfile::tempdir().unwrap();
    let made = Made::new("port", dir.path());
    let holder = TcpListener::bind(("127.0.0.1", made.port())).unwrap();
    let error = engine.create(&made.wanted, None).await.unwrap_err();
    assert!(matches!(&error, ContainerError::PortTaken { port, .. } if *port == made.port()), "{error:?}");
    assert_eq!(error.exit(), Exit::PortTaken);
    assert_eq!(engine.find(&made.wanted).await.unwrap(), Found::Absent);
    drop(holder);
    engine.create(&made.wanted, None).await.unwrap();
}

#[tokio::test]
async fn a_port_that_another_container_has_is_named() {
    let engine = engine_or_skip!();
    let dir = tempfile::tempdir().unwrap();
    let first = Made::new("port-one", dir.path());
    let mut second = Made::new("port-two", dir.path());
    second.wanted.ports = first.wanted.ports.clone();
    engine.create(&first.wanted, None).await.unwrap();
    let error = engine.create(&second.wanted, None).await.unwrap_err();
    assert!(matches!(&error, ContainerError::PortTaken { port, .. } if *port == first.port()), "{error:?}");
}

#[tokio::test]
async fn a_missing_image_is_named_with_its_cure_and_costs_no_running_container() {
    let engine = engine_or_skip!();
    let dir = tempfile::tempdir().unwrap();
    let mut made = Made::new("image", dir.path());
    engine.create(&made.wanted, None).await.unwrap();
    let before = present(&engine, &made.wanted).await;
    // No registry is there: the pull fails at once.
    made.wanted.image = Some("127.0.0.1:1/mapkeeper/none:1".to_owned());
    let error = engine.recreate(&made.wanted, None).await.unwrap_err();
    assert!(matches!(error, ContainerError::ImageMissing { .. }), "{error:?}");
    assert_eq!(error.exit(), Exit::ImageMissing);
    assert!(error.hint().unwrap().contains("docker pull 127.0.0.1:1/mapkeeper/none:1"));
    assert_eq!(present(&engine, &made.wanted).await.seen.id, before.seen.id);
}

#[tokio::test]
async fn a_bind_without_a_source_is_an_error_and_no_directory_appears() {
    let engine = engine_or_skip!();
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("none");
    let made = Made::new("bind", &source);
    let error = engine.create(&made.wanted, None).await.unwrap_err();
    assert!(matches!(error, ContainerError::BindSourceMissing { .. }), "{error:?}");
    assert!(!source.exists());
    assert_eq!(engine.find(&made.wanted).await.unwrap(), Found::Absent);
}

#[tokio::test]
async fn a_container_of_another_maker_is_recognised_and_left_alone() {
    let engine = engine_or_skip!();
    let dir = tempfile::tempdir().unwrap();
    let made = Made::new("foreign", dir.path());
    let id = docker(&["create", "--name", &made.name, IMAGE]);
    let found = engine.find(&made.wanted).await.unwrap();
    assert!(
        matches!(&found, Found::Foreign { id: short, agent: None } if id.starts_with(short)),
        "{found:?}"
    );
    for error in [
        engine.create(&made.wanted, None).await.unwrap_err(),
        engine.recreate(&made.wanted, None).await.unwrap_err(),
        engine.remove(&made.wanted).await.unwrap_err(),
        engine.start(&made.wanted).await.unwrap_err(),
        engine.restart(&made.wanted).await.unwrap_err(),
    ] {
        assert!(matches!(error, ContainerError::Foreign { .. }), "{error:?}");
    }
    assert_eq!(docker(&["inspect", "-f", "{{.Id}} {{.State.Status}}", &made.name]), format!("{id} created"));
}

#[tokio::test]
async fn a_container_of_another_agent_is_recognised_and_left_alone() {
    let engine = engine_or_skip!();
    let dir = tempfile::tempdir().unwrap();
    let made = Made::new("agents", dir.path());
    let first = engine.clone().on_behalf_of(Path::new("/run/first"));
    let second = engine.on_behalf_of(Path::new("/run/second"));
    first.create(&made.wanted, None).await.unwrap();
    let life = || docker(&["inspect", "-f", "{{.Id}} {{.State.StartedAt}} {{.State.Status}}", &made.name]);
    let before = life();
    let found = second.find(&made.wanted).await.unwrap();
    assert!(
        matches!(&found, Found::Foreign { agent: Some(agent), .. } if agent == "/run/first"),
        "{found:?}"
    );
    second.stop(&made.wanted).await.unwrap();
    for error in [
        second.create(&made.wanted, None).await.unwrap_err(),
        second.recreate(&made.wanted, None).await.unwrap_err(),
        second.remove(&made.wanted).await.unwrap_err(),
        second.start(&made.wanted).await.unwrap_err(),
        second.restart(&made.wanted).await.unwrap_err(),
        second.unpause(&made.wanted).await.unwrap_err(),
        second.make_error_log(&made.wanted).await.unwrap_err(),
    ] {
        assert!(
            matches!(&error, ContainerError::Anothers { agent, .. } if agent == "/run/first"),
            "{error:?}"
        );
        assert!(!error.hint().unwrap().contains("docker rm"), "it is in use");
    }
    assert_eq!(life(), before);
    assert_eq!(present(&first, &made.wanted).await.seen.phase, Phase::Running);
}

/// A container of ours that misses the error log `path`, with `dir` bound so that it could be written to.
fn misses(label: &str, dir: &Path, path: &str) -> Made {
    let made = Made::new(label, dir);
    let (log, bind) = (format!("MS_ERRORFILE={path}"), format!("{}:/mapfiles", dir.display()));
    let run =
        ["run", "-d", "--name", &made.name, "--label", "mapkeeper.managed=true", "-e", &log, "-v", &bind];
    docker(&[&run[..], &[IMAGE, "sleep", "600"]].concat());
    made
}

#[tokio::test]
async fn an_error_log_is_made_for_mapservers_user_and_nobody_else() {
    let engine = engine_or_skip!();
    let dir = tempfile::tempdir().unwrap();
    let made = misses("log", dir.path(), "/var/log/old/ms_error.log");
    engine.make_error_log(&made.wanted).await.unwrap();
    let stat = |path| docker(&["exec", &made.name, "stat", "-c", "%U %a %s", path]);
    assert_eq!(stat("/var/log/old/ms_error.log"), "www-data 640 0");
    assert!(stat("/var/log/old").starts_with("root 755"));
    let error = engine.make_error_log(&made.wanted).await.unwrap_err().to_string();
    assert!(error.contains("it exists"), "{error}");
}

#[tokio::test]
async fn no_error_log_is_made_over_what_exists_or_on_what_is_the_hosts() {
    let engine = engine_or_skip!();
    let dir = tempfile::tempdir().unwrap();
    let cases = [
        ("/etc/shadow", "it exists"),
        ("/mapfiles/secret", "mounted there"),
        ("/x/../mapfiles/secret", "absolute path"),
        ("/var/log/link/secret", "not a directory of root's alone"),
        ("/var/log/dangling", "it exists"),
        ("/tmp/log", "not a directory of root's alone"),
    ];
    for (number, (path, why)) in cases.into_iter().enumerate() {
        let made = misses(&format!("log-{number}"), dir.path(), path);
        let links = "ln -s /mapfiles /var/log/link; ln -s /mapfiles/secret /var/log/dangling";
        docker(&["exec", "-u", "0", &made.name, "sh", "-c", links]);
        let shadow = || docker(&["exec", "-u", "0", &made.name, "stat", "-c", "%U %a %Z", "/etc/shadow"]);
        let before = shadow();
        let error = engine.make_error_log(&made.wanted).await.unwrap_err();
        assert!(matches!(error, ContainerError::NotMade { .. }), "{error:?}");
        assert!(error.to_string().contains(why), "{path}: {error}");
        assert_eq!(shadow(), before);
        docker(&["exec", "-u", "0", &made.name, "sh", "-c", "! test -e /tmp/log && ! test -e /x"]);
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "something was made on the host");
}

#[tokio::test]
async fn a_container_of_ecs_is_found_by_its_label_and_one_that_runs_is_preferred() {
    let engine = engine_or_skip!();
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (Made::new("ecs-old", dir.path()), Made::new("ecs-new", dir.path()));
    let label = format!("mapkeeper.test={}", std::process::id());
    docker(&["run", "-d", "--name", &old.name, "--label", &label, IMAGE]);
    let mut wanted = old.wanted.clone();
    wanted.owner = Owner::Ecs;
    wanted.selector = Selector::Match { label: Some(label.clone()), image: Some(IMAGE.to_owned()) };
    assert_eq!(present(&engine, &wanted).await.name, old.name);
    docker(&["create", "--name", &new.name, "--label", &label, IMAGE]);
    assert_eq!(present(&engine, &wanted).await.name, old.name);
    engine.stop(&wanted).await.unwrap();
    assert_eq!(present(&engine, &wanted).await.name, new.name);
    wanted.selector = Selector::Match { label: Some(label), image: Some("other:1".to_owned()) };
    assert_eq!(engine.find(&wanted).await.unwrap(), Found::Absent);
    let error = engine.remove(&old.wanted).await.unwrap_err();
    assert!(matches!(error, ContainerError::Foreign { .. }), "{error:?}");
}

#[tokio::test]
async fn the_end_of_a_container_is_an_event() {
    let engine = engine_or_skip!();
    let dir = tempfile::tempdir().unwrap();
    let made = Made::new("events", dir.path());
    engine.create(&made.wanted, None).await.unwrap();
    let (sender, mut events) = tokio::sync::mpsc::unbounded_channel();
    let follow = follow_events(
        |name| sender.send(name.map(str::to_owned)).expect("the receiver outlives the stream"),
        Duration::from_secs(1),
    );
    let story = async {
        let limit = Duration::from_secs(60);
        // The first call says that the connection is there; the stream begins right after it.
        assert_eq!(timeout(limit, events.recv()).await.unwrap(), Some(None));
        let end = Instant::now() + limit;
        // A kill that comes before the stream began shows in the next one.
        while Instant::now() < end {
            let _ = Command::new("docker").args(["restart", "-t", "0", &made.name]).output();
            while let Ok(Some(name)) = timeout(Duration::from_secs(1), events.recv()).await {
                if name.as_ref() == Some(&made.name) {
                    return;
                }
            }
        }
        panic!("no event of {}", made.name);
    };
    tokio::select! {
        _ = follow => unreachable!("it never ends"),
        () = story => {}
    }
}
