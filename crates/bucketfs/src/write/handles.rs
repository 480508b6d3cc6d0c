//! Which files are open, and how: the one table that has to be carried over for a successor to go on serving them.
//!
//! It is kept in a file beside the drafts, of one slot for each open file:
//!
//! ```text
//!   slot 0:  version, 0, numbers given up to, checksum        slot n:  number, file, access, checksum    (8 bytes each)
//! ```
//!
//! What must hold: a number is given once, by whichever process; what is closed is forgotten; the file says at every
//! moment what is open, and a slot that was not written whole says nothing.

use std::collections::HashMap;
use std::fs::File;
use std::hash::Hasher;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use fnv::FnvHasher;

use super::stage;

/// Of the format of the file.
const VERSION: u64 = 1;
const WORDS: usize = 4;
const SLOT_BYTES: u64 = 8 * WORDS as u64;
/// Numbers that are set aside at once: so seldom is the first slot written.
const SET_ASIDE: u64 = 4096;

/// What an open file may be used for. By these numbers in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Read = 1,
    Write = 2,
}

/// One open file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handle {
    pub ino: u64,
    pub access: Access,
}

/// All open files of a mount.
#[derive(Debug)]
pub struct Handles {
    open: HashMap<u64, (Handle, u64)>,
    /// The last number given, and up to which they are set aside.
    last: u64,
    set_aside: u64,
    file: File,
    /// Slots that are not used, and the first that never was.
    free: Vec<u64>,
    unused: u64,
}

impl Handles {
    /// None, to be noted in a new file at `path`.
    ///
    /// # Errors
    ///
    /// That of the file.
    pub fn begin(path: &Path) -> io::Result<Handles> {
        let mut handles = Handles::with(stage::create(path)?, 0);
        handles.set_aside()?;
        Ok(handles)
    }

    fn with(file: File, given: u64) -> Handles {
        let (open, free) = (HashMap::new(), Vec::new());
        Handles { open, last: given, set_aside: given, file, free, unused: 1 }
    }

    /// Those that another process has noted at `path`.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidData`] for a file of another version; that of reading it.
    pub fn resume(path: &Path) -> io::Result<Handles> {
        let bytes = std::fs::read(path)?;
        let mut slots = bytes.chunks_exact(SLOT_BYTES as usize).map(words);
        let [VERSION, 0, given] = slots.next().flatten().ok_or(io::ErrorKind::InvalidData)? else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let mut handles = Handles::with(stage::open(path)?, given);
        for slot in slots {
            match slot.and_then(|[number, ino, access]| Some((number, ino, Access::of(access)?))) {
                Some((number, ino, access)) => {
                    handles.open.insert(number, (Handle { ino, access }, handles.unused));
                }
                None => handles.free.push(handles.unused),
            }
            handles.unused += 1;
        }
        handles.set_aside()?;
        Ok(handles)
    }

    /// Opens a file and answers the number by which it is used.
    pub fn open(&mut self, ino: u64, access: Access) -> u64 {
        self.last += 1;
        if self.last > self.set_aside
            && let Err(error) = self.set_aside()
        {
            tracing::warn!(error = %error, "a successor may give the number of an open file again");
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.unused += 1;
            self.unused - 1
        });
        let written = self.write(slot, [self.last, ino, access as u64]);
        if let Err(error) = written {
            tracing::warn!(error = %error, "a successor will not know of an open file");
        }
        self.open.insert(self.last, (Handle { ino, access }, slot));
        self.last
    }

    pub fn close(&mut self, number: u64) -> Option<Handle> {
        let (handle, slot) = self.open.remove(&number)?;
        match self.write(slot, [0; WORDS - 1]) {
            Ok(()) => self.free.push(slot),
            // Not to be used again: what it says is wrong, and no more than that.
            Err(error) => tracing::warn!(error = %error, "a successor will take a closed file for open"),
        }
        Some(handle)
    }

    /// Whether `number` is that of a file that is open to be read alone.
    pub fn only_reads(&self, number: u64) -> bool {
        self.open.get(&number).is_some_and(|(handle, _)| handle.access == Access::Read)
    }

    /// How many have the file open, in whatever way.
    pub fn users(&self, ino: u64) -> usize {
        self.open.values().filter(|(handle, _)| handle.ino == ino).count()
    }

    /// How many have the file open for writing.
    pub fn writers(&self, ino: u64) -> usize {
        let writes = |(handle, _): &&(Handle, u64)| handle.ino == ino && handle.access == Access::Write;
        self.open.values().filter(writes).count()
    }

    pub fn count(&self) -> usize {
        self.open.len()
    }

    fn set_aside(&mut self) -> io::Result<()> {
        let given = self.last + SET_ASIDE;
        self.write(0, [VERSION, 0, given])?;
        self.set_aside = given;
        Ok(())
    }

    fn write(&self, slot: u64, words: [u64; WORDS - 1]) -> io::Result<()> {
        let mut bytes = [0; SLOT_BYTES as usize];
        let all = words.into_iter().chain([checksum(words)]);
        for (place, word) in bytes.chunks_exact_mut(8).zip(all) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        self.file.write_all_at(&bytes, slot * SLOT_BYTES)
    }
}

