//! Open directories: a listing walked page by page.
//!
//! A directory may hold more names than fit in memory, so an open one holds two pages, and where each page seen so
//! far begins. An offset (the kernel's `d_off`) is the page's number and the position in it; going back asks for
//! that page again. Headers of listed objects are fetched side by side, a *chunk* of a page at a time, and only
//! where the listing leaves something open. Who reads on finds the rest of the page and the next one on their way:
//!
//! ```text
//!   read at 0 .......... page 0 listed, first chunk complete
//!   read further ....... this chunk complete; started: the page's other chunks
//!   past the middle .... and the next page with its chunks
//!   offset = page << PAGE_BITS | position + 1      0: the start;  `.` and `..` are the first page's first two
//! ```
//!
//! What must hold: no more than [`HEADERS_AT_ONCE`] headers of a mount are asked for at one time; a name whose
//! headers cannot be had is shown all the same, unless it is gone.

mod open;
mod page;

pub use open::{Batch, Detail, Directory};
pub use page::{HEADERS_AT_ONCE, Item, Page};

#[cfg(test)]
mod tests;
