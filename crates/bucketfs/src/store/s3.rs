//! S3 and whatever speaks like it, through the AWS SDK.
//!
//! What must hold: bodies are streamed, never collected; an error says whether the store answered; credentials are
//! asked for at each request, so that a rotation needs no new mount; every request ends within [`OPERATION_LIMIT`],
//! a body whenever its reader's patience ends, and where it was announced to; what an answer says is believed only as
//! far as it answers the question.

use std::error::Error;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::get_object::{GetObjectError, GetObjectOutput};
use aws_sdk_s3::primitives::{ByteStream, DateTime, DateTimeFormat};
use aws_sdk_s3::types::EncodingType;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};

use crate::measure;
use crate::percent::percent_decoded;

use super::write::{KEY_MAX, OBJECT_MAX};
use super::{
    Body, ClockSkew, Condition, Depth, EMPTY_PAGES, ETag, Fetch, Fetched, List, ListStart, Listed, Object,
    ObjectStore, Page, StoreError, Version,
};

mod answer;
mod counted;
mod history;
mod key;
mod write;

pub use history::Change;
use key::spelled;

/// Longest wait for a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// Longest wait of one attempt for the first byte of an answer.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(8);
/// Longest wait for the first byte of an answer, all attempts and the pauses between them together.
pub const OPERATION_LIMIT: Duration = Duration::from_secs(20);
/// Attempts of one request, the first included; pauses grow and are jittered by the SDK.
const ATTEMPTS: u32 = 4;
/// Longest continuation token, or name of an upload. Those of S3 have some hundred bytes; others put a key into it.
const TOKEN_MAX: usize = 4 * 1024;
/// Longest entity tag or version id. Those of S3 have at most some forty bytes, and a hundred.
const NAME_MAX: usize = 1024;

/// Where a bucket is and how it is addressed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// Another server than AWS, `http://host:port`.
    pub url: Option<String>,
    /// Bucket in the path instead of the host name.
    pub path_style: bool,
}

/// One bucket.
#[derive(Clone, Debug)]
pub struct S3 {
    client: Client,
    /// The same with more patience, for requests that move bytes.
    writer: Client,
    bucket: String,
    /// For messages.
    endpoint: String,
}

