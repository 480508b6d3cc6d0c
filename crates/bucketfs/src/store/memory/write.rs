//! Writing to the store in memory.
//!
//! What must hold: as in `write.rs` of the store; a question is answered in the middle of its time, like any other.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use futures::future::BoxFuture;

use super::contents::{Asked, Begun, Memory, etag};
use crate::store::error::StoreError;
use crate::store::read::Object;
use crate::store::version::{ETag, Version};
use crate::store::write::{
    CopyRequest, Headers, Kept, METADATA_MAX, ObjectStoreWrite, PART_MIN, PartOf, Put, Tags, Upload, WriteIf,
    Written, metadata_bytes,
};

impl Memory {
    /// Uploads that were begun and neither completed nor aborted: their keys.
    pub fn uploads(&self) -> Vec<String> {
        self.inner().uploads.values().map(|begun| begun.key.clone()).collect()
    }

    /// An object's headers and tags as they are kept, for a test to look at.
    pub fn headers(&self, key: &str) -> Option<(Headers, Tags)> {
        let inner = self.inner();
        let (object, _) = inner.objects.get(key)?;
        let headers = Headers {
            content_type: object.content_type.clone(),
            metadata: object.metadata.clone(),
            kept: object.kept.clone(),
        };
        Some((headers, inner.tags.get(key).cloned().unwrap_or_default()))
    }

    /// Gives an object headers that no file has, and tags.
    pub fn set_headers(&self, key: &str, kept: Kept, tags: &[(&str, &str)]) {
        let mut inner = self.inner();
        let tags: Tags = tags.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        if let Some((object, _)) = inner.objects.get_mut(key) {
            *object.kept = Kept { tags: tags.len() as u32, ..kept };
        }
        inner.tags.insert(key.to_string(), tags);
    }

    fn check(&self, key: &str, condition: &WriteIf) -> Result<(), StoreError> {
        let inner = self.inner();
        let found = inner.objects.get(key).map(|(object, _)| &object.version.etag);
        match (condition, found) {
            (WriteIf::Always, _) | (WriteIf::Absent, None) => Ok(()),
            (WriteIf::Unchanged(etag), Some(found)) if etag == found => Ok(()),
            (WriteIf::Unchanged(_), None) => Err(StoreError::NotFound { key: key.to_string() }),
            _ => Err(StoreError::Changed { key: key.to_string() }),
        }
    }

    fn write(
        &self,
        key: &str,
        body: Bytes,
        headers: &Headers,
        tags: Tags,
        condition: &WriteIf,
    ) -> Result<Written, StoreError> {
        if metadata_bytes(&headers.metadata) > METADATA_MAX {
            return Err(StoreError::MetadataTooLarge { key: key.to_string() });
        }
        self.check(key, condition)?;
        let mut inner = self.inner();
        let last_modified = inner.now();
        let etag = etag(&body);
        let object = Object {
            size: body.len() as u64,
            version: Version { etag: etag.clone(), last_modified, version_id: None },
            content_type: headers.content_type.clone(),
            metadata: headers.metadata.clone(),
            kept: Box::new(Kept { tags: tags.len() as u32, ..(*headers.kept).clone() }),
        };
        inner.objects.insert(key.to_string(), (object, body));
        inner.tags.insert(key.to_string(), tags);
        Ok(Written { etag, version_id: None })
    }

    /// The bytes of exactly this version.
    fn of_version(&self, key: &str, etag: &ETag) -> Result<Bytes, StoreError> {
        let (object, body) = self.find(key)?;
        match object.version.etag == *etag {
            true => Ok(body),
            false => Err(StoreError::Changed { key: key.to_string() }),
        }
    }

    fn copy_now(&self, copy: &CopyRequest<'_>) -> Result<Written, StoreError> {
        let body = self.of_version(copy.from, copy.etag)?;
        let tags = self.inner().tags.get(copy.from).cloned().unwrap_or_default();
        let own = self.headers(copy.from).unwrap_or_default().0;
        self.write(copy.to, body, copy.headers.unwrap_or(&own), tags, &copy.condition)
    }

    fn delete_now(&self, key: &str, condition: &WriteIf) -> Result<(), StoreError> {
        match self.check(key, condition) {
            Err(StoreError::NotFound { .. }) => return Ok(()),
            checked => checked?,
        }
        let mut inner = self.inner();
        inner.objects.remove(key);
        inner.tags.remove(key);
        Ok(())
    }

    fn begin_now(&self, key: &str, headers: &Headers, tags: &[(String, String)]) -> String {
        let mut inner = self.inner();
        inner.writes += 1;
        let id = format!("upload-{}", inner.writes);
        let begun = Begun {
            key: key.to_string(),
            headers: headers.clone(),
            tags: tags.to_vec(),
            parts: BTreeMap::new(),
        };
        inner.uploads.insert(id.clone(), begun);
        id
    }

