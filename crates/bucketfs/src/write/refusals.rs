//! Files whose writer has just been told that the store refuses them.
//!
//! ```text
//!   flushed, refused --> here -- stored after all ------------------> gone
//!                          '---- closed: let go, the bucket is shown -> gone
//! ```
//!
//! Whoever calls `close` hears of the refusal before the kernel lets go of the file. What must hold: whoever looks a name
//! up in between waits until that is done, and is shown the bucket; nobody waits longer than a moment, because the
//! file may as well stay open.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

/// How long the kernel takes at most to let go of a file that was closed.
const PATIENCE: Duration = Duration::from_millis(250);

/// By number: the path, and since when.
type Files = HashMap<u64, (Arc<str>, Instant)>;

/// All files that the store has just refused.
#[derive(Debug, Default)]
pub struct Refusals(watch::Sender<Files>);

impl Refusals {
    /// The store has refused the file `ino`.
    pub fn note(&self, ino: u64, path: Arc<str>) {
        self.0.send_modify(|files| drop(files.insert(ino, (path, Instant::now()))));
    }

    /// The file is stored, or has been let go.
    pub fn end(&self, ino: u64) {
        self.0.send_if_modified(|files| files.remove(&ino).is_some());
    }

    pub fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// What to wait for before anybody is told of a file with such a path; `None` if nothing is in the way.
    pub fn about_to_go<F>(&self, is_meant: F) -> Option<impl Future<Output = ()> + Send + use<F>>
    where
        F: Fn(&str) -> bool + Send + Sync + 'static,
    {
        let last = move |files: &Files| {
            let times = files.values().filter(|(path, _)| is_meant(path)).map(|(_, since)| *since);
            times.max()
        };
        let until = last(&self.0.borrow())? + PATIENCE;
        if until <= Instant::now() {
            return None;
        }
        let mut files = self.0.subscribe();
        Some(async move {
            let _ = timeout_at(until, files.wait_for(|files| last(files).is_none())).await;
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn whoever_asks_for_a_refused_file_waits_until_it_is_let_go_but_not_for_long() {
        let refusals = Refusals::default();
        let asked_for = |name: &'static str| refusals.about_to_go(move |path| path == name);
        assert!(asked_for("a").is_none());
        refusals.note(1, "a".into());
        assert!(asked_for("b").is_none());
        let (let_go, began) = (asked_for("a").expect("it is about to go"), Instant::now());
        refusals.end(1);
        let_go.await;
        assert_eq!(began.elapsed(), Duration::ZERO);
        refusals.note(1, "a".into());
        asked_for("a").expect("it is about to go").await;
        assert_eq!(began.elapsed(), PATIENCE);
        // It stays open.
        assert!(asked_for("a").is_none());
    }
}
