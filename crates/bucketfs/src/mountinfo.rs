//! The kernel's list of mounts, read without touching any of them.
//!
//! `/proc/PID/mountinfo` answers even when a mounted file system hangs, and shows what a container sees without
//! entering it. What must hold: a line that cannot be understood is passed over, never an error, and never a panic:
//! the text is the kernel's, but the paths in it are anybody's.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The type that `mount` and `/proc/mounts` show of a mount of mapkeeper.
pub const FS_TYPE: &str = "fuse.mapkeeper";

/// The device number of a mounted file system; for FUSE, `minor` is its number below
/// `/sys/fs/fuse/connections`. Two mounts with the same device show the same file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Device {
    pub major: u32,
    pub minor: u32,
}

impl fmt::Display for Device {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}", self.major, self.minor)
    }
}

impl std::str::FromStr for Device {
    type Err = ();

    fn from_str(text: &str) -> Result<Device, ()> {
        let (major, minor) = text.split_once(':').ok_or(())?;
        Ok(Device { major: major.parse().map_err(drop)?, minor: minor.parse().map_err(drop)? })
    }
}

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub id: u64,
    pub parent: u64,
    pub device: Device,
    /// What of the file system is mounted: `/`, or the directory that was bound.
    pub root: String,
    pub path: PathBuf,
    pub fs_type: String,
    pub source: String,
    pub read_only: bool,
}

impl Entry {
    /// Whether a FUSE server answers for this mount.
    pub fn is_fuse(&self) -> bool {
        self.fs_type == "fuse" || self.fs_type == "fuseblk" || self.fs_type.starts_with("fuse.")
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.source == self.fs_type {
            true => write!(out, "{} at {}", self.fs_type, self.path.display()),
            false => write!(out, "{} ({}) at {}", self.fs_type, self.source, self.path.display()),
        }
    }
}

/// All mounts that a process sees, in the order in which the kernel lists them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountTable(pub Vec<Entry>);

impl MountTable {
    /// The mounts that process `pid` sees; this process's own for `None`.
    ///
    /// # Errors
    ///
    /// When there is no such process, or it may not be looked at.
    pub fn of(pid: Option<u32>) -> io::Result<MountTable> {
        let process = pid.map_or_else(|| "self".to_string(), |pid| pid.to_string());
        Ok(MountTable::parse(&std::fs::read(format!("/proc/{process}/mountinfo"))?))
    }

    /// Reads the text of a `mountinfo` file (proc(5)).
    pub fn parse(text: &[u8]) -> MountTable {
        MountTable(text.split(|byte| *byte == b'\n').filter_map(entry).collect())
    }

    /// The mount one meets at exactly `path`: the one stacked there last. `None` if nothing is mounted there.
    pub fn top(&self, path: &Path) -> Option<&Entry> {
        self.0.iter().rev().find(|entry| entry.path == path)
    }

    /// The mount in which a path lookup ends that follows every mount on the way to `path`: the one at `path`, or one
    /// above it. `None` where the table does not say where a lookup begins.
    pub fn reached(&self, path: &Path) -> Option<&Entry> {
        let begins =
            |entry: &&Entry| !self.0.iter().any(|other| other.id == entry.parent && other.id != entry.id);
        let mut directories: Vec<&Path> = path.ancestors().collect();
        directories.reverse();
        let mut at: Option<&Entry> = None;
        for directory in directories {
            // Nothing is followed at the root itself: what is mounted over it is not met from there.
            let is_root = directory.parent().is_none();
            loop {
                let next =
                    self.0.iter().rev().filter(|entry| entry.path == directory).find(|entry| match at {
                        None => begins(entry),
                        Some(at) => entry.parent == at.id && entry.id != at.id,
                    });
                match next {
                    Some(next) if at.is_none() || !is_root => at = Some(next),
                    _ => break,
                }
            }
        }
        at
    }

    /// What hides `entry` from whoever looks for it by its path: a mount over a directory above it, or over itself.
    pub fn cover(&self, entry: &Entry) -> Option<&Entry> {
        self.reached(&entry.path).filter(|reached| reached.id != entry.id)
    }
}

fn entry(line: &[u8]) -> Option<Entry> {
    let mut fields = line.split(|byte| *byte == b' ');
    let mut text = || fields.next().and_then(|field| std::str::from_utf8(field).ok());
    let id = text()?.parse().ok()?;
    let parent = text()?.parse().ok()?;
    let device = text()?.parse().ok()?;
    let root = String::from_utf8_lossy(&unescaped(fields.next()?)).into_owned();
    let path = PathBuf::from(OsString::from_vec(unescaped(fields.next()?)));
    let options = fields.next()?;
    fields.find(|field| *field == b"-")?;
    let fs_type = String::from_utf8_lossy(&unescaped(fields.next()?)).into_owned();
    let source = String::from_utf8_lossy(&unescaped(fields.next()?)).into_owned();
    let of_the_file_system = fields.next().unwrap_or(b"");
    let is_read_only = |options: &[u8]| options.split(|byte| *byte == b',').any(|option| option == b"ro");
    let read_only = is_read_only(options) || is_read_only(of_the_file_system);
    Some(Entry { id, parent, device, root, path, fs_type, source, read_only })
}

