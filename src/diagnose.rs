//! What a person asks when something is wrong: about this host (`doctor`), about one map (`explain`), and for everything
//! that somebody else needs to help (`bundle`).
//!
//! ```text
//!   cli --> doctor  --+
//!       --> explain --+--> result: ok, warn or fail, the cause, the cure
//!       --> bundle    |
//!                     +--> asked: keys, bucket, child      (each question with a deadline, none changes anything)
//! ```
//!
//! What must hold: all of it works while the daemon is down or hangs; nothing is changed by asking; no file below a mount
//! is touched from this process; no secret is printed.

pub mod bundle;
pub mod clients;
pub mod doctor;
pub mod explain;
pub mod lint;
pub mod mapfile;
pub mod result;
