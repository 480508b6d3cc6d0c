//! What is shipped, on whole hosts: packages and units under systemd in a container, user data under cloud-init, and the
//! same on emulated machines with a kernel of their own.
//!
//! ```text
//!   booted, packages               systemd in a container
//!   user_data                      systemd, cloud-init, Docker and a stand-in of the ECS agent in a container
//!   user_data_machine,
//!   handover_machine               kernel 6.1, emulated: minutes each, `make test-boot`
//! ```

mod booted;
mod container;
mod emulated;
mod emulator;
mod handover_machine;
mod kit;
mod packages;
mod revisions;
mod scenario;
mod user_data;
mod user_data_machine;
mod world;
