//! What `main.rs` shows in a container, on a machine: firmware, kernel 6.1, cloud-init with tokens, a real power cut.
//!
//! Not among the tests that `cargo test` runs by itself, nor of CI: `make test-boot-stock`. Needs root, qemu, ssh, loop devices and a Docker
//! Engine (for the namespace and the disk); some minutes.

mod emulated;
mod scenario;
mod world;

use emulated::Emulated;
use scenario::{ECS, lives};
use world::{Aws, Host, Metadata, shipped};

#[test]
fn a_stock_machine_serves_maps_by_user_data_alone_and_after_whatever_befalls_it() {
    let aws = Aws::start(&shipped(), Metadata::Tokens);
    lives(Host::new(aws, ECS, Emulated::new));
}
