//! Credentials: where they come from, and the holder that a running mount asks for each request.
//!
//! ```text
//!   fixed (file of s3fs, demo) -----------------------------+
//!   default chain of AWS ----+                              v
//!   role that it assumes ----+--> refresher (one task) --> Holder --> every request to S3
//!   secret in Secrets Manager +      `refresh.rs`             ^             |
//!                                                             +--- refused -+  `wire.rs`
//! ```
//!
//! What must hold: a value is nowhere but in memory, and never in a message; the refresher is the only
//! one that changes what a holder holds; what is new is proved by a request before it takes the old one's place.

mod error;
mod holder;
mod keys;
mod memory;
mod origin;
mod passwd;
mod refresh;
mod secret;
mod wire;

pub use error::CredentialsError;
pub use holder::Holder;
pub use keys::Secret;
pub use memory::keep_out_of_core_dumps;
pub use passwd::PasswdError;
pub use refresh::{Prover, Proving};

#[cfg(test)]
mod tests;
