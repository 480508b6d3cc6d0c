//! What one key holds, asked by itself.
//!
//! What must hold: one request, which brings the bytes of a small object along with its headers; absence is an answer and
//! no error.

use std::ops::Range;

use crate::fs::cache::BLOCK;
use crate::fs::store::{Body, Condition, Fetch, Fetched, Object, StoreError, Version};
use crate::fs::tree::Tree;

/// What a key holds.
pub(super) enum First {
    Object(Object, Option<(Range<u64>, Body)>),
    Unchanged { last_modified: Option<i64> },
    Absent,
}

impl Tree {
    /// What a key holds, with all its bytes if it is still `version`, which is small: a whole object has a checksum.
    pub(super) async fn whole(&self, key: &str, version: &Version) -> Result<First, StoreError> {
        let condition = Condition::Unchanged(version.etag.clone());
        match self.fetched(Fetch { key, range: None, condition, version_id: None }).await {
            Err(StoreError::Changed { .. }) => self.first(key, Condition::Always).await,
            answer => answer,
        }
    }

    /// What a key holds, with its first bytes if they can be had.
    pub(super) async fn first(&self, key: &str, condition: Condition) -> Result<First, StoreError> {
        self.fetched(Fetch { key, range: Some(0..BLOCK), condition, version_id: None }).await
    }

    async fn fetched(&self, fetch: Fetch<'_>) -> Result<First, StoreError> {
        let key = fetch.key;
        let answer = match self.store().fetch(fetch).await {
            Ok(Fetched::Content { object, range, body }) => {
                return Ok(First::Object(object, Some((range, body))));
            }
            Ok(Fetched::NotModified { last_modified }) => return Ok(First::Unchanged { last_modified }),
            // Empty, archived, not to be decrypted, answered by nonsense: its headers may be had all the same.
            Err(error) if error.is_about_one() => {
                self.store().head(key).await.map(|object| First::Object(object, None))
            }
            Err(error) => Err(error),
        };
        match answer {
            Err(StoreError::NotFound { .. }) => Ok(First::Absent),
            answer => answer,
        }
    }
}
