//! Tags of the instance by the EC2 API, for when the metadata service does not offer them, and for writing.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_ec2::Client;
use aws_sdk_ec2::error::ProvideErrorMetadata;
use aws_sdk_ec2::types::{Filter, Tag};
use tokio::time::timeout;

use super::error::InstanceError;
use crate::aws;
use crate::error::Chain;

/// Longest wait for one answer of the API.
const LIMIT: Duration = Duration::from_secs(30);

/// Why tags were not read or written.
#[derive(Debug, thiserror::Error)]
pub enum TagsError {
    #[error(transparent)]
    Instance { source: InstanceError },
    #[error("{action} is not allowed")]
    Denied { action: &'static str },
    #[error("{action} failed: {reason}")]
    Failed { action: &'static str, reason: String },
    #[error("{action} gave no answer within {} s", LIMIT.as_secs())]
    Silent { action: &'static str },
}

impl TagsError {
    /// Whether a permission is missing, which no waiting cures.
    pub fn is_denied(&self) -> bool {
        matches!(self, TagsError::Denied { .. })
    }

    fn of<E>(action: &'static str, error: E) -> TagsError
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        match error.code() {
            Some("UnauthorizedOperation" | "AccessDenied" | "AccessDeniedException") => {
                TagsError::Denied { action }
            }
            _ => TagsError::Failed { action, reason: Chain(&error).to_string() },
        }
    }
}

/// The tags of instance `id` whose names begin with `prefix`.
pub(super) async fn read_tags(
    region: &str,
    id: &str,
    prefix: &str,
) -> Result<BTreeMap<String, String>, TagsError> {
    const ACTION: &str = "ec2:DescribeTags";
    let client = Client::new(&aws::sdk_config(Some(region), None, None).await);
    let mut tags = BTreeMap::new();
    let mut page: Option<String> = None;
    loop {
        let of_instance = Filter::builder().name("resource-id").values(id).build();
        let request = client.describe_tags().filters(of_instance).set_next_token(page).send();
        let answer = timeout(LIMIT, request).await.map_err(|_| TagsError::Silent { action: ACTION })?;
        let answer = answer.map_err(|error| TagsError::of(ACTION, error))?;
        for tag in answer.tags() {
            if let (Some(name), Some(value)) = (tag.key(), tag.value())
                && name.starts_with(prefix)
            {
                tags.insert(name.to_owned(), value.to_owned());
            }
        }
        page = answer.next_token().filter(|token| !token.is_empty()).map(str::to_owned);
        if page.is_none() {
            return Ok(tags);
        }
    }
}

/// Sets tags of instance `id`.
///
/// # Errors
///
/// [`TagsError::Denied`] without the permission; anything else may pass.
pub async fn write_tags(region: &str, id: &str, tags: &[(&str, &str)]) -> Result<(), TagsError> {
    const ACTION: &str = "ec2:CreateTags";
    let client = Client::new(&aws::sdk_config(Some(region), None, None).await);
    let tags = tags.iter().map(|(name, value)| Tag::builder().key(*name).value(*value).build()).collect();
    let request = client.create_tags().resources(id).set_tags(Some(tags)).send();
    let answer = timeout(LIMIT, request).await.map_err(|_| TagsError::Silent { action: ACTION })?;
    answer.map(|_| ()).map_err(|error| TagsError::of(ACTION, error))
}

/// Ends instance `id` for good; in a dry run only asks whether that would be allowed.
///
/// # Errors
///
/// [`TagsError::Denied`] without the permission; anything else may pass.
pub async fn terminate(region: Option<&str>, id: &str, dry_run: bool) -> Result<(), TagsError> {
    const ACTION: &str = "ec2:TerminateInstances";
    let client = Client::new(&aws::sdk_config(region, None, None).await);
    let request = client.terminate_instances().instance_ids(id).dry_run(dry_run).send();
    match timeout(LIMIT, request).await.map_err(|_| TagsError::Silent { action: ACTION })? {
        Ok(_) => Ok(()),
        // EC2's way to say that it would have done it.
        Err(error) if dry_run && error.code() == Some("DryRunOperation") => Ok(()),
        Err(error) => Err(TagsError::of(ACTION, error)),
    }
}