impl S3 {
    /// A bucket reached with the region, credentials and connections of `config`.
    pub fn new(config: &SdkConfig, endpoint: &Endpoint, bucket: &str) -> S3 {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_LIMIT)
            .operation_attempt_timeout(ATTEMPT_LIMIT)
            .operation_timeout(OPERATION_LIMIT)
            .build();
        let mut builder = aws_sdk_s3::config::Builder::from(config)
            .force_path_style(endpoint.path_style)
            .timeout_config(timeouts)
            .interceptor(key::Blanks)
            .interceptor(answer::Sound)
            .retry_classifier(answer::RefusedOnce)
            .interceptor(counted::Counted(measure::requests(bucket)))
            .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS));
        builder.set_endpoint_url(endpoint.url.clone().or_else(|| config.endpoint_url().map(str::to_string)));
        let region = config.region().map_or("us-east-1", |region| region.as_ref());
        let shown = endpoint.url.clone().unwrap_or_else(|| format!("https://s3.{region}.amazonaws.com"));
        let patient = builder.clone().timeout_config(write::timeouts(CONNECT_LIMIT));
        S3 {
            client: Client::from_conf(builder.build()),
            writer: Client::from_conf(patient.build()),
            bucket: bucket.to_string(),
            endpoint: shown,
        }
    }

    /// The region in which it is asked.
    pub fn region(&self) -> Option<String> {
        self.client.config().region().map(ToString::to_string)
    }

    async fn head_object(&self, key: &str) -> Result<Object, StoreError> {
        let answer = self.client.head_object().bucket(&self.bucket).key(spelled(key)?).send().await;
        let answer = answer.map_err(|error| self.failure(&error, key))?;
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
                    (Condition::Changed(etag), Some(same)) => *etag.0 == *same,
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

    /// A page with keys, or the last one: S3 may send pages without any, which say nothing.
    async fn list_page(&self, list: List<'_>) -> Result<Page, StoreError> {
        let mut page = self.list_objects(&list).await?;
        for _ in 0..EMPTY_PAGES {
            let says_nothing = page.objects.is_empty() && page.prefixes.is_empty();
            let Some(token) = page.next.take_if(|_| says_nothing) else { return Ok(page) };
            page = self.list_objects(&List { from: ListStart::Page(&token), ..list }).await?;
        }
        Err(malformed("pages of a listing without a key"))
    }

    async fn list_objects(&self, list: &List<'_>) -> Result<Page, StoreError> {
        // Nothing can be below it. One byte more than a key: that of a directory of the longest name.
        if list.prefix.len() > KEY_MAX + 1 {
            return Ok(Page::default());
        }
        let mut request = self
            .client
            .list_objects_v2()
            .bucket(&self.bucket)
            .prefix(list.prefix)
            .encoding_type(EncodingType::Url)
            .max_keys(i32::from(list.limit));
        if list.depth == Depth::Directory {
            request = request.delimiter("/");
        }
        request = match list.from {
            ListStart::Start => request,
            ListStart::Page(token) => request.continuation_token(token),
            ListStart::After(key) => request.start_after(key),
        };
        let what = if list.prefix.is_empty() { &self.bucket } else { list.prefix };
        let answer = request.send().await.map_err(|error| self.failure(&error, what))?;
        // A key may hold what no XML can say.
        let decoded = match answer.encoding_type() {
            Some(EncodingType::Url) => form_decoded,
            _ => |key: String| key,
        };
        let token = if let ListStart::Page(token) = list.from { Some(token) } else { None };
        let next = match (answer.is_truncated(), answer.next_continuation_token) {
            (Some(true), Some(next)) if next.len() > TOKEN_MAX || token == Some(&*next) => {
                return Err(malformed("a continuation token that leads nowhere"));
            }
            (Some(true), None) => return Err(malformed("a page that is not the last, and no next one")),
            (Some(true), next) => next,
            _ => None,
        };
        let (contents, rolled) =
            (answer.contents.unwrap_or_default(), answer.common_prefixes.unwrap_or_default());
        if (contents.len() + rolled.len()) as u64 > answer::PAGE_KEYS {
            return Err(malformed("more keys than a page has"));
        }
        let listed = contents.into_iter().map(|object| {
            let known = etag(object.e_tag()).and_then(|etag| Ok((length(object.size())?, etag)));
            let (size, etag) = known.unwrap_or_else(|_| (0, ETag("".into())));
            let last_modified = object.last_modified().map_or(0, DateTime::secs);
            let key = decoded(object.key.ok_or_else(|| malformed("no Key"))?);
            Ok(Listed { key, size, etag, last_modified })
        });
        let page = Page {
            objects: listed.collect::<Result<_, StoreError>>()?,
            prefixes: rolled.into_iter().filter_map(|rolled| rolled.prefix.map(decoded)).collect(),
            next,
        };
        let mut keys = page.objects.iter().map(|object| &object.key).chain(&page.prefixes);
        match keys.all(|key| key.starts_with(list.prefix)) {
            true => Ok(page),
            false => Err(malformed("keys that are not below the prefix that was asked for")),
        }
    }

    /// Says of an answer that makes no sense whose it is.
    fn told<T>(&self, answer: Result<T, StoreError>) -> Result<T, StoreError> {
        answer.map_err(|error| match error {
            StoreError::Malformed { reason } => malformed(&format!("{reason} (from {})", self.endpoint)),
            error => error,
        })
    }

    fn failure<E>(&self, error: &SdkError<E, HttpResponse>, what: &str) -> StoreError
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        if let Some(reason) = credentials_reason(error) {
            return StoreError::NoCredentials { reason };
        }
        let unreachable =
            |reason: String| StoreError::Unreachable { endpoint: self.endpoint.clone(), reason };
        match error {
            SdkError::TimeoutError(_) => StoreError::TimedOut(OPERATION_LIMIT),
            SdkError::DispatchFailure(failure) if failure.is_timeout() => StoreError::TimedOut(CONNECT_LIMIT),
            // It is about this question: the store has not heard of it.
            SdkError::ConstructionFailure(_) => {
                StoreError::NotSent { what: what.to_string(), reason: innermost(error) }
            }
            SdkError::DispatchFailure(failure) if failure.is_user() => {
                StoreError::NotSent { what: what.to_string(), reason: innermost(error) }
            }
            // What was right by its status, and cannot be read.
            SdkError::ServiceError(answer) if (200..300).contains(&answer.raw().status().as_u16()) => {
                malformed(&innermost(error))
            }
            SdkError::ServiceError(answer) => {
                let response = answer.raw();
                self.refusal(response, answer.err().code().unwrap_or_default(), what)
            }
            SdkError::ResponseError(_) => StoreError::Malformed { reason: innermost(error) },
            _ => unreachable(innermost(error)),
        }
    }

    fn refusal(&self, response: &HttpResponse, code: &str, what: &str) -> StoreError {
        let status = response.status().as_u16();
        let header = |name: &str| response.headers().get(name).map(str::to_string);
        let named = if code.is_empty() { status.to_string() } else { code.to_string() };
        let what = what.to_string();
        match (status, code) {
            (_, "NoSuchBucket") => StoreError::NoBucket { bucket: self.bucket.clone() },
            (404, _) => StoreError::NotFound { key: what },
            (_, "RequestTimeTooSkewed") => {
                StoreError::Credentials { code: named, skew: Some(ClockSkew { server_time: header("date") }) }
            }
            (
                _,
                "InvalidAccessKeyId"
                | "SignatureDoesNotMatch"
                | "ExpiredToken"
                | "InvalidToken"
                | "TokenRefreshRequired"
                | "InvalidSecurity"
                | "NotSignedUp",
            ) => StoreError::Credentials { code: named, skew: None },
            (301 | 307, _)
            | (
                _,
                "PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException",
            ) => {
                let region = header("x-amz-bucket-region");
                StoreError::WrongRegion { bucket: self.bucket.clone(), region }
            }
            (_, "InvalidObjectState") => StoreError::Archived { key: what },
            (_, "KeyTooLongError") => StoreError::KeyTooLong { key: what },
            (403, _) => StoreError::Denied { what, code: named },
            (429, _) | (503, "SlowDown" | "503 SlowDown") => StoreError::Throttled { code: named },
            _ => StoreError::Refused { status, code: named },
        }
    }
}

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

