//! What only a person's command asks: who wrote an object and when, as far as S3 knows, and what time S3 has.
//!
//! Versions need `s3:ListBucketVersions`; without that right, or without versions, `s3:ListBucket` shows the owner.

use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};
use aws_sdk_s3::types::Owner;

use super::client::S3;
use crate::store::error::StoreError;

/// Most versions that are looked at.
const VERSIONS: i32 = 100;

/// One thing that was done to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// `None`: the bucket keeps no versions.
    pub version_id: Option<String>,
    /// Whole seconds since the epoch.
    pub at: i64,
    /// Name of the account that did it, else its number.
    pub author: Option<String>,
    /// It was deleted, not written.
    pub deleted: bool,
}

impl S3 {
    /// What was done to `key`, the newest first. Empty: nothing was ever, or it may not be asked.
    ///
    /// # Errors
    ///
    /// When the store cannot be asked.
    pub async fn history(&self, key: &str) -> Result<Vec<Change>, StoreError> {
        let asked = self.client.list_object_versions().bucket(&self.bucket).prefix(key).max_keys(VERSIONS);
        let answer = match asked.send().await.map_err(|error| self.failure(&error, key)) {
            Err(StoreError::Denied { .. } | StoreError::Refused { .. }) => return self.owner(key).await,
            answer => answer?,
        };
        let version = |id: Option<String>| id.filter(|id| id != "null");
        let written = answer.versions.unwrap_or_default().into_iter().filter(|one| one.key() == Some(key));
        let written = written.map(|one| Change {
            at: one.last_modified().map_or(0, DateTime::secs),
            author: author(one.owner()),
            deleted: false,
            version_id: version(one.version_id),
        });
        let deleted =
            answer.delete_markers.unwrap_or_default().into_iter().filter(|one| one.key() == Some(key));
        let deleted = deleted.map(|one| Change {
            at: one.last_modified().map_or(0, DateTime::secs),
            author: author(one.owner()),
            deleted: true,
            version_id: version(one.version_id),
        });
        let mut changes: Vec<Change> = written.chain(deleted).collect();
        // Stable: of one second, S3's own order stays.
        changes.sort_by_key(|change| std::cmp::Reverse(change.at));
        Ok(changes)
    }

    /// What time the store says it is, whole seconds since the epoch: in its answer to a question about `absent`, a key
    /// that nobody has. `None`: it does not say.
    ///
    /// # Errors
    ///
    /// When the store does not answer.
    pub async fn clock(&self, absent: &str) -> Result<Option<i64>, StoreError> {
        let answer = self.client.head_object().bucket(&self.bucket).key(absent).send().await;
        let Err(error) = answer else { return Ok(None) };
        let date = error.raw_response().and_then(|response| response.headers().get("date"));
        match date.and_then(|text| DateTime::from_str(text, DateTimeFormat::HttpDate).ok()) {
            Some(time) => Ok(Some(time.secs())),
            None if error.raw_response().is_some() => Ok(None),
            None => Err(self.failure(&error, absent)),
        }
    }

    async fn owner(&self, key: &str) -> Result<Vec<Change>, StoreError> {
        let asked =
            self.client.list_objects_v2().bucket(&self.bucket).prefix(key).max_keys(1).fetch_owner(true);
        let answer = match asked.send().await.map_err(|error| self.failure(&error, key)) {
            Err(StoreError::Denied { .. }) => return Ok(Vec::new()),
            answer => answer?,
        };
        let found = answer.contents.unwrap_or_default().into_iter().filter(|one| one.key() == Some(key));
        let change = found.map(|one| Change {
            version_id: None,
            at: one.last_modified().map_or(0, DateTime::secs),
            author: author(one.owner()),
            deleted: false,
        });
        Ok(change.collect())
    }
}

fn author(owner: Option<&Owner>) -> Option<String> {
    let owner = owner?;
    owner.display_name().or(owner.id()).filter(|name| !name.is_empty()).map(str::to_owned)
}
