//! What the document tells of one round after another: what went wrong, what was done, and when it was good again.

use std::time::{Duration, SystemTime};

use super::*;
use ladder::state::{Action, Decision, Link, Moment};

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
