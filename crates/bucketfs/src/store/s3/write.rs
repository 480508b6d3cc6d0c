//! Writing to S3: requests that carry bytes, copies, uploads in parts.
//!
//! What must hold: a request has its body in memory, so that it can be sent again; an error that comes with the
//! status 200, as that of a copy does, is an error (the SDK's doing).

use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::primitives::{ByteStream, DateTime, DateTimeFormat};
use aws_sdk_s3::types::{
    CompletedMultipartUpload, CompletedPart, MetadataDirective, ObjectCannedAcl, ServerSideEncryption,
    StorageClass,
};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::answer::CONFLICTS;
use super::client::S3;
use super::conditions::Form;
use super::key::spelled;
use super::said::{TOKEN_MAX, bare, etag, malformed, version_id};
use crate::store::error::StoreError;
use crate::store::version::ETag;
use crate::store::write::{
    Conditions, CopyRequest, Encryption, Headers, Heed, Kept, NewContent, ObjectStoreWrite, PartOf, Put,
    Tags, Upload, WriteIf, Written,
};

/// What is percent-encoded in a tag, and in a key: all but what needs it nowhere.
const TAG: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const KEY: &AsciiSet = &TAG.remove(b'/');

/// What a HEAD says beside what a reader wants.
pub(super) fn kept(answer: &HeadObjectOutput) -> Kept {
    let text = |text: Option<&str>| text.map(str::to_string);
    let encryption = answer.server_side_encryption().map(|algorithm| Encryption {
        algorithm: algorithm.as_str().to_string(),
        key: text(answer.ssekms_key_id()),
        bucket_key: answer.bucket_key_enabled(),
    });
    Kept {
        cache_control: text(answer.cache_control()),
        content_disposition: text(answer.content_disposition()),
        content_encoding: text(answer.content_encoding()),
        content_language: text(answer.content_language()),
        expires: text(answer.expires_string()),
        website_redirect: text(answer.website_redirect_location()),
        storage_class: answer.storage_class().map(|class| class.as_str().to_string()),
        encryption,
        tags: answer.tag_count().and_then(|count| u32::try_from(count).ok()).unwrap_or(0),
    }
}

/// Sets the headers that three operations take alike.
macro_rules! with_headers {
    ($store:expr, $request:expr, $headers:expr) => {{
        let (headers, kept) = ($headers, &$headers.kept);
        let encryption = $store.encryption_of(kept);
        let metadata = headers.metadata.iter().cloned().collect();
        $request
            .set_content_type(headers.content_type.clone())
            .set_metadata(Some(metadata))
            .set_cache_control(kept.cache_control.clone())
            .set_content_disposition(kept.content_disposition.clone())
            .set_content_encoding(kept.content_encoding.clone())
            .set_content_language(kept.content_language.clone())
            .set_expires(expires(kept))
            .set_website_redirect_location(kept.website_redirect.clone())
            .set_storage_class(kept.storage_class.as_deref().map(StorageClass::from))
            .set_server_side_encryption(encryption.map(|it| ServerSideEncryption::from(&*it.algorithm)))
            .set_ssekms_key_id(encryption.and_then(|it| it.key.clone()))
            .set_bucket_key_enabled(encryption.and_then(|it| it.bucket_key))
    }};
}

macro_rules! with_condition {
    ($request:expr, $condition:expr, $form:expr) => {
        match $condition {
            WriteIf::Always => $request,
            WriteIf::Absent => $request.if_none_match("*"),
            WriteIf::Unchanged(etag) => $request.if_match(written_as(etag, $form)),
        }
    };
}

fn written_as(etag: &ETag, form: Form) -> &str {
    match form {
        Form::Quoted => &etag.0,
        Form::Bare => bare(&etag.0),
    }
}

/// The answer of a write; a condition that did not hold is told apart.
macro_rules! answered {
    ($store:expr, $answer:expr, $key:expr) => {
        $answer.map_err(|error| $store.not_written(&error, $key))
    };
}

fn expires(kept: &Kept) -> Option<DateTime> {
    DateTime::from_str(kept.expires.as_deref()?, DateTimeFormat::HttpDate).ok()
}

/// `k1=v1&k2=v2`, as the header has it.
fn tagging(tags: &[(String, String)]) -> Option<String> {
    let pairs: Vec<String> = tags
        .iter()
        .map(|(name, value)| {
            format!("{}={}", utf8_percent_encode(name, TAG), utf8_percent_encode(value, TAG))
        })
        .collect();
    (!pairs.is_empty()).then(|| pairs.join("&"))
}

