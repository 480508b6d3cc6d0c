//! Objects in the memory of the process: the store that tests of the file system are written against.
//!
//! It is what our S3 server serves (`s3-testbed`), asked without HTTP: S3 is imitated in one place. A test can make it fail
//! and can count what it was asked; an answer was true at one moment between its question and its arrival. Time passes
//! only as [`Memory::set_latency`] says, so that it works under paused time.
//! `tests/it/file_system/store_contract.rs` holds it to what the S3 client does.

mod contents;
mod convert;
mod objects;

pub use contents::{Asked, Memory};
pub use s3_testbed::Clock;
