//! What a round comes to: the condition on each link, the health of the whole, and at most one action.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::reason::Reason;
use super::repair::Action;
use super::seen::Maintenance;
use super::target::Target;

/// How the host does as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// Every link is good.
    Healthy,
    /// Something is faulty that no repair is meant for, or could not be looked at.
    Degraded,
    /// Something is faulty, and a repair or a replacement is under way.
    Repairing,
    /// Something is faulty that needs a person: the repairs did not help or are not ours to make.
    Failed,
}

/// How one link of the chain does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkState {
    Ok,
    /// It serves, with something to say.
    Degraded,
    Broken,
    /// It could not be looked at.
    Unknown,
    /// It waits for an earlier link, or to come up.
    Waiting,
}

impl LinkState {
    /// The word that a person reads.
    pub fn word(self) -> &'static str {
        match self {
            LinkState::Ok => "ok",
            LinkState::Degraded => "degraded",
            LinkState::Broken => "broken",
            LinkState::Unknown => "unknown",
            LinkState::Waiting => "waiting",
        }
    }
}

/// The condition on one link of the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub target: Target,
    pub state: LinkState,
    pub trigger: Option<Reason>,
    pub detail: String,
    pub hint: Option<String>,
}

/// What a round comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    pub health: Health,
    /// One per link of the chain, in order of dependency.
    pub links: Vec<Link>,
    pub action: Option<Action>,
    /// Why `health` is what it is, one sentence.
    pub reason: String,
    /// Whether this host serves: what load balancers and the cluster are told.
    pub ready: bool,
    pub maintenance: Maintenance,
    /// The next look is due after this long.
    pub next_look: Duration,
}