impl S3 {
    /// The encryption that is asked for: that of the headers if it has a key of its own to lose, else that of the mount.
    fn encryption_of<'a>(&'a self, kept: &'a Kept) -> Option<&'a Encryption> {
        let own = kept.encryption.as_ref();
        own.filter(|own| own.algorithm != "AES256").or(self.new_content.encryption.as_ref()).or(own)
    }

    fn acl(&self) -> Option<ObjectCannedAcl> {
        self.new_content.acl.as_deref().map(ObjectCannedAcl::from)
    }

    fn source(&self, key: &str) -> String {
        format!("{}/{}", self.bucket, utf8_percent_encode(key, KEY))
    }

    fn not_written<E>(
        &self,
        error: &SdkError<E, aws_smithy_runtime_api::client::orchestrator::HttpResponse>,
        key: &str,
    ) -> StoreError
    where
        E: aws_sdk_s3::error::ProvideErrorMetadata + std::error::Error + 'static,
    {
        let code = match error {
            SdkError::ServiceError(answer) => answer.err().meta().code().unwrap_or_default(),
            _ => "",
        };
        let key_text = key.to_string();
        match (error.raw_response().map(|response| response.status().as_u16()), code) {
            (Some(412), _) | (_, "PreconditionFailed") => StoreError::Changed { key: key_text },
            (Some(409), code) if CONFLICTS.contains(&code) => StoreError::Conflict { key: key_text },
            (_, "NoSuchUpload") => StoreError::NoUpload { key: key_text },
            (_, "EntityTooLarge") => StoreError::TooLarge { key: key_text },
            (_, "MetadataTooLarge") => StoreError::MetadataTooLarge { key: key_text },
            _ => self.failure(error, key),
        }
    }

    async fn put_object(&self, put: Put<'_>) -> Result<Written, StoreError> {
        if put.condition != WriteIf::Always && self.heed(put.key).await?.put != Heed::Kept {
            return Err(StoreError::Unconditional { key: put.key.to_string() });
        }
        self.conditionally(put.key, &put.condition, |form| self.send_put(&put, form)).await
    }

    pub(super) async fn send_put(&self, put: &Put<'_>, form: Form) -> Result<Written, StoreError> {
        let request = self.writer.put_object().bucket(&self.bucket).key(spelled(put.key)?);
        let class = put.headers.kept.storage_class.as_ref().or(self.new_content.storage_class.as_ref());
        let request = with_headers!(self, request, put.headers)
            .set_storage_class(class.map(|class| StorageClass::from(class.as_str())))
            .set_acl(self.acl())
            .set_tagging(tagging(put.tags));
        let request = with_condition!(request, &put.condition, form).body(ByteStream::from(put.body.clone()));
        // The checksum in its header says as much as a signature of the body, at a tenth of the cost.
        let answer = answered!(self, request.customize().disable_payload_signing().send().await, put.key)?;
        self.written(put.key, answer.e_tag(), answer.version_id()).await
    }

    async fn copy_object(&self, copy: CopyRequest<'_>) -> Result<Written, StoreError> {
        let heed = self.heed(copy.to).await?;
        if heed.source != Heed::Kept {
            self.look(copy.from, &WriteIf::Unchanged(copy.etag.clone())).await?;
        }
        let mut condition = copy.condition.clone();
        if heed.copy != Heed::Kept {
            // Of a copy onto itself the source says the same.
            if copy.from != copy.to || condition != WriteIf::Unchanged(copy.etag.clone()) {
                self.look(copy.to, &condition).await?;
            }
            condition = WriteIf::Always;
        }
        let send = |form| self.send_copy(&copy, &condition, heed.source, form);
        self.conditionally(copy.to, &condition, send).await
    }

    pub(super) async fn send_copy(
        &self,
        copy: &CopyRequest<'_>,
        condition: &WriteIf,
        source: Heed,
        form: Form,
    ) -> Result<Written, StoreError> {
        let request = self
            .writer
            .copy_object()
            .bucket(&self.bucket)
            .key(spelled(copy.to)?)
            .copy_source(self.source(copy.from))
            .set_copy_source_if_match((source != Heed::Refused).then(|| copy.etag.0.to_string()));
        let request = match copy.headers {
            Some(headers) => {
                with_headers!(self, request, headers).metadata_directive(MetadataDirective::Replace)
            }
            // What is not said here is as the bucket has it, whatever the source has.
            None => {
                let NewContent { encryption, storage_class, .. } = &*self.new_content;
                let encryption = encryption.as_ref();
                request
                    .metadata_directive(MetadataDirective::Copy)
                    .set_storage_class(storage_class.as_deref().map(StorageClass::from))
                    .set_server_side_encryption(
                        encryption.map(|it| ServerSideEncryption::from(&*it.algorithm)),
                    )
                    .set_ssekms_key_id(encryption.and_then(|it| it.key.clone()))
            }
        };
        let request = with_condition!(request, condition, form).set_acl(self.acl());
        let answer = answered!(self, request.send().await, copy.from)?;
        let tag = answer.copy_object_result().and_then(|result| result.e_tag());
        self.written(copy.to, tag, answer.version_id()).await
    }

