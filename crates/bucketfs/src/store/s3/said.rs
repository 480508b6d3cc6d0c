//! What answers say, believed only as far as it makes sense.

use std::ops::Range;
use std::sync::Arc;

use aws_sdk_s3::primitives::DateTime;
use percent_encoding::percent_decode_str;

use crate::store::error::StoreError;
use crate::store::version::{ETag, Version};
use crate::store::write::OBJECT_MAX;

/// Longest continuation token, or name of an upload. Those of S3 have some hundred bytes; others put a key into it.
pub(super) const TOKEN_MAX: usize = 4 * 1024;
/// Longest entity tag or version id. Those of S3 have at most some forty bytes, and a hundred.
const NAME_MAX: usize = 1024;

/// `bytes 0-99/1234`: the bytes that came, and the size of the whole.
pub(super) fn content_range(text: &str) -> Option<(Range<u64>, u64)> {
    let (range, size) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last, size): (u64, u64, u64) =
        (first.trim().parse().ok()?, last.trim().parse().ok()?, size.trim().parse().ok()?);
    let end = last.checked_add(1)?;
    (first < end && end <= size).then_some((first..end, size))
}

pub(super) fn version(
    tag: Option<&str>,
    last_modified: Option<&DateTime>,
    id: Option<&str>,
) -> Result<Version, StoreError> {
    let (etag, version_id) = (etag(tag)?, version_id(id)?);
    Ok(Version { etag, last_modified: last_modified.map_or(0, DateTime::secs), version_id })
}

/// The size of an object, or of a part of one.
pub(super) fn length(said: Option<i64>) -> Result<u64, StoreError> {
    let length = said.and_then(|length| u64::try_from(length).ok()).filter(|length| *length <= OBJECT_MAX);
    length.ok_or_else(|| match said {
        None => malformed("no Content-Length"),
        Some(said) => malformed(&format!("a size of {said} bytes")),
    })
}

/// An entity tag that can be sent again, in a header. Some servers say the same one with quotes and without, or a proxy
/// calls it weak: here it always has the quotes, and nothing else.
pub(super) fn etag(said: Option<&str>) -> Result<ETag, StoreError> {
    let said = said.filter(|said| !said.is_empty()).ok_or_else(|| malformed("no ETag"))?;
    let is_tag =
        (1..=NAME_MAX).contains(&said.len()) && said.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    let tag = bare(said);
    match is_tag && !tag.is_empty() {
        true => Ok(ETag(format!("\"{tag}\"").into())),
        false => Err(malformed("an ETag that is none")),
    }
}

/// An entity tag without its quotes.
pub(super) fn bare(tag: &str) -> &str {
    let tag = tag.trim();
    let tag = tag.strip_prefix("W/").unwrap_or(tag);
    tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).unwrap_or(tag)
}

pub(super) fn version_id(said: Option<&str>) -> Result<Option<Arc<str>>, StoreError> {
    match said {
        // An object from before versioning is called "null", and is not kept when it is replaced.
        None | Some("null") => Ok(None),
        Some(said) if said.len() <= NAME_MAX => Ok(Some(said.into())),
        Some(_) => Err(malformed("a version id that is none")),
    }
}

/// A key as `encoding-type=url` writes it: like a form, so that a `+` is a blank.
pub(super) fn form_decoded(text: String) -> String {
    let decoded: Vec<u8> = percent_decode_str(&text.replace('+', " ")).collect();
    String::from_utf8(decoded).unwrap_or(text)
}

pub(super) fn malformed(reason: &str) -> StoreError {
    StoreError::Malformed { reason: reason.to_string() }
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
    fn an_entity_tag_is_the_same_however_it_is_said() {
        for said in ["\"e-1\"", "e-1", "W/\"e-1\"", " e-1"] {
            assert_eq!(etag(Some(said)).expect(said), ETag("\"e-1\"".into()));
        }
        for none in [None, Some(""), Some("\"\""), Some("a\nb"), Some("W/")] {
            assert!(etag(none).is_err(), "{none:?}");
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
