//! Names and directories: a bucket of keys seen as a tree.
//!
//! A key ending in `/` is a directory; so is any prefix of a key. Where a directory and an object have the same
//! name the directory wins and the object is hidden. Nothing here knows of FUSE: numbers and replies are
//! `fuse.rs`'s.
//!
//! ```text
//!   lookup ->  known and asked less than `freshness` ago ............. answer from memory
//!              in a directory listed less than `freshness` ago ....... not there: answer from memory
//!              anything else ......................................... ask the store (`resolve.rs`)
//!              the store cannot be asked ............ what was known, until it is older than `max_stale`
//! ```
//!
//! What must hold: an answer is never older than `freshness` when the store answers; what the kernel is told is
//! counted (`remember`) before the reply leaves.

mod lookup;
mod mount;
mod path;

pub(crate) use mount::SET_ID;
pub use mount::{Entry, Invalidate, Looked, Rules, Tree};
pub(crate) use path::{join, parent_and_name};

#[cfg(test)]
mod tests;
