//! What was answered, recorded in the table.
//!
//! What must hold: an answer counts from when its question left; what makes no sense beside what is known is not
//! believed.

use std::ops::Range;
use std::sync::Arc;

use tokio::time::Instant;

use super::answer::{Answer, DirectoryProbe, KeyProbe, Outcome, listed_version, mount_is_gone};
use crate::attr::{self, Attributes};
use crate::inode::Facts;
use crate::listing::FOLDER_SUFFIX;
use crate::store::{Body, Depth, List, ListStart, Listed, Object, StoreError};
use crate::tree::Tree;
use crate::xattr::Xattrs;

/// A write this close to when it was seen may be followed by another one within the same second, which the
/// store's clock cannot tell apart: such an object is asked for its headers, not for a difference.
const SAME_SECOND: i64 = 2;
/// Key of the object in which s3fs keeps owner and mode of the root of a bucket.
const ROOT_KEY: &str = "/";

/// Whether a write is old enough that another one would show in the store's clock.
pub(super) fn is_settled(last_modified: i64) -> bool {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX));
    now.saturating_sub(last_modified) >= SAME_SECOND
}

impl Tree {
    /// Shows an object that was listed although it cannot be asked about: as a file that nobody may read.
    pub(super) fn even_if_unreadable(
        &self,
        path: &str,
        facts: Facts,
        sent_at: Instant,
        answer: Outcome,
    ) -> Outcome {
        let (Err(error), Some(version)) = (&answer, &facts.version) else { return answer };
        if !error.is_about_one() {
            return answer;
        }
        self.hidden.note_unreadable(&self.key(path), error);
        let attributes = Attributes::unreadable(facts.size, version.last_modified, &self.rules.defaults);
        let facts = Facts {
            kind: Some(attributes.kind),
            attributes: Some(attributes),
            ..Facts::listed(version.clone(), facts.size, false)
        };
        let found = Some(self.table().record(path, facts, sent_at));
        Ok(Answer { found, sent_at })
    }

    pub(super) fn note_alone(&self, answer: Answer, sent_at: Instant) {
        let mut table = self.table();
        if let Some(node) = answer.found.and_then(|ino| table.node_mut(ino)) {
            node.facts.alone = Some(sent_at);
        }
    }

    /// Records what the key of `path`, below which nothing is, holds.
    pub(super) async fn recorded_unless_folder(
        &self,
        path: &str,
        first: KeyProbe,
        sent_at: Instant,
    ) -> Outcome {
        if self.has_folder_keys() && !path.is_empty() {
            let key = format!("{}{FOLDER_SUFFIX}", self.key(path));
            if let Some(folder) = self.folder(&key).await? {
                let facts = self.directory_facts(&key, folder.as_ref(), sent_at);
                let found = Some(self.table().record(path, facts, sent_at));
                return Ok(Answer { found, sent_at });
            }
        }
        match first {
            KeyProbe::Object(object, body) => {
                self.believe(path, &object, sent_at)?;
                let found = Some(self.record_object(path, object, sent_at, body));
                Ok(Answer { found, sent_at })
            }
            KeyProbe::Absent => {
                self.table().record_absent(path, sent_at);
                Ok(Answer { found: None, sent_at })
            }
            KeyProbe::Unchanged { .. } => {
                Err(StoreError::Malformed { reason: "\"not modified\" without a condition".into() })
            }
        }
    }

    /// The `_$folder$` object of this key if there is one; `Some(None)`: it is there, and no more is said of it.
    async fn folder(&self, key: &str) -> Result<Option<Option<Object>>, StoreError> {
        match self.store().head(key).await {
            Ok(folder) => Ok(Some(Some(folder))),
            Err(StoreError::NotFound { .. } | StoreError::KeyTooLong { .. }) => Ok(None),
            Err(error) if error.is_about_one() => {
                let listed = self.listed(key).await?;
                listed.iter().for_each(|_| self.hidden.note_unreadable(key, &error));
                Ok(listed.map(|_| None))
            }
            Err(error) => Err(error),
        }
    }