    fn part_now(&self, upload: Upload<'_>, number: u32, body: Bytes) -> Result<ETag, StoreError> {
        let mut inner = self.inner();
        let tag = etag(&body);
        let begun = inner.uploads.get_mut(upload.id).filter(|begun| begun.key == upload.key);
        begun.ok_or_else(|| no_upload(upload))?.parts.insert(number, body);
        Ok(tag)
    }

    fn complete_now(
        &self,
        upload: Upload<'_>,
        parts: &[(u32, ETag)],
        condition: &WriteIf,
    ) -> Result<Written, StoreError> {
        let (headers, tags, body) = {
            let inner = self.inner();
            let begun = inner.uploads.get(upload.id).filter(|begun| begun.key == upload.key);
            let begun = begun.ok_or_else(|| no_upload(upload))?;
            let mut whole = BytesMut::new();
            for (at, (number, tag)) in parts.iter().enumerate() {
                let part = begun.parts.get(number).filter(|part| etag(part) == *tag);
                let part = part.ok_or(StoreError::Refused { status: 400, code: "InvalidPart".into() })?;
                if at + 1 < parts.len() && (part.len() as u64) < PART_MIN {
                    return Err(StoreError::Refused { status: 400, code: "EntityTooSmall".into() });
                }
                whole.extend_from_slice(part);
            }
            (begun.headers.clone(), begun.tags.clone(), whole.freeze())
        };
        let written = self.write(upload.key, body, &headers, tags, condition)?;
        self.inner().uploads.remove(upload.id);
        Ok(written)
    }
}

fn no_upload(upload: Upload<'_>) -> StoreError {
    StoreError::NoUpload { key: upload.key.to_string() }
}

impl ObjectStoreWrite for Memory {
    fn put<'a>(&'a self, put: Put<'a>) -> BoxFuture<'a, Result<Written, StoreError>> {
        let asked = Asked::Put(put.key.to_string());
        let answer = move || self.write(put.key, put.body, put.headers, put.tags.to_vec(), &put.condition);
        self.answered(asked, answer).boxed()
    }

    fn copy<'a>(&'a self, copy: CopyRequest<'a>) -> BoxFuture<'a, Result<Written, StoreError>> {
        let asked = Asked::Copy(copy.from.to_string(), copy.to.to_string());
        self.answered(asked, move || self.copy_now(&copy)).boxed()
    }

    fn delete<'a>(&'a self, key: &'a str, condition: WriteIf) -> BoxFuture<'a, Result<(), StoreError>> {
        self.answered(Asked::Delete(key.to_string()), move || self.delete_now(key, &condition)).boxed()
    }

    fn tags<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Tags, StoreError>> {
        let answer = || {
            self.find(key)?;
            Ok(self.inner().tags.get(key).cloned().unwrap_or_default())
        };
        self.answered(Asked::Tags(key.to_string()), answer).boxed()
    }

    fn begin_upload<'a>(
        &'a self,
        key: &'a str,
        headers: &'a Headers,
        tags: &'a [(String, String)],
    ) -> BoxFuture<'a, Result<String, StoreError>> {
        let answer = || Ok(self.begin_now(key, headers, tags));
        self.answered(Asked::BeginUpload(key.to_string()), answer).boxed()
    }

    fn put_part<'a>(
        &'a self,
        upload: Upload<'a>,
        number: u32,
        body: Bytes,
    ) -> BoxFuture<'a, Result<ETag, StoreError>> {
        let asked = Asked::Part(upload.key.to_string(), number);
        self.answered(asked, move || self.part_now(upload, number, body)).boxed()
    }

    fn copy_part<'a>(
        &'a self,
        upload: Upload<'a>,
        number: u32,
        part: PartOf<'a>,
    ) -> BoxFuture<'a, Result<ETag, StoreError>> {
        let answer = move || {
            let body = self.of_version(part.from, part.etag)?;
            let (start, end) = (part.range.start as usize, part.range.end as usize);
            if start >= end || end > body.len() {
                return Err(StoreError::Refused { status: 400, code: "InvalidRange".into() });
            }
            self.part_now(upload, number, body.slice(start..end))
        };
        self.answered(Asked::CopyPart(upload.key.to_string(), number), answer).boxed()
    }

    fn complete_upload<'a>(
        &'a self,
        upload: Upload<'a>,
        parts: &'a [(u32, ETag)],
        condition: WriteIf,
    ) -> BoxFuture<'a, Result<Written, StoreError>> {
        let asked = Asked::Complete(upload.key.to_string());
        self.answered(asked, move || self.complete_now(upload, parts, &condition)).boxed()
    }

    fn abort_upload<'a>(&'a self, upload: Upload<'a>) -> BoxFuture<'a, Result<(), StoreError>> {
        let answer = move || {
            self.inner().uploads.remove(upload.id);
            Ok(())
        };
        self.answered(Asked::Abort(upload.key.to_string()), answer).boxed()
    }
}
