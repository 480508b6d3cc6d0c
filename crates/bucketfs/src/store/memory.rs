//! Objects in the memory of the process: the store that tests of the file system are written against.
//!
//! It behaves as S3 does where the file system can tell: keys in the order of their bytes, pages, conditions,
//! entity tags that are the same for the same content, times in whole seconds, an answer that was true at one moment
//! between its question and its arrival. A test can make it fail and can count what it was asked. Time passes only
//! as [`Memory::set_latency`] says, so that it works under paused time.
//! `tests/it/file_system/store_contract.rs` holds it to what the S3 client does.

mod contents;
mod read;
mod write;

pub use contents::{Asked, Clock, Memory};
