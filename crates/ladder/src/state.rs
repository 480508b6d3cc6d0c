//! What the agent knows: plain data, no behaviour that decides or touches anything.
//!
//! An [`Observation`] is the whole host at one moment, each part either [`Seen::Known`] or
//! [`Seen::Unknown`]. "Could not look" is a value of its own and never the same as "looked, and it is
//! absent": `plan.rs` repairs only what is known. [`History`] is what earlier rounds leave behind.
//!
//! A fault travels through these types as
//!
//! ```text
//! Observation --assess--> Finding --plan--> Decision { links, action } --apply--> History
//! ```

mod seen;
mod stats;
mod timing;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use seen::{
    ContainerFacts, ContainerSeen, ContainerState, CredentialsSeen, DataSeen, DockerSeen, EcsAgent,
    EcsInstance, EcsSeen, Identity, Maintenance, MountAnswer, MountEntry, MountSeen, Observation, Origin,
    Phase, Requests, ServiceSeen, Session, SessionState, Specification, StoreSeen, silence,
};
pub use stats::{BucketStats, MountStats, RepairCount, ServiceStats, Stats};
pub use timing::{Budget, Timing};

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

/// One link of the chain, the thing that is assessed, repaired and counted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "name")]
pub enum Target {
    Credentials,
    /// The bucket of a mount, by the mount's name.
    Store(String),
    /// A mount, by its name in the configuration.
    Mount(String),
    Docker,
    /// A container, by the name that [`ContainerSettings`] gives it.
    Container(String),
    /// What answers inside that container.
    Service(String),
    /// The ECS agent of this host and its membership in the cluster.
    Ecs,
    /// The instance as a whole: what is given back when nothing else helps.
    Instance,
}

impl fmt::Display for Target {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Credentials => write!(out, "credentials"),
            Target::Store(name) => write!(out, "bucket of {name}"),
            Target::Mount(name) => write!(out, "mount {name}"),
            Target::Docker => write!(out, "docker"),
            Target::Container(name) => write!(out, "container {name}"),
            Target::Service(name) => write!(out, "service {name}"),
            Target::Ecs => write!(out, "ecs"),
            Target::Instance => write!(out, "instance"),
        }
    }
}

/// What is wrong, as a word that `action` and events carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    CredentialsMissing,
    /// S3 cannot be asked.
    StoreAway,
    /// S3 refuses the credentials or the access.
    StoreRefuses,
    /// There is no such bucket.
    BucketMissing,
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
    /// It serves whoever holds it, and something over a directory above it keeps it from being found by its path.
    Hidden,
    MountSilent,
    MountErrors,
    /// The mount shows something else than the bucket holds.
    DataDiffers,
    /// Requests of the kernel have been waiting for an answer all the time.
    RequestsStuck,
    /// The kernel waits for answers of which the session knows nothing.
    RequestsLost,
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
    /// Silence: no answer for much longer than the probe's timeout, and no work.
    NoAnswer,
    ServerError,
    /// It answers, later than the probe's timeout.
    ServiceSlow,
    /// It has not answered yet, and is not silent yet either.
    AnswerOverdue,
    /// No answer for as long as a silent one, but it works, or that could not be told.
    Overloaded,
    MapBroken,
    MapMissing,
    /// MapServer misses the error log that the environment of its container names.
    ErrorFile,
    /// It says that it misses another file than that.
    ErrorFileUnnamed,
    PatternRefused,
    ConfigMissing,
    RasterCredentials,
    HttpStatus,
    NotWms,
    ServiceException,
    EcsAgentDown,
    EcsUnregistered,
    EcsWrongCluster,
    EcsDisconnected,
    /// The cluster does not know this instance.
    EcsInstanceAbsent,
    /// The ECS agent's word is about another instance, or it cannot be told whether it is.
    EcsIdentity,
    /// The cluster takes its tasks away.
    EcsDraining,
    /// The container is not among those of the ECS agent.
    EcsTaskUnknown,
    /// The readiness attribute in the cluster is not what it should be.
    EcsReadiness,
    /// Every repair of this host was tried and did not help.
    Exhausted,
}

