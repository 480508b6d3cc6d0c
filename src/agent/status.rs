//! The status document: what the agent publishes, and how others read it.
//!
//! The loop replaces `status.json` in the runtime directory atomically at every round. A reader looks
//! at that file and at `/proc/PID/stat` of its writer and at nothing else, so it answers at once even
//! when S3, Docker and the mount all hang.
//!
//! A document is believed only while its writer lives (process id *and* start time, so that a reused
//! id is not taken for it) and only as long as the writer promised (`fresh_for_ms`), measured on the
//! clock of the machine since boot, which nobody can set.
//!
//! ```text
//! no file ----------------------------> [Absent]
//! other boot, or writer gone ---------> [Ended]
//! writer lives, promise broken -------> [Stale]
//! writer lives, promise kept ---------> [Fresh]
//! ```

mod render;
mod tracker;

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

pub use render::{event_line, figure_lines, render, word};
pub use tracker::{Clock, StatusTracker, id};

use crate::error::{Advise, Exit};
use crate::lock;
use ladder::state::{
    Failure, Health, LinkState, Maintenance, Outcome, Reason, Repair, RepairCount, Stats, Target,
};

/// Version of the document's shape. A field may be added without changing it.
pub const VERSION: u32 = 1;

/// How many events a document remembers.
pub const EVENTS: usize = 20;

/// How often a watched document is looked at.
const WATCH_EVERY: Duration = Duration::from_millis(500);
/// Puts the cursor of a terminal at its upper left, clears the rest of a line, and everything below.
const HOME: &str = "\x1b[H";
const REST_OF_LINE: &str = "\x1b[K";
const BELOW: &str = "\x1b[J";

const FILE: &str = "status.json";
const LOCK: &str = "agent.lock";

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
    /// The first link that is amiss, explained.
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

/// The first thing amiss.
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
    /// It was seen amiss.
    Detected { trigger: Option<Reason>, seen: String },
    /// A repair was tried.
    Acted { trigger: Reason, action: Repair, attempt: u32, outcome: Outcome, elapsed_ms: u64 },
    /// A new configuration is in force.
    Configured { consequences: Vec<String> },
    /// A new configuration was refused; the old one stays in force.
    ConfigurationRefused { error: String },
    /// It is good again, this long after it was first seen amiss.
    Recovered { elapsed_ms: u64 },
}

/// The directory that belongs to one running agent.
///
/// It is locked as long as this value lives, so that two agents never look after the same host.
#[derive(Debug)]
pub struct RuntimeDir {
    path: PathBuf,
    _lock: Flock<fs::File>,
}

/// Why the runtime directory is not ours.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeDirError {
    #[error("another agent is running with the runtime directory {path:?}")]
    Taken { path: PathBuf },
    #[error("cannot use the runtime directory {path:?}")]
    Unusable { path: PathBuf, source: io::Error },
}

impl Advise for RuntimeDirError {
    fn hint(&self) -> Option<String> {
        match self {
            RuntimeDirError::Taken { .. } => Some(
                "one agent looks after all mounts of a host; systemctl stop mapkeeper ends it".to_owned(),
            ),
            RuntimeDirError::Unusable { .. } => {
                Some("run as root; the directory and those above it have to be root's alone".to_owned())
            }
        }
    }

    fn exit(&self) -> Exit {
        match self {
            RuntimeDirError::Taken { .. } => Exit::AlreadyRunning,
            RuntimeDirError::Unusable { .. } => Exit::Degraded,
        }
    }
}

