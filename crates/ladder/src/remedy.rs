//! What is to be done about each finding: the ladder, rung by rung, with its preconditions.

use std::time::Duration;

use super::assess::{self, Assessment, Condition, Fault, Finding};
use super::cure::restart_may_cure;
use super::patience::{Waiting, awaited};
use crate::state::{
    Action, ContainerSettings, ContainerState, EcsAgent, EcsInstance, EcsSeen, History, Identity, Moment,
    Observation, Owner, Phase, Proof, Reason, Record, Repair, Rung, Seen, SessionState, Settings, Target,
    Workers,
};

/// What is to be done about one finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Remedy {
    /// Nothing: it is good, or no repair is meant for it, or it could not be looked at.
    Rest,
    /// A repair, now.
    Act(Action),
    /// A repair, once this time has passed.
    Later(Moment),
    /// It is coming up, or being confirmed, or replaced by ECS.
    Await(Waiting),
    /// A person has to do it.
    Person,
}

/// Whether a repair disturbs somebody, which decides how long it waits after many attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cost {
    /// What is repaired serves nobody.
    Nothing,
    /// It may half work.
    Interruption,
}

/// The arguments of one round, together.
pub(super) struct Round<'a> {
    pub(super) seen: &'a Observation,
    pub(super) history: &'a History,
    pub(super) now: Moment,
    pub(super) settings: &'a Settings,
    pub(super) assessment: &'a Assessment,
}

