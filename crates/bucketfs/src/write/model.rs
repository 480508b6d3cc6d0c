//! The writing half of a mount against a model of it, with the kernel left out.
//!
//! ```text
//!   a step: one call, one fault --> what the caller is told ----> what could be so now (oracle.rs)
//!                              '--> what the bucket holds -----> one of these, or the test fails
//!                                   what each name shows and each descriptor reads --> agrees with that one
//! ```
//!
//! What must hold: an operation that said yes is in the bucket, one that said no has no effect, now or later; where no answer
//! came either is right, and everybody is shown the one that is.

mod calls;
mod oracle;
mod step;
mod store;
mod verdict;
mod world;

use proptest::collection::vec;
use proptest::prelude::*;

use self::step::{Step, step};
use self::world::World;

/// Steps of one run, and runs where `MODEL_RUNS` does not say another number.
const STEPS: usize = 40;
const RUNS: u32 = 400;
fn runs() -> u32 {
    std::env::var("MODEL_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(RUNS)
}

/// Plays `steps`, and then closes all that is open; answers where it differs.
fn play(steps: &[Step]) -> Result<(), String> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().start_paused(true).build().expect("a runtime");
    runtime.block_on(async {
        let mut world = World::new();
        for (at, step) in (0..).zip(steps) {
            world.step(step).await.map_err(|differs| format!("step {at}, {step:?}: {differs}"))?;
        }
        world.end().await
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: runs(), max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn what_is_told_read_and_stored_agree(steps in vec(step(), 1..STEPS)) {
        if let Err(differs) = play(&steps) {
            prop_assert!(false, "{differs}");
        }
    }
}
