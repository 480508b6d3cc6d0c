//! The kernel's word that its list of mounts has changed.

use std::fs::File;
use std::io;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Watches `/proc/self/mountinfo`, which the kernel marks as urgent at each change.
pub(super) struct Watch(AsyncFd<File>);

impl Watch {
    /// # Errors
    ///
    /// When the file cannot be opened or watched.
    pub(super) fn new() -> io::Result<Watch> {
        let file = File::open("/proc/self/mountinfo")?;
        // SAFETY: the file keeps its descriptor, and nothing else, open for as long as it is registered.
        let watched = unsafe { AsyncFd::register_with_interest(file, Interest::PRIORITY) };
        Ok(Watch(watched.map_err(|error| error.into_parts().1)?))
    }

    /// Waits for the next change. Cancel-safe: a change that nobody waited for is told at once.
    pub(super) async fn changed(&self) {
        match self.0.ready(Interest::PRIORITY).await {
            Ok(mut ready) => ready.clear_ready(),
            // Nothing will ever be told: the looks in between find it.
            Err(error) => {
                tracing::debug!(error = %crate::error::Chain(&error), "changes of mounts are not told");
                std::future::pending().await
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use nix::mount::{MntFlags, MsFlags, mount, umount2};
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn a_mount_and_its_end_are_told() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED: needs root to mount");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let watch = Watch::new().unwrap();
        // Whatever happened before is told at most once.
        let _ = timeout(Duration::from_millis(100), watch.changed()).await;
        mount(Some("tmpfs"), dir.path(), Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        timeout(Duration::from_secs(20), watch.changed()).await.unwrap();
        umount2(dir.path(), MntFlags::MNT_DETACH).unwrap();
        timeout(Duration::from_secs(20), watch.changed()).await.unwrap();
    }
}
