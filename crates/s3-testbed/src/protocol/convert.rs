//! What S3 and the store say of the same thing, one as the other.

use std::time::SystemTime;

use s3s::dto::{ETag, ETagCondition, Timestamp};
use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};

use crate::condition::{ReadCondition, TagMatch, WriteCondition};
use crate::entity_tag::EntityTag;
use crate::object::VersionId;

pub(super) fn e_tag(tag: &EntityTag) -> ETag {
    ETag::Strong(tag.to_string())
}

fn time_of(timestamp: Timestamp) -> SystemTime {
    time::OffsetDateTime::from(timestamp).into()
}

fn tag_match(condition: ETagCondition) -> TagMatch {
    match condition {
        ETagCondition::Any => TagMatch::Any,
        ETagCondition::ETag(tag) => TagMatch::Tag(tag.into_value()),
    }
}

pub(super) fn read_condition(
    if_match: Option<ETagCondition>,
    if_none_match: Option<ETagCondition>,
    if_modified_since: Option<Timestamp>,
    if_unmodified_since: Option<Timestamp>,
) -> ReadCondition {
    ReadCondition {
        if_match: if_match.map(tag_match),
        if_none_match: if_none_match.map(tag_match),
        if_modified_since: if_modified_since.map(time_of),
        if_unmodified_since: if_unmodified_since.map(time_of),
    }
}

/// The condition of a copy on its source.
macro_rules! source_condition {
    ($input:ident) => {
        $crate::protocol::convert::read_condition(
            $input.copy_source_if_match,
            $input.copy_source_if_none_match,
            $input.copy_source_if_modified_since,
            $input.copy_source_if_unmodified_since,
        )
    };
}
pub(super) use source_condition;

/// The condition of a write. S3 knows no write that depends on the absence of one particular version.
pub(super) fn write_condition(
    if_match: Option<ETagCondition>,
    if_none_match: Option<ETagCondition>,
) -> S3Result<WriteCondition> {
    if if_none_match.as_ref().is_some_and(|condition| !condition.is_any()) {
        return Err(s3_error!(NotImplemented, "If-None-Match of a write can only be *"));
    }
    Ok(WriteCondition { if_match: if_match.map(tag_match), if_none_match: if_none_match.map(tag_match) })
}

/// The version of an answer: absent where the bucket never kept any.
pub(super) fn shown_version(version: Option<VersionId>) -> Option<String> {
    version.map(|version| version.to_string())
}

pub(super) fn invalid_argument(message: String) -> S3Error {
    S3Error::with_message(S3ErrorCode::InvalidArgument, message)
}
