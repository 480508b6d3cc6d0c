//! Going on with what a process that has died was changing.
//!
//! ```text
//!   killed --> its directory in the staging directory: records, bytes, who has what open
//!                 | a successor that serves the same connection: resume
//!                 v
//!              the same drafts under the same numbers --> written on, flushed, closed as if nothing had happened
//! ```
//!
//! What must hold: a draft that is resumed is what it was, down to the parts that its upload has; what the dead process
//! had asked of the store without hearing the answer is not taken for somebody else's doing (`commit.rs`).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use aws_smithy_types::base64;
use tokio::time::{Instant, sleep};

use super::draft::Draft;
use super::handles::Handles;
use super::options::WriteOptions;
use super::part_layout::PartLayout;
use super::record::{self, Attempt, Life, Record};
use super::stage::{Owner, StagedFile, Staging};
use super::state::{State, Stream};
use super::writing::Writing;
use crate::attr::Attributes;
use crate::store::write::Upload;
use crate::store::{ETag, Version};
use crate::tree::Tree;
use crate::xattr::Xattrs;

/// How long the process before may take to let go of its directory.
const LOCK_LIMIT: Duration = Duration::from_secs(10);
const LOCK_LOOK: Duration = Duration::from_millis(20);
/// How long it is looked for what single calls have done, before anybody is served.
const SETTLE_LIMIT: Duration = Duration::from_secs(5);

impl Writing {
    /// Goes on where another process has ended, in its directory `session`. The numbers in `tree` must mean what they
    /// meant there, and nobody may be served before this has returned.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::NotFound`] where there is no such session, [`io::ErrorKind::InvalidData`] for one of another
    /// version, [`io::ErrorKind::ResourceBusy`] for one that is in use; that of the disk. It is untouched then.
    pub async fn resume(
        tree: Arc<Tree>,
        options: &WriteOptions,
        owner: Owner,
        memory_bytes: u64,
        session: &str,
    ) -> io::Result<Arc<Writing>> {
        let began = Instant::now();
        let (staging, found) = loop {
            match Staging::resume(&options.staging, session) {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy && began.elapsed() < LOCK_LIMIT => {
                    sleep(LOCK_LOOK).await;
                }
                outcome => break outcome?,
            }
        };
        let handles = Handles::resume(&staging.handles())?;
        let writing = Writing::with(tree, options, owner, memory_bytes, (staging, handles));
        let leaving =
            found.iter().filter(|(record, _)| record.is_leaving).map(|(record, _)| record.ino).collect();
        let calls = found.iter().filter(|(record, _)| record.is_of_one_call).map(|(record, _)| record);
        let calls = calls.map(|record| (record.ino, record.path.clone(), record.attempts.clone())).collect();
        for (record, file) in found {
            writing.take_over(record, file)?;
        }
        writing.staging.stay();
        // Whoever waits for this process waits no longer for a store that is silent: then the call is judged as ever.
        let _ = tokio::time::timeout(SETTLE_LIMIT, writing.settle_calls(calls)).await;
        writing.finish_own_moves().await;
        writing.settle_leaving(leaving).await;
        writing.end_unused();
        writing.clear_later();
        Ok(writing)
    }

    /// The name of this mount's directory below the staging directory: what a successor is to be told.
    pub fn session(&self) -> &str {
        self.staging.name()
    }

    /// Leaves everything to a successor: waits for what is on its way, and takes nothing away from now on. Whoever
    /// calls takes no more requests.
    pub async fn leave(&self) {
        let drafts: Vec<Arc<Draft>> = self.drafts().values().cloned().collect();
        for draft in drafts {
            let _one = draft.commits.lock().await;
            draft.state().stream.is_closed = true;
            self.wait_for_parts(&draft).await;
        }
        self.staging.leave();
    }

    fn take_over(self: &Arc<Self>, record: Record, file: StagedFile) -> io::Result<()> {
        if record.is_of_one_call {
            // Whoever asked for it asks once more.
            let (this, upload) = (self.clone(), record.upload);
            self.tree.runtime().spawn(async move {
                if let Some(record::Upload { key, id, .. }) = upload {
                    let aborted = this.store().abort_upload(Upload { key: &key, id: &id }).await;
                    tracing::info!(key, ok = aborted.is_ok(), "aborted an upload that was left behind");
                }
                drop(file);
            });
            return Ok(());
        }
        let (ino, layout, life) = (record.ino, PartLayout::new(record.part_bytes), record.life.clone());
        let state = self.state_of_record(record, &file)?;
        if !matches!(life, Life::Lost { .. }) {
            // What was written behind its end was not acknowledged.
            file.cut(state.extents.size)?;
            file.set_modified(state.attributes.mtime.into());
        }
        let is_new = life == Life::Named && state.base.is_none();
        let path = state.path.clone();
        self.tree.show(ino, &state);
        self.drafts().insert(ino, Arc::new(Draft::new(ino, file, layout, state)));
        let mut table = self.tree.table();
        if is_new && table.node(ino).is_some() {
            table.set_unsent(&path, true);
        }
        Ok(())
    }

    /// Finds out whether the store has done what single calls asked for: whoever makes them once more finds the object as
    /// they have left it, and not as somebody else's.
    async fn settle_calls(&self, calls: Vec<(u64, String, Vec<Attempt>)>) {
        for (ino, path, attempts) in calls.into_iter().filter(|(_, _, attempts)| !attempts.is_empty()) {
            let Ok(Some(object)) = self.found(&self.tree.key(&path)).await else { continue };
            let Some(written) = attempts.iter().find_map(|attempt| attempt.made(&object)) else { continue };
            let attributes = Attributes::of(&path, &object, &self.tree.rules.defaults);
            let xattrs = Xattrs::of(&object.metadata);
            self.note_stored(ino, &path, written, object.size, attributes, xattrs);
        }
    }

    /// Ends what nobody has open: it was about to be stored for good, or let go.
    fn end_unused(self: &Arc<Self>) {
        let drafts: Vec<Arc<Draft>> = self.drafts().values().cloned().collect();
        for draft in drafts {
            if self.handles().writers(draft.ino) == 0 {
                let this = self.clone();
                self.tree.runtime().spawn(async move { this.end(&draft).await });
            }
        }
    }

    fn state_of_record(&self, record: Record, file: &StagedFile) -> io::Result<State> {
        let Record { ino, path, life, base, headers, tags, mut attributes, .. } = record;
        let mut times_set = record.times_set;
        let written = file.modified()?.into();
        if written != attributes.mtime {
            // Written since: such times are only noted on the file itself.
            (attributes.mtime, attributes.ctime) = (written, written);
            times_set = false;
        }
        attributes.size = record.extents.size;
        let key = self.tree.key(&path);
        let base = base.map(|base| {
            let version = Version {
                etag: ETag(base.etag.into()),
                last_modified: base.last_modified,
                version_id: base.version_id.map(Arc::from),
            };
            self.base(ino, &key, version, base.size)
        });
        let xattrs = record.xattrs.iter().fold(Xattrs::default(), |all, (name, value)| {
            all.with(name, &base64::decode(value).unwrap_or_default())
        });
        Ok(State {
            path: path.into(),
            life,
            base,
            headers,
            tags,
            attributes,
            xattrs,
            stream: Stream::resumed(record.upload, record.extents.last_run()),
            extents: record.extents,
            headers_changed: record.headers_changed,
            is_brought: false,
            times_set,
            sending: None,
            attempts: record.attempts,
            refused: record.refused,
        })
    }
}

#[cfg(test)]
mod tests;
