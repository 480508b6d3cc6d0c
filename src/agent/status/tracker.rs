//! From decisions to the document: what changed since the last round, as events and log records.
//!
//! The loop owns one tracker. Each detection, action and recovery becomes one event and one log record;
//! a round in which nothing changes leaves no trace above DEBUG.
//!
//! ```text
//!              Broken, Degraded                  Ok
//! [good] ---------------------------> [faulty] -------> event Recovered { elapsed }
//!    |        event Detected             ^
//!    | Waiting (for an earlier link)     | Broken, Degraded: event Detected
//!    +------------------------------> [held up] -----> Recovered, if a fault was behind it
//! ```
//!
//! Could-not-look (`Unknown`) begins and ends nothing.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, SystemTime};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::clock::{Clock, milliseconds};
use super::document::{Acting, Document, EVENTS, Event, EventKind, FaultReport, LinkReport, VERSION, Writer};
use super::render::word;
use crate::agent::host::ConfigChange;
use ladder::state::{
    Action, Decision, Failure, Health, Link, LinkState, Maintenance, Moment, Outcome, Reason, Repair,
    RepairCount, Stats, Target,
};

/// Names of the kinds of records in the journal, stable for ever: `journalctl MESSAGE_ID=...`. They are documented in
/// `docs/operating.md`.
pub mod id {
    /// A link was detected as faulty.
    pub const DETECTED: &str = "6d2b5c4f1e0a4c7d9b3f8a1765c0e2d1";
    /// A repair was made.
    pub const REPAIRED: &str = "6d2b5c4f1e0a4c7d9b3f8a1765c0e2d2";
    /// A repair went wrong.
    pub const FAILED: &str = "6d2b5c4f1e0a4c7d9b3f8a1765c0e2d3";
    /// A link is good again.
    pub const RECOVERED: &str = "6d2b5c4f1e0a4c7d9b3f8a1765c0e2d4";
    /// The health of the whole changed.
    pub const HEALTH: &str = "6d2b5c4f1e0a4c7d9b3f8a1765c0e2d5";
}

/// What the loop says to the world.
#[derive(Debug)]
pub struct StatusTracker {
    writer: Writer,
    started_at: String,
    health: Health,
    reason: String,
    ready: bool,
    maintenance: Maintenance,
    links: Vec<LinkReport>,
    memory: BTreeMap<Target, Memory>,
    events: VecDeque<Event>,
    /// Since when not every link has been good, once a fault was seen among them.
    impaired_since: Option<Moment>,
    acting: Option<Acting>,
    last_failure: Option<Failure>,
    repairs: BTreeMap<(Target, Repair), RepairCount>,
    configuration_fault: Option<String>,
    ended: Option<String>,
}

#[derive(Debug, Default)]
struct Memory {
    state: Option<LinkState>,
    since: String,
    /// Since when it has not been good.
    down_since: Option<Moment>,
    /// What was last reported as detected and has not recovered.
    detected: Option<Option<Reason>>,
    ever_good: bool,
}

impl StatusTracker {
    pub fn new(writer: Writer, wall: SystemTime) -> StatusTracker {
        StatusTracker {
            writer,
            started_at: text(wall),
            health: Health::Degraded,
            reason: "the agent is starting".to_owned(),
            ready: false,
            maintenance: Maintenance::Off,
            links: Vec::new(),
            memory: BTreeMap::new(),
            events: VecDeque::new(),
            impaired_since: None,
            acting: None,
            last_failure: None,
            repairs: BTreeMap::new(),
            configuration_fault: None,
            ended: None,
        }
    }

    /// Takes in what a round came to.
    pub fn decided(&mut self, decision: &Decision, clock: Clock) {
        let mut links = Vec::with_capacity(decision.links.len());
        for link in &decision.links {
            links.push(self.link(link, clock));
        }
        self.links = links;
        let faulty = |link: &LinkReport| matches!(link.state, LinkState::Broken | LinkState::Degraded);
        if self.impaired_since.is_none() && self.links.iter().any(faulty) {
            self.impaired_since = self.memory.values().filter_map(|memory| memory.down_since).min();
        }
        if self.links.iter().all(|link| link.state == LinkState::Ok) {
            self.all_good(clock);
        }
        if decision.health != self.health {
            log_health(self.health, decision);
        }
        self.health = decision.health;
        self.reason.clone_from(&decision.reason);
        self.ready = decision.ready;
        self.maintenance = decision.maintenance;
    }

