//! GET and HEAD of objects.

use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::Stream;
use hyper::header::{CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, LAST_MODIFIED};
use s3s::dto::*;
use s3s::stream::{ByteStream, RemainingLength};
use s3s::{Body, S3Error, S3ErrorCode, S3Response, S3Result, StdError, s3_error};
use tokio::task::JoinHandle;

use super::super::condition::{ReadCondition, ReadVerdict};
use super::super::error::StoreError;
use super::super::object::{Content, FRAME_BYTES, Object};
use super::super::store::Store;
use super::adapter::Protocol;
use super::convert::{e_tag, read_condition, shown_version};
use super::receive::answer_checksums;

/// How often a file that changes while it is read is read again before the client is told to come back.
const FILE_ATTEMPTS: usize = 5;

/// What of an object is to be sent.
struct Selection {
    object: Arc<Object>,
    range: Range<u64>,
    /// Only a part of the object was asked for.
    partial: bool,
    /// The bytes, where they had to be read from a file and were few.
    bytes: Option<Bytes>,
}

/// What a client wants of an object.
struct Wish {
    bucket: String,
    key: String,
    version: Option<String>,
    condition: ReadCondition,
    range: Option<s3s::dto::Range>,
}

impl Wish {
    /// Finds the object, and reads it now if it is a small file: then bytes and tag surely belong together.
    fn select(&self, store: &Store, with_bytes: bool) -> S3Result<Selection> {
        for _ in 0..FILE_ATTEMPTS {
            let object = store.read(&self.bucket, &self.key, self.version.as_deref())?;
            judge(&self.condition, &object)?;
            let size = object.content.size();
            let range = resolve(self.range, size)?;
            let partial = self.range.is_some();
            let small = matches!(object.content, Content::File(_)) && range.end - range.start <= FRAME_BYTES;
            if !with_bytes || !small {
                return Ok(Selection { object, range, partial, bytes: None });
            }
            match object.content.bytes(range.clone()) {
                Ok(bytes) => return Ok(Selection { object, range, partial, bytes: Some(bytes) }),
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {}
                // Cut off since it was opened.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
                Err(source) => {
                    return Err(StoreError::File { action: "read", key: self.key.clone(), source }.into());
                }
            }
        }
        Err(s3_error!(SlowDown, "The file is being written; please reduce your request rate."))
    }
}

fn judge(condition: &ReadCondition, object: &Object) -> S3Result<()> {
    match condition.judge(&object.tag, object.modified) {
        ReadVerdict::Serve => Ok(()),
        ReadVerdict::Refuse(condition) => Err(s3_error!(
            PreconditionFailed,
            "At least one of the pre-conditions you specified did not hold: {condition}"
        )),
        ReadVerdict::NotModified => {
            let mut headers = HeaderMap::new();
            if let Ok(tag) = e_tag(&object.tag).to_http_header() {
                headers.insert(ETAG, tag);
            }
            let mut date = Vec::new();
            if Timestamp::from(object.modified).format(TimestampFormat::HttpDate, &mut date).is_ok()
                && let Ok(date) = HeaderValue::from_bytes(&date)
            {
                headers.insert(LAST_MODIFIED, date);
            }
            let mut error = S3Error::new(S3ErrorCode::NotModified);
            error.set_headers(headers);
            Err(error)
        }
    }
}

/// The bytes that a `Range` means in an object of this size.
pub(super) fn resolve(range: Option<s3s::dto::Range>, size: u64) -> S3Result<Range<u64>> {
    let Some(range) = range else { return Ok(0..size) };
    match range.check(size) {
        // The last bytes of nothing: `check` lets that pass, S3 does not.
        Ok(range) if !range.is_empty() => Ok(range),
        _ => {
            let mut error = s3_error!(InvalidRange, "The requested range is not satisfiable");
            let mut headers = HeaderMap::new();
            let range = HeaderValue::from_str(&format!("bytes */{size}")).expect("digits are a header value");
            headers.insert(CONTENT_RANGE, range);
            error.set_headers(headers);
            Err(error)
        }
    }
}

/// What a GET or a HEAD asks for.
macro_rules! wish {
    ($input:ident) => {{
        if $input.part_number.is_some() {
            return Err(s3_error!(NotImplemented, "A part of an object cannot be asked for by its number"));
        }
        Wish {
            bucket: $input.bucket,
            key: $input.key,
            version: $input.version_id,
            condition: read_condition(
                $input.if_match,
                $input.if_none_match,
                $input.if_modified_since,
                $input.if_unmodified_since,
            ),
            range: $input.range,
        }
    }};
}

