//! The runtime directory: claimed by one agent, which publishes its document there.
//!
//! What must hold: two agents never hold the same directory; a reader sees a whole document.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use super::document::Document;
use super::report::{FILE, Report, Standing, read};
use crate::error::{Advise, Exit};
use crate::lock;

const LOCK: &str = "agent.lock";

/// The directory that belongs to one running agent.
///
/// It is locked as long as this value lives, so that two agents never look after the same host.
#[derive(Debug)]
pub struct RuntimeDir {
    path: PathBuf,
    _lock: Flock<fs::File>,
}

/// Why the runtime directory is not ours.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeDirError {
    #[error("another agent is running with the runtime directory {path:?}")]
    Taken { path: PathBuf },
    #[error("cannot use the runtime directory {path:?}")]
    Unusable { path: PathBuf, source: io::Error },
}

impl Advise for RuntimeDirError {
    fn hint(&self) -> Option<String> {
        match self {
            RuntimeDirError::Taken { .. } => Some(
                "one agent looks after all mounts of a host; systemctl stop mapkeeper ends it".to_owned(),
            ),
            RuntimeDirError::Unusable { .. } => {
                Some("run as root; the directory and those above it have to be root's alone".to_owned())
            }
        }
    }

    fn exit(&self) -> Exit {
        match self {
            RuntimeDirError::Taken { .. } => Exit::AlreadyRunning,
            RuntimeDirError::Unusable { .. } => Exit::Degraded,
        }
    }
}

impl RuntimeDir {
    /// Takes the directory at `path`, creating it (mode 0755) if it is absent.
    ///
    /// # Errors
    ///
    /// [`RuntimeDirError::Taken`] while another process holds it; [`RuntimeDirError::Unusable`] also where others may
    /// write to it.
    pub fn claim(path: &Path) -> Result<RuntimeDir, RuntimeDirError> {
        let unusable = |source| RuntimeDirError::Unusable { path: path.to_owned(), source };
        fs::DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(unusable)?;
        let file = path.join(LOCK);
        // Of a version before, which made it everybody's: not whoever holds it counts, but an agent that lives.
        let is_ambiguous = lock::is_open_to_others(&file).map_err(unusable)?;
        if is_ambiguous
            && matches!(read(path), Ok(Report { standing: Standing::Fresh | Standing::Stale { .. }, .. }))
        {
            return Err(RuntimeDirError::Taken { path: path.to_owned() });
        }
        match Flock::lock(lock::open(&file).map_err(unusable)?, FlockArg::LockExclusiveNonblock) {
            // Containers are signed with it, so it has one spelling.
            Ok(lock) => Ok(RuntimeDir { path: path.canonicalize().map_err(unusable)?, _lock: lock }),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => Err(RuntimeDirError::Taken { path: path.to_owned() }),
            Err((_, errno)) => Err(unusable(errno.into())),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces the document, atomically: a reader sees the old one or the new one, whole.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn publish(&self, document: &Document) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(document).map_err(io::Error::other)?;
        let fresh = self.path.join(format!("{FILE}.new"));
        let mut file =
            fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o644).open(&fresh)?;
        file.set_permissions(fs::Permissions::from_mode(0o644))?;
        file.write_all(&text)?;
        drop(file);
        fs::rename(&fresh, self.path.join(FILE))
    }
}
