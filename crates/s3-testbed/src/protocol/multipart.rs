//! Multipart uploads.

use s3s::dto::*;
use s3s::{S3Error, S3Request, S3Result, s3_error};

use super::super::multipart::Part;
use super::adapter::Protocol;
use super::bucket::owner;
use super::convert::{e_tag, invalid_argument, shown_version, source_condition, write_condition};
use super::list::limit;
use super::read::resolve;
use super::receive::{Received, answer_checksums, claims, receive};
use super::write::{Source, attributes_of};

const PART_NUMBERS: std::ops::RangeInclusive<i32> = 1..=10_000;

fn check_number(number: i32) -> S3Result<()> {
    match PART_NUMBERS.contains(&number) {
        true => Ok(()),
        false => Err(invalid_argument(format!("Part number is {number}, expected 1 to 10000"))),
    }
}

impl Protocol {
    pub(super) async fn create_upload(
        &self,
        mut input: CreateMultipartUploadInput,
    ) -> S3Result<CreateMultipartUploadOutput> {
        self.store.check_bucket(&input.bucket)?;
        let attributes = attributes_of!(input);
        let id = self.store.uploads().create(&input.bucket, &input.key, attributes, self.store.now());
        Ok(CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(id),
            ..Default::default()
        })
    }

    pub(super) async fn add_part(&self, request: S3Request<UploadPartInput>) -> S3Result<UploadPartOutput> {
        let input = request.input;
        check_number(input.part_number)?;
        self.store.uploads().find(&input.bucket, &input.key, &input.upload_id)?;
        let claims = claims!(input, request);
        let Received { bytes, digest, checksums } = receive(input.body, claims).await?;
        let part = Part { bytes, digest, checksums, modified: self.store.now() };
        let mut output = UploadPartOutput { e_tag: Some(e_tag(&part.tag())), ..Default::default() };
        answer_checksums!(output, part.checksums);
        self.store.uploads().add(&input.bucket, &input.key, &input.upload_id, input.part_number, part)?;
        Ok(output)
    }

    pub(super) async fn copy_part(&self, input: UploadPartCopyInput) -> S3Result<UploadPartCopyOutput> {
        check_number(input.part_number)?;
        self.store.uploads().find(&input.bucket, &input.key, &input.upload_id)?;
        let source = Source::of(&input.copy_source)?;
        let condition = source_condition!(input);
        let range = input.copy_source_range.as_deref().map(copy_range).transpose()?;
        let (bytes, version) = self
            .on_store(move |store| {
                let object = source.open(store, &condition)?;
                let size = object.content.size();
                if range.is_some_and(|range| ends_beyond(range, size)) {
                    return Err(s3_error!(InvalidRange, "The source of the copy has {size} bytes"));
                }
                let bytes = object.content.bytes(resolve(range, size)?).map_err(S3Error::internal_error)?;
                Ok((bytes, object.version))
            })
            .await?;
        let part = Part::new(bytes, self.store.now());
        let result = CopyPartResult {
            e_tag: Some(e_tag(&part.tag())),
            last_modified: Some(part.modified.into()),
            ..Default::default()
        };
        self.store.uploads().add(&input.bucket, &input.key, &input.upload_id, input.part_number, part)?;
        Ok(UploadPartCopyOutput {
            copy_part_result: Some(result),
            copy_source_version_id: shown_version(version),
            ..Default::default()
        })
    }

    pub(super) async fn complete_upload(
        &self,
        input: CompleteMultipartUploadInput,
    ) -> S3Result<CompleteMultipartUploadOutput> {
        let condition = write_condition(input.if_match, input.if_none_match)?;
        let listed = listed_parts(input.multipart_upload)?;
        let (bucket, key, id) = (input.bucket, input.key, input.upload_id);
        let written = self
            .on_store({
                let (bucket, key) = (bucket.clone(), key.clone());
                move |store| Ok(store.complete_upload(&bucket, &key, &id, &listed, &condition)?)
            })
            .await?;
        Ok(CompleteMultipartUploadOutput {
            location: Some(format!("/{bucket}/{key}")),
            bucket: Some(bucket),
            key: Some(key),
            e_tag: Some(e_tag(&written.tag)),
            version_id: shown_version(written.version),
            ..Default::default()
        })
    }

    pub(super) async fn abort_upload(
        &self,
        input: AbortMultipartUploadInput,
    ) -> S3Result<AbortMultipartUploadOutput> {
        self.store.uploads().remove(&input.bucket, &input.key, &input.upload_id)?;
        Ok(AbortMultipartUploadOutput::default())
    }

    pub(super) async fn list_uploads(
        &self,
        input: ListMultipartUploadsInput,
    ) -> S3Result<ListMultipartUploadsOutput> {
        self.store.check_bucket(&input.bucket)?;
        if input.delimiter.as_ref().is_some_and(|delimiter| !delimiter.is_empty())
            || input.encoding_type.is_some()
        {
            return Err(s3_error!(NotImplemented, "Uploads are listed without delimiter and encoding only"));
        }
        let prefix = input.prefix.unwrap_or_default();
        let limit = limit(input.max_uploads)?;
        let after = (
            input.key_marker.clone().unwrap_or_default(),
            input.upload_id_marker.clone().unwrap_or_default(),
        );
        let mut uploads = self.store.uploads().of_bucket(&input.bucket);
        uploads.retain(|(id, upload)| upload.key.starts_with(&prefix) && is_after(&upload.key, id, &after));
        let truncated = uploads.len() > limit;
        uploads.truncate(limit);
        let last = uploads.last().filter(|_| truncated).map(|(id, upload)| (id.clone(), upload.key.clone()));
        let shown = uploads.into_iter().map(|(id, upload)| MultipartUpload {
            key: Some(upload.key),
            upload_id: Some(id),
            initiated: Some(upload.started.into()),
            owner: Some(owner()),
            ..Default::default()
        });
        let (next_upload_id_marker, next_key_marker) = last.unzip();
        Ok(ListMultipartUploadsOutput {
            bucket: Some(input.bucket),
            prefix: Some(prefix),
            key_marker: input.key_marker,
            upload_id_marker: input.upload_id_marker,
            max_uploads: i32::try_from(limit).ok(),
            is_truncated: Some(truncated),
            next_key_marker,
            next_upload_id_marker,
            uploads: Some(shown.collect()),
            ..Default::default()
        })
    }

    pub(super) async fn list_parts_of(&self, input: ListPartsInput) -> S3Result<ListPartsOutput> {
        let uploads = self.store.uploads();
        let upload = uploads.find(&input.bucket, &input.key, &input.upload_id)?;
        let limit = limit(input.max_parts)?;
        let after = input.part_number_marker.unwrap_or(0).max(0);
        let mut parts: Vec<_> = upload.parts.range(after.saturating_add(1)..).take(limit + 1).collect();
        let truncated = parts.len() > limit;
        parts.truncate(limit);
        let next = parts.last().map(|(number, _)| **number).filter(|_| truncated);
        let shown = parts.into_iter().map(|(number, part)| {
            let mut shown = s3s::dto::Part {
                part_number: Some(*number),
                e_tag: Some(e_tag(&part.tag())),
                size: i64::try_from(part.bytes.len()).ok(),
                last_modified: Some(part.modified.into()),
                ..Default::default()
            };
            answer_checksums!(shown, part.checksums);
            shown
        });
        Ok(ListPartsOutput {
            parts: Some(shown.collect()),
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(input.upload_id),
            max_parts: i32::try_from(limit).ok(),
            part_number_marker: input.part_number_marker,
            next_part_number_marker: next,
            is_truncated: Some(truncated),
            owner: Some(owner()),
            ..Default::default()
        })
    }
}

