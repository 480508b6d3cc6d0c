//! Names that are moved: a copy, then a deletion.
//!
//! ```text
//!   may names be deleted here? --> file:       copy to the new name --> delete the old one, if it is still what was copied
//!                              '-> directory:  copy everything below, side by side --> delete all of it, one by one unchanged
//! ```
//!
//! What must hold: at every moment each object is readable under one of its names; what somebody else writes under the
//! old name meanwhile is not deleted; a copy that cannot be finished is taken back.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt, stream};
use tokio::time::Instant;

use super::Writing;
use super::draft::{Draft, version_of};
use super::headers::{self, Content};
use super::rename_intent::RenameIntent;
use crate::attr::{Attributes, Timestamp};
use crate::error::FsError;
use crate::listing::is_name;
use crate::store::write::{Headers, KEY_MAX, Put, WriteIf, Written};
use crate::store::{Depth, EMPTY_PAGES, ETag, List, ListStart, Listed, Object, StoreError};
use crate::tree::join;
use crate::xattr::Xattrs;

/// Objects of a directory that are moved at the same time.
pub(super) const MOVES_AT_ONCE: usize = 32;
/// Objects for whose move everything is made ready at the same time.
const MOVES_READY: usize = 1024;
/// Most objects of a directory that is moved: what is to be done is remembered, some 300 bytes each. A million requests
/// take hours, and a listing without an end must end.
const MOVES_MAX: usize = 500_000;

