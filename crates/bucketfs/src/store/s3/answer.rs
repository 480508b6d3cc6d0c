//! What of an answer is let through to the SDK: a status that fits the question, headers that are text, and no more
//! bytes than an honest answer has.
//!
//! The SDK collects every body but that of an object before it looks at it, however long it goes on. What must hold:
//! an answer takes no more memory than a page of a listing may; one that is refused here is not asked for again.

use std::pin::Pin;
use std::task::{Context, Poll};

use aws_sdk_s3::config::interceptors::{BeforeDeserializationInterceptorContextMut, InterceptorContext};
use aws_sdk_s3::config::retry::{ClassifyRetry, RetryAction};
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::SdkBody;
use aws_smithy_runtime_api::client::orchestrator::{HttpResponse, Metadata};
use bytes::Bytes;
use hyper::body::{Body, Frame};

use super::cause::chain;

/// Most bytes of an answer that is neither an object nor a listing. Errors of S3 have some hundred, the longest
/// (`SignatureDoesNotMatch`, with what was signed) some thousand.
const ANSWER_MAX: u64 = 256 * 1024;
/// Most keys of a page of a listing, whatever was asked for: some servers look at no `max-keys`.
pub(super) const PAGE_KEYS: u64 = 1000;
/// Most bytes of one key of a listing: 1,024 of the key itself, each at most six when escaped as XML (`&quot;`), and
/// what is said of it.
const KEY_BYTES_MAX: u64 = 8 * 1024;
/// Most tags of one key of a listing; S3 has at most 34. Each may become a value of the SDK that is much larger.
const KEY_TAGS_MAX: u64 = 64;

/// What S3 says of a write that met another one.
pub(super) const CONFLICTS: [&str; 2] = ["ConditionalRequestConflict", "OperationAborted"];

/// Bytes of the end of a listing by which is seen that it is one.
const END_BYTES: usize = 64;

/// Why an answer was not let through.
#[derive(Clone, Debug, thiserror::Error)]
enum Refusal {
    #[error("a status {status} that does not answer the question")]
    Status { status: u16 },
    #[error("a part of an object, and not which")]
    PartOfWhat,
    #[error("an object of an announced length that is sent without one")]
    TwoLengths,
    #[error("an answer of more than {limit} bytes")]
    TooLong { limit: u64 },
    #[error("an answer of more than {limit} XML tags")]
    TooManyTags { limit: u64 },
    #[error("a listing that breaks off")]
    Unfinished,
}

/// Looks at each answer before the SDK does.
#[derive(Debug)]
pub(super) struct Sound;

impl Intercept for Sound {
    fn name(&self) -> &'static str {
        "Sound"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let operation = config.load::<Metadata>().map(Metadata::name).unwrap_or_default();
        let response = context.response_mut();
        make_text(response);
        let is_success = (200..300).contains(&response.status().as_u16());
        if is_success {
            fits(operation, response)?;
        }
        if is_success && operation == "GetObject" {
            return Ok(());
        }
        let is_listing = is_success && operation.starts_with("List");
        let limits = match is_listing {
            true => (ANSWER_MAX + PAGE_KEYS * KEY_BYTES_MAX, (1 + PAGE_KEYS) * KEY_TAGS_MAX),
            false => (ANSWER_MAX, ANSWER_MAX),
        };
        let body = std::mem::replace(response.body_mut(), SdkBody::taken());
        *response.body_mut() =
            SdkBody::from_body_1_x(Limited { body, limits, seen: (0, 0), end: is_listing.then(Vec::new) });
        Ok(())
    }
}

/// Whether the answer can be one to this question, as far as its head tells.
fn fits(operation: &str, response: &HttpResponse) -> Result<(), Refusal> {
    let status = response.status().as_u16();
    let has = |name| response.headers().contains_key(name);
    match (operation, status) {
        ("GetObject", 206) if !has("content-range") => Err(Refusal::PartOfWhat),
        ("GetObject", 200 | 206) if has("transfer-encoding") && has("content-length") => {
            Err(Refusal::TwoLengths)
        }
        ("GetObject", 200 | 206) | ("HeadObject" | "ListObjectsV2" | "ListObjectVersions", 200) => Ok(()),
        ("GetObject" | "HeadObject" | "ListObjectsV2" | "ListObjectVersions", _) => {
            Err(Refusal::Status { status })
        }
        _ => Ok(()),
    }
}

