//! Buckets themselves.

use s3s::dto::*;
use s3s::{S3Result, s3_error};

use super::super::memory::Versioning;
use super::adapter::Protocol;

impl Protocol {
    pub(super) async fn buckets(&self, _: ListBucketsInput) -> S3Result<ListBucketsOutput> {
        let buckets = self.store.buckets().into_iter().map(|(name, created)| Bucket {
            name: Some(name),
            creation_date: Some(created.into()),
            bucket_region: Some(REGION.to_owned()),
        });
        Ok(ListBucketsOutput { buckets: Some(buckets.collect()), owner: Some(owner()), ..Default::default() })
    }

    pub(super) async fn bucket_head(&self, input: HeadBucketInput) -> S3Result<HeadBucketOutput> {
        self.store.check_bucket(&input.bucket)?;
        Ok(HeadBucketOutput { bucket_region: Some(REGION.to_owned()), ..Default::default() })
    }

    pub(super) async fn bucket_create(&self, input: CreateBucketInput) -> S3Result<CreateBucketOutput> {
        self.store.create_bucket(&input.bucket)?;
        Ok(CreateBucketOutput { location: Some(format!("/{}", input.bucket)) })
    }

    pub(super) async fn bucket_delete(&self, input: DeleteBucketInput) -> S3Result<DeleteBucketOutput> {
        self.store.delete_bucket(&input.bucket)?;
        Ok(DeleteBucketOutput::default())
    }

    pub(super) async fn bucket_location(
        &self,
        input: GetBucketLocationInput,
    ) -> S3Result<GetBucketLocationOutput> {
        self.store.check_bucket(&input.bucket)?;
        Ok(GetBucketLocationOutput::default())
    }

    pub(super) async fn bucket_versioning(
        &self,
        input: GetBucketVersioningInput,
    ) -> S3Result<GetBucketVersioningOutput> {
        let status = match self.store.versioning(&input.bucket)? {
            Versioning::Off => None,
            Versioning::Enabled => Some(BucketVersioningStatus::ENABLED),
            Versioning::Suspended => Some(BucketVersioningStatus::SUSPENDED),
        };
        Ok(GetBucketVersioningOutput {
            status: status.map(BucketVersioningStatus::from_static),
            mfa_delete: None,
        })
    }

    pub(super) async fn set_bucket_versioning(
        &self,
        input: PutBucketVersioningInput,
    ) -> S3Result<PutBucketVersioningOutput> {
        let status = input.versioning_configuration.status.as_ref().map(BucketVersioningStatus::as_str);
        let versioning = match status {
            Some(BucketVersioningStatus::ENABLED) => Versioning::Enabled,
            Some(BucketVersioningStatus::SUSPENDED) => Versioning::Suspended,
            _ => {
                return Err(s3_error!(
                    MalformedXML,
                    "The status is neither Enabled nor Suspended: {status:?}"
                ));
            }
        };
        self.store.set_versioning(&input.bucket, versioning)?;
        Ok(PutBucketVersioningOutput::default())
    }
}

/// Everything belongs to one.
pub(super) fn owner() -> Owner {
    Owner { display_name: Some("mapkeeper".to_owned()), id: Some("mapkeeper".to_owned()) }
}

/// Every bucket is here. S3 calls it no location at all.
const REGION: &str = "us-east-1";
