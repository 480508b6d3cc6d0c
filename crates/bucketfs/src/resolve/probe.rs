//! What one key holds, asked by itself.
//!
//! What must hold: one request, which brings the bytes of a small object along with its headers; absence is an answer and
//! no error; what the store will not speak of is there if a listing shows it.

use super::answer::KeyProbe;
use crate::cache::BLOCK;
use crate::store::{Condition, Fetch, Fetched, StoreError, Version};
use crate::tree::Tree;

impl Tree {
    /// What a key holds, with all its bytes if it is still `version`, which is small: a whole object has a checksum.
    pub(crate) async fn whole(&self, key: &str, version: &Version) -> Result<KeyProbe, StoreError> {
        let condition = Condition::Unchanged(version.etag.clone());
        match self.fetched(Fetch { key, range: None, condition, version_id: None }).await {
            Err(StoreError::Changed { .. }) => self.first(key, Condition::Always).await,
            answer => answer,
        }
    }

    /// What a key holds, with its first bytes if they can be had.
    pub(crate) async fn first(&self, key: &str, condition: Condition) -> Result<KeyProbe, StoreError> {
        self.fetched(Fetch { key, range: Some(0..BLOCK), condition, version_id: None }).await
    }

    async fn fetched(&self, fetch: Fetch<'_>) -> Result<KeyProbe, StoreError> {
        let key = fetch.key;
        let answer = match self.store().fetch(fetch).await {
            Ok(Fetched::Content { object, range, body }) => {
                return Ok(KeyProbe::Object(object, Some((range, body))));
            }
            Ok(Fetched::NotModified { last_modified }) => return Ok(KeyProbe::Unchanged { last_modified }),
            // Empty, archived, not to be decrypted, answered by nonsense: its headers may be had all the same.
            Err(error) if error.is_about_one() => {
                self.store().head(key).await.map(|object| KeyProbe::Object(object, None))
            }
            Err(error) => Err(error),
        };
        match answer {
            Err(StoreError::NotFound { .. }) => Ok(KeyProbe::Absent),
            answer => answer,
        }
    }
}