impl Round<'_> {
    pub(super) fn remedy(&self, finding: &Finding) -> Remedy {
        let Condition::Faulty(fault) = &finding.condition else { return Remedy::Rest };
        match &finding.target {
            Target::Store(_) => self.store_course(fault),
            Target::Credentials | Target::Docker | Target::Instance => Remedy::Rest,
            Target::Mount(name) => self.mount_course(name, &finding.target, fault),
            Target::Ecs => self.ecs_course(fault),
            Target::Container(name) => match self.container(name) {
                Some(container) => self.container_course(container, &finding.target, fault),
                None => Remedy::Rest,
            },
            Target::Service(name) => match self.container(name) {
                Some(container) => self.service_course(container, fault),
                None => Remedy::Rest,
            },
        }
    }

    /// The finding, with what only a series of looks can show: a mount that answers, and on which requests have
    /// been waiting all the time. Under a heavy load that is no fault, so nothing is repaired for it, unless the session
    /// knows of none.
    pub(super) fn with_memory(&self, finding: &Finding) -> Finding {
        let (Target::Mount(_), Condition::Good(_)) = (&finding.target, &finding.condition) else {
            return finding.clone();
        };
        let (record, timing) = (self.history.record(&finding.target), &self.settings.timing);
        let lasted = |since: Option<Moment>| since.map_or(Duration::ZERO, |since| self.now.since(since));
        let (lost, waited) = (lasted(record.lost_since), lasted(record.waiting_since));
        let condition = if lost >= timing.lost_patience {
            Condition::Faulty(Fault::requests_lost())
        } else if waited >= timing.waiting_patience {
            Condition::Reduced(Fault::requests_stuck(waited))
        } else {
            finding.condition.clone()
        };
        Finding { target: finding.target.clone(), condition }
    }

    pub(super) fn container(&self, name: &str) -> Option<&ContainerSettings> {
        self.settings.containers.iter().find(|container| container.name == name)
    }

    /// Rung 1. An outage or a missing bucket is nobody's on this host.
    fn store_course(&self, fault: &Fault) -> Remedy {
        if fault.trigger != Reason::StoreRefuses || !self.credentials_held() {
            return Remedy::Rest;
        }
        self.due(&Target::Credentials, Repair::Refresh, fault.trigger, Vec::new(), Cost::Interruption)
    }

    /// Rungs 2 and 3.
    fn mount_course(&self, name: &str, target: &Target, fault: &Fault) -> Remedy {
        let timing = &self.settings.timing;
        let (repair, cost) = match fault.trigger {
            Reason::NothingMounted => (Repair::Mount, Cost::Nothing),
            Reason::Covered if self.session_lives(name) => {
                return self.due(target, Repair::Uncover, fault.trigger, Vec::new(), Cost::Nothing);
            }
            Reason::LeftOver | Reason::Covered | Reason::SessionEnded | Reason::Disconnected => {
                (Repair::Remount, Cost::Nothing)
            }
            Reason::MountSilent => match self.lasting(target, timing.silence_patience) {
                true => (self.workers_or_remount(target), Cost::Interruption),
                false => return Remedy::Await(Waiting::Confirmation),
            },
            Reason::MountErrors if !self.store_answers(name) => return Remedy::Rest,
            Reason::MountErrors => match self.lasting(target, timing.errors_patience) {
                true => (self.workers_or_remount(target), Cost::Interruption),
                false => return Remedy::Await(Waiting::Confirmation),
            },
            // What was lost before may have been answered since, where it could not be looked at now.
            Reason::RequestsLost if !self.requests_are_lost(name) => {
                return Remedy::Await(Waiting::Confirmation);
            }
            Reason::RequestsLost => (self.workers_or_remount(target), Cost::Interruption),
            Reason::ForeignMount => return Remedy::Person,
            _ => return Remedy::Rest,
        };
        // A mount is proved by a request to S3, which credentials have to sign and the bucket to answer. One
        // whose session lives is given up only when S3 is known to be there for the next.
        let possible = match cost {
            Cost::Nothing => !self.store_is_bad(name),
            Cost::Interruption => self.store_answers(name),
        };
        if !self.credentials_held() || !possible {
            return Remedy::Rest;
        }
        self.due(target, repair, fault.trigger, Vec::new(), cost)
    }

    fn requests_are_lost(&self, mount: &str) -> bool {
        let requests = self.seen.mounts.get(mount).map(|seen| &seen.requests);
        matches!(requests, Some(Seen::Known(requests)) if requests.are_lost())
    }

    fn session_lives(&self, mount: &str) -> bool {
        let session = self.seen.mounts.get(mount).map(|seen| &seen.session);
        let Some(Seen::Known(Some(session))) = session else { return false };
        !matches!(session.state, SessionState::Ended(_))
    }

    pub(super) fn credentials_held(&self) -> bool {
        matches!(self.assessment.condition(&Target::Credentials), Some(Condition::Good(_)))
    }

    /// A mount without a bucket needs no answer of one.
    pub(super) fn store_answers(&self, mount: &str) -> bool {
        matches!(self.assessment.condition(&Target::Store(mount.to_owned())), Some(Condition::Good(_)) | None)
    }

    fn store_is_bad(&self, mount: &str) -> bool {
        matches!(self.assessment.condition(&Target::Store(mount.to_owned())), Some(Condition::Faulty(_)))
    }

    /// Whether `target` has stood in its present fault for `patience`, seen at more than one look.
    fn lasting(&self, target: &Target, patience: Duration) -> bool {
        let fault = self.history.record(target).fault;
        fault.is_some_and(|fault| fault.looks >= 2 && self.now.since(fault.since) >= patience)
    }

    /// Rung 2 where there is one and while it has attempts left, then rung 3.
    fn workers_or_remount(&self, target: &Target) -> Repair {
        let spent = self.history.record(target).count(Rung::Workers)
            >= self.settings.timing.budget(Rung::Workers).attempts;
        match self.settings.workers {
            Workers::Restartable if !spent => Repair::RestartWorkers,
            _ => Repair::Remount,
        }
    }

    /// Rungs 4 and 5 for a container that does not run as it should.
    fn container_course(&self, container: &ContainerSettings, target: &Target, fault: &Fault) -> Remedy {
        let record = self.history.record(target);
        let (repair, cost) = match (fault.trigger, container.owner) {
            (Reason::ForeignContainer, _) => return Remedy::Person,
            (Reason::ContainerPaused, Owner::Ecs) => (Repair::Unpause, Cost::Nothing),
            (Reason::ContainerPaused, Owner::Mapkeeper) => {
                (self.or_recreate(Repair::Unpause, &record), Cost::Nothing)
            }
            (Reason::StaleMount | Reason::MountNotVisible, owner) => {
                (self.restart(owner, &record), Cost::Interruption)
            }
            (
                Reason::ContainerAbsent
                | Reason::ContainerCreated
                | Reason::ContainerExited
                | Reason::ContainerDead,
                Owner::Ecs,
            )
            | (Reason::ContainerInTransit, _) => return self.await_replacement(&record),
            (Reason::ContainerAbsent, Owner::Mapkeeper) => (Repair::Create, Cost::Nothing),
            // What ended is started once more as it is; if that does not last, it is made anew.
            (Reason::ContainerCreated | Reason::ContainerExited, Owner::Mapkeeper) => {
                let last = record.attempts.get(&Rung::Recreate).map(|attempts| attempts.last);
                let repair = if last == Some(Repair::Start) { Repair::Recreate } else { Repair::Start };
                (repair, Cost::Nothing)
            }
            (Reason::ContainerDead, Owner::Mapkeeper) => (Repair::Recreate, Cost::Nothing),
            (Reason::SpecificationChanged, Owner::Mapkeeper) => (Repair::Recreate, self.cost_of(container)),
            _ => return Remedy::Rest,
        };
        if container.owner == Owner::Ecs && self.ecs_is_faulty() {
            return Remedy::Rest;
        }
        match self.proofs(container) {
            Some(proofs) => self.due(target, repair, fault.trigger, proofs, cost),
            None => Remedy::Rest,
        }
    }

    /// What it costs to take a container away: one that does not run serves nobody.
    fn cost_of(&self, container: &ContainerSettings) -> Cost {
        let seen = self.seen.containers.get(&container.name).map(|seen| &seen.state);
        match seen {
            Some(Seen::Known(ContainerState::Present(facts))) if facts.phase != Phase::Running => {
                Cost::Nothing
            }
            _ => Cost::Interruption,
        }
    }

    /// Rung 4 for a container that runs and whose service does not answer as it should.
    fn service_course(&self, container: &ContainerSettings, fault: &Fault) -> Remedy {
        let target = Target::Container(container.name.clone());
        if fault.trigger == Reason::ErrorFile && container.owner == Owner::Mapkeeper {
            return match self.proofs(container) {
                Some(proofs) => {
                    self.due(&target, Repair::MakeErrorLog, fault.trigger, proofs, Cost::Interruption)
                }
                None => Remedy::Rest,
            };
        }
        if !restart_may_cure(fault.trigger) {
            return Remedy::Rest;
        }
        let record = self.history.record(&target);
        let timing = &self.settings.timing;
        let Some(life) = &record.life else { return Remedy::Await(Waiting::Confirmation) };
        if let Some(waiting) = awaited(life, fault.trigger, self.now, timing) {
            return Remedy::Await(waiting);
        }
        if self.fails_for_want_of_s3(container) || (container.owner == Owner::Ecs && self.ecs_is_faulty()) {
            return Remedy::Rest;
        }
        let repair = self.restart(container.owner, &record);
        match self.proofs(container) {
            Some(proofs) => self.due(&target, repair, fault.trigger, proofs, Cost::Interruption),
            None => Remedy::Rest,
        }
    }

    /// With S3 away a service may fail for want of it: no restart brings that back.
    fn fails_for_want_of_s3(&self, container: &ContainerSettings) -> bool {
        let bound = assess::mounts_bound(container, self.seen.containers.get(&container.name));
        let from_cache = |mount: &str| self.assessment.proven.get(mount).is_none_or(|found| found.from_cache);
        bound.iter().any(|mount| from_cache(mount) || self.store_is_bad(mount))
    }

    /// Whether ECS could not replace a container now: then none of its containers is touched. The agent has to
    /// be known to have its place; a cluster that could not be asked speaks neither for nor against it.
    fn ecs_is_faulty(&self) -> bool {
        if self.settings.ecs.is_none() {
            return false;
        }
        let Some(Seen::Known(EcsSeen { agent: EcsAgent::Registered { .. }, instance, .. })) = &self.seen.ecs
        else {
            return true;
        };
        matches!(
            instance,
            Seen::Known(
                EcsInstance::Absent
                    | EcsInstance::Present { connected: false, .. }
                    | EcsInstance::Present { identity: Identity::Other(_), .. }
            )
        )
    }

    /// Rung 5 for ECS: its agent is given time to come up by itself, and is started again only on a host whose
    /// mounts are proven, because it would be held at the gate otherwise.
    fn ecs_course(&self, fault: &Fault) -> Remedy {
        let repair = match fault.trigger {
            Reason::EcsAgentDown | Reason::EcsUnregistered | Reason::EcsDisconnected => {
                Repair::RestartEcsAgent
            }
            Reason::EcsInstanceAbsent => Repair::Reregister,
            Reason::EcsWrongCluster | Reason::EcsIdentity => return Remedy::Person,
            _ => return Remedy::Rest,
        };
        if self.assessment.proven.len() < self.settings.mounts.len() {
            return Remedy::Rest;
        }
        if !self.lasting(&Target::Ecs, self.settings.timing.ecs_patience) {
            return Remedy::Await(Waiting::Start);
        }
        self.due(&Target::Ecs, repair, fault.trigger, self.all_proofs(), Cost::Interruption)
    }

    fn proofs(&self, container: &ContainerSettings) -> Option<Vec<Proof>> {
        assess::proofs(container, self.seen.containers.get(&container.name), &self.assessment.proven)
    }

    fn all_proofs(&self) -> Vec<Proof> {
        let proof =
            |(mount, found): (&String, &assess::Proven)| Proof { mount: mount.clone(), device: found.device };
        self.assessment.proven.iter().map(proof).collect()
    }

    /// The restart that suits the owner: ECS would fight one behind its back, so its containers are
    /// stopped and ECS replaces them.
    fn restart(&self, owner: Owner, record: &Record) -> Repair {
        match owner {
            Owner::Ecs => Repair::Stop,
            Owner::Mapkeeper => self.or_recreate(Repair::Restart, record),
        }
    }

    /// `repair` while its rung has attempts left, then the rung above.
    fn or_recreate(&self, repair: Repair, record: &Record) -> Repair {
        let spent = record.count(repair.rung()) >= self.settings.timing.budget(repair.rung()).attempts;
        if spent { Repair::Recreate } else { repair }
    }

    pub(super) fn due(
        &self,
        target: &Target,
        repair: Repair,
        trigger: Reason,
        rests_on: Vec<Proof>,
        cost: Cost,
    ) -> Remedy {
        let timing = &self.settings.timing;
        let record = self.history.record(target);
        let last = record.last_action;
        let paused = record.attempts.get(&repair.rung()).map(|attempts| attempts.not_before);
        let paused = match (cost, last) {
            (Cost::Nothing, Some(last)) => paused.map(|pause| pause.min(last.after(timing.idle_cap))),
            _ => paused,
        };
        let settling = last.map(|last| last.after(timing.settle));
        match paused.max(settling) {
            Some(free) if self.now < free => Remedy::Later(free),
            _ => Remedy::Act(Action { target: target.clone(), repair, trigger, rests_on }),
        }
    }

    fn await_replacement(&self, record: &Record) -> Remedy {
        let waited = record.faulty_since.map_or(Duration::ZERO, |since| self.now.since(since));
        if waited > self.settings.timing.replacement_deadline {
            return Remedy::Person;
        }
        Remedy::Await(Waiting::Replacement)
    }
}
