//! What a file is said to be: mode, owner, times, extended attributes.
//!
//! What must hold: a change is in the store when it is answered, unless the file's bytes are on their way anyway; what
//! the object carries beside stays; the other headers are those that it has at this moment, not those remembered.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use tokio::time::Instant;

use super::acl;
use super::draft::Draft;
use super::headers::{self, Content};
use super::record::{Attempt, Life};
use super::state::{State, version_of};
use super::writing::Writing;
use crate::attr::{Attributes, Kind, Timestamp};
use crate::error::FsError;
use crate::inode::ROOT;
use crate::listing::FOLDER_SUFFIX;
use crate::store::write::{Headers, METADATA_MAX, Put, WriteIf, Written, metadata_bytes};
use crate::store::{ETag, StoreError};
use crate::tree::{SET_ID, Tree};
use crate::xattr::Xattrs;

/// What is to be changed of a file; `None` stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    pub permissions: Option<u16>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub size: Option<u64>,
    pub atime: Option<SystemTime>,
    pub mtime: Option<SystemTime>,
}

/// How an extended attribute is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetXattr {
    Any,
    /// It must not be there.
    Create,
    /// It must be there.
    Replace,
}

/// Key of the object in which s3fs keeps owner and mode of the root of a bucket.
const ROOT_KEY: &str = "/";
/// Longest value of an extended attribute that could ever fit.
const XATTR_MAX: usize = METADATA_MAX;

impl Writing {
    /// A file whose set-id bits nobody is shown loses them when somebody writes who is not root: as the kernel would
    /// have it if it knew of them.
    pub fn drop_set_id(&self, ino: u64) {
        let Some(draft) = self.draft(ino) else { return };
        let mut state = draft.state();
        if self.tree.hides_set_id(state.attributes.kind) && state.attributes.permissions & SET_ID != 0 {
            state.attributes.permissions &= !SET_ID;
            state.headers_changed = true;
            if let Err(error) = draft.note_all(&state) {
                tracing::debug!(error = %error, "a successor would keep the set-id bits of a file");
            }
        }
    }

    /// Sets an extended attribute.
    ///
    /// # Errors
    ///
    /// [`FsError::Exists`], [`FsError::NoAttribute`] as `how` says; [`FsError::TooManyAttributes`].
    pub async fn set_xattr(&self, ino: u64, name: &str, value: &[u8], how: SetXattr) -> Result<(), FsError> {
        if value.len() > XATTR_MAX {
            return Err(FsError::TooManyAttributes);
        }
        self.change(ino, |attributes, xattrs| {
            let is_there = xattrs.value(name).is_some();
            match how {
                SetXattr::Create if is_there => return Err(FsError::Exists),
                SetXattr::Replace if !is_there => return Err(FsError::NoAttribute),
                _ => {}
            }
            if name != acl::ACCESS {
                *xattrs = xattrs.with(name, value);
                return Ok(());
            }
            let list = acl::Acl::parse(value).ok_or(FsError::Invalid)?;
            attributes.permissions = attributes.permissions & !0o777 | list.permissions();
            *xattrs = if list.is_extended() { xattrs.with(name, value) } else { xattrs.without(name) };
            Ok(())
        })
        .await
    }

    /// Takes an extended attribute away.
    ///
    /// # Errors
    ///
    /// [`FsError::NoAttribute`]; whatever the store says.
    pub async fn remove_xattr(&self, ino: u64, name: &str) -> Result<(), FsError> {
        self.change(ino, |_, xattrs| {
            if xattrs.value(name).is_none() {
                return Err(FsError::NoAttribute);
            }
            *xattrs = xattrs.without(name);
            Ok(())
        })
        .await
    }

    /// Makes a change; what the store refuses has not happened.
    pub(super) async fn change(&self, ino: u64, edit: impl Edit) -> Result<(), FsError> {
        if let Some(draft) = self.draft(ino) {
            return self.change_draft(&draft, edit).await;
        }
        let _names = self.names.read().await;
        let _turn = self.turn(ino).await;
        match self.facts(ino, |facts| (facts.is_directory(), facts.version.is_some()))? {
            (true, is_object) => self.change_directory(ino, is_object, edit).await,
            (false, _) => match self.draft(ino) {
                Some(draft) => {
                    drop((_turn, _names));
                    self.change_draft(&draft, edit).await
                }
                None => self.change_object(ino, edit).await,
            },
        }
    }

    async fn change_draft(&self, draft: &Draft, edit: impl Edit) -> Result<(), FsError> {
        let (before, after, is_content_dirty) = {
            let mut state = draft.state();
            let before = Said::of(&state);
            let mut after = before.clone();
            edit(&mut after.attributes, &mut after.xattrs)?;
            let times = |said: &Said| (said.attributes.mtime, said.attributes.atime);
            after.times_set |= times(&before) != times(&after);
            after.headers_changed = true;
            after.attributes.ctime = Timestamp::now();
            self.say(draft, &mut state, after.clone())?;
            (before, after, state.is_content_dirty())
        };
        // Bytes that are not stored yet take the headers with them.
        if is_content_dirty {
            return Ok(());
        }
        let outcome = self.commit(draft).await;
        if outcome.is_err() {
            {
                let mut state = draft.state();
                let now = Said::of(&state);
                self.say(draft, &mut state, now.without(&after, before))?;
            }
            self.tree.invalidate(draft.ino).await;
        }
        outcome
    }

