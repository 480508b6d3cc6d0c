//! Names: made and taken away.
//!
//! What must hold: a name is made only where none is, by the store's own judgement; a directory does not vanish with the
//! last file in it; what is open stays readable when its name goes.

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use super::acl;
use super::files::Opened;
use super::handles::Access;
use super::headers::{self, Content};
use super::state::{State, unknown_version, version_of};
use super::writing::Writing;
use crate::attr::{Attributes, DIRECTORY_SIZE, Kind, SYMLINK_MAX, Timestamp};
use crate::error::FsError;
use crate::inode::Facts;
use crate::listing::{FOLDER_SUFFIX, is_hidden, is_name};
use crate::store::write::{Headers, KEY_MAX, METADATA_MAX, Put, WriteIf, metadata_bytes};
use crate::store::{Depth, EMPTY_PAGES, ETag, List, ListStart, Listed, StoreError, Version};
use crate::tree::{Entry, Looked, join};
use crate::xattr::Xattrs;

/// Who asks for something new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    pub uid: u32,
    pub gid: u32,
}

/// Something that is to be made.
#[derive(Clone, Copy, Debug)]
pub struct New<'a> {
    pub parent: u64,
    pub name: &'a str,
    pub kind: Kind,
    pub permissions: u16,
    /// What the caller takes away from `permissions`, unless the directory has an ACL for what is in it.
    pub umask: u16,
    pub caller: Caller,
}

/// A name that is to be made, with what it will be.
struct Plan {
    path: Arc<str>,
    attributes: Attributes,
    xattrs: Xattrs,
    content_type: &'static str,
}

/// A name that was made, and what the store has of it.
struct Made {
    entry: Entry,
    path: Arc<str>,
    xattrs: Xattrs,
    headers: Headers,
    version: Version,
}

/// A marker that a directory got for what is about to happen in it.
pub(super) struct MadeMarker {
    ino: u64,
    key: String,
    etag: ETag,
}

/// A directory that is only a prefix of keys: its path, and what is known of it.
type Bare = (Arc<str>, Option<Attributes>);

impl Writing {
    /// Makes a file and opens it. It is in the store once it is flushed; with `is_exclusive` it is there at once,
    /// because somebody may count on being the only one.
    ///
    /// # Errors
    ///
    /// [`FsError::Exists`] from an exclusive call; whatever the store says.
    pub async fn create(&self, new: New<'_>, is_exclusive: bool) -> Result<(Entry, Opened), FsError> {
        self.may_write()?;
        let plan = self.plan(&new)?;
        if is_exclusive {
            return self.open_made(self.make(plan, Bytes::new()).await?).await;
        }
        let Plan { path, attributes, xattrs, content_type } = plan;
        let facts = Facts {
            kind: Some(Kind::File),
            attributes: Some(attributes.clone()),
            xattrs: xattrs.clone(),
            ..Facts::listed(unknown_version(), 0, false)
        };
        let ino = self.record(&path, facts);
        let state = self.state_of_new(path.clone(), attributes.clone(), xattrs, content_type);
        let opened = self.open_new(ino, state)?;
        let mut table = self.tree.table();
        table.set_unsent(&path, true);
        table.set_local(ino, true, Instant::now());
        drop(table);
        Ok((Entry { ino, attributes, valid_for: self.tree.rules.freshness }, opened))
    }

    /// Opens what was just made. Asks nobody: what is there is known.
    async fn open_made(&self, made: Made) -> Result<(Entry, Opened), FsError> {
        let Made { entry, path, xattrs, headers, version } = made;
        let (key, etag) = (self.tree.key(&path), version.etag.clone());
        let new = self.state_of_new(path, entry.attributes.clone(), xattrs, "");
        let base = Some(self.base(entry.ino, &key, version, 0));
        let state = State { base, headers, headers_changed: false, ..new };
        match self.open_new(entry.ino, state) {
            Ok(opened) => Ok((entry, opened)),
            Err(error) => {
                if let Err(error) = self.delete_unchanged(key.clone(), etag).await {
                    tracing::warn!(key, error = %error, "a file that could not be opened is left behind");
                }
                Err(error)
            }
        }
    }

    /// Opens a file of which the kernel is about to be told; if that cannot be, it has no name any more.
    fn open_new(&self, ino: u64, state: State) -> Result<Opened, FsError> {
        let path = state.path.clone();
        // First, as everywhere.
        let opened = Opened { handle: self.handles().open(ino, Access::Write) };
        if let Err(error) = self.begin(ino, state) {
            self.handles().close(opened.handle);
            self.drop_name(&path, ino);
            self.tree.forget(ino, 1);
            return Err(error);
        }
        Ok(opened)
    }

