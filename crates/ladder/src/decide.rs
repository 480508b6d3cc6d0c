//! One round: every link is judged, and one action at most is due.

use std::time::Duration;

use super::assess::assess;
use super::link;
use super::remedy::{Remedy, Round};
use crate::state::{Decision, Health, History, Maintenance, Moment, Observation, Settings};

/// The shortest wait between two looks that is ever asked for.
pub(crate) const SHORTEST_LOOK: Duration = Duration::from_millis(100);

/// Decides what a round comes to, after `history` has taken note of what was seen.
pub fn plan(seen: &Observation, history: &mut History, now: Moment, settings: &Settings) -> Decision {
    let assessment = assess(seen, settings);
    history.note(seen, &assessment, now, settings);
    let round = Round { seen, history, now, settings, assessment: &assessment };
    let mut links = Vec::with_capacity(assessment.findings.len());
    let mut action = None;
    let mut health = Health::Healthy;
    let mut next_look = settings.timing.look_every;
    for finding in &assessment.findings {
        let finding = &round.with_memory(finding);
        let remedy = round.remedy(finding);
        health = link::worse(health, round.health(finding, &remedy));
        next_look = next_look.min(round.patience(finding, &remedy));
        links.push(round.link(finding, &remedy));
        if let (None, Remedy::Act(due)) = (&action, remedy) {
            action = Some(due);
        }
    }
    let ready = round.ready();
    if action.is_none() {
        action = round.escalation();
    }
    if seen.maintenance != Maintenance::Off {
        action = None;
    }
    let reason = link::reason(&links, seen.maintenance);
    let next_look = next_look.max(SHORTEST_LOOK);
    Decision { health, links, action, reason, ready, maintenance: seen.maintenance, next_look }
}
