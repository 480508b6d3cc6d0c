//! The only place that decides: an observation and a history in, one decision out.
//!
//! Nothing here reads a clock, a file or a random number, and nothing logs. Held by the property
//! tests and by `tests/simulation.rs`: at most one action a round; no action on
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
//! | 6 | mark unready, mark ready | the instance is known to be this host; the rungs above are exhausted and nobody else drains it; this host could serve again, judged without what the drain took away |
//! | 7 | terminate | opted in, once; drained for long; the cause is local: credentials held, every bucket answers, and what is broken was well in this run |
//!
//! ```text
//!             fault              attempts left               attempts spent
//! [healthy] --------> [repairing] --------> action --> look again --> [failed: slow retries, drained]
//!     ^                    |                                              |
//!     +--------------------+------------------ well ----------------------+
//!
//! [any] -- mapkeeper pause --> [paused: judged and told, no action] -- resume, or the time is over --> [any]
//! ```
//!
//! The first fault in order of dependency whose repair is due is acted on. A fault in its pause does
//! not hold up another chain: what depends on the fault is blocked anyway.

mod course;
mod history;
mod judge;
mod link;
pub mod state;

use std::time::Duration;

use course::{Course, Round};
pub use judge::{Fault, Finding, Judgement, Proven, Verdict, judge};

use state::{Decision, Health, History, Maintenance, Moment, Observation, Settings, Trigger};

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
        let finding = &round.with_memory(finding);
        let course = round.course(finding);
        health = link::worse(health, round.health(finding, &course));
        next_look = next_look.min(round.patience(finding, &course));
        links.push(round.link(finding, &course));
        if let (None, Course::Act(due)) = (&action, course) {
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
pub fn restart_may_cure(trigger: Trigger) -> bool {
    matches!(trigger, Trigger::NoConnection | Trigger::NoAnswer | Trigger::ServerError)
}

/// Whether a service is slow beyond its timeout and not silent: that proves neither that it lives nor that it does not.
fn is_late(trigger: Trigger) -> bool {
    matches!(trigger, Trigger::AnswerOverdue | Trigger::Overloaded)
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod properties;
