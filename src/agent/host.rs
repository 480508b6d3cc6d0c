//! The seam between the loop and what it looks after: the trait [`Host`].
//!
//! What must hold: the loop reaches the host by it alone, so that a simulated host can take the place of the live one.

use std::future::Future;
use std::time::{Duration, SystemTime};

use ladder::state::{
    Action, ContainerSettings, ContainerState, CredentialsSeen, DataSeen, Device, DockerSeen, EcsSeen,
    Failure, Maintenance, MountAnswer, MountEntry, Requests, Seen, ServiceSeen, Session, Settings, Stats,
    StoreSeen,
};

/// A host, live or simulated.
///
/// The questions may be asked concurrently and may hang; the loop puts a limit on each and may drop any
/// of these futures at any time. None may touch a file below a mount of this process.
pub trait Host {
    /// Time since boot and wall time.
    fn clock(&self) -> (Duration, SystemTime);
    /// A random number.
    fn random(&self) -> u64;

    /// Whether a person asked for no repairs. Answers at once.
    fn maintenance(&self) -> Maintenance;

    fn credentials(&self) -> impl Future<Output = Seen<CredentialsSeen>>;
    /// What the bucket of `mount` answers when it is asked past the mount.
    fn store(&self, mount: &str) -> impl Future<Output = Seen<StoreSeen>>;
    /// What the kernel has at the path of the mount called `mount`.
    fn mount_entry(&self, mount: &str) -> impl Future<Output = Seen<Option<MountEntry>>>;
    /// The session that serves it in this process.
    fn session(&self, mount: &str) -> impl Future<Output = Seen<Option<Session>>>;
    /// What a child process gets at its path.
    fn mount_answer(&self, mount: &str) -> impl Future<Output = Seen<MountAnswer>>;
    /// What a child process reads of a known key, compared with the bucket.
    fn data(&self, mount: &str) -> impl Future<Output = DataSeen>;
    /// What the kernel has asked of the session of `mount` and has no answer to. A request is lost only if it was that
    /// for as long as this took.
    fn requests(&self, mount: &str) -> impl Future<Output = Seen<Requests>>;
    fn docker(&self) -> impl Future<Output = Seen<DockerSeen>>;
    fn container(&self, container: &ContainerSettings) -> impl Future<Output = Seen<ContainerState>>;
    /// The names of our mounts that this container binds: by configuration and by what Docker shows.
    fn mounts_bound(&self, container: &ContainerSettings) -> Vec<String>;
    /// The device that process `pid` of the container sees where it should see `mount`.
    fn view(
        &self,
        container: &ContainerSettings,
        pid: u32,
        mount: &str,
    ) -> impl Future<Output = Seen<Option<Device>>>;
    fn service(&self, container: &ContainerSettings) -> impl Future<Output = Seen<ServiceSeen>>;
    fn ecs(&self) -> impl Future<Output = Seen<EcsSeen>>;

    /// What was counted so far. Answers at once; nothing is decided by it.
    fn stats(&self) -> Stats {
        Stats::default()
    }

    /// Takes over a configuration that has come since. Called between two rounds; what it leaves undone, the next
    /// rounds detect and repair.
    fn apply_config(&self) -> impl Future<Output = Option<ConfigChange>> {
        std::future::ready(None)
    }
    /// Carries out one action, completely or not at all as far as that is possible.
    fn apply(&self, action: &Action) -> impl Future<Output = Result<(), Failure>>;
    /// Waits until something happened that makes a look worthwhile. Cancel-safe.
    fn wake(&self) -> impl Future<Output = ()>;
    /// Puts away what this run made, in order: containers of ours, then mounts.
    fn shut_down(&self) -> impl Future<Output = ()>;
}

/// What became of a configuration that came while the agent ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigChange {
    /// It is in force, with these consequences.
    Taken { settings: Box<Settings>, consequences: Vec<String> },
    /// The old one stays in force.
    Refused { error: String },
}