/// Takes headers that are no text for what is left of them as text: the SDK would refuse the whole object for one.
fn make_text(response: &mut HttpResponse) {
    let headers = response.headers_mut();
    let broken: Vec<(String, String)> = headers
        .iter_bytes()
        .filter(|(_, value)| std::str::from_utf8(value).is_err())
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value).into_owned()))
        .collect();
    for (name, value) in broken {
        headers.insert(name, value);
    }
}

/// A body that breaks off when it has more bytes, or more XML tags, than it may have.
struct Limited {
    body: SdkBody,
    limits: (u64, u64),
    seen: (u64, u64),
    /// The last bytes so far of a listing, which the SDK takes for whole where it breaks off.
    end: Option<Vec<u8>>,
}

impl Limited {
    fn note(&mut self, data: &[u8]) -> Result<(), Refusal> {
        self.seen.0 += data.len() as u64;
        self.seen.1 += data.iter().filter(|byte| **byte == b'<').count() as u64;
        if let Some(end) = &mut self.end {
            end.extend_from_slice(&data[data.len().saturating_sub(END_BYTES)..]);
            end.drain(..end.len().saturating_sub(END_BYTES));
        }
        match (self.seen, self.limits) {
            ((bytes, _), (limit, _)) if bytes > limit => Err(Refusal::TooLong { limit }),
            ((_, tags), (_, limit)) if tags > limit => Err(Refusal::TooManyTags { limit }),
            _ => Ok(()),
        }
    }

    /// Whether what came can be all.
    fn is_whole(&self) -> bool {
        self.end.as_ref().is_none_or(|end| {
            let end = end.trim_ascii_end();
            end.ends_with(b"Result>") || end.ends_with(b"Result/>")
        })
    }
}

impl Body for Limited {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        let noted = match &polled {
            Poll::Ready(Some(Ok(frame))) => self.note(frame.data_ref().map_or(&[], |data| data)),
            Poll::Ready(None) if !self.is_whole() => Err(Refusal::Unfinished),
            _ => Ok(()),
        };
        match noted {
            Ok(()) => polled,
            Err(refusal) => Poll::Ready(Some(Err(refusal.into()))),
        }
    }
}

/// Has the SDK send a write again that met another one of the same key: S3 says 409, and that nothing is decided by it. An
/// upload that is completed is begun again instead, by whoever has its bytes.
#[derive(Debug)]
pub(super) struct AtTheSameMoment;

impl ClassifyRetry for AtTheSameMoment {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        let is_conflict = context.response().is_some_and(|response| {
            let said = response.body().bytes().map(String::from_utf8_lossy).unwrap_or_default();
            response.status().as_u16() == 409 && CONFLICTS.iter().any(|code| said.contains(code))
        });
        let is_upload = context.request().is_some_and(|request| request.uri().contains("uploadId="));
        match is_conflict && !is_upload {
            true => RetryAction::transient_error(),
            false => RetryAction::NoActionIndicated,
        }
    }

    fn name(&self) -> &'static str {
        "AtTheSameMoment"
    }
}

/// Keeps the SDK from asking again for what was refused here.
#[derive(Debug)]
pub(super) struct RefusedOnce;

impl ClassifyRetry for RefusedOnce {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        let error = context.output_or_error().and_then(|output| output.err());
        let is_refusal =
            error.is_some_and(|error| chain(error).any(|cause| cause.downcast_ref::<Refusal>().is_some()));
        if is_refusal { RetryAction::RetryForbidden } else { RetryAction::NoActionIndicated }
    }

    fn name(&self) -> &'static str {
        "RefusedOnce"
    }
}
