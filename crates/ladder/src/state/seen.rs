//! What one look at the host can find, part by part.
//!
//! Every part is [`Seen`], so "could not look" is a value of its own and never the same as "looked, and it is absent".

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::reason::Reason;

/// The answer to one question about the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen<T> {
    /// The question was answered.
    Known(T),
    /// The question could not be answered, and why. Nothing is repaired on the strength of it.
    Unknown(String),
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

/// The whole host at one moment. A mount or container that is missing from a map was not looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    pub maintenance: Maintenance,
    pub credentials: Seen<CredentialsSeen>,
    pub mounts: BTreeMap<String, MountSeen>,
    pub docker: Seen<DockerSeen>,
    pub containers: BTreeMap<String, ContainerSeen>,
    /// `None`: this host is in no cluster by configuration.
    pub ecs: Option<Seen<EcsSeen>>,
}

/// Whether a person has asked the agent to keep its hands off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Maintenance {
    #[default]
    Off,
    /// Nothing is repaired for this long, or until `mapkeeper resume`.
    On { left: Option<Duration> },
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

/// What the bucket of a mount answered to a request of the agent's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreSeen {
    Answers,
    /// The mount has no bucket: whether its server is there is told by the mount itself.
    NoStore,
    /// It could not be asked, or does not keep up: nobody on this host can do anything about it.
    Away {
        reason: String,
        hint: Option<String>,
    },
    /// It answered and refuses the key: new credentials may help.
    Refuses {
        reason: String,
        hint: Option<String>,
    },
    /// There is no such bucket, or it is somebody else's.
    Missing {
        reason: String,
        hint: Option<String>,
    },
}

/// One mount, seen from all sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountSeen {
    /// Its bucket, asked past the mount.
    pub store: Seen<StoreSeen>,
    /// What the kernel has mounted at the path, the topmost layer. A dead mount is still listed.
    pub entry: Seen<Option<MountEntry>>,
    /// The session that serves it inside this process; `None` where none was ever opened.
    pub session: Seen<Option<Session>>,
    /// What a child process got when it used the path.
    pub answer: Seen<MountAnswer>,
    /// What a child process read of a known key, compared with what the bucket says.
    pub data: DataSeen,
    /// What the kernel has asked of the session and has no answer to.
    pub requests: Seen<Requests>,
}

/// Requests at one look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Requests {
    /// The kernel waits for their answers.
    pub waiting: u64,
    /// The session has them in hand.
    pub taken: u64,
}

impl Requests {
    /// Whether whoever waits waits for nobody: a request that no process knows of.
    pub fn are_lost(&self) -> bool {
        self.waiting > 0 && self.taken == 0
    }
}

/// Whether the mount shows what the bucket holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DataSeen {
    /// No key is known, or it could not be compared: that proves nothing.
    NotCompared,
    Same,
    /// Older than `freshness` allows, or wrong.
    Differs(String),
}

/// A line of the kernel's mount table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountEntry {
    pub device: Device,
    pub fs_type: String,
    pub source: String,
    pub origin: Origin,
    /// What is mounted over a directory above it, so that nobody finds it by its path.
    pub hidden_by: Option<String>,
}

/// Who made a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A mapkeeper process, not necessarily this one.
    Mapkeeper,
    /// Somebody else, over a mount of mapkeeper's at the same path.
    OverMapkeeper,
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
    /// It serves, and this is to be known of it.
    Noted(String),
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
    /// The name belongs to a container that was not made by mapkeeper, or by another agent, that of the runtime
    /// directory `agent`. Never touched.
    Foreign {
        id: String,
        agent: Option<String>,
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
    /// It answered well, later than the probe's timeout.
    Slow {
        took: Duration,
        timeout: Duration,
    },
    /// Nothing that it was asked in this time has been answered; the time is longer than the probe's timeout.
    Unanswered {
        waited: Duration,
        timeout: Duration,
        /// Whether its container does any work meanwhile.
        works: Seen<bool>,
    },
    Faulty {
        trigger: Reason,
        detail: String,
    },
}

/// A service that answers nothing for this long is silent, if its container does no work either. A slow one is not: it
/// answers late, or works.
pub fn silence(timeout: Duration) -> Duration {
    timeout.saturating_mul(10).max(Duration::from_secs(30))
}

/// The ECS agent of this host, as its introspection and the cluster tell it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EcsSeen {
    pub agent: EcsAgent,
    /// What the cluster says of this instance.
    pub instance: Seen<EcsInstance>,
    /// The Docker ids of the containers that the agent knows of.
    pub tasks: Seen<Vec<String>>,
}

/// The ECS agent, as its introspection tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EcsAgent {
    /// Its introspection refuses connections.
    Down { reason: String },
    /// It runs and has no place in a cluster yet.
    Unregistered,
    /// It believes to be this instance of the cluster.
    Registered { cluster: String, instance: String },
}

/// What the cluster says of this instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EcsInstance {
    /// It has never heard of it, or has let go of it.
    Absent,
    /// The role of this instance may not ask: then the agent's own word has to do.
    Hidden,
    Present {
        /// Whether the cluster hears the agent.
        connected: bool,
        /// It gets no tasks, and those that it has are stopped.
        draining: bool,
        /// The attribute by which tasks are placed; `None`: it is not kept. A drain of ours goes with `Some(false)`, a
        /// drain beside `Some(true)` is somebody else's.
        ready: Option<bool>,
        /// Whether it is this host at all.
        identity: Identity,
    },
}

impl EcsInstance {
    /// Whether tasks are kept from it, and taken away: by the state, or by the attribute.
    pub fn takes_no_tasks(&self) -> bool {
        matches!(
            self,
            EcsInstance::Present { draining: true, .. } | EcsInstance::Present { ready: Some(false), .. }
        )
    }
}

/// Whether the container instance that the agent names is this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    Same,
    /// It is another, in words.
    Other(String),
    /// That cannot be told, and why.
    Unknown(String),
}