    /// What a listing says of the key.
    async fn listed(&self, key: &str) -> Result<Option<Listed>, StoreError> {
        let list = List { prefix: key, depth: Depth::Tree, from: ListStart::Start, limit: 1 };
        Ok(self.store().list(list).await?.objects.into_iter().find(|listed| listed.key == key))
    }

    /// An object whose entity tag is known has the size that is known. Where it has not, neither is believed: who asks next
    /// asks anew.
    fn believe(&self, path: &str, object: &Object, sent_at: Instant) -> Result<(), StoreError> {
        let mut table = self.table();
        let differs = table.named(path).is_some_and(|(_, node)| {
            let same = node.facts.version.as_ref().is_some_and(|known| known.etag == object.version.etag);
            same && !node.is_local && node.facts.size != object.size
        });
        if !differs {
            return Ok(());
        }
        table.record_absent(path, sent_at);
        let reason = format!("another size of {path:?} with the same entity tag: {} bytes", object.size);
        Err(StoreError::Malformed { reason })
    }

    /// Records the directory `path`, which exists, with the headers of its marker.
    pub(super) async fn record_directory(&self, path: &Arc<str>, seen: DirectoryProbe) -> Outcome {
        let sent_at = seen.sent_at;
        let known = {
            let table = self.table();
            table.named(path).and_then(|(ino, node)| {
                let is_known = node.facts.attributes.is_some() && node.facts.marker_checked >= Some(sent_at);
                (node.facts.version.is_none() && is_known).then_some(ino)
            })
        };
        let found = match known {
            Some(ino) => ino,
            None => {
                let facts = match seen.marker.is_some() || self.has_folder_keys() {
                    true => self.marker(path, sent_at).await?,
                    false => self.directory_facts("", None, sent_at),
                };
                let mut table = self.table();
                let ino = table.record(path, facts, sent_at);
                table.prove_above(ino, sent_at);
                ino
            }
        };
        Ok(Answer { found: Some(found), sent_at })
    }

    /// A directory as the headers of its marker describe it; one request.
    pub(crate) async fn marker(&self, path: &str, asked: Instant) -> Result<Facts, StoreError> {
        let prefix = self.directory_prefix(path);
        let key = if prefix.is_empty() { ROOT_KEY } else { prefix.as_str() };
        match self.store().head(key).await {
            Ok(object) => {
                if key == ROOT_KEY {
                    self.hidden.root_key_is_known();
                }
                Ok(self.directory_facts(key, Some(&object), asked))
            }
            Err(StoreError::NotFound { .. }) if self.has_folder_keys() && !path.is_empty() => {
                let key = format!("{}{FOLDER_SUFFIX}", self.key(path));
                let folder = self.store().head(&key).await.ok();
                Ok(self.directory_facts(&key, folder.as_ref(), asked))
            }
            // The name can be walked through even if what its marker says is not ours to know.
            Err(StoreError::NotFound { .. } | StoreError::Denied { .. }) => {
                Ok(self.directory_facts(key, None, asked))
            }
            Err(error) if error.is_about_one() => {
                // Of the root every question is about all of the store: its own answer tells.
                if !path.is_empty() {
                    self.hidden.note_unreadable(key, &error);
                }
                Ok(self.directory_facts(key, None, asked))
            }
            Err(error) => Err(error),
        }
    }

    /// Asks for the headers of what was listed as `path`, of which `known` is known.
    pub(crate) async fn headers(&self, path: &str, known: &Facts) -> Result<(), StoreError> {
        let _permit = self.headers_at_once.acquire().await.map_err(|_| mount_is_gone())?;
        let is_known = known.attributes.is_some();
        self.patiently(is_known, self.headers_now(path, known)).await
    }

