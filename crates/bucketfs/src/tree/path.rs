//! Paths from the root of a mount: names with slashes between them, none around them.

use std::sync::Arc;

/// `name` in the directory `parent`.
pub(crate) fn join(parent: &str, name: &str) -> Arc<str> {
    if parent.is_empty() { Arc::from(name) } else { Arc::from(format!("{parent}/{name}")) }
}

/// The directory that `path` is in, and its name there.
pub(crate) fn parent_and_name(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}
