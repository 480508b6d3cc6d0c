//! The S3 server of the tests: against the contract of S3, and what it does beyond that.

pub mod contract;
mod server;
