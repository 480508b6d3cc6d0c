//! The calls of a store, as those of the S3 server's store.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use s3_testbed::{self as s3, Item, Part, Query};

use super::contents::{Asked, BUCKET, Memory};
use super::convert::{attributes, condition, described, etag, seconds, unquoted, written};
use crate::store::error::StoreError;
use crate::store::read::{
    Condition, Depth, Fetch, Fetched, List, ListStart, Listed, Object, ObjectStore, Page,
};
use crate::store::version::ETag;
use crate::store::write::{
    CopyRequest, Headers, ObjectStoreWrite, PartOf, Put, Tags, Upload, WriteIf, Written,
};

/// An answer on its way.
type Answer<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

impl Memory {
    fn find(&self, key: &str) -> Result<Arc<s3::Object>, StoreError> {
        match self.is_denied(key) {
            true => Err(StoreError::Denied { what: key.to_string(), code: "AccessDenied".into() }),
            false => Ok(self.store.get(BUCKET, key)?),
        }
    }

    /// The object, if it is exactly this version.
    fn of_version(&self, key: &str, wanted: &ETag) -> Result<Arc<s3::Object>, StoreError> {
        let found = self.find(key)?;
        match etag(&found.tag) == *wanted {
            true => Ok(found),
            false => Err(StoreError::Changed { key: key.to_string() }),
        }
    }

    fn fetch_now(&self, fetch: &Fetch<'_>) -> Result<Fetched, StoreError> {
        let found = match &fetch.condition {
            Condition::Unchanged(etag) => self.of_version(fetch.key, etag)?,
            _ => self.find(fetch.key)?,
        };
        let object = described(&found);
        if fetch.condition == Condition::Changed(object.version.etag.clone()) {
            return Ok(Fetched::NotModified { last_modified: Some(object.version.last_modified) });
        }
        let range = match &fetch.range {
            None => 0..object.size,
            Some(range) if range.start < object.size => range.start..range.end.min(object.size),
            Some(range) => {
                return Err(StoreError::RangeOutside { key: fetch.key.to_string(), start: range.start });
            }
        };
        let bytes = found.content.bytes(range.clone()).expect("it is in memory");
        Ok(Fetched::Content { object, range, body: stream::iter([Ok(bytes)]).boxed() })
    }

    fn list_now(&self, list: &List<'_>) -> Result<Page, StoreError> {
        let query = Query {
            prefix: list.prefix.to_string(),
            delimiter: (list.depth == Depth::Directory).then(|| "/".to_string()),
            after: match list.from {
                ListStart::Page(after) => Some(after.to_string()),
                ListStart::Start => None,
            },
            limit: list.limit.into(),
        };
        let found = self.store.list(BUCKET, &query)?;
        let mut page = Page { next: found.next_after().map(str::to_string), ..Page::default() };
        for item in found.items {
            match item {
                Item::Prefix(prefix) => page.prefixes.push(prefix),
                Item::Object(s3::Entry { key, size, tag, modified, .. }) => {
                    let (etag, last_modified) = (etag(&tag), seconds(modified));
                    page.objects.push(Listed { key, size, etag, last_modified });
                }
            }
        }
        Ok(page)
    }

    fn copy_now(&self, copy: &CopyRequest<'_>) -> Result<Written, StoreError> {
        let found = self.of_version(copy.from, copy.etag)?;
        let attributes = match copy.headers {
            Some(headers) => attributes(copy.to, headers, &found.attributes.tags)?,
            None => (*found.attributes).clone(),
        };
        // As S3 does: a copy is one piece, whatever its source was made of, unless only its headers are new.
        let content = match copy.from == copy.to {
            true => found.content.clone(),
            false => found.content.bytes(0..found.content.size()).expect("it is in memory").into(),
        };
        let on = condition(&copy.condition);
        Ok(written(&self.store.put_object_with(BUCKET, copy.to, content, attributes, &on)?))
    }

    fn put_part_now(&self, upload: Upload<'_>, number: u32, body: Bytes) -> Result<ETag, StoreError> {
        let part = Part::new(body, UNIX_EPOCH);
        let tag = etag(&part.tag());
        self.store.uploads().add(BUCKET, upload.key, upload.id, number as i32, part)?;
        Ok(tag)
    }

