//! A FUSE connection as the kernel shows it: what waits in it, and how it is ended from outside.
//!
//! What must hold: nothing here touches a file below a mount, so none of it can hang on one; what is not mapkeeper's is
//! unmounted where that is asked for and never aborted.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::mountinfo::{Device, FS_TYPE, MountTable};

/// Where the kernel shows its FUSE connections.
const CONNECTIONS: &str = "/sys/fs/fuse/connections";
/// Most layers that are ever taken from one path: more is a mistake of somebody's, and an endless loop of ours.
const LAYERS_MAX: usize = 32;

/// Why a mount could not be taken away.
#[derive(Debug, thiserror::Error)]
pub enum DetachError {
    #[error("cannot read the list of mounts")]
    Table { source: io::Error },
    #[error("cannot unmount {path:?}")]
    Unmount { path: PathBuf, source: io::Error },
    #[error("{path:?} cannot be reached: {over} is mounted over it")]
    Hidden { path: PathBuf, over: String },
    #[error("{path:?} still has something mounted after {LAYERS_MAX} layers were taken away")]
    Bottomless { path: PathBuf },
}

/// Takes away every layer mounted at `path` lazily, and ends the FUSE connections that are mapkeeper's, so that nobody
/// waits for them any more. A connection is aborted only once its mount is away: one that stays goes on serving whoever
/// holds it. No layer is no error.
///
/// # Errors
///
/// [`DetachError::Hidden`] when something is mounted over a directory above it, or when the kernel refuses to unmount.
pub fn detach(path: &Path) -> Result<(), DetachError> {
    take_away(path, None)
}

/// Takes away what is mounted over `device` at `path`, whatever it is, and leaves `device` as it is.
///
/// # Errors
///
/// As [`detach`].
pub fn uncover(path: &Path, device: Device) -> Result<(), DetachError> {
    take_away(path, Some(device))
}

fn take_away(path: &Path, down_to: Option<Device>) -> Result<(), DetachError> {
    for _ in 0..LAYERS_MAX {
        let table = MountTable::of(None).map_err(|source| DetachError::Table { source })?;
        let Some(listed) = table.top(path) else { return Ok(()) };
        let entry = table.cover(listed).unwrap_or(listed);
        // By its path, something else would be unmounted.
        if entry.path != path {
            return Err(DetachError::Hidden { path: path.to_path_buf(), over: entry.to_string() });
        }
        if Some(entry.device) == down_to {
            return Ok(());
        }
        // Opened before: once it is unmounted, its number may be that of another mount.
        let aborts = (entry.fs_type == FS_TYPE).then(|| aborts(entry.device));
        umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)
            .map_err(|error| DetachError::Unmount { path: path.to_path_buf(), source: error.into() })?;
        let aborted = aborts.map(|aborts| aborts?.map_or(Ok(()), |mut file| file.write_all(b"1")));
        if let Some(Err(error)) = aborted {
            tracing::warn!(device = %entry.device, error = %error, "cannot abort the connection");
        }
    }
    Err(DetachError::Bottomless { path: path.to_path_buf() })
}

/// Ends a FUSE connection for everybody who uses it: waiting calls fail at once. Already ended is no error.
///
/// # Errors
///
/// When the kernel's list of connections cannot be had.
pub fn abort(device: Device) -> io::Result<()> {
    aborts(device)?.map_or(Ok(()), |mut file| file.write_all(b"1"))
}

/// The file that ends the connection of `device` when it is written to; `None` where it has ended.
fn aborts(device: Device) -> io::Result<Option<std::fs::File>> {
    match std::fs::File::options().write(true).open(connection(device)?.join("abort")) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Requests that the kernel has sent, or wants to send, to the server of `device`, and that are not answered.
///
/// # Errors
///
/// When there is no such connection.
pub fn requests_waiting(device: Device) -> io::Result<u64> {
    let text = std::fs::read_to_string(connection(device)?.join("waiting"))?;
    text.trim()
        .parse()
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, format!("waiting is {text:?}")))
}

/// The kernel's directory of a connection; the list is mounted first where nobody has.
fn connection(device: Device) -> io::Result<PathBuf> {
    if MountTable::of(None)?.top(Path::new(CONNECTIONS)).is_none() {
        let no_data: Option<&str> = None;
        mount(Some("fusectl"), CONNECTIONS, Some("fusectl"), MsFlags::empty(), no_data)?;
    }
    Ok(Path::new(CONNECTIONS).join(device.minor.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detaching_where_nothing_is_mounted_is_no_error() {
        let scratch = tempfile::tempdir().expect("a directory");
        detach(scratch.path()).expect("nothing to do");
    }
}
