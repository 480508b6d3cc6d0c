//! The client of one bucket: how it is reached, and how patiently.

use std::sync::Arc;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_s3::Client;

use super::knowledge::Knowledge;
use super::{answer, counted, key, pace};
use crate::measure;
use crate::store::write::NewContent;

/// Longest wait for a connection.
pub(super) const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// Longest wait of one attempt for the first byte of an answer.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(8);
/// Longest wait for the first byte of an answer, all attempts and the pauses between them together.
pub const OPERATION_LIMIT: Duration = Duration::from_secs(20);

/// Where a bucket is and how it is addressed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// Another server than AWS, `http://host:port`.
    pub url: Option<String>,
    /// Bucket in the path instead of the host name.
    pub path_style: bool,
}

/// One bucket.
#[derive(Clone, Debug)]
pub struct S3 {
    pub(super) client: Client,
    /// The same with more patience, for requests that move bytes.
    pub(super) writer: Client,
    pub(super) bucket: String,
    /// For messages.
    pub(super) endpoint: String,
    pub(super) new_content: Arc<NewContent>,
    /// Of what it does with conditions.
    pub(super) knowledge: Arc<Knowledge>,
}

impl S3 {
    /// A bucket reached with the region, credentials and connections of `config`.
    pub fn new(config: &SdkConfig, endpoint: &Endpoint, bucket: &str) -> S3 {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_LIMIT)
            .operation_attempt_timeout(ATTEMPT_LIMIT)
            .operation_timeout(OPERATION_LIMIT)
            .build();
        let mut builder = aws_sdk_s3::config::Builder::from(config)
            .force_path_style(endpoint.path_style)
            .timeout_config(timeouts)
            .interceptor(key::Blanks)
            .interceptor(key::Length)
            .interceptor(answer::Sound)
            .retry_classifier(answer::RefusedOnce)
            .retry_classifier(answer::AtTheSameMoment)
            .interceptor(counted::Counted(measure::requests(bucket)))
            .retry_partition(pace::uncounted())
            .retry_config(pace::of_questions());
        if let Some(client) = config.http_client() {
            builder = builder.http_client(pace::paced(client, Arc::default()));
        }
        builder.set_endpoint_url(endpoint.url.clone().or_else(|| config.endpoint_url().map(str::to_string)));
        let region = config.region().map_or("us-east-1", |region| region.as_ref());
        let shown = endpoint.url.clone().unwrap_or_else(|| format!("https://s3.{region}.amazonaws.com"));
        let patient = builder.clone().timeout_config(write_timeouts()).retry_config(pace::of_writes());
        let url = endpoint.url.as_deref().or(config.endpoint_url());
        S3 {
            client: Client::from_conf(builder.build()),
            writer: Client::from_conf(patient.build()),
            bucket: bucket.to_string(),
            knowledge: Arc::new(Knowledge::of(url)),
            endpoint: shown,
            new_content: Arc::default(),
        }
    }

    /// The same, which says with each write how it is to be kept.
    pub fn with_new_content(self, new_content: NewContent) -> S3 {
        S3 { new_content: Arc::new(new_content), ..self }
    }

    /// The region in which it is asked.
    pub fn region(&self) -> Option<String> {
        self.client.config().region().map(ToString::to_string)
    }
}

/// Longest wait for a write, all attempts together.
const WRITE_LIMIT: Duration = Duration::from_secs(180);

/// The limits of requests that carry bytes, or make the store move some.
fn write_timeouts() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(CONNECT_LIMIT)
        .operation_attempt_timeout(WRITE_ATTEMPT_LIMIT)
        .operation_timeout(WRITE_LIMIT)
        .build()
}

/// Longest wait for one attempt of a write: a part of a large file takes its time on a slow line.
const WRITE_ATTEMPT_LIMIT: Duration = Duration::from_secs(60);
