//! Names that are moved: a copy, then a deletion.
//!
//! ```text
//!   file:       copy to the new name --> delete the old one, if it is still what was copied
//!   directory:  copy everything below, side by side --> delete all of it, one by one unchanged
//! ```
//!
//! What must hold: at every moment each object is readable under one of its names; what somebody else writes under the
//! old name meanwhile is not deleted; a copy that cannot be finished is taken back.

use std::sync::Arc;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use tokio::time::Instant;

use super::Writing;
use super::commit::side_by_side;
use super::draft::{Draft, version_of};
use super::headers::{self, Content};
use super::unfinished::Move;
use crate::fs::attr::{Attributes, Timestamp};
use crate::fs::directory::EMPTY_PAGES;
use crate::fs::error::FsError;
use crate::fs::listing::is_name;
use crate::fs::store::write::{Headers, KEY_MAX, WriteIf};
use crate::fs::store::{Depth, ETag, From, List, Listed, StoreError};
use crate::fs::tree::join;
use crate::fs::xattr::Xattrs;

/// Objects of a directory that are moved at the same time.
pub(super) const MOVES_AT_ONCE: usize = 32;
/// Objects for whose move everything is made ready at the same time.
const MOVES_READY: usize = 1024;
/// Most objects of a directory that is moved: what is to be done is remembered, some 300 bytes each. A million requests
/// take hours, and a listing without an end must end.
const MOVES_MAX: usize = 500_000;

/// What becomes of something that has the new name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Replace,
    Keep,
}

impl Writing {
    /// Moves a file or a directory.
    ///
    /// # Errors
    ///
    /// [`FsError::Exists`] for a target that is to be kept; [`FsError::NotEmpty`]; [`FsError::Stale`] when somebody
    /// else has written the file meanwhile; whatever the store says.
    pub async fn rename(
        &self,
        parent: u64,
        name: &str,
        new_parent: u64,
        new_name: &str,
        target: Target,
    ) -> Result<(), FsError> {
        if !is_name(new_name) {
            return Err(FsError::Invalid);
        }
        let from = join(&self.tree.directory_path(parent)?, name);
        let to = join(&self.tree.directory_path(new_parent)?, new_name);
        if self.was_finished(&from, &to) {
            return Ok(());
        }
        let (from, ino) = self.known(parent, name).await?;
        if self.tree.key(&to).len() + 1 > KEY_MAX {
            return Err(FsError::NameTooLong);
        }
        if target == Target::Keep && self.tree.table().find(&to).is_some() {
            return Err(FsError::Exists);
        }
        if from == to {
            return Ok(());
        }
        match self.facts(ino, |facts| facts.is_directory())? {
            true => {
                // Nothing below may be stored under its old name meanwhile.
                let _names = self.names.write().await;
                self.rename_directory(&from, &to, parent).await
            }
            false => {
                let _names = self.names.read().await;
                self.rename_file(&from, ino, &to, parent, target).await
            }
        }
    }

    async fn rename_file(
        &self,
        from: &Arc<str>,
        ino: u64,
        to: &Arc<str>,
        parent: u64,
        target: Target,
    ) -> Result<(), FsError> {
        let draft = self.draft(ino);
        let _one = match &draft {
            Some(draft) => Some(draft.commits.lock().await),
            None => None,
        };
        if let Some(draft) = &draft {
            self.commit_locked(draft).await?;
        }
        let (old_key, key) = (self.tree.key(from), self.tree.key(to));
        let (object, _) = self.object(&old_key).await?;
        self.make_way(to).await?;
        let mut attributes = Attributes::of(from, &object, &self.tree.rules.defaults);
        let xattrs = Xattrs::of(&object.metadata);
        attributes.ctime = Timestamp::now();
        let metadata = headers::metadata(&object.metadata, &attributes, &xattrs, Content::Same);
        let headers = Headers { metadata, content_type: object.content_type, kept: object.kept };
        let (etag, size) = (object.version.etag, object.size);
        let condition = if target == Target::Keep { WriteIf::Absent } else { WriteIf::Always };
        self.keep_directory(parent).await?;
        let object = std::iter::once((String::new(), etag.clone()));
        let noted = self.staging.note_move(&Move::new((from, to), (&old_key, &key), object))?;
        let written = match self.copy(&old_key, &etag, size, &key, Some(&headers), condition).await {
            Err(FsError::Store(StoreError::Changed { .. })) if target == Target::Keep => {
                noted.end();
                return Err(FsError::Exists);
            }
            Err(FsError::Store(StoreError::Changed { .. })) => {
                noted.end();
                return Err(FsError::Stale);
            }
            // It may have got through: then the next process finds both.
            Err(error) => {
                noted.end();
                return Err(error);
            }
            Ok(written) => written,
        };
        let deleted = self.delete_unchanged(old_key, etag).await;
        noted.end();
        deleted?;
        let now = Instant::now();
        self.tree.table().rename(from, to, now);
        if let Some(draft) = &draft {
            let mut state = draft.state();
            state.path = to.clone();
            let version = version_of(&written.etag, written.version_id.clone());
            state.base = Some(self.base(ino, &key, version, size));
            state.headers = headers;
            state.attributes.ctime = attributes.ctime;
            draft.note_all(&state)?;
        }
        self.note_stored(ino, to, written, size, attributes, xattrs);
        if let Some(draft) = &draft {
            self.tree.show(ino, &draft.state());
        }
        self.note_change(from, false);
        self.note_change(to, true);
        Ok(())
    }

