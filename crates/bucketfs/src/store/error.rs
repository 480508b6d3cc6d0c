//! Why a store did not answer as asked, and whether asking again later can help.

use std::time::Duration;

/// Why the store did not answer as asked.
///
/// `Clone`, because one request may have been made for many waiting readers.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    #[error("no object has the key {key:?}")]
    NotFound { key: String },
    #[error("no bucket is named {bucket:?}")]
    NoBucket { bucket: String },
    #[error("access to {what:?} is denied ({code})")]
    Denied { what: String, code: String },
    #[error("the credentials are refused ({code})")]
    Credentials { code: String, skew: Option<ClockSkew> },
    #[error("there are no usable credentials")]
    NoCredentials { reason: String },
    #[error("it is not known in which AWS region the bucket {bucket:?} is to be asked")]
    NoRegion { bucket: String },
    #[error("the bucket {bucket:?} lives in another region{}", region.as_ref().map(|r| format!(", {r:?}")).unwrap_or_default())]
    WrongRegion { bucket: String, region: Option<String> },
    #[error("the object {key:?} is no longer the version that was opened")]
    Changed { key: String },
    #[error("the object {key:?} was being written by somebody else at the same moment")]
    Conflict { key: String },
    #[error(
        "the store takes no conditions on writes: what somebody else writes to {key:?} at the same moment would be lost"
    )]
    Unconditional { key: String },
    #[error("no upload of {key:?} has this name")]
    NoUpload { key: String },
    #[error("the object {key:?} would be larger than the store takes")]
    TooLarge { key: String },
    #[error("the metadata of {key:?} would take more than the store's 2 KB")]
    MetadataTooLarge { key: String },
    #[error("bytes {start}- of {key:?} are behind its end")]
    RangeOutside { key: String, start: u64 },
    #[error("the object {key:?} is archived")]
    Archived { key: String },
    #[error("the key {key:?} is longer than S3 takes")]
    KeyTooLong { key: String },
    #[error("the body of {key:?} ended after {found} of {expected} bytes")]
    Truncated { key: String, found: u64, expected: u64 },
    #[error("the bytes of {key:?} do not have the checksum that the store gave for them")]
    Corrupt { key: String },
    #[error("no answer within {}", seconds(.0))]
    TimedOut(Duration),
    #[error("cannot reach the store at {endpoint:?}: {reason}")]
    Unreachable { endpoint: String, reason: String },
    #[error("the store is asked too often ({code})")]
    Throttled { code: String },
    #[error("the store answered {status}{}", if code.is_empty() { String::new() } else { format!(" {code}") })]
    Refused { status: u16, code: String },
    #[error("the store's answer makes no sense: {reason}")]
    Malformed { reason: String },
    #[error("{what:?} cannot be asked about: {reason}")]
    NotSent { what: String, reason: String },
}

/// That the clocks of the host and of the store differ by more than a signature may be old.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClockSkew {
    /// What the store holds the time to be, as it wrote it.
    pub server_time: Option<String>,
}

impl StoreError {
    /// Whether the store could not be asked, as opposed to having answered: what is known of its objects then
    /// stays the best there is.
    pub fn is_outage(&self) -> bool {
        matches!(
            self,
            StoreError::TimedOut(_)
                | StoreError::Unreachable { .. }
                | StoreError::Throttled { .. }
                | StoreError::Credentials { .. }
                | StoreError::NoCredentials { .. }
                | StoreError::Truncated { .. }
                // 501 is an answer: it never does that.
                | StoreError::Refused { status: 500 | 502..=599, .. }
        )
    }

    /// Whether what was asked for may have been done all the same: the answer is what did not come, or makes no sense.
    pub fn may_be_done(&self) -> bool {
        matches!(
            self,
            StoreError::TimedOut(_)
                | StoreError::Unreachable { .. }
                | StoreError::Truncated { .. }
                | StoreError::Malformed { .. }
                | StoreError::Refused { status: 500..=599, .. }
        )
    }

    /// Whether this is about one object: it was asked for and refused, or what came makes no sense. All others may be
    /// well.
    pub fn is_about_one(&self) -> bool {
        let is_refusal = matches!(
            self,
            StoreError::Denied { .. }
                | StoreError::Archived { .. }
                | StoreError::KeyTooLong { .. }
                | StoreError::RangeOutside { .. }
                | StoreError::Corrupt { .. }
                | StoreError::Refused { .. }
                | StoreError::Malformed { .. }
                | StoreError::NotSent { .. }
                | StoreError::Unconditional { .. }
        );
        is_refusal && !self.is_outage()
    }
}

