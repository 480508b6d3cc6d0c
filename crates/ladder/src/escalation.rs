//! Rungs 6 and 7: whether this host serves, and what is done about it when nothing else helps.

use super::assess::Condition;
use super::cure::{is_late, restart_may_cure};
use super::remedy::{Cost, Remedy, Round};
use crate::state::{
    Action, EcsAgent, EcsInstance, EcsSeen, Escalation, Identity, Reason, Repair, Rung, Seen, Target,
};

impl Round<'_> {
    /// Whether this host serves: every mount proven, every container running on it, every service answering
    /// in a way that no restart would better. A broken map is everybody's and takes no host out.
    pub(super) fn ready(&self) -> bool {
        let mounts = self.assessment.proven.len() == self.settings.mounts.len();
        let served =
            self.assessment.findings.iter().all(|finding| match (&finding.target, &finding.condition) {
                (Target::Container(_), condition) => {
                    matches!(condition, Condition::Good(_) | Condition::Reduced(_))
                }
                (Target::Service(name), Condition::Faulty(fault)) => match fault.trigger {
                    // One that has served is believed to be slow until it is silent for long.
                    Reason::AnswerOverdue => self.has_served(name),
                    Reason::Overloaded => false,
                    trigger => !restart_may_cure(trigger),
                },
                _ => true,
            });
        mounts && served
    }

    /// Whether the service has answered in this life of its container.
    fn has_served(&self, container: &str) -> bool {
        let record = self.history.record(&Target::Container(container.to_owned()));
        record.life.is_some_and(|life| life.served)
    }

    /// Rungs 6 and 7, for the host as a whole; asked only when no other repair is due.
    pub(super) fn escalation(&self) -> Option<Action> {
        self.termination().or_else(|| self.readiness())
    }

    /// Keeps the readiness attribute and the state true to the host, where the cluster has the attribute and can be
    /// asked, and where it is known that the instance is this one. What somebody else has set to DRAINING stays so.
    fn readiness(&self) -> Option<Action> {
        let Some(Seen::Known(EcsSeen {
            agent: EcsAgent::Registered { .. },
            instance:
                Seen::Known(EcsInstance::Present {
                    connected,
                    draining,
                    ready: Some(ready),
                    identity: Identity::Same,
                }),
            ..
        })) = &self.seen.ecs
        else {
            return None;
        };
        let repair = match (*ready, self.exhausted()) {
            (_, true) if !draining => Repair::MarkUnready,
            (false, false) if *connected && self.can_serve() => Repair::MarkReady,
            _ => return None,
        };
        let trigger = if repair == Repair::MarkReady { Reason::EcsReadiness } else { Reason::Exhausted };
        match self.due(&Target::Instance, repair, trigger, Vec::new(), Cost::Interruption) {
            Remedy::Act(action) => Some(action),
            _ => None,
        }
    }

    /// Whether this host could serve if tasks were placed on it: every mount proven, Docker there, and no container
    /// faulty but those that the drain took away. Their images are ECS's to pull.
    fn can_serve(&self) -> bool {
        let mounts = self.assessment.proven.len() == self.settings.mounts.len();
        let rest =
            self.assessment.findings.iter().all(|finding| match (&finding.target, &finding.condition) {
                (Target::Docker, condition) => matches!(condition, Condition::Good(_)),
                (Target::Container(_), condition) => {
                    matches!(
                        condition,
                        Condition::Good(_) | Condition::Reduced(_) | Condition::Blocked(Target::Ecs)
                    )
                }
                (Target::Service(_), Condition::Faulty(fault)) => {
                    !restart_may_cure(fault.trigger) && !is_late(fault.trigger)
                }
                (Target::Service(_), Condition::Unknown(_)) => false,
                _ => true,
            });
        mounts && rest
    }

    /// Gives the instance back once, if that was asked for and nothing speaks for a cause that the next instance
    /// would meet as well.
    fn termination(&self) -> Option<Action> {
        if self.settings.escalation == Escalation::Drain || !self.cause_is_local() {
            return None;
        }
        let record = self.history.record(&Target::Instance);
        let ended = record.attempts.get(&Rung::Terminate).is_some_and(|tried| tried.failure.is_none());
        let spent = record.count(Rung::Terminate) >= self.settings.timing.terminate.attempts;
        let long = record
            .faulty_since
            .is_some_and(|since| self.now.since(since) >= self.settings.timing.terminate_after);
        if ended || spent || !long {
            return None;
        }
        let remedy =
            self.due(&Target::Instance, Repair::Terminate, Reason::Exhausted, Vec::new(), Cost::Interruption);
        match remedy {
            Remedy::Act(action) => Some(action),
            _ => None,
        }
    }

    /// Whether something is broken whose repairs are spent.
    pub(super) fn exhausted(&self) -> bool {
        self.assessment.exhausted(self.history, self.now, self.settings)
    }

    /// Whether `target` was ever well in this run. A container whose service never answered was not, however
    /// often it ran.
    fn was_well(&self, target: &Target) -> bool {
        let ever = |target: &Target| self.history.record(target).ever_well;
        match target {
            Target::Container(name) if self.container(name).is_some_and(|container| container.probed) => {
                ever(target) && ever(&Target::Service(name.clone()))
            }
            _ => ever(target),
        }
    }

    /// Whether credentials are held, every bucket answers, and all that is exhausted was well in this run: what
    /// never was would not be on the next instance either.
    fn cause_is_local(&self) -> bool {
        let stores = self.settings.mounts.iter().all(|mount| self.store_answers(mount));
        let exhausted = self.assessment.all_exhausted(self.history, self.now, self.settings);
        let were_well = exhausted.iter().all(|target| self.was_well(target));
        self.credentials_held() && stores && !exhausted.is_empty() && were_well
    }
}
