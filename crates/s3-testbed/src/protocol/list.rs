//! Lists of objects and of their versions.

use base64_simd::URL_SAFE_NO_PAD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use s3s::S3Result;
use s3s::dto::*;

use super::super::listing::{Entry, Item, PAGE_LIMIT, Page, Query};
use super::super::memory::Record;
use super::super::object::VersionId;
use super::adapter::Protocol;
use super::bucket::owner;
use super::convert::{e_tag, invalid_argument};

/// How keys are written in an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Writing {
    Plain,
    /// `encoding-type=url`.
    Url,
}

impl Writing {
    fn of(encoding: Option<&EncodingType>) -> S3Result<Self> {
        match encoding.map(EncodingType::as_str) {
            None => Ok(Self::Plain),
            Some(EncodingType::URL) => Ok(Self::Url),
            Some(other) => {
                Err(invalid_argument(format!("Invalid Encoding Method specified in Request: {other:?}")))
            }
        }
    }

    fn write(self, text: String) -> String {
        match self {
            Self::Plain => text,
            Self::Url => encode(&text),
        }
    }
}

/// All that S3 encodes in lists: like in a form, but a `/` stays.
const ENCODED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'*').remove(b'/').remove(b' ');

fn encode(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string().replace(' ', "+")
}

/// A token that is not to be understood by clients: what the next page comes after.
fn token(after: &str) -> String {
    URL_SAFE_NO_PAD.encode_to_string(after)
}

fn after_token(token: &str) -> S3Result<String> {
    let after = URL_SAFE_NO_PAD.decode_to_vec(token).ok().and_then(|after| String::from_utf8(after).ok());
    after.ok_or_else(|| invalid_argument(format!("The continuation token provided is incorrect: {token:?}")))
}

pub(super) fn limit(max_keys: Option<i32>) -> S3Result<usize> {
    let Some(keys) = max_keys else { return Ok(PAGE_LIMIT) };
    match usize::try_from(keys) {
        Ok(keys) => Ok(keys.min(PAGE_LIMIT)),
        Err(_) => Err(invalid_argument(format!("a page is to have {keys} entries, expected 0 or more"))),
    }
}

fn as_count(count: usize) -> Option<i32> {
    i32::try_from(count).ok()
}

