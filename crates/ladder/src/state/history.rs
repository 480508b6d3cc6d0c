//! What earlier rounds leave behind. Plain data: `history.rs` of the crate keeps it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::reason::Reason;
use super::repair::{Failure, Repair, Rung};
use super::target::Target;
use super::timing::Moment;

/// What earlier rounds leave behind, per target.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct History {
    pub targets: BTreeMap<Target, Record>,
}

/// What is remembered of one target.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    pub attempts: BTreeMap<Rung, Attempts>,
    /// Since when it has been well, without a break.
    pub well_since: Option<Moment>,
    /// Since when it has been faulty, or waiting for something that is; could-not-look changes nothing.
    pub impaired_since: Option<Moment>,
    /// Since when it has been at fault itself; could-not-look changes nothing.
    pub faulty_since: Option<Moment>,
    /// What it is at fault for, since when, and at how many looks it was seen.
    pub fault: Option<Persistence>,
    /// Since when it could not be looked at, without a break.
    pub unknown_since: Option<Moment>,
    /// Whether it was ever well in this run of the agent.
    pub ever_well: bool,
    /// End of the last action on it.
    pub last_action: Option<Moment>,
    /// The life of the container that its service is assessed in.
    pub life: Option<Life>,
    /// Since when requests have been waiting for its session at every look.
    pub waiting_since: Option<Moment>,
    /// Since when requests were waiting at every look of which its session knows nothing.
    pub lost_since: Option<Moment>,
}

/// How long one fault has stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Persistence {
    pub trigger: Reason,
    pub since: Moment,
    pub looks: u32,
}

/// Attempts on one rung since it was last forgiven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempts {
    pub count: u32,
    /// What was tried last.
    pub last: Repair,
    /// No further attempt before this.
    pub not_before: Moment,
    /// The pause that led to `not_before`; the next one grows from it.
    pub delay: Duration,
    pub failure: Option<Failure>,
}

/// One life of a container, from start to end, and how its service did in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Life {
    /// Container id and start time.
    pub name: String,
    pub first_seen: Moment,
    /// Whether the service answered well at least once.
    pub served: bool,
    /// Consecutive looks at which it failed in a way that a restart can cure.
    pub misses: u32,
    pub missing_since: Moment,
}
