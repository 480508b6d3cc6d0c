//! Judging a container: whose it is, what it does, and what it sees of the mounts that it binds.

use std::collections::{BTreeMap, BTreeSet};

use super::condition::{Condition, Fault, Proven};
use crate::state::{
    ContainerFacts, ContainerSeen, ContainerSettings, ContainerState, Owner, Phase, Proof, Reason, Seen,
    Specification, Target,
};

/// The names of all mounts that a container binds: by configuration, and by what Docker shows.
pub fn mounts_bound<'a>(
    container: &'a ContainerSettings,
    seen: Option<&'a ContainerSeen>,
) -> BTreeSet<&'a str> {
    let shown = seen.into_iter().flat_map(|seen| seen.views.keys());
    container.mounts.iter().chain(shown).map(String::as_str).collect()
}

/// The proofs of all mounts that a container binds; `None` if one of them is not proven.
pub fn proofs(
    container: &ContainerSettings,
    seen: Option<&ContainerSeen>,
    proven: &BTreeMap<String, Proven>,
) -> Option<Vec<Proof>> {
    mounts_bound(container, seen)
        .into_iter()
        .map(|mount| proven.get(mount).map(|found| Proof { mount: mount.to_owned(), device: found.device }))
        .collect()
}

pub(super) fn assess_container(
    container: &ContainerSettings,
    seen: Option<&ContainerSeen>,
    docker_answers: bool,
    proven: &BTreeMap<String, Proven>,
) -> Condition {
    if !docker_answers {
        return Condition::Blocked(Target::Docker);
    }
    if let Some(mount) = mounts_bound(container, seen).into_iter().find(|mount| !proven.contains_key(*mount))
    {
        return Condition::Blocked(Target::Mount(mount.to_owned()));
    }
    let Some(seen) = seen else { return Condition::Unknown("it was not looked at".to_owned()) };
    match (&seen.state, container.owner) {
        (Seen::Unknown(reason), _) => Condition::Unknown(reason.clone()),
        (Seen::Known(ContainerState::Absent), Owner::Mapkeeper) => {
            Condition::Faulty(Fault::new(Reason::ContainerAbsent, "it does not exist"))
        }
        (Seen::Known(ContainerState::Absent), Owner::Ecs) => Condition::Faulty(
            Fault::new(Reason::ContainerAbsent, "ECS has not started it")
                .hint("look at the events of the ECS service"),
        ),
        (Seen::Known(ContainerState::Foreign { id, agent: Some(agent) }), _) => Condition::Faulty(
            Fault::new(
                Reason::ForeignContainer,
                format!("container {} ({id}) belongs to the agent of {agent}", container.name),
            )
            .hint(format!("choose another name, or end that agent: mapkeeper --runtime-dir {agent} status")),
        ),
        (Seen::Known(ContainerState::Foreign { id, agent: None }), _) => Condition::Faulty(
            Fault::new(
                Reason::ForeignContainer,
                format!("a container named {} exists and was not made by mapkeeper ({id})", container.name),
            )
            .hint(format!("remove it (docker rm -f {}) or choose another name", container.name)),
        ),
        (Seen::Known(ContainerState::Present(facts)), owner) => {
            assess_life(facts, owner, seen, mounts_bound(container, Some(seen)), proven)
        }
    }
}

fn assess_life(
    facts: &ContainerFacts,
    owner: Owner,
    seen: &ContainerSeen,
    mounts: BTreeSet<&str>,
    proven: &BTreeMap<String, Proven>,
) -> Condition {
    let faulty = |trigger, detail: String| Condition::Faulty(Fault::new(trigger, detail));
    let settled = !matches!(facts.phase, Phase::Restarting | Phase::Stopping | Phase::Removing);
    if settled && owner == Owner::Mapkeeper && facts.specification == Specification::Outdated {
        return faulty(
            Reason::SpecificationChanged,
            "it was made from another configuration than the one in force".to_owned(),
        );
    }
    match facts.phase {
        Phase::Running => assess_views(facts, seen, mounts, proven),
        Phase::Created => faulty(Reason::ContainerCreated, "it was made and never started".to_owned()),
        Phase::Paused => faulty(Reason::ContainerPaused, "it is paused".to_owned()),
        Phase::Dead => faulty(Reason::ContainerDead, "Docker cannot use it any more (dead)".to_owned()),
        Phase::Restarting => faulty(Reason::ContainerInTransit, "Docker is restarting it".to_owned()),
        Phase::Stopping => faulty(Reason::ContainerInTransit, "it is stopping".to_owned()),
        Phase::Removing => faulty(Reason::ContainerInTransit, "Docker is removing it".to_owned()),
        Phase::Exited => {
            let code = facts.exit_code.map_or_else(|| "no code".to_owned(), |code| format!("code {code}"));
            let memory = if facts.oom_killed { ", out of memory" } else { "" };
            faulty(Reason::ContainerExited, format!("it ended with {code}{memory}"))
        }
    }
}

/// Judges a running container by what it sees of its mounts. One mount known to be stale outweighs
/// another that could not be looked at.
fn assess_views(
    facts: &ContainerFacts,
    seen: &ContainerSeen,
    mounts: BTreeSet<&str>,
    proven: &BTreeMap<String, Proven>,
) -> Condition {
    let mut unknown = None;
    for mount in mounts {
        let expected = proven.get(mount).map(|found| found.device);
        match seen.views.get(mount) {
            None => unknown = Some(format!("its view of {mount} was not looked at")),
            Some(Seen::Unknown(reason)) => unknown = Some(reason.clone()),
            Some(Seen::Known(None)) => {
                return Condition::Faulty(Fault::new(
                    Reason::MountNotVisible,
                    format!("it sees no mount where {mount} should be"),
                ));
            }
            Some(Seen::Known(shown)) if *shown != expected => {
                return Condition::Faulty(Fault::new(
                    Reason::StaleMount,
                    format!("it holds a replaced mount of {mount}"),
                ));
            }
            Some(Seen::Known(_)) => {}
        }
    }
    match unknown {
        Some(reason) => Condition::Unknown(reason),
        None if facts.restarts > 0 => {
            Condition::Good(format!("runs, restarted {} times by Docker", facts.restarts))
        }
        None => Condition::Good("runs".to_owned()),
    }
}