    /// Deletes an object if it is still what it was.
    pub(super) async fn delete_unchanged(&self, key: String, etag: ETag) -> Result<(), FsError> {
        match self.delete(&key, WriteIf::Unchanged(etag)).await {
            Err(FsError::Store(StoreError::Changed { .. })) => Err(FsError::Stale),
            // A store that knows no conditions on deletions: as s3fs does.
            Err(FsError::Store(StoreError::Refused { status: 501, .. })) => {
                self.delete(&key, WriteIf::Always).await
            }
            outcome => outcome,
        }
    }

    /// Sees to it that those who have the target open keep what they have.
    async fn make_way(&self, to: &str) -> Result<(), FsError> {
        let Some(ino) = self.tree.table().find(to) else { return Ok(()) };
        let draft = match self.draft(ino) {
            Some(draft) => draft,
            None if self.handles().users(ino) > 0 => self.draft_of(ino).await?,
            None => return Ok(()),
        };
        let one = draft.commits.lock().await;
        self.orphan(&draft).await?;
        drop(one);
        self.retire(&draft).await;
        Ok(())
    }

    async fn rename_directory(&self, from: &Arc<str>, to: &Arc<str>, parent: u64) -> Result<(), FsError> {
        if to.starts_with(&format!("{from}/")) {
            return Err(FsError::Invalid);
        }
        if self.tree.table().find(to).is_some() {
            self.be_empty(to).await?;
        }
        for draft in self.drafts_below(from) {
            let _one = draft.commits.lock().await;
            self.commit_locked(&draft).await?;
        }
        let mut objects = self.all_below(&self.tree.directory_prefix(from)).await?;
        let (old, new) = (self.tree.directory_prefix(from), self.tree.directory_prefix(to));
        self.keep_old_guise(from, &old, &mut objects).await?;
        if objects.iter().any(|object| object.key.len() + new.len() > KEY_MAX + old.len()) {
            return Err(FsError::NameTooLong);
        }
        self.keep_directory(parent).await?;
        let rests = objects
            .iter()
            .filter_map(|object| Some((object.key.strip_prefix(&old)?.to_string(), object.etag.clone())));
        let noted = self.staging.note_move(&Move::new((from, to), (&old, &new), rests))?;
        let moved = match self.copy_all(&objects, &old, &new).await {
            Ok(moved) => moved,
            Err(error) => {
                self.take_back(&objects, &old, &new).await;
                noted.end();
                return Err(error);
            }
        };
        let mut left: Result<(), FsError> = Ok(());
        let deletion =
            |object: &Listed| self.delete_unchanged(object.key.clone(), object.etag.clone()).boxed();
        for ready in objects.chunks(MOVES_READY) {
            let deletions: Vec<BoxFuture<'_, _>> = ready.iter().map(deletion).collect();
            let mut deletions = stream::iter(deletions).buffer_unordered(MOVES_AT_ONCE);
            while let Some(outcome) = deletions.next().await {
                left = left.and(outcome);
            }
        }
        noted.end();
        self.note_moved(from, to, &new, moved);
        left
    }

    /// A directory in an old guise, or in none, gets a marker: something must be there to be moved.
    async fn keep_old_guise(&self, from: &str, old: &str, objects: &mut Vec<Listed>) -> Result<(), FsError> {
        if objects.iter().any(|object| object.key == old) {
            return Ok(());
        }
        let ino = self.tree.table().find(from).ok_or(FsError::Stale)?;
        if self.facts(ino, |facts| facts.version.is_some())? {
            // An object of its name makes it one: any change of it makes a marker of that.
            return Err(FsError::NotSupported);
        }
        self.keep_directory(ino).await?;
        if let Ok(marker) = self.store().head(old).await {
            let (key, etag) = (old.to_string(), marker.version.etag);
            let (size, last_modified) = (marker.size, marker.version.last_modified);
            objects.push(Listed { key, size, etag, last_modified });
        }
        Ok(())
    }

