//! PUT, copy and delete of objects.

use std::sync::Arc;

use hyper::header::{HeaderMap, HeaderName, IF_MATCH, IF_NONE_MATCH};
use s3s::crypto::{Checksum as _, Md5};
use s3s::dto::*;
use s3s::{S3Request, S3Result, s3_error};

use super::super::condition::{ReadVerdict, WriteCondition};
use super::super::entity_tag::EntityTag;
use super::super::memory::Removal;
use super::super::object::{Attributes, Content, Object, VersionId};
use super::super::store::Store;
use super::adapter::Protocol;
use super::convert::{e_tag, invalid_argument, shown_version, source_condition, write_condition};
use super::receive::{Received, answer_checksums, claims, receive};

/// What S3 allows of user metadata: names and values together.
const METADATA_LIMIT_BYTES: usize = 2048;
const DELETE_LIMIT: usize = 1000;

/// The attributes among the fields of a request that creates an object.
macro_rules! attributes_of {
    ($input:ident) => {
        $crate::object::Attributes {
            metadata: $crate::protocol::write::metadata($input.metadata.take())?,
            content_type: $input.content_type.take(),
            cache_control: $input.cache_control.take(),
            content_encoding: $crate::protocol::write::stored_encoding($input.content_encoding.take()),
            content_disposition: $input.content_disposition.take(),
            content_language: $input.content_language.take(),
            expires_s: $input
                .expires
                .take()
                .map(|expires| time::OffsetDateTime::from(expires).unix_timestamp()),
            storage_class: $crate::protocol::write::stored_class($input.storage_class.take()),
            tags: $crate::protocol::tags::parse($input.tagging.take().as_deref()),
            checksums: $crate::object::Checksums::default(),
        }
    };
}
pub(super) use attributes_of;

pub(super) fn metadata(given: Option<Metadata>) -> S3Result<std::collections::BTreeMap<String, String>> {
    let metadata: std::collections::BTreeMap<_, _> = given.unwrap_or_default().into_iter().collect();
    let size: usize = metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
    if size > METADATA_LIMIT_BYTES {
        return Err(s3_error!(
            MetadataTooLarge,
            "Your metadata headers exceed the maximum allowed metadata size: {size} > {METADATA_LIMIT_BYTES}"
        ));
    }
    Ok(metadata)
}

/// `aws-chunked` is how the body travelled and not what it is.
pub(super) fn stored_encoding(given: Option<String>) -> Option<String> {
    let given = given?;
    let kept: Vec<&str> = given
        .split(',')
        .map(str::trim)
        .filter(|coding| !coding.is_empty() && *coding != "aws-chunked")
        .collect();
    (!kept.is_empty()).then(|| kept.join(", "))
}

/// S3 does not mention the class that it uses anyway.
pub(super) fn stored_class(given: Option<StorageClass>) -> Option<String> {
    given.map(|class| class.as_str().to_owned()).filter(|class| class != StorageClass::STANDARD)
}

impl Protocol {
    pub(super) async fn put(&self, request: S3Request<PutObjectInput>) -> S3Result<PutObjectOutput> {
        let mut input = request.input;
        if input.write_offset_bytes.is_some() {
            return Err(s3_error!(NotImplemented, "An object cannot be appended to"));
        }
        let condition = write_condition(input.if_match.take(), input.if_none_match.take())?;
        let mut attributes = attributes_of!(input);
        let claims = claims!(input, request);
        self.store.check_bucket(&input.bucket)?;
        let Received { bytes, digest, checksums } = receive(input.body.take(), claims).await?;
        attributes.checksums.clone_from(&checksums);
        let written = self
            .on_store(move |store| {
                let tag = EntityTag::Md5(digest);
                let attributes = Arc::new(attributes);
                Ok(store.write(&input.bucket, &input.key, bytes.into(), tag, attributes, &condition)?)
            })
            .await?;
        let mut output = PutObjectOutput {
            e_tag: Some(e_tag(&written.tag)),
            version_id: shown_version(written.version),
            ..Default::default()
        };
        answer_checksums!(output, checksums);
        Ok(output)
    }

