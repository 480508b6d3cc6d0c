//! Where settings come from: layers of values, each of which knows its origin.
//!
//! ```text
//!   defaults  <  file  <  parameters  <  tags  <  environment  <  flags, options        later wins
//!  (config::key)   |          |           |            |               |
//!                  +-- Layer -+-----------+------------+---------------+--> Entries --> config::read
//! ```
//!
//! A layer is flat: a map from the path of a setting to its value and origin. One more kind of layer is
//! one more function that makes such a map. Nothing is judged here but whether a setting of that name
//! exists; values are judged by `config::read`, when it is known which layer won.

mod entries;
mod entry;
mod environment;
mod file;
mod flags;
mod key_syntax;
mod layer;
mod origin;
mod parameters;
mod tags;

pub use entries::Entries;
pub use entry::{Entry, Value};
pub use environment::{RESERVED_VARIABLES, variable_of};
pub use layer::Layer;
pub use origin::Origin;
pub use parameters::{Parameter, ParameterKind};
pub use tags::{STATE_TAG, TAG_PREFIX};

#[cfg(test)]
mod tests;
