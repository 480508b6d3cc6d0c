//! The inode table: which number means which version of which name.
//!
//! A number stands for one content for as long as the kernel may use it: when S3 holds another version of an
//! object, the name gets a *new* number, as if a new file had been renamed over it. Pages that the kernel caches
//! under a number are therefore never wrong, an open file never mixes versions, and no page ever needs to be
//! thrown away because something changed. Headers that change while the content stays keep the number, unless
//! they make another kind of file of it.
//!
//! ```text
//!            listed / found                 lookup replied                    forgotten by the kernel
//!  (nothing) ---------------> idle node  ------------------> node in use  ---------------------------> idle node
//!                                |                              |  name gets another version
//!              too many bytes,   |                              v
//!                 oldest first   v                           node in use, without its name
//!                            (nothing) <----- forgotten --------'
//! ```
//!
//! What must hold: a node the kernel knows (`lookups > 0`) is never dropped; idle nodes take at most half of the
//! budget, and of those in use the oldest are named (`eviction`) as soon as they take more than the other half;
//! every name leads to the node with the newest version known.

mod local;
mod node;
mod queue;
mod saved;
mod table;

pub use node::{Eviction, Facts, Node, ROOT};
pub use table::Table;

#[cfg(test)]
mod tests;
