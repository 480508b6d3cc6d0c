//! Judging the ECS agent, this host's place in its cluster, and what ECS does with containers.

use super::condition::{Condition, Fault};
use crate::cure::is_gone;
use crate::state::{
    ContainerSeen, ContainerSettings, ContainerState, EcsAgent, EcsInstance, EcsSeen, EcsSettings, Identity,
    Observation, Owner, Reason, Seen, Target,
};

/// What a person can do where the agent's address may be somebody else's.
const STRANGER: &str = "look who listens there: ss -ltnp sport = 51678; is the instance metadata service on?";

/// Judges the ECS agent, then what the cluster says of this instance. Introspection alone cannot tell whether
/// the agent is heard: it answers happily while it is disconnected.
pub(super) fn assess_ecs(seen: &Seen<EcsSeen>, settings: &EcsSettings) -> Condition {
    let seen = match seen {
        Seen::Unknown(reason) => return Condition::Unknown(reason.clone()),
        Seen::Known(seen) => seen,
    };
    let faulty =
        |trigger, detail: String, hint: &str| Condition::Faulty(Fault::new(trigger, detail).hint(hint));
    match (&seen.agent, &seen.instance) {
        (EcsAgent::Down { reason }, _) => faulty(
            Reason::EcsAgentDown,
            format!("the ECS agent does not answer: {reason}"),
            "systemctl status ecs; journalctl -u ecs",
        ),
        (EcsAgent::Unregistered, _) => faulty(
            Reason::EcsUnregistered,
            "the ECS agent has no place in a cluster yet".to_owned(),
            "check the instance role and /etc/ecs/ecs.config",
        ),
        (EcsAgent::Registered { cluster, .. }, _) if *cluster != settings.cluster => faulty(
            Reason::EcsWrongCluster,
            format!("the ECS agent is in cluster {cluster}, the configuration says {}", settings.cluster),
            "correct ECS_CLUSTER in /etc/ecs/ecs.config and register the instance anew",
        ),
        (_, Seen::Unknown(reason)) => Condition::Unknown(reason.clone()),
        (_, Seen::Known(instance)) => assess_instance(instance, settings),
    }
}

/// What the cluster says of the instance that the agent names: first of all whether it is this one.
fn assess_instance(instance: &EcsInstance, settings: &EcsSettings) -> Condition {
    let faulty =
        |trigger, detail: String, hint: &str| Condition::Faulty(Fault::new(trigger, detail).hint(hint));
    match instance {
        EcsInstance::Absent => faulty(
            Reason::EcsInstanceAbsent,
            format!("cluster {} does not know this instance", settings.cluster),
            "look at the container instances of the cluster",
        ),
        EcsInstance::Present { identity: Identity::Other(what), .. } => faulty(
            Reason::EcsIdentity,
            format!("{what}: it is neither drained nor marked from here"),
            STRANGER,
        ),
        EcsInstance::Present { connected: false, .. } => faulty(
            Reason::EcsDisconnected,
            "the cluster does not hear the ECS agent".to_owned(),
            "check that this host reaches the endpoints of ECS",
        ),
        EcsInstance::Present { ready: Some(_), identity: Identity::Unknown(why), .. } => {
            let what =
                format!("connected; neither drained nor marked, because it may be another host: {why}");
            Condition::Reduced(Fault::new(Reason::EcsIdentity, what).hint(STRANGER))
        }
        EcsInstance::Present { ready: Some(false), .. } => Condition::Reduced(
            Fault::new(
                Reason::EcsReadiness,
                "connected, takes no tasks: mapkeeper has marked it as not ready",
            )
            .hint("it is marked as ready by itself as soon as this host can serve"),
        ),
        EcsInstance::Present { draining: true, .. } => Condition::Reduced(
            Fault::new(
                Reason::EcsDraining,
                "connected, takes no tasks: somebody else has set it to DRAINING",
            )
            .hint("whoever drained it sets it to ACTIVE: aws ecs update-container-instances-state"),
        ),
        EcsInstance::Present { .. } => Condition::Good("connected".to_owned()),
        EcsInstance::Hidden => Condition::Good("registered; the role may not ask the cluster".to_owned()),
    }
}

/// A container of ECS that runs well and that the ECS agent does not know is nobody's: ECS would neither stop
/// nor replace it.
pub(super) fn known_to_ecs(
    container: &ContainerSettings,
    looked_at: Option<&ContainerSeen>,
    seen: &Observation,
    condition: Condition,
) -> Condition {
    let Some(Seen::Known(EcsSeen { tasks: Seen::Known(tasks), .. })) = &seen.ecs else { return condition };
    match (container.owner, looked_at.map(|container| &container.state), &condition) {
        (Owner::Ecs, Some(Seen::Known(ContainerState::Present(facts))), Condition::Good(_))
            if !tasks.contains(&facts.id) =>
        {
            Condition::Reduced(
                Fault::new(Reason::EcsTaskUnknown, "it runs, and is not among the tasks of the ECS agent")
                    .hint("was it started by hand? ECS will not replace it"),
            )
        }
        _ => condition,
    }
}

/// A container of ECS that is gone while the cluster keeps tasks from this instance was taken away by that: no fault of
/// this host, and no reason to keep it so.
pub(super) fn taken_by_ecs(
    container: &ContainerSettings,
    seen: &Observation,
    condition: Condition,
) -> Condition {
    let Some(Seen::Known(EcsSeen { instance: Seen::Known(instance), .. })) = &seen.ecs else {
        return condition;
    };
    match &condition {
        Condition::Faulty(fault)
            if container.owner == Owner::Ecs && is_gone(fault.trigger) && instance.takes_no_tasks() =>
        {
            Condition::Blocked(Target::Ecs)
        }
        _ => condition,
    }
}
