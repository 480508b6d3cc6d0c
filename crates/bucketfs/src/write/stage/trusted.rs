//! Directories whose content root believes.
//!
//! What must hold: nobody else can put anything into such a directory, take it away or put another in its place. A
//! sticky bit keeps others from the last two, never from the first.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const STICKY: u32 = 0o1000;
/// May be written by the group or by others.
const OPEN: u32 = 0o022;

/// A directory is not ours alone.
#[derive(Debug, thiserror::Error)]
#[error("{path:?} is {what}, expected a directory of uid {wanted} that nobody else may write to")]
pub struct NotTrusted {
    path: PathBuf,
    what: String,
    wanted: u32,
}

impl From<NotTrusted> for io::Error {
    fn from(error: NotTrusted) -> io::Error {
        io::Error::new(io::ErrorKind::PermissionDenied, error)
    }
}

/// Makes sure that `path` is a directory of ours alone, and that none of those above it can be exchanged; makes it if it
/// is not there.
///
/// # Errors
///
/// [`NotTrusted`]; that of making it or of looking at it.
pub fn private_directory(path: &Path) -> io::Result<()> {
    let path = std::path::absolute(path)?;
    if let Some(there) = path.ancestors().skip(1).find(|above| above.exists()) {
        // As it is written, because a link of somebody else's may lead elsewhere soon, and as it is.
        for above in there.ancestors().chain(there.canonicalize()?.ancestors()) {
            check(above, Place::Above)?;
        }
    }
    DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
    check(&path, Place::Itself)
}

/// Makes sure that `path`, which is in a directory of ours, is one itself.
///
/// # Errors
///
/// [`NotTrusted`]; that of looking at it.
pub fn inner_directory(path: &Path) -> io::Result<()> {
    check(path, Place::Itself)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Itself,
    Above,
}

fn check(path: &Path, place: Place) -> io::Result<()> {
    // Not what a link leads to.
    let found = std::fs::symlink_metadata(path)?;
    let wanted = nix::unistd::geteuid().as_raw();
    // What is root's is trusted by everybody.
    let is_ours = [wanted, 0].contains(&found.uid());
    let is_open = found.mode() & OPEN != 0;
    let is_closed = match place {
        Place::Itself => found.is_dir() && !is_open,
        // Where the sticky bit is set others cannot exchange what is not theirs.
        Place::Above => found.is_symlink() || !is_open || found.mode() & STICKY != 0,
    };
    if is_ours && is_closed {
        return Ok(());
    }
    let what = match found.file_type() {
        kind if kind.is_dir() => {
            format!("a directory of uid {} with mode {:04o}", found.uid(), found.mode() & 0o7777)
        }
        kind if kind.is_symlink() => "a symbolic link".to_string(),
        _ => "no directory".to_string(),
    };
    Err(NotTrusted { path: path.to_path_buf(), what, wanted }.into())
}

/// A new file at `path`; what a process that died has left there goes.
///
/// # Errors
///
/// That of making it.
pub fn create(path: &Path) -> io::Result<File> {
    let new = || opening().create_new(true).mode(0o600).open(path);
    match new() {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            std::fs::remove_file(path)?;
            new()
        }
        outcome => outcome,
    }
}

/// The file at `path`, to be read and written.
///
/// # Errors
///
/// `ELOOP` for a link; that of opening it.
pub fn open(path: &Path) -> io::Result<File> {
    opening().open(path)
}

fn opening() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC);
    options
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn refusal(path: &Path) -> String {
        private_directory(path).expect_err("it is not ours alone").to_string()
    }

    fn set_mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("changed");
    }

    #[test]
    fn a_directory_that_others_may_write_to_is_refused_and_a_sticky_bit_is_no_excuse() {
        let scratch = tempfile::tempdir().expect("a directory");
        let path = scratch.path().join("a/staging");
        private_directory(&path).expect("made");
        assert_eq!(std::fs::metadata(&path).expect("made").mode() & 0o7777, 0o700);
        for mode in [0o1777, 0o770, 0o707] {
            set_mode(&path, mode);
            let said = refusal(&path);
            assert!(said.contains(&format!("with mode {mode:04o}")), "{said}");
        }
        set_mode(&path, 0o755);
        private_directory(&path).expect("others may look");
        std::os::unix::fs::chown(&path, Some(65534), None).expect("given away");
        assert!(refusal(&path).contains("a directory of uid 65534"));
    }

    #[test]
    fn what_is_above_it_cannot_be_exchanged() {
        let scratch = tempfile::tempdir().expect("a directory");
        let (above, path) = (scratch.path().join("above"), scratch.path().join("above/staging"));
        private_directory(&path).expect("made");
        set_mode(&above, 0o1777);
        private_directory(&path).expect("as in /tmp");
        set_mode(&above, 0o777);
        assert!(refusal(&path).contains("above"));
        set_mode(&above, 0o755);
        let link = scratch.path().join("link");
        symlink(&path, &link).expect("a link");
        assert!(refusal(&link).contains("a symbolic link"));
        private_directory(&scratch.path().join("link/inner"))
            .expect("a link above it leads to what is checked");
    }

    #[test]
    fn a_link_is_neither_followed_nor_written_over() {
        let scratch = tempfile::tempdir().expect("a directory");
        let (target, link) = (scratch.path().join("target"), scratch.path().join("link"));
        std::fs::write(&target, "theirs").expect("written");
        symlink(&target, &link).expect("a link");
        assert_eq!(open(&link).expect_err("a link").raw_os_error(), Some(libc::ELOOP));
        create(&link).expect("made anew");
        assert_eq!(std::fs::read(&target).expect("there"), b"theirs");
        assert!(!std::fs::symlink_metadata(&link).expect("made").is_symlink());
    }
}
