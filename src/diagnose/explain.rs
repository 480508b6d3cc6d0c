//! One map, followed from the object in the bucket to the answer of MapServer.
//!
//! ```text
//!   object -> headers -> mapfile -> data -> mount -> file -> bind -> container -> wms
//!   in S3     readable?  its text   files   there?   same    same     runs, may   answers,
//!                                   there?           bytes?  device?  be asked?   draws?
//! ```
//!
//! The first wrong link is the cause; what comes after it is looked at all the same, because a person may have to cure
//! more than one. What must hold: nothing is changed, and every link has its deadline.

mod container;
mod files;
mod follow;
mod location;
mod mount;
mod object;
mod process_identity;
mod service;

pub use follow::{ExplainError, Explanation, explain};
pub use service::admits;
