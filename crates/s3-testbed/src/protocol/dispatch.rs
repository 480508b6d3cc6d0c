//! Each operation of S3, given to the method that knows it.

use s3s::dto::*;
use s3s::{S3, S3Request, S3Response, S3Result};

use super::adapter::Protocol;

/// Has S3's operations answered by methods of [`Protocol`]: `operation(Input) -> Output: method`.
macro_rules! operations {
    (
        of the decoded request: { $($operation:ident($input:ty) -> $output:ty: $method:ident;)* }
        of the request with its headers: { $($whole:ident($of:ty) -> $answer:ty: $by:ident;)* }
    ) => {
        #[async_trait::async_trait]
        impl S3 for Protocol {
            $(async fn $operation(&self, req: S3Request<$input>) -> S3Result<S3Response<$output>> {
                self.$method(req.input).await.map(S3Response::new)
            })*

            $(async fn $whole(&self, req: S3Request<$of>) -> S3Result<S3Response<$answer>> {
                self.$by(req).await.map(S3Response::new)
            })*

            async fn head_object(&self, req: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
                self.head(req.input).await
            }
        }
    };
}

operations! {
    of the decoded request: {
        get_object(GetObjectInput) -> GetObjectOutput: get;
        delete_object(DeleteObjectInput) -> DeleteObjectOutput: delete;
        delete_objects(DeleteObjectsInput) -> DeleteObjectsOutput: delete_many;
        get_object_tagging(GetObjectTaggingInput) -> GetObjectTaggingOutput: tags;
        list_objects_v2(ListObjectsV2Input) -> ListObjectsV2Output: list_v2;
        list_objects(ListObjectsInput) -> ListObjectsOutput: list_v1;
        list_object_versions(ListObjectVersionsInput) -> ListObjectVersionsOutput: list_versions;
        create_multipart_upload(CreateMultipartUploadInput) -> CreateMultipartUploadOutput: create_upload;
        upload_part_copy(UploadPartCopyInput) -> UploadPartCopyOutput: copy_part;
        complete_multipart_upload(CompleteMultipartUploadInput) -> CompleteMultipartUploadOutput: complete_upload;
        abort_multipart_upload(AbortMultipartUploadInput) -> AbortMultipartUploadOutput: abort_upload;
        list_multipart_uploads(ListMultipartUploadsInput) -> ListMultipartUploadsOutput: list_uploads;
        list_parts(ListPartsInput) -> ListPartsOutput: list_parts_of;
        list_buckets(ListBucketsInput) -> ListBucketsOutput: buckets;
        head_bucket(HeadBucketInput) -> HeadBucketOutput: bucket_head;
        create_bucket(CreateBucketInput) -> CreateBucketOutput: bucket_create;
        delete_bucket(DeleteBucketInput) -> DeleteBucketOutput: bucket_delete;
        get_bucket_location(GetBucketLocationInput) -> GetBucketLocationOutput: bucket_location;
        get_bucket_versioning(GetBucketVersioningInput) -> GetBucketVersioningOutput: bucket_versioning;
        put_bucket_versioning(PutBucketVersioningInput) -> PutBucketVersioningOutput: set_bucket_versioning;
    }
    of the request with its headers: {
        put_object(PutObjectInput) -> PutObjectOutput: put;
        copy_object(CopyObjectInput) -> CopyObjectOutput: copy;
        upload_part(UploadPartInput) -> UploadPartOutput: add_part;
    }
}
