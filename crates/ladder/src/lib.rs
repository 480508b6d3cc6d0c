//! The only place that decides: an observation and a history in, one decision out.
//!
//! Nothing here reads a clock, a file or a random number, and nothing logs. Held by the property
//! tests and by `tests/simulation/main.rs`: at most one action a round; no action on
//! [`Seen::Unknown`](state::Seen::Unknown) or on what depends on it; no action whose precondition is
//! false; a bounded number of actions in any window of time; and a fault that can be repaired is tried within
//! bounded time.
//!
//! # The ladder
//!
//! | rung | repairs | only if |
//! | --- | --- | --- |
//! | 0 | none: say degraded | S3 cannot be asked and the mount serves what it remembers |
//! | 1 | refresh | S3 refuses the credentials |
//! | 2 | restart workers | the session lives and is silent past its patience, the bucket answers, and the workers can be replaced |
//! | 3 | mount, remount | credentials are held and the bucket is not known to be away; session dead, mount gone or left over, or rung 2 is exhausted; for requests that no process knows of, as for silence; never while something over a directory above hides it |
//! | 3 | uncover | something was mounted over a session that lives |
//! | 4 | unpause, restart, make the error log (of an ECS container: stop) | every mount that it binds is proven; its view is stale, or its service fails in a way that this can cure, of which being slow is none; an ECS container only while its agent is well |
//! | 5 | start, create, recreate | the same proofs; it ended or is gone, was made from another configuration, or rung 4 is exhausted; never for ECS |
//! | 5 | restart the ECS agent, reregister | every mount is proven, and the agent had its patience to come up by itself |
//! | 6 | mark unready, mark ready | the instance is known to be this host; the rungs above are exhausted and nobody else drains it; this host could serve again, assessed without what the drain took away |
//! | 7 | terminate | opted in, once; drained for long; the cause is local: credentials held, every bucket answers, and what is broken was well in this run |
//!
//! ```text
//!             fault              attempts left               attempts spent
//! [healthy] --------> [repairing] --------> action --> look again --> [failed: slow retries, drained]
//!     ^                    |                                              |
//!     +--------------------+------------------ well ----------------------+
//!
//! [any] -- mapkeeper pause --> [paused: assessed and told, no action] -- resume, or the time is over --> [any]
//! ```
//!
//! The first fault in order of dependency whose repair is due is acted on. A fault in its pause does
//! not hold up another chain: what depends on the fault is blocked anyway.

mod assess;
mod history;
mod link;
mod remedy;
pub mod state;

use std::time::Duration;

pub use assess::{Assessment, Condition, Fault, Finding, Proven, assess};
use remedy::{Remedy, Round};

use state::{Decision, Health, History, Maintenance, Moment, Observation, Reason, Settings};

/// The shortest wait between two looks that is ever asked for.
const SHORTEST_LOOK: Duration = Duration::from_millis(100);

/// Decides what a round comes to. `history` must already have taken note of `seen`.
pub fn plan(seen: &Observation, history: &History, now: Moment, settings: &Settings) -> Decision {
    let assessment = assess(seen, settings);
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

/// Whether a restart of the container can cure a service that fails so.
///
/// A wrong answer (a broken map, a refused pattern) proves that the process works, and so does a late one: only silence
/// and server errors are reasons for a restart.
pub fn restart_may_cure(trigger: Reason) -> bool {
    matches!(trigger, Reason::NoConnection | Reason::NoAnswer | Reason::ServerError)
}

/// Whether a service is slow beyond its timeout and not silent: that proves neither that it lives nor that it does not.
fn is_late(trigger: Reason) -> bool {
    matches!(trigger, Reason::AnswerOverdue | Reason::Overloaded)
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod properties;
