//! The file system through the kernel, on a bucket in memory and on an S3 server. Needs root and `/dev/fuse`.

mod beside_s3fs;
mod common;
mod everyday;
mod filesystem;
mod freshness;
mod names;
mod requests;
mod servers;
mod store_contract;
mod stored_as;
mod suites;
mod writing;
