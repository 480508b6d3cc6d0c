//! Files that appear whole or not at all, below a root that is `/` but in tests.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Whether a step had to do anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Made,
    /// It was already as it should be, and was not touched.
    None,
}

/// The place of the absolute `path` below `root`.
pub(super) fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// What is needed beside the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Attributes {
    pub mode: u32,
    /// User and group; `None`: whoever writes.
    pub owner: Option<(u32, u32)>,
}

/// Whether the file is there with this content and these attributes.
pub(super) fn is_right(path: &Path, content: &[u8], attributes: Attributes) -> io::Result<bool> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let owned = attributes.owner.is_none_or(|owner| owner == (metadata.uid(), metadata.gid()));
    Ok(metadata.is_file()
        && owned
        && metadata.mode() & 0o7777 == attributes.mode
        && metadata.len() == content.len() as u64
        && fs::read(path)? == content)
}

/// Puts the file there, at once, unless it is right already. Directories above it are made.
pub(super) fn put(path: &Path, content: &[u8], attributes: Attributes) -> io::Result<Change> {
    if is_right(path, content, attributes)? {
        return Ok(Change::None);
    }
    fs::rename(stage(path, content, attributes)?, path)?;
    sync_directory(path)?;
    Ok(Change::Made)
}

/// Writes the file beside its place, with its attributes; where it is then.
pub(super) fn stage(path: &Path, content: &[u8], attributes: Attributes) -> io::Result<PathBuf> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    let staged = beside(path, "new");
    // Left over from a run that was cut off.
    match fs::remove_file(&staged) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = File::create_new(&staged)?;
    file.write_all(content)?;
    if let Some((uid, gid)) = attributes.owner {
        std::os::unix::fs::fchown(&file, Some(uid), Some(gid))?;
    }
    // After the owner: changing that takes set-user-id away.
    file.set_permissions(Permissions::from_mode(attributes.mode))?;
    file.sync_all()?;
    Ok(staged)
}

/// `/etc/x` -> `/etc/.x.mapkeeper-KIND`
pub(super) fn beside(path: &Path, kind: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.mapkeeper-{kind}"))
}

pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Attributes = Attributes { mode: 0o640, owner: None };

    #[test]
    fn a_file_is_put_once_and_put_again_only_when_something_differs() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("a/b/file");
        assert_eq!(put(&path, b"one", PLAIN).unwrap(), Change::Made);
        let first = fs::metadata(&path).unwrap();
        assert_eq!((first.mode() & 0o7777, fs::read(&path).unwrap()), (0o640, b"one".to_vec()));
        assert_eq!(put(&path, b"one", PLAIN).unwrap(), Change::None);
        assert_eq!(fs::metadata(&path).unwrap().ino(), first.ino());
        assert_eq!(put(&path, b"one", Attributes { mode: 0o4755, ..PLAIN }).unwrap(), Change::Made);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o4755);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }
}
