//! Ports of this host that no other test has: for what must be told its port before it takes it.
//!
//! Each test is a process of its own, and the runner numbers those that run at one time. Ports are counted from there, below
//! the range from which the kernel gives ports to whoever asks for any.

use std::sync::atomic::{AtomicU16, Ordering};

/// Ports for each of the tests that run at one time.
const EACH: u16 = 40;
/// Below it are ports that people know, above [`LAST`] those that the kernel gives.
const FIRST: u16 = 20_000;
const LAST: u16 = 32_000;

/// A port that this test alone has.
pub fn own() -> u16 {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    let slot = std::env::var("NEXTEST_TEST_GLOBAL_SLOT").ok().and_then(|text| text.parse().ok());
    let slot: u16 = slot.expect("cargo nextest runs this test and numbers it");
    let taken = TAKEN.fetch_add(1, Ordering::Relaxed);
    assert!(taken < EACH, "more ports than a test may have");
    let port = FIRST + slot * EACH + taken;
    assert!(port < LAST, "more tests at one time than there are ports for");
    port
}
