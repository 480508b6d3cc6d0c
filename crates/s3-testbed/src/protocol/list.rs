//! Lists of objects and of their versions.

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

/// As S3 encodes keys in lists: like a form, but a `/` stays.
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'*' | b'/' => {
                encoded.push(byte as char)
            }
            b' ' => encoded.push('+'),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// A token that is not to be understood by clients: what the next page comes after, in hexadecimal.
fn token(after: &str) -> String {
    after.bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn after_token(token: &str) -> S3Result<String> {
    let digits = token.as_bytes();
    let pairs = digits.chunks(2).map(|pair| {
        let pair = std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2)?;
        u8::from_str_radix(pair, 16).ok()
    });
    let bytes: Option<Vec<u8>> = pairs.collect();
    bytes
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| invalid_argument(format!("The continuation token provided is incorrect: {token:?}")))
}

fn limit(max_keys: Option<i32>) -> S3Result<usize> {
    match max_keys {
        None => Ok(PAGE_LIMIT),
        Some(keys) => match usize::try_from(keys) {
            Ok(keys) => Ok(keys.min(PAGE_LIMIT)),
            Err(_) => Err(invalid_argument(format!("max-keys is {keys}, expected 0 or more"))),
        },
    }
}

fn as_count(count: usize) -> Option<i32> {
    i32::try_from(count).ok()
}

fn filled(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
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
    pub(super) async fn list_v2(&self, input: ListObjectsV2Input) -> S3Result<ListObjectsV2Output> {
        let writing = Writing::of(input.encoding_type.as_ref())?;
        let limit = limit(input.max_keys)?;
        let after = match filled(input.continuation_token.clone()) {
            Some(token) => Some(after_token(&token)?),
            None => filled(input.start_after.clone()),
        };
        let prefix = input.prefix.unwrap_or_default();
        let delimiter = filled(input.delimiter);
        let query = Query { prefix: prefix.clone(), delimiter: delimiter.clone(), after, limit };
        let bucket = input.bucket.clone();
        let page = self.on_store(move |store| Ok(store.list(&bucket, &query)?)).await?;
        let next = page.next_after().map(token);
        let (count, truncated) = (page.items.len(), page.truncated);
        let (contents, common_prefixes) = shown(page, writing, input.fetch_owner.unwrap_or(false));
        Ok(ListObjectsV2Output {
            name: Some(input.bucket),
            prefix: Some(writing.write(prefix)),
            delimiter: delimiter.map(|text| writing.write(text)),
            max_keys: as_count(limit),
            key_count: as_count(count),
            is_truncated: Some(truncated),
            continuation_token: input.continuation_token,
            next_continuation_token: next,
            start_after: filled(input.start_after).map(|text| writing.write(text)),
            encoding_type: input.encoding_type,
            contents: Some(contents),
            common_prefixes: Some(common_prefixes),
            ..Default::default()
        })
    }

    pub(super) async fn list_v1(&self, input: ListObjectsInput) -> S3Result<ListObjectsOutput> {
        let writing = Writing::of(input.encoding_type.as_ref())?;
        let limit = limit(input.max_keys)?;
        let prefix = input.prefix.unwrap_or_default();
        let delimiter = filled(input.delimiter);
        let after = filled(input.marker.clone());
        let query = Query { prefix: prefix.clone(), delimiter: delimiter.clone(), after, limit };
        let bucket = input.bucket.clone();
        let page = self.on_store(move |store| Ok(store.list(&bucket, &query)?)).await?;
        // Without a delimiter clients take the last key: S3 says nothing then.
        let next = page.next_after().filter(|_| delimiter.is_some()).map(str::to_owned);
        let truncated = page.truncated;
        let (contents, common_prefixes) = shown(page, writing, true);
        Ok(ListObjectsOutput {
            name: Some(input.bucket),
            prefix: Some(writing.write(prefix)),
            delimiter: delimiter.map(|text| writing.write(text)),
            marker: Some(writing.write(input.marker.unwrap_or_default())),
            next_marker: next.map(|text| writing.write(text)),
            max_keys: as_count(limit),
            is_truncated: Some(truncated),
            encoding_type: input.encoding_type,
            contents: Some(contents),
            common_prefixes: Some(common_prefixes),
            ..Default::default()
        })
    }

    pub(super) async fn list_versions(
        &self,
        input: ListObjectVersionsInput,
    ) -> S3Result<ListObjectVersionsOutput> {
        let writing = Writing::of(input.encoding_type.as_ref())?;
        let limit = limit(input.max_keys)?;
        let prefix = input.prefix.unwrap_or_default();
        let delimiter = filled(input.delimiter);
        let all = self.store.versions(&input.bucket, &prefix)?;
        let query = Query {
            prefix: prefix.clone(),
            delimiter: delimiter.clone(),
            after: filled(input.key_marker.clone()),
            limit,
        };
        let versions = VersionsPage::of(all, &query, filled(input.version_id_marker.clone()));
        let mut output = ListObjectVersionsOutput {
            name: Some(input.bucket),
            prefix: Some(writing.write(prefix)),
            delimiter: delimiter.map(|text| writing.write(text)),
            key_marker: Some(writing.write(input.key_marker.unwrap_or_default())),
            version_id_marker: Some(input.version_id_marker.unwrap_or_default()),
            max_keys: as_count(limit),
            is_truncated: Some(versions.next.is_some()),
            encoding_type: input.encoding_type,
            ..Default::default()
        };
        if let Some((key, version)) = versions.next {
            output.next_key_marker = Some(writing.write(key));
            output.next_version_id_marker = version;
        }
        let prefixes = versions.prefixes.into_iter();
        output.common_prefixes =
            Some(prefixes.map(|prefix| CommonPrefix { prefix: Some(writing.write(prefix)) }).collect());
        let (versions, markers) = shown_versions(versions.records, writing);
        output.versions = Some(versions);
        output.delete_markers = Some(markers);
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