    pub(super) async fn copy(&self, request: S3Request<CopyObjectInput>) -> S3Result<CopyObjectOutput> {
        let mut input = request.input;
        let condition = write_condition(
            tag_condition(&request.headers, IF_MATCH)?,
            tag_condition(&request.headers, IF_NONE_MATCH)?,
        )?;
        let source = Source::of(&input.copy_source)?;
        let replaces = match input.metadata_directive.as_ref().map(MetadataDirective::as_str) {
            None | Some(MetadataDirective::COPY) => false,
            Some(MetadataDirective::REPLACE) => true,
            Some(other) => return Err(invalid_argument(format!("Unknown metadata directive {other:?}."))),
        };
        let replaces_tags =
            input.tagging_directive.as_ref().is_some_and(|it| it.as_str() == TaggingDirective::REPLACE);
        let given = attributes_of!(input);
        let of_source = source_condition!(input);
        let copy = Copy { bucket: input.bucket, key: input.key, source, given, replaces, replaces_tags };
        let (written, source_version) = self
            .on_store(move |store| {
                let object = copy.source.open(store, &of_source)?;
                let version = object.version;
                Ok((copy.run(store, &object, &condition)?, version))
            })
            .await?;
        Ok(CopyObjectOutput {
            copy_object_result: Some(CopyObjectResult {
                e_tag: Some(e_tag(&written.tag)),
                last_modified: Some(written.modified.into()),
                ..Default::default()
            }),
            copy_source_version_id: shown_version(source_version),
            version_id: shown_version(written.version),
            ..Default::default()
        })
    }

    pub(super) async fn delete(&self, input: DeleteObjectInput) -> S3Result<DeleteObjectOutput> {
        let condition = write_condition(input.if_match, None)?;
        let removal = self
            .on_store(move |store| {
                Ok(store.remove(&input.bucket, &input.key, input.version_id.as_deref(), &condition)?)
            })
            .await?;
        let (marked, version) = match removal {
            Removal::Gone => return Ok(DeleteObjectOutput::default()),
            Removal::Marked(version) => (true, version),
            Removal::Version { version, was_marker } => (was_marker, version),
        };
        Ok(DeleteObjectOutput {
            delete_marker: marked.then_some(true),
            version_id: Some(VersionId::text(version)),
            ..Default::default()
        })
    }

    pub(super) async fn delete_many(&self, input: DeleteObjectsInput) -> S3Result<DeleteObjectsOutput> {
        let Delete { objects, quiet } = input.delete;
        if objects.len() > DELETE_LIMIT {
            return Err(s3_error!(MalformedXML, "At most {DELETE_LIMIT} keys can be deleted at once"));
        }
        self.store.check_bucket(&input.bucket)?;
        self.on_store(move |store| {
            let mut output = DeleteObjectsOutput::default();
            let (mut deleted, mut errors) = (Vec::new(), Vec::new());
            for object in objects {
                match delete_one(store, &input.bucket, object) {
                    Ok(gone) => deleted.push(gone),
                    Err(error) => errors.push(error),
                }
            }
            output.deleted = (!quiet.unwrap_or(false)).then_some(deleted);
            output.errors = Some(errors);
            Ok(output)
        })
        .await
    }
}

fn delete_one(store: &Store, bucket: &str, object: ObjectIdentifier) -> Result<DeletedObject, Error> {
    let ObjectIdentifier { key, version_id, e_tag, .. } = object;
    let condition = write_condition(e_tag.map(ETagCondition::ETag), None).unwrap_or_default();
    match store.remove(bucket, &key, version_id.as_deref(), &condition) {
        Ok(removal) => {
            let marker = match removal {
                Removal::Gone => None,
                Removal::Marked(version) => Some(version),
                Removal::Version { version, was_marker } => was_marker.then_some(version),
            };
            Ok(DeletedObject {
                key: Some(key),
                version_id,
                delete_marker: marker.map(|_| true),
                delete_marker_version_id: marker.map(VersionId::text),
            })
        }
        Err(error) => {
            let error = s3s::S3Error::from(error);
            Err(Error {
                key: Some(key),
                version_id,
                code: Some(error.code().as_str().to_owned()),
                message: error.message().map(str::to_owned),
            })
        }
    }
}

/// The object that a copy reads.
pub(super) struct Source {
    pub bucket: String,
    pub key: String,
    version: Option<String>,
}