/// Undoes the kernel's escapes: `\040` is a blank.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut at = 0;
    while at < field.len() {
        let digits = field.get(at + 1..at + 4).filter(|_| field[at] == b'\\');
        let value = digits.and_then(|digits| {
            digits.iter().try_fold(0u32, |value, digit| Some(value * 8 + char::from(*digit).to_digit(8)?))
        });
        match value.and_then(|value| u8::try_from(value).ok()) {
            Some(byte) => {
                plain.push(byte);
                at += 4;
            }
            None => {
                plain.push(field[at]);
                at += 1;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &[u8] = b"22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard\n\
        40 22 0:44 / /srv/a\\040b rw,nosuid - fuse.mapkeeper s3://b/maps ro,user_id=0\n\
        nonsense\n\
        41 40 0:45 / /srv/a\\040b rw shared:2 master:1 - tmpfs tmpfs rw\n";

    #[test]
    fn fields_and_escapes_are_read() {
        let table = MountTable::parse(TEXT);
        assert_eq!(table.0.len(), 3);
        let fuse = &table.0[1];
        assert_eq!(fuse.path, Path::new("/srv/a b"));
        assert_eq!(fuse.device, Device { major: 0, minor: 44 });
        assert_eq!((fuse.fs_type.as_str(), fuse.source.as_str()), ("fuse.mapkeeper", "s3://b/maps"));
        assert!(fuse.is_fuse() && fuse.read_only);
        assert!(!table.0[0].read_only);
    }

    #[test]
    fn the_mount_stacked_last_is_the_one_that_is_seen() {
        let table = MountTable::parse(TEXT);
        assert_eq!(table.top(Path::new("/srv/a b")).map(|entry| entry.fs_type.as_str()), Some("tmpfs"));
        assert_eq!(table.top(Path::new("/srv")), None);
    }

    #[test]
    fn what_hides_a_mount_is_found_whichever_came_first() {
        let table = |lines: &[&str]| MountTable::parse(lines.join("\n").as_bytes());
        let root = "22 1 254:0 / / rw - ext4 /dev/vda rw";
        let ours = "40 22 0:44 / /srv/maps rw - fuse.mapkeeper s3://b ro";
        let cases: [(&[&str], Option<&str>); 8] = [
            (&[root, ours], None),
            (&[root, ours, "50 22 0:50 / /srv tmpfs - tmpfs over rw"], Some("over")),
            // On some kernels the list is in another order.
            (&[root, "50 22 0:50 / /srv rw - tmpfs over rw", ours], Some("over")),
            (&[root, ours, "50 40 0:50 / /srv/maps rw - tmpfs over rw"], Some("over")),
            (&[root, ours, "50 40 0:50 / /srv/maps/sub rw - tmpfs below rw"], None),
            (&[root, ours, "50 22 0:50 / /srv/map rw - tmpfs beside rw"], None),
            // Ours stands on it.
            (
                &[
                    root,
                    "30 22 0:50 / /srv rw - tmpfs under rw",
                    "40 30 0:44 / /srv/maps rw - fuse.mapkeeper b ro",
                ],
                None,
            ),
            // Hidden itself by what ours stands on.
            (
                &[
                    root,
                    "31 22 0:51 / /srv/maps rw - ext4 old rw",
                    "30 22 0:50 / /srv rw - tmpfs under rw",
                    "40 30 0:44 / /srv/maps rw - fuse.mapkeeper b ro",
                ],
                None,
            ),
        ];
        for (lines, expected) in cases {
            let table = table(lines);
            let ours = table.0.iter().find(|entry| entry.id == 40).expect("it is there");
            assert_eq!(table.cover(ours).map(|entry| entry.source.as_str()), expected, "{lines:#?}");
        }
    }

    #[test]
    fn the_mounts_of_this_process_include_proc() {
        let table = MountTable::of(None).expect("proc is mounted");
        assert!(table.top(Path::new("/proc")).is_some());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in prop::collection::vec(any::<u8>(), 0..200)) {
            MountTable::parse(&text);
        }

        #[test]
        fn every_path_survives_the_kernels_escapes(path in prop::collection::vec(1u8..=255, 1..20)) {
            let mut line = b"1 1 0:1 / ".to_vec();
            for byte in &path {
                match byte {
                    b' ' | b'\t' | b'\n' | b'\\' | b'#' => line.extend(format!("\\{byte:03o}").bytes()),
                    plain => line.push(*plain),
                }
            }
            line.extend(b" rw - t s rw");
            let table = MountTable::parse(&line);
            prop_assert_eq!(&table.0[0].path, &PathBuf::from(OsString::from_vec(path)));
        }
    }
}
