//! Buckets themselves.

use s3s::dto::*;
use s3s::{S3Result, s3_error};

use super::super::memory::Versioning;
use super::adapter::Protocol;

impl Protocol {
    pub(super) fn buckets(&self) -> ListBucketsOutput {
        let buckets = self.store.buckets().into_iter().map(|(name, created)| Bucket {
            name: Some(name),
            creation_date: Some(created.into()),
            bucket_region: Some(REGION.to_owned()),
        });
        ListBucketsOutput { buckets: Some(buckets.collect()), owner: Some(owner()), ..Default::default() }
    }

    pub(super) fn bucket_head(&self, bucket: &str) -> S3Result<HeadBucketOutput> {
        self.store.check_bucket(bucket)?;
        let region = s3s::region::Region::new(REGION.into()).ok();
        Ok(HeadBucketOutput { bucket_region: region.map(|it| it.as_str().into()), ..Default::default() })
    }

    pub(super) fn bucket_create(&self, bucket: &str) -> S3Result<CreateBucketOutput> {
        self.store.create_bucket(bucket)?;
        Ok(CreateBucketOutput { location: Some(format!("/{bucket}")) })
    }

    pub(super) fn bucket_versioning(&self, bucket: &str) -> S3Result<GetBucketVersioningOutput> {
        let status = match self.store.versioning(bucket)? {
            Versioning::Off => None,
            Versioning::Enabled => Some(BucketVersioningStatus::ENABLED),
            Versioning::Suspended => Some(BucketVersioningStatus::SUSPENDED),
        };
        Ok(GetBucketVersioningOutput {
            status: status.map(BucketVersioningStatus::from_static),
            mfa_delete: None,
        })
    }

    pub(super) fn set_bucket_versioning(
        &self,
        input: &PutBucketVersioningInput,
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
