//! Counts every attempt of every request to a bucket, by what it asks, how long its answer takes and how it ends.

use std::sync::Arc;

use aws_sdk_s3::config::interceptors::{BeforeTransmitInterceptorContextRef, FinalizerInterceptorContextRef};
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_smithy_runtime_api::client::orchestrator::Metadata;
use aws_smithy_types::config_bag::{Storable, StoreReplace};
use tokio::time::Instant;

use crate::measure::{Ending, Question, Requests};

/// Counts into the counters of its bucket.
#[derive(Debug)]
pub(super) struct Counted(pub Arc<Requests>);

/// When the attempt that is under way was sent.
#[derive(Debug)]
struct Sent(Instant);

impl Storable for Sent {
    type Storer = StoreReplace<Sent>;
}

impl Intercept for Counted {
    fn name(&self) -> &'static str {
        "Counted"
    }

    fn read_before_transmit(
        &self,
        _context: &BeforeTransmitInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        config.interceptor_state().store_put(Sent(Instant::now()));
        Ok(())
    }

    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        // Without it nothing was sent: no credentials, for one.
        let Some(Sent(sent)) = config.load::<Sent>() else { return Ok(()) };
        let question =
            config.load::<Metadata>().map_or(Question::Other, |operation| question(operation.name()));
        let status = context.response().map(|response| response.status().as_u16());
        self.0.note(question, sent.elapsed(), Ending::of_status(status));
        config.interceptor_state().unset::<Sent>();
        Ok(())
    }
}

/// What an operation of S3 is counted as.
fn question(operation: &str) -> Question {
    match operation {
        "GetObject" => Question::Get,
        "HeadObject" | "HeadBucket" => Question::Head,
        "ListObjectsV2" | "ListObjectVersions" | "ListMultipartUploads" | "ListParts" => Question::List,
        "PutObject" | "UploadPart" | "CreateMultipartUpload" | "CompleteMultipartUpload" => Question::Put,
        "CopyObject" | "UploadPartCopy" => Question::Copy,
        "DeleteObject" | "DeleteObjects" | "AbortMultipartUpload" => Question::Delete,
        _ => Question::Other,
    }
}
