//! A draft becomes an object: in one request, in parts, or by a copy with other headers.
//!
//! ```text
//!   only headers differ ................ copy onto itself
//!   small .............................. one PUT of all bytes
//!   large .............................. an upload in parts: those that have left already, those that the object has
//!                                        (copied by the store), and the rest
//! ```
//!
//! What must hold: the object is replaced only if it is still the one that was opened, unless the mount says
//! otherwise; a refusal that is an answer to a request of ours which did get through is a success; what cannot be
//! stored because somebody else was faster is kept on disk.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use tokio::time::Instant;

use super::draft::Draft;
use super::extents::Snapshot;
use super::headers;
use super::objects::{PARTS_AT_ONCE, side_by_side};
use super::options::OnConflict;
use super::part_layout::{How, Part};
use super::record::{Attempt, Event, Kept as KeptRecord, Life};
use super::state::{Base, Begun, State, Stream, version_of};
use super::writing::Writing;
use crate::attr::Attributes;
use crate::error::FsError;
use crate::store::write::{
    Headers, METADATA_MAX, PartOf, Put, Tags, Upload, WriteIf, Written, metadata_bytes,
};
use crate::store::{ETag, Object, StoreError};
use crate::xattr::Xattrs;

/// Attempts whose answers got lost that are remembered.
const ATTEMPTS_KEPT: usize = 4;
/// How long an upload is begun again that met another write of the same key, and the pauses between.
const CONFLICTS_LIMIT: Duration = Duration::from_secs(60);
const CONFLICT_PAUSES: [u64; 5] = [50, 200, 500, 1000, 2000];
/// How long it is looked for what a request has done whose answer did not come: whoever waits has waited long.
const LOOK_LIMIT: Duration = Duration::from_secs(5);

/// What is to be stored: everything that was true at one moment.
struct Job {
    path: Arc<str>,
    key: String,
    snapshot: Snapshot,
    is_content_dirty: bool,
    attributes: Attributes,
    xattrs: Xattrs,
    headers: Headers,
    tags: Tags,
    base: Option<Base>,
    condition: WriteIf,
    upload: Option<Arc<Begun>>,
    sent: BTreeMap<u32, ETag>,
}

impl Writing {
    /// Stores what has changed, and waits until the store has accepted it.
    ///
    /// # Errors
    ///
    /// [`FsError::Lost`] when somebody else has written the object since it was opened; whatever the store says.
    pub async fn commit(&self, draft: &Draft) -> Result<(), FsError> {
        let outcome = {
            let _names = self.names.read().await;
            let _one = draft.commits.lock().await;
            self.commit_locked(draft).await
        };
        if outcome.is_ok() {
            self.refused.end(draft.ino);
        }
        if matches!(outcome, Err(FsError::Lost)) {
            self.tree.invalidate(draft.ino).await;
        }
        outcome
    }

    /// As [`commit`](Self::commit), by somebody who holds the draft's `commits`.
    pub(super) async fn commit_locked(&self, draft: &Draft) -> Result<(), FsError> {
        match &draft.state().life {
            Life::Lost { .. } => return Err(FsError::Lost),
            Life::Orphan => return Ok(()),
            Life::Named => {}
        }
        if !draft.state().is_dirty() {
            return Ok(());
        }
        let (began, mut conflicts, mut is_again) = (Instant::now(), 0, false);
        loop {
            match self.attempt(draft).await? {
                Attempted::Stored => return Ok(()),
                // Its own doing was in the way, and cannot have been twice.
                Attempted::Again if is_again => return Err(FsError::Stale),
                Attempted::Again => is_again = true,
                Attempted::Met(error) if began.elapsed() > CONFLICTS_LIMIT => return Err(error.into()),
                Attempted::Met(_) => {
                    let pause = CONFLICT_PAUSES[conflicts.min(CONFLICT_PAUSES.len() - 1)];
                    tokio::time::sleep(Duration::from_millis(pause)).await;
                    conflicts += 1;
                }
            }
        }
    }