/// Whether an upload comes after the marker: a key, and among uploads of that key an id.
fn is_after(key: &str, id: &str, (after_key, after_id): &(String, String)) -> bool {
    key > after_key.as_str() || key == after_key && !after_id.is_empty() && id > after_id.as_str()
}

fn listed_parts(upload: Option<CompletedMultipartUpload>) -> S3Result<Vec<(i32, Option<String>)>> {
    let parts = upload.and_then(|upload| upload.parts).unwrap_or_default();
    if parts.is_empty() {
        return Err(s3_error!(MalformedXML, "An upload is completed by naming at least one part"));
    }
    parts
        .into_iter()
        .map(|part| {
            let number = part.part_number.ok_or_else(|| s3_error!(MalformedXML, "A part has no number"))?;
            Ok((number, part.e_tag.map(ETag::into_value)))
        })
        .collect()
}

/// Where a GET would send what there is, a copy of a part is refused.
fn ends_beyond(range: Range, size: u64) -> bool {
    matches!(range, Range::Int { last: Some(last), .. } if last >= size)
}

/// `bytes=first-last`; unlike the range of a GET it must have both ends.
fn copy_range(text: &str) -> S3Result<Range> {
    match Range::parse(text) {
        Ok(range @ Range::Int { last: Some(_), .. }) => Ok(range),
        _ => Err(invalid_argument(format!(
            "The x-amz-copy-source-range value must be of the form bytes=first-last: {text:?}"
        ))),
    }
}
