//! Docker Engine: the only place that speaks to it.
//!
//! A container that mapkeeper makes carries three labels, [`LABEL_MANAGED`], [`LABEL_SPECIFICATION`]
//! (a hash of what it was made from, so that a changed configuration is recognised) and [`LABEL_AGENT`]. What must
//! hold: a container without the first label, or with the third of another agent, is never changed, let alone
//! stopped or removed; a bind whose source is missing is an error, not an empty directory that Docker makes; no image is pulled that is present.
//!
//! The restart policy of what we make is `no`. Docker would start a container with another policy when
//! the daemon or the machine comes up, before its mount is proven, and MapServer would serve an empty
//! directory. So only the agent starts it, and only on a proven mount.
//!
//! ```text
//! [absent] --create--> [created] --start--> [running] --ends--> [exited] --start--> [running]
//!     ^                                         |                   |
//!     +---------------------------- recreate ---+-------------------+
//! ```

mod engine;
mod error;
mod error_log;
mod facts;
mod identity;
mod specification;
mod usage;

pub use engine::{Engine, STOP_TIMEOUT, follow_events};
pub use error::ContainerError;
pub use facts::{Facts, Found};
pub use identity::{LABEL_AGENT, LABEL_MANAGED, LABEL_SPECIFICATION, title};
pub use specification::fingerprint;
