//! Reading from S3.
//!
//! What must hold: bodies are streamed, never collected.

use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::get_object::{GetObjectError, GetObjectOutput};
use aws_sdk_s3::primitives::{ByteStream, DateTime, DateTimeFormat};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};

use super::client::S3;
use super::key::{is_taken_for_none, spelled};
use super::said::{content_range, etag, length, malformed, version};
use super::write;
use crate::store::error::StoreError;
use crate::store::read::{Body, Condition, Fetch, Fetched, List, Object, ObjectStore, Page};
use crate::store::write::OBJECT_MAX;

impl ObjectStore for S3 {
    fn head<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Object, StoreError>> {
        self.head_object(key).map(|answer| self.told(answer)).boxed()
    }

    fn fetch<'a>(&'a self, fetch: Fetch<'a>) -> BoxFuture<'a, Result<Fetched, StoreError>> {
        self.get_object(fetch).map(|answer| self.told(answer)).boxed()
    }

    fn list<'a>(&'a self, list: List<'a>) -> BoxFuture<'a, Result<Page, StoreError>> {
        self.list_page(list).map(|answer| self.told(answer)).boxed()
    }
}

fn content(fetch: &Fetch<'_>, answer: GetObjectOutput) -> Result<Fetched, StoreError> {
    about_an_object(fetch.key, answer.e_tag())?;
    let length = length(answer.content_length())?;
    let (range, size) = match answer.content_range() {
        None => (0..length, length),
        Some(text) => content_range(text).ok_or_else(|| malformed("a Content-Range that cannot be read"))?,
    };
    if range.end - range.start != length || size > OBJECT_MAX {
        return Err(malformed("a Content-Range that cannot be"));
    }
    let version = version(answer.e_tag(), answer.last_modified(), answer.version_id())?;
    let object = Object {
        size,
        version,
        content_type: answer.content_type,
        metadata: answer.metadata.unwrap_or_default().into_iter().collect(),
        // Whoever writes asks for the headers alone.
        kept: Box::default(),
    };
    fetch.is_answered_by(&object, &range)?;
    Ok(Fetched::Content { object, range, body: pieces(fetch.key.to_string(), length, answer.body) })
}

/// That an answer is about the object that was asked for, and not about the bucket.
fn about_an_object(key: &str, tag: Option<&str>) -> Result<(), StoreError> {
    match is_taken_for_none(key) && tag.is_none_or(str::is_empty) {
        true => Err(StoreError::NotFound { key: key.to_string() }),
        false => Ok(()),
    }
}

/// The pieces of a body; one that breaks off says how far it came, one that goes on is not listened to.
fn pieces(key: String, expected: u64, body: ByteStream) -> Body {
    stream::unfold((body, 0u64, false), move |(mut body, found, over)| {
        let key = key.clone();
        async move {
            if over {
                return None;
            }
            match body.next().await {
                Some(Ok(piece)) => {
                    let found = found + piece.len() as u64;
                    if found > expected {
                        let reason = format!("a body of {key:?} of more than the {expected} bytes announced");
                        return Some((Err(StoreError::Malformed { reason }), (body, found, true)));
                    }
                    Some((Ok(piece), (body, found, false)))
                }
                None if found == expected => None,
                // All bytes came: what is wrong is what they are.
                Some(Err(_)) if found == expected => {
                    Some((Err(StoreError::Corrupt { key }), (body, found, true)))
                }
                None | Some(Err(_)) => {
                    Some((Err(StoreError::Truncated { key, found, expected }), (body, found, true)))
                }
            }
        }
    })
    .boxed()
}

impl S3 {
    pub(super) async fn head_object(&self, key: &str) -> Result<Object, StoreError> {
        let answer = self.client.head_object().bucket(&self.bucket).key(spelled(key)?).send().await;
        let answer = answer.map_err(|error| self.failure(&error, key))?;
        about_an_object(key, answer.e_tag())?;
        Ok(Object {
            size: length(answer.content_length())?,
            version: version(answer.e_tag(), answer.last_modified(), answer.version_id())?,
            kept: Box::new(write::kept(&answer)),
            content_type: answer.content_type,
            metadata: answer.metadata.unwrap_or_default().into_iter().collect(),
        })
    }

    async fn get_object(&self, fetch: Fetch<'_>) -> Result<Fetched, StoreError> {
        let key = fetch.key;
        let mut request = self.client.get_object().bucket(&self.bucket).key(spelled(key)?);
        if let Some(range) = &fetch.range {
            request = request.range(format!("bytes={}-{}", range.start, range.end.saturating_sub(1)));
        }
        request = match &fetch.condition {
            Condition::Always => request,
            Condition::Unchanged(etag) => request.if_match(&*etag.0),
            Condition::Changed(etag) => request.if_none_match(&*etag.0),
        };
        match request.set_version_id(fetch.version_id.map(str::to_string)).send().await {
            Ok(answer) => content(&fetch, answer),
            Err(error) => self.not_fetched(error, &fetch),
        }
    }

    fn not_fetched(
        &self,
        error: SdkError<GetObjectError, HttpResponse>,
        fetch: &Fetch<'_>,
    ) -> Result<Fetched, StoreError> {
        let key = fetch.key;
        let start = fetch.range.as_ref().map_or(0, |range| range.start);
        match error.raw_response().map(|response| response.status().as_u16()) {
            Some(304) => {
                let header = |name| error.raw_response().and_then(|response| response.headers().get(name));
                let is_asked = match (&fetch.condition, header("etag")) {
                    (Condition::Changed(known), Some(same)) => {
                        etag(Some(same)).is_ok_and(|same| same == *known)
                    }
                    (condition, _) => matches!(condition, Condition::Changed(_)),
                };
                if !is_asked {
                    return Err(malformed("\"not modified\" of what was not asked about"));
                }
                let text = header("last-modified");
                let time = text.and_then(|text| DateTime::from_str(text, DateTimeFormat::HttpDate).ok());
                Ok(Fetched::NotModified { last_modified: time.map(|time| time.secs()) })
            }
            Some(412) if fetch.condition == Condition::Always => {
                Err(malformed("a condition that does not hold, where none was given"))
            }
            Some(412) => Err(StoreError::Changed { key: key.to_string() }),
            Some(416) => Err(StoreError::RangeOutside { key: key.to_string(), start }),
            _ => Err(self.failure(&error, key)),
        }
    }
}
