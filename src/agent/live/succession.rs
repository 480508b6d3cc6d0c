//! One process after the other on the same host: sessions taken over from the one before, and left to the next.
//!
//! ```text
//!   before the first look: keys fetched -> each session that was left goes on, as far as it is still wanted
//!   keys that do not come in time ........ mounts go on as soon as the ladder would mount them
//!   at the end: ordered to stop -> containers stopped, unmounted     replaced -> nothing is touched
//! ```
//!
//! What must hold: a session that was left is resumed, or ended with a reason; never is anything mounted over it.

use std::time::Duration;

use futures::FutureExt;
use tokio::time::timeout;

use super::Live;
use crate::mount::handover::Sessions;
use crate::systemd;

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
        end(unwanted).await;
    }

    /// Whether another process takes the place of this one.
    pub(super) async fn is_replaced(&self) -> bool {
        if self.orders.as_ref().is_some_and(crate::agent::Orders::replace) {
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
