//! Where files that are being changed are on disk: the staging directory.
//!
//! ```text
//!   staging/ session-PID.N/ lock          held for as long as the process lives; says whose it is
//!                           handles       who has what open (`handles.rs`)
//!                           3.data        the bytes, sparse; its time is the file's
//!                           3.record      what they are (`record.rs`)
//!                           4.move        a move that is under way (`noted.rs`)
//!            kept/          TIME-NAME     what was written and could not be stored, with TIME-NAME.json beside it
//! ```
//!
//! Nobody but root sees any of it, and nobody else can put anything there (`trusted.rs`). What must hold: no two
//! processes use one session's directory; a directory whose lock is free belongs to nobody and may be taken over or
//! cleared; the disk is never filled to its end.

mod file;
mod left;
mod lock;
mod noted;
mod staging;
mod trusted;

pub use file::{StagedFile, staged_files};
pub use left::LeftBehind;
pub use lock::Owner;
pub use noted::NotedIntent;
pub use staging::{Room, Staging};
pub use trusted::{create, open};
