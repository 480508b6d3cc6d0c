//! What the file system asks of an object store, and nothing more.
//!
//! Two stores exist: [`s3`] speaks to S3 and its like; `memory`, for tests, is our S3 server's store in the process. Both
//! pass the same contract test. What must hold of either: answers are whole or errors (a body that ends early
//! is an error, never a short object), errors say whether asking again later can help, and nothing here knows of
//! directories, inodes or FUSE.

#[cfg(any(test, feature = "memory"))]
pub mod memory;
pub mod s3;
pub mod write;

mod error;
mod read;
mod version;

pub use error::{ClockSkew, StoreError};
pub use read::{
    Body, Condition, Depth, EMPTY_PAGES, Fetch, Fetched, List, ListStart, Listed, Object, ObjectStore, Page,
};
pub use version::{ETag, Version};
pub use write::{Conditions, Headers, Kept, ObjectStoreWrite};
