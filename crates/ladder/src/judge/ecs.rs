//! Judging the ECS agent, this host's place in its cluster, and what ECS does with containers.

use super::{Fault, Verdict};
use crate::state::{
    ContainerSeen, ContainerSettings, ContainerState, EcsAgent, EcsInstance, EcsSeen, EcsSettings, Identity,
    Observation, Owner, Seen, Target, Trigger,
};

/// What a person can do where the agent's address may be somebody else's.
const STRANGER: &str = "look who listens there: ss -ltnp sport = 51678; is the instance metadata service on?";

/// Judges the ECS agent, then what the cluster says of this instance. Introspection alone cannot tell whether
/// the agent is heard: it answers happily while it is disconnected.
pub(super) fn judge_ecs(seen: &Seen<EcsSeen>, settings: &EcsSettings) -> Verdict {
    let seen = match seen {
        Seen::Unknown(reason) => return Verdict::Unknown(reason.clone()),
        Seen::Known(seen) => seen,
    };
    let faulty =
        |trigger, detail: String, hint: &str| Verdict::Faulty(Fault::new(trigger, detail).hint(hint));
    match (&seen.agent, &seen.instance) {
        (EcsAgent::Down { reason }, _) => faulty(
            Trigger::EcsAgentDown,
            format!("the ECS agent does not answer: {reason}"),
            "systemctl status ecs; journalctl -u ecs",
        ),
        (EcsAgent::Unregistered, _) => faulty(
            Trigger::EcsUnregistered,
            "the ECS agent has no place in a cluster yet".to_owned(),
            "check the instance role and /etc/ecs/ecs.config",
        ),
        (EcsAgent::Registered { cluster, .. }, _) if *cluster != settings.cluster => faulty(
            Trigger::EcsWrongCluster,
            format!("the ECS agent is in cluster {cluster}, the configuration says {}", settings.cluster),
            "correct ECS_CLUSTER in /etc/ecs/ecs.config and register the instance anew",
        ),
        (_, Seen::Unknown(reason)) => Verdict::Unknown(reason.clone()),
        (_, Seen::Known(instance)) => judge_instance(instance, settings),
    }
}

/// What the cluster says of the instance that the agent names: first of all whether it is this one.
fn judge_instance(instance: &EcsInstance, settings: &EcsSettings) -> Verdict {
    let faulty =
        |trigger, detail: String, hint: &str| Verdict::Faulty(Fault::new(trigger, detail).hint(hint));
    match instance {
        EcsInstance::Absent => faulty(
            Trigger::EcsInstanceAbsent,
            format!("cluster {} does not know this instance", settings.cluster),
            "look at the container instances of the cluster",
        ),
        EcsInstance::Present { identity: Identity::Other(what), .. } => faulty(
            Trigger::EcsIdentity,
            format!("{what}: it is neither drained nor marked from here"),
            STRANGER,
        ),
        EcsInstance::Present { connected: false, .. } => faulty(
            Trigger::EcsDisconnected,
            "the cluster does not hear the ECS agent".to_owned(),
            "check that this host reaches the endpoints of ECS",
        ),
        EcsInstance::Present { ready: Some(_), identity: Identity::Unknown(why), .. } => {
            let what =
                format!("connected; neither drained nor marked, because it may be another host: {why}");
            Verdict::Reduced(Fault::new(Trigger::EcsIdentity, what).hint(STRANGER))
        }
        EcsInstance::Present { ready: Some(false), .. } => Verdict::Reduced(
            Fault::new(
                Trigger::EcsReadiness,
                "connected, takes no tasks: mapkeeper has marked it as not ready",
            )
            .hint("it is marked as ready by itself as soon as this host can serve"),
        ),
        EcsInstance::Present { draining: true, .. } => Verdict::Reduced(
            Fault::new(
                Trigger::EcsDraining,
                "connected, takes no tasks: somebody else has set it to DRAINING",
            )
            .hint("whoever drained it sets it to ACTIVE: aws ecs update-container-instances-state"),
        ),
        EcsInstance::Present { .. } => Verdict::Good("connected".to_owned()),
        EcsInstance::Hidden => Verdict::Good("registered; the role may not ask the cluster".to_owned()),
    }
}

/// A container of ECS that runs well and that the ECS agent does not know is nobody's: ECS would neither stop
/// nor replace it.
pub(super) fn known_to_ecs(
    container: &ContainerSettings,
    looked_at: Option<&ContainerSeen>,
    seen: &Observation,
    verdict: Verdict,
) -> Verdict {
    let Some(Seen::Known(EcsSeen { tasks: Seen::Known(tasks), .. })) = &seen.ecs else { return verdict };
    match (container.owner, looked_at.map(|container| &container.state), &verdict) {
        (Owner::Ecs, Some(Seen::Known(ContainerState::Present(facts))), Verdict::Good(_))
            if !tasks.contains(&facts.id) =>
        {
            Verdict::Reduced(
                Fault::new(Trigger::EcsTaskUnknown, "it runs, and is not among the tasks of the ECS agent")
                    .hint("was it started by hand? ECS will not replace it"),
            )
        }
        _ => verdict,
    }
}

/// A container of ECS that is gone while the cluster keeps tasks from this instance was taken away by that: no fault of
/// this host, and no reason to keep it so.
pub(super) fn taken_by_ecs(container: &ContainerSettings, seen: &Observation, verdict: Verdict) -> Verdict {
    let Some(Seen::Known(EcsSeen { instance: Seen::Known(instance), .. })) = &seen.ecs else {
        return verdict;
    };
    match &verdict {
        Verdict::Faulty(fault)
            if container.owner == Owner::Ecs && is_gone(fault.trigger) && instance.takes_no_tasks() =>
        {
            Verdict::Blocked(Target::Ecs)
        }
        _ => verdict,
    }
}

/// Whether a container with this fault does not run any more, or is about to be away.
pub(crate) fn is_gone(trigger: Trigger) -> bool {
    matches!(
        trigger,
        Trigger::ContainerAbsent
            | Trigger::ContainerCreated
            | Trigger::ContainerExited
            | Trigger::ContainerDead
            | Trigger::ContainerInTransit
    )
}
