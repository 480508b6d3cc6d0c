//! Changing a bucket: files that are written, names that are made, moved and taken away.
//!
//! ```text
//!   lifecycle.rs, resume.rs: begin, end, go on
//!     | names.rs, moves.rs, directory_moves.rs (leaving.rs: who has it open): names    attributes.rs, change.rs: what is said
//!     | files.rs, closing.rs: open, write, flush, close
//!     |   commit.rs, parts.rs, kept.rs, refusals.rs: what becomes of a draft     objects.rs: single requests
//!     '-> writing.rs: what all of them share --> draft.rs, state.rs: one file     handles.rs: who has it open
//!           stage.rs, record.rs, rename_intent.rs: the disk     extents.rs, ranges.rs, part_layout.rs: which bytes are where
//! ```
//!
//! What must hold: what a call has acknowledged is in the store, but for bytes written and not yet flushed; whoever
//! reads here sees what was written here; an object is replaced only by somebody who has seen it; a process that dies
//! at any moment leaves every object that was there readable under one name at least.

mod acl;
mod attributes;
mod change;
mod closing;
mod commit;
mod directory_moves;
mod draft;
mod extents;
mod files;
mod handles;
mod headers;
mod kept;
mod leaving;
mod lifecycle;
#[cfg(test)]
mod model;
mod moved;
mod moves;
mod names;
mod objects;
mod options;
mod part_layout;
mod parts;
mod ranges;
mod record;
mod refusals;
mod rename_intent;
mod resume;
mod stage;
mod state;
mod unfinished_moves;
mod writing;

pub use change::{Change, SetXattr};
pub use draft::Draft;
pub use files::{Opened, Wrote, writable_at_once};
pub use handles::{Access, Handle};
pub use moves::Target;
pub use names::{Caller, New};
pub use options::{OnConflict, WriteOptions};
pub use stage::Owner;
pub use writing::Writing;
