//! What a mount's next process must know, always written down: a SIGKILL gives no time to save.
//!
//! ```text
//!   memfd:  head: format, who and where, how the kernel was initialized | control, deaths | slots: requests | log: numbers, handles
//!
//!   created --publish--> a successor can resume -- opened by it --> its own
//!      '-- without a head, of another format, damaged: a successor says so and mounts anew
//! ```
//!
//! It lies in memory that the descriptor's holders share (`region.rs`), and whoever holds the descriptor (systemd, or
//! our own supervisor) hands it to the next process with the connection's. What must hold: at any moment it says
//! enough; nothing in it is a secret, and nothing of it reaches a disk.

mod deaths;
mod error;
mod log;
mod region;
mod requests;
mod session;

pub use deaths::{Deaths, MOST};
pub use error::JournalError;
pub use log::{AttributesRecord, NodeRecord, Record, Recovered};
pub use requests::{REQUEST_MAX, Requests, Slot, Unanswered};
pub use session::{Found, InitExchange, Journal, SessionHeader};
