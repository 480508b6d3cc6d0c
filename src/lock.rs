//! Lock files that nobody else can hold: whoever can open a file can lock it, and keep it locked.
//!
//! What must hold: the file is ours alone (0600), no link, and lies where nobody else can put another in its place.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::unistd::geteuid;

/// Opens the lock file at `path`, which is made if it is absent, and made anew if others may have opened it.
///
/// # Errors
///
/// `PermissionDenied`, naming the directory, where others may write to it or to one above it; else those of the file
/// system.
pub fn open(path: &Path) -> io::Result<File> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    is_closed(&directory.canonicalize()?)?;
    if is_open_to_others(path)? {
        fs::remove_file(path)?;
    }
    let mut options = File::options();
    options.create(true).truncate(false).write(true).mode(0o600).custom_flags(nix::libc::O_NOFOLLOW);
    options.open(path)
}

/// Whether somebody else may have opened the lock file at `path`, and so may hold it.
///
/// # Errors
///
/// Those of the file system. No file is none.
pub fn is_open_to_others(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(found) => Ok(!found.is_file() || found.uid() != geteuid().as_raw() || found.mode() & 0o077 != 0),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether nobody but root and this user can change what lies in `directory`, a path without links.
fn is_closed(directory: &Path) -> io::Result<()> {
    for (height, place) in directory.ancestors().enumerate() {
        let found = fs::metadata(place)?;
        let is_ours = found.uid() == 0 || found.uid() == geteuid().as_raw();
        let is_writable = found.mode() & 0o002 != 0 || (found.mode() & 0o020 != 0 && found.gid() != 0);
        // In a sticky directory nobody can put anything in the place of what is ours, but make what is not there yet.
        let is_kept = height > 0 && found.mode() & 0o1000 != 0;
        if !is_ours || (is_writable && !is_kept) {
            let text = format!("others may write to {place:?}");
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn set(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_lock_is_its_owners_alone_also_if_it_was_everybodys_before() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("lock");
        open(&path).unwrap();
        let first = fs::metadata(&path).unwrap();
        assert_eq!(first.mode() & 0o777, 0o600);
        open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().ino(), first.ino(), "one that is right stays");
        // Whoever has opened it by then still has it open: another file takes its place.
        set(&path, 0o644);
        let held = File::open(&path).unwrap();
        open(&path).unwrap();
        let now = fs::metadata(&path).unwrap();
        assert_eq!(now.mode() & 0o777, 0o600);
        assert_ne!(now.ino(), held.metadata().unwrap().ino());
        fs::remove_file(&path).unwrap();
        let victim = scratch.path().join("victim");
        symlink(&victim, &path).unwrap();
        open(&path).unwrap();
        assert!(!victim.exists() && fs::symlink_metadata(&path).unwrap().is_file());
    }

    #[test]
    fn a_directory_that_others_may_write_to_holds_no_lock() {
        let scratch = tempfile::tempdir().unwrap();
        let inner = scratch.path().join("a/b");
        fs::create_dir_all(&inner).unwrap();
        let lock = inner.join("lock");
        for (place, mode, is_refused) in [
            (&*inner, 0o1777, true),
            (&inner, 0o757, true),
            (scratch.path(), 0o757, true),
            (scratch.path(), 0o1777, false),
        ] {
            let before = fs::metadata(place).unwrap().permissions().mode();
            set(place, mode);
            let opened = open(&lock);
            assert_eq!(opened.is_err(), is_refused, "{place:?} {mode:o}: {opened:?}");
            if let Err(error) = opened {
                assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
                assert!(error.to_string().starts_with("others may write to "), "{error}");
            }
            set(place, before);
        }
    }
}
