//! What the host says of itself to those who look at it from outside: the tag `mapkeeper:state` of the instance.
//!
//! ```text
//!   health changes --> wait a moment --> ec2:CreateTags --> next change
//!                                             |--not allowed--> said once, never tried again
//!                                             +--failed-------> later again, with what is true then
//! ```

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use crate::agent::status::{Document, word};
use crate::config::STATE_TAG;
use crate::error::Chain;
use crate::host::instance::{Metadata, TagsError, write_tags};

/// Changes that follow each other faster are one.
const SETTLE: Duration = Duration::from_secs(2);
/// Time until the next attempt after one that failed.
const RETRY: Duration = Duration::from_secs(60);

/// Keeps the tag at the health of the newest document. Never ends while there may be one more.
pub(super) async fn follow(mut documents: watch::Receiver<Option<Arc<Document>>>) {
    let metadata = Metadata::from_environment();
    if !metadata.is_expected() {
        return std::future::pending().await;
    }
    let mut written = None;
    loop {
        let differs = |document: &Option<Arc<Document>>| {
            document.as_ref().is_some_and(|document| Some(word(&document.health)) != written)
        };
        if documents.wait_for(differs).await.is_err() {
            return std::future::pending().await;
        }
        sleep(SETTLE).await;
        let Some(health) = documents.borrow().as_ref().map(|document| word(&document.health)) else {
            continue;
        };
        match write(&metadata, &health).await {
            Ok(()) => written = Some(health),
            Err(error) if error.is_denied() => {
                tracing::warn!(error = %Chain(&error), tag = STATE_TAG, "the instance is not tagged");
                return std::future::pending().await;
            }
            Err(error) => {
                tracing::info!(error = %Chain(&error), tag = STATE_TAG, "the instance is not tagged now");
                sleep(RETRY).await;
            }
        }
    }
}

async fn write(metadata: &Metadata, health: &str) -> Result<(), TagsError> {
    let unknown = |source| TagsError::Instance { source };
    let (region, id) = (metadata.region().await.map_err(unknown)?, metadata.id().await.map_err(unknown)?);
    write_tags(&region, &id, &[(STATE_TAG, health)]).await
}