/// What is done about it. `plan.rs` says when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Repair {
    /// Fetch the credentials anew.
    Refresh,
    /// Let new workers answer on the session that exists.
    RestartWorkers,
    /// Mount where nothing is mounted.
    Mount,
    /// Detach every layer, then mount.
    Remount,
    /// Take away what was mounted over a session that lives.
    Uncover,
    Unpause,
    Restart,
    /// Stop a container of ECS, which replaces it.
    Stop,
    Start,
    Create,
    /// Remove a container of ours and create it again.
    Recreate,
    /// Make the log file inside the container that MapServer misses.
    MakeErrorLog,
    RestartEcsAgent,
    /// Let the ECS agent forget which instance it was, and start it again.
    Reregister,
    /// Tell the cluster that tasks may, or may not, be placed here.
    MarkReady,
    MarkUnready,
    /// Give the instance back to the Auto Scaling group.
    Terminate,
}

impl Repair {
    /// The rung of the ladder that it stands on: attempts are counted and limited per rung.
    pub fn rung(self) -> Rung {
        match self {
            Repair::Refresh => Rung::Credentials,
            Repair::RestartWorkers => Rung::Workers,
            Repair::Mount | Repair::Remount | Repair::Uncover => Rung::Remount,
            Repair::Unpause | Repair::Restart | Repair::Stop => Rung::Restart,
            Repair::MakeErrorLog => Rung::Adjust,
            Repair::Start | Repair::Create | Repair::Recreate => Rung::Recreate,
            Repair::RestartEcsAgent | Repair::Reregister => Rung::Ecs,
            Repair::MarkReady | Repair::MarkUnready => Rung::Drain,
            Repair::Terminate => Rung::Terminate,
        }
    }
}

/// A rung of the ladder in the design.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rung {
    /// Rung 1: fetch credentials.
    Credentials,
    /// Rung 2: new workers for the session that exists.
    Workers,
    /// Rung 3: detach and mount again.
    Remount,
    /// Rung 4: the same container once more.
    Restart,
    /// Rung 4 as well: something inside the container.
    Adjust,
    /// Rung 5: start what ended, or make it again.
    Recreate,
    /// Rung 5 for ECS: its agent and its membership.
    Ecs,
    /// Rung 6: no tasks are placed here.
    Drain,
    /// Rung 7: give the instance back.
    Terminate,
}

/// One repair of one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action {
    pub target: Target,
    pub repair: Repair,
    pub trigger: Reason,
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
    /// What it is at fault for, since when, and at how many looks it was seen.
    pub fault: Option<Persistence>,
    /// Since when it could not be looked at, without a break.
    pub unknown_since: Option<Moment>,
    /// Whether it was ever well in this run of the agent.
    pub ever_well: bool,
    /// End of the last action on it.
    pub last_action: Option<Moment>,
    /// The life of the container that its service is assessed in.
    pub life: Option<Life>,
    /// Since when requests have been waiting for its session at every look.
    pub waiting_since: Option<Moment>,
    /// Since when requests were waiting at every look of which its session knows nothing.
    pub lost_since: Option<Moment>,
}

/// How long one fault has stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Persistence {
    pub trigger: Reason,
    pub since: Moment,
    pub looks: u32,
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
    pub ecs: Option<EcsSettings>,
    pub workers: Workers,
    pub escalation: Escalation,
    pub timing: Timing,
}

/// What is decided about this host's place in a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EcsSettings {
    pub cluster: String,
}

/// Whether the workers of a session can be replaced under it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workers {
    /// Rung 2 exists.
    Restartable,
    /// They live and die with the session: rung 3 follows rung 1.
    Fixed,
}

/// How far an instance that cannot be repaired goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Escalation {
    /// It says that it is not ready, and stays.
    #[default]
    Drain,
    /// It asks AWS whether it could end itself, and stays.
    DryRun,
    /// It ends itself.
    Terminate,
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

impl LinkState {
    /// The word that a person reads.
    pub fn word(self) -> &'static str {
        match self {
            LinkState::Ok => "ok",
            LinkState::Degraded => "degraded",
            LinkState::Broken => "broken",
            LinkState::Unknown => "unknown",
            LinkState::Waiting => "waiting",
        }
    }
}

/// The condition on one link of the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub target: Target,
    pub state: LinkState,
    pub trigger: Option<Reason>,
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
    /// Whether this host serves: what load balancers and the cluster are told.
    pub ready: bool,
    pub maintenance: Maintenance,
    /// The next look is due after this long.
    pub next_look: Duration,
}
