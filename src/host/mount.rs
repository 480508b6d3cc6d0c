//! Mounts of this host: put one up, take one away, look at what is there.
//!
//! ```text
//!   attach: refuse what is not built | nothing mounted there | an empty directory | bucket answers -> mounted
//!   detach: for each layer at the path: unmount lazily, then abort its FUSE connection -> nothing mounted there
//! ```
//!
//! What must hold: a failed attach leaves nothing behind; no file call is made at a path where something is
//! mounted (it might be a mount that hangs, it might be our own); detaching what is not there is no error.

mod bucket;
mod efs;
mod error;
pub mod handover;
mod kernel;
mod point;

pub use bucket::{How, Mounted, attach, defaults, prove, resume, store};
pub use bucketfs::connection::{DetachError, abort, detach, requests_waiting, uncover};
pub use bucketfs::mountinfo::{Device, Entry, MountTable};
pub use efs::file_system_id;
pub use error::{AttachError, KernelError, store_hint};
pub use kernel::{attach_kernel, is_kernel, shows};
pub use point::MissingDirectory;
