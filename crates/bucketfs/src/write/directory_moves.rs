//! Directories that are moved: everything below is copied, side by side, then all of it is deleted.
//!
//! What must hold: nothing is deleted before all of it is copied; a move that fails is taken back, and nothing is lost
//! by that.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{self, FuturesUnordered};
use futures::{FutureExt, StreamExt};
use tokio::time::Instant;

use super::moved::MOVES_AT_ONCE;
use super::names::MadeMarker;
use super::record::Attempt;
use super::rename_intent::RenameIntent;
use super::unfinished_moves::is_copy;
use super::writing::Writing;
use crate::error::FsError;
use crate::store::write::{Headers, KEY_MAX, Put, WriteIf};
use crate::store::{Depth, EMPTY_PAGES, ETag, List, ListStart, Listed, Object, StoreError};

/// Objects for whose move everything is made ready at the same time.
const MOVES_READY: usize = 1024;
/// Most objects of a directory that is moved: what is to be done is remembered, some 300 bytes each. A million requests
/// take hours, and a listing without an end must end.
const MOVES_MAX: usize = 500_000;

impl Writing {
    pub(super) async fn rename_directory(
        &self,
        from: &Arc<str>,
        to: &Arc<str>,
        parent: u64,
    ) -> Result<(), FsError> {
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
        if objects.iter().any(|object| object.key.len() + new.len() > KEY_MAX + old.len()) {
            return Err(FsError::NameTooLong);
        }
        self.may_delete(&old).await?;
        let mut made = Vec::new();
        let moved = async {
            made.push(self.keep_old_guise(from, &old, &mut objects).await?);
            made.push(self.keep_directory(parent).await?);
            // What is in its way is empty, but for what it is itself.
            let replaced = if is_replaced { self.found(&new).await? } else { None };
            self.move_all(&objects, (from, to), (&old, &new), replaced).await
        };
        let moved = moved.await;
        if moved.is_err() {
            for made in made {
                self.unkeep_directory(made).await;
            }
            self.staging.end_moves(from, to);
        }
        moved
    }

    /// Moves all of `objects`, or none.
    async fn move_all(
        &self,
        objects: &[Listed],
        (from, to): (&Arc<str>, &Arc<str>),
        (old, new): (&str, &str),
        replaced: Option<Object>,
    ) -> Result<(), FsError> {
        let rests = objects
            .iter()
            .filter_map(|object| Some((object.key.strip_prefix(old)?.to_string(), object.etag.clone())));
        let noted = self.staging.note_move(&RenameIntent::new((from, to), (old, new), rests))?;
        let moved = match self.copy_all(objects, old, new).await {
            Ok(moved) => self.delete_all(objects).await.map(|()| moved),
            Err(error) => Err((Vec::new(), error)),
        };
        let outcome = match moved {
            Ok(moved) => {
                self.note_moved(from, to, new, moved);
                Ok(())
            }
            Err((deleted, error)) => {
                self.take_back(objects, &deleted, (old, new), replaced).await;
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
    async fn keep_old_guise(
        &self,
        from: &str,
        old: &str,
        objects: &mut Vec<Listed>,
    ) -> Result<Option<MadeMarker>, FsError> {
        if objects.iter().any(|object| object.key == old) {
            return Ok(None);
        }
        let ino = self.tree.table().find(from).ok_or(FsError::Stale)?;
        if self.facts(ino, |facts| facts.version.is_some())? {
            // An object of its name makes it one: any change of it makes a marker of that.
            return Err(FsError::NotSupported);
        }
        let made = self.keep_directory(ino).await?;
        if let Ok(marker) = self.store().head(old).await {
            let (key, etag) = (old.to_string(), marker.version.etag);
            let (size, last_modified) = (marker.size, marker.version.last_modified);
            objects.push(Listed { key, size, etag, last_modified });
        }
        Ok(made)
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
        if rest.is_empty() || self.changed_since(&object.key).is_some() {
            return Ok((rest.to_string(), self.copy_marker(object, &key).await?));
        }
        let copy = self.copy(&object.key, &object.etag, object.size, &key, None, WriteIf::Always);
        let etag = match copy.await {
            Err(FsError::Store(StoreError::Changed { .. })) => return Err(FsError::Stale),
            // The answer may be what got lost.
            Err(FsError::Store(error)) if error.may_be_done() => {
                let (source, copy) = futures::try_join!(self.found(&object.key), self.found(&key))?;
                let both = source.zip(copy).filter(|(source, _)| source.version.etag == object.etag);
                both.filter(|(source, copy)| is_copy(source, copy)).ok_or(error)?.1.version.etag
            }
            copied => copied?.etag,
        };
        Ok((rest.to_string(), etag))
    }

    /// Copies a marker of which something changes: that of the directory that is moved, and those whose directories have
    /// other times by now.
    async fn copy_marker(&self, object: &Listed, key: &str) -> Result<ETag, FsError> {
        let (marker, _) = self.object(&object.key).await?;
        let (_, _, headers) = self.moved_now(&object.key, &object.key, &marker);
        let etag = &marker.version.etag;
        let copied = self.copy(&object.key, etag, marker.size, key, Some(&headers), WriteIf::Always).await;
        let attempt = Attempt { size: marker.size, metadata: headers.metadata };
        Ok(self.even_if_unanswered(key, &attempt, copied).await?.etag)
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

    pub(super) async fn all_below(&self, prefix: &str) -> Result<Vec<Listed>, FsError> {
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