/// `bytes 0-99/1234`: the bytes that came, and the size of the whole.
fn content_range(text: &str) -> Option<(Range<u64>, u64)> {
    let (range, size) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last, size): (u64, u64, u64) =
        (first.trim().parse().ok()?, last.trim().parse().ok()?, size.trim().parse().ok()?);
    let end = last.checked_add(1)?;
    (first < end && end <= size).then_some((first..end, size))
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

fn version(
    tag: Option<&str>,
    last_modified: Option<&DateTime>,
    id: Option<&str>,
) -> Result<Version, StoreError> {
    let (etag, version_id) = (etag(tag)?, version_id(id)?);
    Ok(Version { etag, last_modified: last_modified.map_or(0, DateTime::secs), version_id })
}

/// The size of an object, or of a part of one.
fn length(said: Option<i64>) -> Result<u64, StoreError> {
    let length = said.and_then(|length| u64::try_from(length).ok()).filter(|length| *length <= OBJECT_MAX);
    length.ok_or_else(|| match said {
        None => malformed("no Content-Length"),
        Some(said) => malformed(&format!("a size of {said} bytes")),
    })
}

/// An entity tag that can be sent again, in a header.
fn etag(said: Option<&str>) -> Result<ETag, StoreError> {
    let said = said.ok_or_else(|| malformed("no ETag"))?;
    let is_tag =
        (1..=NAME_MAX).contains(&said.len()) && said.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if is_tag { Ok(ETag(said.into())) } else { Err(malformed("an ETag that is none")) }
}

fn version_id(said: Option<&str>) -> Result<Option<Arc<str>>, StoreError> {
    match said {
        // An object from before versioning is called "null", and is not kept when it is replaced.
        None | Some("null") => Ok(None),
        Some(said) if said.len() <= NAME_MAX => Ok(Some(said.into())),
        Some(_) => Err(malformed("a version id that is none")),
    }
}

/// A key as `encoding-type=url` writes it: like a form, so that a `+` is a blank.
fn form_decoded(text: String) -> String {
    let decoded = percent_decoded(&text.replace('+', " "));
    String::from_utf8(decoded).unwrap_or(text)
}

fn malformed(reason: &str) -> StoreError {
    StoreError::Malformed { reason: reason.to_string() }
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| (*error).source())
}

fn credentials_reason(error: &(dyn Error + 'static)) -> Option<String> {
    chain(error).find_map(|cause| cause.downcast_ref::<CredentialsError>()).map(|cause| innermost(cause))
}

fn innermost(error: &(dyn Error + 'static)) -> String {
    chain(error).last().map(ToString::to_string).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_content_range_is_read() {
        assert_eq!(content_range("bytes 0-99/1234"), Some((0..100, 1234)));
        for junk in ["", "bytes", "bytes 5-4/9", "bytes 0-9/5", "bytes */5", "bytes 0-18446744073709551615/1"]
        {
            assert_eq!(content_range(junk), None, "{junk:?}");
        }
    }

    #[test]
    fn a_key_is_decoded_as_s3_encodes_it() {
        assert_eq!(form_decoded("a+b%2Bc/d%25%01".into()), "a b+c/d%\u{1}");
        assert_eq!(form_decoded("100%".into()), "100%");
    }

    proptest! {
        #[test]
        fn no_content_range_panics(text in prop_oneof![
            any::<String>(),
            (any::<u64>(), any::<u64>(), any::<u64>()).prop_map(|(a, b, c)| format!("bytes {a}-{b}/{c}")),
        ]) {
            if let Some((range, size)) = content_range(&text) {
                prop_assert!(range.start < range.end && range.end <= size);
            }
        }
    }
}
