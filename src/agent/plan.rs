//! The only place that decides: an observation and a history in, one decision out.
//!
//! Nothing here reads a clock, a file or a random number, and nothing logs. Held by the property
//! tests: at most one action a round; no action on [`Seen::Unknown`](super::state::Seen::Unknown) or
//! on what depends on it; no action whose precondition is false; a bounded number of actions in any
//! window of time; and a fault that can be repaired is tried within bounded time.
//!
//! # The ladder
//!
//! | rung | repairs | only if |
//! | --- | --- | --- |
//! | 0 | none: say degraded | S3 cannot be asked and the mount serves what it remembers |
//! | 3 | mount, remount | credentials are held; session dead, mount gone, covered or left over |
//! | 4 | unpause, restart (of an ECS container: stop) | every mount that it binds is proven; its view is stale, or its service fails in a way that a restart can cure |
//! | 5 | start, create, recreate | the same proofs; it ended or is gone, was made from another configuration, or rung 4 is exhausted; never for ECS |
//!
//! ```text
//!             fault              attempts left               attempts spent
//! [healthy] --------> [repairing] --------> action --> look again --> [failed: slow retries]
//!     ^                    |                                              |
//!     +--------------------+------------------ well ----------------------+
//! ```
//!
//! The first fault in order of dependency whose repair is due is acted on. A fault in its pause does
//! not hold up another chain: what depends on the fault is blocked anyway.

mod history;
mod judge;

use std::time::Duration;

pub use judge::{Fault, Finding, Judgement, Proven, Verdict, judge};

use super::state::{
    Action, ContainerSettings, Decision, Health, History, Link, LinkState, Moment, Observation, Owner, Proof,
    Record, Repair, Rung, Settings, Target, Timing, Trigger,
};

/// The shortest wait between two looks that is ever asked for.
const SHORTEST_LOOK: Duration = Duration::from_millis(100);

/// Decides what a round comes to. `history` must already have taken note of `seen`.
pub fn plan(seen: &Observation, history: &History, now: Moment, settings: &Settings) -> Decision {
    let judgement = judge(seen, settings);
    let round = Round { seen, history, now, settings, judgement: &judgement };
    let mut links = Vec::with_capacity(judgement.findings.len());
    let mut action = None;
    let mut health = Health::Healthy;
    let mut next_look = settings.timing.look_every;
    for finding in &judgement.findings {
        let course = round.course(finding);
        health = worse(health, round.health(finding, &course));
        next_look = next_look.min(round.patience(finding, &course));
        links.push(round.link(finding, &course));
        if let (None, Course::Act(due)) = (&action, course) {
            action = Some(due);
        }
    }
    let reason = reason(&links);
    Decision { health, links, action, reason, next_look: next_look.max(SHORTEST_LOOK) }
}

/// Whether a restart of the container can cure a service that fails so.
///
/// A wrong answer (a broken map, a refused pattern) proves that the process works: only silence and
/// server errors are reasons for a restart.
pub fn restart_may_cure(trigger: Trigger) -> bool {
    matches!(trigger, Trigger::NoConnection | Trigger::NoAnswer | Trigger::ServerError)
}

/// What is to be done about one finding.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Course {
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

/// Why nothing is done yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waiting {
    /// A service that has not answered yet in this life of its container.
    Start,
    /// A fault that must be seen more often before it counts.
    Confirmation,
    /// ECS has to act.
    Replacement,
}

/// The arguments of one round, together.
struct Round<'a> {
    seen: &'a Observation,
    history: &'a History,
    now: Moment,
    settings: &'a Settings,
    judgement: &'a Judgement,
}