    /// A repair begins.
    pub fn acting(&mut self, action: &Action, attempt: u32) {
        tracing::debug!(link = %action.target, action = ?action.repair, attempt, "repair begins");
        self.acting = Some(Acting {
            target: action.target.clone(),
            action: action.repair,
            trigger: action.trigger,
            attempt,
        });
    }

    /// A repair ended; the next attempt may come after `retry`.
    pub fn acted(
        &mut self,
        action: &Action,
        attempt: u32,
        outcome: &Outcome,
        took: Duration,
        retry: Duration,
        clock: Clock,
    ) {
        let elapsed_ms = milliseconds(took);
        let (link, repair, trigger) = (&action.target, action.repair, action.trigger);
        let none = || RepairCount { target: link.clone(), action: repair, done: 0, failed: 0 };
        let count = self.repairs.entry((link.clone(), repair)).or_insert_with(none);
        match outcome {
            Outcome::Done => {
                count.done += 1;
                tracing::info!(
                    message_id = id::REPAIRED, %link, action = word(&repair), reason = word(&trigger), attempt,
                    before = "broken", after = "repaired", elapsed_ms, "repair done"
                );
            }
            Outcome::Failed(failure) => {
                count.failed += 1;
                let (error, retry_s) = (&failure.error, retry.as_secs_f32());
                tracing::warn!(
                    message_id = id::FAILED, %link, action = word(&repair), reason = word(&trigger), attempt,
                    before = "broken", after = "broken", elapsed_ms, retry_s, error, "repair failed"
                );
                self.last_failure = Some(failure.clone());
            }
        }
        self.acting = None;
        let outcome = outcome.clone();
        self.event(
            Some(link.clone()),
            EventKind::Acted { trigger, action: repair, attempt, outcome, elapsed_ms },
            clock,
        );
    }

    /// A new configuration came. The same refusal is told once.
    pub fn configured(&mut self, adoption: &ConfigChange, clock: Clock) {
        match adoption {
            ConfigChange::Taken { consequences, .. } => {
                self.configuration_fault = None;
                self.event(None, EventKind::Configured { consequences: consequences.clone() }, clock);
            }
            ConfigChange::Refused { error } if self.configuration_fault.as_ref() == Some(error) => {}
            ConfigChange::Refused { error } => {
                self.configuration_fault = Some(error.clone());
                self.event(None, EventKind::ConfigurationRefused { error: error.clone() }, clock);
            }
        }
    }

    /// The agent stops in order.
    pub fn ended(&mut self, why: &str) {
        tracing::info!(why, "the agent stops");
        self.ended = Some(why.to_owned());
    }

    /// The document at this moment; the next one is promised within `fresh_for`.
    pub fn document(&self, clock: Clock, fresh_for: Duration) -> Document {
        let faulty = |link: &&LinkReport| !matches!(link.state, LinkState::Ok | LinkState::Waiting);
        let first = self
            .links
            .iter()
            .find(faulty)
            .or_else(|| self.links.iter().find(|link| link.state == LinkState::Waiting));
        Document {
            version: VERSION,
            writer: self.writer.clone(),
            started_at: self.started_at.clone(),
            written_at: text(clock.wall),
            written_uptime_ms: milliseconds(clock.uptime),
            fresh_for_ms: milliseconds(fresh_for),
            health: self.health,
            reason: self.reason.clone(),
            ready: self.ready && self.ended.is_none(),
            maintenance: self.maintenance,
            links: self.links.clone(),
            first_fault: first.map(|link| FaultReport {
                target: link.target.clone(),
                trigger: link.trigger,
                cause: link.detail.clone(),
                hint: link.hint.clone(),
            }),
            acting: self.acting.clone(),
            last_failure: self.last_failure.clone(),
            events: self.events.iter().cloned().collect(),
            configuration_fault: self.configuration_fault.clone(),
            figures: Stats::default(),
            repairs: self.repairs.values().cloned().collect(),
            program: env!("CARGO_PKG_VERSION").to_owned(),
            up_ms: milliseconds(clock.now.0),
            ended: self.ended.clone(),
        }
    }

