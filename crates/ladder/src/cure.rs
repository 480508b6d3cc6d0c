//! What a fault says of its cure: whether a restart helps, or whether there is anything left to restart.

use crate::state::Reason;

/// Whether a restart of the container can cure a service that fails so.
///
/// A wrong answer (a broken map, a refused pattern) proves that the process works, and so does a late one: only silence
/// and server errors are reasons for a restart.
pub fn restart_may_cure(trigger: Reason) -> bool {
    matches!(trigger, Reason::NoConnection | Reason::NoAnswer | Reason::ServerError)
}

/// Whether a service is slow beyond its timeout and not silent: that proves neither that it lives nor that it does not.
pub(crate) fn is_late(trigger: Reason) -> bool {
    matches!(trigger, Reason::AnswerOverdue | Reason::Overloaded)
}

/// Whether a container with this fault does not run any more, or is about to be away.
pub(crate) fn is_gone(trigger: Reason) -> bool {
    matches!(
        trigger,
        Reason::ContainerAbsent
            | Reason::ContainerCreated
            | Reason::ContainerExited
            | Reason::ContainerDead
            | Reason::ContainerInTransit
    )
}
