//! What a question about a name can be answered, and how long answers are waited for and believed.

use std::ops::Range;
use std::time::Duration;

use tokio::time::Instant;

use crate::store::{Body, Listed, Object, StoreError, Version};

/// How long owner, mode and times of a directory's marker are believed while the directory is only walked through:
/// opening or listing the directory asks. With `freshness = "0s"` there is no patience.
pub(crate) const MARKER_PATIENCE: Duration = Duration::from_secs(30);
/// Longest wait for the answer to a question about a name, all attempts together.
pub const RESOLVE_DEADLINE: Duration = Duration::from_secs(30);

/// What the store said of a name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    /// The number that the name leads to; `None`: nothing has this name.
    pub found: Option<u64>,
    /// When the question left.
    pub sent_at: Instant,
}

/// What listing a directory showed of the directory itself.
#[derive(Clone, Debug)]
pub(crate) struct DirectoryProbe {
    pub(super) sent_at: Instant,
    /// Whether there is anything in it, its marker included.
    pub(super) exists: bool,
    /// Whether all names in it were listed, and recorded.
    pub(super) is_whole: bool,
    pub(super) marker: Option<Listed>,
}

pub(super) type Outcome = Result<Answer, StoreError>;

pub(super) fn mount_is_gone() -> StoreError {
    StoreError::Malformed { reason: "the mount is gone".into() }
}

pub(super) fn listed_version(listed: &Listed) -> Version {
    Version { etag: listed.etag.clone(), last_modified: listed.last_modified, version_id: None }
}

/// What a key holds.
pub(crate) enum KeyProbe {
    Object(Object, Option<(Range<u64>, Body)>),
    Unchanged { last_modified: Option<i64> },
    Absent,
}
