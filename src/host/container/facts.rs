//! What Docker says of one container, in the terms of the ladder.

use bollard::models::{ContainerInspectResponse, ContainerStateStatusEnum, RestartPolicyNameEnum};

use super::identity::{LABEL_AGENT, LABEL_MANAGED, LABEL_SPECIFICATION};
use super::specification::fingerprint;
use crate::config::{Container, Owner};
use ladder::state::{ContainerFacts, Phase, Specification};

/// Says in the environment of a container where MapServer writes its errors.
pub(super) const ERROR_LOG: &str = "MS_ERRORFILE";

/// What Docker has for a configured container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    Absent,
    /// The name belongs to a container that was not made by mapkeeper, or by `agent`, which is another one.
    Foreign {
        id: String,
        agent: Option<String>,
    },
    Present(Box<Facts>),
}

/// What Docker says of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    pub seen: ContainerFacts,
    pub name: String,
    /// The exact image that it was made from.
    pub image_id: String,
    /// Hash of the specification that we made it from.
    pub specification: Option<String>,
    /// Directories of the host that it binds: source and target.
    pub binds: Vec<(String, String)>,
    /// `MS_ERRORFILE` of its environment, that of its image included.
    pub error_log: Option<String>,
    /// The user that it was made with, as Docker was told; empty: root.
    pub user: String,
    /// Runtime directory of the agent that made it, where that said so.
    pub agent: Option<String>,
}

/// `NAME=value`, as Docker writes an environment.
pub(super) fn pairs(environment: Option<Vec<String>>) -> Vec<(String, String)> {
    let pair = |text: String| text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    environment.unwrap_or_default().into_iter().filter_map(pair).collect()
}

/// What `shown` says, beside what it was to be.
pub(super) fn facts(shown: ContainerInspectResponse, wanted: &Container) -> Facts {
    let state = shown.state.unwrap_or_default();
    let config = shown.config.unwrap_or_default();
    let phase = match state.status {
        Some(ContainerStateStatusEnum::RUNNING) => Phase::Running,
        Some(ContainerStateStatusEnum::PAUSED) => Phase::Paused,
        Some(ContainerStateStatusEnum::RESTARTING) => Phase::Restarting,
        Some(ContainerStateStatusEnum::STOPPING) => Phase::Stopping,
        Some(ContainerStateStatusEnum::REMOVING) => Phase::Removing,
        Some(ContainerStateStatusEnum::EXITED) => Phase::Exited,
        Some(ContainerStateStatusEnum::DEAD) => Phase::Dead,
        Some(ContainerStateStatusEnum::CREATED | ContainerStateStatusEnum::EMPTY) | None => Phase::Created,
    };
    let labels = config.labels.unwrap_or_default();
    let managed = labels.contains_key(LABEL_MANAGED);
    let policy = shown.host_config.and_then(|host| host.restart_policy).and_then(|policy| policy.name);
    let restarted_by_docker =
        policy.is_some_and(|name| !matches!(name, RestartPolicyNameEnum::NO | RestartPolicyNameEnum::EMPTY));
    let binds = shown.mounts.unwrap_or_default().into_iter().filter_map(|mount| {
        (mount.typ.as_deref() == Some("bind")).then_some(())?;
        Some((mount.source?, mount.destination?))
    });
    // With another restart policy Docker itself would start it on whatever is there: made anew.
    let specification = managed.then(|| match restarted_by_docker {
        true => "restarted by Docker".to_owned(),
        false => labels.get(LABEL_SPECIFICATION).cloned().unwrap_or_default(),
    });
    let is_outdated =
        wanted.owner == Owner::Mapkeeper && specification.as_deref() != Some(fingerprint(wanted).as_str());
    let seen = ContainerFacts {
        id: shown.id.unwrap_or_default(),
        phase,
        pid: state.pid.and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid != 0),
        started: state.started_at.unwrap_or_default(),
        restarts: shown.restart_count.and_then(|count| u64::try_from(count).ok()).unwrap_or(0),
        oom_killed: state.oom_killed.unwrap_or(false),
        exit_code: state.exit_code,
        image: config.image.unwrap_or_default(),
        specification: if is_outdated { Specification::Outdated } else { Specification::Current },
    };
    Facts {
        seen,
        name: shown.name.unwrap_or_default().trim_start_matches('/').to_owned(),
        image_id: shown.image.unwrap_or_default(),
        specification,
        binds: binds.collect(),
        error_log: pairs(config.env).into_iter().find(|(name, _)| name == ERROR_LOG).map(|pair| pair.1),
        user: config.user.unwrap_or_default(),
        agent: labels.get(LABEL_AGENT).cloned(),
    }
}
