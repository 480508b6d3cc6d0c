//! Everything that touches the host: Docker, systemd, ECS, mounts, probes, credentials.
//!
//! Each part looks and acts, and decides nothing: what is faulty and what to do about it is `ladder`'s, when is `agent`'s.

pub mod configuration;
pub mod container;
pub mod credentials;
pub mod ecs;
pub mod http;
pub mod instance;
pub mod mount;
pub mod probe;
pub mod systemd;
