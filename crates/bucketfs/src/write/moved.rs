//! What becomes of the table of names and of drafts when something is moved.

use std::sync::Arc;

use tokio::time::Instant;

use super::draft::Draft;
use super::headers::{self, Content};
use super::state::version_of;
use super::writing::Writing;
use crate::attr::{Attributes, Timestamp};
use crate::store::write::{Headers, Written};
use crate::store::{ETag, Object};
use crate::xattr::Xattrs;

/// Objects of a directory that are moved at the same time.
pub(super) const MOVES_AT_ONCE: usize = 32;

/// What an object says of the file that it is.
type Said = (Attributes, Xattrs, Headers);

impl Writing {
    pub(super) fn note_file_moved(
        &self,
        (from, to): (&Arc<str>, &Arc<str>),
        (ino, draft): (u64, Option<&Draft>),
        (written, size): (Written, u64),
        (attributes, xattrs, headers): Said,
    ) {
        let version = version_of(&written.etag, written.version_id.clone());
        {
            let mut table = self.tree.table();
            if !table.is_made_anew(from, ino) {
                table.rename(from, to, Instant::now());
            }
        }
        if let Some(draft) = draft {
            let mut state = draft.state();
            state.path = to.clone();
            state.base = Some(self.base(ino, &self.tree.key(to), version, size));
            state.headers = headers;
            state.attributes.ctime = attributes.ctime;
            if let Err(error) = draft.note_all(&state) {
                tracing::warn!(ino, error = %error, "a successor would look for a file under its old name");
            }
        }
        self.note_stored(ino, to, written, size, attributes, xattrs);
        if let Some(draft) = draft {
            self.tree.show(ino, &draft.state());
        }
        self.note_change(from, false);
        self.note_change(to, true);
    }

    /// What an object says that is moved at this moment.
    pub(super) fn moved_now(&self, key: &str, to: &str, object: &Object) -> Said {
        let mut attributes = Attributes::of(key, object, &self.tree.rules.defaults);
        attributes.mtime = self.changed_since(key).unwrap_or(attributes.mtime);
        attributes.ctime = Timestamp::now();
        let xattrs = Xattrs::of(&object.metadata);
        let metadata = headers::metadata(&object.metadata, &attributes, &xattrs, Content::Same);
        let content_type = headers::moved_type(object.content_type.as_deref(), key, to, attributes.kind);
        (attributes, xattrs, Headers { content_type, metadata, kept: object.kept.clone() })
    }

    /// When something in the directory with this marker was changed from here: the marker does not say it.
    pub(super) fn changed_since(&self, marker: &str) -> Option<Timestamp> {
        let path = marker.strip_prefix(&self.tree.rules.prefix)?.strip_suffix('/')?;
        let table = self.tree.table();
        let (_, node) = table.named(path)?;
        node.facts.changed
    }

    /// Drafts of `path` itself and of all below it, but for those whose name leads to somebody else's file by now.
    fn drafts_at(&self, path: &str) -> Vec<Arc<Draft>> {
        let has_it = |draft: &&Arc<Draft>| *draft.state().path == *path && !self.has_lost_its_name(draft.ino);
        let itself = self.drafts().values().find(has_it).cloned();
        itself.into_iter().chain(self.drafts_below(path)).collect()
    }

    pub(super) fn drafts_below(&self, path: &str) -> Vec<Arc<Draft>> {
        let below = format!("{path}/");
        let drafts = self.drafts();
        let is_below = |draft: &&Arc<Draft>| {
            draft.state().path.starts_with(&below) && !self.has_lost_its_name(draft.ino)
        };
        drafts.values().filter(is_below).cloned().collect()
    }

    pub(super) fn note_moved(
        &self,
        from: &Arc<str>,
        to: &Arc<str>,
        prefix: &str,
        moved: Vec<(String, ETag)>,
    ) {
        let now = Instant::now();
        for draft in self.drafts_at(from) {
            let mut state = draft.state();
            let path: Arc<str> = Arc::from(format!("{to}{}", &state.path[from.len()..]));
            let key = self.tree.key(&path);
            let etag = moved.iter().find(|(rest, _)| format!("{prefix}{rest}") == key).map(|(_, etag)| etag);
            if let (Some(etag), Some(base)) = (etag, state.base.clone()) {
                state.base = Some(self.base(draft.ino, &key, version_of(etag, None), base.size));
            }
            state.path = path;
            if let Err(error) = draft.note_all(&state) {
                tracing::warn!(key, error = %error, "a successor would look for a file under its old name");
            }
        }
        let mut table = self.tree.table();
        table.rename(from, to, now);
        if let Some(ino) = table.find(to) {
            table.set_facts(ino, |facts| {
                facts.settled = false;
                (facts.marker_checked, facts.changed) = (None, None);
            });
        }
        for (rest, etag) in &moved {
            if let Some(ino) = table.find(&format!("{to}/{rest}")) {
                table.set_facts(ino, |facts| {
                    if facts.version.is_some() {
                        facts.version = Some(version_of(etag, None));
                        facts.settled = false;
                    }
                });
            }
        }
        drop(table);
        self.tree.negative_cache().forget(from, now);
        self.tree.negative_cache().forget(to, now);
        self.note_change(from, false);
        self.note_change(to, true);
    }
}