/// What an object says of the file that it is.
type Said = (Attributes, Xattrs, Headers);

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
        let ((object, _), ()) =
            futures::future::try_join(self.object(&old_key), self.may_delete(&old_key)).await?;
        let replaced = self.tree.table().find(to);
        let leaving = match replaced {
            Some(replaced) => self.prepare_to_leave(replaced).await?,
            None => None,
        };
        let said = self.moved_now(from, &object);
        let (etag, size) = (object.version.etag, object.size);
        let condition = if target == Target::Keep { WriteIf::Absent } else { WriteIf::Always };
        let moved = async {
            self.keep_directory(parent).await?;
            let noted = std::iter::once((String::new(), etag.clone()));
            let noted = self.staging.note_move(&RenameIntent::new((from, to), (&old_key, &key), noted))?;
            let moved = match self.copy(&old_key, &etag, size, &key, Some(&said.2), condition).await {
                Ok(written) => self.delete_moved(&old_key, &etag, (to, &key), replaced, written).await,
                Err(FsError::Store(StoreError::Changed { .. })) => match target {
                    Target::Keep => Err(FsError::Exists),
                    Target::Replace => Err(FsError::Stale),
                },
                // It may have got through: then the next process finds both.
                Err(error) => Err(error),
            };
            noted.end();
            moved
        };
        let moved = moved.await;
        if moved.is_err() {
            replaced.inspect(|replaced| self.doubt(to, *replaced));
            self.stay(leaving).await;
            return moved.map(|_| ());
        }
        self.note_file_moved((from, to), (ino, draft.as_deref()), (moved?, size), said);
        self.leave_name(leaving).await;
        Ok(())
    }

    fn note_file_moved(
        &self,
        (from, to): (&Arc<str>, &Arc<str>),
        (ino, draft): (u64, Option<&Draft>),
        (written, size): (Written, u64),
        (attributes, xattrs, headers): Said,
    ) {
        let version = version_of(&written.etag, written.version_id.clone());
        self.tree.table().rename(from, to, Instant::now());
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
    fn moved_now(&self, key: &str, object: &Object) -> Said {
        let mut attributes = Attributes::of(key, object, &self.tree.rules.defaults);
        attributes.ctime = Timestamp::now();
        let xattrs = Xattrs::of(&object.metadata);
        let metadata = headers::metadata(&object.metadata, &attributes, &xattrs, Content::Same);
        let (content_type, kept) = (object.content_type.clone(), object.kept.clone());
        (attributes, xattrs, Headers { content_type, metadata, kept })
    }

    /// Deletes what was copied, or the copy: whatever `replaced` is cannot be brought back.
    async fn delete_moved(
        &self,
        old_key: &str,
        etag: &ETag,
        (to, key): (&Arc<str>, &str),
        replaced: Option<u64>,
        copy: Written,
    ) -> Result<Written, FsError> {
        let Err(error) = self.delete_unchanged(old_key.to_string(), etag.clone()).await else {
            return Ok(copy);
        };
        // The answer may be what got lost: a copy of what is gone is all there is of it.
        match (self.found(old_key).await, replaced) {
            (Ok(None), _) => return Ok(copy),
            (_, Some(replaced)) => {
                self.drop_name(to, replaced);
                tracing::warn!(key, "a file that was not moved has replaced another, and is in both places");
            }
            (Err(_), None) => {
                tracing::warn!(key, "a file that may not have been moved may be in both places")
            }
            (Ok(Some(_)), None) => {
                if let Err(error) = self.delete_unchanged(key.to_string(), copy.etag).await {
                    tracing::warn!(key, error = %error, "a copy of a file that was not moved is left behind");
                }
            }
        }
        Err(error)
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

    async fn rename_directory(&self, from: &Arc<str>, to: &Arc<str>, parent: u64) -> Result<(), FsError> {
        if to.starts_with(&format!("{from}/")) {
            return Err(FsError::Invalid);
        }
        let is_replaced = self.tree.table().find(to).is_some();
        if is_replaced {
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
        self.may_delete(&old).await?;
        // What is in its way is empty, but for what it is itself.
        let replaced = if is_replaced { self.found(&new).await? } else { None };
        let noted = self.staging.note_move(&RenameIntent::new((from, to), (&old, &new), rests))?;
        let moved = match self.copy_all(&objects, &old, &new).await {
            Ok(moved) => self.delete_all(&objects).await.map(|()| moved),
            Err(error) => Err((Vec::new(), error)),
        };
        let outcome = match moved {
            Ok(moved) => {
                self.note_moved(from, to, &new, moved);
                Ok(())
            }
            Err((deleted, error)) => {
                self.take_back(&objects, &deleted, (&old, &new), replaced).await;
                let now = Instant::now();
                self.tree.negative_cache().forget(from, now);
                self.tree.negative_cache().forget(to, now);
                Err(error)
            }
        };
        noted.end();
        outcome
    }

    /// Deletes what was copied. If one of it cannot be deleted: what has been, and why.
    async fn delete_all(&self, objects: &[Listed]) -> Result<(), (Vec<Listed>, FsError)> {
        let mut deleted = Vec::new();
        for ready in objects.chunks(MOVES_READY) {
            let deletions = ready.iter().map(|object| {
                let deleted = self.delete_unchanged(object.key.clone(), object.etag.clone());
                deleted.map(|outcome| outcome.map(|()| object.clone())).boxed()
            });
            let (done, error) = until_error(MOVES_AT_ONCE, deletions).await;
            deleted.extend(done);
            if let Some(error) = error {
                return Err((deleted, error));
            }
        }
        Ok(())
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
        let (markers, others): (Vec<&Listed>, Vec<&Listed>) =
            objects.iter().partition(|object| object.key == old);
        let mut moved = Vec::with_capacity(objects.len());
        for ready in others.chunks(MOVES_READY) {
            let copies = ready.iter().map(|object| self.copy_one(object, old, new).boxed());
            let (copied, error) = until_error(MOVES_AT_ONCE, copies).await;
            if let Some(error) = error {
                return Err(error);
            }
            moved.extend(copied);
        }
        // Last, because another directory may have to make way.
        for marker in markers {
            moved.push(self.copy_one(marker, old, new).await?);
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
        let (_, _, headers) = self.moved_now(&object.key, &marker);
        let etag = &marker.version.etag;
        let copied = self.copy(&object.key, etag, marker.size, key, Some(&headers), WriteIf::Always).await?;
        Ok((String::new(), copied.etag))
    }

    /// Undoes a move: what was deleted is copied back, then copies of what is under its old name are deleted: nothing
    /// is lost by it. The marker that was `replaced` is put back.
    async fn take_back(
        &self,
        objects: &[Listed],
        deleted: &[Listed],
        (old, new): (&str, &str),
        replaced: Option<Object>,
    ) {
        let deleted: HashSet<&str> = deleted.iter().map(|object| &*object.key).collect();
        for ready in objects.chunks(MOVES_READY) {
            let undo = ready.iter().map(|object| {
                let is_deleted = deleted.contains(&*object.key);
                let replaced = replaced.as_ref().filter(|_| object.key == old);
                let copy = format!("{new}{}", object.key.strip_prefix(old).unwrap_or_default());
                self.take_back_one(&object.key, copy, is_deleted, replaced).boxed()
            });
            let undo: Vec<BoxFuture<'_, ()>> = undo.collect();
            stream::iter(undo).buffer_unordered(MOVES_AT_ONCE).collect::<Vec<()>>().await;
        }
    }

    async fn take_back_one(&self, key: &str, copy: String, is_deleted: bool, replaced: Option<&Object>) {
        let outcome: Result<(), FsError> = async {
            // The answer to a deletion may be what got lost: a copy of what is gone is all there is of it.
            if is_deleted || self.found(key).await?.is_none() {
                let (found, _) = self.object(&copy).await?;
                let etag = &found.version.etag;
                self.copy(&copy, etag, found.size, key, None, WriteIf::Absent).await?;
            }
            let Some(Object { content_type, metadata, kept, .. }) = replaced.cloned() else {
                return self.delete(&copy, WriteIf::Always).await;
            };
            let headers = Headers { content_type, metadata, kept };
            let (body, condition) = (Bytes::new(), WriteIf::Always);
            self.store().put(Put { key: &copy, body, headers: &headers, tags: &[], condition }).await?;
            Ok(())
        }
        .await;
        if let Err(error) = outcome {
            tracing::error!(key, copy, error = %error, "a directory that was not moved is in both places");
        }
    }

    async fn all_below(&self, prefix: &str) -> Result<Vec<Listed>, FsError> {
        let (mut objects, mut next) = (Vec::new(), None::<String>);
        for pages in 0.. {
            if pages > objects.len() + EMPTY_PAGES {
                break;
            }
            let from = next.as_deref().map_or(ListStart::Start, ListStart::Page);
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
        self.tree.negative_cache().forget(from, now);
        self.tree.negative_cache().forget(to, now);
        self.note_change(from, false);
        self.note_change(to, true);
    }
}

/// Does `work`, so much of it at a time, until some of it fails; what was under way is waited for.
async fn until_error<'a, T, E>(
    at_once: usize,
    work: impl Iterator<Item = BoxFuture<'a, Result<T, E>>>,
) -> (Vec<T>, Option<E>) {
    let (mut done, mut failed) = (Vec::new(), None);
    let mut work = work.collect::<Vec<_>>().into_iter();
    let mut under_way: FuturesUnordered<_> = work.by_ref().take(at_once).collect();
    while let Some(outcome) = under_way.next().await {
        match outcome {
            Ok(outcome) => done.push(outcome),
            Err(error) => failed = failed.or(Some(error)),
        }
        if failed.is_none() {
            under_way.extend(work.next());
        }
    }
    (done, failed)
}
