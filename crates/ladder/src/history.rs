//! Memory between rounds: what a look and an attempt leave in [`History`].
//!
//! ```text
//! attempt --> count + 1, pause = decorrelated(last pause)      within the budget
//!         --> count + 1, pause = slow                          once it is spent
//! well for `steady_after` without a break  --> pause = base, within the budget
//! well for `forgive_after` without a break --> attempts forgotten
//! ```
//!
//! A container is forgiven only while its service gives no reason for a restart either: repairs made
//! for the service are counted on the container.

use std::time::Duration;

use super::assess::{Assessment, Condition, Fault, Finding};
use super::cure::{is_gone, is_late, restart_may_cure};
use super::patience::awaited;
use crate::state::{
    Action, Attempts, Budget, ContainerState, Failure, History, Life, Moment, Observation, Outcome, Owner,
    Persistence, Phase, Reason, Record, Rung, Seen, Settings, Target, Timing,
};

impl History {
    /// Takes note of a look at the host.
    pub fn note(&mut self, seen: &Observation, assessment: &Assessment, now: Moment, settings: &Settings) {
        for finding in &assessment.findings {
            let record = self.targets.entry(finding.target.clone()).or_default();
            record.note(&finding.condition, now);
        }
        for container in &settings.containers {
            let service = assessment.condition(&Target::Service(container.name.clone()));
            let record = self.targets.entry(Target::Container(container.name.clone())).or_default();
            if service.is_some_and(|condition| !forgivable(condition)) {
                record.well_since = None;
            }
            if let Some(life) = life(seen, &container.name) {
                record.note_life(life, service, now);
            }
        }
        for (name, mount) in &seen.mounts {
            let record = self.targets.entry(Target::Mount(name.clone())).or_default();
            if let Seen::Known(requests) = &mount.requests {
                let since = |held: bool, before: Option<Moment>| held.then(|| before.unwrap_or(now));
                record.waiting_since = since(requests.waiting > 0, record.waiting_since);
                record.lost_since = since(requests.are_lost(), record.lost_since);
                // It answers, and is not forgiven what was tried for those that wait.
                if requests.are_lost() {
                    record.well_since = None;
                }
            }
        }
        self.note_credentials(assessment, now);
        self.note_instance(assessment, now, settings);
        for record in self.targets.values_mut() {
            record.forgive(now, &settings.timing);
        }
    }

    /// Credentials that a bucket refuses are not well, however surely they are held.
    fn note_credentials(&mut self, assessment: &Assessment, now: Moment) {
        let refused = assessment.findings.iter().any(|finding| {
            matches!(&finding.condition, Condition::Faulty(fault) if fault.trigger == Reason::StoreRefuses)
        });
        if refused {
            let record = self.targets.entry(Target::Credentials).or_default();
            record.well_since = None;
            record.impaired_since.get_or_insert(now);
        }
    }

    /// The instance as a whole is at fault while anything on it is exhausted. A cause that others share stops that
    /// clock: what is repaired then is nobody's own.
    fn note_instance(&mut self, assessment: &Assessment, now: Moment, settings: &Settings) {
        let exhausted = assessment.exhausted(self, now, settings);
        let unknown =
            assessment.findings.iter().any(|finding| matches!(finding.condition, Condition::Unknown(_)));
        let shared = assessment.findings.iter().find(|finding| {
            matches!(finding.target, Target::Credentials | Target::Store(_))
                && matches!(finding.condition, Condition::Faulty(_))
        });
        let record = self.targets.entry(Target::Instance).or_default();
        let condition = match (exhausted, shared) {
            (true, Some(shared)) => Condition::Blocked(shared.target.clone()),
            (true, None) => Condition::Faulty(Fault::exhausted()),
            (false, _) if unknown => Condition::Unknown("something could not be looked at".to_owned()),
            // What the drain took away is not well for being away, and what is tried anew not before it serves.
            (false, _) if record.faulty_since.is_some() && !assessment.all_serve(settings) => {
                Condition::Unknown("it does not serve yet".to_owned())
            }
            (false, _) => Condition::Good("it can be repaired".to_owned()),
        };
        record.note(&condition, now);
    }

