//! The document written, read, believed or not, and shown on one screen.

use std::collections::BTreeMap;
use std::time::SystemTime;

use proptest::prelude::*;

use super::*;
use crate::terminal::Style;
use ladder::state::{Action, BucketStats, Decision, Link, Moment, MountStats};

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

#[tokio::test(start_paused = true)]
async fn watching_redraws_only_what_changed_and_ends_with_its_reader() {
    /// Changes the document after its first screen, and goes away after the second.
    struct Reader<'a> {
        dir: &'a RuntimeDir,
        screens: Vec<String>,
        changes: bool,
    }
    impl Write for Reader<'_> {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.screens.push(String::from_utf8(text.to_vec()).unwrap());
            match self.screens.len() {
                1 => {
                    let health = if self.changes { Health::Degraded } else { Health::Healthy };
                    self.dir
                        .publish(&Document { health, up_ms: 7000, program: "1".into(), ..document() })
                        .unwrap();
                    Ok(text.len())
                }
                _ => Err(io::ErrorKind::BrokenPipe.into()),
            }
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let runtime = RuntimeDir::claim(dir.path()).unwrap();
    runtime.publish(&document()).unwrap();
    let mut reader = Reader { dir: &runtime, screens: Vec::new(), changes: true };
    let ended = watch(dir.path(), Screens::Kept, |report| render(report, Style::Plain), &mut reader).await;
    assert_eq!(ended.kind(), io::ErrorKind::BrokenPipe);
    assert_eq!(reader.screens.len(), 2);
    assert!(reader.screens[0].starts_with("mapkeeper: healthy"), "{:?}", reader.screens[0]);
    assert!(reader.screens[1].starts_with("mapkeeper: degraded"), "{:?}", reader.screens[1]);
    // What is only counted is shown where the screen is replaced, line by line, and adds no screen where all stay.
    runtime.publish(&document()).unwrap();
    let mut reader = Reader { dir: &runtime, screens: Vec::new(), changes: false };
    let plain = |report: &Report| render(report, Style::Plain);
    let kept = watch(dir.path(), Screens::Kept, plain, &mut reader);
    assert!(tokio::time::timeout(Duration::from_secs(60), kept).await.is_err());
    assert_eq!(reader.screens.len(), 1);
    runtime.publish(&document()).unwrap();
    let mut reader = Reader { dir: &runtime, screens: Vec::new(), changes: false };
    watch(dir.path(), Screens::Replaced, plain, &mut reader).await;
    let [first, second] = reader.screens.as_slice() else { panic!("{:?}", reader.screens) };
    assert!(first.starts_with("\x1b[Hmapkeeper: healthy") && !first.contains("\x1b[2J"), "{first:?}");
    assert!(second.contains("  agent    1, up 7 s, 0 repairs\x1b[K\n\x1b[J"), "{second:?}");
}

#[test]
fn the_screen_shows_the_chain_the_fault_its_cure_and_the_last_events() {
    let mut shown = document();
    shown.health = Health::Repairing;
    shown.links = vec![
        report(Target::Credentials, LinkState::Ok, "held"),
        report(Target::Mount("mapfiles".to_owned()), LinkState::Broken, "the session ended: aborted"),
        report(Target::Container("mapserver".to_owned()), LinkState::Waiting, "waits for mount mapfiles"),
    ];
    shown.first_fault = Some(FaultReport {
        target: Target::Mount("mapfiles".to_owned()),
        trigger: Some(Reason::SessionEnded),
        cause: "the session ended: aborted".to_owned(),
        hint: Some("wait".to_owned()),
    });
    let event = |what| Event {
        at: "2024-05-06T07:08:09.123Z".to_owned(),
        target: Some(Target::Mount("mapfiles".to_owned())),
        what,
    };
    shown.events = vec![
        event(EventKind::Recovered { elapsed_ms: 1 }),
        event(EventKind::Detected {
            trigger: Some(Reason::SessionEnded),
            seen: "the session ended".to_owned(),
        }),
        event(EventKind::Acted {
            trigger: Reason::SessionEnded,
            action: Repair::Remount,
            attempt: 2,
            outcome: Outcome::Done,
            elapsed_ms: 4,
        }),
        event(EventKind::Recovered { elapsed_ms: 1250 }),
        Event { target: None, ..event(EventKind::Recovered { elapsed_ms: 3999 }) },
        event(EventKind::Detected { trigger: None, seen: "again".to_owned() }),
    ];
    let (_dir, found) = published(&shown);
    let expected = format!(
        "mapkeeper: repairing (pid {})
  ok       credentials                held
  broken   mount mapfiles             the session ended: aborted
  waiting  container mapserver        waits for mount mapfiles

mount mapfiles: the session ended: aborted
hint: wait
05-06 07:08:09 mount mapfiles: the session ended
05-06 07:08:09 mount mapfiles: remount done (session ended, attempt 2)
05-06 07:08:09 mount mapfiles: good again after 1.2 s
05-06 07:08:09 everything: good again after 3.9 s
05-06 07:08:09 mount mapfiles: again
",
        std::process::id()
    );
    assert_eq!(render(&found, Style::Plain), expected);
    let coloured = render(&found, Style::Coloured);
    assert!(coloured.contains("\x1b[31m  broken"), "{coloured}");
    assert!(!render(&found, Style::Plain).contains('\x1b'));
}

