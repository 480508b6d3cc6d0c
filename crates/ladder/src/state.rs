//! What the agent knows: plain data, no behaviour that decides or touches anything.
//!
//! An [`Observation`] is the whole host at one moment, each part either [`Seen::Known`] or
//! [`Seen::Unknown`]. "Could not look" is a value of its own and never the same as "looked, and it is
//! absent": `remedy.rs` repairs only what is known. [`History`] is what earlier rounds leave behind.
//!
//! A fault travels through these types as
//!
//! ```text
//! Observation --assess--> Finding --decide--> Decision { links, action } --apply--> History
//! ```

mod decision;
mod history;
mod reason;
mod repair;
mod seen;
mod settings;
mod stats;
mod target;
mod timing;

pub use decision::{Decision, Health, Link, LinkState};
pub use history::{Attempts, History, Life, Persistence, Record};
pub use reason::Reason;
pub use repair::{Action, Failure, Outcome, Proof, Repair, Rung};
pub use seen::{
    ContainerFacts, ContainerSeen, ContainerState, CredentialsSeen, DataSeen, Device, DockerSeen, EcsAgent,
    EcsInstance, EcsSeen, Identity, Maintenance, MountAnswer, MountEntry, MountSeen, Observation, Origin,
    Phase, Requests, Seen, ServiceSeen, Session, SessionState, Specification, StoreSeen, silence,
};
pub use settings::{ContainerSettings, EcsSettings, Escalation, Owner, Settings, Workers};
pub use stats::{BucketStats, MountStats, RepairCount, ServiceStats, Stats};
pub use target::Target;
pub use timing::{Budget, Moment, Timing};
