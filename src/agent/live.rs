//! The real host: mounts of this process, Docker, the kernel's tables, services over HTTP.
//!
//! Nothing here decides: questions are answered and actions carried out. What an action rests on is
//! compared once more right before it, because a mount may have gone between the look and the deed.
//!
//! No file below a mount of ours is ever touched from this process: paths are asked about by children
//! (`probe.rs`), everything else is read from `/proc` and `/sys`.

mod answers;
mod cluster;
mod convert;
mod credential_cache;
mod escalation;
mod failure;
mod image_pins;
pub mod inbox;
mod mount_watch;
mod mounts;
mod reload;
mod services;
mod state;
mod stats;
mod stores;
mod takeover;
mod work;

pub use convert::{seen_at, settings};
pub use services::map_asked_for;
pub use state::{AtStop, Live, LiveError, Options};

#[cfg(test)]
mod tests;
