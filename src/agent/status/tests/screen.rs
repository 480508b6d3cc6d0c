//! The document on one screen, and screen after screen.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use ladder::state::{BucketStats, MountStats};

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