    async fn headers_now(&self, path: &str, known: &Facts) -> Result<(), StoreError> {
        let sent_at = Instant::now();
        if known.version.is_none() {
            let facts = self.marker(path, sent_at).await?;
            let mut table = self.table();
            // A marker proves the directory. Without one only the listing does, which may be as old as it may be.
            let proved = match facts.marker {
                Some(_) => Some(sent_at),
                None => table.named(path).and_then(|(_, node)| node.checked),
            };
            if let Some(proved) = proved {
                table.record(path, facts, proved);
            }
            return Ok(());
        }
        match self.store().head(&self.key(path)).await {
            Ok(object) => {
                self.record_object(path, object, sent_at, None);
                Ok(())
            }
            // Gone since it was listed; whether a directory has its name now, the next listing says.
            Err(StoreError::NotFound { .. }) => {
                self.table().record_absent(path, sent_at);
                Ok(())
            }
            Err(error) => self.even_if_unreadable(path, known.clone(), sent_at, Err(error)).map(|_| ()),
        }
    }

    /// Asks for the headers of the root's marker.
    pub(crate) async fn ask_for_root(&self) -> Result<(), StoreError> {
        let asked = Instant::now();
        let facts = self.marker("", asked).await;
        self.availability().note(&facts);
        let facts = facts?;
        self.table().record("", facts, asked);
        Ok(())
    }

    fn directory_facts(&self, key: &str, marker: Option<&Object>, asked: Instant) -> Facts {
        let defaults = &self.rules.defaults;
        let Some(object) = marker else {
            return Facts::known_directory(self.rules.implicit_directory(), Xattrs::default(), None, asked);
        };
        // Whatever its key ends in, it is here because it makes a directory.
        let key = format!("{}/", key.trim_end_matches('/'));
        let version = (object.version.clone(), is_settled(object.version.last_modified));
        let xattrs = Xattrs::of(&object.metadata);
        Facts::known_directory(Attributes::of(&key, object, defaults), xattrs, Some(version), asked)
    }

    pub(crate) fn record_object(
        &self,
        path: &str,
        object: Object,
        sent_at: Instant,
        first: Option<(Range<u64>, Body)>,
    ) -> u64 {
        let attributes = Attributes::of(path, &object, &self.rules.defaults);
        let facts = Facts {
            kind: Some(attributes.kind),
            attributes: Some(attributes),
            xattrs: Xattrs::of(&object.metadata),
            target: attr::symlink_target_header(&object).map(Into::into),
            ..Facts::listed(object.version.clone(), object.size, is_settled(object.version.last_modified))
        };
        let ino = {
            let mut table = self.table();
            let ino = table.record(path, facts, sent_at);
            table.prove_above(ino, sent_at);
            ino
        };
        if let Some((range, body)) = first
            && let Ok(content) = self.content(ino)
            && (content.size(), &content.version().etag) == (object.size, &object.version.etag)
        {
            content.begin(range, body);
        }
        ino
    }

    /// Records that what is known of `path` was confirmed. `None` if something else is known by now.
    pub(super) fn record_unchanged(&self, path: &str, confirmed: &Facts, sent_at: Instant) -> Option<u64> {
        let mut table = self.table();
        let (_, node) = table.named(path)?;
        if node.facts.version != confirmed.version || node.facts.attributes != confirmed.attributes {
            return None;
        }
        let ino = table.record(path, confirmed.clone(), sent_at);
        table.prove_above(ino, sent_at);
        Some(ino)
    }

    /// What `path` is whose key cannot be asked about: whether anything is there, a listing says.
    pub(crate) async fn unasked(
        &self,
        path: &str,
        key: &str,
        sent_at: Instant,
        error: StoreError,
    ) -> Outcome {
        if matches!(error, StoreError::KeyTooLong { .. }) || !error.is_about_one() {
            return Err(error);
        }
        // Whoever may not list is told that a key is denied which does not exist.
        let is_denied = matches!(error, StoreError::Denied { .. });
        match self.listed(key).await {
            Ok(Some(listed)) => {
                let facts = Facts::listed(listed_version(&listed), listed.size, false);
                self.even_if_unreadable(path, facts, sent_at, Err(error))
            }
            _ if is_denied => Err(error),
            Err(error) => Err(error),
            Ok(None) => {
                self.table().record_absent(path, sent_at);
                Ok(Answer { found: None, sent_at })
            }
        }
    }
}
