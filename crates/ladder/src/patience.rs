//! What is waited for before a fault counts.

use crate::state::{Life, Moment, Reason, Timing};

/// Why nothing is done yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waiting {
    /// A service that has not answered yet in this life of its container, or an ECS agent that comes up.
    Start,
    /// A fault that must be seen more often before it counts.
    Confirmation,
    /// ECS has to act.
    Replacement,
}

/// What has to be waited for before a service that fails so counts as broken in this life of its container.
pub(super) fn awaited(life: &Life, trigger: Reason, now: Moment, timing: &Timing) -> Option<Waiting> {
    if !life.served && now.since(life.first_seen) < timing.start_grace {
        return Some(Waiting::Start);
    }
    // Silence has been waited for already.
    let looks = timing.confirm_looks - u32::from(trigger == Reason::NoAnswer);
    if life.misses < looks || now.since(life.missing_since) < timing.confirm_for {
        return Some(Waiting::Confirmation);
    }
    None
}
