//! mapkeeper: the one agent that a stock ECS host needs to serve maps out of an S3 bucket.
//!
//! It mounts the bucket with a FUSE session in its own process, proves that the mount serves, lets
//! MapServer start on it, and from then on watches bucket -> mount -> container -> WMS answer and
//! repairs the first broken link. The binary is a thin face over this library; `tests/it/layering.rs`
//! holds the direction in which its modules may depend on each other.

pub mod agent;
pub mod aws;
pub mod bootstrap;
pub mod cli;
pub mod config;
#[cfg(feature = "demo")]
pub mod demo;
pub mod diagnose;
pub mod error;
pub mod host;
pub mod lock;
pub mod logging;
pub mod supervisor;
pub mod terminal;
