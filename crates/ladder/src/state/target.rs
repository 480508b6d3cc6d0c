//! The links of the chain, by name: what is assessed, repaired and counted.

use std::fmt;

use serde::{Deserialize, Serialize};

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
