//! Why nothing can be resumed from a journal.

use std::io;

/// Changes with every change of what is written that an older version would misread.
pub(super) const FORMAT: u32 = 1;

/// Why nothing can be resumed from a journal.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("cannot use the memory of the process before")]
    Memory { source: io::Error },
    #[error("the process before had not finished mounting")]
    Unfinished,
    #[error("it was written by another version (format {found}, this one reads {FORMAT})")]
    Format { found: u32 },
    #[error("{what} is damaged")]
    Damaged { what: &'static str },
    #[error("it is full")]
    Full,
}
