//! Why the store refused, and how S3 says that.

use std::io;

use hyper::header::{HeaderMap, HeaderValue};
use s3s::{S3Error, S3ErrorCode};

use super::condition::WriteRefusal;
use super::object::VersionId;

/// Why something could not be read from or written to the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("no bucket {bucket:?}")]
    NoSuchBucket { bucket: String },
    #[error("bucket {bucket:?} exists already")]
    BucketExists { bucket: String },
    #[error("bucket {bucket:?} is not empty")]
    BucketNotEmpty { bucket: String },
    #[error("no object {key:?}")]
    NoSuchKey { key: String },
    #[error("no version {version:?} of object {key:?}")]
    NoSuchVersion { key: String, version: String },
    /// `version` is set where the marker was asked for by its number.
    #[error("object {key:?} is deleted")]
    Deleted { key: String, marker: Option<VersionId>, by_version: bool },
    #[error("condition {condition} does not hold for object {key:?}")]
    Unmet { key: String, condition: &'static str },
    #[error("key {key:?} cannot be a file of the directory: {reason}")]
    NotAFile { key: String, reason: &'static str },
    #[error("a directory as a bucket {missing}")]
    DirectoryOnly { missing: &'static str },
    #[error("no multipart upload {upload:?} of {key:?}")]
    NoSuchUpload { key: String, upload: String },
    #[error("part {number} of the upload {reason}")]
    InvalidPart { number: i32, reason: &'static str },
    #[error("parts of the upload are not in ascending order")]
    PartOrder,
    #[error(
        "part {number} of the upload has {size} bytes, expected at least {minimum} in all parts but the last"
    )]
    PartTooSmall { number: i32, size: u64, minimum: u64 },
    #[error("cannot {action} the file of {key:?}")]
    File { action: &'static str, key: String, source: io::Error },
}

impl StoreError {
    pub(super) fn refused(key: &str, refusal: WriteRefusal) -> Self {
        match refusal {
            WriteRefusal::Unmet(condition) => Self::Unmet { key: key.to_owned(), condition },
            WriteRefusal::Absent => Self::NoSuchKey { key: key.to_owned() },
        }
    }

    /// What S3 calls it.
    pub fn code(&self) -> S3ErrorCode {
        match self {
            Self::NoSuchBucket { .. } => S3ErrorCode::NoSuchBucket,
            Self::BucketExists { .. } => S3ErrorCode::BucketAlreadyOwnedByYou,
            Self::BucketNotEmpty { .. } => S3ErrorCode::BucketNotEmpty,
            Self::NoSuchKey { .. } | Self::Deleted { by_version: false, .. } => S3ErrorCode::NoSuchKey,
            Self::Deleted { by_version: true, .. } => S3ErrorCode::MethodNotAllowed,
            Self::NoSuchVersion { .. } => S3ErrorCode::NoSuchVersion,
            Self::Unmet { .. } => S3ErrorCode::PreconditionFailed,
            Self::NotAFile { .. } => S3ErrorCode::InvalidArgument,
            Self::DirectoryOnly { .. } => S3ErrorCode::NotImplemented,
            Self::NoSuchUpload { .. } => S3ErrorCode::NoSuchUpload,
            Self::InvalidPart { .. } => S3ErrorCode::InvalidPart,
            Self::PartOrder => S3ErrorCode::InvalidPartOrder,
            Self::PartTooSmall { .. } => S3ErrorCode::EntityTooSmall,
            Self::File { .. } => S3ErrorCode::InternalError,
        }
    }
}

impl From<StoreError> for S3Error {
    fn from(error: StoreError) -> Self {
        let mut answer = S3Error::with_message(error.code(), error.to_string());
        if let StoreError::Deleted { marker, .. } = &error {
            answer.set_headers(marker_headers(*marker));
        }
        answer.set_source(Box::new(error));
        answer
    }
}

/// The headers of a refusal because the newest version is a delete marker.
fn marker_headers(marker: Option<VersionId>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("x-amz-delete-marker", HeaderValue::from_static("true"));
    let version = HeaderValue::from_str(&VersionId::text(marker)).expect("hexadecimal digits or \"null\"");
    headers.insert("x-amz-version-id", version);
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str) -> String {
        text.to_owned()
    }

    /// An error, its code, its status and its text.
    type Known = (StoreError, &'static str, u16, &'static str);

    /// Of buckets and of what is under a key.
    fn of_objects() -> Vec<Known> {
        let key = || named("k");
        let deleted = |by_version| StoreError::Deleted { key: key(), marker: None, by_version };
        vec![
            (StoreError::NoSuchBucket { bucket: named("b") }, "NoSuchBucket", 404, "no bucket \"b\""),
            (
                StoreError::BucketExists { bucket: named("b") },
                "BucketAlreadyOwnedByYou",
                409,
                "bucket \"b\" exists already",
            ),
            (
                StoreError::BucketNotEmpty { bucket: named("b") },
                "BucketNotEmpty",
                409,
                "bucket \"b\" is not empty",
            ),
            (StoreError::NoSuchKey { key: key() }, "NoSuchKey", 404, "no object \"k\""),
            (
                StoreError::NoSuchVersion { key: key(), version: named("v") },
                "NoSuchVersion",
                404,
                "no version \"v\" of object \"k\"",
            ),
            (deleted(false), "NoSuchKey", 404, "object \"k\" is deleted"),
            (deleted(true), "MethodNotAllowed", 405, "object \"k\" is deleted"),
            (
                StoreError::Unmet { key: key(), condition: "If-Match" },
                "PreconditionFailed",
                412,
                "condition If-Match does not hold for object \"k\"",
            ),
        ]
    }

    /// Of files and of uploads.
    fn of_files() -> Vec<Known> {
        let key = || named("k");
        let file = StoreError::File { action: "read", key: key(), source: io::Error::other("disk") };
        vec![
            (
                StoreError::NotAFile { key: key(), reason: "a segment is empty" },
                "InvalidArgument",
                400,
                "key \"k\" cannot be a file of the directory: a segment is empty",
            ),
            (
                StoreError::DirectoryOnly { missing: "keeps no versions" },
                "NotImplemented",
                501,
                "a directory as a bucket keeps no versions",
            ),
            (
                StoreError::NoSuchUpload { key: key(), upload: named("u") },
                "NoSuchUpload",
                404,
                "no multipart upload \"u\" of \"k\"",
            ),
            (
                StoreError::InvalidPart { number: 3, reason: "was not uploaded" },
                "InvalidPart",
                400,
                "part 3 of the upload was not uploaded",
            ),
            (
                StoreError::PartOrder,
                "InvalidPartOrder",
                400,
                "parts of the upload are not in ascending order",
            ),
            (
                StoreError::PartTooSmall { number: 1, size: 2, minimum: 5 },
                "EntityTooSmall",
                400,
                "part 1 of the upload has 2 bytes, expected at least 5 in all parts but the last",
            ),
            (file, "InternalError", 500, "cannot read the file of \"k\""),
        ]
    }

    #[test]
    fn every_error_has_its_text_and_is_what_s3_calls_it() {
        for (error, code, status, text) in of_objects().into_iter().chain(of_files()) {
            assert_eq!(error.to_string(), text);
            let answer = S3Error::from(error);
            assert_eq!((answer.code().as_str(), answer.message()), (code, Some(text)));
            assert_eq!(answer.status_code().map(|status| status.as_u16()), Some(status), "{text}");
        }
    }

    #[test]
    fn an_answer_about_a_delete_marker_says_so_in_its_headers() {
        let error = StoreError::Deleted { key: named("k"), marker: Some(VersionId(10)), by_version: false };
        let answer = S3Error::from(error);
        let headers = answer.headers().unwrap();
        assert_eq!(headers["x-amz-delete-marker"], "true");
        assert_eq!(headers["x-amz-version-id"], "000000000000000a");
    }
}
