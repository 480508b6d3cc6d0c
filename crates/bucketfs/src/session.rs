//! The connection to the kernel: mounted, served, handed on, ended.
//!
//! ```text
//!   mount(2) -> INIT answered -> serving -> ended: unmounted everywhere, or aborted
//!      | fails                    | ^
//!      v                          | '-- resumed: INIT as before, then what was left unanswered
//!   nothing left                  v                           ^
//!                    left or killed: the kernel waits --- a successor has the descriptors
//! ```
//!
//! The kernel keeps a connection for as long as something is mounted from it: a container's bind keeps it alive
//! after the host has unmounted. So a session does not end with the mount point but with the device's last word.
//! And it keeps it for as long as somebody has its device open, whoever that is: so a session does not end with its
//! process either, if the device and the journal (`journal.rs`) are also in other hands. Requests are read from that one
//! device and from no clone of it (`FUSE_DEV_IOC_CLONE`): only what was read from a descriptor that is still there
//! can be answered by another process. What must hold: no call here resolves a path *below* the mount, because this
//! process is the one that would have to answer; `/dev/fuse` is the only thing needed of the host.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tokio::sync::watch;

use crate::attr::Timestamp;
use crate::measure::Operations;
use crate::mountinfo::{Device, MountTable};

pub use crate::mountinfo::FS_TYPE;

use super::fuse::{Adapter, drop_surplus};
use super::inode::Eviction;
use super::journal::{Journal, JournalError, SessionHeader, Unanswered};
use super::read::Push;
use super::relay::Relay;
use super::wire;

/// Where the kernel's FUSE driver is asked for a connection.
pub const DEVICE: &str = "/dev/fuse";
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
    #[error("cannot write down what a successor must know")]
    Journal { source: JournalError },
    #[error("the kernel was promised something else by the process before")]
    Promised,
}

/// What a successor needs: the connection's device, and the journal.
#[derive(Debug)]
pub struct Handover {
    pub device: OwnedFd,
    pub journal: OwnedFd,
}

/// What the process that serves has at hand.
pub struct Serving<'a> {
    pub adapter: Adapter,
    pub journal: Arc<Journal>,
    pub push: &'a OnceLock<Push>,
}

/// How a file system is mounted.
pub struct Mounting<'a> {
    pub path: &'a Path,
    pub source: &'a str,
    pub flags: MsFlags,
    /// As in [`SessionHeader`].
    pub settings: String,
    /// As in [`SessionHeader`].
    pub staging: Option<String>,
    /// As in [`SessionHeader`].
    pub region: Option<String>,
    /// As in [`SessionHeader`].
    pub began: Timestamp,
}

/// A mounted connection.
pub struct Connection {
    device: Device,
    relay: Arc<Relay>,
    journal: Arc<Journal>,
    ended: watch::Receiver<bool>,
}

impl Connection {
    /// Mounts on a path and serves it from threads of its own; `nosuid` and `nodev` are added to the flags. Blocks
    /// until the kernel has been answered.
    ///
    /// # Errors
    ///
    /// Any [`SessionError`]; nothing stays mounted then.
    pub fn open(serving: Serving, mounting: Mounting) -> Result<Connection, SessionError> {
        let path = mounting.path;
        let device = OpenOptions::new().read(true).write(true).open(DEVICE);
        let device: File = device.map_err(|source| SessionError::NoDevice { source })?;
        let flags = mounting.flags | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        let options = format!(
            "fd={},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions,max_read={READ_MAX}",
            device.as_raw_fd()
        );
        mount(Some(mounting.source), path, Some(FS_TYPE), flags, Some(options.as_str()))
            .map_err(|error| SessionError::Mount { path: path.to_path_buf(), source: error.into() })?;
        let connection = Connection::replay_init(serving, device, mounting);
        if connection.is_err() {
            // The mount is ours and nothing uses it yet.
            let _ = umount2(path, MntFlags::MNT_DETACH);
        }
        connection
    }

    fn replay_init(serving: Serving, device: File, mounting: Mounting) -> Result<Connection, SessionError> {
        let Mounting { path, settings, staging, region, began, .. } = mounting;
        let journal = serving.journal.clone();
        let relay = Relay::new(device, journal.clone(), serving.adapter.callbacks()).map_err(handshake)?;
        relay.0.open(THREADS).map_err(handshake)?;
        let device = move || {
            let table = MountTable::of(None).map_err(handshake)?;
            let device = table.top(path).filter(|entry| entry.fs_type == FS_TYPE).map(|entry| entry.device);
            device.ok_or_else(|| SessionError::Vanished { path: path.to_path_buf() })
        };
        let connection = Connection::serve(serving, relay, device)?;
        raise_read_ahead(connection.device);
        let init = connection.relay.init().ok_or_else(no_greeting)?;
        let Device { major, minor } = connection.device;
        let (path, device) = (path.to_path_buf(), (major, minor));
        let head = SessionHeader { path, device, settings, staging, region, began: Some(began), init };
        journal.publish(&head).map_err(|source| SessionError::Journal { source })?;
        Ok(connection)
    }

