//! The document written, read, believed or not, and waited for.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use super::document::start_time;
use super::*;
use crate::error::{Advise, Exit};
use crate::terminal::Style;
use ladder::state::{Health, LinkState, Maintenance, Outcome, Reason, Repair, Stats, Target};

mod screen;
mod story;

fn writer() -> Writer {
    Writer::this().unwrap()
}

pub(crate) fn document() -> Document {
    Document {
        ready: true,
        maintenance: Maintenance::Off,
        version: VERSION,
        writer: writer(),
        started_at: "2024-05-06T07:00:00Z".to_owned(),
        written_at: "2024-05-06T07:08:09.123Z".to_owned(),
        written_uptime_ms: milliseconds(uptime().unwrap()),
        fresh_for_ms: 60_000,
        health: Health::Healthy,
        reason: "every link is good".to_owned(),
        links: vec![report(Target::Mount("mapfiles".to_owned()), LinkState::Ok, "proven")],
        first_fault: None,
        acting: None,
        last_failure: None,
        events: Vec::new(),
        figures: Stats::default(),
        repairs: Vec::new(),
        program: String::new(),
        up_ms: 0,
        configuration_fault: None,
        ended: None,
    }
}

fn report(target: Target, state: LinkState, detail: &str) -> LinkReport {
    LinkReport {
        target,
        state,
        trigger: None,
        detail: detail.to_owned(),
        hint: None,
        since: "2024-05-06T07:00:00Z".to_owned(),
    }
}

fn published(document: &Document) -> (tempfile::TempDir, Report) {
    let dir = tempfile::tempdir().unwrap();
    let runtime = RuntimeDir::claim(dir.path()).unwrap();
    runtime.publish(document).unwrap();
    let found = read(dir.path()).unwrap();
    (dir, found)
}

#[test]
fn what_is_published_is_read_back() {
    let (dir, found) = published(&document());
    assert_eq!(found, Report { standing: Standing::Fresh, document: Some(document_like(&found)) });
    assert_eq!(found.exit(), Exit::Success);
    let mode = fs::metadata(dir.path().join("status.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o644);
    assert!(!dir.path().join("status.json.new").exists());
}

/// The document, with the one time that differs from call to call taken from `found`.
fn document_like(found: &Report) -> Document {
    let written_uptime_ms = found.document.as_ref().unwrap().written_uptime_ms;
    Document { written_uptime_ms, ..document() }
}

#[test]
fn the_directory_is_made_for_everybody_to_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("deep/er");
    let _runtime = RuntimeDir::claim(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o755);
}

#[test]
fn a_second_agent_is_refused_until_the_first_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let first = RuntimeDir::claim(dir.path()).unwrap();
    let refused = RuntimeDir::claim(dir.path()).unwrap_err();
    assert_eq!(
        refused.to_string(),
        format!("another agent is running with the runtime directory {:?}", dir.path())
    );
    assert_eq!(refused.exit(), Exit::AlreadyRunning);
    let hint = refused.hint().unwrap();
    assert!(hint.contains("systemctl stop mapkeeper") && !hint.contains("--runtime-dir"), "{hint}");
    drop(first);
    assert!(RuntimeDir::claim(dir.path()).is_ok());
}

#[test]
fn whoever_holds_a_lock_of_a_version_before_keeps_no_agent_from_starting() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("agent.lock");
    fs::write(&file, "").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    // Any user can do this; it takes no right but that to read.
    let anybody = fs::File::open(&file).unwrap();
    anybody.lock().unwrap();
    let runtime = RuntimeDir::claim(dir.path()).unwrap();
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    // An agent of that version which lives is one all the same.
    runtime.publish(&document()).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(RuntimeDir::claim(dir.path()).unwrap_err().exit(), Exit::AlreadyRunning);
}

#[test]
fn a_directory_that_others_may_write_to_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o1777)).unwrap();
    let error = RuntimeDir::claim(dir.path()).unwrap_err();
    assert!(crate::error::Chain(&error).to_string().contains("others may write to"), "{error:?}");
    assert!(error.hint().unwrap().contains("root's alone"));
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = RuntimeDir::claim(&file.path().join("run")).unwrap_err();
    assert!(error.to_string().starts_with("cannot use the runtime directory"), "{error}");
    assert_eq!(error.exit(), Exit::Degraded);
}

#[test]
fn a_directory_without_a_document_is_not_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let found = read(dir.path()).unwrap();
    assert_eq!((found.standing, found.exit()), (Standing::Absent, Exit::NotRunning));
    assert_eq!(
        render(&found, Style::Plain),
        "mapkeeper: not running, and nothing is known of an earlier run\nhint: systemctl start mapkeeper; \
         journalctl -u mapkeeper says why it ended\n"
    );
    assert_eq!(found.json(), serde_json::json!({ "version": 1, "standing": "absent" }));
}

