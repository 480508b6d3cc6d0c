//! Why the store refused, and how S3 says that.

use std::io;

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
    #[error("no multipart upload {upload:?}")]
    NoSuchUpload { upload: String },
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

    fn code(&self) -> S3ErrorCode {
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
            answer.set_headers(super::protocol::marker_headers(*marker));
        }
        answer.set_source(Box::new(error));
        answer
    }
}
