//! What the agent knows: plain data, no behaviour that decides or touches anything.
//!
//! An [`Observation`] is the whole host at one moment, each part either [`Seen::Known`] or
//! [`Seen::Unknown`]. "Could not look" is a value of its own and never the same as "looked, and it is
//! absent": `plan.rs` repairs only what is known. [`History`] is what earlier rounds leave behind.
//!
//! A fault travels through these types as
//!
//! ```text
//! Observation --judge--> Finding --plan--> Decision { links, action } --apply--> History
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The answer to one question about the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen<T> {
    /// The question was answered.
    Known(T),
    /// The question could not be answered, and why. Nothing is repaired on the strength of it.
    Unknown(String),
}

/// A point in time: how long the loop has been running. Monotonic, never wall time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Moment(pub Duration);

impl Moment {
    /// Time from `earlier` to here; zero if `earlier` is later.
    pub fn since(self, earlier: Moment) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// This moment and `delay` more.
    pub fn after(self, delay: Duration) -> Moment {
        Moment(self.0.saturating_add(delay))
    }
}

/// A file system's device number, as in `/proc/self/mountinfo`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Device {
    pub major: u32,
    pub minor: u32,
}

impl fmt::Display for Device {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}", self.major, self.minor)
    }
}

/// One link of the chain, the thing that is judged, repaired and counted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "name")]
pub enum Target {
    Credentials,
    /// A mount, by its name in the configuration.
    Mount(String),
    Docker,
    /// A container, by the name that [`ContainerSettings`] gives it.
    Container(String),
    /// What answers inside that container.
    Service(String),
}

impl fmt::Display for Target {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Credentials => write!(out, "credentials"),
            Target::Mount(name) => write!(out, "mount {name}"),
            Target::Docker => write!(out, "docker"),
            Target::Container(name) => write!(out, "container {name}"),
            Target::Service(name) => write!(out, "service {name}"),
        }
    }
}

/// The whole host at one moment. A mount or container that is missing from a map was not looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    pub credentials: Seen<CredentialsSeen>,
    pub mounts: BTreeMap<String, MountSeen>,
    pub docker: Seen<DockerSeen>,
    pub containers: BTreeMap<String, ContainerSeen>,
}

/// Whether requests to S3 can be signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CredentialsSeen {
    Held,
    /// The same, with what may be told of them: age, version, source.
    HeldAs(String),
    /// There are none.
    Missing {
        reason: String,
        hint: Option<String>,
    },
}

/// One mount, seen from three sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountSeen {
    /// What the kernel has mounted at the path, the topmost layer. A dead mount is still listed.
    pub entry: Seen<Option<MountEntry>>,
    /// The session that serves it inside this process; `None` where none was ever opened.
    pub session: Seen<Option<Session>>,
    /// What a child process got when it used the path.
    pub answer: Seen<MountAnswer>,
}

/// A line of the kernel's mount table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountEntry {
    pub device: Device,
    pub fs_type: String,
    pub source: String,
    pub origin: Origin,
}

/// Who made a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A mapkeeper process, not necessarily this one.
    Mapkeeper,
    Foreign,
}

/// A FUSE session of this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    pub device: Device,
    pub state: SessionState,
}

/// How a session does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionState {
    Serving,
    /// It serves what it remembers, because S3 cannot be asked.
    Degraded(String),
    /// It serves, and somebody has to look at what was written and could not be stored: where it is.
    Keeps(String),
    /// It will never answer again.
    Ended(String),
}

/// What a child process got when it used a mount's path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountAnswer {
    /// The root was opened and listed, on this device.
    Serves(Device),
    /// A file call failed with this errno.
    Errno(String),
    /// No answer within the probe's deadline.
    Silent(Duration),
}

/// Docker Engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DockerSeen {
    Answers,
    /// The socket is absent or refuses connections.
    Unreachable {
        reason: String,
        hint: String,
    },
}

/// One container, as Docker tells it, as the kernel shows it, as its service answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerSeen {
    pub state: Seen<ContainerState>,
    /// For each of our mounts that it binds: the device that it sees at the bind's target, `None`
    /// where nothing is mounted there. Empty unless it runs.
    pub views: BTreeMap<String, Seen<Option<Device>>>,
    /// `None`: nothing was asked, because it does not run or has no probe.
    pub service: Option<Seen<ServiceSeen>>,
}

/// What Docker has under the name (or label, or image).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContainerState {
    Absent,
    /// The name belongs to a container that was not made by mapkeeper. Never touched.
    Foreign {
        id: String,
    },
    Present(ContainerFacts),
}

