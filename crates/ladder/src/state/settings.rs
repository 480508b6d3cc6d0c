//! What the agent looks after, and how far it may go.

use super::timing::Timing;

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