    fn copy_part_now(&self, upload: Upload<'_>, number: u32, part: &PartOf<'_>) -> Result<ETag, StoreError> {
        let content = &self.of_version(part.from, part.etag)?.content;
        if part.range.is_empty() || part.range.end > content.size() {
            return Err(StoreError::Refused { status: 400, code: "InvalidRange".into() });
        }
        self.put_part_now(upload, number, content.bytes(part.range.clone()).expect("it is in memory"))
    }
}

impl ObjectStore for Memory {
    fn head<'a>(&'a self, key: &'a str) -> Answer<'a, Object> {
        self.answered(Asked::Head(key.to_string()), || Ok(described(&self.find(key)?))).boxed()
    }

    fn fetch<'a>(&'a self, fetch: Fetch<'a>) -> Answer<'a, Fetched> {
        self.answered(Asked::Fetch(fetch.key.to_string()), move || self.fetch_now(&fetch)).boxed()
    }

    fn list<'a>(&'a self, list: List<'a>) -> Answer<'a, Page> {
        self.answered(Asked::List(list.prefix.to_string()), move || self.list_now(&list)).boxed()
    }
}

impl ObjectStoreWrite for Memory {
    fn put<'a>(&'a self, put: Put<'a>) -> Answer<'a, Written> {
        let answer = move || {
            let attributes = attributes(put.key, put.headers, put.tags)?;
            let on = condition(&put.condition);
            Ok(written(&self.store.put_object_with(BUCKET, put.key, put.body, attributes, &on)?))
        };
        self.answered(Asked::Put(put.key.to_string()), answer).boxed()
    }

    fn copy<'a>(&'a self, copy: CopyRequest<'a>) -> Answer<'a, Written> {
        let asked = Asked::Copy(copy.from.to_string(), copy.to.to_string());
        self.answered(asked, move || self.copy_now(&copy)).boxed()
    }

    fn delete<'a>(&'a self, key: &'a str, on: WriteIf) -> Answer<'a, ()> {
        let answer = move || Ok(self.store.remove(BUCKET, key, None, &condition(&on)).map(drop)?);
        self.answered(Asked::Delete(key.to_string()), answer).boxed()
    }

    fn tags<'a>(&'a self, key: &'a str) -> Answer<'a, Tags> {
        let answer = || Ok(self.find(key)?.attributes.tags.clone());
        self.answered(Asked::Tags(key.to_string()), answer).boxed()
    }

    fn begin_upload<'a>(
        &'a self,
        key: &'a str,
        headers: &'a Headers,
        tags: &'a [(String, String)],
    ) -> Answer<'a, String> {
        let answer = move || {
            let attributes = attributes(key, headers, tags)?;
            Ok(self.store.uploads().create(BUCKET, key, attributes, UNIX_EPOCH))
        };
        self.answered(Asked::BeginUpload(key.to_string()), answer).boxed()
    }

    fn put_part<'a>(&'a self, upload: Upload<'a>, number: u32, body: Bytes) -> Answer<'a, ETag> {
        let asked = Asked::Part(upload.key.to_string(), number);
        self.answered(asked, move || self.put_part_now(upload, number, body)).boxed()
    }

    fn copy_part<'a>(&'a self, upload: Upload<'a>, number: u32, part: PartOf<'a>) -> Answer<'a, ETag> {
        let asked = Asked::CopyPart(upload.key.to_string(), number);
        self.answered(asked, move || self.copy_part_now(upload, number, &part)).boxed()
    }

    fn complete_upload<'a>(
        &'a self,
        upload: Upload<'a>,
        parts: &'a [(u32, ETag)],
        on: WriteIf,
    ) -> Answer<'a, Written> {
        let answer = move || {
            let listed: Vec<_> =
                parts.iter().map(|(number, tag)| (*number as i32, Some(unquoted(tag)))).collect();
            let on = condition(&on);
            Ok(written(&self.store.complete_upload(BUCKET, upload.key, upload.id, &listed, &on)?))
        };
        self.answered(Asked::Complete(upload.key.to_string()), answer).boxed()
    }

    fn abort_upload<'a>(&'a self, upload: Upload<'a>) -> Answer<'a, ()> {
        let answer = move || {
            // What is over already is no error.
            let _ = self.store.uploads().remove(BUCKET, upload.key, upload.id);
            Ok(())
        };
        self.answered(Asked::Abort(upload.key.to_string()), answer).boxed()
    }
}
