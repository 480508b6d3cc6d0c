//! What one key holds, asked by itself.
//!
//! What must hold: one request, which brings the bytes of a small object along with its headers; absence is an answer and
//! no error; what the store will not speak of is there if a listing shows it.

use std::ops::Range;

use tokio::time::Instant;

use super::{Answer, Outcome, listed_version};
use crate::cache::BLOCK;
use crate::inode::Facts;
use crate::store::{Body, Condition, Depth, Fetch, Fetched, List, ListStart, Object, StoreError, Version};
use crate::tree::Tree;

/// What a key holds.
pub(super) enum KeyProbe {
    Object(Object, Option<(Range<u64>, Body)>),
    Unchanged { last_modified: Option<i64> },
    Absent,
}

impl Tree {
    /// What a key holds, with all its bytes if it is still `version`, which is small: a whole object has a checksum.
    pub(super) async fn whole(&self, key: &str, version: &Version) -> Result<KeyProbe, StoreError> {
        let condition = Condition::Unchanged(version.etag.clone());
        match self.fetched(Fetch { key, range: None, condition, version_id: None }).await {
            Err(StoreError::Changed { .. }) => self.first(key, Condition::Always).await,
            answer => answer,
        }
    }

    /// What a key holds, with its first bytes if they can be had.
    pub(super) async fn first(&self, key: &str, condition: Condition) -> Result<KeyProbe, StoreError> {
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

    /// What `path` is whose key cannot be asked about: whether anything is there, a listing says.
    pub(super) async fn unasked(
        &self,
        path: &str,
        key: &str,
        sent_at: Instant,
        error: StoreError,
    ) -> Outcome {
        let is_said = matches!(error, StoreError::Denied { .. } | StoreError::KeyTooLong { .. });
        if is_said || !error.is_about_one() {
            return Err(error);
        }
        let list = List { prefix: key, depth: Depth::Tree, from: ListStart::Start, limit: 1 };
        match self.store().list(list).await?.objects.into_iter().find(|listed| listed.key == key) {
            Some(listed) => {
                let facts = Facts::listed(listed_version(&listed), listed.size, false);
                self.even_if_unreadable(path, facts, sent_at, Err(error))
            }
            None => {
                self.table().record_absent(path, sent_at);
                Ok(Answer { found: None, sent_at })
            }
        }
    }
}
