//! Waiting for what the document will say: until every mount is proven, or screen after screen.

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use super::report::{Report, read};
use crate::error::{Advise, Exit};

/// How often a watched document is looked at.
const WATCH_EVERY: Duration = Duration::from_millis(500);
/// Puts the cursor of a terminal at its upper left, clears the rest of a line, and everything below.
const HOME: &str = "\x1b[H";
const REST_OF_LINE: &str = "\x1b[K";
const BELOW: &str = "\x1b[J";

/// Why waiting for the mounts ended without them.
#[derive(Debug, thiserror::Error)]
pub enum WaitError {
    #[error("not ready after {} s: {}", limit.as_secs(), missing.join("; "))]
    TimedOut { limit: Duration, missing: Vec<String> },
}

impl Advise for WaitError {
    fn hint(&self) -> Option<String> {
        Some("mapkeeper status says more".to_owned())
    }

    fn exit(&self) -> Exit {
        Exit::TimedOut
    }
}

/// Waits until every mount is proven in a fresh document, at most `limit`.
///
/// # Errors
///
/// [`WaitError::TimedOut`], naming what is missing.
pub async fn wait(dir: &Path, limit: Duration) -> Result<(), WaitError> {
    let deadline = tokio::time::Instant::now() + limit;
    loop {
        let missing = match read(dir) {
            Ok(report) => report.unproven(),
            Err(error) => vec![crate::error::Chain(&error).to_string()],
        };
        if missing.is_empty() {
            return Ok(());
        }
        let now = tokio::time::Instant::now();
        if now >= deadline {
            return Err(WaitError::TimedOut { limit, missing });
        }
        tokio::time::sleep(Duration::from_millis(100).min(deadline - now)).await;
    }
}

/// What becomes of a screen when the next one is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Screens {
    /// It is replaced, as suits a terminal.
    Replaced,
    /// It stays above the next one.
    Kept,
}

/// Shows the document, as `show` puts it, again whenever that changes, until it cannot be written any
/// more; returns why.
pub async fn watch(
    dir: &Path,
    screens: Screens,
    show: impl Fn(&Report) -> String,
    mut out: impl Write,
) -> io::Error {
    let mut shown = String::new();
    loop {
        let (screen, matters) = match (read(dir), screens) {
            (Ok(report), Screens::Replaced) => (show(&report), show(&report)),
            // Counters move all the time: that alone is no reason for one screen more.
            (Ok(report), Screens::Kept) => (show(&report), show(&report.without_figures())),
            (Err(error), _) => (crate::error::report(&error), String::new()),
        };
        if matters != shown {
            let text = match screens {
                // Overwritten and not cleared first, so that nothing flickers.
                Screens::Replaced => {
                    let lines: String =
                        screen.lines().map(|line| format!("{line}{REST_OF_LINE}\n")).collect();
                    format!("{HOME}{lines}{BELOW}")
                }
                Screens::Kept => screen,
            };
            if let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
                return error;
            }
            shown = matters;
        }
        tokio::time::sleep(WATCH_EVERY).await;
    }
}
