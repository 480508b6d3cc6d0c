//! The contents of a server: buckets in memory, or one directory as the only bucket.
//!
//! A [`Store`] is a handle that outlives the server it is given to: tests look into it and change it without HTTP,
//! and a server that is started again over the same store has the same objects. All calls here are ordinary ones
//! that return at once in memory and wait for the disk over a directory; the protocol moves those to threads of
//! their own.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, SystemTime};

use super::condition::WriteCondition;
use super::directory::DirectoryBucket;
use super::entity_tag::EntityTag;
use super::error::StoreError;
use super::listing::{self, Item, Page, Query};
use super::memory::{MemoryBucket, Record, Removal, Versioning};
use super::multipart::Uploads;
use super::object::{Attributes, Content, Object, VersionId, whole_seconds};

/// The contents of a server. Clones are handles to the same contents.
#[derive(Debug, Clone)]
pub struct Store {
    contents: Arc<Contents>,
}

#[derive(Debug)]
struct Contents {
    backend: Backend,
    uploads: Mutex<Uploads>,
    clock: Mutex<(Clock, u64)>,
}

/// What time it is at the store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Clock {
    /// That of the host: writes of the same second cannot be told apart by it.
    #[default]
    Wall,
    /// Long ago, and everything that is written a second after what was written before.
    Counted,
}

#[derive(Debug)]
enum Backend {
    Memory(RwLock<BTreeMap<String, Arc<RwLock<MemoryBucket>>>>),
    Directory { name: String, bucket: DirectoryBucket },
}

