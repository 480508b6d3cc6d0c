//! Multipart uploads in progress.
//!
//! ```text
//! create -> open -> part, part again (replaces), ... -> complete: the object exists, the upload does not
//!             \-> abort: neither exists
//! ```
//!
//! Parts wait in memory, also for a bucket that is a directory. An upload whose completion is refused (a part too
//! small, a condition not met) stays open.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use s3s::crypto::{Checksum as _, Md5};

use super::entity_tag::EntityTag;
use super::error::StoreError;
use super::object::{Attributes, Checksums, Content};

/// The least size of every part but the last.
const PART_MINIMUM_BYTES: u64 = 5 * 1024 * 1024;

/// The uploads of all buckets.
#[derive(Debug, Default)]
pub struct Uploads {
    last: u64,
    open: BTreeMap<String, Upload>,
}

/// An upload that was begun.
#[derive(Debug, Clone)]
pub struct Upload {
    pub bucket: String,
    pub key: String,
    pub attributes: Arc<Attributes>,
    pub started: SystemTime,
    pub parts: BTreeMap<i32, Part>,
}

/// A part of one.
#[derive(Debug, Clone)]
pub struct Part {
    pub bytes: Bytes,
    pub digest: [u8; 16],
    pub checksums: Checksums,
    pub modified: SystemTime,
}

impl Part {
    pub fn new(bytes: Bytes, now: SystemTime) -> Self {
        Self { digest: Md5::checksum(&bytes), bytes, checksums: Checksums::default(), modified: now }
    }

    pub fn tag(&self) -> EntityTag {
        EntityTag::Md5(self.digest)
    }
}

impl Uploads {
    /// Opens an upload and says its id.
    pub fn create(&mut self, bucket: &str, key: &str, attributes: Attributes, now: SystemTime) -> String {
        self.last += 1;
        let id = format!("upload-{:08x}", self.last);
        let upload = Upload {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            attributes: Arc::new(attributes),
            started: now,
            parts: BTreeMap::new(),
        };
        self.open.insert(id.clone(), upload);
        id
    }

    /// The open upload `id`, if it is one of this key.
    pub fn find(&self, bucket: &str, key: &str, id: &str) -> Result<&Upload, StoreError> {
        self.open
            .get(id)
            .filter(|upload| upload.bucket == bucket && upload.key == key)
            .ok_or_else(|| StoreError::NoSuchUpload { key: key.to_owned(), upload: id.to_owned() })
    }

    pub fn add(
        &mut self,
        bucket: &str,
        key: &str,
        id: &str,
        number: i32,
        part: Part,
    ) -> Result<(), StoreError> {
        self.find(bucket, key, id)?;
        let upload = self.open.get_mut(id).expect("found in the line above");
        upload.parts.insert(number, part);
        Ok(())
    }

    pub fn remove(&mut self, bucket: &str, key: &str, id: &str) -> Result<Upload, StoreError> {
        self.find(bucket, key, id)?;
        Ok(self.open.remove(id).expect("found in the line above"))
    }

    /// Drops all uploads of a bucket.
    pub fn forget(&mut self, bucket: &str) {
        self.open.retain(|_, upload| upload.bucket != bucket);
    }

    /// Open uploads of a bucket, by key and then by age, with their ids.
    pub fn of_bucket(&self, bucket: &str) -> Vec<(String, Upload)> {
        let own = self.open.iter().filter(|(_, upload)| upload.bucket == bucket);
        let mut uploads: Vec<_> = own.map(|(id, upload)| (id.clone(), upload.clone())).collect();
        uploads.sort_by(|(id_a, a), (id_b, b)| (&a.key, id_a).cmp(&(&b.key, id_b)));
        uploads
    }
}

impl Upload {
    /// The content and tag of the object that these parts make; a part is named by its number and its tag.
    pub(super) fn assemble(
        &self,
        listed: &[(i32, Option<String>)],
    ) -> Result<(Content, EntityTag), StoreError> {
        let mut pieces = Vec::with_capacity(listed.len());
        let mut digests = Vec::with_capacity(listed.len());
        if !listed.is_sorted_by(|(a, _), (b, _)| a < b) {
            return Err(StoreError::PartOrder);
        }
        for (position, (number, tag)) in listed.iter().enumerate() {
            let number = *number;
            let Some(part) = self.parts.get(&number) else {
                return Err(StoreError::InvalidPart { number, reason: "was not uploaded" });
            };
            if tag.as_ref().is_some_and(|tag| *tag != part.tag().to_string()) {
                return Err(StoreError::InvalidPart { number, reason: "has another entity tag" });
            }
            let size = part.bytes.len() as u64;
            if size < PART_MINIMUM_BYTES && position + 1 < listed.len() {
                return Err(StoreError::PartTooSmall { number, size, minimum: PART_MINIMUM_BYTES });
            }
            pieces.push(part.bytes.clone());
            digests.push(part.digest);
        }
        Ok((Content::Parts(pieces.into()), EntityTag::of_parts(&digests)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn upload(sizes: &[u64]) -> Upload {
        let mut uploads = Uploads::default();
        let id = uploads.create("b", "k", Attributes::default(), UNIX_EPOCH);
        for (number, &size) in (1..).zip(sizes) {
            let part = Part::new(Bytes::from(vec![0; size as usize]), UNIX_EPOCH);
            uploads.add("b", "k", &id, number, part).unwrap();
        }
        uploads.remove("b", "k", &id).unwrap()
    }

    #[test]
    fn parts_become_one_object_with_a_tag_that_counts_them() {
        let (content, tag) = upload(&[PART_MINIMUM_BYTES, 3]).assemble(&[(1, None), (2, None)]).unwrap();
        assert_eq!(content.size(), PART_MINIMUM_BYTES + 3);
        assert!(tag.to_string().ends_with("-2"), "{tag}");
        assert_eq!(tag, content.tag());
    }

    #[test]
    fn only_the_last_part_may_be_small() {
        let error = upload(&[3, 3]).assemble(&[(1, None), (2, None)]).unwrap_err();
        assert!(matches!(error, StoreError::PartTooSmall { number: 1, .. }), "{error}");
        upload(&[3, 3]).assemble(&[(2, None)]).unwrap();
    }

    #[test]
    fn parts_must_exist_be_in_order_and_be_the_ones_meant() {
        let upload = upload(&[PART_MINIMUM_BYTES, 3]);
        let error = upload.assemble(&[(2, None), (1, None)]).unwrap_err();
        assert!(matches!(error, StoreError::PartOrder), "{error}");
        let error = upload.assemble(&[(3, None)]).unwrap_err();
        assert_eq!(error.to_string(), "part 3 of the upload was not uploaded");
        let error = upload.assemble(&[(1, Some("x".into()))]).unwrap_err();
        assert_eq!(error.to_string(), "part 1 of the upload has another entity tag");
    }

    #[test]
    fn an_upload_belongs_to_one_key() {
        let mut uploads = Uploads::default();
        let id = uploads.create("b", "k", Attributes::default(), UNIX_EPOCH);
        assert!(uploads.find("b", "other", &id).is_err());
        assert!(uploads.remove("other", "k", &id).is_err());
        assert_eq!(uploads.of_bucket("b").len(), 1);
    }
}
