//! Object tags: given with a PUT, shown on demand.

use s3s::S3Result;
use s3s::dto::*;

use super::super::operation::decode_query;
use super::adapter::Protocol;
use super::convert::shown_version;

/// The tags in an `x-amz-tagging` header, which is written like a query.
pub(super) fn parse(header: Option<&str>) -> Vec<(String, String)> {
    let pairs = header.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (decode_query(name), decode_query(value)))
        .collect()
}

impl Protocol {
    pub(super) async fn tags(&self, input: GetObjectTaggingInput) -> S3Result<GetObjectTaggingOutput> {
        let object = self
            .on_store(move |store| Ok(store.read(&input.bucket, &input.key, input.version_id.as_deref())?))
            .await?;
        let tags = object.attributes.tags.iter();
        let tag_set =
            tags.map(|(name, value)| Tag { key: Some(name.clone()), value: Some(value.clone()) }).collect();
        Ok(GetObjectTaggingOutput { tag_set, version_id: shown_version(object.version) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tags_are_read_like_a_query() {
        let tags = parse(Some("a=1&b+c=d%26e&f"));
        let expected = [("a", "1"), ("b c", "d&e"), ("f", "")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(tags, expected);
        assert!(parse(None).is_empty());
    }

    proptest! {
        #[test]
        fn no_header_is_too_strange(text in prop_oneof![any::<String>(), "[a&=%+0-9]{0,20}"]) {
            parse(Some(&text));
        }
    }
}
