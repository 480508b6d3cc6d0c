//! What a configuration means to the plan: mounts, containers, and which of them shows which.

use std::path::{Path, PathBuf};

use crate::config::{self, Config};
use crate::host::container::title;
use ladder::state::{ContainerSettings, EcsSettings, Escalation, Owner, Settings, Timing, Workers};

/// What the plan needs to know of a configuration.
pub fn settings(config: &Config) -> Settings {
    let container = |(name, wanted): (String, config::Container)| ContainerSettings {
        name,
        owner: match wanted.owner {
            config::Owner::Ecs => Owner::Ecs,
            config::Owner::Mapkeeper => Owner::Mapkeeper,
        },
        mounts: config.mounts.iter().filter(|mount| binds(&wanted, mount)).map(|m| m.name.clone()).collect(),
        probed: wanted.probe.is_some(),
    };
    Settings {
        mounts: config.mounts.iter().map(|mount| mount.name.clone()).collect(),
        containers: named(config).map(container).collect(),
        ecs: config.ecs.as_ref().map(|ecs| EcsSettings { cluster: ecs.cluster.clone() }),
        // Whether there is somebody to start others, the host knows.
        workers: Workers::Fixed,
        escalation: escalation(config),
        timing: Timing::default(),
    }
}

/// How far an instance that cannot be repaired goes.
pub(super) fn escalation(config: &Config) -> Escalation {
    match config.escalate {
        config::Escalate::Drain => Escalation::Drain,
        config::Escalate::DryRun => Escalation::DryRun,
        config::Escalate::Terminate => Escalation::Terminate,
    }
}

/// Each container with a name of its own: two selectors may read the same.
pub(super) fn named(config: &Config) -> impl Iterator<Item = (String, config::Container)> {
    config.containers.iter().enumerate().map(|(number, wanted)| {
        let plain = title(wanted);
        let same = config.containers[..number].iter().filter(|other| title(other) == plain).count();
        (if same == 0 { plain } else { format!("{plain} #{}", same + 1) }, wanted.clone())
    })
}

fn binds(wanted: &config::Container, mount: &config::Mount) -> bool {
    wanted.binds.iter().any(|bind| seen_at(&bind.source, &bind.target, &mount.path).is_some())
}

/// Where a container that binds `source` at `target` sees the mount at `path`; `None` if it does not.
///
/// A bind of the mount or of a directory in it shows the mount at the bind's target, a bind of a
/// directory above it shows it below the target.
pub fn seen_at(source: &Path, target: &str, path: &Path) -> Option<PathBuf> {
    if source.starts_with(path) {
        return Some(PathBuf::from(target));
    }
    path.strip_prefix(source).ok().map(|below| Path::new(target).join(below))
}
