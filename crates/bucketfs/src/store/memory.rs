//! Objects in the memory of the process: the store that tests of the file system are written against.
//!
//! It behaves as S3 does where the file system can tell: keys in the order of their bytes, pages, conditions,
//! entity tags that are the same for the same content, times in whole seconds, an answer that was true at one moment
//! between its question and its arrival. A test can make it fail and can count what it was asked. Time passes only
//! as [`Memory::set_latency`] says, so that it works under paused time. `tests/it/file_system/store_contract.rs` holds it to what
//! the S3 client does.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};

use super::{
    Condition, Depth, ETag, Fetch, Fetched, List, ListStart, Listed, Object, ObjectStore, Page, StoreError,
    Version,
};

mod write;

/// A store in memory, and the handle by which a test plays the rest of the world.
#[derive(Clone, Default)]
pub struct Memory {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    objects: BTreeMap<String, (Object, Bytes)>,
    writes: i64,
    clock: Clock,
    latency: Duration,
    outage: Option<StoreError>,
    refused: Option<fn(&Asked) -> bool>,
    lost: Option<fn(&Asked) -> bool>,
    denied: BTreeSet<String>,
    asked: Vec<Asked>,
    tags: BTreeMap<String, super::write::Tags>,
    uploads: BTreeMap<String, write::Begun>,
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
    fn now(&mut self) -> i64 {
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

impl Memory {
    fn inner(&self) -> MutexGuard<'_, Inner> {
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
    async fn answered<T>(
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

    fn find(&self, key: &str) -> Result<(Object, Bytes), StoreError> {
        let inner = self.inner();
        if inner.denied.contains(key) {
            return Err(StoreError::Denied { what: key.to_string(), code: "AccessDenied".into() });
        }
        inner.objects.get(key).cloned().ok_or_else(|| StoreError::NotFound { key: key.to_string() })
    }

    fn answer(&self, fetch: &Fetch<'_>) -> Result<Fetched, StoreError> {
        let (object, body) = self.find(fetch.key)?;
        match &fetch.condition {
            Condition::Unchanged(etag) if *etag != object.version.etag => {
                return Err(StoreError::Changed { key: fetch.key.to_string() });
            }
            Condition::Changed(etag) if *etag == object.version.etag => {
                return Ok(Fetched::NotModified { last_modified: Some(object.version.last_modified) });
            }
            _ => {}
        }
        let range = match &fetch.range {
            None => 0..object.size,
            Some(range) if range.start < object.size => range.start..range.end.min(object.size),
            Some(range) => {
                return Err(StoreError::RangeOutside { key: fetch.key.to_string(), start: range.start });
            }
        };
        let bytes = body.slice(range.start as usize..range.end as usize);
        Ok(Fetched::Content { object, range, body: stream::iter([Ok(bytes)]).boxed() })
    }

    fn page(&self, list: &List<'_>) -> Page {
        let inner = self.inner();
        let from = match list.from {
            ListStart::Page(key) | ListStart::After(key) if key >= list.prefix => Bound::Excluded(key),
            _ => Bound::Included(list.prefix),
        };
        let mut page = Page::default();
        let mut last: Option<&str> = None;
        let keys = inner
            .objects
            .range::<str, _>((from, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(list.prefix));
        for (key, (object, _)) in keys {
            let rest = &key[list.prefix.len()..];
            let rolled = match list.depth {
                Depth::Directory => rest.find('/').map(|end| &key[..list.prefix.len() + end + 1]),
                Depth::Tree => None,
            };
            let seen_before = |prefix: &str| {
                page.prefixes.last().is_some_and(|known| known == prefix)
                    || matches!(list.from, ListStart::Page(after) if after.starts_with(prefix))
            };
            if rolled.is_some_and(seen_before) {
                last = Some(key);
                continue;
            }
            if page.objects.len() + page.prefixes.len() == usize::from(list.limit) {
                page.next = last.map(str::to_string);
                break;
            }
            match rolled {
                Some(prefix) => page.prefixes.push(prefix.to_string()),
                None => page.objects.push(Listed {
                    key: key.clone(),
                    size: object.size,
                    etag: object.version.etag.clone(),
                    last_modified: object.version.last_modified,
                }),
            }
            last = Some(key);
        }
        page
    }
}

impl ObjectStore for Memory {
    fn head<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Object, StoreError>> {
        self.answered(Asked::Head(key.to_string()), || Ok(self.find(key)?.0)).boxed()
    }

    fn fetch<'a>(&'a self, fetch: Fetch<'a>) -> BoxFuture<'a, Result<Fetched, StoreError>> {
        self.answered(Asked::Fetch(fetch.key.to_string()), move || self.answer(&fetch)).boxed()
    }

    fn list<'a>(&'a self, list: List<'a>) -> BoxFuture<'a, Result<Page, StoreError>> {
        self.answered(Asked::List(list.prefix.to_string()), move || Ok(self.page(&list))).boxed()
    }
}

fn owned(metadata: &[(&str, &str)]) -> Vec<(String, String)> {
    metadata.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

/// As S3's for a plain PUT: the same for the same content.
fn etag(body: &Bytes) -> ETag {
    let mut hasher = DefaultHasher::new();
    body.hash(&mut hasher);
    ETag(format!("\"{:016x}\"", hasher.finish()).into())
}
