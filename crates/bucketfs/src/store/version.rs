//! Which content a key had.

use std::sync::Arc;

/// The entity tag, compared and never interpreted; that of S3 in quotes, whether the store gave it with them or not.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ETag(pub Arc<str>);

/// Which content a name held: two equal versions mean equal bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    pub etag: ETag,
    /// Whole seconds since the epoch, as S3 counts them: two writes within a second share it.
    pub last_modified: i64,
    /// Present where the bucket keeps versions: the handle by which a replaced object can still be read.
    pub version_id: Option<Arc<str>>,
}
