//! Judging: what an observation says about each link of the chain, without any memory.
//!
//! The order is the order of dependency: credentials, each bucket and its mount, Docker, the ECS agent, then
//! each container and its service. A link whose dependency is not good is [`Condition::Blocked`] and not assessed itself: a
//! container on a mount that is not proven is neither well nor ill, it waits.
//!
//! A mount is *proven* when the kernel shows our session's device at the path, the session has not
//! ended, and a child process listed the path on that same device. Anything less proves nothing.

mod chain;
mod condition;
mod container;
mod ecs;
mod mount;
mod service;

pub use chain::assess;
pub use condition::{Assessment, Condition, Fault, Finding, Proven};
pub(super) use container::{mounts_bound, proofs};
