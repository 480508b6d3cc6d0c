//! A file that is about to lose its name, and those who have it open.
//!
//! ```text
//!   prepared: all bytes on disk, nobody stores it --> the store is asked --> agreed: an orphan
//!                                                                      '--> refused: what it was
//! ```
//!
//! What must hold: nothing is forgotten before the store has agreed; after a refusal the file is stored as if nobody had
//! asked; no more is brought to disk than there is room for, and nothing where the bucket keeps the version.

use std::sync::Arc;

use tokio::sync::OwnedMutexGuard;

use super::draft::Draft;
use super::record::Life;
use super::state::Base;
use super::writing::Writing;
use crate::error::FsError;
use crate::store::{Condition, Fetch, Version};

/// The version id of what a bucket without versions, or one that keeps no more of them, replaces and deletes.
const NOT_KEPT: &str = "null";

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
    /// [`FsError::NoRoom`]; that of the disk; whatever reading the object meets. Nothing has changed then.
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
            let (size, is_whole, base) = {
                let state = draft.state();
                let size = state.extents.size;
                (size, state.extents.missing(0..size).is_empty(), state.base.clone())
            };
            if !is_whole && !self.is_kept_by_the_bucket(draft, base).await {
                self.hydrate(draft, 0..size).await?;
            }
        }
        let state = draft.state();
        if state.life == Life::Named { draft.note_leaving(&state) } else { Ok(()) }
    }

    /// Whether the version that a draft changes can be read when its key has another one, or none. Not everybody who may
    /// read an object may read its versions, so that is tried.
    async fn is_kept_by_the_bucket(&self, draft: &Draft, base: Option<Base>) -> bool {
        let Some(Base { version: Version { version_id: Some(version_id), .. }, .. }) = base else {
            return false;
        };
        if &*version_id == NOT_KEPT {
            return false;
        }
        let key = self.tree.key(&draft.state().path);
        let (range, condition) = (Some(0..1), Condition::Always);
        self.store().fetch(Fetch { key: &key, range, condition, version_id: Some(&version_id) }).await.is_ok()
    }

    /// What of a file the store is to be asked for: the version that was seen, unless an answer got lost that was of a
    /// later one of ours.
    pub(super) async fn seen_of(&self, leaving: &Leaving) -> Option<Version> {
        let (path, base, attempts) = {
            let state = leaving.draft.state();
            (state.path.clone(), state.base.clone(), state.attempts())
        };
        let base = base.map(|base| base.version);
        if attempts.is_empty() {
            return base;
        }
        let found = self.found(&self.tree.key(&path)).await.ok().flatten();
        let ours = found.filter(|found| attempts.iter().any(|attempt| attempt.made(found).is_some()));
        ours.map(|found| found.version).or(base)
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
        if let Err(error) = draft.note_all(&draft.state()) {
            tracing::debug!(error = %error, "a successor would look whether a file has its name");
        }
        drop(_one);
        self.retire(&draft).await;
    }

    /// Finds out what has become of files whose names a process that died was asking the store for. Nobody is served yet;
    /// moves are finished.
    pub(super) async fn settle_leaving(&self, leaving: Vec<u64>) {
        for draft in leaving.into_iter().filter_map(|ino| self.draft(ino)) {
            let (path, is_stored) = {
                let state = draft.state();
                (state.path.clone(), state.base.is_some() || !state.attempts.is_empty())
            };
            let is_gone = !self.tree.has_name(draft.ino)
                || is_stored && matches!(self.found(&self.tree.key(&path)).await, Ok(None));
            let mut state = draft.state();
            if is_gone && state.life == Life::Named {
                state.life = Life::Orphan;
            }
            if let Err(error) = draft.note_all(&state) {
                tracing::debug!(error = %error, "a successor would have to find out again");
            }
        }
    }
}
