//! Files that are flushed and closed.
//!
//! What must hold: the last one to close a file leaves nothing behind; what nobody will ask for any more is stored, or
//! kept.

use std::sync::Arc;

use super::draft::Draft;
use super::handles::Handle;
use super::record::Life;
use super::writing::Writing;
use crate::error::FsError;
use crate::wire::Uncertain;

impl Writing {
    /// Waits until the store has what was written.
    ///
    /// # Errors
    ///
    /// As [`commit`](Self::commit).
    pub async fn flush(&self, ino: u64) -> Result<(), FsError> {
        let Some(draft) = self.draft(ino) else { return Ok(()) };
        let outcome = self.commit(&draft).await;
        if let Err(error) = &outcome {
            {
                let mut state = draft.state();
                state.refused = Some(error.to_string());
                if let Err(error) = draft.note_all(&state) {
                    tracing::debug!(error = %error, "a successor would ask the store once more");
                }
            }
            // What was lost has no name any more.
            if !matches!(error, FsError::Lost) {
                self.refused.note(ino, draft.state().path.clone());
                // Before whoever closes it is told: from then on the name is looked up anew.
                self.tree.invalidate(ino).await;
            }
        }
        outcome
    }

    /// Whether a handle cannot have changed anything.
    pub fn only_reads(&self, handle: u64) -> bool {
        self.handles().only_reads(handle)
    }

    /// Whether flushing the file would do nothing.
    pub fn is_clean(&self, ino: u64) -> bool {
        self.draft(ino).is_none_or(|draft| {
            let state = draft.state();
            !state.is_dirty() && !matches!(state.life, Life::Lost { .. })
        })
    }

    /// Closes a file: what pages of a mapping brought since it was flushed is stored now.
    pub async fn release(&self, handle: u64) {
        let Some(Handle { ino, .. }) = self.handles().close(handle) else { return };
        if let Some(draft) = self.draft(ino) {
            self.end(&draft).await;
        }
    }

    /// Stores what is left of a draft that nobody has open for writing any more, and lets it go.
    pub(super) async fn end(&self, draft: &Arc<Draft>) {
        if self.handles().writers(draft.ino) == 0 && draft.state().is_dirty() {
            self.store_at_last(draft).await;
        }
        self.retire(draft).await;
        if self.handles().writers(draft.ino) == 0 {
            self.refused.end(draft.ino);
        }
    }

    /// Stores what nobody will ask for any more, or keeps it. What the store has refused is not asked for again:
    /// somebody was told that it is not stored.
    pub(super) async fn store_at_last(&self, draft: &Draft) {
        let refused = draft.state().refused.clone();
        let refused = match refused {
            Some(reason) => Some(reason),
            None => self.commit(draft).await.err().map(|error| error.to_string()),
        };
        if let Some(reason) = refused {
            {
                let _one = draft.commits.lock().await;
                self.keep_unstored(draft, draft.state(), &reason);
            }
            self.refused.end(draft.ino);
            self.tree.invalidate(draft.ino).await;
        }
    }

    /// A request that leaves so much of a file uncertain is not done again: what was written is kept and not stored, and
    /// whoever writes, flushes or closes it from now on is told.
    pub fn give_up(&self, ino: u64, what: Uncertain) {
        let Some(draft) = self.draft(ino) else { return };
        let state = draft.state();
        if what == Uncertain::Content || state.is_dirty() {
            self.keep_unstored(&draft, state, &FsError::Deadly.to_string());
            let tree = self.tree.clone();
            self.tree.runtime().spawn(async move { tree.invalidate(ino).await });
        }
    }

    /// Lets a draft go that nobody needs any more.
    pub(super) async fn retire(&self, draft: &Arc<Draft>) {
        let _one = draft.commits.lock().await;
        let (life, is_dirty) = {
            let state = draft.state();
            (state.life.clone(), state.is_dirty())
        };
        let gives_up = {
            let mut drafts = self.drafts();
            let handles = self.handles();
            let is_needed = match life {
                Life::Orphan => handles.users(draft.ino) > 0,
                Life::Named => handles.writers(draft.ino) > 0 || is_dirty,
                Life::Lost { .. } => handles.writers(draft.ino) > 0,
            };
            if is_needed {
                return;
            }
            drafts.remove(&draft.ino).is_some()
        };
        if gives_up {
            self.give_up_upload(draft).await;
        }
    }
}
