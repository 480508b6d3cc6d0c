//! Moves that a process that has died had begun: finished by the next one.
//!
//! ```text
//!   noted: all objects, from where to where --> copied --> deleted --> the note is taken away
//!                     |  killed anywhere
//!                     '--> at the next start, for each object that is still what it was: copied if nothing has the new
//!                          name, deleted if the new name has just that --> the note is taken away
//! ```
//!
//! What must hold: nothing is deleted whose copy was not seen; nothing is written over; what somebody has changed under
//! either name since stays as it is, under both.

use std::sync::Arc;

use futures::{FutureExt, StreamExt, stream};

use super::moved::MOVES_AT_ONCE;
use super::rename_intent::RenameIntent;
use super::writing::Writing;
use crate::error::FsError;
use crate::store::write::WriteIf;
use crate::store::{ETag, Object, StoreError};

/// What became of one object.
enum Moved {
    /// It has its new name only, and this is it.
    Whole(String, ETag),
    /// Somebody has changed it under one of its names.
    Left,
}

impl Writing {
    /// Finishes a move that another process had begun; answers whether all of it has the new name now. Whoever calls it
    /// keeps others from storing anything meanwhile.
    ///
    /// # Errors
    ///
    /// Whatever the store says: it can be done again.
    pub(super) async fn finish_move(&self, unfinished: &RenameIntent) -> Result<bool, FsError> {
        let RenameIntent { from, to, old, new, .. } = unfinished;
        if unfinished.is_too_old() {
            tracing::warn!(from, to, "a move was begun long ago and is left as it is");
            return Ok(false);
        }
        let work =
            unfinished.objects.iter().map(|(rest, etag)| self.finish_one((old, new), rest, etag).boxed());
        let work: Vec<_> = work.collect();
        let outcomes: Vec<Result<Moved, FsError>> =
            stream::iter(work).buffer_unordered(MOVES_AT_ONCE).collect().await;
        let (mut whole, mut left) = (Vec::new(), 0);
        for outcome in outcomes {
            match outcome? {
                Moved::Whole(rest, etag) => whole.push((rest, etag)),
                Moved::Left => left += 1,
            }
        }
        tracing::info!(from, to, moved = whole.len(), left, "finished a move that was begun before");
        if left > 0 {
            return Ok(false);
        }
        let (is_unnoted, replaced) = {
            let table = self.tree.table();
            (table.find(from).is_some(), table.find(to))
        };
        let to: Arc<str> = Arc::from(to.as_str());
        match replaced {
            _ if is_unnoted => self.note_moved(&Arc::from(from.as_str()), &to, new, whole),
            // Whoever moved it had come so far as to note it, but not to take the note of the move away.
            Some(ino) => self.doubt(&to, ino),
            None => self.doubt_absence(&to),
        }
        Ok(true)
    }

    /// Finishes the moves of the process that this one goes on for. Nobody is served yet.
    pub(super) async fn finish_own_moves(&self) {
        for (unfinished, noted) in self.staging.moves() {
            match self.finish_move(&unfinished).await {
                Ok(is_whole) => {
                    if is_whole {
                        self.finished().push((unfinished.from, unfinished.to));
                    }
                    noted.end();
                }
                Err(error) => tracing::warn!(error = %error, "a move stays unfinished until the next start"),
            }
        }
    }

    /// Whether this move is one that the process before had begun and this one has finished: whoever asked for it
    /// asks once more, because nobody has answered.
    pub(super) fn was_finished(&self, from: &str, to: &str) -> bool {
        // Whoever asks anew has looked for the old name first.
        if self.tree.table().find(from).is_some() {
            return false;
        }
        let mut finished = self.finished();
        let found = finished.iter().position(|(old, new)| old == from && new == to);
        found.map(|at| finished.swap_remove(at)).is_some()
    }

    async fn finish_one(&self, (old, new): (&str, &str), rest: &str, etag: &str) -> Result<Moved, FsError> {
        let (from, to, etag) = (format!("{old}{rest}"), format!("{new}{rest}"), ETag(etag.into()));
        let (source, copy) = futures::join!(self.found(&from), self.found(&to));
        let (source, copy) = (source?, copy?);
        let source = match (source, copy) {
            (None, Some(copy)) => return Ok(Moved::Whole(rest.to_string(), copy.version.etag)),
            (Some(source), Some(copy)) if source.version.etag == etag && is_copy(&source, &copy) => {
                self.delete_unchanged(from, etag).await?;
                return Ok(Moved::Whole(rest.to_string(), copy.version.etag));
            }
            (Some(source), None) if source.version.etag == etag => source,
            // Deleted under both names, or changed under one.
            _ => return Ok(Moved::Left),
        };
        // What a file is called says what type it has.
        let headers = rest.is_empty().then(|| self.moved_now(&from, &to, &source).2);
        let copied = self.copy(&from, &etag, source.size, &to, headers.as_ref(), WriteIf::Absent).await;
        match copied {
            Ok(written) => {
                self.delete_unchanged(from, etag).await?;
                Ok(Moved::Whole(rest.to_string(), written.etag))
            }
            Err(FsError::Store(StoreError::Changed { .. } | StoreError::NotFound { .. })) => Ok(Moved::Left),
            Err(error) => Err(error),
        }
    }
}

/// Whether one is a copy of the other: the same content, or, where the store has another tag for that, content of the
/// same size with headers that say the same but for the moment of the move.
pub(super) fn is_copy(source: &Object, copy: &Object) -> bool {
    let said = |object: &Object, but: &[&str]| {
        let metadata = object.metadata.iter().filter(|(name, _)| !but.contains(&name.as_str()));
        let mut metadata: Vec<(String, String)> = metadata.cloned().collect();
        metadata.sort();
        metadata
    };
    let agree = |but: &[&str]| said(source, but) == said(copy, but);
    let has_times = source.metadata.iter().any(|(name, _)| name == "mtime");
    let is_same = source.version.etag == copy.version.etag;
    // A marker gets the time of the last change with the move.
    source.size == copy.size
        && (is_same && (!has_times || agree(&["ctime", "mtime"])) || has_times && agree(&["ctime"]))
}