    async fn delete_object(&self, key: &str, condition: WriteIf) -> Result<(), StoreError> {
        let condition = match condition == WriteIf::Always || self.heed(key).await?.delete == Heed::Kept {
            true => condition,
            false => match self.look(key, &condition).await {
                Ok(()) | Err(StoreError::NotFound { .. }) => WriteIf::Always,
                Err(error) => return Err(error),
            },
        };
        self.conditionally(key, &condition, |form| self.send_delete(key, &condition, form)).await
    }

    pub(super) async fn send_delete(
        &self,
        key: &str,
        condition: &WriteIf,
        form: Form,
    ) -> Result<(), StoreError> {
        let mut request = self.writer.delete_object().bucket(&self.bucket).key(spelled(key)?);
        if let WriteIf::Unchanged(etag) = condition {
            request = request.if_match(written_as(etag, form));
        }
        match answered!(self, request.send().await, key) {
            Err(StoreError::NotFound { .. }) => Ok(()),
            answer => answer.map(|_| ()),
        }
    }

    /// What was written, as the answer says; one that does not say it is asked for it.
    async fn written(&self, key: &str, tag: Option<&str>, id: Option<&str>) -> Result<Written, StoreError> {
        if tag.is_none_or(|tag| bare(tag).is_empty()) {
            let version = self.head_object(key).await?.version;
            return Ok(Written { etag: version.etag, version_id: version.version_id });
        }
        Ok(Written { etag: etag(tag)?, version_id: version_id(id)? })
    }

    async fn object_tags(&self, key: &str) -> Result<Tags, StoreError> {
        let answer = self.client.get_object_tagging().bucket(&self.bucket).key(spelled(key)?).send().await;
        let answer = answer.map_err(|error| self.failure(&error, key))?;
        Ok(answer.tag_set.into_iter().map(|tag| (tag.key, tag.value)).collect())
    }

    pub(super) async fn begin(
        &self,
        key: &str,
        headers: &Headers,
        tags: &[(String, String)],
    ) -> Result<String, StoreError> {
        let request = self.writer.create_multipart_upload().bucket(&self.bucket).key(spelled(key)?);
        let request = with_headers!(self, request, headers).set_acl(self.acl()).set_tagging(tagging(tags));
        let answer = answered!(self, request.send().await, key)?;
        let id = answer.upload_id.filter(|id| (1..=TOKEN_MAX).contains(&id.len()));
        id.ok_or_else(|| malformed("no UploadId"))
    }

    pub(super) async fn upload_part(
        &self,
        upload: Upload<'_>,
        number: u32,
        body: Bytes,
    ) -> Result<ETag, StoreError> {
        let request = self
            .writer
            .upload_part()
            .bucket(&self.bucket)
            .key(spelled(upload.key)?)
            .upload_id(upload.id)
            .part_number(part_number(number)?)
            .body(ByteStream::from(body));
        let answer = request.customize().disable_payload_signing().send().await;
        let answer = answered!(self, answer, upload.key)?;
        etag(answer.e_tag())
    }

    async fn upload_part_copy(
        &self,
        upload: Upload<'_>,
        number: u32,
        part: PartOf<'_>,
    ) -> Result<ETag, StoreError> {
        let source = self.heed(upload.key).await?.source;
        let request = self
            .writer
            .upload_part_copy()
            .bucket(&self.bucket)
            .key(spelled(upload.key)?)
            .upload_id(upload.id)
            .part_number(part_number(number)?)
            .copy_source(self.source(part.from))
            .set_copy_source_if_match((source != Heed::Refused).then(|| part.etag.0.to_string()))
            .copy_source_range(format!("bytes={}-{}", part.range.start, part.range.end.saturating_sub(1)));
        let answer = answered!(self, request.send().await, part.from);
        if source != Heed::Kept {
            // It is of that version if that is still there; so is a refusal: another may be too short.
            self.look(part.from, &WriteIf::Unchanged(part.etag.clone())).await?;
        }
        etag(answer?.copy_part_result().and_then(|result| result.e_tag()))
    }