/// What Docker says of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerFacts {
    pub id: String,
    pub phase: Phase,
    /// Process id on the host while it runs.
    pub pid: Option<u32>,
    /// When it was last started, as Docker writes it: with the id it names one life of the container.
    pub started: String,
    /// Restarts by Docker's own policy.
    pub restarts: u64,
    pub oom_killed: bool,
    pub exit_code: Option<i64>,
    pub image: String,
    pub specification: Specification,
}

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Made, never started.
    Created,
    Running,
    Paused,
    /// On its way to another phase by Docker's own doing.
    Restarting,
    Stopping,
    Removing,
    Exited,
    /// Half removed; Docker cannot start it again.
    Dead,
}

/// How a container of ours compares with the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Specification {
    /// Made from what the configuration says now, or not made by us.
    Current,
    /// Made from another configuration.
    Outdated,
}

/// What the service answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceSeen {
    Healthy,
    Faulty { trigger: Trigger, detail: String },
}

/// What is wrong, as a word that `action` and events carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    CredentialsMissing,
    /// Nothing is mounted at the path.
    NothingMounted,
    /// The mount of a mapkeeper process that is gone.
    LeftOver,
    /// Something else was mounted over ours.
    Covered,
    /// Something that is not ours, where ours never was.
    ForeignMount,
    SessionEnded,
    /// The kernel says ENOTCONN although the session does not know of its end.
    Disconnected,
    /// The path shows another file system than the mount table does.
    Hidden,
    MountSilent,
    MountErrors,
    /// S3 cannot be asked; the mount serves what it remembers.
    ServesFromCache,
    /// What was written lost a race and is kept on disk.
    WriteKept,
    DockerUnreachable,
    ContainerAbsent,
    ForeignContainer,
    SpecificationChanged,
    ContainerCreated,
    ContainerExited,
    ContainerDead,
    ContainerPaused,
    ContainerInTransit,
    /// The container sees another device than the host has mounted.
    StaleMount,
    /// The container sees no mount at all at the bind's target.
    MountNotVisible,
    NoConnection,
    NoAnswer,
    ServerError,
    MapBroken,
    MapMissing,
    ErrorFile,
    PatternRefused,
    ConfigMissing,
    RasterCredentials,
    HttpStatus,
    NotWms,
    ServiceException,
}

/// What is done about it. `plan.rs` says when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Repair {
    /// Mount where nothing is mounted.
    Mount,
    /// Detach every layer, then mount.
    Remount,
    Unpause,
    Restart,
    /// Stop a container of ECS, which replaces it.
    Stop,
    Start,
    Create,
    /// Remove a container of ours and create it again.
    Recreate,
}

impl Repair {
    /// The rung of the ladder that it stands on: attempts are counted and limited per rung.
    pub fn rung(self) -> Rung {
        match self {
            Repair::Mount | Repair::Remount => Rung::Remount,
            Repair::Unpause | Repair::Restart | Repair::Stop => Rung::Restart,
            Repair::Start | Repair::Create | Repair::Recreate => Rung::Recreate,
        }
    }
}

/// A rung of the ladder in the design.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rung {
    /// Rung 3: detach and mount again.
    Remount,
    /// Rung 4: the same container once more.
    Restart,
    /// Rung 5: start what ended, or make it again.
    Recreate,
}

/// One repair of one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action {
    pub target: Target,
    pub repair: Repair,
    pub trigger: Trigger,
    /// The mounts that had to be proven for this action, with the devices that proved it. Whoever
    /// applies it compares them once more and refuses if one has changed.
    pub rests_on: Vec<Proof>,
}

/// A mount that was seen to serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    pub mount: String,
    pub device: Device,
}

/// How an action ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Done,
    Failed(Failure),
}

/// Why an action failed, in the words and with the exit code that a person would get.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub error: String,
    pub hint: Option<String>,
    /// Number of [`crate::error::Exit`].
    pub exit: u8,
}

/// What earlier rounds leave behind, per target.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct History {
    pub targets: BTreeMap<Target, Record>,
}

/// What is remembered of one target.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    pub attempts: BTreeMap<Rung, Attempts>,
    /// Since when it has been well, without a break.
    pub well_since: Option<Moment>,
    /// Since when it has been amiss, or waiting for something that is; could-not-look changes nothing.
    pub amiss_since: Option<Moment>,
    /// Since when it has been at fault itself; could-not-look changes nothing.
    pub faulty_since: Option<Moment>,
    /// Since when it could not be looked at, without a break.
    pub unknown_since: Option<Moment>,
    /// Whether it was ever well in this run of the agent.
    pub ever_well: bool,
    /// End of the last action on it.
    pub last_action: Option<Moment>,
    /// The life of the container that its service is judged in.
    pub life: Option<Life>,
}

