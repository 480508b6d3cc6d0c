//! The clocks of a document: since boot, which nobody can set, and the wall's.

use std::fs;
use std::io;
use std::time::{Duration, SystemTime};

use ladder::state::Moment;

/// The clocks at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    pub now: Moment,
    pub wall: SystemTime,
    /// Time since boot.
    pub uptime: Duration,
}

/// Time since boot.
///
/// # Errors
///
/// Those of reading `/proc/uptime`.
pub fn uptime() -> io::Result<Duration> {
    let text = fs::read_to_string("/proc/uptime")?;
    let seconds = text.split_whitespace().next().and_then(|field| field.parse::<f64>().ok());
    let seconds = seconds.ok_or_else(|| io::Error::other("unexpected /proc/uptime"))?;
    Duration::try_from_secs_f64(seconds).map_err(io::Error::other)
}

/// Whole milliseconds of `duration`, as many as a number holds.
pub fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
