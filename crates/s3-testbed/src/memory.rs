//! A bucket in memory, with versions if wanted.
//!
//! What a plain read or a list sees is in `current`, everything else in `history`; so a list never steps over
//! deleted keys. An object is shared, not copied: a million keys may have one object between them.
//!
//! Of one key: `history` holds its records oldest first; a newest record that is a delete marker stands at the end of
//! `history`, and then the key is not in `current`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::time::SystemTime;

use super::condition::WriteCondition;
use super::error::StoreError;
use super::listing::{Cursor, Entry};
use super::object::{Object, VersionId, whole_seconds};

/// Whether a bucket keeps what is overwritten and deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Versioning {
    #[default]
    Off,
    Enabled,
    /// New writes get the version `null`; versions kept so far stay.
    Suspended,
}

#[derive(Debug)]
pub(super) struct MemoryBucket {
    pub created: SystemTime,
    pub versioning: Versioning,
    current: BTreeMap<Box<str>, Arc<Object>>,
    history: BTreeMap<Box<str>, Vec<Record>>,
    last_version: u64,
}

/// One version of a key as its history has it.
#[derive(Debug, Clone)]
pub(super) enum Record {
    Object(Arc<Object>),
    Marker { version: Option<VersionId>, modified: SystemTime },
}

impl Record {
    pub fn version(&self) -> Option<VersionId> {
        match self {
            Self::Object(object) => object.version,
            Self::Marker { version, .. } => *version,
        }
    }
}

/// What a delete did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// The object is gone, or was never there.
    Gone,
    /// A delete marker of this version hides the object now.
    Marked(Option<VersionId>),
    /// The version that was named is gone.
    Version { version: Option<VersionId>, was_marker: bool },
}

