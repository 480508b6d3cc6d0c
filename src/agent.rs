//! The loop that owns every decision: observe, plan, publish, apply, wait.
//!
//! ```text
//!        +----------------------------- wake, or next_look has passed --------------------------+
//!        v                                                                                       |
//!    [observe] --> [plan] --> [publish] -- action --> [apply] --> look again at once             |
//!        |                       |                                                               |
//!        |                       +-------- no action ---------------------------------------> [wait]
//!        +-- stop order, at any of these --> [shut down] --> last document
//! ```
//!
//! What must hold: all parts are observed concurrently and each under a limit of its own, so one part
//! that hangs is `Unknown` and holds up nothing else; at most one action a round; while an action runs
//! the document stays fresh; a stop order ends the loop within [`STOP_LIMIT`] and [`SHUT_DOWN_LIMIT`].
//!
//! The loop runs on a single-threaded runtime and is generic over [`Host`], the seam at which tests
//! put a simulated host under paused time.
//!
//! # At the end
//!
//! `run` unmounts when it stops, and a container on a mount that is gone would answer every request
//! with an error inside HTTP 200, which no load balancer notices. So the containers that mapkeeper owns
//! are stopped first and the mounts are taken away after them. The next start finds the containers
//! exited and starts them on the proven mount. Containers of ECS are left to ECS, which would replace
//! a stopped one at once.

mod host;
pub mod http;
pub mod live;
pub mod maintenance;
pub mod metrics;
mod observe;
mod page;
mod run;
mod signals;
pub mod status;

pub use host::{ConfigChange, Host};
pub use observe::{LOOK_LIMIT, observe};
pub use run::{Publisher, SHUT_DOWN_LIMIT, STOP_LIMIT, run};
pub use signals::{Orders, stop_on_signals};

#[cfg(test)]
mod tests;
