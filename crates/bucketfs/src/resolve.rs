//! Asking the store what a name is, with as few requests as will do.
//!
//! ```text
//!   an object known before ......... one conditional GET
//!   a directory known before ....... the file below it that was found last: where a file is, a directory is
//!                                    (its marker's owner and mode are believed for `MARKER_PATIENCE`)
//!   nothing known .................. GET of the key and LIST of `key/`, at the same time: one round trip
//!   several names of one directory . one LIST of it, if it is small (`negative_cache.rs`)
//! ```
//!
//! What must hold: an answer counts from when its question *left*; questions about one name that wait at the same
//! time are asked once; a directory wins over an object of its name.

mod answer;
mod list;
mod probe;
mod question;
mod record;

pub use answer::RESOLVE_DEADLINE;
pub(crate) use answer::{Answer, DirectoryProbe, MARKER_PATIENCE};
