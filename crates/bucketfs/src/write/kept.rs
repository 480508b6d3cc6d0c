//! Files that cannot be stored: their bytes are kept where a person can find them.
//!
//! What must hold: what was acknowledged is not lost without somebody being told; whoever uses the name sees what the
//! store has.

use std::path::PathBuf;
use std::sync::MutexGuard;

use super::draft::Draft;
use super::record::{Kept as KeptRecord, Life};
use super::state::{State, Stream};
use super::writing::Writing;

impl Writing {
    /// It cannot be stored: the bytes are kept where a person can find them.
    pub(super) fn keep_unstored(&self, draft: &Draft, mut state: MutexGuard<'_, State>, reason: &str) {
        if state.life != Life::Named {
            return;
        }
        let kept = self.kept_of(&mut state, reason);
        let path = match self.staging.keep(&draft.file, state.extents.size, &kept) {
            Ok(path) => {
                tracing::error!(key = %kept.key, ?path, reason, "a file could not be stored and is kept");
                Some(path)
            }
            Err(error) => {
                tracing::error!(key = %kept.key, reason, error = %error, "a file could be neither stored nor kept: it is lost");
                None
            }
        };
        self.note_lost(draft, state, path);
    }

    /// The draft is no more than what is `kept` of it: whoever uses the name sees what the store has.
    pub(super) fn note_lost(&self, draft: &Draft, mut state: MutexGuard<'_, State>, kept: Option<PathBuf>) {
        state.life = Life::Lost { kept: kept.clone() };
        state.sending = None;
        if let Err(error) = draft.note_all(&state) {
            tracing::debug!(error = %error, "a successor would try to store it again");
        }
        self.tree.show_stored(draft.ino, &state);
        let name = state.path.clone();
        drop(state);
        self.note_kept(kept);
        self.drop_name(&name, draft.ino);
    }

    /// What is said of a draft that is kept. An upload that alone has some of its bytes is left to whoever reads that.
    pub(super) fn kept_of(&self, state: &mut State, reason: &str) -> KeptRecord {
        let has_bytes = !state.extents.all_released().is_empty();
        let upload = state.stream.record().filter(|_| has_bytes);
        if upload.is_some() {
            state.stream = Stream::default();
        }
        KeptRecord {
            source: self.owner.source.clone(),
            key: self.tree.key(&state.path),
            reason: reason.to_string(),
            size: state.extents.size,
            missing: state.missing(),
            upload,
            metadata: state.headers.metadata.clone(),
        }
    }
}
