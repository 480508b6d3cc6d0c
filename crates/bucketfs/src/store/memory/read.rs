//! Reading from the store in memory.

use std::ops::Bound;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};

use super::contents::{Asked, Memory};
use crate::store::error::StoreError;
use crate::store::read::{
    Condition, Depth, Fetch, Fetched, List, ListStart, Listed, Object, ObjectStore, Page,
};

impl Memory {
    pub(super) fn find(&self, key: &str) -> Result<(Object, Bytes), StoreError> {
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
            ListStart::Page(key) if key >= list.prefix => Bound::Excluded(key),
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