    async fn copy_all(
        &self,
        objects: &[Listed],
        old: &str,
        new: &str,
    ) -> Result<Vec<(String, ETag)>, FsError> {
        let mut moved = Vec::with_capacity(objects.len());
        for ready in objects.chunks(MOVES_READY) {
            let copies = ready.iter().map(|object| self.copy_one(object, old, new).boxed()).collect();
            moved.extend(side_by_side(MOVES_AT_ONCE, copies).await?);
        }
        Ok(moved)
    }

    /// Copies one object of a directory; answers what is behind the directory's prefix, and the copy.
    async fn copy_one(&self, object: &Listed, old: &str, new: &str) -> Result<(String, ETag), FsError> {
        let rest = object.key.strip_prefix(old).unwrap_or_default();
        let key = format!("{new}{rest}");
        if rest.is_empty() {
            return self.copy_marker(object, &key).await;
        }
        let copy = self.copy(&object.key, &object.etag, object.size, &key, None, WriteIf::Always);
        match copy.await {
            Err(FsError::Store(StoreError::Changed { .. })) => Err(FsError::Stale),
            copied => Ok((rest.to_string(), copied?.etag)),
        }
    }

    /// Copies the marker of the directory that is moved: only of it something changes.
    async fn copy_marker(&self, object: &Listed, key: &str) -> Result<(String, ETag), FsError> {
        let (marker, _) = self.object(&object.key).await?;
        let mut attributes = Attributes::of(&object.key, &marker, &self.tree.rules.defaults);
        attributes.ctime = Timestamp::now();
        let xattrs = Xattrs::of(&marker.metadata);
        let metadata = headers::metadata(&marker.metadata, &attributes, &xattrs, Content::Same);
        let headers = Headers { metadata, content_type: marker.content_type, kept: marker.kept };
        let etag = &marker.version.etag;
        let copied = self.copy(&object.key, etag, marker.size, key, Some(&headers), WriteIf::Always).await?;
        Ok((String::new(), copied.etag))
    }

    /// Deletes copies of what is still under its old name: nothing is lost by it.
    async fn take_back(&self, objects: &[Listed], old: &str, new: &str) {
        let deletion = |key: String| async move {
            if let Err(error) = self.delete(&key, WriteIf::Always).await {
                tracing::warn!(key, error = %error, "a copy of a directory that was not moved is left behind");
            }
        };
        for ready in objects.chunks(MOVES_READY) {
            let copies = ready.iter().filter_map(|object| object.key.strip_prefix(old));
            let deletions: Vec<BoxFuture<'_, ()>> =
                copies.map(|rest| deletion(format!("{new}{rest}")).boxed()).collect();
            stream::iter(deletions).buffer_unordered(MOVES_AT_ONCE).collect::<Vec<()>>().await;
        }
    }

    async fn all_below(&self, prefix: &str) -> Result<Vec<Listed>, FsError> {
        let (mut objects, mut next) = (Vec::new(), None::<String>);
        for pages in 0.. {
            if pages > objects.len() + EMPTY_PAGES {
                break;
            }
            let from = next.as_deref().map_or(From::Start, From::Page);
            let list = List { prefix, depth: Depth::Tree, from, limit: 1000 };
            let page = self.store().list(list).await?;
            if let Some(object) = page.objects.iter().find(|object| object.etag.0.is_empty()) {
                let reason = format!("size or entity tag of {:?}", object.key);
                return Err(StoreError::Malformed { reason }.into());
            }
            objects.extend(page.objects);
            if objects.len() > MOVES_MAX {
                return Err(FsError::TooLarge);
            }
            next = page.next;
            if next.is_none() {
                return Ok(objects);
            }
        }
        Err(StoreError::Malformed { reason: format!("a listing of {prefix:?} without keys or an end") }
            .into())
    }

    /// Drafts of `path` itself and of all below it.
    fn drafts_at(&self, path: &str) -> Vec<Arc<Draft>> {
        let itself = self.drafts().values().find(|draft| *draft.state().path == *path).cloned();
        itself.into_iter().chain(self.drafts_below(path)).collect()
    }

    fn drafts_below(&self, path: &str) -> Vec<Arc<Draft>> {
        let below = format!("{path}/");
        let drafts = self.drafts();
        drafts.values().filter(|draft| draft.state().path.starts_with(&below)).cloned().collect()
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
                facts.marker_checked = None;
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
        self.tree.surveys().forget(from, now);
        self.tree.surveys().forget(to, now);
        self.note_change(from, false);
        self.note_change(to, true);
    }
}
