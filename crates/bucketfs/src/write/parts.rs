//! Parts of an upload that leave while the file is still being written, and the upload that they are of.
//!
//! What must hold: a part that was written again since it left does not count; an upload that nobody completes is
//! aborted.

use std::ops::Range;
use std::sync::Arc;

use super::draft::Draft;
use super::record::Event;
use super::stage::Room;
use super::state::{Begun, ReadyPart};
use super::writing::Writing;
use crate::error::FsError;
use crate::store::write::{Tags, Upload};
use crate::store::{ETag, StoreError};

impl Writing {
    pub(super) async fn wait_for_parts(&self, draft: &Draft) {
        let mut under_way = draft.parts_under_way.subscribe();
        // The sender lives in the draft, so waiting cannot fail.
        let _ = under_way.wait_for(|count| *count == 0).await;
        draft.state().stream.stale.clear();
    }

    pub(super) async fn send_part(
        &self,
        draft: &Draft,
        upload: Upload<'_>,
        number: u32,
        range: &Range<u64>,
    ) -> Result<ETag, StoreError> {
        let length = range.end - range.start;
        let _memory = self.memory_for(length).await;
        let read = draft.file.read(range.start, length as usize);
        let body = read.map_err(|error| StoreError::Malformed { reason: error.to_string() })?;
        self.store().put_part(upload, number, body.into()).await
    }

    pub(super) async fn upload_id(
        &self,
        draft: &Draft,
        begun: &Begun,
        tags: &Tags,
    ) -> Result<String, FsError> {
        let mut is_new = false;
        let begin = async {
            is_new = true;
            self.store().begin_upload(&begun.key, &begun.headers, tags).await
        };
        let id = begun.id.get_or_try_init(|| begin).await?.clone();
        if is_new {
            draft.note_all(&draft.state())?;
        }
        Ok(id)
    }

    /// Sends parts of a file that is still being written. One that does not arrive is sent again at the end.
    pub fn send_ripe(self: &Arc<Self>, draft: &Arc<Draft>, ripe: Vec<ReadyPart>) {
        for part in ripe {
            let (this, draft) = (self.clone(), draft.clone());
            draft.parts_under_way.send_modify(|count| *count += 1);
            self.tree.runtime().spawn(async move {
                let number = part.number;
                let outcome = this.send_early(&draft, part).await;
                {
                    let mut state = draft.state();
                    let is_wanted = state.stream.leaving.remove(&number);
                    match outcome {
                        Ok(etag) if is_wanted => {
                            // Should it not be noted, a successor sends the part once more.
                            let _ = draft.note(&state, &Event::Part(number, etag.0.to_string()));
                            state.stream.sent.insert(number, etag);
                            if this.staging.room_for(0) != Room::Plenty {
                                draft.release_sent(&mut state);
                            }
                        }
                        Ok(_) => {}
                        Err(error) => tracing::debug!(error = %error, number, "a part did not leave early"),
                    }
                }
                draft.parts_under_way.send_modify(|count| *count -= 1);
            });
        }
    }

    async fn send_early(&self, draft: &Draft, part: ReadyPart) -> Result<ETag, FsError> {
        let (begun, tags) = {
            let mut state = draft.state();
            let begun = match &state.stream.upload {
                Some(begun) => begun.clone(),
                None => {
                    let attributes = state.shown();
                    let mut headers = state.headers_of(&attributes, true);
                    self.store().stamp(&mut headers.kept);
                    let begun = Arc::new(Begun::new(&self.tree.key(&state.path), &attributes, headers));
                    state.stream.upload = Some(begun.clone());
                    begun
                }
            };
            (begun, state.tags.clone())
        };
        let id = self.upload_id(draft, &begun, &tags).await?;
        let upload = Upload { key: &begun.key, id: &id };
        Ok(self.send_part(draft, upload, part.number, &part.range).await?)
    }

    /// Gives up the upload of a draft that is not to be stored any more.
    pub(super) async fn give_up_upload(&self, draft: &Draft) {
        draft.state().stream.is_closed = true;
        self.wait_for_parts(draft).await;
        let stream = std::mem::take(&mut draft.state().stream);
        let Some(begun) = stream.upload else { return };
        let Some(id) = begun.id.get() else { return };
        match self.store().abort_upload(Upload { key: &begun.key, id }).await {
            // Should it not be noted, a successor asks once more.
            Ok(()) => drop(draft.note_all(&draft.state())),
            Err(error) => tracing::warn!(key = %begun.key, error = %error, "an upload is left behind"),
        }
    }
}