impl MemoryBucket {
    pub fn new(now: SystemTime) -> Self {
        Self {
            created: whole_seconds(now),
            versioning: Versioning::Off,
            current: BTreeMap::new(),
            history: BTreeMap::new(),
            last_version: 0,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.current.is_empty() && self.history.is_empty()
    }

    /// The object under `key`, or one version of it: `Some(None)` is the version `null`.
    pub fn read(&self, key: &str, version: Option<Option<VersionId>>) -> Result<Arc<Object>, StoreError> {
        let Some(version) = version else { return self.read_current(key) };
        if let Some(object) = self.current.get(key).filter(|object| object.version == version) {
            return Ok(object.clone());
        }
        match self.past(key).iter().find(|record| record.version() == version) {
            Some(Record::Object(object)) => Ok(object.clone()),
            Some(Record::Marker { .. }) => {
                Err(StoreError::Deleted { key: key.to_owned(), marker: version, by_version: true })
            }
            None => Err(StoreError::NoSuchVersion { key: key.to_owned(), version: VersionId::text(version) }),
        }
    }

    fn read_current(&self, key: &str) -> Result<Arc<Object>, StoreError> {
        if let Some(object) = self.current.get(key) {
            return Ok(object.clone());
        }
        let key = key.to_owned();
        match self.past(&key).last() {
            Some(marker) => Err(StoreError::Deleted { key, marker: marker.version(), by_version: false }),
            None => Err(StoreError::NoSuchKey { key }),
        }
    }

    fn past(&self, key: &str) -> &[Record] {
        self.history.get(key).map_or(&[], Vec::as_slice)
    }

    /// Stores `object` under `key`; its version is the bucket's to decide.
    pub fn write(
        &mut self,
        key: &str,
        mut object: Object,
        condition: &WriteCondition,
    ) -> Result<Arc<Object>, StoreError> {
        let current = self.current.get(key);
        condition
            .judge(current.map(|object| &object.tag))
            .map_err(|refusal| StoreError::refused(key, refusal))?;
        object.version = self.retire(key);
        let object = Arc::new(object);
        self.current.insert(key.into(), object.clone());
        Ok(object)
    }

    /// Puts the same object under many keys. Keeps no versions of what was there.
    pub fn fill(&mut self, keys: impl IntoIterator<Item = String>, object: &Arc<Object>) {
        self.current.extend(keys.into_iter().map(|key| (key.into_boxed_str(), object.clone())));
    }

    /// Makes room for a new version of `key` and says which number that has.
    fn retire(&mut self, key: &str) -> Option<VersionId> {
        let old = self.current.remove(key);
        match self.versioning {
            Versioning::Off => None,
            Versioning::Enabled => {
                self.keep(key, old);
                self.last_version += 1;
                Some(VersionId(self.last_version))
            }
            Versioning::Suspended => {
                self.keep(key, old);
                // Of all versions this write replaces only `null`, wherever in the history that is.
                self.forget(key, None);
                None
            }
        }
    }

    fn keep(&mut self, key: &str, object: Option<Arc<Object>>) {
        if let Some(object) = object {
            self.history.entry(key.into()).or_default().push(Record::Object(object));
        }
    }

    /// Takes one version out of the history of `key`.
    fn forget(&mut self, key: &str, version: Option<VersionId>) -> Option<Record> {
        let records = self.history.get_mut(key)?;
        let position = records.iter().position(|record| record.version() == version)?;
        let record = records.remove(position);
        if records.is_empty() {
            self.history.remove(key);
        }
        Some(record)
    }

    /// Deletes `key`, or for good one version of it.
    pub fn remove(
        &mut self,
        key: &str,
        version: Option<Option<VersionId>>,
        condition: &WriteCondition,
        now: SystemTime,
    ) -> Result<Removal, StoreError> {
        let current = self.current.get(key);
        if let Some(current) = current {
            condition.judge(Some(&current.tag)).map_err(|refusal| StoreError::refused(key, refusal))?;
        }
        if let Some(version) = version {
            return Ok(self.remove_version(key, version));
        }
        if self.versioning == Versioning::Off {
            self.current.remove(key);
            return Ok(Removal::Gone);
        }
        let version = self.retire(key);
        let marker = Record::Marker { version, modified: whole_seconds(now) };
        self.history.entry(key.into()).or_default().push(marker);
        Ok(Removal::Marked(version))
    }

    fn remove_version(&mut self, key: &str, version: Option<VersionId>) -> Removal {
        if self.current.get(key).is_some_and(|object| object.version == version) {
            self.current.remove(key);
            self.promote(key);
            return Removal::Version { version, was_marker: false };
        }
        let removed = self.forget(key, version);
        if !self.current.contains_key(key) {
            self.promote(key);
        }
        Removal::Version { version, was_marker: matches!(removed, Some(Record::Marker { .. })) }
    }

    /// Makes the newest record of the history current, unless it is a delete marker.
    fn promote(&mut self, key: &str) {
        let Some(records) = self.history.get_mut(key) else { return };
        if let Some(Record::Object(object)) = records.last() {
            self.current.insert(key.into(), object.clone());
            records.pop();
        }
        if records.is_empty() {
            self.history.remove(key);
        }
    }

    pub fn clear(&mut self) {
        self.current.clear();
        self.history.clear();
    }

    pub fn keys(&self) -> Vec<String> {
        self.current.keys().map(|key| key.to_string()).collect()
    }

    /// Every key with a version or a marker, from `start` on, in order.
    pub fn keys_with_history(&self, start: &str) -> BTreeSet<&str> {
        let from = (Bound::Included(start), Bound::Unbounded);
        let current = self.current.range::<str, _>(from).map(|(key, _)| &**key);
        current.chain(self.history.range::<str, _>(from).map(|(key, _)| &**key)).collect()
    }

    /// All versions of `key`, newest first.
    pub fn versions(&self, key: &str) -> Vec<Record> {
        let current = self.current.get(key).map(|object| Record::Object(object.clone()));
        current.into_iter().chain(self.past(key).iter().rev().cloned()).collect()
    }

    pub fn cursor(&self) -> impl Cursor {
        MemoryCursor { keys: &self.current, walk: self.current.range::<str, _>(..) }
    }
}

struct MemoryCursor<'a> {
    keys: &'a BTreeMap<Box<str>, Arc<Object>>,
    walk: std::collections::btree_map::Range<'a, Box<str>, Arc<Object>>,
}