#[test]
fn what_was_counted_is_shown_below_the_links() {
    let mut shown = document();
    shown.program = "1.2.3".to_owned();
    shown.up_ms = 90_061_000;
    let mount = MountStats {
        mount: "mapfiles".to_owned(),
        freshness_ms: 1000,
        oldest_answer_ms: Some(850),
        cache_hits: 97,
        cache_misses: 3,
        cache_bytes: 5 << 20,
        resumed: 2,
        ..MountStats::default()
    };
    shown.figures.mounts.push(mount);
    let requests = BTreeMap::from([("get".to_owned(), 40), ("list".to_owned(), 2)]);
    let bucket = BucketStats { bucket: "maps".to_owned(), requests, failed: 1, cents_per_month: Some(123) };
    shown.figures.buckets.push(bucket);
    let expected = [
        "fresh    mapfiles: oldest answer 0.8 s of 1.0 s; cache 97 %; resumed 2 times",
        "s3       42 requests (1 failed); about $1.23 a month",
        "agent    1.2.3, up 1 d 1 h, 0 repairs",
    ];
    assert_eq!(figure_lines(&shown), expected);
    shown.figures.mounts[0].oldest_answer_ms = None;
    shown.figures.buckets[0].cents_per_month = None;
    let lines = figure_lines(&shown);
    assert!(
        lines[0].contains("not asked for a minute") && lines[1].contains("cost not known yet"),
        "{lines:?}"
    );
}

#[test]
fn faults_come_first_when_there_are_too_many_links() {
    let mut shown = document();
    shown.links = (0..40)
        .map(|count| {
            let state = if count == 39 { LinkState::Broken } else { LinkState::Ok };
            report(Target::Mount(format!("m{count}")), state, "x")
        })
        .collect();
    let (_dir, found) = published(&shown);
    let screen = render(&found, Style::Plain);
    assert!(screen.contains("broken   mount m39"), "{screen}");
    assert!(screen.contains("and 33 more"), "{screen}");
}

proptest! {
    #[test]
    fn no_document_fills_more_than_one_screen_or_reaches_the_terminal_raw(
        text in "\\PC{0,300}|[\\x00-\\x7f]{0,3000}",
        links in 0usize..60,
        events in 0usize..20,
    ) {
        let mut shown = document();
        shown.links = (0..links)
            .map(|_| report(Target::Container(text.clone()), LinkState::Broken, &text))
            .collect();
        shown.first_fault = Some(FaultReport {
            target: Target::Container(text.clone()),
            trigger: None,
            cause: text.clone(),
            hint: Some(text.clone()),
        });
        shown.events = (0..events)
            .map(|_| Event {
                at: text.clone(),
                target: None,
                what: EventKind::Detected { trigger: None, seen: text.clone() },
            })
            .collect();
        let mount = MountStats { mount: text.clone(), cache_hits: u64::MAX / 4, resumed: 7, ..Default::default() };
        shown.figures.mounts = vec![mount; links];
        shown.figures.buckets = vec![BucketStats { cents_per_month: Some(u64::MAX / 64), ..Default::default() }; 3];
        shown.program = text.clone();
        shown.up_ms = u64::MAX;
        shown.configuration_fault = Some(text.clone());
        let report = Report { standing: Standing::Fresh, document: Some(shown) };
        let screen = render(&report, Style::Plain);
        // Beside it one line says that the preparation of the host failed.
        let limit = 2_500 - 80;
        prop_assert!(screen.chars().count() <= limit, "{} characters", screen.chars().count());
        for line in screen.split('\n') {
            prop_assert!(line.chars().count() < 80, "{line:?}");
            prop_assert!(!line.chars().any(char::is_control), "{line:?}");
        }
    }
}

/// A tracker and its clock.
struct Story {
    tracker: StatusTracker,
    now: u64,
}

impl Story {
    fn new() -> Story {
        Story { tracker: StatusTracker::new(writer(), SystemTime::UNIX_EPOCH), now: 0 }
    }

    fn clock(&self) -> Clock {
        let now = Duration::from_secs(self.now);
        Clock { now: Moment(now), wall: SystemTime::UNIX_EPOCH + now, uptime: now }
    }