#[test]
fn every_health_but_healthy_is_exit_code_1() {
    for health in [Health::Degraded, Health::Repairing, Health::Failed] {
        let (_dir, found) = published(&Document { health, ..document() });
        assert_eq!(found.exit(), Exit::Degraded, "{health:?}");
    }
}

#[test]
fn a_document_older_than_promised_is_stale() {
    let now = milliseconds(uptime().unwrap());
    let (_dir, found) = published(&Document { written_uptime_ms: 0, fresh_for_ms: now / 2, ..document() });
    assert!(matches!(found.standing, Standing::Stale { age_ms } if age_ms >= now), "{:?}", found.standing);
    assert_eq!(found.exit(), Exit::NotRunning);
    assert!(render(&found, Style::Plain).starts_with("mapkeeper: stale, silent for "));
}

#[test]
fn a_document_of_a_process_that_is_gone_is_not_believed() {
    let gone = Writer { process_start: writer().process_start + 1, ..writer() };
    let other_boot = Writer { boot_id: "another".to_owned(), ..writer() };
    for writer in [gone, other_boot] {
        let (_dir, found) = published(&Document { writer, ..document() });
        assert_eq!((found.standing, found.exit()), (Standing::Ended, Exit::NotRunning));
        assert_eq!(
            render(&found, Style::Plain).lines().next(),
            Some("mapkeeper: not running; last known: healthy")
        );
        assert_eq!(found.unproven(), ["the agent is not running"]);
    }
}

#[test]
fn a_start_time_is_found_behind_any_process_name() {
    let stat = "42 (a) b (c)) S 1 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 777 1000 10";
    assert_eq!(start_time(stat), Some(777));
    assert_eq!(start_time("42 (a) S 1"), None);
    assert_eq!(start_time(""), None);
}

#[test]
fn a_file_that_is_no_document_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("status.json"), "{").unwrap();
    let error = read(dir.path()).unwrap_err();
    assert!(error.to_string().starts_with("cannot understand"), "{error}");
    assert_eq!(error.exit(), Exit::NotRunning);
    fs::write(dir.path().join("status.json"), r#"{"version": 2}"#).unwrap();
    let error = read(dir.path()).unwrap_err();
    assert!(error.to_string().ends_with("has version 2, this program reads version 1"), "{error}");
    fs::remove_file(dir.path().join("status.json")).unwrap();
    fs::create_dir(dir.path().join("status.json")).unwrap();
    let error = read(dir.path()).unwrap_err();
    assert!(error.to_string().starts_with("cannot read"), "{error}");
}

#[tokio::test]
async fn waiting_ends_as_soon_as_every_mount_is_proven() {
    let (dir, _) = published(&document());
    wait(dir.path(), Duration::ZERO).await.unwrap();
}

#[tokio::test]
async fn waiting_in_vain_names_what_is_missing() {
    let mut unproven = document();
    unproven.links[0].state = LinkState::Broken;
    unproven.links[0].detail = "nothing is mounted".to_owned();
    let (dir, _) = published(&unproven);
    let error = wait(dir.path(), Duration::from_millis(150)).await.unwrap_err();
    assert_eq!(error.to_string(), "not ready after 0 s: mount mapfiles: nothing is mounted");
    assert_eq!(error.exit(), Exit::TimedOut);
    assert!(error.hint().is_some());
}

#[test]
fn a_mount_that_serves_from_cache_is_proven_and_one_that_was_not_looked_at_is_not() {
    for (state, proven) in [
        (LinkState::Ok, true),
        (LinkState::Degraded, true),
        (LinkState::Unknown, false),
        (LinkState::Waiting, false),
        (LinkState::Broken, false),
    ] {
        let mut document = document();
        document.links[0].state = state;
        let (_dir, found) = published(&document);
        assert_eq!(found.unproven().is_empty(), proven, "{state:?}");
    }
}

#[test]
fn the_json_of_a_document_has_the_promised_names() {
    let mut shown = document();
    shown.events.push(Event {
        at: "2024-05-06T07:08:09.123Z".to_owned(),
        target: Some(Target::Container("mapserver".to_owned())),
        what: EventKind::Acted {
            trigger: Reason::StaleMount,
            action: Repair::Restart,
            attempt: 1,
            outcome: Outcome::Done,
            elapsed_ms: 900,
        },
    });
    let (_dir, found) = published(&shown);
    let json = found.json();
    assert_eq!(json["version"], 1);
    assert_eq!(json["standing"], "fresh");
    assert_eq!(json["health"], "healthy");
    assert_eq!(json["pid"], std::process::id());
    assert_eq!(json["links"][0]["kind"], "mount");
    assert_eq!(json["links"][0]["name"], "mapfiles");
    assert_eq!(json["links"][0]["state"], "ok");
    assert_eq!(
        json["events"][0],
        serde_json::json!({
            "at": "2024-05-06T07:08:09.123Z",
            "target": { "kind": "container", "name": "mapserver" },
            "event": "acted",
            "trigger": "stale_mount",
            "action": "restart",
            "attempt": 1,
            "outcome": "done",
            "elapsed_ms": 900,
        })
    );
}