    /// Asks the store once to take what has changed.
    async fn attempt(&self, draft: &Draft) -> Result<Attempted, FsError> {
        draft.state().stream.is_closed = true;
        self.wait_for_parts(draft).await;
        let job = {
            let mut state = draft.state();
            let job = self.job(&mut state);
            state.sending = Some(job.snapshot.clone());
            job
        };
        // Whoever has the name by now may have written the very bytes that it had.
        if self.rules.on_conflict == OnConflict::Fail && self.has_lost_its_name(draft.ino) {
            self.lose(draft, &job, FsError::Stale).await;
            return Err(FsError::Lost);
        }
        let earlier = self.note_attempt(draft, &job);
        let outcome = self.store_job(draft, &job).await;
        let error = match outcome {
            Ok(written) => return Ok(self.committed(draft, job, written)),
            Err(error) => error,
        };
        if let FsError::Store(met @ StoreError::Conflict { .. }) = error {
            return Ok(self.met(draft, job.snapshot, met).await);
        }
        let is_over = matches!(error, FsError::Store(StoreError::NoUpload { .. }));
        // Of parts, `store_in_parts` has looked.
        if may_be_done(&error)
            && let Some(written) =
                self.look_for(&job.key, &job.attempt()).await.filter(|_| job.upload.is_none())
        {
            return Ok(self.committed(draft, job, written));
        }
        if !is_conflict(&error) && !is_over {
            self.not_stored(draft, job.snapshot);
            return Err(error);
        }
        self.after_conflict(draft, job, earlier, error).await
    }

    /// An upload that met another write of the key is begun again, unless it alone has some of the bytes.
    async fn met(&self, draft: &Draft, snapshot: Snapshot, met: StoreError) -> Attempted {
        self.not_stored(draft, snapshot);
        if draft.state().extents.all_released().is_empty() {
            self.give_up_upload(draft).await;
            draft.state().stream.is_closed = false;
        }
        Attempted::Met(met)
    }

    /// Finds out whose write it is that was in the way.
    async fn after_conflict(
        &self,
        draft: &Draft,
        job: Job,
        earlier: Vec<Attempt>,
        error: FsError,
    ) -> Result<Attempted, FsError> {
        let is_over = matches!(error, FsError::Store(StoreError::NoUpload { .. }));
        // Somebody else has written the object, or it is our own write that the store speaks of. Whoever cannot look does
        // not know.
        let found = match self.found(&job.key).await {
            Ok(found) => found,
            Err(error) => {
                self.not_stored(draft, job.snapshot);
                return Err(error);
            }
        };
        let now = Some(job.attempt()).filter(|now| !earlier.contains(now));
        if let Some(written) = found.as_ref().zip(now).and_then(|(found, now)| now.made(found)) {
            return Ok(self.committed(draft, job, written));
        }
        // Of an upload all attempts look alike, whatever was written between them: only the last one is sure to be it.
        let earlier = found.filter(|found| earlier.iter().any(|attempt| attempt.made(found).is_some()));
        if let Some(found) = earlier {
            self.not_stored(draft, job.snapshot);
            self.rebase(draft, &job.key, found);
            return Ok(Attempted::Again);
        }
        if is_over && draft.state().extents.all_released().is_empty() {
            self.not_stored(draft, job.snapshot);
            draft.state().stream = Stream::default();
            return Ok(Attempted::Again);
        }
        self.lose(draft, &job, error).await;
        Err(FsError::Lost)
    }

    /// What an answer that did not come would have been: whether the object is what was to be made of it.
    pub(super) async fn look_for(&self, key: &str, attempt: &Attempt) -> Option<Written> {
        let found = tokio::time::timeout(LOOK_LIMIT, self.store().head(key)).await;
        attempt.made(&found.ok()?.ok()?)
    }

    /// What a request that was to make `attempt` of an object has come to, also if only its answer did not come.
    pub(super) async fn even_if_unanswered(
        &self,
        key: &str,
        attempt: &Attempt,
        outcome: Result<Written, FsError>,
    ) -> Result<Written, FsError> {
        match outcome {
            Err(error) if may_be_done(&error) => self.look_for(key, attempt).await.ok_or(error),
            outcome => outcome,
        }
    }

    /// Writes down what the store is about to be asked for; answers for what it was asked before.
    fn note_attempt(&self, draft: &Draft, job: &Job) -> Vec<Attempt> {
        let mut state = draft.state();
        let earlier = state.attempts();
        let attempt = job.attempt();
        if !state.attempts.contains(&attempt) {
            if let Err(error) = draft.note(&state, &Event::Attempt(attempt.clone())) {
                tracing::debug!(error = %error, "a successor would not know what was about to be stored");
            }
            state.attempts.push(attempt);
            let old = state.attempts.len().saturating_sub(ATTEMPTS_KEPT);
            state.attempts.drain(..old);
        }
        earlier
    }

