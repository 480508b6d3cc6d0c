//! Preparing a stock host, at every boot: gate first, then configuration, overlay, ECS, and at last the start.
//!
//! ```text
//!   lock --> units, gate of ecs.service --> configuration --> ecs.config --> IMDS rule --> overlay --> start
//!                                                |                                           |
//!                                                +------- a step fails: marked, not started -+--> exit code, log,
//!                                                         the gate keeps ECS waiting              status
//! ```
//!
//! Then CloudFormation is told, where the configuration says whom (`signal.rs`).
//!
//! What must hold: it may run at every boot, and two may run at once: the second waits and then changes nothing;
//! no step appends twice; nothing is fetched before the gate stands, so a host whose preparation fails serves
//! nothing rather than maps from an empty directory.

mod ecs_config;
mod error;
mod file;
mod manifest;
mod outcome;
mod overlay;
mod prepare;
mod signal;
mod step;

pub use error::BootstrapError;
pub use file::Change;
pub use outcome::{Outcome, last_outcome};
pub use prepare::{bootstrap, units};
pub use step::{Done, HostRoot};
