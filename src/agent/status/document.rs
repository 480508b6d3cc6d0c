//! The document itself: what the agent says of the host, in the shape of `status.json`.
//!
//! What must hold: a field may be added, and none may change its meaning, without another [`VERSION`].

use std::fs;
use std::io;

use serde::{Deserialize, Serialize};

use super::clock::{milliseconds, uptime};
use ladder::state::{
    Failure, Health, LinkState, Maintenance, Outcome, Reason, Repair, RepairCount, Stats, Target,
};

/// Version of the document's shape. A field may be added without changing it.
pub const VERSION: u32 = 1;

/// How many events a document remembers.
pub const EVENTS: usize = 20;

/// What the agent publishes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    pub version: u32,
    #[serde(flatten)]
    pub writer: Writer,
    /// Wall time, RFC 3339.
    pub started_at: String,
    /// Wall time, RFC 3339.
    pub written_at: String,
    /// Time since boot at which this was written.
    pub written_uptime_ms: u64,
    /// The next document will be there within this time, or the agent is stuck.
    pub fresh_for_ms: u64,
    pub health: Health,
    pub reason: String,
    /// Whether this host serves: what load balancers are told.
    pub ready: bool,
    pub maintenance: Maintenance,
    /// In order of dependency.
    pub links: Vec<LinkReport>,
    /// The first link that is faulty, explained.
    pub first_fault: Option<FaultReport>,
    /// The repair that is being made at this moment.
    pub acting: Option<Acting>,
    /// Why the last repair that failed did, until everything is good again.
    pub last_failure: Option<Failure>,
    /// The newest last.
    pub events: Vec<Event>,
    /// What was counted so far.
    #[serde(default)]
    pub figures: Stats,
    /// Repairs since the agent started.
    #[serde(default)]
    pub repairs: Vec<RepairCount>,
    /// Version of the program that writes this.
    #[serde(default)]
    pub program: String,
    /// How long the agent has been running.
    #[serde(default)]
    pub up_ms: u64,
    /// Why the newest configuration is not the one in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration_fault: Option<String>,
    /// Set in the last document of an agent that stopped in order: why.
    pub ended: Option<String>,
}

impl Document {
    /// The same without what is counted.
    pub fn without_figures(&self) -> Document {
        Document {
            figures: Stats::default(),
            repairs: Vec::new(),
            program: String::new(),
            up_ms: 0,
            ..self.clone()
        }
    }
}

/// The process that writes a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Writer {
    pub boot_id: String,
    pub pid: u32,
    /// Start time of the process, in clock ticks since boot.
    pub process_start: u64,
}

impl Writer {
    /// This process.
    ///
    /// # Errors
    ///
    /// Those of reading `/proc`.
    pub fn this() -> io::Result<Writer> {
        Writer::of(std::process::id())
    }

    /// The process that has the id `pid` now.
    pub(super) fn of(pid: u32) -> io::Result<Writer> {
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned();
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let process_start = start_time(&stat).ok_or_else(|| io::Error::other("unexpected /proc/PID/stat"))?;
        Ok(Writer { boot_id, pid, process_start })
    }
}

/// Field 22 of `/proc/PID/stat`. The name in field 2 may hold spaces and brackets: count from the last.
pub(super) fn start_time(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(19)?.parse().ok()
}

/// One link of the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkReport {
    #[serde(flatten)]
    pub target: Target,
    pub state: LinkState,
    pub trigger: Option<Reason>,
    pub detail: String,
    pub hint: Option<String>,
    /// Since when it is in this state; wall time, RFC 3339.
    pub since: String,
}

/// The first fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultReport {
    pub target: Target,
    pub trigger: Option<Reason>,
    pub cause: String,
    pub hint: Option<String>,
}

/// A repair that is under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acting {
    pub target: Target,
    pub action: Repair,
    pub trigger: Reason,
    pub attempt: u32,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Wall time, RFC 3339.
    pub at: String,
    /// The link it happened to; `None`: the host as a whole.
    pub target: Option<Target>,
    #[serde(flatten)]
    pub what: EventKind,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum EventKind {
    /// It was detected as faulty.
    Detected { trigger: Option<Reason>, seen: String },
    /// A repair was tried.
    Acted { trigger: Reason, action: Repair, attempt: u32, outcome: Outcome, elapsed_ms: u64 },
    /// A new configuration is in force.
    Configured { consequences: Vec<String> },
    /// A new configuration was refused; the old one stays in force.
    ConfigurationRefused { error: String },
    /// It is good again, this long after it was first detected as faulty.
    Recovered { elapsed_ms: u64 },
}

/// Whether the next document is not overdue yet.
pub fn is_fresh(document: &Document) -> bool {
    age_ms(document) <= document.fresh_for_ms
}

/// How long ago a document was written.
pub fn age_ms(document: &Document) -> u64 {
    uptime().map_or(0, milliseconds).saturating_sub(document.written_uptime_ms)
}