    fn not_stored(&self, draft: &Draft, snapshot: Snapshot) {
        let mut state = draft.state();
        state.extents.not_stored(snapshot);
        state.sending = None;
        state.stream.is_closed = false;
    }

    /// The object is what an earlier attempt made of it, whose answer got lost: it is that which is changed now.
    fn rebase(&self, draft: &Draft, key: &str, found: Object) {
        let mut state = draft.state();
        state.extents.rebased(found.size);
        state.stream = Stream::default();
        state.base = Some(self.base(draft.ino, key, found.version, found.size));
        if let Err(error) = draft.note_all(&state) {
            tracing::debug!(error = %error, "a successor would have to find out again");
        }
    }

    fn job(&self, state: &mut State) -> Job {
        let is_content_dirty = state.is_content_dirty();
        let upload = state.stream.upload.clone();
        let mut attributes = state.shown();
        if let Some(begun) = upload.as_ref().filter(|_| !state.times_set) {
            (attributes.mtime, attributes.ctime) = (begun.mtime, begun.ctime);
        }
        let mut headers = state.headers_of(&attributes, is_content_dirty);
        if is_content_dirty {
            self.store().stamp(&mut headers.kept);
        }
        let condition = match (&state.base, self.rules.on_conflict) {
            (_, OnConflict::Overwrite) => WriteIf::Always,
            (Some(base), OnConflict::Fail) => WriteIf::Unchanged(base.version.etag.clone()),
            (None, OnConflict::Fail) => WriteIf::Absent,
        };
        Job {
            path: state.path.clone(),
            key: self.tree.key(&state.path),
            is_content_dirty,
            attributes,
            xattrs: state.xattrs.clone(),
            headers,
            tags: state.tags.clone(),
            base: state.base.clone(),
            condition,
            upload,
            sent: state.stream.sent.clone(),
            snapshot: state.extents.snapshot(),
        }
    }

    async fn store_job(&self, draft: &Draft, job: &Job) -> Result<Written, FsError> {
        if metadata_bytes(&job.headers.metadata) > METADATA_MAX {
            return Err(FsError::TooManyAttributes);
        }
        let size = job.snapshot.size;
        let answer = match &job.base {
            Some(base) if !job.is_content_dirty => {
                let condition = job.condition.clone();
                let etag = &base.version.etag;
                return self.copy(&job.key, etag, size, &job.key, Some(&job.headers), condition).await;
            }
            _ if size <= self.rules.single_bytes && job.upload.is_none() => {
                draft.hydrate(0..size).await?;
                let _memory = self.memory_for(size).await;
                let body = Bytes::from(draft.file.read(0, size as usize)?);
                let (headers, tags, condition) = (&job.headers, &job.tags, job.condition.clone());
                let put = Put { key: &job.key, body, headers, tags, condition };
                self.store().put(put).await
            }
            _ => return self.store_in_parts(draft, job).await,
        };
        self.tree.availability().note(&answer);
        Ok(answer?)
    }

    async fn store_in_parts(&self, draft: &Draft, job: &Job) -> Result<Written, FsError> {
        // Of what no layout holds only the beginning would be stored.
        if job.snapshot.size > self.layout.largest_file() {
            return Err(FsError::TooLarge);
        }
        let begun = match &job.upload {
            Some(begun) => begun.clone(),
            None => Arc::new(Begun::new(&job.key, &job.attributes, job.headers.clone())),
        };
        draft.state().stream.upload = Some(begun.clone());
        let id = self.upload_id(draft, &begun, &job.tags).await?;
        let upload = Upload { key: &begun.key, id: &id };
        let todo = self.layout.parts(&job.snapshot);
        let sent = |part: &Part| job.sent.get(&part.number).map(|etag| (part.number, etag.clone()));
        let unsent = todo.iter().filter(|part| sent(part).is_none());
        let work = unsent.map(|part| self.store_part(draft, job, upload, part).boxed()).collect();
        let mut parts: Vec<(u32, ETag)> = side_by_side(PARTS_AT_ONCE, work).await?;
        parts.extend(todo.iter().filter_map(sent));
        parts.sort_by_key(|(number, _)| *number);
        let answer = self.store().complete_upload(upload, &parts, job.condition.clone()).await;
        self.tree.availability().note(&answer);
        let written = match answer {
            // It may be over because an answer to us got lost.
            Err(error) if matches!(error, StoreError::NoUpload { .. }) || error.may_be_done() => {
                let metadata = begun.headers.metadata.clone();
                let attempt = Attempt { metadata, size: job.snapshot.size };
                self.look_for(&job.key, &attempt).await.ok_or(error)?
            }
            answer => answer?,
        };
        if begun.headers != job.headers {
            let (size, condition) = (job.snapshot.size, WriteIf::Always);
            return self.copy(&job.key, &written.etag, size, &job.key, Some(&job.headers), condition).await;
        }
        Ok(written)
    }

