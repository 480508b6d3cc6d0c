//! How a finding and its remedy look from outside: link, health, and when to look again.

use std::time::Duration;

use super::assess::{Condition, Fault, Finding};
use super::history::spent;
use super::patience::Waiting;
use super::remedy::{Remedy, Round};
use crate::state::{Health, Link, LinkState, Maintenance, Reason, Target, Timing};

impl Round<'_> {
    /// What a finding does to the health of the whole.
    pub(super) fn health(&self, finding: &Finding, remedy: &Remedy) -> Health {
        match (&finding.condition, remedy) {
            (Condition::Good(_), _) => Health::Healthy,
            (Condition::Reduced(_), _) => Health::Degraded,
            (Condition::Unknown(_), _) => {
                let record = self.history.record(&finding.target);
                let unseen = record.unknown_since.map_or(Duration::ZERO, |since| self.now.since(since));
                // What was faulty when it was last seen is not taken for well because it cannot be seen now.
                let well = record.ever_well && record.impaired_since.is_none();
                let patient = well && unseen < self.settings.timing.unknown_patience;
                if patient { Health::Healthy } else { Health::Degraded }
            }
            // The link that it waits for speaks for it.
            (Condition::Blocked(_), _) => Health::Healthy,
            (Condition::Faulty(_), Remedy::Rest) => Health::Degraded,
            (Condition::Faulty(_), Remedy::Person) => Health::Failed,
            (Condition::Faulty(_), Remedy::Await(_)) => Health::Repairing,
            (Condition::Faulty(_), Remedy::Act(_) | Remedy::Later(_)) => {
                if spent(&finding.target, self.history, self.settings) {
                    Health::Failed
                } else {
                    Health::Repairing
                }
            }
        }
    }

    /// How long the next look may wait, as far as this finding goes.
    pub(super) fn patience(&self, finding: &Finding, remedy: &Remedy) -> Duration {
        let timing: &Timing = &self.settings.timing;
        match (&finding.condition, remedy) {
            (_, Remedy::Later(moment)) => moment.since(self.now).min(timing.look_every),
            (_, Remedy::Act(_) | Remedy::Await(_)) => timing.look_again,
            (Condition::Unknown(_), _) => timing.look_again,
            _ => timing.look_every,
        }
    }

    pub(super) fn link(&self, finding: &Finding, remedy: &Remedy) -> Link {
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
        match &finding.condition {
            Condition::Good(detail) => plain(LinkState::Ok, detail),
            Condition::Unknown(reason) => plain(LinkState::Unknown, &format!("could not look: {reason}")),
            Condition::Blocked(on) => plain(LinkState::Waiting, &format!("waits for {on}")),
            Condition::Reduced(fault) => {
                of(LinkState::Degraded, fault, fault.detail.clone(), fault.hint.clone())
            }
            Condition::Faulty(fault) if *remedy == Remedy::Await(Waiting::Start) => {
                of(LinkState::Waiting, fault, format!("is starting: {}", fault.detail), None)
            }
            Condition::Faulty(fault) if fault.trigger == Reason::AnswerOverdue => {
                of(LinkState::Degraded, fault, fault.detail.clone(), fault.hint.clone())
            }
            Condition::Faulty(fault) => {
                let failure = self.last_failure(&finding.target, remedy);
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
    fn last_failure(&self, target: &Target, remedy: &Remedy) -> Option<(String, Option<String>)> {
        if !matches!(remedy, Remedy::Act(_) | Remedy::Later(_)) {
            return None;
        }
        let repaired = match target {
            Target::Service(name) => Target::Container(name.clone()),
            Target::Store(_) => Target::Credentials,
            other => other.clone(),
        };
        let record = self.history.record(&repaired);
        let last = record.attempts.values().max_by_key(|attempts| attempts.not_before)?;
        let failure = last.failure.as_ref()?;
        Some((failure.error.clone(), failure.hint.clone()))
    }
}

pub(super) fn worse(one: Health, other: Health) -> Health {
    let weight = |health| match health {
        Health::Healthy => 0,
        Health::Degraded => 1,
        Health::Repairing => 2,
        Health::Failed => 3,
    };
    if weight(other) > weight(one) { other } else { one }
}

/// The first link that is not good, in one sentence; before it, that nothing is done about it.
pub(super) fn reason(links: &[Link], maintenance: Maintenance) -> String {
    let what = match links.iter().find(|link| link.state != LinkState::Ok) {
        None => "every link is good".to_owned(),
        Some(link) => format!("{}: {}", link.target, link.detail),
    };
    match maintenance {
        Maintenance::Off => what,
        Maintenance::On { left: None } => format!("paused until mapkeeper resume; {what}"),
        Maintenance::On { left: Some(left) } => format!("paused for {} s more; {what}", left.as_secs()),
    }
}
