//! Asking the store what a name is, with as few requests as will do.
//!
//! ```text
//!   an object known before ......... one conditional GET
//!   a directory known before ....... the file below it that was found last: where a file is, a directory is
//!                                    (its marker's owner and mode are believed for `MARKER_PATIENCE`)
//!   nothing known .................. GET of the key and LIST of `key/`, at the same time: one round trip
//!   several names of one directory . one LIST of it, if it is small (`negative_cache.rs`)
//! ```
//!
//! What must hold: an answer counts from when its question *left*; questions about one name that wait at the same
//! time are asked once; a directory wins over an object of its name.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::time::Instant;

use super::attr::{self, Attributes};
use super::cache::BLOCK;
use super::directory::Page;
use super::inode::{Facts, ROOT};
use super::listing::{FOLDER_SUFFIX, Names, Open, Shown, names};
use super::negative_cache::Advice;
use super::single_flight::Role;
use super::store::{Body, Condition, Depth, List, ListStart, Listed, Object, StoreError, Version};
use super::tree::{Tree, join, parent_and_name};
use super::xattr::Xattrs;

mod probe;

use probe::KeyProbe;

/// How long owner, mode and times of a directory's marker are believed while the directory is only walked through:
/// opening or listing the directory asks. With `freshness = "0s"` there is no patience.
pub(super) const MARKER_PATIENCE: Duration = Duration::from_secs(30);
/// A write this close to when it was seen may be followed by another one within the same second, which the
/// store's clock cannot tell apart: such an object is asked for its headers, not for a difference.
const SAME_SECOND: i64 = 2;
/// How long an object is believed to be the only thing of its name: only a listing tells of keys that have appeared
/// below it, and such a bucket is a mistake.
const ALONE_PATIENCE: Duration = Duration::from_secs(300);
/// Longest wait for the answer to a question about a name, all attempts together.
pub const RESOLVE_DEADLINE: Duration = Duration::from_secs(30);
/// Key of the object in which s3fs keeps owner and mode of the root of a bucket.
const ROOT_KEY: &str = "/";

/// What the store said of a name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    /// The number that the name leads to; `None`: nothing has this name.
    pub found: Option<u64>,
    /// When the question left.
    pub sent_at: Instant,
}

/// What listing a directory showed of the directory itself.
#[derive(Clone, Debug)]
pub(super) struct DirectoryProbe {
    sent_at: Instant,
    /// Whether there is anything in it, its marker included.
    exists: bool,
    /// Whether all names in it were listed, and recorded.
    is_whole: bool,
    marker: Option<Listed>,
}

type Outcome = Result<Answer, StoreError>;

impl Tree {
    /// Asks the store about `path`, together with whoever is asking already, and records the answer.
    pub(super) async fn resolve(&self, path: &Arc<str>) -> Outcome {
        let freshness = self.rules.freshness;
        let asked = Instant::now();
        loop {
            let (this, subject) = (self.this.clone(), path.clone());
            let question = move |sent_at| async move {
                let tree = this.upgrade().ok_or_else(mount_is_gone)?;
                let answer = tokio::time::timeout(RESOLVE_DEADLINE, tree.question(&subject, sent_at)).await;
                let answer = answer.unwrap_or(Err(StoreError::TimedOut(RESOLVE_DEADLINE)));
                tree.availability().note(&answer);
                if let Ok(Answer { found: Some(ino), .. }) = answer {
                    tree.table().bear_witness(ino);
                }
                answer
            };
            let (role, answer) = self.questions.answer(path, freshness, self.runtime(), question).await;
            match answer {
                // What was joined may itself have joined an older question, once.
                Ok(Answer { sent_at, .. }) if role == Role::Follower && sent_at + freshness < asked => {}
                answer => return answer,
            }
        }
    }

    /// As [`ask`](Self::ask), by a question itself: boxed, because a future cannot hold one of its own kind.
    fn resolve_below<'a>(&'a self, path: &'a Arc<str>) -> BoxFuture<'a, Outcome> {
        self.resolve(path).boxed()
    }

    async fn question(&self, path: &Arc<str>, sent_at: Instant) -> Outcome {
        let known = self.table().named(path).map(|(ino, node)| (ino, node.facts.clone()));
        let (parent, _) = parent_and_name(path);
        let freshness = self.rules.freshness;
        let advice = self.negative_cache().advice(parent, known.is_none(), sent_at, freshness);
        if advice == Advice::List
            && let Some(answer) = self.by_listing(parent, path).await?
        {
            return Ok(answer);
        }
        let beside = (advice == Advice::AskAndList).then_some(parent);
        match known {
            Some((_, facts)) if facts.version.is_some() => {
                let answer = self.object(path, &facts, sent_at).await;
                self.even_if_unreadable(path, facts, sent_at, answer)
            }
            Some((ino, facts)) if facts.is_directory() => {
                self.known_directory(path, ino, &facts, sent_at).await
            }
            _ => self.discover(path, beside, sent_at).await,
        }
    }

