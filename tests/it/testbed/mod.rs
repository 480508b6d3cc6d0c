//! The S3 server of the tests: against the contract of S3, and what it does beyond that.

mod contract;
mod server;