    /// From now on the draft says this.
    fn say(&self, draft: &Draft, state: &mut State, said: Said) -> Result<(), FsError> {
        (state.attributes, state.xattrs) = (said.attributes, said.xattrs);
        (state.times_set, state.headers_changed) = (said.times_set, said.headers_changed);
        draft.file.set_modified(state.attributes.mtime.into());
        draft.note_all(state)?;
        if state.life == Life::Named {
            self.tree.show(draft.ino, state);
        }
        Ok(())
    }

    async fn change_object(&self, ino: u64, edit: impl Edit) -> Result<(), FsError> {
        let path = self.path_of(ino)?;
        let key = self.tree.key(&path);
        let (object, _) = self.object(&key).await?;
        let mut attributes = Attributes::of(&path, &object, &self.tree.rules.defaults);
        let mut xattrs = Xattrs::of(&object.metadata);
        edit(&mut attributes, &mut xattrs)?;
        attributes.ctime = Timestamp::now();
        let headers = changed(&object.metadata, &attributes, &xattrs)?;
        let headers = Headers { metadata: headers, content_type: object.content_type, kept: object.kept };
        let (etag, size) = (object.version.etag, object.size);
        let condition = self.if_seen(&etag);
        let outcome = self.copy(&key, &etag, size, &key, Some(&headers), condition).await;
        let attempt = Attempt { size, metadata: headers.metadata.clone() };
        let written = match self.even_if_unanswered(&key, &attempt, outcome).await {
            Err(FsError::Store(StoreError::Changed { .. })) => return Err(FsError::Stale),
            Err(error) => {
                self.doubt(&path, ino);
                return Err(error);
            }
            Ok(written) => written,
        };
        self.note_stored(ino, &path, written, size, attributes, xattrs);
        Ok(())
    }

    /// Notes that the object of `ino` is another one with the same bytes.
    pub(super) fn note_stored(
        &self,
        ino: u64,
        path: &str,
        written: Written,
        size: u64,
        attributes: Attributes,
        xattrs: Xattrs,
    ) {
        let mut table = self.tree.table();
        table.set_facts(ino, |facts| {
            facts.version = Some(version_of(&written.etag, written.version_id));
            facts.size = size;
            facts.attributes = Some(attributes);
            facts.xattrs = xattrs;
            facts.settled = false;
        });
        if let Some(node) = table.node_mut(ino) {
            node.content = None;
            node.checked = Some(Instant::now());
        }
        drop(table);
        self.forget_questions(path);
    }

    /// A directory has its headers on its marker, which is made if there is none.
    async fn change_directory(&self, ino: u64, is_object: bool, edit: impl Edit) -> Result<(), FsError> {
        let path = self.path_of(ino)?;
        let prefix = self.tree.directory_prefix(&path);
        let key = if prefix.is_empty() { ROOT_KEY.to_string() } else { prefix };
        // In an old guise it says the same under another key.
        let old = match (is_object, self.tree.has_folder_keys() && ino != ROOT) {
            (true, _) => Some(self.tree.key(&path)),
            (false, true) => Some(format!("{}{FOLDER_SUFFIX}", self.tree.key(&path))),
            (false, false) => None,
        };
        let mut marker = self.found(&key).await?;
        let mut source = key.clone();
        if let (None, Some(old)) = (&marker, &old) {
            (marker, source) = (self.found(old).await?, old.clone());
        }
        let (known, last_change) = self.facts(ino, |facts| (facts.attributes.clone(), facts.changed))?;
        let defaults = &self.tree.rules.defaults;
        let (mut attributes, metadata, content_type, kept) = match marker.clone() {
            Some(object) => {
                let attributes = Attributes::of(&format!("{path}/"), &object, defaults);
                let attributes = Attributes { mtime: last_change.unwrap_or(attributes.mtime), ..attributes };
                (attributes, object.metadata, object.content_type, object.kept)
            }
            None => {
                let now = Timestamp::now();
                let known = known.unwrap_or_else(|| self.tree.rules.implicit_directory());
                let attributes = Attributes { mtime: last_change.unwrap_or(now), atime: now, ..known };
                (attributes, Vec::new(), None, Default::default())
            }
        };
        let mut xattrs = Xattrs::of(&metadata);
        edit(&mut attributes, &mut xattrs)?;
        attributes.ctime = Timestamp::now();
        let metadata = changed(&metadata, &attributes, &xattrs)?;
        let content_type =
            content_type.unwrap_or_else(|| headers::content_type("", Kind::Directory).to_string());
        let headers = Headers { metadata, content_type: Some(content_type), kept };
        let etag: Option<ETag> = marker.map(|object| object.version.etag).filter(|_| source == key);
        let written = match self.store_marker(&key, etag, &headers).await {
            Ok(written) => written,
            Err(error) => {
                // Who asks next asks the store.
                self.tree.table().set_facts(ino, |facts| facts.marker_checked = None);
                return Err(error);
            }
        };
        if source != key
            && let Err(error) = self.delete(&source, WriteIf::Always).await
        {
            tracing::warn!(key = source, error = %error, "an old marker stays beside the one that counts");
        }
        self.note_marker(ino, &path, written, attributes, xattrs);
        Ok(())
    }

