//! Mode, owner, times and size, as `chmod`, `chown`, `utimensat` and `truncate` set them.
//!
//! What must hold: of a file that nobody has open to write, no part of a change is seen before the store has agreed to
//! all of it.

use std::sync::Arc;

use super::change::Change;
use super::draft::Draft;
use super::record::Record;
use super::state::State;
use super::writing::Writing;
use crate::error::FsError;
use crate::tree::Entry;

impl Writing {
    /// Changes what `stat` shows.
    ///
    /// # Errors
    ///
    /// [`FsError::IsDirectory`] for the size of one; whatever the store says.
    pub async fn set_attributes(&self, ino: u64, change: Change) -> Result<Entry, FsError> {
        let rest = Change { size: None, ..change };
        match change.size {
            Some(_) if !self.is_file(ino) => return Err(FsError::IsDirectory),
            Some(size) => self.cut(ino, size, rest).await?,
            None if rest != Change::default() => self.change(ino, rest.edit(self.tree.clone())).await?,
            None => {}
        }
        self.entry(ino)
    }

    fn entry(&self, ino: u64) -> Result<Entry, FsError> {
        let attributes = self.facts(ino, |facts| facts.attributes.clone())?.ok_or(FsError::Stale)?;
        Ok(Entry { ino, attributes, valid_for: self.tree.rules.freshness })
    }

    /// Ends a file at `size` and makes the `rest` of the change: of an open one here, of any other in the store, and
    /// nobody sees anything of it before the store has agreed.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write) and [`commit`](Self::commit).
    pub(super) async fn cut(&self, ino: u64, size: u64, rest: Change) -> Result<(), FsError> {
        {
            let _names = self.names.read().await;
            let _turn = self.turn(ino).await;
            if self.handles().writers(ino) == 0 {
                if let Some(draft) = self.draft(ino) {
                    self.retire(&draft).await;
                }
                if self.draft(ino).is_none() {
                    return self.cut_unopened(ino, size, rest).await;
                }
            }
        }
        self.cut_opened(ino, size, rest).await
    }

    pub(super) async fn cut_opened(&self, ino: u64, size: u64, rest: Change) -> Result<(), FsError> {
        let draft = loop {
            let draft = self.draft_of(ino).await?;
            self.cut_draft(&draft, size).await?;
            // It may have been let go meanwhile.
            if self.draft(ino).is_some_and(|now| Arc::ptr_eq(&now, &draft)) {
                break draft;
            }
        };
        let changed = match rest == Change::default() {
            true => Ok(()),
            false => self.change(ino, rest.edit(self.tree.clone())).await,
        };
        // Whoever had it open may have closed it before it was cut: nobody else stores it.
        if self.handles().writers(ino) > 0 {
            return changed;
        }
        let stored = self.flush(ino).await;
        self.end(&draft).await;
        changed.and(stored)
    }

    async fn cut_unopened(&self, ino: u64, size: u64, rest: Change) -> Result<(), FsError> {
        let state = self.state_now(ino).await?;
        let path = state.path.clone();
        let file = self.staged(Record { is_of_one_call: true, ..state.record(ino, &self.layout) })?;
        let draft = Draft::of_one_call(ino, file, self.layout, state);
        draft.cut(size)?;
        if rest != Change::default() {
            let State { attributes, xattrs, headers_changed, .. } = &mut *draft.state();
            rest.edit(self.tree.clone())(attributes, xattrs)?;
            *headers_changed = true;
        }
        let outcome = self.commit_locked(&draft).await;
        if outcome.is_err() {
            self.give_up_upload(&draft).await;
            self.doubt(&path, ino);
        }
        outcome
    }
}
