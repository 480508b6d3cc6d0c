//! How a test plays the rest of the world, and makes the store fail.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use s3_testbed::{Attributes, Clock, Content, Store, WriteCondition};

use super::convert::{attributes, described};
use crate::store::error::StoreError;
use crate::store::write::{Headers, Kept, Tags};

/// The only bucket.
pub(super) const BUCKET: &str = "bucket";

/// A store in memory, and the handle by which a test plays the rest of the world.
#[derive(Clone)]
pub struct Memory {
    pub(super) store: Store,
    behaviour: Arc<Mutex<Behaviour>>,
}

/// How the store answers.
#[derive(Default)]
struct Behaviour {
    latency: Duration,
    outage: Option<StoreError>,
    refused: Option<fn(&Asked) -> bool>,
    lost: Option<fn(&Asked) -> bool>,
    denied: BTreeSet<String>,
    asked: Vec<Asked>,
}

/// A request that the store was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    Head(String),
    Fetch(String),
    List(String),
    Put(String),
    /// From, to.
    Copy(String, String),
    Delete(String),
    Tags(String),
    BeginUpload(String),
    Part(String, u32),
    CopyPart(String, u32),
    Complete(String),
    Abort(String),
}

impl Default for Memory {
    fn default() -> Memory {
        let store = Store::memory([BUCKET]);
        store.set_clock(Clock::Counted);
        Memory { store, behaviour: Arc::default() }
    }
}

impl Memory {
    /// Writes an object.
    pub fn put(&self, key: &str, body: impl Into<Bytes>, metadata: &[(&str, &str)]) {
        self.put_typed(key, body, None, metadata);
    }

    /// Writes an object with a `Content-Type`.
    pub fn put_typed(
        &self,
        key: &str,
        body: impl Into<Bytes>,
        content_type: Option<&str>,
        metadata: &[(&str, &str)],
    ) {
        let metadata = Attributes::with_metadata(metadata.iter().copied());
        let content_type = content_type.map(str::to_string);
        self.write_always(key, body.into().into(), Attributes { content_type, ..metadata });
    }

    /// Replaces the headers of an object and leaves its content, as a copy onto itself does.
    pub fn put_headers(&self, key: &str, metadata: &[(&str, &str)]) {
        let Ok(object) = self.store.get(BUCKET, key) else { return };
        let Attributes { metadata, .. } = Attributes::with_metadata(metadata.iter().copied());
        let attributes = Attributes { metadata, ..(*object.attributes).clone() };
        self.write_always(key, object.content.clone(), attributes);
    }

    /// Gives an object headers that no file has, and tags.
    pub fn set_headers(&self, key: &str, kept: Kept, tags: &[(&str, &str)]) {
        let Some((headers, _)) = self.headers(key) else { return };
        let tags: Tags = tags.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let headers = Headers { kept: Box::new(kept), ..headers };
        let content = self.store.get(BUCKET, key).expect("it has headers").content.clone();
        self.write_always(key, content, attributes(key, &headers, &tags).expect("few headers"));
    }

    fn write_always(&self, key: &str, content: Content, attributes: Attributes) {
        let always = WriteCondition::default();
        self.store.put_object_with(BUCKET, key, content, attributes, &always).expect("the bucket is there");
    }

    /// An object's headers and tags as they are kept, for a test to look at.
    pub fn headers(&self, key: &str) -> Option<(Headers, Tags)> {
        let found = self.store.get(BUCKET, key).ok()?;
        let object = described(&found);
        let headers =
            Headers { content_type: object.content_type, metadata: object.metadata, kept: object.kept };
        Some((headers, found.attributes.tags.clone()))
    }

    pub fn delete(&self, key: &str) {
        self.store.delete(BUCKET, key).expect("the bucket is there");
    }

    /// Uploads that were begun and neither completed nor aborted: their keys.
    pub fn uploads(&self) -> Vec<String> {
        self.store.uploads().of_bucket(BUCKET).into_iter().map(|(_, upload)| upload.key).collect()
    }

    /// What time writes bear from now on; a second after each other, long ago, until this says otherwise.
    pub fn set_clock(&self, clock: Clock) {
        self.store.set_clock(clock);
    }

    fn behaviour(&self) -> MutexGuard<'_, Behaviour> {
        self.behaviour.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on answers that neither this object nor its headers may be read; it is listed all the same.
    pub fn deny(&self, key: &str) {
        self.behaviour().denied.insert(key.to_string());
    }

    pub(super) fn is_denied(&self, key: &str) -> bool {
        self.behaviour().denied.contains(key)
    }

    /// Every request takes this long; its answer is made half way.
    pub fn set_latency(&self, latency: Duration) {
        self.behaviour().latency = latency;
    }

    /// Every request fails so until it is set to `None`.
    pub fn set_outage(&self, outage: Option<StoreError>) {
        self.behaviour().outage = outage;
    }

    /// Denies every request that is one of these, until it is set to `None`.
    pub fn refuse(&self, requests: Option<fn(&Asked) -> bool>) {
        self.behaviour().refused = requests;
    }

    /// Does every request that is one of these, and never answers it, until it is set to `None`.
    pub fn lose(&self, answers: Option<fn(&Asked) -> bool>) {
        self.behaviour().lost = answers;
    }

    /// What was asked since the last call, in the order of asking.
    pub fn take_asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.behaviour().asked)
    }

    /// Takes a question and answers it in the middle of the time that it takes.
    pub(super) async fn answered<T>(
        &self,
        asked: Asked,
        answer: impl FnOnce() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let half = {
            let mut behaviour = self.behaviour();
            behaviour.asked.push(asked.clone());
            behaviour.latency / 2
        };
        if !half.is_zero() {
            tokio::time::sleep(half).await;
        }
        let outage = {
            let behaviour = self.behaviour();
            let is_refused = behaviour.refused.is_some_and(|refused| refused(&asked));
            let denied = StoreError::Denied { what: format!("{asked:?}"), code: "AccessDenied".into() };
            behaviour.outage.clone().or(is_refused.then_some(denied))
        };
        let answer = outage.map_or_else(answer, Err);
        let is_lost = self.behaviour().lost.is_some_and(|lost| lost(&asked));
        let answer = if is_lost { Err(StoreError::TimedOut(Duration::ZERO)) } else { answer };
        if !half.is_zero() {
            tokio::time::sleep(half).await;
        }
        answer
    }
}
