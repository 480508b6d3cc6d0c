//! Sessions in other hands: kept by whoever outlives this process, and taken over from it.
//!
//! ```text
//!   mounted --keep--> held by systemd, or by our supervisor --process ends--> taken by the next one
//!                          '-- let go: unmounted, and nobody is to go on
//! ```
//!
//! What must hold: what is kept under a name is one session, the newest; what was taken and cannot be resumed is let
//! go, so that its connection ends.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::MemfdFlags;

use crate::error::Chain;
use crate::host::systemd;
use bucketfs::Handover;
use bucketfs::connection::detach;

/// What the two descriptors of a mount are kept as.
const DEVICE: &str = "device.";
const LEDGER: &str = "ledger.";
/// What the settings are kept as under which the sessions were begun.
const SETTINGS: &str = "settings";
/// What a listening socket is kept as.
const LISTENER: &str = "listener";
/// Most bytes of settings that are read.
const SETTINGS_MAX: u64 = 16 << 20;

/// Has the session of the mount `name` kept beyond the end of this process, where somebody keeps such things.
pub fn keep(name: &str, session: &bucketfs::Session) {
    if !systemd::keeps() {
        return;
    }
    let_go(name);
    match session.handover() {
        Ok(Handover { device, journal }) => {
            systemd::keep(&kept_as(DEVICE, name), device.as_fd());
            systemd::keep(&kept_as(LEDGER, name), journal.as_fd());
        }
        Err(error) => {
            tracing::warn!(mount = name, error = %error, "this mount does not outlive the process");
        }
    }
}

/// Has a socket kept at which this process listens: whoever comes after serves at the same address.
pub fn keep_listener(listener: &TcpListener) {
    if systemd::keeps() {
        systemd::let_go(LISTENER);
        systemd::keep(LISTENER, listener.as_fd());
    }
}

/// Nobody comes after who would listen there.
pub fn let_go_listener() {
    systemd::let_go(LISTENER);
}

/// Has settings kept in memory beside the sessions, for a successor that cannot have them from where they are. In the
/// place of those before.
pub fn keep_settings(settings: &[u8]) {
    if !systemd::keeps() {
        return;
    }
    let written = || -> io::Result<File> {
        let mut file = File::from(rustix::fs::memfd_create("mapkeeper-settings", MemfdFlags::CLOEXEC)?);
        file.write_all(settings)?;
        Ok(file)
    };
    match written() {
        Ok(file) => {
            systemd::let_go(SETTINGS);
            systemd::keep(SETTINGS, file.as_fd());
        }
        Err(error) => tracing::warn!(error = %error, "a successor cannot have these settings from here"),
    }
}

/// Has nothing of the mount `name` kept any more.
pub fn let_go(name: &str) {
    for part in [DEVICE, LEDGER] {
        systemd::let_go(&kept_as(part, name));
    }
}

/// Ends a session that cannot go on: has it kept no more, and takes what is mounted on `path` away. Blocks.
pub fn end(name: &str, path: &Path) {
    let_go(name);
    if let Err(error) = detach(path) {
        tracing::error!(mount = name, error = %Chain(&error), "cannot take the mount away");
    }
}

/// The sessions that processes before have left, by what their mounts were called. To be asked once, before any other
/// process is started.
pub fn left() -> Sessions {
    let (mut devices, mut journals) = (BTreeMap::new(), BTreeMap::new());
    let (mut settings, mut listener) = (None, None);
    for (name, descriptor) in systemd::kept() {
        if let Some(mount) = name.strip_prefix(DEVICE) {
            devices.insert(mount.to_owned(), descriptor);
        } else if let Some(mount) = name.strip_prefix(LEDGER) {
            journals.insert(mount.to_owned(), descriptor);
        } else if name == SETTINGS {
            settings = Some(descriptor);
        } else if name == LISTENER {
            listener = Some(TcpListener::from(descriptor));
        }
    }
    let pair = |(name, device): (String, OwnedFd)| {
        let journal = journals.remove(&name)?;
        Some((name, Handover { device, journal }))
    };
    Sessions { by_name: devices.into_iter().filter_map(pair).collect(), settings, listener }
}

/// Sessions that nobody serves yet.
#[derive(Debug, Default)]
pub struct Sessions {
    by_name: BTreeMap<String, Handover>,
    settings: Option<OwnedFd>,
    listener: Option<TcpListener>,
}

impl Sessions {
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// The settings under which they were begun, if they were kept and there are sessions to go on with.
    pub fn settings(&self) -> Option<Vec<u8>> {
        let kept = self.settings.as_ref().filter(|_| !self.is_empty())?;
        let mut file = File::from(kept.try_clone().ok()?);
        file.rewind().ok()?;
        let mut bytes = Vec::new();
        file.take(SETTINGS_MAX).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }

    /// The socket at which the process before listened.
    pub fn listener(&mut self) -> Option<TcpListener> {
        self.listener.take()
    }

    /// That of the mount `name`.
    pub fn take(&mut self, name: &str) -> Option<Handover> {
        self.by_name.remove(&plain(name))
    }

    /// Ends all that nobody has taken, and takes their mounts away.
    pub fn end(self) {
        for (name, handover) in self.by_name {
            tracing::info!(mount = name, "a session of a process before is not wanted any more");
            match bucketfs::path_of(handover) {
                Some(path) => end(&name, &path),
                None => let_go(&name),
            }
        }
    }
}

fn kept_as(part: &str, name: &str) -> String {
    format!("{part}{}", plain(name))
}

/// Systemd takes printed ASCII without colons.
fn plain(name: &str) -> String {
    let plain = |letter: char| if letter.is_ascii_graphic() && letter != ':' { letter } else { '_' };
    name.chars().map(plain).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_kept_in_letters_that_systemd_takes() {
        assert_eq!(kept_as(DEVICE, "maps"), "device.maps");
        assert_eq!(kept_as(LEDGER, "karten:süd 1"), "ledger.karten_s_d_1");
    }
}
