//! The directory that a bucket is, and how the kernel is asked for what is in it.
//!
//! What must hold: nothing outside the directory is reached, whatever a path or a link in it says.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{self, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::error::StoreError;

/// Beginning of the names of files that are being uploaded.
pub(super) const UPLOADING: &str = ".mapkeeper-s3-";

/// No link is followed.
pub(super) const LINKS_NOWHERE: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS);
/// A link is followed to what is below the directory.
pub(super) const LINKS_INSIDE: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS);

/// The directory.
#[derive(Debug)]
pub(super) struct Root(OwnedFd);

impl Root {
    pub fn open(path: &Path) -> io::Result<Self> {
        let root = fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self(root))
    }

    /// Opens `path`, in the way that `resolve` allows.
    pub fn beneath(&self, path: &str, flags: OFlags, resolve: ResolveFlags) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlags::CLOEXEC;
        loop {
            // EAGAIN: something was renamed while the kernel looked; the answer could have been wrong.
            match fs::openat2(&self.0, path, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                answer => return answer,
            }
        }
    }
}

pub(super) fn file_error<E: Into<io::Error>>(action: &'static str, key: &str) -> impl Fn(E) -> StoreError {
    move |source| StoreError::File { action, key: key.to_owned(), source: source.into() }
}