impl Cursor for MemoryCursor<'_> {
    fn next(&mut self) -> Result<Option<Entry>, StoreError> {
        Ok(self.walk.next().map(|(key, object)| Entry {
            key: key.to_string(),
            size: object.content.size(),
            tag: object.tag,
            modified: object.modified,
            storage_class: object.attributes.storage_class.clone(),
        }))
    }

    fn skip_to(&mut self, key: String) {
        self.walk = self.keys.range::<str, _>((Bound::Included(key.as_str()), Bound::Unbounded));
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::super::condition::TagMatch;
    use super::super::listing::{self, Query};
    use super::super::object::{Attributes, Content};
    use super::*;

    fn object(text: &str) -> Object {
        let content = Content::from(text.to_owned());
        let tag = content.tag();
        Object {
            content,
            tag,
            modified: UNIX_EPOCH,
            attributes: Arc::new(Attributes::default()),
            version: None,
        }
    }

    fn bucket(versioning: Versioning) -> MemoryBucket {
        MemoryBucket { versioning, ..MemoryBucket::new(UNIX_EPOCH) }
    }

    fn put(bucket: &mut MemoryBucket, key: &str, text: &str) -> Option<VersionId> {
        bucket.write(key, object(text), &WriteCondition::default()).unwrap().version
    }

    fn delete(bucket: &mut MemoryBucket, key: &str, version: Option<Option<VersionId>>) -> Removal {
        bucket.remove(key, version, &WriteCondition::default(), UNIX_EPOCH).unwrap()
    }

    fn text(
        bucket: &MemoryBucket,
        key: &str,
        version: Option<Option<VersionId>>,
    ) -> Result<String, StoreError> {
        let object = bucket.read(key, version)?;
        Ok(String::from_utf8(object.content.bytes(0..object.content.size()).unwrap().to_vec()).unwrap())
    }

    #[test]
    fn without_versions_a_write_replaces_and_a_delete_removes() {
        let mut bucket = bucket(Versioning::Off);
        assert_eq!(put(&mut bucket, "k", "one"), None);
        put(&mut bucket, "k", "two");
        assert_eq!(text(&bucket, "k", None).unwrap(), "two");
        assert_eq!(delete(&mut bucket, "k", None), Removal::Gone);
        assert!(matches!(bucket.read("k", None), Err(StoreError::NoSuchKey { .. })));
        assert!(bucket.is_empty());
    }

    #[test]
    fn a_deleted_object_comes_back_when_its_marker_is_deleted() {
        let mut bucket = bucket(Versioning::Enabled);
        let first = put(&mut bucket, "k", "one");
        put(&mut bucket, "k", "two");
        let Removal::Marked(marker) = delete(&mut bucket, "k", None) else { panic!("no marker") };
        assert!(matches!(bucket.read("k", None), Err(StoreError::Deleted { by_version: false, .. })));
        assert!(matches!(bucket.read("k", Some(marker)), Err(StoreError::Deleted { by_version: true, .. })));
        assert_eq!(text(&bucket, "k", Some(first)).unwrap(), "one");
        assert_eq!(
            delete(&mut bucket, "k", Some(marker)),
            Removal::Version { version: marker, was_marker: true }
        );
        assert_eq!(text(&bucket, "k", None).unwrap(), "two");
    }

    #[test]
    fn deleting_the_newest_version_uncovers_the_one_before() {
        let mut bucket = bucket(Versioning::Enabled);
        put(&mut bucket, "k", "one");
        let second = put(&mut bucket, "k", "two");
        delete(&mut bucket, "k", Some(second));
        assert_eq!(text(&bucket, "k", None).unwrap(), "one");
        assert_eq!(bucket.versions("k").len(), 1);
    }

    #[test]
    fn a_suspended_bucket_overwrites_only_the_null_version() {
        let mut bucket = bucket(Versioning::Enabled);
        let kept = put(&mut bucket, "k", "kept");
        bucket.versioning = Versioning::Suspended;
        assert_eq!(put(&mut bucket, "k", "null one"), None);
        put(&mut bucket, "k", "null two");
        assert_eq!(text(&bucket, "k", Some(None)).unwrap(), "null two");
        assert_eq!(text(&bucket, "k", Some(kept)).unwrap(), "kept");
        assert_eq!(bucket.versions("k").len(), 2);
        assert_eq!(delete(&mut bucket, "k", None), Removal::Marked(None));
        assert_eq!(bucket.versions("k").len(), 2);
    }

    #[test]
    fn the_null_version_is_overwritten_also_where_later_versions_hide_it() {
        let mut bucket = bucket(Versioning::Off);
        put(&mut bucket, "k", "null one");
        bucket.versioning = Versioning::Enabled;
        let hiding = put(&mut bucket, "k", "hiding");
        assert_eq!(text(&bucket, "k", Some(None)).unwrap(), "null one");
        bucket.versioning = Versioning::Suspended;
        put(&mut bucket, "k", "null two");
        assert_eq!(text(&bucket, "k", Some(None)).unwrap(), "null two");
        assert_eq!(text(&bucket, "k", Some(hiding)).unwrap(), "hiding");
        assert_eq!(bucket.versions("k").len(), 2);
    }

    #[test]
    fn a_refused_write_changes_nothing() {
        let mut bucket = bucket(Versioning::Enabled);
        put(&mut bucket, "k", "one");
        let error = bucket.write("k", object("two"), &WriteCondition::absent()).unwrap_err();
        assert!(matches!(error, StoreError::Unmet { .. }), "{error}");
        let wrong = WriteCondition { if_match: Some(TagMatch::Tag("x".into())), if_none_match: None };
        bucket.remove("k", None, &wrong, UNIX_EPOCH).unwrap_err();
        assert_eq!(text(&bucket, "k", None).unwrap(), "one");
        assert_eq!(bucket.versions("k").len(), 1);
    }

    #[test]
    fn a_list_does_not_show_what_is_deleted() {
        let mut bucket = bucket(Versioning::Enabled);
        put(&mut bucket, "a", "");
        put(&mut bucket, "b", "");
        delete(&mut bucket, "a", None);
        let query = Query { limit: 10, ..Query::default() };
        let page = listing::page(&mut bucket.cursor(), &query).unwrap();
        assert_eq!(page.items.len(), 1);
        assert_eq!(bucket.keys_with_history("").len(), 2);
    }
}
