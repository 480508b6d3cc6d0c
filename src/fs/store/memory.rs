//! Objects in the memory of the process: the store that tests of the file system are written against.
//!
//! It behaves as S3 does where the file system can tell: keys in the order of their bytes, pages, conditions,
//! versions that change with each write, an answer that is prepared as a whole before it is given. A test can make
//! it fail and can count what it was asked. Time passes only as [`Memory::set_latency`] says, so that it works
//! under paused time.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};

use super::{
    Condition, Depth, ETag, Fetch, Fetched, From, List, Listed, Object, ObjectStore, Page, StoreError,
    Version,
};

/// A store in memory, and the handle by which a test plays the rest of the world.
#[derive(Clone, Default)]
pub struct Memory {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    objects: BTreeMap<String, (Object, Bytes)>,
    /// Names the next write: entity tags are never reused.
    writes: u64,
    clock: i64,
    latency: Duration,
    outage: Option<StoreError>,
    asked: Vec<Asked>,
}

/// A request that the store was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    Head(String),
    Fetch(String),
    List(String),
}

impl Memory {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes an object, a second after whatever was written before.
    pub fn put(&self, key: &str, body: impl Into<Bytes>, metadata: &[(&str, &str)]) {
        let body = body.into();
        let mut inner = self.inner();
        inner.writes += 1;
        inner.clock += 1;
        let object = Object {
            size: body.len() as u64,
            version: Version {
                etag: ETag(format!("\"{}\"", inner.writes).into()),
                last_modified: 1_700_000_000 + inner.clock,
                version_id: None,
            },
            content_type: None,
            metadata: metadata.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
        };
        inner.objects.insert(key.to_string(), (object, body));
    }

    /// Replaces the headers of an object and leaves its content, as a copy onto itself does.
    pub fn put_headers(&self, key: &str, metadata: &[(&str, &str)]) {
        let mut inner = self.inner();
        inner.clock += 1;
        let clock = inner.clock;
        if let Some((object, _)) = inner.objects.get_mut(key) {
            object.metadata =
                metadata.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
            object.version.last_modified = 1_700_000_000 + clock;
        }
    }

    pub fn delete(&self, key: &str) {
        self.inner().objects.remove(key);
    }

    /// Every request waits this long before it is answered.
    pub fn set_latency(&self, latency: Duration) {
        self.inner().latency = latency;
    }

    /// Every request fails so until it is set to `None`.
    pub fn set_outage(&self, outage: Option<StoreError>) {
        self.inner().outage = outage;
    }

    /// What was asked since the last call, in the order of asking.
    pub fn take_asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.inner().asked)
    }

    async fn arrive(&self, asked: Asked) -> Result<(), StoreError> {
        let latency = {
            let mut inner = self.inner();
            inner.asked.push(asked);
            inner.latency
        };
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        match &self.inner().outage {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    fn find(&self, key: &str) -> Result<(Object, Bytes), StoreError> {
        self.inner().objects.get(key).cloned().ok_or_else(|| StoreError::NotFound { key: key.to_string() })
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
            From::Page(key) | From::After(key) if key >= list.prefix => Bound::Excluded(key),
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
                    || matches!(list.from, From::Page(after) if after.starts_with(prefix))
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
        async move {
            self.arrive(Asked::Head(key.to_string())).await?;
            Ok(self.find(key)?.0)
        }
        .boxed()
    }

    fn fetch<'a>(&'a self, fetch: Fetch<'a>) -> BoxFuture<'a, Result<Fetched, StoreError>> {
        async move {
            self.arrive(Asked::Fetch(fetch.key.to_string())).await?;
            self.answer(&fetch)
        }
        .boxed()
    }

    fn list<'a>(&'a self, list: List<'a>) -> BoxFuture<'a, Result<Page, StoreError>> {
        async move {
            self.arrive(Asked::List(list.prefix.to_string())).await?;
            Ok(self.page(&list))
        }
        .boxed()
    }
}