/// One bucket of a store.
enum Bucket<'s> {
    Memory(Arc<RwLock<MemoryBucket>>),
    Directory(&'s DirectoryBucket),
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

impl Store {
    fn new(backend: Backend) -> Self {
        Self { contents: Arc::new(Contents { backend, uploads: Mutex::default(), clock: Mutex::default() }) }
    }

    /// Empty buckets in memory.
    pub fn memory<N: Into<String>>(buckets: impl IntoIterator<Item = N>) -> Self {
        let bucket = || Arc::new(RwLock::new(MemoryBucket::new(SystemTime::now())));
        let buckets = buckets.into_iter().map(|name| (name.into(), bucket())).collect();
        Self::new(Backend::Memory(RwLock::new(buckets)))
    }

    /// The directory at `path` as the only bucket.
    ///
    /// # Errors
    ///
    /// Those of opening the directory.
    pub fn directory(bucket: impl Into<String>, path: &Path) -> io::Result<Self> {
        Ok(Self::new(Backend::Directory { name: bucket.into(), bucket: DirectoryBucket::open(path)? }))
    }

    /// Whether calls wait for a disk.
    pub(super) fn waits_for_disk(&self) -> bool {
        matches!(self.contents.backend, Backend::Directory { .. })
    }

    /// What time writes into memory bear from now on.
    pub fn set_clock(&self, clock: Clock) {
        lock(&self.contents.clock).0 = clock;
    }

    /// Of what is written now.
    pub(super) fn now(&self) -> SystemTime {
        let mut clock = lock(&self.contents.clock);
        clock.1 += 1;
        match clock.0 {
            Clock::Wall => whole_seconds(SystemTime::now()),
            Clock::Counted => SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + clock.1),
        }
    }

    fn bucket(&self, name: &str) -> Result<Bucket<'_>, StoreError> {
        match &self.contents.backend {
            Backend::Memory(buckets) => read(buckets).get(name).cloned().map(Bucket::Memory),
            Backend::Directory { name: own, bucket } => (own == name).then_some(Bucket::Directory(bucket)),
        }
        .ok_or_else(|| StoreError::NoSuchBucket { bucket: name.to_owned() })
    }

    fn memory_bucket(
        &self,
        name: &str,
        missing: &'static str,
    ) -> Result<Arc<RwLock<MemoryBucket>>, StoreError> {
        match self.bucket(name)? {
            Bucket::Memory(bucket) => Ok(bucket),
            Bucket::Directory(_) => Err(StoreError::DirectoryOnly { missing }),
        }
    }

    /// Names and times of creation of all buckets.
    pub fn buckets(&self) -> Vec<(String, SystemTime)> {
        match &self.contents.backend {
            Backend::Memory(buckets) => {
                read(buckets).iter().map(|(name, bucket)| (name.clone(), read(bucket).created)).collect()
            }
            Backend::Directory { name, .. } => vec![(name.clone(), SystemTime::UNIX_EPOCH)],
        }
    }

    /// # Errors
    ///
    /// [`StoreError::NoSuchBucket`].
    pub(super) fn check_bucket(&self, name: &str) -> Result<(), StoreError> {
        self.bucket(name).map(|_| ())
    }

    /// # Errors
    ///
    /// [`StoreError::BucketExists`]; [`StoreError::DirectoryOnly`] where a directory is the only bucket.
    pub fn create_bucket(&self, name: &str) -> Result<(), StoreError> {
        let exists = || StoreError::BucketExists { bucket: name.to_owned() };
        match &self.contents.backend {
            Backend::Memory(buckets) => {
                let mut buckets = write(buckets);
                if buckets.contains_key(name) {
                    return Err(exists());
                }
                let bucket = Arc::new(RwLock::new(MemoryBucket::new(SystemTime::now())));
                buckets.insert(name.to_owned(), bucket);
                Ok(())
            }
            Backend::Directory { name: own, .. } if own == name => Err(exists()),
            Backend::Directory { .. } => Err(StoreError::DirectoryOnly { missing: "has no second bucket" }),
        }
    }

    /// # Errors
    ///
    /// [`StoreError::BucketNotEmpty`]; [`StoreError::DirectoryOnly`] for a directory.
    pub fn delete_bucket(&self, name: &str) -> Result<(), StoreError> {
        self.memory_bucket(name, "cannot be deleted")?;
        let Backend::Memory(buckets) = &self.contents.backend else { return Ok(()) };
        let mut buckets = write(buckets);
        if buckets.get(name).is_some_and(|bucket| !read(bucket).is_empty()) {
            return Err(StoreError::BucketNotEmpty { bucket: name.to_owned() });
        }
        buckets.remove(name);
        Ok(())
    }

    /// # Errors
    ///
    /// [`StoreError::NoSuchBucket`].
    pub fn versioning(&self, bucket: &str) -> Result<Versioning, StoreError> {
        match self.bucket(bucket)? {
            Bucket::Memory(bucket) => Ok(read(&bucket).versioning),
            Bucket::Directory(_) => Ok(Versioning::Off),
        }
    }

    /// Has a bucket in memory keep versions from now on, or stop that.
    ///
    /// # Errors
    ///
    /// [`StoreError::DirectoryOnly`] for a directory.
    pub fn set_versioning(&self, bucket: &str, versioning: Versioning) -> Result<(), StoreError> {
        let bucket = self.memory_bucket(bucket, "keeps no versions")?;
        write(&bucket).versioning = versioning;
        Ok(())
    }

    /// Stores an object with user metadata, as a PUT would.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoSuchBucket`]; over a directory also a key that cannot be a file, and those of the disk.
    pub fn put(
        &self,
        bucket: &str,
        key: &str,
        body: impl Into<Content>,
        metadata: &[(&str, &str)],
    ) -> Result<Arc<Object>, StoreError> {
        let attributes = Attributes::with_metadata(metadata.iter().copied());
        self.put_object_with(bucket, key, body, attributes, &WriteCondition::default())
    }

    /// Stores an object with all that S3 keeps of one, if `condition` holds.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put), and [`StoreError::Unmet`].
    pub fn put_object_with(
        &self,
        bucket: &str,
        key: &str,
        body: impl Into<Content>,
        attributes: Attributes,
        condition: &WriteCondition,
    ) -> Result<Arc<Object>, StoreError> {
        let content = body.into();
        let tag = content.tag();
        self.write(bucket, key, content, tag, Arc::new(attributes), condition)
    }

    pub(super) fn write(
        &self,
        bucket: &str,
        key: &str,
        content: Content,
        tag: EntityTag,
        attributes: Arc<Attributes>,
        condition: &WriteCondition,
    ) -> Result<Arc<Object>, StoreError> {
        match self.bucket(bucket)? {
            Bucket::Memory(bucket) => {
                let modified = self.now();
                let object = Object { content, tag, modified, attributes, version: None };
                write(&bucket).write(key, object, condition)
            }
            Bucket::Directory(bucket) => bucket.write(key, &content, &attributes, condition),
        }
    }

    /// Gives an object other attributes and leaves its content alone: what a copy onto itself does.
    pub(super) fn write_attributes(
        &self,
        bucket: &str,
        key: &str,
        object: &Object,
        attributes: Attributes,
        condition: &WriteCondition,
    ) -> Result<Arc<Object>, StoreError> {
        match self.bucket(bucket)? {
            Bucket::Memory(_) => {
                let (content, attributes) = (object.content.clone(), Arc::new(attributes));
                self.write(bucket, key, content, object.tag, attributes, condition)
            }
            Bucket::Directory(bucket) => bucket.write_attributes(key, &object.tag, attributes, condition),
        }
    }

    /// The object under `key`.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoSuchKey`], [`StoreError::Deleted`], [`StoreError::NoSuchBucket`]; over a directory those of the disk.
    pub fn get(&self, bucket: &str, key: &str) -> Result<Arc<Object>, StoreError> {
        self.read(bucket, key, None)
    }

    pub(super) fn read(
        &self,
        bucket: &str,
        key: &str,
        version: Option<&str>,
    ) -> Result<Arc<Object>, StoreError> {
        match (self.bucket(bucket)?, named_version(key, version)?) {
            (Bucket::Memory(bucket), version) => read(&bucket).read(key, version),
            (Bucket::Directory(bucket), None | Some(None)) => bucket.read(key),
            (Bucket::Directory(_), Some(Some(version))) => {
                Err(StoreError::NoSuchVersion { key: key.to_owned(), version: version.to_string() })
            }
        }
    }

    /// Deletes the object under `key`; that there is none is success.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoSuchBucket`]; over a directory those of the disk.
    pub fn delete(&self, bucket: &str, key: &str) -> Result<(), StoreError> {
        self.remove(bucket, key, None, &WriteCondition::default()).map(|_| ())
    }

    /// Deletes the object under `key`, or one version of it, if `condition` holds for what is there.
    ///
    /// # Errors
    ///
    /// As [`delete`](Self::delete), and [`StoreError::Unmet`].
    pub fn remove(
        &self,
        bucket: &str,
        key: &str,
        version: Option<&str>,
        condition: &WriteCondition,
    ) -> Result<Removal, StoreError> {
        let version = named_version(key, version)?;
        match self.bucket(bucket)? {
            Bucket::Memory(bucket) => write(&bucket).remove(key, version, condition, self.now()),
            Bucket::Directory(bucket) => bucket.remove(key, condition).map(|()| Removal::Gone),
        }
    }

    /// All keys, in byte order.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn keys(&self, bucket: &str) -> Result<Vec<String>, StoreError> {
        match self.bucket(bucket)? {
            Bucket::Memory(bucket) => Ok(read(&bucket).keys()),
            Bucket::Directory(_) => {
                let page = self.list(bucket, &Query { limit: usize::MAX, ..Query::default() })?;
                Ok(page
                    .items
                    .into_iter()
                    .map(|item| match item {
                        Item::Object(entry) => entry.key,
                        Item::Prefix(prefix) => prefix,
                    })
                    .collect())
            }
        }
    }

    /// One page of keys.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn list(&self, bucket: &str, query: &Query) -> Result<Page, StoreError> {
        match self.bucket(bucket)? {
            Bucket::Memory(bucket) => listing::page(&mut read(&bucket).cursor(), query),
            Bucket::Directory(bucket) => listing::page(&mut bucket.cursor(), query),
        }
    }

    /// Keys and all their versions, newest first, of keys beginning with `prefix`.
    pub(super) fn versions(
        &self,
        bucket: &str,
        prefix: &str,
    ) -> Result<Vec<(String, Vec<Record>)>, StoreError> {
        let bucket = self.memory_bucket(bucket, "keeps no versions")?;
        let bucket = read(&bucket);
        let keys = bucket.keys_with_history(prefix).into_iter().take_while(|key| key.starts_with(prefix));
        Ok(keys.map(|key| (key.to_owned(), bucket.versions(key))).collect())
    }

    /// Empties a bucket, past versions and open uploads included.
    ///
    /// # Errors
    ///
    /// As [`delete`](Self::delete).
    pub fn clear(&self, bucket: &str) -> Result<(), StoreError> {
        let found = self.bucket(bucket)?;
        self.uploads().forget(bucket);
        if let Bucket::Memory(found) = found {
            write(&found).clear();
            return Ok(());
        }
        // Files before the directories that they are in.
        self.keys(bucket)?.iter().rev().try_for_each(|key| self.delete(bucket, key))
    }

    /// Puts one and the same object under many keys of a bucket in memory. A million cost some 100 MB, mostly keys.
    ///
    /// # Errors
    ///
    /// [`StoreError::DirectoryOnly`] for a directory.
    pub fn fill(
        &self,
        bucket: &str,
        keys: impl IntoIterator<Item = String>,
        body: impl Into<Content>,
        attributes: Attributes,
    ) -> Result<(), StoreError> {
        let bucket = self.memory_bucket(bucket, "cannot be filled in bulk")?;
        let content = body.into();
        let (tag, modified) = (content.tag(), self.now());
        let object = Object { content, tag, modified, attributes: Arc::new(attributes), version: None };
        write(&bucket).fill(keys, &Arc::new(object));
        Ok(())
    }

    /// Makes an object of the parts of an upload that are `listed`, by number and tag, if `condition` holds.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoSuchUpload`], those of parts that are not as listed, and as [`put_object_with`](Self::put_object_with):
    /// the upload stays open then.
    pub fn complete_upload(
        &self,
        bucket: &str,
        key: &str,
        id: &str,
        listed: &[(i32, Option<String>)],
        condition: &WriteCondition,
    ) -> Result<Arc<Object>, StoreError> {
        let upload = self.uploads().find(bucket, key, id)?.clone();
        let (content, tag) = upload.assemble(listed)?;
        let written = self.write(bucket, key, content, tag, upload.attributes, condition)?;
        // Gone already if two clients completed it at once, which both succeed.
        let _ = self.uploads().remove(bucket, key, id);
        Ok(written)
    }

    /// How many uploads were begun in a bucket and are neither complete nor aborted.
    pub fn open_uploads(&self, bucket: &str) -> usize {
        self.uploads().of_bucket(bucket).len()
    }

    /// The uploads in parts that are open.
    pub fn uploads(&self) -> MutexGuard<'_, Uploads> {
        lock(&self.contents.uploads)
    }
}

/// The version that a request names, if it names one: `Some(None)` is `null`.
fn named_version(key: &str, version: Option<&str>) -> Result<Option<Option<VersionId>>, StoreError> {
    let unknown = |text: &str| StoreError::NoSuchVersion { key: key.to_owned(), version: text.to_owned() };
    version.map(|text| VersionId::parse(text).ok_or_else(|| unknown(text))).transpose()
}
