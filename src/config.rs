//! Every setting of mapkeeper: its meaning, unit, default and limits.
//!
//! The types here are plain data that every other part reads. They are made in one way only, by
//! [`Loaded::from_layers`] from layers (defaults, file, parameters, tags, environment, flags), so a value that exists
//! has been checked. Nobody is asked here: what parameters and tags say is given (`host::configuration`).
//!
//! A setting is one entry of `table`, of which types, reader, writer, comparison, documentation and schema are made.
//!
//! ```text
//!  file, environment, -o --> source: Layer --> Entries --> read --> Config
//!                                                           |         |
//!                                             check <-- Claims        +--> show (TOML with origins)
//! ```

mod check;
mod choice;
mod container;
mod diff;
mod fault;
mod load;
mod loaded;
mod model;
mod mount_options;
pub mod quantity;
mod read;
mod redact;
#[cfg(test)]
mod reference;
mod schema;
mod setting;
mod show;
mod snapshot;
mod source;
mod table;
mod value;

pub use choice::{CannedAcl, Escalate, Expect, OnConflict, Owner};
pub use container::{Bind, Port, Protocol, Selector};
pub use diff::Consequence;
pub use fault::{ConfigError, Expected, Fault, Faults, Problem, SyntaxFault};
pub use load::{Inputs, Wanted};
pub use loaded::{ConfigFile, DEFAULT_FILE, Loaded};
pub use model::{
    Bootstrap, Config, Container, Credentials, Ecs, Health, Mount, Overlay, Probe, Source, Sources, Sse,
    StackSignal,
};
pub use mount_options::{CredentialsChoice, KernelFlags, MountRequest, Remark};
pub use redact::{REDACTED, names_a_secret};
pub use schema::schema;
pub use setting::{KEYS, KeyPath, Kind, OnChange, Setting, Step};
pub use show::Origins;
pub use source::{
    Entries, Layer, Origin, Parameter, ParameterKind, RESERVED_VARIABLES, STATE_TAG, TAG_PREFIX, variable_of,
};
pub use value::{https_url, sha256};

#[cfg(test)]
pub(crate) mod tests;