fn filled(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

/// What the fields that all lists have ask for.
macro_rules! query {
    ($input:ident, $after:expr) => {
        Query {
            prefix: $input.prefix.unwrap_or_default(),
            delimiter: filled($input.delimiter),
            after: $after,
            limit: limit($input.max_keys)?,
        }
    };
}

/// Fills the fields that the answers to all lists have in common.
macro_rules! describe {
    ($output:ident, $input:ident, $query:ident, $writing:ident) => {{
        $output.name = Some($input.bucket);
        $output.prefix = Some($writing.write($query.prefix));
        $output.delimiter = $query.delimiter.map(|text| $writing.write(text));
        $output.max_keys = as_count($query.limit);
        $output.encoding_type = $input.encoding_type;
    }};
}

/// The objects and the common prefixes of a page, as an answer shows them.
fn shown(page: Page, writing: Writing, with_owner: bool) -> (Vec<Object>, Vec<CommonPrefix>) {
    let (mut objects, mut prefixes) = (Vec::with_capacity(page.items.len()), Vec::new());
    for item in page.items {
        match item {
            Item::Prefix(prefix) => prefixes.push(CommonPrefix { prefix: Some(writing.write(prefix)) }),
            Item::Object(Entry { key, size, tag, modified, storage_class }) => objects.push(Object {
                key: Some(writing.write(key)),
                size: i64::try_from(size).ok(),
                e_tag: Some(e_tag(&tag)),
                last_modified: Some(modified.into()),
                storage_class: Some(storage_class.map_or_else(
                    || ObjectStorageClass::from_static(ObjectStorageClass::STANDARD),
                    ObjectStorageClass::from,
                )),
                owner: with_owner.then(owner),
                ..Default::default()
            }),
        }
    }
    (objects, prefixes)
}

impl Protocol {
    async fn page(&self, bucket: &str, query: &Query) -> S3Result<Page> {
        let (bucket, query) = (bucket.to_owned(), query.clone());
        self.on_store(move |store| Ok(store.list(&bucket, &query)?)).await
    }

    pub(super) async fn list_v2(&self, input: ListObjectsV2Input) -> S3Result<ListObjectsV2Output> {
        let writing = Writing::of(input.encoding_type.as_ref())?;
        let after = match filled(input.continuation_token.clone()) {
            Some(token) => Some(after_token(&token)?),
            None => filled(input.start_after.clone()),
        };
        let query = query!(input, after);
        let page = self.page(&input.bucket, &query).await?;
        let mut output = ListObjectsV2Output {
            key_count: as_count(page.items.len()),
            is_truncated: Some(page.truncated),
            continuation_token: input.continuation_token,
            next_continuation_token: page.next_after().map(token),
            start_after: filled(input.start_after).map(|text| writing.write(text)),
            ..Default::default()
        };
        let (contents, common_prefixes) = shown(page, writing, input.fetch_owner.unwrap_or(false));
        (output.contents, output.common_prefixes) = (Some(contents), Some(common_prefixes));
        describe!(output, input, query, writing);
        Ok(output)
    }

    pub(super) async fn list_v1(&self, input: ListObjectsInput) -> S3Result<ListObjectsOutput> {
        let writing = Writing::of(input.encoding_type.as_ref())?;
        let query = query!(input, filled(input.marker.clone()));
        let page = self.page(&input.bucket, &query).await?;
        // Without a delimiter clients take the last key: S3 says nothing then.
        let next = page.next_after().filter(|_| query.delimiter.is_some()).map(str::to_owned);
        let mut output = ListObjectsOutput {
            marker: Some(writing.write(input.marker.unwrap_or_default())),
            next_marker: next.map(|text| writing.write(text)),
            is_truncated: Some(page.truncated),
            ..Default::default()
        };
        let (contents, common_prefixes) = shown(page, writing, true);
        (output.contents, output.common_prefixes) = (Some(contents), Some(common_prefixes));
        describe!(output, input, query, writing);
        Ok(output)
    }

    pub(super) async fn list_versions(
        &self,
        input: ListObjectVersionsInput,
    ) -> S3Result<ListObjectVersionsOutput> {
        let writing = Writing::of(input.encoding_type.as_ref())?;
        let query = query!(input, filled(input.key_marker.clone()));
        let all = self.store.versions(&input.bucket, &query.prefix)?;
        let page = VersionsPage::of(all, &query, filled(input.version_id_marker.clone()));
        let is_truncated = page.next.is_some();
        let (next_key, next_version) = page.next.unzip();
        let prefix = |prefix| CommonPrefix { prefix: Some(writing.write(prefix)) };
        let (versions, markers) = shown_versions(page.records, writing);
        let mut output = ListObjectVersionsOutput {
            key_marker: Some(writing.write(input.key_marker.unwrap_or_default())),
            version_id_marker: Some(input.version_id_marker.unwrap_or_default()),
            is_truncated: Some(is_truncated),
            next_key_marker: next_key.map(|key| writing.write(key)),
            next_version_id_marker: next_version.flatten(),
            common_prefixes: Some(page.prefixes.into_iter().map(prefix).collect()),
            versions: Some(versions),
            delete_markers: Some(markers),
            ..Default::default()
        };
        describe!(output, input, query, writing);
        Ok(output)
    }
}

/// One page of versions. Keys in byte order, the versions of a key newest first, common prefixes counted like a version.
struct VersionsPage {
    /// With whether it is the newest of its key.
    records: Vec<(String, Record, bool)>,
    prefixes: Vec<String>,
    /// Key and version of the last entry, where more follow.
    next: Option<(String, Option<String>)>,
}

impl VersionsPage {
    fn of(all: Vec<(String, Vec<Record>)>, query: &Query, after_version: Option<String>) -> Self {
        let mut page = Self { records: Vec::new(), prefixes: Vec::new(), next: None };
        let mut last = None;
        let after = query.after.as_deref().unwrap_or_default();
        for (key, records) in all {
            let group = query.group(&key).map(str::to_owned);
            // Within the key of the marker a page may start behind one of its versions.
            let within = after_version.as_deref().filter(|_| key == after);
            let text = group.as_deref().unwrap_or(&key);
            if text <= after && within.is_none() || group.is_some() && group.as_ref() == page.prefixes.last()
            {
                continue;
            }
            if let Some(group) = group {
                if page.full(query.limit, &last) {
                    return page;
                }
                last = Some((group.clone(), None));
                page.prefixes.push(group);
                continue;
            }
            let skipped = within.map_or(0, |within| {
                let found = records.iter().position(|record| VersionId::text(record.version()) == within);
                found.map_or(0, |position| position + 1)
            });
            for (position, record) in records.into_iter().enumerate().skip(skipped) {
                if page.full(query.limit, &last) {
                    return page;
                }
                last = Some((key.clone(), Some(VersionId::text(record.version()))));
                page.records.push((key.clone(), record, position == 0));
            }
        }
        page
    }

    /// Whether nothing more fits; then the next page starts behind `last`.
    fn full(&mut self, limit: usize, last: &Option<(String, Option<String>)>) -> bool {
        let full = self.records.len() + self.prefixes.len() == limit;
        if full {
            self.next.clone_from(last);
        }
        full
    }
}

fn shown_versions(
    records: Vec<(String, Record, bool)>,
    writing: Writing,
) -> (Vec<ObjectVersion>, Vec<DeleteMarkerEntry>) {
    let (mut versions, mut markers) = (Vec::new(), Vec::new());
    for (key, record, latest) in records {
        let key = Some(writing.write(key));
        let version_id = Some(VersionId::text(record.version()));
        match record {
            Record::Object(object) => versions.push(ObjectVersion {
                key,
                version_id,
                is_latest: Some(latest),
                size: i64::try_from(object.content.size()).ok(),
                e_tag: Some(e_tag(&object.tag)),
                last_modified: Some(object.modified.into()),
                storage_class: Some(ObjectVersionStorageClass::from_static(
                    ObjectVersionStorageClass::STANDARD,
                )),
                owner: Some(owner()),
                ..Default::default()
            }),
            Record::Marker { modified, .. } => markers.push(DeleteMarkerEntry {
                key,
                version_id,
                is_latest: Some(latest),
                last_modified: Some(modified.into()),
                owner: Some(owner()),
            }),
        }
    }
    (versions, markers)
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_are_encoded_as_s3_encodes_them() {
        assert_eq!(encode("a b+c%/é.txt"), "a+b%2Bc%25/%C3%A9.txt");
    }

    #[test]
    fn a_token_that_is_not_ours_is_refused() {
        for token in ["x", "6", "zz", "ff"] {
            assert!(after_token(token).is_err(), "{token}");
        }
    }

    #[test]
    fn a_page_never_has_more_than_a_thousand_keys() {
        assert_eq!(limit(Some(5000)).unwrap(), 1000);
        assert_eq!(limit(Some(7)).unwrap(), 7);
        assert!(limit(Some(-1)).is_err());
    }

    #[test]
    fn versions_page_within_a_key() {
        let marker = |n| Record::Marker { version: Some(VersionId(n)), modified: UNIX_EPOCH };
        let all = || {
            vec![("a".to_owned(), vec![marker(3), marker(2), marker(1)]), ("b/c".to_owned(), vec![marker(4)])]
        };
        let mut query = Query { delimiter: Some("/".into()), limit: 2, ..Query::default() };
        let first = VersionsPage::of(all(), &query, None);
        assert_eq!(first.records.len(), 2);
        let (key, version) = first.next.unwrap();
        query.after = Some(key);
        let second = VersionsPage::of(all(), &query, version);
        assert_eq!((second.records.len(), second.prefixes.as_slice()), (1, ["b/".to_owned()].as_slice()));
        assert!(second.next.is_none() && !second.records[0].2);
    }

    proptest! {
        #[test]
        fn tokens_bring_back_any_key(key in any::<String>()) {
            prop_assert_eq!(after_token(&token(&key)).unwrap(), key);
        }

        #[test]
        fn no_token_is_too_strange(text in any::<String>()) {
            let _ = after_token(&text);
        }
    }
}
