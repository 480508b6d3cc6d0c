//! What a mount says of how it is written to.

use std::path::PathBuf;

/// What happens to an upload if somebody else has written the object since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnConflict {
    /// It is refused, and what was written is kept on disk.
    #[default]
    Fail,
    /// The last one wins.
    Overwrite,
}

/// How a mount writes.
#[derive(Clone, Debug)]
pub struct WriteOptions {
    /// Where files are kept while they are being changed.
    pub staging: PathBuf,
    pub on_conflict: OnConflict,
    /// A directory with nothing but keys that no file name can stand for is emptied when it is removed.
    pub remove_hidden: bool,
}