    /// Makes something that is no open file: a directory, a symbolic link (to `target`), a fifo, an empty file.
    ///
    /// # Errors
    ///
    /// [`FsError::Exists`]; [`FsError::NameTooLong`]; whatever the store says.
    pub async fn make_new(&self, new: New<'_>, target: &[u8]) -> Result<Entry, FsError> {
        if target.len() as u64 > SYMLINK_MAX {
            return Err(FsError::NameTooLong);
        }
        Ok(self.make(self.plan(&new)?, Bytes::copy_from_slice(target)).await?.entry)
    }

    fn plan(&self, new: &New<'_>) -> Result<Plan, FsError> {
        if !is_name(new.name) {
            return Err(if new.name.len() > 255 { FsError::NameTooLong } else { FsError::Invalid });
        }
        let path = join(&self.tree.directory_path(new.parent)?, new.name);
        if self.tree.key(&path).len() + usize::from(new.kind == Kind::Directory) > KEY_MAX {
            return Err(FsError::NameTooLong);
        }
        let (parent, xattrs) = {
            let table = self.tree.table();
            let node = table.node(new.parent).ok_or(FsError::Stale)?;
            (node.facts.attributes.clone(), node.facts.xattrs.clone())
        };
        // In a directory with the set-gid bit everything belongs to the directory's group.
        let group = parent.filter(|parent| parent.permissions & 0o2000 != 0).map(|parent| parent.gid);
        let inherits = if group.is_some() && new.kind == Kind::Directory { 0o2000 } else { 0 };
        let inherited = acl::inherited(&xattrs, new.kind, new.permissions & 0o7777, new.umask);
        let now = Timestamp::now();
        let attributes = Attributes {
            kind: new.kind,
            permissions: inherited.permissions | inherits,
            uid: new.caller.uid,
            gid: group.unwrap_or(new.caller.gid),
            size: if new.kind == Kind::Directory { DIRECTORY_SIZE } else { 0 },
            mtime: now,
            ctime: now,
            atime: now,
        };
        let content_type = headers::content_type(new.name, new.kind);
        Ok(Plan { path, attributes, xattrs: inherited.xattrs, content_type })
    }

    async fn make(&self, plan: Plan, body: Bytes) -> Result<Made, FsError> {
        let _names = self.names.read().await;
        let Plan { path, mut attributes, xattrs, content_type } = plan;
        let is_directory = attributes.kind == Kind::Directory;
        let key = self.tree.key(&path) + if is_directory { "/" } else { "" };
        if !is_directory {
            attributes.size = body.len() as u64;
        }
        let metadata = headers::metadata(&[], &attributes, &xattrs, Content::New);
        if metadata_bytes(&metadata) > METADATA_MAX {
            return Err(FsError::TooManyAttributes);
        }
        let headers =
            Headers { content_type: Some(content_type.to_string()), metadata, ..Headers::default() };
        let put = Put { key: &key, body, headers: &headers, tags: &[], condition: WriteIf::Absent };
        let answer = self.put_new(put).await;
        self.tree.availability().note(&answer);
        let written = match answer {
            Err(error) if error.may_be_done() || matches!(error, StoreError::Changed { .. }) => {
                match (self.own(&key, &headers).await, error) {
                    (Ok(Some(written)), _) => written,
                    (Ok(None), StoreError::Changed { .. }) => return Err(FsError::Exists),
                    (Err(error), StoreError::Changed { .. }) => return Err(error),
                    (_, error) => return Err(error.into()),
                }
            }
            answer => answer?,
        };
        let version = version_of(&written.etag, written.version_id);
        let size = attributes.size;
        let facts = match is_directory {
            true => {
                let marker = Some((version.clone(), false));
                Facts::known_directory(attributes.clone(), xattrs.clone(), marker, Instant::now())
            }
            false => Facts {
                kind: Some(attributes.kind),
                attributes: Some(attributes.clone()),
                xattrs: xattrs.clone(),
                alone: Some(Instant::now()),
                ..Facts::listed(version.clone(), size, false)
            },
        };
        let ino = self.record(&path, facts);
        if is_directory {
            self.tree.negative_cache().keep(&path, std::iter::empty(), Instant::now());
        }
        let entry = Entry { ino, attributes, valid_for: self.tree.rules.freshness };
        Ok(Made { entry, path, xattrs, headers, version })
    }

    /// What is at `key` if it is what we have just tried to put there: an answer of the store got lost.
    async fn own(
        &self,
        key: &str,
        headers: &Headers,
    ) -> Result<Option<crate::store::write::Written>, FsError> {
        let Some(found) = self.found(key).await? else { return Ok(None) };
        let is_ours = headers.metadata.iter().all(|pair| found.metadata.contains(pair));
        Ok(is_ours.then_some(crate::store::write::Written {
            etag: found.version.etag,
            version_id: found.version.version_id,
        }))
    }

