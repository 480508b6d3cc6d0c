//! Every precondition of a host, each looked at by itself: before the first start, in operation, and when all is down.
//!
//! ```text
//!   configuration --> mounts: credentials, name, connection, bucket, rights, headers, mount point
//!              |  '-> containers: image, bind, port, pattern, error log, probe
//!              '----> cluster, agent              (both as the agent sees and judges them: `look.rs`)
//!   host: kernel, FUSE, mounts, systemd, clock, memory, disk       (whatever the configuration says)
//! ```
//!
//! What must hold: nothing is changed; each check has a deadline and an answer, `ok`, `warn` or `fail` with its cure; what
//! one check waits for holds up no other but those that need its result.

mod agent;
mod all;
mod ask;
mod buckets;
mod cluster;
mod containers;
mod host;
mod look;
mod network;
mod tell;

pub use all::{doctor, remote};
