//! What a store in memory holds, and how a test plays the rest of the world.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use crate::store::error::StoreError;
use crate::store::read::Object;
use crate::store::version::{ETag, Version};
use crate::store::write::{Headers, Tags};

/// A store in memory, and the handle by which a test plays the rest of the world.
#[derive(Clone, Default)]
pub struct Memory {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
pub(super) struct Inner {
    pub(super) objects: BTreeMap<String, (Object, Bytes)>,
    pub(super) writes: i64,
    clock: Clock,
    latency: Duration,
    outage: Option<StoreError>,
    refused: Option<fn(&Asked) -> bool>,
    lost: Option<fn(&Asked) -> bool>,
    pub(super) denied: BTreeSet<String>,
    asked: Vec<Asked>,
    pub(super) tags: BTreeMap<String, Tags>,
    pub(super) uploads: BTreeMap<String, Begun>,
}

/// What time it is at the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Clock {
    /// Long ago, and every write a second after the one before.
    #[default]
    Counted,
    /// That of the host: writes of the same second cannot be told apart by it.
    Wall,
}

impl Inner {
    pub(super) fn now(&mut self) -> i64 {
        self.writes += 1;
        match self.clock {
            Clock::Counted => 1_700_000_000 + self.writes,
            Clock::Wall => {
                let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
                since.map_or(0, |since| since.as_secs() as i64)
            }
        }
    }
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

fn owned(metadata: &[(&str, &str)]) -> Vec<(String, String)> {
    metadata.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

/// As S3's for a plain PUT: the same for the same content.
pub(super) fn etag(body: &Bytes) -> ETag {
    let mut hasher = DefaultHasher::new();
    body.hash(&mut hasher);
    ETag(format!("\"{:016x}\"", hasher.finish()).into())
}

impl Memory {
    pub(super) fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

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
        let body = body.into();
        let mut inner = self.inner();
        let last_modified = inner.now();
        let object = Object {
            size: body.len() as u64,
            version: Version { etag: etag(&body), last_modified, version_id: None },
            content_type: content_type.map(str::to_string),
            metadata: owned(metadata),
            kept: Box::default(),
        };
        inner.objects.insert(key.to_string(), (object, body));
    }

    /// Replaces the headers of an object and leaves its content, as a copy onto itself does.
    pub fn put_headers(&self, key: &str, metadata: &[(&str, &str)]) {
        let mut inner = self.inner();
        let last_modified = inner.now();
        if let Some((object, _)) = inner.objects.get_mut(key) {
            object.metadata = owned(metadata);
            object.version.last_modified = last_modified;
        }
    }

    /// From now on answers that neither this object nor its headers may be read; it is listed all the same.
    pub fn deny(&self, key: &str) {
        self.inner().denied.insert(key.to_string());
    }

    /// What time writes bear from now on.
    pub fn set_clock(&self, clock: Clock) {
        self.inner().clock = clock;
    }

    pub fn delete(&self, key: &str) {
        self.inner().objects.remove(key);
    }

    /// Every request takes this long; its answer is made half way.
    pub fn set_latency(&self, latency: Duration) {
        self.inner().latency = latency;
    }

    /// Every request fails so until it is set to `None`.
    pub fn set_outage(&self, outage: Option<StoreError>) {
        self.inner().outage = outage;
    }

    /// Denies every request that is one of these, until it is set to `None`.
    pub fn refuse(&self, requests: Option<fn(&Asked) -> bool>) {
        self.inner().refused = requests;
    }

    /// Does every request that is one of these, and never answers it, until it is set to `None`.
    pub fn lose(&self, answers: Option<fn(&Asked) -> bool>) {
        self.inner().lost = answers;
    }

    /// What was asked since the last call, in the order of asking.
    pub fn take_asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.inner().asked)
    }

    /// Takes a question and answers it in the middle of the time that it takes.
    pub(super) async fn answered<T>(
        &self,
        asked: Asked,
        answer: impl FnOnce() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let half = {
            let mut inner = self.inner();
            inner.asked.push(asked.clone());
            inner.latency / 2
        };
        if !half.is_zero() {
            tokio::time::sleep(half).await;
        }
        let outage = {
            let inner = self.inner();
            let is_refused = inner.refused.is_some_and(|refused| refused(&asked));
            let denied = StoreError::Denied { what: format!("{asked:?}"), code: "AccessDenied".into() };
            inner.outage.clone().or(is_refused.then_some(denied))
        };
        let answer = outage.map_or_else(answer, Err);
        let is_lost = self.inner().lost.is_some_and(|lost| lost(&asked));
        let answer = if is_lost { Err(StoreError::TimedOut(Duration::ZERO)) } else { answer };
        if !half.is_zero() {
            tokio::time::sleep(half).await;
        }
        answer
    }
}

/// An upload that was begun.
pub(super) struct Begun {
    pub(super) key: String,
    pub(super) headers: Headers,
    pub(super) tags: Tags,
    pub(super) parts: BTreeMap<u32, Bytes>,
}