impl Source {
    pub fn of(header: &CopySource) -> S3Result<Self> {
        let CopySource::Bucket { bucket, key, version_id } = header else {
            return Err(s3_error!(NotImplemented, "A copy source can only be a bucket and a key"));
        };
        Ok(Self {
            bucket: bucket.to_string(),
            key: key.to_string(),
            version: version_id.as_ref().map(|version| version.to_string()),
        })
    }

    pub fn open(
        &self,
        store: &Store,
        condition: &super::super::condition::ReadCondition,
    ) -> S3Result<Arc<Object>> {
        let object = store.read(&self.bucket, &self.key, self.version.as_deref())?;
        match condition.judge(&object.tag, object.modified) {
            ReadVerdict::Serve => Ok(object),
            ReadVerdict::NotModified | ReadVerdict::Refuse(_) => {
                Err(s3_error!(PreconditionFailed, "A condition on the source of the copy does not hold"))
            }
        }
    }
}

struct Copy {
    bucket: String,
    key: String,
    source: Source,
    /// What the request says the copy is to have.
    given: Attributes,
    replaces: bool,
    replaces_tags: bool,
}

impl Copy {
    fn run(self, store: &Store, object: &Object, condition: &WriteCondition) -> S3Result<Arc<Object>> {
        let onto_itself =
            self.bucket == self.source.bucket && self.key == self.source.key && self.source.version.is_none();
        let same_class = self.given.storage_class == object.attributes.storage_class;
        if onto_itself && !self.replaces && same_class {
            return Err(s3_error!(
                InvalidRequest,
                "This copy request is illegal because it is trying to copy an object to itself without changing the \
                 object's metadata, storage class, website redirect location or encryption attributes."
            ));
        }
        let old = &*object.attributes;
        let mut attributes = if self.replaces {
            self.given.clone()
        } else {
            Attributes { storage_class: None, ..old.clone() }
        };
        attributes.storage_class = self.given.storage_class;
        attributes.tags = if self.replaces_tags { self.given.tags } else { old.tags.clone() };
        attributes.checksums = old.checksums.clone();
        if onto_itself {
            return Ok(store.write_attributes(&self.bucket, &self.key, object, attributes, condition)?);
        }
        // A copy of a multipart object is one object like any other, with a tag to match.
        let tag = match (&object.content, object.tag) {
            // To hash a large object takes a while, which other requests on this thread must not wait for.
            (Content::Parts(_), EntityTag::Multipart { .. }) => {
                tokio::task::block_in_place(|| whole_tag(&object.content))
            }
            (_, tag) => tag,
        };
        let content = object.content.clone();
        Ok(store.write(&self.bucket, &self.key, content, tag, Arc::new(attributes), condition)?)
    }
}

/// The tag that this content has when it is written in one piece.
fn whole_tag(content: &Content) -> EntityTag {
    let mut md5 = Md5::new();
    let mut offset = 0;
    while offset < content.size() {
        let piece = content.piece(offset, u64::MAX);
        md5.update(&piece);
        offset += piece.len() as u64;
    }
    EntityTag::Md5(md5.finalize())
}

/// A condition on the target of a copy, which the decoded request does not have.
fn tag_condition(headers: &HeaderMap, name: HeaderName) -> S3Result<Option<ETagCondition>> {
    let Some(value) = headers.get(&name) else { return Ok(None) };
    match ETagCondition::parse_http_header(value.as_bytes()) {
        Ok(condition) => Ok(Some(condition)),
        Err(error) => Err(s3_error!(error, InvalidArgument, "Header {name} is no entity tag: {value:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_a_body_travelled_is_not_stored_as_its_encoding() {
        let stored = |text: &str| stored_encoding(Some(text.to_owned()));
        assert_eq!(stored("aws-chunked"), None);
        assert_eq!(stored("gzip,aws-chunked").as_deref(), Some("gzip"));
        assert_eq!(stored("gzip, br").as_deref(), Some("gzip, br"));
    }

    #[test]
    fn metadata_beyond_two_kilobytes_is_refused() {
        let of = |size: usize| metadata(Some([("k".to_owned(), "v".repeat(size))].into()));
        assert!(of(METADATA_LIMIT_BYTES - 1).is_ok());
        assert_eq!(of(METADATA_LIMIT_BYTES).unwrap_err().code().as_str(), "MetadataTooLarge");
    }
}