    async fn complete(
        &self,
        upload: Upload<'_>,
        parts: &[(u32, ETag)],
        mut condition: WriteIf,
    ) -> Result<Written, StoreError> {
        if condition != WriteIf::Always {
            match self.heed(upload.key).await? {
                Conditions { complete: Heed::Kept, .. } => {}
                Conditions { put: Heed::Kept, .. } => {
                    self.look(upload.key, &condition).await?;
                    condition = WriteIf::Always;
                }
                _ => return Err(StoreError::Unconditional { key: upload.key.to_string() }),
            }
        }
        let send = |form| self.send_complete(upload, parts, &condition, form);
        self.conditionally(upload.key, &condition, send).await
    }

    pub(super) async fn send_complete(
        &self,
        upload: Upload<'_>,
        parts: &[(u32, ETag)],
        condition: &WriteIf,
        form: Form,
    ) -> Result<Written, StoreError> {
        let mut completed = CompletedMultipartUpload::builder();
        for (number, etag) in parts {
            let part = CompletedPart::builder().part_number(part_number(*number)?).e_tag(&*etag.0);
            completed = completed.parts(part.build());
        }
        let request = self
            .writer
            .complete_multipart_upload()
            .bucket(&self.bucket)
            .key(spelled(upload.key)?)
            .upload_id(upload.id)
            .multipart_upload(completed.build());
        let answer = with_condition!(request, condition, form).send().await;
        let answer = answered!(self, answer, upload.key)?;
        self.written(upload.key, answer.e_tag(), answer.version_id()).await
    }

    pub(super) async fn abort(&self, upload: Upload<'_>) -> Result<(), StoreError> {
        let request = self.writer.abort_multipart_upload().bucket(&self.bucket).key(spelled(upload.key)?);
        match answered!(self, request.upload_id(upload.id).send().await, upload.key) {
            Err(StoreError::NoUpload { .. } | StoreError::NotFound { .. }) => Ok(()),
            answer => answer.map(|_| ()),
        }
    }
}

impl ObjectStoreWrite for S3 {
    fn put<'a>(&'a self, put: Put<'a>) -> BoxFuture<'a, Result<Written, StoreError>> {
        self.put_object(put).map(|answer| self.told(answer)).boxed()
    }

    fn stamp(&self, kept: &mut Kept) {
        let NewContent { encryption, storage_class, .. } = &*self.new_content;
        kept.encryption = encryption.clone().or(kept.encryption.take());
        kept.storage_class = storage_class.clone().or(kept.storage_class.take());
    }

    fn copy<'a>(&'a self, copy: CopyRequest<'a>) -> BoxFuture<'a, Result<Written, StoreError>> {
        self.copy_object(copy).map(|answer| self.told(answer)).boxed()
    }

    fn delete<'a>(&'a self, key: &'a str, condition: WriteIf) -> BoxFuture<'a, Result<(), StoreError>> {
        self.delete_object(key, condition).map(|answer| self.told(answer)).boxed()
    }

    fn tags<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Tags, StoreError>> {
        self.object_tags(key).boxed()
    }

    fn begin_upload<'a>(
        &'a self,
        key: &'a str,
        headers: &'a Headers,
        tags: &'a [(String, String)],
    ) -> BoxFuture<'a, Result<String, StoreError>> {
        self.begin(key, headers, tags).boxed()
    }

    fn put_part<'a>(
        &'a self,
        upload: Upload<'a>,
        number: u32,
        body: Bytes,
    ) -> BoxFuture<'a, Result<ETag, StoreError>> {
        self.upload_part(upload, number, body).boxed()
    }

    fn copy_part<'a>(
        &'a self,
        upload: Upload<'a>,
        number: u32,
        part: PartOf<'a>,
    ) -> BoxFuture<'a, Result<ETag, StoreError>> {
        self.upload_part_copy(upload, number, part).boxed()
    }

    fn complete_upload<'a>(
        &'a self,
        upload: Upload<'a>,
        parts: &'a [(u32, ETag)],
        condition: WriteIf,
    ) -> BoxFuture<'a, Result<Written, StoreError>> {
        self.complete(upload, parts, condition).map(|answer| self.told(answer)).boxed()
    }

    fn abort_upload<'a>(&'a self, upload: Upload<'a>) -> BoxFuture<'a, Result<(), StoreError>> {
        self.abort(upload).boxed()
    }

    fn conditions<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Conditions, StoreError>> {
        self.heed(prefix).boxed()
    }

    fn known_conditions(&self) -> Conditions {
        self.knowledge.conditions()
    }
}

fn part_number(number: u32) -> Result<i32, StoreError> {
    i32::try_from(number).map_err(|_| malformed("a part number beyond 2^31"))
}
