//! From the result of a command to its exit code: an error is printed as people meet it, once.

use crate::error::{Exit, Failed, report};

/// Prints an error as people meet it, once, and gives its code.
pub(super) fn ended<T: Into<Exit>, E: Into<Failed>>(result: Result<T, E>) -> Exit {
    match result.map_err(E::into) {
        Ok(done) => done.into(),
        Err(Failed(error)) => {
            eprint!("{}", report(&*error));
            error.exit()
        }
    }
}
