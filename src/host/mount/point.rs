//! The mount point: an empty directory on which nothing is mounted.
//!
//! What must hold: no file call is made at a path where something is mounted, which might hang or be our own.

use std::io;
use std::path::{Path, PathBuf};

use super::error::AttachError;
use bucketfs::mountinfo::MountTable;

/// Symbolic links followed in one path at the most, as in the kernel.
const LINKS_MAX: usize = 40;

/// Whether a mount point that does not exist is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissingDirectory {
    Create,
    Refuse,
}

/// The path as the kernel will name it: symbolic links followed, without touching what is mounted where they lead.
pub(super) fn resolved(path: &Path) -> Result<PathBuf, AttachError> {
    let unusable = |source| AttachError::Unusable { path: path.to_path_buf(), source };
    let mut at = path.to_path_buf();
    for _ in 0..LINKS_MAX {
        if let (Some(parent), Some(name)) = (at.parent(), at.file_name()) {
            match parent.canonicalize() {
                Ok(parent) => at = parent.join(name),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(at),
                Err(error) => return Err(unusable(error)),
            }
        }
        refuse_mounted(&at)?;
        match std::fs::read_link(&at) {
            Ok(target) => at = at.parent().unwrap_or(Path::new("/")).join(target),
            // No link, or nothing there.
            Err(_) => return Ok(at),
        }
    }
    Err(unusable(io::Error::from_raw_os_error(libc::ELOOP)))
}

/// Makes sure that `path` is an empty directory on which nothing is mounted; whether it had to be made.
pub(super) fn prepare(path: &Path, missing: MissingDirectory) -> Result<bool, AttachError> {
    refuse_mounted(path)?;
    let unusable = |source| AttachError::Unusable { path: path.to_path_buf(), source };
    match std::fs::metadata(path) {
        Ok(found) if !found.is_dir() => Err(AttachError::NotDirectory { path: path.to_path_buf() }),
        Ok(_) => match std::fs::read_dir(path).map_err(unusable)?.next() {
            None => Ok(false),
            // Whatever is there, even if it cannot be read: something is.
            Some(_) => Err(AttachError::NotEmpty { path: path.to_path_buf() }),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound && missing == MissingDirectory::Create => {
            std::fs::create_dir_all(path).map_err(unusable)?;
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(AttachError::Absent { path: path.to_path_buf() })
        }
        Err(error) => Err(unusable(error)),
    }
}

fn refuse_mounted(path: &Path) -> Result<(), AttachError> {
    let table = MountTable::of(None).map_err(|source| AttachError::Table { source })?;
    match table.top(path) {
        None => Ok(()),
        Some(found) => Err(AttachError::AlreadyMounted {
            path: path.to_path_buf(),
            found: found.source.clone(),
            fs_type: found.fs_type.clone(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Advise, Exit};

    #[test]
    fn a_mount_point_is_an_empty_directory() {
        let scratch = tempfile::tempdir().expect("a directory");
        let empty = scratch.path().join("empty");
        assert!(matches!(prepare(&empty, MissingDirectory::Refuse), Err(AttachError::Absent { .. })));
        assert!(prepare(&empty, MissingDirectory::Create).expect("made"));
        assert!(!prepare(&empty, MissingDirectory::Refuse).expect("there"));
        assert!(matches!(
            prepare(scratch.path(), MissingDirectory::Create),
            Err(AttachError::NotEmpty { .. })
        ));
        let file = empty.join("file");
        std::fs::write(&file, "").expect("written");
        assert!(matches!(prepare(&file, MissingDirectory::Create), Err(AttachError::NotDirectory { .. })));
        let below = file.join("below");
        assert!(matches!(prepare(&below, MissingDirectory::Create), Err(AttachError::Unusable { .. })));
    }

    #[test]
    fn a_place_where_something_is_mounted_is_refused_by_name() {
        let error = prepare(Path::new("/proc"), MissingDirectory::Create).expect_err("proc is mounted there");
        assert_eq!(error.to_string(), "\"proc\" (proc) is already mounted on \"/proc\"");
        assert_eq!(error.exit(), Exit::AlreadyMounted);
        assert_eq!(error.hint().as_deref(), Some("unmount it first: umount /proc; or mount elsewhere"));
    }
}
