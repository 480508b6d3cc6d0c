//! The status document: what the agent publishes, and how others read it.
//!
//! The loop replaces `status.json` in the runtime directory atomically at every round. A reader looks
//! at that file and at `/proc/PID/stat` of its writer and at nothing else, so it answers at once even
//! when S3, Docker and the mount all hang.
//!
//! A document is believed only while its writer lives (process id *and* start time, so that a reused
//! id is not taken for it) and only as long as the writer promised (`fresh_for_ms`), measured on the
//! clock of the machine since boot, which nobody can set.
//!
//! ```text
//! no file ----------------------------> [Absent]
//! other boot, or writer gone ---------> [Ended]
//! writer lives, promise broken -------> [Stale]
//! writer lives, promise kept ---------> [Fresh]
//! ```

mod clock;
mod document;
mod render;
mod report;
mod runtime_dir;
mod tracker;
mod watch;

pub use clock::{Clock, uptime};
pub use document::{
    Acting, Document, EVENTS, Event, EventKind, FaultReport, LinkReport, VERSION, Writer, age_ms, is_fresh,
};
pub use render::{event_line, figure_lines, render, word};
pub use report::{ReadError, Report, Standing, read};
pub use runtime_dir::{RuntimeDir, RuntimeDirError};
pub use tracker::{StatusTracker, id};
pub use watch::{Screens, WaitError, wait, watch};

pub(super) use clock::milliseconds;

#[cfg(test)]
pub(super) mod tests;