impl Round<'_> {
    fn course(&self, finding: &Finding) -> Course {
        let Verdict::Faulty(fault) = &finding.verdict else { return Course::Rest };
        match &finding.target {
            Target::Credentials | Target::Docker => Course::Rest,
            Target::Mount(_) => self.mount_course(&finding.target, fault),
            Target::Container(name) => match self.container(name) {
                Some(container) => self.container_course(container, &finding.target, fault),
                None => Course::Rest,
            },
            Target::Service(name) => match self.container(name) {
                Some(container) => self.service_course(container, fault),
                None => Course::Rest,
            },
        }
    }

    fn container(&self, name: &str) -> Option<&ContainerSettings> {
        self.settings.containers.iter().find(|container| container.name == name)
    }

    fn mount_course(&self, target: &Target, fault: &Fault) -> Course {
        let repair = match fault.trigger {
            Trigger::NothingMounted => Repair::Mount,
            Trigger::LeftOver | Trigger::Covered | Trigger::SessionEnded | Trigger::Disconnected => {
                Repair::Remount
            }
            Trigger::ForeignMount => return Course::Person,
            _ => return Course::Rest,
        };
        // A mount is proved by a request to S3, which credentials have to sign.
        let signed = matches!(self.judgement.verdict(&Target::Credentials), Some(Verdict::Good(_)));
        if !signed {
            return Course::Rest;
        }
        self.due(target, repair, fault.trigger, Vec::new())
    }

    fn container_course(&self, container: &ContainerSettings, target: &Target, fault: &Fault) -> Course {
        let record = self.history.record(target);
        let repair = match (fault.trigger, container.owner) {
            (Trigger::ForeignContainer, _) => return Course::Person,
            (Trigger::ContainerPaused, Owner::Ecs) => Repair::Unpause,
            (Trigger::ContainerPaused, Owner::Mapkeeper) => self.or_recreate(Repair::Unpause, &record),
            (Trigger::StaleMount | Trigger::MountNotVisible, owner) => self.restart(owner, &record),
            (
                Trigger::ContainerAbsent
                | Trigger::ContainerCreated
                | Trigger::ContainerExited
                | Trigger::ContainerDead,
                Owner::Ecs,
            )
            | (Trigger::ContainerInTransit, _) => return self.await_replacement(&record),
            (Trigger::ContainerAbsent, Owner::Mapkeeper) => Repair::Create,
            // What ended is started once more as it is; if that does not last, it is made anew.
            (Trigger::ContainerCreated | Trigger::ContainerExited, Owner::Mapkeeper) => {
                let last = record.attempts.get(&Rung::Recreate).map(|attempts| attempts.last);
                if last == Some(Repair::Start) { Repair::Recreate } else { Repair::Start }
            }
            (Trigger::ContainerDead | Trigger::SpecificationChanged, Owner::Mapkeeper) => Repair::Recreate,
            _ => return Course::Rest,
        };
        match self.proofs(container) {
            Some(proofs) => self.due(target, repair, fault.trigger, proofs),
            None => Course::Rest,
        }
    }

    fn service_course(&self, container: &ContainerSettings, fault: &Fault) -> Course {
        if !restart_may_cure(fault.trigger) {
            return Course::Rest;
        }
        let target = Target::Container(container.name.clone());
        let record = self.history.record(&target);
        let timing = &self.settings.timing;
        let Some(life) = &record.life else { return Course::Await(Waiting::Confirmation) };
        if !life.served && self.now.since(life.first_seen) < timing.start_grace {
            return Course::Await(Waiting::Start);
        }
        if life.misses < timing.confirm_looks || self.now.since(life.missing_since) < timing.confirm_for {
            return Course::Await(Waiting::Confirmation);
        }
        // With S3 away the service may fail for want of it: no restart brings that back.
        let bound = judge::mounts_bound(container, self.seen.containers.get(&container.name));
        let from_cache =
            |mount: &&str| self.judgement.proven.get(*mount).is_none_or(|found| found.from_cache);
        if bound.iter().any(from_cache) {
            return Course::Rest;
        }
        let repair = self.restart(container.owner, &record);
        match self.proofs(container) {
            Some(proofs) => self.due(&target, repair, fault.trigger, proofs),
            None => Course::Rest,
        }
    }

    fn proofs(&self, container: &ContainerSettings) -> Option<Vec<Proof>> {
        judge::proofs(container, self.seen.containers.get(&container.name), &self.judgement.proven)
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

    fn due(&self, target: &Target, repair: Repair, trigger: Trigger, rests_on: Vec<Proof>) -> Course {
        let record = self.history.record(target);
        let paused = record.attempts.get(&repair.rung()).map(|attempts| attempts.not_before);
        let settling = record.last_action.map(|last| last.after(self.settings.timing.settle));
        match paused.max(settling) {
            Some(free) if self.now < free => Course::Later(free),
            _ => Course::Act(Action { target: target.clone(), repair, trigger, rests_on }),
        }
    }

    fn await_replacement(&self, record: &Record) -> Course {
        let waited = record.faulty_since.map_or(Duration::ZERO, |since| self.now.since(since));
        if waited > self.settings.timing.replacement_deadline {
            return Course::Person;
        }
        Course::Await(Waiting::Replacement)
    }

    /// What a finding does to the health of the whole.
    fn health(&self, finding: &Finding, course: &Course) -> Health {
        match (&finding.verdict, course) {
            (Verdict::Good(_), _) => Health::Healthy,
            (Verdict::Reduced(_), _) => Health::Degraded,
            (Verdict::Unknown(_), _) => {
                let record = self.history.record(&finding.target);
                let unseen = record.unknown_since.map_or(Duration::ZERO, |since| self.now.since(since));
                let patient = record.ever_well && unseen < self.settings.timing.unknown_patience;
                if patient { Health::Healthy } else { Health::Degraded }
            }
            // The link that it waits for speaks for it.
            (Verdict::Blocked(_), _) => Health::Healthy,
            (Verdict::Faulty(_), Course::Rest) => Health::Degraded,
            (Verdict::Faulty(_), Course::Person) => Health::Failed,
            (Verdict::Faulty(_), Course::Await(_)) => Health::Repairing,
            (Verdict::Faulty(_), Course::Act(_) | Course::Later(_)) => {
                if self.spent(&finding.target) {
                    Health::Failed
                } else {
                    Health::Repairing
                }
            }
        }
    }

    /// Whether every rung that could repair `target` has used up its attempts.
    fn spent(&self, target: &Target) -> bool {
        let (repaired, top) = match target {
            Target::Mount(_) => (target.clone(), Rung::Remount),
            Target::Container(name) | Target::Service(name) => {
                let owner = self.container(name).map(|container| container.owner);
                let top = if owner == Some(Owner::Ecs) { Rung::Restart } else { Rung::Recreate };
                (Target::Container(name.clone()), top)
            }
            Target::Credentials | Target::Docker => return false,
        };
        self.history.record(&repaired).count(top) >= self.settings.timing.budget(top).attempts
    }

    /// How long the next look may wait, as far as this finding goes.
    fn patience(&self, finding: &Finding, course: &Course) -> Duration {
        let timing: &Timing = &self.settings.timing;
        match (&finding.verdict, course) {
            (_, Course::Later(moment)) => moment.since(self.now).min(timing.look_every),
            (_, Course::Act(_) | Course::Await(_)) => timing.look_again,
            (Verdict::Unknown(_), _) => timing.look_again,
            _ => timing.look_every,
        }
    }

    fn link(&self, finding: &Finding, course: &Course) -> Link {
        let target = finding.target.clone();
        let plain = |state, detail: &str| Link {
            target: target.clone(),
            state,
            trigger: None,
            detail: detail.to_owned(),
            hint: None,
        };
        let of = |state, fault: &Fault, detail: String, hint: Option<String>| Link {
            target: target.clone(),
            state,
            trigger: Some(fault.trigger),
            detail,
            hint,
        };
        match &finding.verdict {
            Verdict::Good(detail) => plain(LinkState::Ok, detail),
            Verdict::Unknown(reason) => plain(LinkState::Unknown, &format!("could not look: {reason}")),
            Verdict::Blocked(on) => plain(LinkState::Waiting, &format!("waits for {on}")),
            Verdict::Reduced(fault) => {
                of(LinkState::Degraded, fault, fault.detail.clone(), fault.hint.clone())
            }
            Verdict::Faulty(fault) if *course == Course::Await(Waiting::Start) => {
                of(LinkState::Waiting, fault, format!("is starting: {}", fault.detail), None)
            }
            Verdict::Faulty(fault) => {
                let failure = self.last_failure(&finding.target, course);
                let (error, cure) = failure.map_or((None, None), |(error, hint)| (Some(error), hint));
                let detail = match error {
                    Some(error) => format!("{}; last repair: {error}", fault.detail),
                    None => fault.detail.clone(),
                };
                of(LinkState::Broken, fault, detail, cure.or_else(|| fault.hint.clone()))
            }
        }
    }

    /// Error and hint of the last attempt at repairing `target`, while repairs go on.
    fn last_failure(&self, target: &Target, course: &Course) -> Option<(String, Option<String>)> {
        if !matches!(course, Course::Act(_) | Course::Later(_)) {
            return None;
        }
        let repaired = match target {
            Target::Service(name) => Target::Container(name.clone()),
            other => other.clone(),
        };
        let record = self.history.record(&repaired);
        let last = record.attempts.values().max_by_key(|attempts| attempts.not_before)?;
        let failure = last.failure.as_ref()?;
        Some((failure.error.clone(), failure.hint.clone()))
    }
}

fn worse(one: Health, other: Health) -> Health {
    let weight = |health| match health {
        Health::Healthy => 0,
        Health::Degraded => 1,
        Health::Repairing => 2,
        Health::Failed => 3,
    };
    if weight(other) > weight(one) { other } else { one }
}

/// The first link that is not good, in one sentence.
fn reason(links: &[Link]) -> String {
    match links.iter().find(|link| link.state != LinkState::Ok) {
        None => "every link is good".to_owned(),
        Some(link) => format!("{}: {}", link.target, link.detail),
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod properties;
