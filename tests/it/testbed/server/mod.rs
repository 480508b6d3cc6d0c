//! Our S3 server beyond what S3 does: faults, counters, keys that change, a directory that people work in.
//!
//! Mostly spoken to in plain HTTP: what an S3 client makes of a reset or of a body that ends early is its own affair.

mod directory;
mod faults;
mod http;
mod keys;