impl RuntimeDir {
    /// Takes the directory at `path`, creating it (mode 0755) if it is absent.
    ///
    /// # Errors
    ///
    /// [`RuntimeDirError::Taken`] while another process holds it; [`RuntimeDirError::Unusable`] also where others may
    /// write to it.
    pub fn claim(path: &Path) -> Result<RuntimeDir, RuntimeDirError> {
        let unusable = |source| RuntimeDirError::Unusable { path: path.to_owned(), source };
        fs::DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(unusable)?;
        let file = path.join(LOCK);
        // Of a version before, which made it everybody's: not whoever holds it counts, but an agent that lives.
        let is_ambiguous = lock::is_open_to_others(&file).map_err(unusable)?;
        if is_ambiguous
            && matches!(read(path), Ok(Report { standing: Standing::Fresh | Standing::Stale { .. }, .. }))
        {
            return Err(RuntimeDirError::Taken { path: path.to_owned() });
        }
        match Flock::lock(lock::open(&file).map_err(unusable)?, FlockArg::LockExclusiveNonblock) {
            // Containers are signed with it, so it has one spelling.
            Ok(lock) => Ok(RuntimeDir { path: path.canonicalize().map_err(unusable)?, _lock: lock }),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => Err(RuntimeDirError::Taken { path: path.to_owned() }),
            Err((_, errno)) => Err(unusable(errno.into())),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces the document, atomically: a reader sees the old one or the new one, whole.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn publish(&self, document: &Document) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(document).map_err(io::Error::other)?;
        let fresh = self.path.join(format!("{FILE}.new"));
        let mut file =
            fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o644).open(&fresh)?;
        file.set_permissions(fs::Permissions::from_mode(0o644))?;
        file.write_all(&text)?;
        drop(file);
        fs::rename(&fresh, self.path.join(FILE))
    }
}

/// What a reader found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub standing: Standing,
    pub document: Option<Document>,
}

/// How far a document can be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    Fresh,
    /// The writer lives but has not kept its promise; the document is this old.
    Stale {
        age_ms: u64,
    },
    /// The writer is gone.
    Ended,
    /// There is no document.
    Absent,
}

/// Why a document could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("cannot read {path:?}")]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("cannot understand {path:?}")]
    Malformed { path: PathBuf, source: serde_json::Error },
    #[error("{path:?} has version {found}, this program reads version {VERSION}")]
    Version { path: PathBuf, found: u32 },
}

impl Advise for ReadError {
    fn hint(&self) -> Option<String> {
        match self {
            ReadError::Unreadable { .. } => Some("check --runtime-dir".to_owned()),
            ReadError::Malformed { .. } | ReadError::Version { .. } => {
                Some("use the mapkeeper binary that the agent runs".to_owned())
            }
        }
    }

    fn exit(&self) -> Exit {
        Exit::NotRunning
    }
}

impl Report {
    /// The exit code of `status`.
    pub fn exit(&self) -> Exit {
        match (&self.standing, &self.document) {
            (Standing::Fresh, Some(document)) if document.health == Health::Healthy => Exit::Success,
            (Standing::Fresh, Some(_)) => Exit::Degraded,
            _ => Exit::NotRunning,
        }
    }

    /// The same without what is counted.
    pub fn without_figures(&self) -> Report {
        let document = self.document.as_ref().map(Document::without_figures);
        Report { standing: self.standing, document }
    }

    /// The document as `status --json` prints it, with how far it can be believed.
    pub fn json(&self) -> serde_json::Value {
        let mut value = match &self.document {
            Some(document) => serde_json::to_value(document),
            None => Ok(serde_json::json!({ "version": VERSION })),
        }
        .expect("a document is made of strings, numbers and string-keyed maps");
        value["standing"] =
            serde_json::to_value(self.standing).expect("a standing is a string or a number in a map");
        value
    }

    /// The mounts that are not proven, each with what is known of it; empty: all are.
    pub fn unproven(&self) -> Vec<String> {
        let Some(document) = &self.document else {
            return vec!["no agent has published a status".to_owned()];
        };
        match self.standing {
            Standing::Fresh => {}
            Standing::Stale { age_ms } => {
                return vec![format!("the agent has not reported for {} s", age_ms / 1000)];
            }
            Standing::Ended | Standing::Absent => return vec!["the agent is not running".to_owned()],
        }
        let mounts = document.links.iter().filter(|link| matches!(link.target, Target::Mount(_)));
        mounts
            .filter(|link| !matches!(link.state, LinkState::Ok | LinkState::Degraded))
            .map(|link| format!("{}: {}", link.target, link.detail))
            .collect()
    }
}

/// Reads the document in the runtime directory `dir` and tells how far it can be believed.
///
/// # Errors
///
/// [`ReadError`] when there is a file that is not a document. No file is no error.
pub fn read(dir: &Path) -> Result<Report, ReadError> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let path = dir.join(FILE);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Report { standing: Standing::Absent, document: None });
        }
        Err(source) => return Err(ReadError::Unreadable { path, source }),
    };
    let malformed = |source| ReadError::Malformed { path: path.clone(), source };
    let Versioned { version } = serde_json::from_slice(&text).map_err(malformed)?;
    if version != VERSION {
        return Err(ReadError::Version { path, found: version });
    }
    let document: Document = serde_json::from_slice(&text).map_err(malformed)?;
    let standing = standing(&document);
    Ok(Report { standing, document: Some(document) })
}