    fn link(&mut self, link: &Link, clock: Clock) -> LinkReport {
        let memory = self.memory.entry(link.target.clone()).or_default();
        if memory.state != Some(link.state) {
            memory.state = Some(link.state);
            memory.since = text(clock.wall);
        }
        let since = memory.since.clone();
        let mut happening = None;
        match link.state {
            LinkState::Ok => {
                let down_since = memory.down_since.take();
                let detected = memory.detected.take().is_some();
                let came_up = !std::mem::replace(&mut memory.ever_good, true);
                if let Some(down) = down_since.filter(|_| detected || self.impaired_since.is_some()) {
                    let elapsed_ms = milliseconds(clock.now.since(down));
                    tracing::info!(
                        message_id = id::RECOVERED, link = %link.target, before = "broken", after = "ok",
                        elapsed_ms, detail = link.detail, "link is good again"
                    );
                    happening = Some(EventKind::Recovered { elapsed_ms });
                } else if came_up {
                    tracing::info!(link = %link.target, detail = link.detail, "link is good");
                }
            }
            LinkState::Broken | LinkState::Degraded => {
                memory.down_since.get_or_insert(clock.now);
                if memory.detected != Some(link.trigger) {
                    memory.detected = Some(link.trigger);
                    log_detection(link, memory.ever_good);
                    let seen = link.detail.clone();
                    happening = Some(EventKind::Detected { trigger: link.trigger, seen });
                }
            }
            LinkState::Waiting => {
                memory.down_since.get_or_insert(clock.now);
            }
            LinkState::Unknown => {}
        }
        if let Some(happening) = happening {
            self.event(Some(link.target.clone()), happening, clock);
        }
        LinkReport {
            target: link.target.clone(),
            state: link.state,
            trigger: link.trigger,
            detail: link.detail.clone(),
            hint: link.hint.clone(),
            since,
        }
    }

    fn all_good(&mut self, clock: Clock) {
        self.last_failure = None;
        if let Some(since) = self.impaired_since.take() {
            let elapsed_ms = milliseconds(clock.now.since(since));
            self.event(None, EventKind::Recovered { elapsed_ms }, clock);
        }
    }

    fn event(&mut self, target: Option<Target>, what: EventKind, clock: Clock) {
        self.events.push_back(Event { at: text(clock.wall), target, what });
        if self.events.len() > EVENTS {
            self.events.pop_front();
        }
    }
}

/// A link that was never good is being built up: no reason for a warning.
fn log_detection(link: &Link, ever_good: bool) {
    let (target, detail, after) = (&link.target, &link.detail, word(&link.state));
    let reason = link.trigger.as_ref().map_or_else(String::new, word);
    let message_id = id::DETECTED;
    if ever_good {
        tracing::warn!(message_id, link = %target, reason, before = "ok", after, detail, "a fault was detected");
    } else {
        tracing::info!(message_id, link = %target, reason, before = "none", after, detail, "link is not there yet");
    }
}

fn log_health(before: Health, decision: &Decision) {
    let (before, after, reason) = (word(&before), word(&decision.health), &decision.reason);
    let message_id = id::HEALTH;
    if decision.health == Health::Failed {
        tracing::error!(message_id, before, after, reason, "a person is needed");
    } else {
        tracing::info!(message_id, before, after, reason, "health changed");
    }
}

/// Wall time as RFC 3339 in UTC, whole milliseconds.
fn text(wall: SystemTime) -> String {
    let time = OffsetDateTime::from(wall);
    let whole = time.replace_millisecond(time.millisecond()).unwrap_or(time);
    whole.format(&Rfc3339).unwrap_or_else(|_| "unknown".to_owned())
}