    /// Gives a new name its number, of which the kernel is about to be told.
    fn record(&self, path: &Arc<str>, facts: Facts) -> u64 {
        let ino = {
            let mut table = self.tree.table();
            let ino = table.make(path.clone(), facts, Instant::now());
            self.tree.remember(&mut table, ino);
            ino
        };
        self.note_change(path, true);
        ino
    }

    /// Takes a file's name away.
    ///
    /// # Errors
    ///
    /// [`FsError::NotFound`], [`FsError::IsDirectory`]; whatever the store says.
    pub async fn unlink(&self, parent: u64, name: &str) -> Result<(), FsError> {
        let (path, ino) = self.known(parent, name).await?;
        let _names = self.names.read().await;
        let (is_directory, version) =
            self.facts(ino, |facts| (facts.is_directory(), facts.version.clone()))?;
        if is_directory {
            return Err(FsError::IsDirectory);
        }
        let leaving = self.prepare_to_leave(ino).await?;
        let base = match &leaving {
            Some(leaving) => self.seen_of(leaving).await,
            None => None,
        };
        let seen = base.or(version.filter(|version| *version != unknown_version()));
        let key = self.tree.key(&path);
        let outcome = self.leaving_a_directory(parent, &key, async {
            if seen.is_some() { self.delete_seen(&key, seen).await } else { Ok(()) }
        });
        let outcome = outcome.await;
        match &outcome {
            Ok(()) => {
                self.remove_name(&path, ino);
                self.note_change(&path, false);
                self.leave_name(leaving).await;
            }
            Err(error) => {
                match error {
                    FsError::Stale => self.drop_name(&path, ino),
                    _ => self.doubt(&path, ino),
                }
                self.stay(leaving).await;
            }
        }
        outcome
    }

    /// What was `ino` has been taken away from `path`.
    fn remove_name(&self, path: &str, ino: u64) {
        let mut table = self.tree.table();
        if !table.is_made_anew(path, ino) {
            table.remove_name(path, Instant::now());
        }
    }

    /// Takes an empty directory away, in whatever guise it is one.
    ///
    /// # Errors
    ///
    /// [`FsError::NotEmpty`]; [`FsError::NotDirectory`]; whatever the store says.
    pub async fn rmdir(&self, parent: u64, name: &str) -> Result<(), FsError> {
        let (path, ino) = self.known(parent, name).await?;
        let _names = self.names.read().await;
        let (is_directory, object) =
            self.facts(ino, |facts| (facts.is_directory(), facts.version.clone()))?;
        if !is_directory {
            return Err(FsError::NotDirectory);
        }
        match self.be_empty(&path).await {
            Err(FsError::OnlyHidden { .. }) if self.rules.remove_hidden => self.remove_hidden(&path).await?,
            outcome => outcome?,
        }
        let key = self.tree.key(&path);
        let outcome = self.leaving_a_directory(parent, &key, async {
            if object.is_some() {
                self.delete_seen(&key, object).await?;
            }
            if self.tree.has_folder_keys() {
                self.delete(&format!("{key}{FOLDER_SUFFIX}"), WriteIf::Always).await?;
            }
            self.delete(&format!("{key}/"), WriteIf::Always).await
        });
        outcome.await?;
        let now = Instant::now();
        self.remove_name(&path, ino);
        self.tree.negative_cache().forget(&path, now);
        self.note_change(&path, false);
        Ok(())
    }

    /// Makes sure that nothing but its marker is in a directory, here or in the store.
    ///
    /// # Errors
    ///
    /// [`FsError::NotEmpty`]; [`FsError::OnlyHidden`], which is told, where nobody can see why; whatever the store says.
    pub(super) async fn be_empty(&self, path: &str) -> Result<(), FsError> {
        if !self.tree.table().unsent_in(path).is_empty() {
            return Err(FsError::NotEmpty);
        }
        let prefix = self.tree.directory_prefix(path);
        let mut next = None::<String>;
        for _ in 0..EMPTY_PAGES {
            let from = next.as_deref().map_or(ListStart::Start, ListStart::Page);
            let answer =
                self.store().list(List { prefix: &prefix, depth: Depth::Tree, from, limit: 2 }).await;
            self.tree.availability().note(&answer);
            let page = answer?;
            if let Some(object) = page.objects.iter().find(|object| object.key != prefix) {
                let is_hidden = is_hidden(object.key.strip_prefix(&prefix).unwrap_or_default());
                if !is_hidden || self.all_hidden(&prefix).await?.is_none() {
                    return Err(FsError::NotEmpty);
                }
                if !self.rules.remove_hidden {
                    self.tree.hidden.note_in_the_way(&object.key);
                }
                return Err(FsError::OnlyHidden { key: object.key.clone() });
            }
            next = page.next;
            if next.is_none() {
                return Ok(());
            }
        }
        Err(StoreError::Malformed { reason: format!("a listing of {prefix:?} without keys or an end") }
            .into())
    }

