//! What the S3 server's store and the store of the file system say of the same thing, one as the other.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use s3_testbed::{self as s3, Attributes, EntityTag, TagMatch, WriteCondition};

use crate::store::error::StoreError;
use crate::store::read::Object;
use crate::store::version::{ETag, Version};
use crate::store::write::{Headers, Kept, METADATA_MAX, WriteIf, Written, metadata_bytes};

pub(super) fn etag(tag: &EntityTag) -> ETag {
    ETag(format!("\"{tag}\"").into())
}

pub(super) fn unquoted(etag: &ETag) -> String {
    etag.0.trim_matches('"').to_string()
}

pub(super) fn seconds(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}

pub(super) fn described(object: &Arc<s3::Object>) -> Object {
    let own = (*object.attributes).clone();
    let expires = |seconds| DateTime::from_secs(seconds).fmt(Format::HttpDate).ok();
    Object {
        size: object.content.size(),
        version: Version {
            etag: etag(&object.tag),
            last_modified: seconds(object.modified),
            version_id: None,
        },
        content_type: own.content_type,
        metadata: own.metadata.into_iter().collect(),
        kept: Box::new(Kept {
            cache_control: own.cache_control,
            content_disposition: own.content_disposition,
            content_encoding: own.content_encoding,
            content_language: own.content_language,
            expires: own.expires_s.and_then(expires),
            storage_class: own.storage_class,
            tags: own.tags.len() as u32,
            ..Kept::default()
        }),
    }
}

/// # Errors
///
/// [`StoreError::MetadataTooLarge`].
pub(super) fn attributes(
    key: &str,
    headers: &Headers,
    tags: &[(String, String)],
) -> Result<Attributes, StoreError> {
    if metadata_bytes(&headers.metadata) > METADATA_MAX {
        return Err(StoreError::MetadataTooLarge { key: key.to_string() });
    }
    let kept = (*headers.kept).clone();
    let expires = |text: String| Some(DateTime::from_str(&text, Format::HttpDate).ok()?.secs());
    Ok(Attributes {
        metadata: headers.metadata.iter().cloned().collect(),
        content_type: headers.content_type.clone(),
        cache_control: kept.cache_control,
        content_encoding: kept.content_encoding,
        content_disposition: kept.content_disposition,
        content_language: kept.content_language,
        expires_s: kept.expires.and_then(expires),
        storage_class: kept.storage_class,
        tags: tags.to_vec(),
        ..Attributes::default()
    })
}

pub(super) fn condition(condition: &WriteIf) -> WriteCondition {
    match condition {
        WriteIf::Always => WriteCondition::default(),
        WriteIf::Absent => WriteCondition::absent(),
        WriteIf::Unchanged(etag) => {
            WriteCondition { if_match: Some(TagMatch::Tag(unquoted(etag))), if_none_match: None }
        }
    }
}

impl From<s3::StoreError> for StoreError {
    fn from(error: s3::StoreError) -> StoreError {
        match error {
            s3::StoreError::NoSuchKey { key } => StoreError::NotFound { key },
            s3::StoreError::Unmet { key, .. } => StoreError::Changed { key },
            s3::StoreError::NoSuchUpload { key, .. } => StoreError::NoUpload { key },
            refused => StoreError::Refused { status: 400, code: refused.code().as_str().to_string() },
        }
    }
}

pub(super) fn written(object: &Arc<s3::Object>) -> Written {
    Written { etag: etag(&object.tag), version_id: None }
}
