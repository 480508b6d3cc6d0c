//! A file that is about to lose its name, and those who have it open.
//!
//! ```text
//!   prepared: all bytes on disk, nobody stores it --> the store is asked --> agreed: an orphan, on disk only
//!                                                                      '--> refused: what it was
//! ```
//!
//! What must hold: nothing is forgotten before the store has agreed; after a refusal the file is stored as if nobody had
//! asked.

use std::sync::Arc;

use tokio::sync::OwnedMutexGuard;

use super::draft::Draft;
use super::record::Life;
use super::writing::Writing;
use crate::error::FsError;

/// A file whose name the store is being asked for. As long as it is held, the file is not stored.
pub(super) struct Leaving {
    pub draft: Arc<Draft>,
    _one: OwnedMutexGuard<()>,
}

impl Writing {
    /// Sees to it that those who have a file open can keep it when its name goes. `None`: nobody has.
    ///
    /// # Errors
    ///
    /// That of the disk; whatever reading the object meets. Nothing has changed then.
    pub(super) async fn prepare_to_leave(&self, ino: u64) -> Result<Option<Leaving>, FsError> {
        let draft = match self.draft(ino) {
            Some(draft) => draft,
            None if self.handles().users(ino) > 0 => self.draft_of(ino).await?,
            None => return Ok(None),
        };
        let one = draft.commits.clone().lock_owned().await;
        let leaving = Leaving { draft, _one: one };
        match self.hydrate_all(&leaving.draft).await {
            Ok(()) => Ok(Some(leaving)),
            Err(error) => {
                self.stay(Some(leaving)).await;
                Err(error)
            }
        }
    }

    async fn hydrate_all(&self, draft: &Draft) -> Result<(), FsError> {
        if self.handles().users(draft.ino) > 0 {
            if !draft.state().extents.all_released().is_empty() {
                self.commit_locked(draft).await?;
            }
            let size = draft.state().extents.size;
            draft.hydrate(0..size).await?;
        }
        // A successor does not know whether the store has agreed; it is asked for the same once more.
        let state = draft.state();
        if state.life == Life::Named { draft.note_as(&state, Life::Orphan) } else { Ok(()) }
    }

    /// The name is gone: the file lives as long as somebody has it open.
    pub(super) async fn leave_name(&self, leaving: Option<Leaving>) {
        let Some(Leaving { draft, _one }) = leaving else { return };
        {
            let mut state = draft.state();
            if state.life == Life::Named {
                state.life = Life::Orphan;
            }
            if let Err(error) = draft.note_all(&state) {
                tracing::debug!(error = %error, "a successor would ask for a name that is gone");
            }
            self.tree.show(draft.ino, &state);
        }
        self.give_up_upload(&draft).await;
        drop(_one);
        self.retire(&draft).await;
    }

    /// The name stays.
    pub(super) async fn stay(&self, leaving: Option<Leaving>) {
        let Some(Leaving { draft, _one }) = leaving else { return };
        {
            let mut state = draft.state();
            if state.life == Life::Orphan {
                state.life = Life::Named;
            }
            if let Err(error) = draft.note_all(&state) {
                tracing::debug!(error = %error, "a successor would take a file for one without a name");
            }
        }
        drop(_one);
        self.retire(&draft).await;
    }
}
