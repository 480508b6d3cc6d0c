//! From the result of a command to its exit code: an error is printed as people meet it, once.

use crate::error::{self, Advise, Exit};

/// Prints an error as people meet it, once, and gives its code.
pub(super) fn ended<T: Into<Exit>, E: Advise + 'static>(result: Result<T, E>) -> Exit {
    match result {
        Ok(done) => done.into(),
        Err(error) => {
            eprint!("{}", error::report(&error));
            error.exit()
        }
    }
}