    /// What a listing of `directory` says of `path` in it, if it says all that is wanted.
    async fn by_listing(&self, directory: &str, path: &str) -> Result<Option<Answer>, StoreError> {
        let seen = self.list_directory(&Arc::from(directory)).await?;
        if !seen.is_whole {
            return Ok(None);
        }
        let known = {
            let table = self.table();
            table.named(path).map(|(ino, node)| (ino, node.checked, self.fresh_entry(node, ino).is_some()))
        };
        let mut negative_cache = self.negative_cache();
        if let Some((ino, checked, is_fresh)) = known {
            let sent_at = checked.filter(|_| is_fresh);
            if let Some(sent_at) = sent_at {
                negative_cache.count_answer(directory, sent_at);
            }
            return Ok(sent_at.map(|sent_at| Answer { found: Some(ino), sent_at }));
        }
        let (_, name) = parent_and_name(path);
        // Only what the listing did not show is absent: the table may have had no room for it.
        let absent = negative_cache.absent_since(directory, name, Instant::now(), Duration::MAX);
        Ok(absent.map(|sent_at| Answer { found: None, sent_at }))
    }

    /// What the object known at `path` is now; and, once in a while, whether there is a directory of its name.
    async fn object(&self, path: &Arc<str>, known: &Facts, sent_at: Instant) -> Outcome {
        if known.alone.is_some_and(|seen| seen.elapsed() < ALONE_PATIENCE) {
            return self.object_itself(path, known, sent_at).await;
        }
        let (answer, seen) =
            futures::join!(self.object_itself(path, known, sent_at), self.list_directory(path));
        let seen = seen?;
        if seen.exists {
            return self.record_directory(path, seen).await;
        }
        let answer = answer?;
        self.note_alone(answer, sent_at);
        Ok(answer)
    }

    /// Whether the object known at `path` is still what it was.
    async fn object_itself(&self, path: &str, known: &Facts, sent_at: Instant) -> Outcome {
        let key = self.key(path);
        let version = known.version.as_ref().filter(|_| known.attributes.is_some() && known.settled);
        if let Some(Version { etag, last_modified: wrote, .. }) = version {
            match self.first(&key, Condition::Changed(etag.clone())).await? {
                KeyProbe::Unchanged { last_modified } if last_modified == Some(*wrote) => {
                    if let Some(ino) = self.record_unchanged(path, known, sent_at) {
                        return Ok(Answer { found: Some(ino), sent_at });
                    }
                }
                // The same content written again, perhaps with other headers.
                KeyProbe::Unchanged { .. } => {}
                first => return self.recorded(path, first, sent_at).await,
            }
        }
        // The headers are wanted: those of a listed object have not been seen, others may have changed unseen.
        let is_small = (1..=BLOCK).contains(&known.size) && known.attributes.is_none();
        let first = match known.version.as_ref().filter(|_| is_small) {
            Some(version) => self.whole(&key, version).await?,
            None => match self.store().head(&key).await {
                Ok(object) => KeyProbe::Object(object, None),
                Err(StoreError::NotFound { .. }) => KeyProbe::Absent,
                Err(error) => return Err(error),
            },
        };
        self.recorded(path, first, sent_at).await
    }

