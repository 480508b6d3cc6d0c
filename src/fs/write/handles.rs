//! Which files are open, and how: the one table that has to be carried over for a successor to go on serving them.
//!
//! What must hold: a number is given once; what is closed is forgotten; the table is plain data.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

/// What an open file may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    Read,
    Write,
}

/// One open file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handle {
    pub ino: u64,
    pub access: Access,
}

/// All open files of a mount.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handles {
    open: HashMap<u64, Handle>,
    last: u64,
}

impl Handles {
    /// Opens a file and answers the number by which it is used.
    pub fn open(&mut self, ino: u64, access: Access) -> u64 {
        self.last += 1;
        self.open.insert(self.last, Handle { ino, access });
        self.last
    }

    pub fn close(&mut self, number: u64) -> Option<Handle> {
        self.open.remove(&number)
    }

    /// How many have the file open, in whatever way.
    pub fn users(&self, ino: u64) -> usize {
        self.open.values().filter(|handle| handle.ino == ino).count()
    }

    /// How many have the file open for writing.
    pub fn writers(&self, ino: u64) -> usize {
        let writes = |handle: &&Handle| handle.ino == ino && handle.access == Access::Write;
        self.open.values().filter(writes).count()
    }

    pub fn count(&self) -> usize {
        self.open.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_open_is_counted_until_it_is_closed() {
        let mut handles = Handles::default();
        let (reader, writer) = (handles.open(7, Access::Read), handles.open(7, Access::Write));
        handles.open(8, Access::Write);
        assert_eq!((handles.users(7), handles.writers(7), handles.count()), (2, 1, 3));
        assert_eq!(handles.close(writer), Some(Handle { ino: 7, access: Access::Write }));
        assert_eq!((handles.users(7), handles.writers(7)), (1, 0));
        assert_eq!(handles.close(writer), None);
        assert_ne!(handles.open(7, Access::Read), reader);
    }

    #[test]
    fn the_table_survives_being_written_down() {
        let mut handles = Handles::default();
        handles.open(7, Access::Read);
        let text = serde_json::to_string(&handles).expect("plain data");
        let mut read: Handles = serde_json::from_str(&text).expect("as written");
        assert_eq!(read, handles);
        assert_eq!(read.open(9, Access::Write), 2);
    }
}
