//! One process after the other on the same host: sessions taken over from the one before, and left to the next.
//!
//! ```text
//!   before the first look: keys fetched -> each session that was left goes on, as far as it is still wanted
//!   keys that do not come in time ........ mounts go on as soon as the ladder would mount them
//!   at the end: ordered to stop -> containers stopped, unmounted     replaced -> nothing is touched
//!   workers that are stuck ............... a new process has new ones: this one ends at once
//! ```
//!
//! What must hold: a session that was left is resumed, or ended with a reason; never is anything mounted over it.

use std::path::PathBuf;
use std::time::Duration;

use futures::FutureExt;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::timeout;

use super::failure::plain_failure;
use super::state::Live;
use crate::agent::signals::Orders;
use crate::agent::status::uptime;
use crate::host::mount::handover::Sessions;
use crate::host::systemd;
use ladder::state::{Failure, Workers};

/// Workers that were restarted and are stuck again before this are not restarted again: the ladder goes on.
const WORKERS_PAUSE: Duration = Duration::from_secs(600);
/// Longest wait for keys before the first look: whoever uses a mount waits as well.
const KEYS_LIMIT: Duration = Duration::from_secs(8);

impl Live {
    /// Goes on with the sessions that a process before has left; does so once.
    pub(super) async fn resume_left(&self) {
        let Some(left) = self.left.take() else { return };
        let (mounts, keys) = (self.mounts(), self.keys.borrow().clone());
        let unwanted = mounts.adopt_left(left);
        if mounts.has_left() {
            // What they say, the first look says again.
            let _ = timeout(KEYS_LIMIT, keys.look()).await;
        }
        mounts.resume_left(|spec| keys.for_mount(spec)).boxed_local().await;
        // Somebody is served from now on: a silence counts, also one before the first round has told anything.
        systemd::alive();
        end(unwanted).await;
    }

    /// Whether new workers can be had: somebody keeps the sessions and starts another process, and it was not done
    /// a moment ago.
    pub fn workers(&self) -> Workers {
        let restarted = self.restarts().and_then(|path| std::fs::read_to_string(path).ok());
        let restarted = restarted.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
        // A time to come is one of a boot before.
        let lately = restarted.zip(uptime().ok()).is_some_and(|(restarted, now)| {
            now.checked_sub(restarted).is_some_and(|since| since < WORKERS_PAUSE)
        });
        if systemd::keeps() && !lately { Workers::Restartable } else { Workers::Fixed }
    }

    /// Ends this process at once, stuck as its threads are: the next one goes on with all sessions.
    pub(super) fn restart_workers(&self, mount: &str) -> Result<(), Failure> {
        let (Workers::Restartable, Some(path), Some(now)) = (self.workers(), self.restarts(), uptime().ok())
        else {
            return Err(plain_failure("nobody starts other workers".to_owned()));
        };
        // Written first: without it the next process might do the same again, and so on.
        std::fs::write(path, now.as_secs().to_string())
            .map_err(|error| plain_failure(format!("cannot note that the workers are restarted: {error}")))?;
        tracing::warn!(mount, "the workers are stuck: another process takes the place of this one");
        // Not by an exit in order, which could wait for those threads.
        let killed = kill(Pid::this(), Signal::SIGKILL);
        Err(plain_failure(format!("this process survived its end: {killed:?}")))
    }

    /// Where it stands when the workers were last restarted, in seconds since the boot.
    fn restarts(&self) -> Option<PathBuf> {
        self.runtime_dir.as_ref().map(|dir| dir.join("workers-restarted"))
    }

    /// Whether another process takes the place of this one.
    pub(super) async fn is_replaced(&self) -> bool {
        if self.orders.as_ref().is_some_and(Orders::replace) {
            return true;
        }
        // Only who was given orders can be part of a unit.
        self.orders.is_some()
            && tokio::task::spawn_blocking(systemd::is_to_be_replaced).await.unwrap_or_default()
    }
}

/// Ends sessions of mounts that are not configured any more.
async fn end(unwanted: Sessions) {
    // Unmounting may wait for the kernel.
    let _ = tokio::task::spawn_blocking(move || unwanted.end()).await;
}
