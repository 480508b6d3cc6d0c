//! The store as the requests of a connection reach it.

use s3s::{S3Error, S3Result};

use crate::store::Store;

#[derive(Debug, Clone)]
pub(crate) struct Protocol {
    pub(super) store: Store,
}

impl Protocol {
    pub fn new(store: Store) -> Self {
        Self { store }
    }

    /// Does `work` on the store: at once in memory, on a thread that may wait over a directory.
    pub(super) async fn on_store<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> S3Result<T> + Send + 'static,
    ) -> S3Result<T> {
        if !self.store.waits_for_disk() {
            return work(&self.store);
        }
        let store = self.store.clone();
        match tokio::task::spawn_blocking(move || work(&store)).await {
            Ok(done) => done,
            Err(error) => Err(S3Error::internal_error(error)),
        }
    }
}