    /// Takes note of an action that ended at `now`. `seed` is a random number that spreads the pause.
    pub fn tried(&mut self, action: &Action, outcome: &Outcome, now: Moment, seed: u64, timing: &Timing) {
        let rung = action.repair.rung();
        let budget = timing.budget(rung);
        let record = self.targets.entry(action.target.clone()).or_default();
        let before = record.attempts.get(&rung);
        let count = before.map_or(0, |attempts| attempts.count).saturating_add(1);
        let delay = if count >= budget.attempts {
            budget.slow
        } else {
            decorrelated(budget, before.map(|attempts| attempts.delay), seed)
        };
        let failure: Option<Failure> = match outcome {
            Outcome::Done => None,
            Outcome::Failed(failure) => Some(failure.clone()),
        };
        record.last_action = Some(now);
        // What is seen from now on is seen of a new session.
        if failure.is_none() && matches!(action.target, Target::Mount(_)) {
            (record.fault, record.waiting_since, record.lost_since) = (None, None, None);
        }
        record.attempts.insert(
            rung,
            Attempts { count, last: action.repair, not_before: now.after(delay), delay, failure },
        );
    }

    /// What is remembered of `target`; nothing yet is an empty record.
    pub fn record(&self, target: &Target) -> Record {
        self.targets.get(target).cloned().unwrap_or_default()
    }
}

impl Record {
    fn note(&mut self, condition: &Condition, now: Moment) {
        match condition {
            Condition::Good(_) => {
                self.well_since.get_or_insert(now);
                self.impaired_since = None;
                self.faulty_since = None;
                self.unknown_since = None;
                self.fault = None;
                self.ever_well = true;
            }
            Condition::Reduced(_) => {
                self.well_since.get_or_insert(now);
                self.impaired_since.get_or_insert(now);
                self.faulty_since = None;
                self.unknown_since = None;
                self.fault = None;
                self.ever_well = true;
            }
            Condition::Faulty(fault) => {
                self.stand(fault.trigger, now);
                self.well_since = None;
                self.impaired_since.get_or_insert(now);
                self.faulty_since.get_or_insert(now);
                self.unknown_since = None;
            }
            Condition::Blocked(_) => {
                self.well_since = None;
                self.impaired_since.get_or_insert(now);
                self.faulty_since = None;
                self.fault = None;
                self.unknown_since = None;
            }
            Condition::Unknown(_) => {
                self.well_since = None;
                self.unknown_since.get_or_insert(now);
            }
        }
    }

    /// Counts looks at one and the same fault.
    fn stand(&mut self, trigger: Reason, now: Moment) {
        match &mut self.fault {
            Some(fault) if fault.trigger == trigger => fault.looks = fault.looks.saturating_add(1),
            fault => *fault = Some(Persistence { trigger, since: now, looks: 1 }),
        }
    }

    /// Counts the failed looks at a service within one life of its container.
    fn note_life(&mut self, name: String, service: Option<&Condition>, now: Moment) {
        let fresh = self.life.as_ref().is_none_or(|life| life.name != name);
        if fresh {
            self.life = Some(Life { name, first_seen: now, served: false, misses: 0, missing_since: now });
        }
        let Some(life) = self.life.as_mut() else { return };
        match service {
            Some(Condition::Faulty(fault)) if restart_may_cure(fault.trigger) => {
                if life.misses == 0 {
                    life.missing_since = now;
                }
                life.misses = life.misses.saturating_add(1);
            }
            Some(Condition::Faulty(fault)) if is_late(fault.trigger) => {}
            // A wrong answer is an answer: the process in the container works.
            Some(Condition::Good(_) | Condition::Reduced(_) | Condition::Faulty(_)) => {
                life.served = true;
                life.misses = 0;
            }
            Some(Condition::Unknown(_) | Condition::Blocked(_)) | None => {}
        }
    }

    /// Lets go of pauses, and later of attempts, after lasting health. The slow pause of a spent budget
    /// stays until the attempts are forgotten.
    fn forgive(&mut self, now: Moment, timing: &Timing) {
        let Some(well) = self.well_since.map(|since| now.since(since)) else { return };
        if well >= timing.forgive_after {
            // An instance is given back once in its life.
            self.attempts.retain(|rung, _| *rung == Rung::Terminate);
        } else if well >= timing.steady_after {
            for (rung, attempts) in &mut self.attempts {
                let budget = timing.budget(*rung);
                if attempts.count < budget.attempts {
                    attempts.not_before = attempts.not_before.min(now);
                    attempts.delay = budget.base;
                }
            }
        }
    }

