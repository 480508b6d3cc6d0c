//! A bucket as a file system: mounted, served, and handed on to the next process.
//!
//! ```text
//!   kernel -- relay.rs -- fuse.rs --> tree.rs (names) ----> store.rs: S3
//!                                |   directory.rs (lists)-'    ^
//!                                |-> read.rs (bytes) ----------|      inode.rs: numbers   cache.rs: blocks
//!                                '-> write.rs (changes) -------'
//! ```
//!
//! It knows nothing of agents, containers or configuration files. What must hold: what is mounted serves, or
//! nothing is mounted; memory stays within [`Options::memory`]; the calling process never touches a path below
//! its own mount.

pub mod attr;
pub mod cache;
mod caller;
pub mod connection;
pub mod directory;
pub mod error;
pub mod fuse;
pub mod health;
pub mod inode;
pub mod journal;
pub mod listing;
pub mod measure;
mod mount;
pub mod mountinfo;
mod negative_cache;
mod options;
pub mod random_prefetch;
pub mod read;
mod relay;
mod resolve;
pub mod session;
mod single_flight;
pub mod store;
pub mod tree;
mod wire;
pub mod write;
pub mod xattr;

pub use attr::Defaults;
pub use cache::CacheCounts;
pub use health::StoreHealth;
pub use mount::{Health, MountError, ResumeError, Session, UnmountError, mount, path_of, resume};
pub use options::{MEMORY_MIN, Options};
pub use session::{Handover, SessionError};
pub use write::{OnConflict, WriteOptions};