/// Attempts on one rung since it was last forgiven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempts {
    pub count: u32,
    /// What was tried last.
    pub last: Repair,
    /// No further attempt before this.
    pub not_before: Moment,
    /// The pause that led to `not_before`; the next one grows from it.
    pub delay: Duration,
    pub failure: Option<Failure>,
}

/// One life of a container, from start to end, and how its service did in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Life {
    /// Container id and start time.
    pub name: String,
    pub first_seen: Moment,
    /// Whether the service answered well at least once.
    pub served: bool,
    /// Consecutive looks at which it failed in a way that a restart can cure.
    pub misses: u32,
    pub missing_since: Moment,
}

/// What the agent looks after and how patient it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub mounts: Vec<String>,
    pub containers: Vec<ContainerSettings>,
    pub timing: Timing,
}

/// What is decided about one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerSettings {
    pub name: String,
    pub owner: Owner,
    /// Names of the mounts that it binds by configuration.
    pub mounts: Vec<String>,
    /// Whether a probe is configured.
    pub probed: bool,
}

/// Who replaces a container that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    Ecs,
    Mapkeeper,
}

/// Every patience of the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timing {
    /// Time between looks while all is well.
    pub look_every: Duration,
    /// Time between looks while something is amiss.
    pub look_again: Duration,
    /// Could-not-look is held against the host after this long.
    pub unknown_patience: Duration,
    /// No action on a target sooner than this after the last one, whatever the rung.
    pub settle: Duration,
    /// A service that has not answered yet in this life of its container is left alone this long.
    pub start_grace: Duration,
    /// Consecutive failed looks at a service, and their shortest span, before a restart.
    pub confirm_looks: u32,
    pub confirm_for: Duration,
    /// A fault of a target that was well this long is a new one: the first attempt at it needs no
    /// pause, although attempts still count. The span after which Docker resets its own delay.
    pub steady_after: Duration,
    /// Attempts are forgotten after the target was well this long.
    pub forgive_after: Duration,
    /// ECS has this long to replace a container that ended.
    pub replacement_deadline: Duration,
    pub remount: Budget,
    pub restart: Budget,
    pub recreate: Budget,
}

/// How often a rung may be tried on one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    /// Attempts before a person is called.
    pub attempts: u32,
    /// Shortest pause after an attempt.
    pub base: Duration,
    /// Longest pause after an attempt within the budget.
    pub cap: Duration,
    /// Pause after each attempt once the budget is spent.
    pub slow: Duration,
}

impl Timing {
    /// The budget of a rung.
    pub fn budget(&self, rung: Rung) -> &Budget {
        match rung {
            Rung::Remount => &self.remount,
            Rung::Restart => &self.restart,
            Rung::Recreate => &self.recreate,
        }
    }
}

impl Default for Timing {
    fn default() -> Timing {
        let seconds = Duration::from_secs;
        Timing {
            look_every: seconds(5),
            look_again: seconds(1),
            unknown_patience: seconds(15),
            settle: Duration::from_millis(500),
            start_grace: seconds(20),
            confirm_looks: 3,
            confirm_for: seconds(2),
            steady_after: seconds(10),
            forgive_after: seconds(300),
            replacement_deadline: seconds(120),
            // A failed mount disturbs nobody: short pauses, so that it is back soon after S3 is.
            remount: Budget {
                attempts: 10,
                base: Duration::from_millis(500),
                cap: seconds(8),
                slow: seconds(60),
            },
            // A restart interrupts a service that may half work: longer pauses, fewer attempts.
            restart: Budget { attempts: 5, base: seconds(1), cap: seconds(60), slow: seconds(600) },
            recreate: Budget { attempts: 8, base: seconds(1), cap: seconds(10), slow: seconds(60) },
        }
    }
}

/// How the host does as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// Every link is good.
    Healthy,
    /// Something is amiss that no repair is meant for, or could not be looked at.
    Degraded,
    /// Something is amiss, and a repair or a replacement is under way.
    Repairing,
    /// Something is amiss that needs a person: the repairs did not help or are not ours to make.
    Failed,
}

/// How one link of the chain does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkState {
    Ok,
    /// It serves, with something to say.
    Degraded,
    Broken,
    /// It could not be looked at.
    Unknown,
    /// It waits for an earlier link, or to come up.
    Waiting,
}

/// The verdict on one link of the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub target: Target,
    pub state: LinkState,
    pub trigger: Option<Trigger>,
    pub detail: String,
    pub hint: Option<String>,
}

/// What a round comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    pub health: Health,
    /// One per link of the chain, in order of dependency.
    pub links: Vec<Link>,
    pub action: Option<Action>,
    /// Why `health` is what it is, one sentence.
    pub reason: String,
    /// The next look is due after this long.
    pub next_look: Duration,
}
