//! Conditional requests: which state of an object a request insists on.
//!
//! Reads follow RFC 9110, section 13.2.2, as S3 does: `If-Match` outranks `If-Unmodified-Since`, `If-None-Match`
//! outranks `If-Modified-Since`. Writes are judged under the lock of the bucket, so of two conditional writes that
//! race exactly one wins.

use std::time::SystemTime;

use super::entity_tag::EntityTag;
use super::object::whole_seconds;

/// The state that an `If-Match` or `If-None-Match` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TagMatch {
    /// `*`: any object at all.
    Any,
    /// The text of one tag, without quotes.
    Tag(String),
}

impl TagMatch {
    fn holds(&self, tag: &EntityTag) -> bool {
        match self {
            Self::Any => true,
            Self::Tag(text) => *text == tag.to_string(),
        }
    }
}

/// Conditions of a read, or of the source of a copy.
#[derive(Debug, Clone, Default)]
pub(super) struct ReadCondition {
    pub if_match: Option<TagMatch>,
    pub if_none_match: Option<TagMatch>,
    pub if_modified_since: Option<SystemTime>,
    pub if_unmodified_since: Option<SystemTime>,
}

/// What conditions make of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadVerdict {
    Serve,
    NotModified,
    /// The named condition does not hold.
    Refuse(&'static str),
}

impl ReadCondition {
    pub(super) fn judge(&self, tag: &EntityTag, modified: SystemTime) -> ReadVerdict {
        let modified = whole_seconds(modified);
        match (&self.if_match, self.if_unmodified_since) {
            (Some(wanted), _) if !wanted.holds(tag) => return ReadVerdict::Refuse("If-Match"),
            (None, Some(limit)) if modified > limit => return ReadVerdict::Refuse("If-Unmodified-Since"),
            _ => {}
        }
        match (&self.if_none_match, self.if_modified_since) {
            (Some(unwanted), _) if unwanted.holds(tag) => ReadVerdict::NotModified,
            (None, Some(limit)) if modified <= limit => ReadVerdict::NotModified,
            _ => ReadVerdict::Serve,
        }
    }
}

/// Conditions of a write or a delete.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WriteCondition {
    pub if_match: Option<TagMatch>,
    pub if_none_match: Option<TagMatch>,
}

/// Why a conditional write must not happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WriteRefusal {
    /// The named condition does not hold.
    Unmet(&'static str),
    /// There is no object for `If-Match` to be true of.
    Absent,
}

impl WriteCondition {
    /// Only if there is no object yet.
    pub fn absent() -> Self {
        Self { if_match: None, if_none_match: Some(TagMatch::Any) }
    }

    pub(super) fn judge(&self, current: Option<&EntityTag>) -> Result<(), WriteRefusal> {
        match (&self.if_match, current) {
            (Some(_), None) => return Err(WriteRefusal::Absent),
            (Some(wanted), Some(tag)) if !wanted.holds(tag) => return Err(WriteRefusal::Unmet("If-Match")),
            _ => {}
        }
        match (&self.if_none_match, current) {
            (Some(unwanted), Some(tag)) if unwanted.holds(tag) => Err(WriteRefusal::Unmet("If-None-Match")),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn tag() -> EntityTag {
        EntityTag::of(b"x")
    }

    fn own() -> Option<TagMatch> {
        Some(TagMatch::Tag(tag().to_string()))
    }

    fn other() -> Option<TagMatch> {
        Some(TagMatch::Tag("other".into()))
    }

    fn second(n: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(n)
    }

    fn judge(condition: ReadCondition) -> ReadVerdict {
        condition.judge(&tag(), second(100))
    }

    #[test]
    fn a_read_of_another_version_than_asked_for_is_refused() {
        let verdict = judge(ReadCondition { if_match: other(), ..Default::default() });
        assert_eq!(verdict, ReadVerdict::Refuse("If-Match"));
        assert_eq!(judge(ReadCondition { if_match: own(), ..Default::default() }), ReadVerdict::Serve);
    }

    #[test]
    fn a_matching_tag_outranks_the_date() {
        let condition =
            ReadCondition { if_match: own(), if_unmodified_since: Some(second(1)), ..Default::default() };
        assert_eq!(judge(condition), ReadVerdict::Serve);
        let condition = ReadCondition {
            if_none_match: other(),
            if_modified_since: Some(second(200)),
            ..Default::default()
        };
        assert_eq!(judge(condition), ReadVerdict::Serve);
    }

    #[test]
    fn what_the_client_has_is_not_sent_again() {
        let condition = ReadCondition { if_none_match: own(), ..Default::default() };
        assert_eq!(judge(condition), ReadVerdict::NotModified);
        let condition = ReadCondition { if_modified_since: Some(second(100)), ..Default::default() };
        assert_eq!(judge(condition), ReadVerdict::NotModified);
        let condition = ReadCondition { if_modified_since: Some(second(99)), ..Default::default() };
        assert_eq!(judge(condition), ReadVerdict::Serve);
    }

    #[test]
    fn a_fraction_of_a_second_does_not_count_as_modified() {
        let condition = ReadCondition { if_unmodified_since: Some(second(100)), ..Default::default() };
        assert_eq!(condition.judge(&tag(), second(100) + Duration::from_millis(900)), ReadVerdict::Serve);
    }

    #[test]
    fn a_write_that_insists_on_absence_finds_the_object() {
        let condition = WriteCondition::absent();
        assert_eq!(condition.judge(None), Ok(()));
        assert_eq!(condition.judge(Some(&tag())), Err(WriteRefusal::Unmet("If-None-Match")));
    }

    #[test]
    fn a_write_that_insists_on_a_version_needs_that_one() {
        let condition = WriteCondition { if_match: other(), if_none_match: None };
        assert_eq!(condition.judge(Some(&tag())), Err(WriteRefusal::Unmet("If-Match")));
        assert_eq!(condition.judge(None), Err(WriteRefusal::Absent));
        assert_eq!(WriteCondition { if_match: own(), if_none_match: None }.judge(Some(&tag())), Ok(()));
    }
}
