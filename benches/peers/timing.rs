//! How long a piece of work took, as every process of a run tells it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How long it took: all of it, and what one of its parts took at the median and at the 99th percentile.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Timing {
    pub seconds: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
}

impl Timing {
    /// `seconds` in all, made of `parts`.
    pub fn of(seconds: Duration, mut parts: Vec<Duration>) -> Timing {
        parts.sort();
        let at = |hundredths: usize| {
            let index = (parts.len() * hundredths / 100).min(parts.len().saturating_sub(1));
            parts.get(index).map_or(0.0, |part| part.as_secs_f64() * 1e3)
        };
        Timing { seconds: seconds.as_secs_f64(), p50_ms: at(50), p99_ms: at(99) }
    }
}
