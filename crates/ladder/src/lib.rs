//! The only place that decides: an observation and a history in, one decision out.
//!
//! Nothing here reads a clock, a file or a random number, and nothing logs. Held by the property
//! tests and by `tests/simulation/main.rs`: at most one action a round; no action on
//! [`Seen::Unknown`](state::Seen::Unknown) or on what depends on it; no action whose precondition is
//! false; a bounded number of actions in any window of time; and a fault that can be repaired is tried within
//! bounded time.
//!
//! # The ladder
//!
//! | rung | repairs | only if |
//! | --- | --- | --- |
//! | 0 | none: say degraded | S3 cannot be asked and the mount serves what it remembers |
//! | 1 | refresh | S3 refuses the credentials |
//! | 2 | restart workers | the session lives and is silent past its patience, the bucket answers, and the workers can be replaced |
//! | 3 | mount, remount | credentials are held and the bucket is not known to be away; session dead, mount gone or left over, or rung 2 is exhausted; for requests that no process knows of, as for silence; never while something over a directory above hides it |
//! | 3 | uncover | something was mounted over a session that lives |
//! | 4 | unpause, restart, make the error log (of an ECS container: stop) | every mount that it binds is proven; its view is stale, or its service fails in a way that this can cure, of which being slow is none; an ECS container only while its agent is well |
//! | 5 | start, create, recreate | the same proofs; it ended or is gone, was made from another configuration, or rung 4 is exhausted; never for ECS |
//! | 5 | restart the ECS agent, reregister | every mount is proven, and the agent had its patience to come up by itself |
//! | 6 | mark unready, mark ready | the instance is known to be this host; the rungs above are exhausted and nobody else drains it; this host could serve again, assessed without what the drain took away |
//! | 7 | terminate | opted in, once; drained for long; the cause is local: credentials held, every bucket answers, and what is broken was well in this run |
//!
//! ```text
//!             fault              attempts left               attempts spent
//! [healthy] --------> [repairing] --------> action --> look again --> [failed: slow retries, drained]
//!     ^                    |                                              |
//!     +--------------------+------------------ well ----------------------+
//!
//! [any] -- mapkeeper pause --> [paused: assessed and told, no action] -- resume, or the time is over --> [any]
//! ```
//!
//! The first fault in order of dependency whose repair is due is acted on. A fault in its pause does
//! not hold up another chain: what depends on the fault is blocked anyway.

mod assess;
mod cure;
mod decide;
mod escalation;
mod history;
mod link;
mod patience;
mod remedy;
pub mod state;

pub use assess::{Assessment, Condition, Fault, Finding, Proven, assess};
pub use cure::restart_may_cure;
pub use decide::plan;

#[cfg(test)]
mod tests;

#[cfg(test)]
mod properties;
