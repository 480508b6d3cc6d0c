//! How a question or a repair fails: the words, the hint and the exit code that a person would get.

use std::error::Error;

use crate::error::{Advise, Chain, Exit};
use ladder::state::{Action, Failure, Seen};

/// An answer; one that could not be had is unknown, in the words of the error.
pub(super) fn seen<T, E: Error + 'static>(answer: Result<T, E>) -> Seen<T> {
    match answer {
        Ok(answer) => Seen::Known(answer),
        Err(error) => Seen::Unknown(Chain(&error).to_string()),
    }
}

/// An error in the words and with the exit code that a person would get.
pub(super) fn failure<E: Advise + 'static>(error: &E) -> Failure {
    Failure { error: Chain(error).to_string(), hint: error.hint(), exit: error.exit().code() }
}

pub(super) fn no_credentials() -> Failure {
    plain_failure("there are no credentials for it".to_owned())
}

pub(super) fn plain_failure(error: String) -> Failure {
    Failure { error, hint: None, exit: Exit::Degraded.code() }
}

pub(super) fn misplaced(action: &Action) -> Failure {
    plain_failure(format!("{:?} is no repair of {}", action.repair, action.target))
}