fn standing(document: &Document) -> Standing {
    let lives = Writer::of(document.writer.pid).is_ok_and(|writer| writer == document.writer);
    if !lives {
        return Standing::Ended;
    }
    if is_fresh(document) { Standing::Fresh } else { Standing::Stale { age_ms: age_ms(document) } }
}

/// Whether the next document is not overdue yet.
pub fn is_fresh(document: &Document) -> bool {
    age_ms(document) <= document.fresh_for_ms
}

/// How long ago a document was written.
pub fn age_ms(document: &Document) -> u64 {
    uptime().map_or(0, milliseconds).saturating_sub(document.written_uptime_ms)
}

/// Why waiting for the mounts ended without them.
#[derive(Debug, thiserror::Error)]
pub enum WaitError {
    #[error("not ready after {} s: {}", limit.as_secs(), missing.join("; "))]
    TimedOut { limit: Duration, missing: Vec<String> },
}

impl Advise for WaitError {
    fn hint(&self) -> Option<String> {
        Some("mapkeeper status says more".to_owned())
    }

    fn exit(&self) -> Exit {
        Exit::TimedOut
    }
}

/// Waits until every mount is proven in a fresh document, at most `limit`.
///
/// # Errors
///
/// [`WaitError::TimedOut`], naming what is missing.
pub async fn wait(dir: &Path, limit: Duration) -> Result<(), WaitError> {
    let deadline = tokio::time::Instant::now() + limit;
    loop {
        let missing = match read(dir) {
            Ok(report) => report.unproven(),
            Err(error) => vec![crate::error::Chain(&error).to_string()],
        };
        if missing.is_empty() {
            return Ok(());
        }
        let now = tokio::time::Instant::now();
        if now >= deadline {
            return Err(WaitError::TimedOut { limit, missing });
        }
        tokio::time::sleep(Duration::from_millis(100).min(deadline - now)).await;
    }
}

/// What becomes of a screen when the next one is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Screens {
    /// It is replaced, as suits a terminal.
    Replaced,
    /// It stays above the next one.
    Kept,
}

/// Shows the document, as `show` puts it, again whenever that changes, until it cannot be written any
/// more; returns why.
pub async fn watch(
    dir: &Path,
    screens: Screens,
    show: impl Fn(&Report) -> String,
    mut out: impl Write,
) -> io::Error {
    let mut shown = String::new();
    loop {
        let (screen, matters) = match (read(dir), screens) {
            (Ok(report), Screens::Replaced) => (show(&report), show(&report)),
            // Counters move all the time: that alone is no reason for one screen more.
            (Ok(report), Screens::Kept) => (show(&report), show(&report.without_figures())),
            (Err(error), _) => (crate::error::report(&error), String::new()),
        };
        if matters != shown {
            let text = match screens {
                // Overwritten and not cleared first, so that nothing flickers.
                Screens::Replaced => {
                    let lines: String =
                        screen.lines().map(|line| format!("{line}{REST_OF_LINE}\n")).collect();
                    format!("{HOME}{lines}{BELOW}")
                }
                Screens::Kept => screen,
            };
            if let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
                return error;
            }
            shown = matters;
        }
        tokio::time::sleep(WATCH_EVERY).await;
    }
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
    fn of(pid: u32) -> io::Result<Writer> {
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned();
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let process_start = start_time(&stat).ok_or_else(|| io::Error::other("unexpected /proc/PID/stat"))?;
        Ok(Writer { boot_id, pid, process_start })
    }
}

/// Field 22 of `/proc/PID/stat`. The name in field 2 may hold spaces and brackets: count from the last.
fn start_time(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(19)?.parse().ok()
}

/// Time since boot.
///
/// # Errors
///
/// Those of reading `/proc/uptime`.
pub fn uptime() -> io::Result<Duration> {
    let text = fs::read_to_string("/proc/uptime")?;
    let seconds = text.split_whitespace().next().and_then(|field| field.parse::<f64>().ok());
    let seconds = seconds.ok_or_else(|| io::Error::other("unexpected /proc/uptime"))?;
    Duration::try_from_secs_f64(seconds).map_err(io::Error::other)
}

/// Whole milliseconds of `duration`, as many as a number holds.
pub(super) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
pub(super) mod tests;
