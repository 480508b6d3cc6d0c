//! S3 and whatever speaks like it, through the AWS SDK.
//!
//! What must hold: bodies are streamed, never collected; an error says whether the store answered; credentials are
//! asked for at each request, so that a rotation needs no new mount; every request ends within [`OPERATION_LIMIT`],
//! a body whenever its reader's patience ends.

use std::error::Error;
use std::ops::Range;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextMut;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::get_object::{GetObjectError, GetObjectOutput};
use aws_sdk_s3::primitives::{ByteStream, DateTime, DateTimeFormat};
use aws_sdk_s3::types::EncodingType;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};

use crate::fs::percent::percent_decoded;
use crate::measure;

use super::{
    Body, ClockSkew, Condition, Depth, ETag, Fetch, Fetched, From, List, Listed, Object, ObjectStore, Page,
    StoreError, Version,
};

mod counted;
mod history;
mod write;

pub use history::Change;

/// Longest wait for a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// Longest wait of one attempt for the first byte of an answer.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(8);
/// Longest wait for the first byte of an answer, all attempts and the pauses between them together.
pub const OPERATION_LIMIT: Duration = Duration::from_secs(20);
/// Attempts of one request, the first included; pauses grow and are jittered by the SDK.
const ATTEMPTS: u32 = 4;

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
            .interceptor(ReadableMetadata)
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
        let answer = self.client.head_object().bucket(&self.bucket).key(key).send().await;
        let answer = answer.map_err(|error| self.failure(&error, key))?;
        let size = answer.content_length().and_then(|size| u64::try_from(size).ok());
        Ok(Object {
            size: size.ok_or_else(|| malformed("no Content-Length"))?,
            version: version(answer.e_tag(), answer.last_modified(), answer.version_id())?,
            kept: Box::new(write::kept(&answer)),
            content_type: answer.content_type,
            metadata: answer.metadata.unwrap_or_default().into_iter().collect(),
        })
    }

    async fn get_object(&self, fetch: Fetch<'_>) -> Result<Fetched, StoreError> {
        let key = fetch.key;
        let mut request = self.client.get_object().bucket(&self.bucket).key(key);
        if let Some(range) = &fetch.range {
            request = request.range(format!("bytes={}-{}", range.start, range.end.saturating_sub(1)));
        }
        request = match &fetch.condition {
            Condition::Always => request,
            Condition::Unchanged(etag) => request.if_match(&*etag.0),
            Condition::Changed(etag) => request.if_none_match(&*etag.0),
        };
        match request.set_version_id(fetch.version_id.map(str::to_string)).send().await {
            Ok(answer) => content(key, answer),
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
                let text = error.raw_response().and_then(|response| response.headers().get("last-modified"));
                let time = text.and_then(|text| DateTime::from_str(text, DateTimeFormat::HttpDate).ok());
                Ok(Fetched::NotModified { last_modified: time.map(|time| time.secs()) })
            }
            Some(412) => Err(StoreError::Changed { key: key.to_string() }),
            Some(416) => Err(StoreError::RangeOutside { key: key.to_string(), start }),
            _ => Err(self.failure(&error, key)),
        }
    }

    async fn list_objects(&self, list: List<'_>) -> Result<Page, StoreError> {
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
            From::Start => request,
            From::Page(token) => request.continuation_token(token),
            From::After(key) => request.start_after(key),
        };
        let what = if list.prefix.is_empty() { &self.bucket } else { list.prefix };
        let answer = request.send().await.map_err(|error| self.failure(&error, what))?;
        // A key may hold what no XML can say.
        let decoded = match answer.encoding_type() {
            Some(EncodingType::Url) => form_decoded,
            _ => |key: String| key,
        };
        let next = if answer.is_truncated() == Some(true) { answer.next_continuation_token } else { None };
        let listed = answer.contents.unwrap_or_default().into_iter().map(|object| {
            Ok(Listed {
                size: object.size().and_then(|size| u64::try_from(size).ok()).unwrap_or(0),
                etag: ETag(object.e_tag().ok_or_else(|| malformed("no ETag"))?.into()),
                last_modified: object.last_modified().map_or(0, DateTime::secs),
                key: decoded(object.key.ok_or_else(|| malformed("no Key"))?),
            })
        });
        Ok(Page {
            objects: listed.collect::<Result<_, StoreError>>()?,
            prefixes: answer
                .common_prefixes
                .unwrap_or_default()
                .into_iter()
                .filter_map(|rolled| rolled.prefix.map(decoded))
                .collect(),
            next,
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
        self.head_object(key).boxed()
    }

    fn fetch<'a>(&'a self, fetch: Fetch<'a>) -> BoxFuture<'a, Result<Fetched, StoreError>> {
        self.get_object(fetch).boxed()
    }

    fn list<'a>(&'a self, list: List<'a>) -> BoxFuture<'a, Result<Page, StoreError>> {
        self.list_objects(list).boxed()
    }
}

fn content(key: &str, answer: GetObjectOutput) -> Result<Fetched, StoreError> {
    let length = answer.content_length().and_then(|size| u64::try_from(size).ok());
    let length = length.ok_or_else(|| malformed("no Content-Length"))?;
    let (range, size) = match answer.content_range() {
        None => (0..length, length),
        Some(text) => content_range(text).ok_or_else(|| malformed("a Content-Range that cannot be read"))?,
    };
    if range.end - range.start != length {
        return Err(malformed("Content-Range and Content-Length differ"));
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
    Ok(Fetched::Content { object, range, body: pieces(key.to_string(), length, answer.body) })
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

/// The pieces of a body; one that breaks off says how far it came.
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
    etag: Option<&str>,
    last_modified: Option<&DateTime>,
    version_id: Option<&str>,
) -> Result<Version, StoreError> {
    Ok(Version {
        etag: ETag(etag.ok_or_else(|| malformed("no ETag"))?.into()),
        last_modified: last_modified.map_or(0, DateTime::secs),
        // An object from before versioning is called "null", and is not kept when it is replaced.
        version_id: version_id.filter(|id| *id != "null").map(Into::into),
    })
}

/// A key as `encoding-type=url` writes it: like a form, so that a `+` is a blank.
fn form_decoded(text: String) -> String {
    let decoded = percent_decoded(&text.replace('+', " "));
    String::from_utf8(decoded).unwrap_or(text)
}

/// Takes headers that are no text for what is left of them as text: the SDK would refuse the whole object for one.
#[derive(Debug)]
struct ReadableMetadata;

impl Intercept for ReadableMetadata {
    fn name(&self) -> &'static str {
        "ReadableMetadata"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let headers = context.response_mut().headers_mut();
        let broken: Vec<(String, String)> = headers
            .iter_bytes()
            .filter(|(_, value)| std::str::from_utf8(value).is_err())
            .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value).into_owned()))
            .collect();
        for (name, value) in broken {
            headers.insert(name, value);
        }
        Ok(())
    }
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
