//! The connection to the kernel: mounted, served, ended.
//!
//! ```text
//!   mount(2) -> INIT answered -> serving -> ended: unmounted everywhere, or aborted
//!                  | fails
//!                  '-> unmounted again, nothing left
//! ```
//!
//! The kernel keeps a connection for as long as something is mounted from it: a container's bind keeps it alive
//! after the host has unmounted. So a session does not end with the mount point but with the device's last word.
//! What must hold: no call here resolves a path *below* the mount, because this process is the one that would
//! have to answer; `/dev/fuse` is the only thing needed of the host.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tokio::sync::watch;

use crate::mountinfo::{Device, MountTable};

use super::door::Door;
use super::fuse::{Adapter, drop_surplus};
use super::read::Push;

/// Where the kernel's FUSE driver is asked for a connection.
pub const DEVICE: &str = "/dev/fuse";
/// The type that `mount` and `/proc/mounts` show.
pub const FS_TYPE: &str = "fuse.mapkeeper";
/// Threads that take requests from the kernel.
const THREADS: usize = 2;
/// Largest read that the kernel may ask for, and how far it reads ahead: 1 MiB, eight times its default.
const READ_MAX: u32 = 1024 * 1024;

/// Why nothing was mounted.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error("cannot open {DEVICE:?}")]
    NoDevice { source: io::Error },
    #[error("cannot mount on {path:?}")]
    Mount { path: PathBuf, source: io::Error },
    #[error("the kernel and the file system do not agree on the FUSE protocol")]
    Handshake { source: io::Error },
    #[error("nothing is mounted on {path:?} although the kernel said so")]
    Vanished { path: PathBuf },
}

/// A mounted connection.
pub struct Connection {
    device: Device,
    ended: watch::Receiver<bool>,
}

impl Connection {
    /// Mounts on `path` and serves it from threads of its own; `nosuid` and `nodev` are added to `flags`. Blocks
    /// until the kernel has been answered.
    ///
    /// # Errors
    ///
    /// Any [`SessionError`]; nothing stays mounted then.
    pub fn open(
        adapter: Adapter,
        path: &Path,
        source: &str,
        flags: MsFlags,
        push: &OnceLock<Push>,
    ) -> Result<Connection, SessionError> {
        let device = OpenOptions::new().read(true).write(true).open(DEVICE);
        let device: File = device.map_err(|source| SessionError::NoDevice { source })?;
        let flags = flags | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        let options = format!(
            "fd={},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions,max_read={READ_MAX}",
            device.as_raw_fd()
        );
        mount(Some(source), path, Some(FS_TYPE), flags, Some(options.as_str()))
            .map_err(|error| SessionError::Mount { path: path.to_path_buf(), source: error.into() })?;
        let connection = Connection::serve(adapter, device, path, push);
        if connection.is_err() {
            // The mount is ours and nothing uses it yet.
            let _ = umount2(path, MntFlags::MNT_DETACH);
        }
        connection
    }

    fn serve(
        adapter: Adapter,
        device: File,
        path: &Path,
        push: &OnceLock<Push>,
    ) -> Result<Connection, SessionError> {
        let handshake = |source| SessionError::Handshake { source };
        let tree = adapter.tree();
        let untold = Arc::downgrade(&tree);
        let take_back = Box::new(move |ino| {
            if let Some(tree) = untold.upgrade() {
                tree.forget(ino, 1);
            }
        });
        let (door, fusers) = Door::new(device, take_back).map_err(handshake)?;
        door.open(THREADS).map_err(handshake)?;
        let mut config = fuser::Config::default();
        config.acl = fuser::SessionACL::All;
        config.n_threads = Some(THREADS);
        let session = fuser::Session::from_fd(adapter.through(&door), fusers, fuser::SessionACL::All, config);
        let session = session.inspect_err(|_| door.close()).map_err(handshake)?;
        // Not to keep the device open for longer than the connection lasts.
        let weak = Arc::downgrade(&door);
        let store: Push = Box::new(move |ino, offset, bytes| match weak.upgrade() {
            Some(door) => door.store(ino, offset, bytes),
            None => Err(io::ErrorKind::NotConnected.into()),
        });
        // Set once: a connection is opened once for each tree.
        let _ = push.set(store);
        drop_surplus(&tree, door.clone()).map_err(handshake)?;
        let (sender, ended) = watch::channel(false);
        std::thread::Builder::new()
            .name("fuse-session".into())
            .spawn(move || {
                if let Err(error) = session.run() {
                    tracing::debug!(error = %error, "the session ended with an error");
                }
                door.close();
                // Ends the thread that holds the device as well.
                tree.hand_surplus_to(None);
                sender.send_replace(true);
            })
            .map_err(handshake)?;
        let table = MountTable::of(None).map_err(handshake)?;
        let device = table.top(path).filter(|entry| entry.fs_type == FS_TYPE).map(|entry| entry.device);
        let device = device.ok_or_else(|| SessionError::Vanished { path: path.to_path_buf() })?;
        raise_read_ahead(device);
        Ok(Connection { device, ended })
    }

    pub fn device(&self) -> Device {
        self.device
    }

    /// Whether the kernel has closed the connection.
    pub fn has_ended(&self) -> bool {
        *self.ended.borrow()
    }

    /// Waits until the kernel has closed the connection. Safe to drop and to call again.
    pub async fn ended(&self) {
        // The sender goes only after the value is set, or with a session thread that died: an end as well.
        let _ = self.ended.clone().wait_for(|ended| *ended).await;
    }
}

/// Lets the kernel read further ahead than 128 KiB. Where it cannot be set, reading is slower, nothing else.
fn raise_read_ahead(device: Device) {
    let path = format!("/sys/class/bdi/{device}/read_ahead_kb");
    if let Err(error) = std::fs::write(&path, (READ_MAX / 1024).to_string()) {
        tracing::debug!(%device, error = %error, "read-ahead stays at the kernel's default");
    }
}