    /// Goes on with the connection behind `device`, which a process before served as `head` says, and answers what it
    /// has `left`. Blocks until that is under way.
    ///
    /// # Errors
    ///
    /// [`SessionError::Vanished`] if it is not mounted there any more, [`SessionError::Promised`] if this version cannot
    /// keep what the kernel was promised; whoever waits for an answer still does.
    pub fn resume(
        serving: Serving,
        device: OwnedFd,
        head: &SessionHeader,
        left: Vec<Unanswered>,
    ) -> Result<Connection, SessionError> {
        let number = Device { major: head.device.0, minor: head.device.1 };
        let table = MountTable::of(None).map_err(handshake)?;
        let is_there = table.0.iter().any(|entry| entry.device == number && entry.fs_type == FS_TYPE);
        if !is_there {
            return Err(SessionError::Vanished { path: head.path.clone() });
        }
        let can_resend = serving.adapter.wants_resend() && wire::can_resend(&head.init.answer);
        let callbacks = serving.adapter.callbacks();
        let relay = Relay::new(device.into(), serving.journal.clone(), callbacks).map_err(handshake)?;
        relay.0.replay_init(&head.init).map_err(handshake)?;
        let connection = Connection::serve(serving, relay, || Ok(number))?;
        let answered = connection.relay.init().ok_or_else(no_greeting);
        let kept = answered.and_then(|init| {
            let kept = wire::promises(&init.answer) == wire::promises(&head.init.answer);
            kept.then_some(()).ok_or(SessionError::Promised)
        });
        tracing::debug!(requests = left.len(), resend = can_resend, "goes on where another process ended");
        kept.and_then(|()| connection.relay.resume(THREADS, left, can_resend).map_err(handshake))
            .inspect_err(|_| connection.relay.close())?;
        Ok(connection)
    }

    /// What was answered since this process serves, and how long it took.
    pub fn operations(&self) -> Arc<Operations> {
        self.relay.operations()
    }

    /// Has `fuser` serve what comes through a relay that is open.
    fn serve(
        serving: Serving,
        (relay, fusers): (Arc<Relay>, OwnedFd),
        device: impl FnOnce() -> Result<Device, SessionError>,
    ) -> Result<Connection, SessionError> {
        let Serving { adapter, journal, push } = serving;
        let tree = adapter.tree();
        let mut config = fuser::Config::default();
        config.acl = fuser::SessionACL::All;
        config.n_threads = Some(THREADS);
        let session =
            fuser::Session::from_fd(adapter.through(&relay), fusers, fuser::SessionACL::All, config);
        let session = session.inspect_err(|_| relay.close()).map_err(handshake)?;
        // Not to keep the device open for longer than the connection lasts.
        let weak = Arc::downgrade(&relay);
        let store: Push = Box::new(move |ino, offset, bytes| match weak.upgrade() {
            Some(relay) => relay.store(ino, offset, bytes),
            None => Err(io::ErrorKind::NotConnected.into()),
        });
        // Set once: a connection is opened once for each tree.
        let _ = push.set(store);
        let weak = Arc::downgrade(&relay);
        tree.invalidate_by(Box::new(move |ino, Eviction { parent, name }| {
            let Some(relay) = weak.upgrade() else { return };
            for outcome in [relay.drop_content(ino), relay.drop_name(parent, &name)] {
                if let Err(error) = outcome {
                    tracing::debug!(ino, error = %error, "the kernel does not know what it is to drop");
                }
            }
        }));
        drop_surplus(&tree, relay.clone()).map_err(handshake)?;
        let (sender, ended) = watch::channel(false);
        let closing = relay.clone();
        std::thread::Builder::new()
            .name("fuse-session".into())
            .spawn(move || {
                if let Err(error) = session.run() {
                    tracing::debug!(error = %error, "the session ended with an error");
                }
                closing.close();
                // Ends the thread that holds the device as well.
                tree.hand_surplus_to(None);
                sender.send_replace(true);
            })
            .map_err(handshake)?;
        Ok(Connection { device: device()?, relay, journal, ended })
    }

    /// Takes no request any more, waits for at most `limit` until those taken are answered, and leaves the rest to a
    /// successor; how many that are. Blocks.
    pub fn leave(&self, limit: Duration) -> usize {
        self.relay.leave(limit)
    }

    /// What a successor needs, for whoever holds it until there is one.
    ///
    /// # Errors
    ///
    /// When this process may have no more descriptors.
    pub fn handover(&self) -> io::Result<Handover> {
        let device = self.relay.as_fd().try_clone_to_owned()?;
        Ok(Handover { device, journal: self.journal.as_fd().try_clone_to_owned()? })
    }

    /// How often the session was resumed.
    pub fn resumed(&self) -> u64 {
        self.journal.generation()
    }

    /// Requests of the kernel that are in hand.
    pub fn taken(&self) -> u64 {
        self.relay.taken()
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

fn handshake(source: io::Error) -> SessionError {
    SessionError::Handshake { source }
}

fn no_greeting() -> SessionError {
    handshake(io::ErrorKind::TimedOut.into())
}

/// Lets the kernel read further ahead than 128 KiB. Where it cannot be set, reading is slower, nothing else.
fn raise_read_ahead(device: Device) {
    let path = format!("/sys/class/bdi/{device}/read_ahead_kb");
    if let Err(error) = std::fs::write(&path, (READ_MAX / 1024).to_string()) {
        tracing::debug!(%device, error = %error, "read-ahead stays at the kernel's default");
    }
}
