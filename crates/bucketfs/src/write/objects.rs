//! Single objects in the store: asked for, copied, deleted.
//!
//! What must hold: what is copied or deleted is what was seen, unless the mount says that the last one wins.

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};

use super::options::OnConflict;
use super::writing::Writing;
use crate::error::FsError;
use crate::store::write::{
    CopyRequest, Headers, Heed, OBJECT_MAX, PARTS_MAX, PartOf, Put, Tags, Upload, WriteIf, Written,
};
use crate::store::{ETag, Object, StoreError, Version};

/// Parts under way at once for one file.
pub(super) const PARTS_AT_ONCE: usize = 8;
/// Objects above this are copied in several requests.
const COPY_ONE: u64 = 512 * 1024 * 1024;

impl Writing {
    /// The headers of an object, and its tags if it has any.
    pub(super) async fn object(&self, key: &str) -> Result<(Object, Tags), FsError> {
        let answer = self.store().head(key).await;
        self.tree.availability().note(&answer);
        let object = match answer {
            Err(StoreError::NotFound { .. }) => return Err(FsError::Stale),
            answer => answer?,
        };
        let tags = if object.kept.tags > 0 { self.store().tags(key).await? } else { Tags::new() };
        Ok((object, tags))
    }

    pub(super) async fn found(&self, key: &str) -> Result<Option<crate::store::Object>, FsError> {
        match self.store().head(key).await {
            Ok(object) => Ok(Some(object)),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Copies an object within the bucket, however large it is.
    pub(super) async fn copy(
        &self,
        from: &str,
        etag: &ETag,
        size: u64,
        to: &str,
        headers: Option<&Headers>,
        condition: WriteIf,
    ) -> Result<Written, FsError> {
        if size > OBJECT_MAX {
            return Err(FsError::TooLarge);
        }
        let answer = match size <= COPY_ONE {
            true => self.store().copy(CopyRequest { from, etag, to, headers, condition }).await,
            false => self.copy_in_parts(from, etag, size, to, headers, condition).await,
        };
        self.tree.availability().note(&answer);
        Ok(answer?)
    }

    async fn copy_in_parts(
        &self,
        from: &str,
        etag: &ETag,
        size: u64,
        to: &str,
        headers: Option<&Headers>,
        condition: WriteIf,
    ) -> Result<Written, StoreError> {
        let source = self.store().head(from).await?;
        let tags = if source.kept.tags > 0 { self.store().tags(from).await? } else { Tags::new() };
        let own = Headers { content_type: source.content_type, metadata: source.metadata, kept: source.kept };
        let id = self.store().begin_upload(to, headers.unwrap_or(&own), &tags).await?;
        let upload = Upload { key: to, id: &id };
        let piece = COPY_ONE.max(size.div_ceil(u64::from(PARTS_MAX)));
        let ranges = (0..size.div_ceil(piece)).map(|at| at * piece..size.min((at + 1) * piece));
        let outcome = async {
            let copy = |(range, number)| {
                let part = PartOf { from, etag, range };
                let copied = self.store().copy_part(upload, number, part);
                copied.map(move |etag| Ok::<_, StoreError>((number, etag?))).boxed()
            };
            let work = ranges.zip(1u32..).map(copy).collect();
            let mut parts: Vec<(u32, ETag)> = side_by_side(PARTS_AT_ONCE, work).await?;
            parts.sort_by_key(|(number, _)| *number);
            self.store().complete_upload(upload, &parts, condition).await
        };
        let outcome = outcome.await;
        if outcome.is_err() {
            let _ = self.store().abort_upload(upload).await;
        }
        outcome
    }

    /// The condition under which what was seen is replaced: none where the last one wins.
    pub(super) fn if_seen(&self, etag: &ETag) -> WriteIf {
        match self.rules.on_conflict {
            OnConflict::Fail => WriteIf::Unchanged(etag.clone()),
            OnConflict::Overwrite => WriteIf::Always,
        }
    }

    /// Refuses what could not be stored without a risk that nobody has taken.
    pub(super) fn may_write(&self) -> Result<(), FsError> {
        let is_guarded = self.store().known_conditions().put == Heed::Kept;
        match is_guarded || self.rules.on_conflict == OnConflict::Overwrite {
            true => Ok(()),
            false => Err(FsError::NotSupported),
        }
    }

    /// Puts what must not be there yet. On a store that knows no conditions that is looked for before, where the last one
    /// wins.
    pub(super) async fn put_new(&self, put: Put<'_>) -> Result<Written, StoreError> {
        let put = Put { condition: WriteIf::Absent, ..put };
        match self.store().put(put.clone()).await {
            Err(StoreError::Unconditional { .. }) if self.rules.on_conflict == OnConflict::Overwrite => {
                match self.store().head(put.key).await {
                    Ok(_) => Err(StoreError::Changed { key: put.key.to_string() }),
                    Err(StoreError::NotFound { .. }) => {
                        self.store().put(Put { condition: WriteIf::Always, ..put }).await
                    }
                    Err(error) => Err(error),
                }
            }
            answer => answer,
        }
    }

    /// Deletes an object if it is still what it was.
    pub(super) async fn delete_unchanged(&self, key: String, etag: ETag) -> Result<(), FsError> {
        match self.delete(&key, WriteIf::Unchanged(etag)).await {
            Err(FsError::Store(StoreError::Changed { .. })) => Err(FsError::Stale),
            // A store that knows no conditions on deletions: as s3fs does.
            Err(FsError::Store(StoreError::Unconditional { .. })) => self.delete(&key, WriteIf::Always).await,
            outcome => outcome,
        }
    }

    pub(super) async fn delete(&self, key: &str, condition: WriteIf) -> Result<(), FsError> {
        let answer = self.store().delete(key, condition).await;
        self.tree.availability().note(&answer);
        match answer {
            // The answer may be what got lost.
            Err(error) if error.may_be_done() && matches!(self.found(key).await, Ok(None)) => Ok(()),
            answer => Ok(answer?),
        }
    }

    /// Deletes an object if it is still the one that was seen, unless the mount says that the last one wins.
    pub(super) async fn delete_seen(&self, key: &str, seen: Option<Version>) -> Result<(), FsError> {
        match seen.filter(|_| self.rules.on_conflict == OnConflict::Fail) {
            Some(seen) => self.delete_unchanged(key.to_string(), seen.etag).await,
            None => self.delete(key, WriteIf::Always).await,
        }
    }

    /// Asks the store whether a name like `key` may be taken away, before anything is done that cannot be taken back
    /// without that: by the deletion of what is not there, under a condition that does not hold either.
    ///
    /// # Errors
    ///
    /// The store's refusal.
    pub(super) async fn may_delete(&self, key: &str) -> Result<(), FsError> {
        let absent = format!("{key}.mapkeeper-{}", std::process::id());
        let answer = self.store().delete(&absent, WriteIf::Unchanged(ETag("\"absent\"".into()))).await;
        self.tree.availability().note(&answer);
        match answer {
            Ok(())
            | Err(
                StoreError::Changed { .. }
                | StoreError::NotFound { .. }
                | StoreError::KeyTooLong { .. }
                | StoreError::Unconditional { .. },
            ) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Does all of `work`, so much of it at a time; the first failure ends it.
pub(super) async fn side_by_side<T, E>(
    at_once: usize,
    work: Vec<BoxFuture<'_, Result<T, E>>>,
) -> Result<Vec<T>, E> {
    stream::iter(work).buffer_unordered(at_once).try_collect().await
}