    /// Shows an object that was listed although it cannot be asked about: as a file that nobody may read.
    fn even_if_unreadable(&self, path: &str, facts: Facts, sent_at: Instant, answer: Outcome) -> Outcome {
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

    /// Whether the directory known at `path` is still there.
    async fn known_directory(&self, path: &Arc<str>, ino: u64, known: &Facts, sent_at: Instant) -> Outcome {
        let witness = self.table().witness(ino).filter(|_| self.marker_is_believed(known));
        if let Some(witness) = witness {
            let answer = self.resolve_below(&witness).await?;
            let proved = self.table().node(ino).and_then(|node| node.checked);
            if answer.found.is_some() && proved.is_some_and(|proved| proved >= answer.sent_at) {
                return Ok(Answer { found: Some(ino), sent_at: answer.sent_at });
            }
        }
        let seen = self.list_directory(path).await?;
        match seen.exists {
            true => self.record_directory(path, seen).await,
            false => {
                let first = self.first(&self.key(path), Condition::Always).await?;
                self.recorded_unless_folder(path, first, sent_at).await
            }
        }
    }

    /// What `path` is, knowing nothing. Lists `beside`, the directory that it is in, instead of itself if that
    /// says as much.
    async fn discover(&self, path: &Arc<str>, beside: Option<&str>, sent_at: Instant) -> Outcome {
        let key = self.key(path);
        let below = async {
            if let Some(beside) = beside
                && self.list_directory(&Arc::from(beside)).await?.is_whole
                && !self.table().named(path).is_some_and(|(_, node)| node.facts.is_directory())
            {
                return Ok(None);
            }
            self.list_directory(path).await.map(|seen| seen.exists.then_some(seen))
        };
        let (first, below) = futures::join!(self.first(&key, Condition::Always), below);
        match (below?, first) {
            (Some(seen), _) => self.record_directory(path, seen).await,
            (None, Err(error)) => self.unasked(path, &key, sent_at, error).await,
            (None, Ok(first)) => {
                let answer = self.recorded_unless_folder(path, first, sent_at).await?;
                self.note_alone(answer, sent_at);
                Ok(answer)
            }
        }
    }

    fn note_alone(&self, answer: Answer, sent_at: Instant) {
        let mut table = self.table();
        if let Some(node) = answer.found.and_then(|ino| table.node_mut(ino)) {
            node.facts.alone = Some(sent_at);
        }
    }

    /// Records what the key of `path` holds; where it holds nothing, whether `path` is a directory.
    async fn recorded(&self, path: &str, first: KeyProbe, sent_at: Instant) -> Outcome {
        match first {
            KeyProbe::Absent => {
                let path = Arc::from(path);
                let seen = self.list_directory(&path).await?;
                match seen.exists {
                    true => self.record_directory(&path, seen).await,
                    false => self.recorded_unless_folder(&path, KeyProbe::Absent, sent_at).await,
                }
            }
            first => self.recorded_unless_folder(path, first, sent_at).await,
        }
    }

    /// Records what the key of `path`, below which nothing is, holds.
    async fn recorded_unless_folder(&self, path: &str, first: KeyProbe, sent_at: Instant) -> Outcome {
        if self.has_folder_keys() && !path.is_empty() {
            let key = format!("{}{FOLDER_SUFFIX}", self.key(path));
            match self.store().head(&key).await {
                Ok(folder) => {
                    let facts = self.directory_facts(&key, Some(&folder), sent_at);
                    let found = Some(self.table().record(path, facts, sent_at));
                    return Ok(Answer { found, sent_at });
                }
                Err(StoreError::NotFound { .. }) => {}
                Err(error) => return Err(error),
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

    /// Lists `directory` to see whether it is one, together with whoever is listing it already. If it is small,
    /// all its names are recorded.
    pub(super) async fn list_directory(&self, directory: &Arc<str>) -> Result<DirectoryProbe, StoreError> {
        let (this, subject) = (self.this.clone(), directory.clone());
        let question = move |sent_at| async move {
            let tree = this.upgrade().ok_or_else(mount_is_gone)?;
            tree.listing(&subject, sent_at).await
        };
        self.listings.answer(directory, self.rules.freshness, self.runtime(), question).await.1
    }

    async fn listing(&self, directory: &str, sent_at: Instant) -> Result<DirectoryProbe, StoreError> {
        let limit = self.negative_cache().limit(directory, sent_at);
        let prefix = self.directory_prefix(directory);
        let list = List { prefix: &prefix, depth: Depth::Directory, from: ListStart::Start, limit };
        let page = self.store().list(list).await?;
        let exists = !page.objects.is_empty() || !page.prefixes.is_empty();
        let is_whole = page.next.is_none();
        let names = names(&prefix, page, Open::default(), &self.hidden);
        match is_whole {
            true => self.note_whole(directory, &names, exists, sent_at),
            false => self.negative_cache().keep_too_large(directory, sent_at),
        }
        if exists {
            let inos = self.record_names(directory, &names, sent_at);
            self.note_directory(directory, names.marker.as_ref(), sent_at);
            if let Some(ino) = self.table().find(directory).filter(|_| is_whole) {
                // Whoever lists it next need not ask again.
                self.keep_page(directory.into(), Page::whole(ino, names.shown, inos, sent_at).into());
            }
        }
        Ok(DirectoryProbe { sent_at, exists, is_whole, marker: names.marker })
    }

    /// Keeps that `names` are all of `directory`.
    pub(super) fn note_whole(&self, directory: &str, names: &Names, exists: bool, asked: Instant) {
        // What is no directory is asked about by its own name, not by those below it.
        if exists || directory.is_empty() {
            self.negative_cache().keep(directory, names.shown.iter().map(|(name, _)| &**name), asked);
        }
    }

    /// Records the names of a page of `directory` and answers their numbers, in the same order.
    pub(super) fn record_names(&self, directory: &str, names: &Names, asked: Instant) -> Vec<u64> {
        if names.has_folder_keys {
            self.folder_keys_seen();
        }
        let mut table = self.table();
        let facts = |shown: &Shown| match shown {
            // Recorded when it was made; a listing does not show it.
            Shown::Unsent => Facts::default(),
            Shown::Directory => Facts::directory(),
            Shown::Object(listed) => {
                let settled = is_settled(listed.last_modified);
                Facts { alone: Some(asked), ..Facts::listed(listed_version(listed), listed.size, settled) }
            }
        };
        names
            .shown
            .iter()
            .map(|(name, shown)| table.record(&join(directory, name), facts(shown), asked))
            .collect()
    }

    /// Records that `directory` was listed and is one, and whether its marker is the one that is known.
    pub(super) fn note_directory(&self, directory: &str, marker: Option<&Listed>, asked: Instant) {
        let mut table = self.table();
        let Some(ino) = table.find(directory) else { return };
        if let Some(node) = table.node_mut(ino)
            && node.facts.is_directory()
            && node.facts.version.is_none()
        {
            node.checked = node.checked.max(Some(asked));
            let known = node.facts.marker.as_ref().map(|known| (&known.etag, known.last_modified));
            let listed = marker.map(|listed| (&listed.etag, listed.last_modified));
            let is_same = known == listed && node.facts.settled && node.facts.attributes.is_some();
            // The marker of a bucket's root is not among what is listed in it.
            if !self.directory_prefix(directory).is_empty() {
                node.facts.marker_checked =
                    node.facts.marker_checked.filter(|_| is_same).max(is_same.then_some(asked));
            }
        }
        table.prove_above(ino, asked);
    }

    /// Records the directory `path`, which exists, with the headers of its marker.
    async fn record_directory(&self, path: &Arc<str>, seen: DirectoryProbe) -> Outcome {
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
    pub(super) async fn marker(&self, path: &str, asked: Instant) -> Result<Facts, StoreError> {
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
    pub(super) async fn headers(&self, path: &str, known: &Facts) -> Result<(), StoreError> {
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
    pub(super) async fn ask_for_root(&self) -> Result<(), StoreError> {
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
            return Facts::known_directory(
                Attributes::implicit_directory(defaults),
                Xattrs::default(),
                None,
                asked,
            );
        };
        // Whatever its key ends in, it is here because it makes a directory.
        let key = format!("{}/", key.trim_end_matches('/'));
        let version = (object.version.clone(), is_settled(object.version.last_modified));
        let xattrs = Xattrs::of(&object.metadata);
        Facts::known_directory(Attributes::of(&key, object, defaults), xattrs, Some(version), asked)
    }

    pub(super) fn record_object(
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
    fn record_unchanged(&self, path: &str, confirmed: &Facts, sent_at: Instant) -> Option<u64> {
        let mut table = self.table();
        let (_, node) = table.named(path)?;
        if node.facts.version != confirmed.version || node.facts.attributes != confirmed.attributes {
            return None;
        }
        let ino = table.record(path, confirmed.clone(), sent_at);
        table.prove_above(ino, sent_at);
        Some(ino)
    }

    /// Whether owner and mode of a directory can be had from memory.
    pub(super) fn marker_is_believed(&self, facts: &Facts) -> bool {
        let freshness = self.rules.freshness;
        let patience = if freshness.is_zero() { freshness } else { freshness.max(MARKER_PATIENCE) };
        let young = facts.marker_checked.is_some_and(|checked| checked.elapsed() < patience);
        facts.attributes.is_some() && young
    }

    /// Whether the root's own marker is to be asked about.
    pub(super) fn root_is_believed(&self) -> bool {
        let table = self.table();
        let checked = table.node(ROOT).and_then(|root| root.facts.marker_checked);
        // Before the first question the defaults do.
        checked.is_none_or(|checked| checked.elapsed() < MARKER_PATIENCE.max(self.rules.freshness))
    }
}

fn mount_is_gone() -> StoreError {
    StoreError::Malformed { reason: "the mount is gone".into() }
}

fn listed_version(listed: &Listed) -> Version {
    Version { etag: listed.etag.clone(), last_modified: listed.last_modified, version_id: None }
}

/// Whether a write is old enough that another one would show in the store's clock.
fn is_settled(last_modified: i64) -> bool {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX));
    now.saturating_sub(last_modified) >= SAME_SECOND
}