    /// One second later, the mount and the container are in these states.
    fn round(&mut self, mount: LinkState, container: LinkState) -> Vec<(String, String)> {
        self.now += 1;
        let before = self.tracker.document(self.clock(), Duration::ZERO).events.len();
        let link = |target, state| Link {
            target,
            state,
            trigger: (state == LinkState::Broken).then_some(Reason::SessionEnded),
            detail: "as it is".to_owned(),
            hint: None,
        };
        let decision = Decision {
            ready: true,
            maintenance: Maintenance::Off,
            health: Health::Degraded,
            links: vec![
                link(Target::Mount("m".to_owned()), mount),
                link(Target::Container("c".to_owned()), container),
            ],
            action: None,
            reason: String::new(),
            next_look: Duration::ZERO,
        };
        self.tracker.decided(&decision, self.clock());
        let events = self.tracker.document(self.clock(), Duration::ZERO).events;
        events[before..].iter().map(story_line).collect()
    }
}

fn story_line(event: &Event) -> (String, String) {
    let target = event.target.as_ref().map_or("all".to_owned(), Target::to_string);
    let what = match &event.what {
        EventKind::Detected { .. } => "detected".to_owned(),
        EventKind::Recovered { elapsed_ms } => format!("recovered {elapsed_ms}"),
        EventKind::Acted { .. } => "acted".to_owned(),
        EventKind::Configured { .. } | EventKind::ConfigurationRefused { .. } => "configured".to_owned(),
    };
    (target, what)
}

fn said(target: &str, what: &str) -> (String, String) {
    (target.to_owned(), what.to_owned())
}

#[test]
fn a_fault_is_told_once_and_its_end_with_the_time_from_first_seen_to_good() {
    use LinkState::{Broken, Ok, Waiting};
    let mut story = Story::new();
    assert_eq!(story.round(Ok, Ok), []);
    assert_eq!(story.round(Broken, Waiting), [said("mount m", "detected")]);
    assert_eq!(story.round(Broken, Waiting), []);
    assert_eq!(story.round(Ok, Waiting), [said("mount m", "recovered 2000")]);
    assert_eq!(story.round(Ok, Ok), [said("container c", "recovered 3000"), said("all", "recovered 3000")]);
    assert_eq!(story.round(Ok, Ok), []);
}

#[test]
fn the_whole_was_down_at_least_as_long_as_any_of_its_links() {
    use LinkState::{Broken, Ok, Waiting};
    let mut story = Story::new();
    story.round(Ok, Ok);
    assert_eq!(story.round(Ok, Waiting), []);
    story.round(Broken, Waiting);
    let told = story.round(Ok, Ok);
    let expected = [
        said("mount m", "recovered 1000"),
        said("container c", "recovered 2000"),
        said("all", "recovered 2000"),
    ];
    assert_eq!(told, expected);
}

#[test]
fn could_not_look_is_neither_a_fault_nor_its_end() {
    use LinkState::{Broken, Ok, Unknown, Waiting};
    let mut story = Story::new();
    story.round(Ok, Ok);
    assert_eq!(story.round(Unknown, Waiting), []);
    assert_eq!(story.round(Ok, Ok), []);
    story.round(Broken, Ok);
    assert_eq!(story.round(Unknown, Ok), []);
    assert_eq!(story.round(Broken, Ok), []);
    assert_eq!(story.round(Ok, Ok), [said("mount m", "recovered 3000"), said("all", "recovered 3000")]);
}

#[test]
fn only_the_newest_events_are_kept() {
    let mut story = Story::new();
    let action = Action {
        target: Target::Mount("m".to_owned()),
        repair: Repair::Mount,
        trigger: Reason::NothingMounted,
        rests_on: Vec::new(),
    };
    for attempt in 1..=30 {
        let clock = story.clock();
        story.tracker.acted(&action, attempt, &Outcome::Done, Duration::ZERO, Duration::ZERO, clock);
    }
    let events = story.tracker.document(story.clock(), Duration::ZERO).events;
    assert_eq!(events.len(), EVENTS);
    assert!(matches!(events.last().unwrap().what, EventKind::Acted { attempt: 30, .. }));
}

#[test]
fn a_pause_is_told_in_the_first_line() {
    let first = |maintenance| {
        let report =
            Report { standing: Standing::Fresh, document: Some(Document { maintenance, ..document() }) };
        render(&report, Style::Plain).lines().next().unwrap_or_default().to_owned()
    };
    assert!(first(Maintenance::Off).starts_with("mapkeeper: healthy (pid"));
    let open = first(Maintenance::On { left: None });
    assert_eq!(open, "mapkeeper: healthy, paused: nothing is repaired until mapkeeper resume");
    let hour = first(Maintenance::On { left: Some(Duration::from_secs(3_599)) });
    assert_eq!(hour, "mapkeeper: healthy, paused: nothing is repaired for 60 min more");
}