    /// The objects below `prefix`, its marker aside, if no file name can stand for any of them.
    async fn all_hidden(&self, prefix: &str) -> Result<Option<Vec<Listed>>, FsError> {
        let mut objects = self.all_below(prefix).await?;
        objects.retain(|object| object.key != prefix);
        let mut rests = objects.iter().map(|object| object.key.strip_prefix(prefix).unwrap_or_default());
        Ok(rests.all(is_hidden).then_some(objects))
    }

    /// Removes what is in a directory and can have no name in it.
    async fn remove_hidden(&self, path: &str) -> Result<(), FsError> {
        let hidden = self.all_hidden(&self.tree.directory_prefix(path)).await?.ok_or(FsError::NotEmpty)?;
        for object in hidden {
            tracing::info!(key = object.key, "a key that no file name can stand for goes with its directory");
            self.delete_seen(&object.key, Some(version_of(&object.etag, None))).await?;
        }
        Ok(())
    }

    /// Takes the name of `key` away, as `taken` does it, and leaves the directory in which it was: with a marker, and as
    /// it was after an error.
    async fn leaving_a_directory(
        &self,
        ino: u64,
        key: &str,
        taken: impl Future<Output = Result<(), FsError>>,
    ) -> Result<(), FsError> {
        if self.is_to_be_kept(ino)?.is_some() {
            self.may_delete(key).await?;
        }
        let made = self.keep_directory(ino).await?;
        let outcome = taken.await;
        if outcome.is_err() {
            self.unkeep_directory(made).await;
        }
        outcome
    }

    /// The path and the attributes of a directory that is only a prefix of keys.
    fn is_to_be_kept(&self, ino: u64) -> Result<Option<Bare>, FsError> {
        let table = self.tree.table();
        let node = table.node(ino).ok_or(FsError::Stale)?;
        let is_kept = node.path.is_empty() || node.facts.marker.is_some() || node.facts.version.is_some();
        Ok((!is_kept).then(|| (node.path.clone(), node.facts.attributes.clone())))
    }

    /// Gives a directory that is only a prefix of keys a marker, so that it stays when the last key goes; answers what
    /// was made.
    pub(super) async fn keep_directory(&self, ino: u64) -> Result<Option<MadeMarker>, FsError> {
        let Some((path, attributes)) = self.is_to_be_kept(ino)? else { return Ok(None) };
        let now = Timestamp::now();
        let mtime = self.facts(ino, |facts| facts.changed)?.unwrap_or(now);
        let defaults = self.tree.rules.implicit_directory();
        let attributes = Attributes { mtime, ctime: now, atime: now, ..attributes.unwrap_or(defaults) };
        let metadata = headers::metadata(&[], &attributes, &Xattrs::default(), Content::New);
        let content_type = Some(headers::content_type("", Kind::Directory).to_string());
        let headers = Headers { content_type, metadata, ..Headers::default() };
        let key = self.tree.directory_prefix(&path);
        let (body, condition) = (Bytes::new(), WriteIf::Absent);
        match self.put_new(Put { key: &key, body, headers: &headers, tags: &[], condition }).await {
            Ok(written) => {
                let version = Some(version_of(&written.etag, written.version_id));
                self.tree.table().set_facts(ino, |facts| {
                    facts.marker = version;
                    facts.settled = false;
                });
                Ok(Some(MadeMarker { ino, key, etag: written.etag }))
            }
            // It has one by now.
            Err(StoreError::Changed { .. }) => Ok(None),
            Err(error) if error.may_be_done() && matches!(self.found(&key).await, Ok(Some(_))) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes a marker back: that for which it was made has not happened.
    pub(super) async fn unkeep_directory(&self, made: Option<MadeMarker>) {
        let Some(MadeMarker { ino, key, etag }) = made else { return };
        match self.delete_unchanged(key.clone(), etag).await {
            Ok(()) => self.tree.table().set_facts(ino, |facts| facts.marker = None),
            Err(error) => tracing::debug!(key, error = %error, "a directory keeps a marker"),
        }
    }

    /// What `name` in `parent` is: the kernel has just looked it up.
    pub(super) async fn known(&self, parent: u64, name: &str) -> Result<(Arc<str>, u64), FsError> {
        let path = join(&self.tree.directory_path(parent)?, name);
        if let Some(ino) = self.tree.table().find(&path) {
            return Ok((path, ino));
        }
        match self.tree.lookup(parent, name).await? {
            Looked::Found(Entry { ino, .. }) => {
                // The kernel has not been told.
                self.tree.forget(ino, 1);
                Ok((path, ino))
            }
            Looked::Absent { .. } => Err(FsError::NotFound),
        }
    }
}
