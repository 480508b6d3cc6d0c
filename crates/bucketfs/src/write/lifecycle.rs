//! How the writing half of a mount begins and ends, and what it clears of those before it.
//!
//! What must hold: what a process has left behind is somebody's who may go on with it, until its lock is held here; the
//! file of an upload is removed only once the store has let the upload go.

use std::sync::Arc;
use std::time::Duration;

use super::draft::Draft;
use super::handles::Handles;
use super::options::WriteOptions;
use super::record;
use super::stage::{LeftBehind, Owner, Staging};
use super::writing::Writing;
use crate::store::write::Upload;
use crate::tree::Tree;

/// After which nobody goes on any more with what another mount of the same source has left behind.
const OTHERS_WAIT: Duration = Duration::from_secs(60);
/// How long a mount waits for what was left behind to be dealt with.
const CLEAR_PATIENCE: Duration = Duration::from_secs(5);

impl Writing {
    /// Sets up the staging directory, and has what an earlier process left there cleared.
    ///
    /// # Errors
    ///
    /// That of the staging directory.
    pub fn new(
        tree: Arc<Tree>,
        options: &WriteOptions,
        owner: Owner,
        memory_bytes: u64,
    ) -> std::io::Result<Arc<Writing>> {
        let staging = Staging::open(&options.staging, &owner)?;
        let handles = Handles::begin(&staging.handles())?;
        let writing = Writing::with(tree, options, owner, memory_bytes, (staging, handles));
        writing.clear_later();
        Ok(writing)
    }

    /// Has cleared what processes left behind that have died: of this mount at once; of others of the same source only
    /// once whoever goes on with them has had the time to say so.
    pub(super) fn clear_later(self: &Arc<Self>) {
        let this = Arc::downgrade(self);
        self.tree.runtime().spawn(async move {
            for wait in [Duration::ZERO, OTHERS_WAIT] {
                tokio::time::sleep(wait).await;
                let Some(this) = this.upgrade() else { return };
                let is_ours = |owner: &Owner| *owner == this.owner;
                let is_of_source = |owner: &Owner| owner.source == this.owner.source;
                let left = match wait.is_zero() {
                    true => this.staging.left_behind(is_ours),
                    false => this.staging.left_behind(is_of_source),
                };
                this.clear(left).await;
                this.is_cleared.send_replace(true);
            }
        });
    }

    /// Waits until what processes of this mount have left behind has been dealt with, but no longer than that may take:
    /// a small move is finished before anybody looks.
    pub async fn cleared(&self) {
        let mut is_cleared = self.is_cleared.subscribe();
        let _ = tokio::time::timeout(CLEAR_PATIENCE, is_cleared.wait_for(|is_cleared| *is_cleared)).await;
    }

    /// Stores all that has changed and is not stored yet, or keeps it: for the end of a mount.
    pub async fn finish(&self) {
        let drafts: Vec<Arc<Draft>> = self.drafts().values().cloned().collect();
        for draft in drafts.iter().filter(|draft| draft.state().is_dirty()) {
            self.store_at_last(draft).await;
        }
    }

    /// Aborts the uploads of processes that have died, and takes their files away.
    async fn clear(&self, left: Vec<LeftBehind>) {
        for left in left {
            let Some(records) = left.records() else { continue };
            let mut is_clear = true;
            for (unfinished, noted) in left.moves() {
                let _names = self.names.write().await;
                match self.finish_move(&unfinished).await {
                    Ok(_) => noted.end(),
                    Err(error) => {
                        is_clear = false;
                        tracing::warn!(error = %error, "a move stays unfinished until the next start");
                    }
                }
            }
            for record::Upload { key, id, .. } in records.into_iter().filter_map(|record| record.upload) {
                let aborted = self.store().abort_upload(Upload { key: &key, id: &id }).await;
                is_clear &= aborted.is_ok();
                tracing::info!(key, ok = aborted.is_ok(), "aborted an upload that was left behind");
            }
            if is_clear && let Err(error) = left.clear() {
                tracing::warn!(error = %error, "cannot clear what was left behind");
            }
        }
    }
}
