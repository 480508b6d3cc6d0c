//! A small S3 server of our own: in memory for tests and benchmarks, over a directory for `mapkeeper demo`.
//!
//! It says what S3 says, to the point where a file system can tell: directories as `dir/` keys, conditional requests,
//! copies that replace metadata, multipart uploads, versions. And it does what S3 does only now and then, whenever a
//! test wants it: be slow, be busy, break a connection in the middle of a body, refuse a key that worked a moment ago.
//!
//! What must hold:
//! - It is never the bottleneck of what is measured against it: bodies are slices of the stored bytes.
//! - It has threads of its own, so a busy client in the same process cannot starve it.
//! - A [`Server`] comes and goes; its [`Store`] and its [`Control`] stay, so "S3 is down" is a stop and a start.
//!
//! ```text
//! connection -> (operation, control, fault, auth) -> protocol -> store -> memory | directory
//! ```
//!
//! Left out because nothing here needs it: access control lists, policies, encryption, reads by part number,
//! checksums of whole multipart objects.

mod answer;
mod auth;
mod condition;
mod connection;
mod control;
mod directory;
mod entity_tag;
mod error;
mod fault;
mod file;
mod listing;
mod memory;
mod multipart;
mod object;
mod operation;
mod protocol;
mod remote;
mod server;
mod store;
mod wire;

pub use condition::{TagMatch, WriteCondition};
pub use control::{ACCESS_KEY, Control, LogEntry, Refusal, SECRET_KEY};
pub use entity_tag::EntityTag;
pub use error::StoreError;
pub use fault::{Action, Fault};
pub use listing::{Entry, Item, Page, Query};
pub use memory::{Removal, Versioning};
pub use multipart::{Part, Upload, Uploads};
pub use object::{Attributes, Checksums, Content, Object, VersionId};
pub use operation::Operation;
pub use remote::Remote;
pub use server::{Options, Server};
pub use store::{Clock, Store};
