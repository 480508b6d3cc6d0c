//! What is found on a link: that it is well, or what is faulty, or why that cannot be told.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::state::{Device, Reason, Target};

/// Everything that one observation says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assessment {
    /// In order of dependency.
    pub findings: Vec<Finding>,
    /// The mounts that are proven, by name.
    pub proven: BTreeMap<String, Proven>,
}

/// What a mount was proven to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proven {
    pub device: Device,
    /// It serves what it remembers, because S3 cannot be asked.
    pub from_cache: bool,
}

/// The condition on one link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub target: Target,
    pub condition: Condition,
}

/// How one link is, going by this observation alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// It does its work; the text says how.
    Good(String),
    /// It does its work, but something is faulty.
    Reduced(Fault),
    Faulty(Fault),
    /// It could not be looked at.
    Unknown(String),
    /// It waits for that link.
    Blocked(Target),
}

/// A fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub trigger: Reason,
    pub detail: String,
    pub hint: Option<String>,
}

impl Fault {
    pub(super) fn new(trigger: Reason, detail: impl Into<String>) -> Fault {
        Fault { trigger, detail: detail.into(), hint: None }
    }

    /// What the instance as a whole is at fault for.
    pub(crate) fn exhausted() -> Fault {
        Fault::new(Reason::Exhausted, "its repairs did not help")
    }

    pub(crate) fn requests_stuck(waited: Duration) -> Fault {
        let detail = format!("at each look of the last {} s some request was waiting", waited.as_secs());
        let hint = "if nobody reads that much, find who waits: ps axo pid,stat,wchan:20,comm | grep ' D'";
        Fault::new(Reason::RequestsStuck, detail).hint(hint)
    }

    pub(crate) fn requests_lost() -> Fault {
        Fault::new(Reason::RequestsLost, "somebody waits for an answer that nobody will give")
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Fault {
        self.hint = Some(hint.into());
        self
    }
}

impl Assessment {
    /// The condition on `target`; `None` for a link that the chain does not have.
    pub fn condition(&self, target: &Target) -> Option<&Condition> {
        self.findings.iter().find(|finding| finding.target == *target).map(|finding| &finding.condition)
    }
}