    /// Attempts on `rung` that have not been forgiven.
    pub fn count(&self, rung: Rung) -> u32 {
        self.attempts.get(&rung).map_or(0, |attempts| attempts.count)
    }
}

impl Assessment {
    /// Whether all that is configured serves.
    fn all_serve(&self, settings: &Settings) -> bool {
        let good = |condition: &Condition| matches!(condition, Condition::Good(_) | Condition::Reduced(_));
        let serves = |finding: &Finding| match &finding.target {
            Target::Container(_) | Target::Service(_) => good(&finding.condition),
            _ => true,
        };
        self.proven.len() == settings.mounts.len() && self.findings.iter().all(serves)
    }

    /// Whether anything is broken whose repairs are spent.
    pub(super) fn exhausted(&self, history: &History, now: Moment, settings: &Settings) -> bool {
        !self.all_exhausted(history, now, settings).is_empty()
    }

    /// Mounts and containers that are broken and whose repairs are spent. A container that ECS has placed anew has its
    /// time, whatever became of the one before.
    pub(super) fn all_exhausted(&self, history: &History, now: Moment, settings: &Settings) -> Vec<Target> {
        let timing = &settings.timing;
        let stuck = |target: &Target, condition: &Condition| match (target, condition) {
            (Target::Container(name), Condition::Faulty(fault))
                if is_gone(fault.trigger) && is_of_ecs(name, settings) =>
            {
                let since = history.record(target).faulty_since;
                since.is_some_and(|since| now.since(since) > timing.replacement_deadline)
                    && spent(target, history, settings)
            }
            (Target::Mount(_) | Target::Container(_), Condition::Faulty(_)) => {
                spent(target, history, settings)
            }
            (Target::Service(name), Condition::Faulty(fault)) => {
                let life = history.record(&Target::Container(name.clone())).life;
                let confirmed = life.is_some_and(|life| awaited(&life, fault.trigger, now, timing).is_none());
                restart_may_cure(fault.trigger) && confirmed && spent(target, history, settings)
            }
            _ => false,
        };
        let found = self.findings.iter().filter(|finding| stuck(&finding.target, &finding.condition));
        found.map(|finding| finding.target.clone()).collect()
    }
}

/// Whether every rung that could repair `target` has used up its attempts.
pub(super) fn spent(target: &Target, history: &History, settings: &Settings) -> bool {
    let (repaired, top) = match target {
        Target::Mount(_) => (target.clone(), Rung::Remount),
        Target::Container(name) | Target::Service(name) => {
            let top = if is_of_ecs(name, settings) { Rung::Restart } else { Rung::Recreate };
            (Target::Container(name.clone()), top)
        }
        Target::Ecs => (Target::Ecs, Rung::Ecs),
        Target::Credentials | Target::Store(_) | Target::Docker | Target::Instance => return false,
    };
    history.record(&repaired).count(top) >= settings.timing.budget(top).attempts
}

fn is_of_ecs(container: &str, settings: &Settings) -> bool {
    let named = settings.containers.iter().find(|one| one.name == container);
    named.is_some_and(|one| one.owner == Owner::Ecs)
}

/// Whether a container whose service is assessed so may have its attempts forgiven.
fn forgivable(service: &Condition) -> bool {
    match service {
        Condition::Good(_) | Condition::Reduced(_) => true,
        Condition::Faulty(fault) => !restart_may_cure(fault.trigger) && !is_late(fault.trigger),
        Condition::Unknown(_) | Condition::Blocked(_) => false,
    }
}

/// The name of the life that a container is in: its id and start time, while it runs.
fn life(seen: &Observation, container: &str) -> Option<String> {
    match &seen.containers.get(container)?.state {
        Seen::Known(ContainerState::Present(facts)) if facts.phase == Phase::Running => {
            Some(format!("{} {}", facts.id, facts.started))
        }
        _ => None,
    }
}

/// A pause between the last one and three times that, at most `cap`; `seed` chooses within. What did not help is never
/// repeated sooner than before.
fn decorrelated(budget: &Budget, last: Option<Duration>, seed: u64) -> Duration {
    let least = last.unwrap_or(budget.base).min(budget.cap);
    let top = least.saturating_mul(3).min(budget.cap);
    let span_ms = u64::try_from(top.saturating_sub(least).as_millis()).unwrap_or(u64::MAX);
    least + Duration::from_millis(seed % span_ms.saturating_add(1))
}
