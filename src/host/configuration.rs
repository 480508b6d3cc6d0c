//! All layers of a configuration, from wherever they are: what Parameter Store and the tags of the instance say included.
//!
//! ```text
//!   file, environment, flags ---> does `sources` name a path, are tags wanted? ---> tags, parameters
//!        |                                                                            |
//!        +------> defaults < file < parameters < tags < environment < flags <---------+
//! ```
//!
//! What must hold: parameters that cannot be had are an error, because a host must not run with half of its
//! configuration. Tags never keep a host from starting: where they cannot be asked, those known last hold.

mod gather;
mod parameters;
mod tags;

pub use gather::load;
pub use parameters::parameter;
