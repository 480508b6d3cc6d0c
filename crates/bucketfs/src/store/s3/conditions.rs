//! What a store does with the conditions of writes, and how what it does not do is made up for.
//!
//! ```text
//!   AWS ........ keeps them all
//!   another .... is tried once, before its first conditional write: an object of a moment is written, copied and deleted
//!                under conditions that do not hold
//!
//!   PUT         not kept --> refused here: nothing would protect what somebody else writes
//!   the others  not kept --> the object is looked at just before; a copy onto itself has its source's condition
//! ```
//!
//! What must hold: a condition that the store is known not to keep is never relied on; nothing of the trial stays; a
//! store that could not be tried is not taken for one that keeps them, nor for one that does not, and is tried again.

use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::client::S3;
use super::said::malformed;
use crate::store::error::StoreError;
use crate::store::version::ETag;
use crate::store::write::{Conditions, CopyRequest, Headers, Heed, Put, Upload, WriteIf};

/// Beginning of the name of the object by which a store is tried.
const TRIAL: &str = ".mapkeeper-trial-";
/// An entity tag that nothing has.
const OTHER: &str = "\"00000000000000000000000000000000\"";

impl S3 {
    /// What the store does with conditions, tried beside `key` if it is not known yet.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub(super) async fn heed(&self, key: &str) -> Result<Conditions, StoreError> {
        let directory = key.rfind('/').map_or("", |at| &key[..=at]);
        match self.knowledge.found.get_or_try_init(|| self.trial(directory)).await {
            Ok(found) => Ok(*found),
            Err(error) if error.is_outage() => Err(error),
            // A key that may be written is no reason that one beside it may be.
            Err(error) => {
                tracing::debug!(error = %error, "cannot try what the store does with conditions");
                Ok(Conditions::default())
            }
        }
    }

    async fn trial(&self, directory: &str) -> Result<Conditions, StoreError> {
        let moment = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let key = format!("{directory}{TRIAL}{}-{moment:x}", std::process::id());
        let found = self.tried_with(&key).await;
        if let Err(error) = self.send_delete(&key, &WriteIf::Always, Form::Quoted).await {
            tracing::warn!(key, error = %error, "an object by which the store was tried is left behind");
        }
        let found = found?;
        tracing::debug!(?found, "what the store does with conditions");
        Ok(found)
    }

    async fn tried_with(&self, key: &str) -> Result<Conditions, StoreError> {
        let (headers, wrong) = (Headers::default(), WriteIf::Unchanged(ETag(OTHER.into())));
        let put = async |condition: WriteIf, form| {
            let body = Bytes::from_static(b"mapkeeper tries what this store does with conditions");
            self.send_put(&Put { key, body, headers: &headers, tags: &[], condition }, form).await
        };
        let mut etag = put(WriteIf::Always, Form::Quoted).await?.etag;
        let absent = heed(put(WriteIf::Absent, Form::Quoted).await.map(|written| etag = written.etag))?;
        let other = heed(put(wrong.clone(), Form::Quoted).await.map(|written| etag = written.etag))?;
        let mut conditions = Conditions { put: absent.max(other), ..Conditions::default() };
        if conditions.put == Heed::Kept {
            let same = || WriteIf::Unchanged(etag.clone());
            let mut written = put(same(), Form::Quoted).await;
            if let Err(StoreError::Changed { .. }) = written {
                written = put(same(), Form::Bare).await;
                self.knowledge.bare_tags.store(written.is_ok(), Ordering::Relaxed);
            }
            match written {
                Ok(written) => etag = written.etag,
                Err(error) if error.is_outage() => return Err(error),
                Err(_) => conditions.put = Heed::Refused,
            }
        }
        let copy = async |etag: &ETag, condition: WriteIf| {
            let copy = CopyRequest { from: key, etag, to: key, headers: Some(&headers), condition };
            self.send_copy(&copy, &copy.condition, Heed::Kept, Form::Quoted).await
        };
        let other = ETag(OTHER.into());
        conditions.source = heed(copy(&other, WriteIf::Always).await.map(|written| etag = written.etag))?;
        let source = if conditions.source == Heed::Kept { etag.clone() } else { other };
        conditions.copy = heed(copy(&source, WriteIf::Absent).await.map(drop))?;
        conditions.complete = self.tried_in_parts(key, &headers).await?;
        conditions.delete = heed(self.send_delete(key, &wrong, Form::Quoted).await)?;
        Ok(conditions)
    }

    async fn tried_in_parts(&self, key: &str, headers: &Headers) -> Result<Heed, StoreError> {
        let id = match self.begin(key, headers, &[]).await {
            Ok(id) => id,
            Err(error) if error.is_outage() => return Err(error),
            Err(_) => return Ok(Heed::Kept),
        };
        let upload = Upload { key, id: &id };
        let completed = async {
            let part = self.upload_part(upload, 1, Bytes::from_static(b"x")).await?;
            self.send_complete(upload, &[(1, part)], &WriteIf::Absent, Form::Quoted).await
        };
        let completed = completed.await;
        if completed.is_err() {
            let _ = self.abort(upload).await;
        }
        heed(completed.map(drop))
    }

    /// Looks whether a condition holds.
    ///
    /// # Errors
    ///
    /// As a write with that condition.
    pub(super) async fn look(&self, key: &str, condition: &WriteIf) -> Result<(), StoreError> {
        if *condition == WriteIf::Always {
            return Ok(());
        }
        match (self.head_object(key).await, condition) {
            (Err(StoreError::NotFound { .. }), WriteIf::Absent) => Ok(()),
            (Ok(found), WriteIf::Unchanged(etag)) if found.version.etag == *etag => Ok(()),
            (Ok(_), _) => Err(StoreError::Changed { key: key.to_string() }),
            (Err(error), _) => Err(error),
        }
    }

    /// Sends a write with its condition. One that does not hold by the store's word, and does by its own HEAD, is sent once
    /// more with a tag without quotes.
    ///
    /// # Errors
    ///
    /// As `send`; [`StoreError::Malformed`] when the store contradicts itself; [`StoreError::Unconditional`].
    pub(super) async fn conditionally<T, F: Future<Output = Result<T, StoreError>>>(
        &self,
        key: &str,
        condition: &WriteIf,
        send: impl Fn(Form) -> F,
    ) -> Result<T, StoreError> {
        let form = if self.knowledge.bare_tags.load(Ordering::Relaxed) { Form::Bare } else { Form::Quoted };
        let answer = match send(form).await {
            Err(StoreError::Refused { status: 501, .. }) if *condition != WriteIf::Always => {
                Err(StoreError::Unconditional { key: key.to_string() })
            }
            answer => answer,
        };
        let (Err(StoreError::Changed { .. }), WriteIf::Unchanged(_), Form::Quoted) =
            (&answer, condition, form)
        else {
            return answer;
        };
        // Whoever asked looks as well, and says if that cannot be done.
        if self.look(key, condition).await.is_err() {
            return answer;
        }
        match send(Form::Bare).await {
            Ok(done) => {
                self.knowledge.bare_tags.store(true, Ordering::Relaxed);
                Ok(done)
            }
            Err(StoreError::Changed { .. }) => {
                Err(malformed(&format!("{key:?} is not the version that its own headers name")))
            }
            Err(error) => Err(error),
        }
    }
}

/// How an entity tag is written in a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Quoted,
    Bare,
}

/// What an answer to a request shows whose condition does not hold.
fn heed(answer: Result<(), StoreError>) -> Result<Heed, StoreError> {
    match answer {
        Ok(()) => Ok(Heed::Ignored),
        Err(StoreError::Unconditional { .. } | StoreError::Refused { status: 400 | 405 | 501, .. }) => {
            Ok(Heed::Refused)
        }
        Err(error) if error.is_outage() => Err(error),
        // Denied, too: then it is done under no condition.
        Err(_) => Ok(Heed::Kept),
    }
}
