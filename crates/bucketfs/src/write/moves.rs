//! Names that are moved: a copy, then a deletion.
//!
//! ```text
//!   may names be deleted here? --> file:       copy to the new name --> delete the old one, if it is still what was copied
//!                              '-> directory:  `directory_moves.rs`
//! ```
//!
//! What must hold: at every moment each object is readable under one of its names; what somebody else writes under the
//! old name meanwhile is not deleted; a copy that cannot be finished is taken back.

use std::sync::Arc;

use super::record::Attempt;
use super::rename_intent::RenameIntent;
use super::stage::NotedIntent;
use super::writing::Writing;
use crate::error::FsError;
use crate::listing::is_name;
use crate::store::write::{Headers, KEY_MAX, WriteIf, Written};
use crate::store::{ETag, StoreError};
use crate::tree::join;

/// What becomes of something that has the new name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Replace,
    Keep,
}

/// A file that is moved.
struct FileMove<'a> {
    from: &'a Arc<str>,
    to: &'a Arc<str>,
    old_key: String,
    key: String,
    etag: ETag,
    size: u64,
    headers: &'a Headers,
    /// The directory in which it was.
    parent: u64,
    target: Target,
    replaced: Option<u64>,
}

impl Writing {
    /// Moves a file or a directory.
    ///
    /// # Errors
    ///
    /// [`FsError::Exists`] for a target that is to be kept; [`FsError::NotEmpty`]; [`FsError::Stale`] when somebody
    /// else has written the file meanwhile; whatever the store says.
    pub async fn rename(
        &self,
        parent: u64,
        name: &str,
        new_parent: u64,
        new_name: &str,
        target: Target,
    ) -> Result<(), FsError> {
        if !is_name(new_name) {
            return Err(FsError::Invalid);
        }
        let from = join(&self.tree.directory_path(parent)?, name);
        let to = join(&self.tree.directory_path(new_parent)?, new_name);
        if self.was_finished(&from, &to) {
            return Ok(());
        }
        let (from, ino) = self.known(parent, name).await?;
        if self.tree.key(&to).len() + 1 > KEY_MAX {
            return Err(FsError::NameTooLong);
        }
        if target == Target::Keep && self.tree.table().find(&to).is_some() {
            return Err(FsError::Exists);
        }
        if from == to {
            return Ok(());
        }
        match self.facts(ino, |facts| facts.is_directory())? {
            true => {
                // Nothing below may be stored under its old name meanwhile.
                let _names = self.names.write().await;
                self.rename_directory(&from, &to, parent).await
            }
            false => {
                let _names = self.names.read().await;
                self.rename_file(&from, ino, &to, parent, target).await
            }
        }
    }

    async fn rename_file(
        &self,
        from: &Arc<str>,
        ino: u64,
        to: &Arc<str>,
        parent: u64,
        target: Target,
    ) -> Result<(), FsError> {
        let draft = self.draft(ino);
        let _one = match &draft {
            Some(draft) => Some(draft.commits.lock().await),
            None => None,
        };
        if let Some(draft) = &draft {
            self.commit_locked(draft).await?;
        }
        let (old_key, key) = (self.tree.key(from), self.tree.key(to));
        let ((object, _), ()) =
            futures::future::try_join(self.object(&old_key), self.may_delete(&old_key)).await?;
        let replaced = self.tree.table().find(to);
        let leaving = match replaced {
            Some(replaced) => self.prepare_to_leave(replaced).await?,
            None => None,
        };
        let said = self.moved_now(from, to, &object);
        let (etag, size) = (object.version.etag, object.size);
        let file =
            FileMove { from, to, old_key, key, etag, size, headers: &said.2, parent, target, replaced };
        match self.move_object(file).await {
            Ok((written, noted)) => {
                self.note_file_moved((from, to), (ino, draft.as_deref()), (written, size), said);
                self.leave_name(leaving).await;
                // Not before all of it is known here: a successor that finds no note takes the old name for there.
                noted.end();
                Ok(())
            }
            Err(error) => {
                match replaced {
                    Some(replaced) => self.doubt(to, replaced),
                    None => self.doubt_absence(to),
                }
                self.stay(leaving).await;
                self.staging.end_moves(from, to);
                Err(error)
            }
        }
    }

    /// Copies and deletes, and has noted that it does.
    async fn move_object(&self, file: FileMove<'_>) -> Result<(Written, NotedIntent), FsError> {
        let FileMove { from, to, old_key, key, etag, size, headers, parent, target, mut replaced } = file;
        let made = self.keep_directory(parent).await?;
        let moved = async {
            let object = std::iter::once((String::new(), etag.clone()));
            let noted = RenameIntent::new((from, to), (&old_key, &key), object);
            let noted = self.staging.note_move(&noted)?;
            // A copy that has replaced nothing in the store can be taken back: what is open there was not stored yet.
            let may_be_alone = target == Target::Replace && self.tree.table().is_unsent(to);
            let copy = |condition| self.copy(&old_key, &etag, size, &key, Some(headers), condition);
            let is_new = target == Target::Keep || may_be_alone;
            let mut copied = copy(if is_new { WriteIf::Absent } else { WriteIf::Always }).await;
            match &copied {
                Err(FsError::Store(StoreError::Changed { .. } | StoreError::Unconditional { .. }))
                    if may_be_alone =>
                {
                    copied = copy(WriteIf::Always).await;
                }
                _ if may_be_alone => replaced = None,
                _ => {}
            }
            let attempt = Attempt { size, metadata: headers.metadata.clone() };
            let written = match self.even_if_unanswered(&key, &attempt, copied).await {
                Ok(written) => self.delete_moved(&old_key, &etag, (to, &key), replaced, written).await?,
                Err(FsError::Store(StoreError::Changed { .. })) => match target {
                    Target::Keep => return Err(FsError::Exists),
                    Target::Replace => return Err(FsError::Stale),
                },
                Err(error) => return Err(error),
            };
            Ok((written, noted))
        };
        let moved = moved.await;
        if moved.is_err() {
            self.unkeep_directory(made).await;
        }
        moved
    }

    /// Deletes what was copied, or the copy: whatever `replaced` is cannot be brought back.
    async fn delete_moved(
        &self,
        old_key: &str,
        etag: &ETag,
        (to, key): (&Arc<str>, &str),
        replaced: Option<u64>,
        copy: Written,
    ) -> Result<Written, FsError> {
        let Err(error) = self.delete_unchanged(old_key.to_string(), etag.clone()).await else {
            return Ok(copy);
        };
        // The answer may be what got lost: a copy of what is gone is all there is of it.
        match (self.found(old_key).await, replaced) {
            (Ok(None), _) => return Ok(copy),
            (_, Some(replaced)) => {
                self.drop_name(to, replaced);
                tracing::warn!(key, "a file that was not moved has replaced another, and is in both places");
            }
            (Err(_), None) => {
                tracing::warn!(key, "a file that may not have been moved may be in both places")
            }
            (Ok(Some(_)), None) => {
                if let Err(error) = self.delete_unchanged(key.to_string(), copy.etag).await {
                    tracing::warn!(key, error = %error, "a copy of a file that was not moved is left behind");
                }
            }
        }
        Err(error)
    }
}