/// Fills the fields that the answers to GET and HEAD have in common.
macro_rules! describe {
    ($output:ident, $selection:ident, $checksum_mode:expr) => {{
        let Selection { object, range, partial, .. } = &$selection;
        let attributes = &*object.attributes;
        $output.accept_ranges = Some("bytes".to_owned());
        $output.cache_control = attributes.cache_control.clone();
        $output.content_disposition = attributes.content_disposition.clone();
        $output.content_encoding = attributes.content_encoding.clone();
        $output.content_language = attributes.content_language.clone();
        $output.content_length = i64::try_from(range.end - range.start).ok();
        $output.content_range =
            partial.then(|| format!("bytes {}-{}/{}", range.start, range.end - 1, object.content.size()));
        $output.content_type =
            Some(attributes.content_type.clone().unwrap_or_else(|| "binary/octet-stream".to_owned()));
        $output.e_tag = Some(e_tag(&object.tag));
        $output.expires = attributes
            .expires_s
            .and_then(|seconds| time::OffsetDateTime::from_unix_timestamp(seconds).ok().map(Timestamp::from));
        $output.last_modified = Some(object.modified.into());
        $output.metadata =
            Some(attributes.metadata.iter().map(|(name, value)| (name.clone(), value.clone())).collect());
        $output.storage_class = attributes.storage_class.clone().map(StorageClass::from);
        $output.version_id = shown_version(object.version);
        let wants_checksums =
            $checksum_mode.as_ref().is_some_and(|mode: &ChecksumMode| mode.as_str() == ChecksumMode::ENABLED);
        if wants_checksums && !partial && !attributes.checksums.is_empty() {
            answer_checksums!($output, attributes.checksums);
            $output.checksum_type = Some(ChecksumType::from_static(ChecksumType::FULL_OBJECT));
        }
    }};
}

impl Protocol {
    pub(super) async fn get(&self, input: GetObjectInput) -> S3Result<GetObjectOutput> {
        let wish = wish!(input);
        let selection = self.on_store(move |store| wish.select(store, true)).await?;
        let mut output = GetObjectOutput::default();
        describe!(output, selection, input.checksum_mode);
        let tags = selection.object.attributes.tags.len();
        output.tag_count = i32::try_from(tags).ok().filter(|count| *count > 0);
        output.body = Some(body(selection));
        Ok(output)
    }

    pub(super) async fn head(&self, input: HeadObjectInput) -> S3Result<S3Response<HeadObjectOutput>> {
        let wish = wish!(input);
        let selection = self.on_store(move |store| wish.select(store, false)).await?;
        let mut output = HeadObjectOutput::default();
        describe!(output, selection, input.checksum_mode);
        let status =
            if selection.partial { hyper::StatusCode::PARTIAL_CONTENT } else { hyper::StatusCode::OK };
        let mut response = S3Response::with_status(output, status);
        // The decoded answer to a HEAD has no place for it.
        let tags = selection.object.attributes.tags.len();
        if tags > 0 {
            response.headers.insert("x-amz-tagging-count", tags.into());
        }
        Ok(response)
    }
}

fn body(selection: Selection) -> StreamingBlob {
    let Selection { object, range, bytes, .. } = selection;
    let length = range.end - range.start;
    match bytes.unwrap_or_else(|| object.content.piece(range.start, length.min(FRAME_BYTES))) {
        all if all.len() as u64 == length => StreamingBlob::from(Body::from(all)),
        _ => StreamingBlob::new(Pieces { object, range, reading: None }),
    }
}

/// Content piece by piece: slices of what is in memory; a file is read on threads that may wait, and ends in an error if
/// it changes on the way.
struct Pieces {
    object: Arc<Object>,
    range: Range<u64>,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
}

impl Stream for Pieces {
    type Item = Result<Bytes, StdError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Range { start, end } = self.range;
        let length = FRAME_BYTES.min(end - start);
        if length == 0 {
            return Poll::Ready(None);
        }
        let object = self.object.clone();
        let piece = match &object.content {
            Content::File(file) => {
                let file = file.clone();
                let read = || tokio::task::spawn_blocking(move || file.read(start, length));
                let read = ready!(Pin::new(self.reading.get_or_insert_with(read)).poll(cx));
                self.reading = None;
                read.map_err(io::Error::other).flatten()
            }
            content => Ok(content.piece(start, length)),
        };
        Poll::Ready(Some(
            piece.map_err(StdError::from).inspect(|piece| self.range.start += piece.len() as u64),
        ))
    }
}

impl ByteStream for Pieces {
    fn remaining_length(&self) -> RemainingLength {
        usize::try_from(self.range.end - self.range.start)
            .map_or_else(|_| RemainingLength::unknown(), RemainingLength::new_exact)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_mean_what_they_mean_to_s3() {
        let resolved = |text: &str, size| resolve(Some(s3s::dto::Range::parse(text).unwrap()), size).ok();
        assert_eq!(resolved("bytes=0-3", 10), Some(0..4));
        assert_eq!(resolved("bytes=8-100", 10), Some(8..10));
        assert_eq!(resolved("bytes=-3", 10), Some(7..10));
        assert_eq!(resolved("bytes=-30", 10), Some(0..10));
        assert_eq!(resolved("bytes=10-", 10), None);
        assert_eq!(resolved("bytes=-0", 10), None);
        assert_eq!(resolved("bytes=-1", 0), None);
        assert_eq!(resolve(None, 0).unwrap(), 0..0);
    }
}