    async fn store_marker(
        &self,
        key: &str,
        before: Option<ETag>,
        headers: &Headers,
    ) -> Result<Written, FsError> {
        let outcome = match before {
            Some(etag) => self.copy(key, &etag, 0, key, Some(headers), WriteIf::Always).await,
            None => {
                let (body, condition) = (Bytes::new(), WriteIf::Always);
                let put = Put { key, body, headers, tags: &[], condition };
                self.store().put(put).await.map_err(FsError::from)
            }
        };
        let attempt = Attempt { size: 0, metadata: headers.metadata.clone() };
        self.even_if_unanswered(key, &attempt, outcome).await
    }

    fn note_marker(&self, ino: u64, path: &str, written: Written, attributes: Attributes, xattrs: Xattrs) {
        let now = Instant::now();
        let mut table = self.tree.table();
        table.set_facts(ino, |facts| {
            facts.version = None;
            facts.marker = Some(version_of(&written.etag, written.version_id));
            (facts.marker_checked, facts.changed) = (Some(now), None);
            facts.settled = false;
            facts.attributes = Some(attributes);
            facts.xattrs = xattrs;
        });
        if let Some(node) = table.node_mut(ino) {
            node.checked = Some(now);
        }
        drop(table);
        self.forget_questions(path);
    }
}

fn changed(
    before: &[(String, String)],
    attributes: &Attributes,
    xattrs: &Xattrs,
) -> Result<Vec<(String, String)>, FsError> {
    let metadata = headers::metadata(before, attributes, xattrs, Content::Same);
    if metadata_bytes(&metadata) > METADATA_MAX { Err(FsError::TooManyAttributes) } else { Ok(metadata) }
}

/// What is to become of what a file says.
pub(super) trait Edit: FnOnce(&mut Attributes, &mut Xattrs) -> Result<(), FsError> + Send {}
impl<T: FnOnce(&mut Attributes, &mut Xattrs) -> Result<(), FsError> + Send> Edit for T {}

/// What a draft says beside its bytes.
#[derive(Clone)]
struct Said {
    attributes: Attributes,
    xattrs: Xattrs,
    times_set: bool,
    headers_changed: bool,
}

impl Said {
    fn of(state: &State) -> Said {
        let State { attributes, xattrs, times_set, headers_changed, .. } = state;
        let (attributes, xattrs) = (attributes.clone(), xattrs.clone());
        Said { attributes, xattrs, times_set: *times_set, headers_changed: *headers_changed }
    }

    /// This, without the change from `before` to `after`, which is undone. Only writing may have come between: the
    /// kernel lets nobody else change a file meanwhile.
    fn without(self, after: &Said, before: Said) -> Said {
        let is_written = self.attributes.mtime != after.attributes.mtime;
        let (mtime, ctime) = match is_written {
            true => (self.attributes.mtime, self.attributes.ctime),
            false => (before.attributes.mtime, before.attributes.ctime),
        };
        let size = self.attributes.size;
        let times_set = if is_written { self.times_set } else { before.times_set };
        Said { attributes: Attributes { mtime, ctime, size, ..before.attributes }, times_set, ..before }
    }
}

impl Change {
    /// The change, but for the size.
    pub(super) fn edit(self, tree: Arc<Tree>) -> impl Edit {
        move |attributes: &mut Attributes, xattrs: &mut Xattrs| {
            // Bits that the kernel does not know of it cannot take away from what gets another owner.
            if (self.uid.is_some() || self.gid.is_some()) && tree.hides_set_id(attributes.kind) {
                attributes.permissions &= !SET_ID;
            }
            self.apply(attributes, xattrs);
            Ok(())
        }
    }

    fn apply(&self, attributes: &mut Attributes, xattrs: &mut Xattrs) {
        if let Some(permissions) = self.permissions {
            attributes.permissions = permissions & 0o7777;
            *xattrs = acl::after_chmod(xattrs, permissions);
        }
        attributes.uid = self.uid.unwrap_or(attributes.uid);
        attributes.gid = self.gid.unwrap_or(attributes.gid);
        attributes.mtime = self.mtime.map_or(attributes.mtime, Timestamp::from);
        attributes.atime = self.atime.map_or(attributes.atime, Timestamp::from);
    }
}