impl Access {
    fn of(number: u64) -> Option<Access> {
        [Access::Read, Access::Write].into_iter().find(|access| *access as u64 == number)
    }
}

/// What a slot says. `None` for one that was not written whole.
fn words(slot: &[u8]) -> Option<[u64; WORDS - 1]> {
    let mut words = slot.chunks_exact(8).map(|word| word.try_into().map_or(0, u64::from_le_bytes));
    let said = [words.next()?, words.next()?, words.next()?];
    (words.next()? == checksum(said)).then_some(said)
}

/// FNV-1a: it only has to tell a slot from half of one.
fn checksum(words: [u64; WORDS - 1]) -> u64 {
    let mut hash = FnvHasher::default();
    words.iter().for_each(|word| hash.write(&word.to_le_bytes()));
    hash.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handles() -> (tempfile::TempDir, std::path::PathBuf, Handles) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("handles");
        let handles = Handles::begin(&path).expect("made");
        (directory, path, handles)
    }

    #[test]
    fn what_is_open_is_counted_until_it_is_closed() {
        let (_directory, _, mut handles) = handles();
        let (reader, writer) = (handles.open(7, Access::Read), handles.open(7, Access::Write));
        handles.open(8, Access::Write);
        assert_eq!((handles.users(7), handles.writers(7), handles.count()), (2, 1, 3));
        assert_eq!(handles.close(writer), Some(Handle { ino: 7, access: Access::Write }));
        assert_eq!((handles.users(7), handles.writers(7)), (1, 0));
        assert_eq!(handles.close(writer), None);
        assert_ne!(handles.open(7, Access::Read), reader);
    }

    #[test]
    fn another_process_finds_what_is_open_and_gives_no_number_again() {
        let (_directory, path, mut handles) = handles();
        let given: Vec<u64> = (0..10).map(|ino| handles.open(ino, Access::Write)).collect();
        for number in &given[..5] {
            handles.close(*number);
        }
        let reader = handles.open(5, Access::Read);
        drop(handles);
        let mut found = Handles::resume(&path).expect("readable");
        assert_eq!((found.count(), found.users(5), found.writers(5), found.users(4)), (6, 2, 1, 0));
        let new = found.open(20, Access::Write);
        assert!(new > reader);
        assert_eq!(found.close(given[9]), Some(Handle { ino: 9, access: Access::Write }));
        drop(found);
        let mut found = Handles::resume(&path).expect("readable");
        assert_eq!(found.count(), 6);
        assert!(found.open(1, Access::Read) > new);
    }

    #[test]
    fn half_a_slot_says_nothing_and_another_version_is_refused() {
        let (_directory, path, mut handles) = handles();
        handles.open(7, Access::Write);
        handles.open(8, Access::Write);
        let mut bytes = std::fs::read(&path).expect("readable");
        bytes[SLOT_BYTES as usize + 8] ^= 1;
        bytes.truncate(bytes.len() - 1);
        std::fs::write(&path, &bytes).expect("written");
        assert_eq!(Handles::resume(&path).expect("readable").count(), 0);
        bytes[0] = 9;
        std::fs::write(&path, &bytes).expect("written");
        assert_eq!(Handles::resume(&path).expect_err("refused").kind(), io::ErrorKind::InvalidData);
    }
}
