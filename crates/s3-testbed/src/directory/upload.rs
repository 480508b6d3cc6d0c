//! A file that gets its name only when it is whole.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;

use rustix::fs::{self, AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::beneath::UPLOADING;
use crate::object::{Content, FRAME_BYTES};

/// A file that is not yet under its name. Dropped, it is gone.
pub(super) struct Upload<'d> {
    directory: &'d OwnedFd,
    name: String,
    pub file: File,
}

impl<'d> Upload<'d> {
    pub fn create(directory: &'d OwnedFd, number: u64) -> Result<Self, Errno> {
        let name = format!("{UPLOADING}{}-{number}", std::process::id());
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let fd = fs::openat(directory, &name, flags, Mode::from_raw_mode(0o644))?;
        Ok(Self { directory, name, file: File::from(fd) })
    }

    pub fn move_to(self, name: &str) -> Result<File, Errno> {
        fs::renameat(self.directory, &self.name, self.directory, name)?;
        self.file.try_clone().map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
    }
}

impl Drop for Upload<'_> {
    fn drop(&mut self) {
        // After `move_to` there is nothing of this name; before it, what is left behind is no key and disturbs nobody.
        let _ = fs::unlinkat(self.directory, &self.name, AtFlags::empty());
    }
}

pub(super) fn copy(content: &Content, mut to: &File) -> io::Result<()> {
    if let Content::File(from) = content {
        let mut offset = 0;
        while offset < from.size() {
            let piece = from.read(offset, FRAME_BYTES.min(from.size() - offset))?;
            offset += piece.len() as u64;
            to.write_all(&piece)?;
        }
        return Ok(());
    }
    let mut offset = 0;
    loop {
        let piece = content.piece(offset, FRAME_BYTES);
        if piece.is_empty() {
            return Ok(());
        }
        offset += piece.len() as u64;
        to.write_all(&piece)?;
    }
}