fn seconds(limit: &Duration) -> String {
    format!("{:.1} s", limit.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_told_from_an_answer() {
        let outage = StoreError::Refused { status: 503, code: "SlowDown".into() };
        let answer = StoreError::Refused { status: 405, code: "MethodNotAllowed".into() };
        assert!(outage.is_outage());
        assert_eq!([&outage, &answer].map(|error| error.may_be_done()), [true, false]);
        assert!(!answer.is_outage());
        assert_eq!([outage, answer].map(|error| error.is_about_one()), [false, true]);
        let never = StoreError::Refused { status: 501, code: "NotImplemented".into() };
        assert!(!never.is_outage());
        let unsent = StoreError::NotSent { what: "a".into(), reason: "x".into() };
        assert!(!unsent.is_outage());
        assert!(!StoreError::NotFound { key: "a".into() }.is_outage());
    }

    /// Of what a reader asks.
    fn of_reading() -> Vec<(StoreError, &'static str)> {
        vec![
            (StoreError::NotFound { key: "a".into() }, "no object has the key \"a\""),
            (StoreError::NoBucket { bucket: "b".into() }, "no bucket is named \"b\""),
            (
                StoreError::Denied { what: "a".into(), code: "AccessDenied".into() },
                "access to \"a\" is denied (AccessDenied)",
            ),
            (
                StoreError::Credentials { code: "InvalidAccessKeyId".into(), skew: None },
                "the credentials are refused (InvalidAccessKeyId)",
            ),
            (StoreError::NoCredentials { reason: "x".into() }, "there are no usable credentials"),
            (
                StoreError::NoRegion { bucket: "b".into() },
                "it is not known in which AWS region the bucket \"b\" is to be asked",
            ),
            (
                StoreError::WrongRegion { bucket: "b".into(), region: Some("eu-west-1".into()) },
                "the bucket \"b\" lives in another region, \"eu-west-1\"",
            ),
            (
                StoreError::Changed { key: "a".into() },
                "the object \"a\" is no longer the version that was opened",
            ),
            (StoreError::RangeOutside { key: "a".into(), start: 7 }, "bytes 7- of \"a\" are behind its end"),
            (StoreError::Archived { key: "a".into() }, "the object \"a\" is archived"),
            (StoreError::KeyTooLong { key: "a".into() }, "the key \"a\" is longer than S3 takes"),
        ]
    }

    /// Of what a writer asks, and of the way to the store.
    fn of_the_rest() -> Vec<(StoreError, &'static str)> {
        vec![
            (
                StoreError::Conflict { key: "a".into() },
                "the object \"a\" was being written by somebody else at the same moment",
            ),
            (
                StoreError::Unconditional { key: "a".into() },
                "the store takes no conditions on writes: what somebody else writes to \"a\" at the same moment would be \
                 lost",
            ),
            (StoreError::Refused { status: 400, code: String::new() }, "the store answered 400"),
            (StoreError::NoUpload { key: "a".into() }, "no upload of \"a\" has this name"),
            (
                StoreError::TooLarge { key: "a".into() },
                "the object \"a\" would be larger than the store takes",
            ),
            (
                StoreError::MetadataTooLarge { key: "a".into() },
                "the metadata of \"a\" would take more than the store's 2 KB",
            ),
            (
                StoreError::Corrupt { key: "a".into() },
                "the bytes of \"a\" do not have the checksum that the store gave for them",
            ),
            (
                StoreError::Truncated { key: "a".into(), found: 1, expected: 2 },
                "the body of \"a\" ended after 1 of 2 bytes",
            ),
            (StoreError::TimedOut(Duration::from_millis(1500)), "no answer within 1.5 s"),
            (
                StoreError::Unreachable { endpoint: "http://h".into(), reason: "refused".into() },
                "cannot reach the store at \"http://h\": refused",
            ),
            (StoreError::Throttled { code: "SlowDown".into() }, "the store is asked too often (SlowDown)"),
            (
                StoreError::Refused { status: 500, code: "InternalError".into() },
                "the store answered 500 InternalError",
            ),
            (
                StoreError::Malformed { reason: "no size".into() },
                "the store's answer makes no sense: no size",
            ),
            (
                StoreError::NotSent { what: "a".into(), reason: "too long".into() },
                "\"a\" cannot be asked about: too long",
            ),
        ]
    }

    #[test]
    fn every_error_names_what_was_wrong() {
        for (error, text) in of_reading().into_iter().chain(of_the_rest()) {
            assert_eq!(error.to_string(), text);
        }
    }
}
