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

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use aws_smithy_types::base64;
use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep};

use super::draft::{Base, Begun, Draft, Life, State, Stream};
use super::handles::Handles;
use super::part_layout::PartLayout;
use super::record::{self, Record, VERSION};
use super::stage::{Owner, StagedFile, Staging};
use super::{WriteOptions, Writing};
use crate::store::write::Upload;
use crate::store::{ETag, Version};
use crate::tree::Tree;
use crate::xattr::Xattrs;

/// How long the process before may take to let go of its directory.
const LOCK_LIMIT: Duration = Duration::from_secs(10);
const LOCK_LOOK: Duration = Duration::from_millis(20);

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
        for (record, file) in found {
            writing.take_over(record, file)?;
        }
        writing.staging.stay();
        writing.finish_own_moves().await;
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

impl Stream {
    fn resumed(upload: Option<record::Upload>, run: std::ops::Range<u64>) -> Stream {
        let Some(upload) = upload else { return Stream { run, ..Stream::default() } };
        let sent: BTreeMap<u32, ETag> =
            upload.parts.into_iter().map(|(number, etag)| (number, ETag(etag.into()))).collect();
        let begun = Begun {
            key: upload.key,
            id: OnceCell::new_with(Some(upload.id)),
            mtime: upload.mtime,
            ctime: upload.ctime,
            headers: upload.headers,
        };
        let upload = Some(Arc::new(begun));
        Stream { run, upload, sent, leaving: BTreeSet::new(), stale: BTreeSet::new(), is_closed: false }
    }

    pub fn record(&self) -> Option<record::Upload> {
        let begun = self.upload.as_ref()?;
        Some(record::Upload {
            key: begun.key.clone(),
            id: begun.id.get()?.clone(),
            mtime: begun.mtime,
            ctime: begun.ctime,
            headers: begun.headers.clone(),
            parts: self.sent.iter().map(|(number, etag)| (*number, etag.0.to_string())).collect(),
        })
    }
}

impl State {
    /// What is to be written down of it.
    pub fn record(&self, ino: u64, layout: &PartLayout) -> Record {
        let base = |base: &Base| record::Base {
            etag: base.version.etag.0.to_string(),
            version_id: base.version.version_id.as_deref().map(str::to_string),
            last_modified: base.version.last_modified,
            size: base.size,
        };
        let xattrs = self.xattrs.entries().iter();
        Record {
            version: VERSION,
            ino,
            path: self.path.to_string(),
            life: self.life.clone(),
            base: self.base.as_ref().map(base),
            headers: self.headers.clone(),
            tags: self.tags.clone(),
            attributes: self.attributes.clone(),
            xattrs: xattrs.map(|(name, value)| (name.to_string(), base64::encode(value))).collect(),
            headers_changed: self.headers_changed,
            times_set: self.times_set,
            extents: self.extents.without(self.sending.as_ref()),
            part_bytes: layout.part_bytes(),
            upload: self.stream.record(),
            attempts: self.attempts.clone(),
            refused: self.refused.clone(),
            is_of_one_call: false,
        }
    }
}

#[cfg(test)]
mod tests;
