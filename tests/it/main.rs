//! The agent and its commands against real parts: the kernel, Docker, MapServer, an S3 server, moto for the AWS APIs.
//!
//! One program, a module a subject; what several use is in `support`. Each test is a process of its own under
//! `cargo nextest`, so what only one may have at a time is in a group of `.config/nextest.toml`.

mod bootstrap;
mod bundle;
mod cloudformation;
mod config;
mod container;
mod crashes;
mod credentials;
mod doctor;
mod documents;
mod explain;
mod faults;
mod file_system;
mod iam;
mod kernel_mounts;
mod layering;
mod layers;
mod mount_command;
mod observability;
mod region;
mod release;
mod reload;
mod rotation;
mod status;
mod support;
mod survival;
mod testbed;
mod user_data;