    async fn store_part(
        &self,
        draft: &Draft,
        job: &Job,
        upload: Upload<'_>,
        part: &Part,
    ) -> Result<(u32, ETag), FsError> {
        let range = part.range.clone();
        let answer = match (part.how, &job.base) {
            (How::Copy, Some(base)) => {
                let source = PartOf { from: &job.key, etag: &base.version.etag, range };
                self.store().copy_part(upload, part.number, source).await
            }
            _ => {
                self.hydrate(draft, range.clone()).await?;
                self.send_part(draft, upload, part.number, &range).await
            }
        };
        self.tree.availability().note(&answer);
        Ok((part.number, answer?))
    }

    fn committed(&self, draft: &Draft, job: Job, written: Written) -> Attempted {
        let mut state = draft.state();
        let size = job.snapshot.size;
        state.extents.stored(&job.snapshot);
        state.sending = None;
        state.attempts.clear();
        state.refused = None;
        state.stream = Stream::default();
        let is_as_stored = state.xattrs == job.xattrs
            && (state.attributes.permissions, state.attributes.uid, state.attributes.gid)
                == (job.attributes.permissions, job.attributes.uid, job.attributes.gid);
        state.headers_changed = !is_as_stored;
        if is_as_stored && !state.is_content_dirty() {
            state.attributes = job.attributes;
        }
        if job.is_content_dirty {
            state.xattrs = headers::of_new_bytes(&state.headers.metadata, &state.xattrs);
        }
        state.headers = job.headers;
        let version = version_of(&written.etag, written.version_id);
        state.base = Some(self.base(draft.ino, &job.key, version.clone(), size));
        draft.file.set_modified(state.attributes.mtime.into());
        if let Err(error) = draft.note_all(&state) {
            tracing::debug!(error = %error, "a successor would have to find out what was stored");
        }
        self.tree.show(draft.ino, &state);
        let mut table = self.tree.table();
        table.set_unsent(&job.path, false);
        table.set_facts(draft.ino, |facts| {
            facts.version = Some(version);
            facts.settled = false;
        });
        if let Some(node) = table.node_mut(draft.ino) {
            node.content = None;
            node.checked = Some(Instant::now());
        }
        drop(table);
        self.forget_questions(&job.path);
        Attempted::Stored
    }

    /// Keeps what was written where a person can find it, and lets the name go to whoever has it now.
    async fn lose(&self, draft: &Draft, job: &Job, error: FsError) {
        if let Err(error) = self.hydrate(draft, 0..job.snapshot.size).await {
            tracing::debug!(error = %error, "what was not written here cannot be kept");
        }
        let metadata = job.headers.metadata.clone();
        let kept = self.kept_of(&mut draft.state(), &error.to_string());
        let kept = KeptRecord { size: job.snapshot.size, metadata, ..kept };
        let outcome = self.staging.keep(&draft.file, job.snapshot.size, &kept);
        let path = match outcome {
            Ok(path) => {
                tracing::error!(key = %job.key, ?path, "another writer was faster: what was written here is kept");
                Some(path)
            }
            Err(error) => {
                tracing::error!(key = %job.key, error = %error, "another writer was faster, and nothing could be kept");
                None
            }
        };
        self.give_up_upload(draft).await;
        self.note_lost(draft, draft.state(), path);
    }
}

/// How an attempt to store a file ended, if not with an error.
enum Attempted {
    Stored,
    /// What was in the way is not any more.
    Again,
    /// Somebody else's write of the same key was under way: nothing is decided.
    Met(StoreError),
}

impl Job {
    fn attempt(&self) -> Attempt {
        Attempt { size: self.snapshot.size, metadata: self.headers.metadata.clone() }
    }
}

/// Whether the store may have done it without our hearing of that.
fn may_be_done(error: &FsError) -> bool {
    matches!(error, FsError::Store(error) if error.may_be_done())
}

/// Whether the store says that the object is not the one that was opened.
fn is_conflict(error: &FsError) -> bool {
    matches!(error, FsError::Store(StoreError::Changed { .. } | StoreError::NotFound { .. }))
}
