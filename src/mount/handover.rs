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
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use super::detach;
use crate::error::Chain;
use crate::fs::{self, Handover};
use crate::systemd;

/// What the two descriptors of a mount are kept as.
const DEVICE: &str = "device.";
const LEDGER: &str = "ledger.";

/// Has the session of the mount `name` kept beyond the end of this process, where somebody keeps such things.
pub fn keep(name: &str, session: &fs::Session) {
    if !systemd::keeps() {
        return;
    }
    let_go(name);
    match session.handover() {
        Ok(Handover { device, ledger }) => {
            systemd::keep(&kept_as(DEVICE, name), device.as_fd());
            systemd::keep(&kept_as(LEDGER, name), ledger.as_fd());
        }
        Err(error) => {
            tracing::warn!(mount = name, error = %error, "this mount does not outlive the process");
        }
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
    let (mut devices, mut ledgers) = (BTreeMap::new(), BTreeMap::new());
    for (name, descriptor) in systemd::kept() {
        if let Some(mount) = name.strip_prefix(DEVICE) {
            devices.insert(mount.to_owned(), descriptor);
        } else if let Some(mount) = name.strip_prefix(LEDGER) {
            ledgers.insert(mount.to_owned(), descriptor);
        }
    }
    let pair = |(name, device): (String, OwnedFd)| {
        let ledger = ledgers.remove(&name)?;
        Some((name, Handover { device, ledger }))
    };
    Sessions(devices.into_iter().filter_map(pair).collect())
}

/// Sessions that nobody serves yet.
#[derive(Debug, Default)]
pub struct Sessions(BTreeMap<String, Handover>);

impl Sessions {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// That of the mount `name`.
    pub fn take(&mut self, name: &str) -> Option<Handover> {
        self.0.remove(&plain(name))
    }

    /// Ends all that nobody has taken, and takes their mounts away.
    pub fn end(self) {
        for (name, handover) in self.0 {
            tracing::info!(mount = name, "a session of a process before is not wanted any more");
            match fs::path_of(handover) {
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
