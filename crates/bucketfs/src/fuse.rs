//! FUSE, translated: only this file and those below it name `fuser`.
//!
//! Requests come in on the session's threads. What is in memory is answered there and then; what needs the store
//! becomes a task on the file system's runtime, which holds the reply. What must hold: every request is answered
//! exactly once, nothing here waits for the store on a session thread, and what the kernel is told to believe for
//! a while is exactly as long as `tree.rs` allows.
//!
//! On a mount that is only read, files are not opened: `open` is answered `ENOSYS`, after which the kernel opens them
//! by itself. A number stands for one content for ever (`inode.rs`), so there is nothing to decide at `open` that the
//! lookup before it has not decided, and cached pages are always right. They are on a mount that is written too: what
//! changes a content under its number comes from the kernel itself (`fuse/write.rs`).

mod adapter;
mod directories;
mod filesystem;
mod reply;
mod write;

pub use adapter::{Adapter, drop_surplus};
