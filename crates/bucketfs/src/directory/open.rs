//! An open directory: its pages are listed, completed and read ahead.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use tokio::time::Instant;

use super::page::{HEADERS_AT_ONCE, Item, PAGE_BITS, Page, items};
use crate::attr::{self, Attributes, Kind};
use crate::error::FsError;
use crate::inode::{Facts, ROOT};
use crate::listing::{Open, Shown, names};
use crate::resolve::RESOLVE_DEADLINE;
use crate::single_flight::SingleFlight;
use crate::store::{Depth, EMPTY_PAGES, List, ListStart, StoreError};
use crate::tree::{Entry, Tree, join};

/// Entries of a page at the most: what one LIST answers.
const PAGE_LIMIT: u16 = 1_000;
/// The first page, listed by opening the directory, serves the reading that follows.
const JUST_LISTED: Duration = Duration::from_secs(1);
/// Items that are completed together.
const CHUNK: usize = 128;
/// Names not stored yet that a listing shows: what fits into an offset.
const UNSENT_SHOWN: usize = 700;
/// Pages held: the one that is read, and the next.
const PAGES_HELD: usize = 2;
/// How long no headers are asked for after some did not come: their names are shown without.
const NO_HEADERS_FOR: Duration = Duration::from_secs(10);

/// How much a reader of the directory wants to know of each entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Names, and what else is known: nothing is asked for beside the listing.
    Names,
    /// Attributes too.
    Attributes,
}

/// How long a listing says which names are looked up next.
const WALK_PATIENCE: Duration = Duration::from_secs(60);
/// How many names a reader may pass over who looks up one after the other.
const STRIDE: usize = 16;

/// Items that have been completed, in their order.
pub struct Batch {
    page: Arc<Page>,
    from: usize,
    to: usize,
    unknown: Unknown,
}

/// Paths of which the headers could not be had.
type Unknown = Arc<BTreeSet<Arc<str>>>;

impl Batch {
    pub fn items(&self) -> &[Item] {
        self.page.items.get(self.from..self.to).unwrap_or_default()
    }
}

/// An open directory.
pub struct Directory {
    ino: u64,
    path: Arc<str>,
    state: Mutex<State>,
    listings: SingleFlight<Arc<Page>>,
    completions: SingleFlight<Unknown>,
}

#[derive(Default)]
struct State {
    /// How page 1, 2, ... was reached, and what the pages before it left open. Page 0 needs neither.
    starts: Vec<(String, Open)>,
    /// Names that the first page shows although the store did not list them: they are not stored yet.
    unsent: BTreeSet<Arc<str>>,
    /// Of a directory that a process before had opened: the offset up to which it was read, and the name there.
    read_to: Option<(u64, String)>,
    pages: VecDeque<Arc<Page>>,
    /// When headers that were asked for did not come.
    silent: Option<Instant>,
    /// How far somebody who looks up one name after the other has come.
    walk: Walk,
}

/// Somebody who looks up the names of a directory in their order.
#[derive(Clone, Copy, Default)]
struct Walk {
    page: usize,
    /// Behind the name that was looked up last.
    next: usize,
    /// Names in a row.
    names: usize,
}

impl Directory {
    /// Opens the directory `ino` and lists its first page, or takes it from a listing younger than `freshness`: a
    /// directory that is none any more is noticed here.
    ///
    /// # Errors
    ///
    /// [`FsError::NotDirectory`]; [`FsError::Stale`] when nothing is in it any more.
    pub async fn open(tree: &Arc<Tree>, ino: u64) -> Result<Arc<Directory>, FsError> {
        let directory = Arc::new(Directory {
            ino,
            path: tree.directory_path(ino)?,
            state: Mutex::default(),
            listings: SingleFlight::default(),
            completions: SingleFlight::default(),
        });
        if let Some(page) = directory.fresh_page(tree) {
            directory.keep(page, None);
            return Ok(directory);
        }
        let page = directory.clone().list(tree.clone(), 0).await?;
        if page.has_keys || ino == ROOT || directory.is_of_an_object(tree).await? {
            // Who lists once lists again: the next time the listing that follows is proof enough.
            if let Some(node) = tree.table().node_mut(ino) {
                node.witness = None;
            }
            return Ok(directory);
        }
        tree.table().record_absent(&directory.path, page.asked);
        Err(FsError::Stale)
    }

    /// The directory `ino`, opened by a process before and read up to `read_to`: an offset, and the name before it.
    ///
    /// # Errors
    ///
    /// [`FsError::NotDirectory`]; whatever listing meets.
    pub async fn reopen(
        tree: &Arc<Tree>,
        ino: u64,
        read_to: Option<(u64, String)>,
    ) -> Result<Arc<Directory>, FsError> {
        let directory = Arc::new(Directory {
            ino,
            path: tree.directory_path(ino)?,
            state: Mutex::new(State { read_to: read_to.clone(), ..State::default() }),
            listings: SingleFlight::default(),
            completions: SingleFlight::default(),
        });
        let last = read_to.map_or(0, |(offset, _)| (offset >> PAGE_BITS) as usize);
        for number in 0..=last {
            // How a page is reached, the page before it says.
            if directory.page(tree, number, Seek::On).await?.is_last {
                break;
            }
        }
        Ok(directory)
    }

    /// The place in `page` where reading goes on that a process before has begun: behind the name that it ended with,
    /// which may stand elsewhere by now.
    fn place(&self, page: &Page, offset: u64, from: usize) -> usize {
        let state = self.state();
        let Some((_, name)) = state.read_to.as_ref().filter(|(read_to, _)| *read_to == offset) else {
            return from;
        };
        let same = page.items.iter().position(|item| *item.name == **name).map(|at| at + 1);
        let is_dot = |item: &Item| matches!(&*item.name, "." | "..");
        let behind = || page.items.iter().position(|item| !is_dot(item) && *item.name > **name);
        same.or_else(behind).unwrap_or(from)
    }

    /// The whole directory, as it was listed less than `freshness` ago and is still known: a name that has gone, or
    /// another version under one, means that there is something to be asked.
    fn fresh_page(&self, tree: &Tree) -> Option<Arc<Page>> {
        let page = tree.last_page(&self.path)?;
        if !page.has_keys || page.asked.elapsed() >= tree.rules.freshness {
            return None;
        }
        let is_known = {
            let table = tree.table();
            let names = page.items.iter().filter(|item| item.ino != self.ino);
            names.into_iter().all(|item| table.find(&join(&self.path, &item.name)) == Some(item.ino))
        };
        if is_known {
            tree.negative_cache().count_answer(&self.path, page.asked);
        }
        is_known.then_some(page)
    }

    /// Whether an object of its name makes this, in which nothing is, a directory.
    async fn is_of_an_object(&self, tree: &Tree) -> Result<bool, FsError> {
        let may_be = tree.table().node(self.ino).is_some_and(|node| node.facts.version.is_some());
        if !may_be && !tree.has_folder_keys() {
            return Ok(false);
        }
        let answer = tree.resolve(&self.path).await?;
        let table = tree.table();
        Ok(answer.found == Some(self.ino)
            && table.node(self.ino).is_some_and(|node| node.facts.is_directory()))
    }

    pub fn ino(&self) -> u64 {
        self.ino
    }

    /// Some items from `offset` on; none at the end.
    ///
    /// # Errors
    ///
    /// Whatever listing meets; [`StoreError::TimedOut`] after [`RESOLVE_DEADLINE`].
    pub async fn batch(
        self: &Arc<Self>,
        tree: &Arc<Tree>,
        offset: u64,
        detail: Detail,
    ) -> Result<Batch, FsError> {
        let found = tokio::time::timeout(RESOLVE_DEADLINE, self.batch_from(tree, offset, detail)).await;
        found.unwrap_or(Err(StoreError::TimedOut(RESOLVE_DEADLINE).into()))
    }

    async fn batch_from(
        self: &Arc<Self>,
        tree: &Arc<Tree>,
        offset: u64,
        detail: Detail,
    ) -> Result<Batch, FsError> {
        let mut empty = 0;
        let mut number = (offset >> PAGE_BITS) as usize;
        let mut from = (offset & ((1 << PAGE_BITS) - 1)) as usize;
        loop {
            let page = self.page(tree, number, if offset == 0 { Seek::Again } else { Seek::On }).await?;
            if number == (offset >> PAGE_BITS) as usize {
                from = self.place(&page, offset, from);
            }
            if from < page.items.len() {
                let chunk = from / CHUNK;
                let completion = self.complete(tree, &page, chunk, detail);
                if offset > 0 {
                    self.read_ahead(tree, &page, chunk, detail);
                }
                let unknown = match completion {
                    Some(completion) => completion.await?,
                    None => Unknown::default(),
                };
                let to = page.items.len().min((chunk + 1) * CHUNK);
                return Ok(Batch { page, from, to, unknown });
            }
            if page.is_last {
                return Ok(Batch { page, from: 0, to: 0, unknown: Unknown::default() });
            }
            empty += 1;
            if empty > EMPTY_PAGES {
                let reason = format!("{EMPTY_PAGES} pages of a listing without a key");
                return Err(StoreError::Malformed { reason }.into());
            }
            number += 1;
            from = 0;
        }
    }

    async fn page(
        self: &Arc<Self>,
        tree: &Arc<Tree>,
        number: usize,
        how: Seek,
    ) -> Result<Arc<Page>, FsError> {
        let held = self.state().pages.iter().find(|page| page.number == number).cloned();
        if let Some(page) = held
            // Going back to the start asks again, as POSIX wants.
            && (how == Seek::On
                || page.asked.elapsed() < tree.rules.freshness.max(JUST_LISTED)
                    && !tree.negative_cache().has_changed_since(&self.path, page.asked))
        {
            return Ok(page);
        }
        let (this, with) = (self.clone(), tree.clone());
        let question = move |_| this.list(with, number);
        let subject = Arc::from(number.to_string());
        Ok(self.listings.answer(&subject, Duration::MAX, tree.runtime(), question).await.1?)
    }

    /// Lists page `number` and keeps it.
    async fn list(self: Arc<Self>, tree: Arc<Tree>, number: usize) -> Result<Arc<Page>, StoreError> {
        let start = match number.checked_sub(1) {
            None => None,
            Some(before) => Some(self.state().starts.get(before).cloned().ok_or_else(no_such_page)?),
        };
        let (token, open) = start.unzip();
        let prefix = tree.directory_prefix(&self.path);
        let from = token.as_deref().map_or(ListStart::Start, ListStart::Page);
        let unsent = tree.table().unsent_in(&self.path);
        let asked = Instant::now();
        let list = List { prefix: &prefix, depth: Depth::Directory, from, limit: PAGE_LIMIT };
        let known = if number == 0 { tree.last_page(&self.path) } else { None };
        let answer = tree.patiently(known.is_some(), tree.store().list(list)).await;
        tree.availability().note(&answer);
        let answer = match (answer, known) {
            (Err(error), Some(page)) if error.is_outage() => {
                self.keep(page.clone(), None);
                return Ok(page);
            }
            (answer, _) => answer?,
        };
        let has_keys = !answer.objects.is_empty() || !answer.prefixes.is_empty();
        let next = answer.next.clone();
        if self.state().starts.iter().take(number).any(|(before, _)| next.as_ref() == Some(before)) {
            return Err(StoreError::Malformed { reason: "a listing that goes in a circle".into() });
        }
        let names = names(&prefix, answer, open.unwrap_or_default(), &tree.hidden);
        let inos = tree.record_names(&self.path, &names, asked);
        if number == 0 {
            if has_keys {
                tree.note_directory(&self.path, names.marker.as_ref(), asked);
            }
            if next.is_none() {
                tree.note_whole(&self.path, &names, has_keys, asked);
            }
        }
        let (shown, inos) = self.with_unsent(number, unsent, names.shown, inos);
        let items = items(self.ino, number, shown, inos);
        let page = Arc::new(Page { number, items, asked, is_last: next.is_none(), has_keys });
        if number == 0 && page.is_last {
            tree.keep_page(self.path.clone(), page.clone());
        }
        self.keep(page.clone(), next.map(|token| (token, names.open)));
        Ok(page)
    }

    /// Shows names that the store does not have yet on the first page, and on no other.
    fn with_unsent(
        &self,
        number: usize,
        unsent: Vec<(Arc<str>, u64)>,
        mut shown: Vec<(Arc<str>, Shown)>,
        mut inos: Vec<u64>,
    ) -> (Vec<(Arc<str>, Shown)>, Vec<u64>) {
        let mut state = self.state();
        if number == 0 {
            state.unsent.clear();
            for (name, ino) in unsent.into_iter().take(UNSENT_SHOWN) {
                if shown.iter().all(|(listed, _)| *listed != name) {
                    shown.push((name.clone(), Shown::Unsent));
                    inos.push(ino);
                    state.unsent.insert(name);
                }
            }
        } else if !state.unsent.is_empty() {
            let both = shown.into_iter().zip(inos);
            (shown, inos) = both.filter(|((name, _), _)| !state.unsent.contains(name)).unzip();
        }
        (shown, inos)
    }

    fn keep(&self, page: Arc<Page>, next: Option<(String, Open)>) {
        let mut state = self.state();
        // What was listed again continues as it says now.
        state.starts.truncate(page.number);
        state.starts.extend(next);
        state.pages.retain(|held| held.number != page.number);
        state.pages.push_back(page);
        if state.pages.len() > PAGES_HELD {
            state.pages.pop_front();
        }
    }

    /// Has what comes behind `chunk` of `page` ready by the time it is read.
    fn read_ahead(self: &Arc<Self>, tree: &Arc<Tree>, page: &Arc<Page>, chunk: usize, detail: Detail) {
        let chunks = page.items.len().div_ceil(CHUNK);
        for later in chunk + 1..chunks {
            drop(self.complete(tree, page, later, detail));
        }
        let next = page.number + 1;
        let is_held = self.state().pages.iter().any(|page| page.number == next);
        // Not before the middle: what waits to be read grows old.
        if chunk >= chunks / 2 && !page.is_last && !is_held {
            let (this, with) = (self.clone(), tree.clone());
            tree.runtime().spawn(async move {
                if let Ok(page) = this.page(&with, next, Seek::On).await {
                    for chunk in 0..page.items.len().div_ceil(CHUNK) {
                        drop(this.complete(&with, &page, chunk, detail));
                    }
                }
            });
        }
    }

    /// Has the headers of what is listed around `name` asked for side by side, if somebody seems to look up one name after
    /// the other: `ls -l` does with the directory open, `find` and `du` after they have closed it. Answers what the name is
    /// then, counted as told, if that was asked for.
    pub async fn look_up_in_turn(
        self: &Arc<Self>,
        tree: &Arc<Tree>,
        name: &str,
        is_open: bool,
    ) -> Option<Entry> {
        let (page, at) = self.walked_to(tree, name).await?;
        let walk = {
            let mut state = self.state();
            let Walk { page: before, next, names } = state.walk;
            let is_next = (before == page.number && (next..next + STRIDE).contains(&at))
                || (before + 1 == page.number && at < STRIDE);
            let names = if is_next { names + 1 } else { 0 };
            state.walk = Walk { page: page.number, next: at + 1, names };
            state.walk
        };
        // Who only opens a file that was listed pays for that one alone.
        if walk.names < if is_open { 1 } else { 2 } {
            return None;
        }
        let completion = self.complete(tree, &page, at / CHUNK, Detail::Attributes)?;
        self.read_ahead(tree, &page, at / CHUNK, Detail::Attributes);
        let batch = Batch { page, from: at, to: at + 1, unknown: completion.await.ok()? };
        let item = batch.items().first()?;
        match self.known_entry(tree, item) {
            None if batch.unknown.contains(&join(&self.path, name)) => {
                self.entry_of(tree, &batch, item).await
            }
            known => known,
        }
    }

    /// The page of a name, and its place in it, if it is one that is held or the next one of somebody's walk.
    async fn walked_to(self: &Arc<Self>, tree: &Arc<Tree>, name: &str) -> Option<(Arc<Page>, usize)> {
        let place = |page: &Arc<Page>| {
            let is_young = page.asked.elapsed() < WALK_PATIENCE.max(tree.rules.freshness);
            page.items.iter().position(|item| is_young && *item.name == *name)
        };
        let (held, walk) = {
            let state = self.state();
            (state.pages.iter().cloned().collect::<Vec<_>>(), state.walk)
        };
        if let Some(found) = held.iter().find_map(|page| Some((page.clone(), place(page)?))) {
            return Some(found);
        }
        // At the end of a page, or at the beginning of a directory of which the first pages are not held any more.
        let number = if walk.next == 0 { 0 } else { walk.page + 1 };
        let is_reached = number == 0 || walk.names > 0;
        if !is_reached || number > self.state().starts.len() {
            return None;
        }
        if number == 0 {
            self.state().walk.next = 2;
        }
        let page = self.page(tree, number, Seek::On).await.ok()?;
        place(&page).map(|at| (page, at))
    }

    /// Asks for the headers that `detail` needs of the items of a chunk, side by side, and answers of which they cannot be
    /// had: a listing never fails for a name in it. Goes on if it is dropped.
    fn complete(
        self: &Arc<Self>,
        tree: &Arc<Tree>,
        page: &Arc<Page>,
        chunk: usize,
        detail: Detail,
    ) -> Option<impl Future<Output = Result<Unknown, StoreError>> + use<>> {
        if detail == Detail::Names {
            return None;
        }
        let (this, with, page) = (self.clone(), tree.clone(), page.clone());
        let subject = Arc::from(format!("{}.{chunk}", page.number));
        let question = move |_| async move {
            let chunk = page.items.chunks(CHUNK).nth(chunk).unwrap_or_default();
            let unknown = this.unknown(&with, chunk);
            let mut left: BTreeSet<Arc<str>> = unknown.iter().map(|(path, _)| path.clone()).collect();
            let is_silent = this.state().silent.is_some_and(|since| since.elapsed() < NO_HEADERS_FOR);
            let asked = if is_silent { Vec::new() } else { unknown };
            let mut answers = futures::stream::iter(asked)
                .map(|(path, facts)| {
                    let tree = with.clone();
                    async move { (tree.headers(&path, &facts).await, path) }
                })
                .buffer_unordered(HEADERS_AT_ONCE);
            while let Some((answer, path)) = answers.next().await {
                let Err(error) = answer else {
                    left.remove(&path);
                    continue;
                };
                tracing::debug!(?path, error = %error, "no headers came");
                if error.is_outage() && !matches!(error, StoreError::Refused { .. }) {
                    // All were asked at the same time: those that have not answered will not.
                    this.state().silent = Some(Instant::now());
                    break;
                }
            }
            Ok(Unknown::new(left))
        };
        let (_, answer) = self.completions.join(&subject, Duration::MAX, tree.runtime(), question);
        Some(answer)
    }

    /// The items of a chunk of which not enough is known, with what is known.
    fn unknown(&self, tree: &Tree, chunk: &[Item]) -> Vec<(Arc<str>, Facts)> {
        let table = tree.table();
        let named = chunk.iter().filter(|item| item.ino != self.ino);
        let known = named.filter_map(|item| {
            let path = join(&self.path, &item.name);
            let facts = table.named(&path)?.1.facts.clone();
            Some((path, facts))
        });
        known
            .filter(|(path, _)| table.named(path).is_some_and(|(_, node)| !node.is_local))
            .filter(|(_, facts)| match facts.version {
                Some(_) => facts.attributes.is_none(),
                None => !tree.marker_is_believed(facts),
            })
            .collect()
    }

    /// Number and kind of an item; `None` if it has gone since it was listed, or if its kind is not known: only an object
    /// that is short can be something else than a file.
    pub fn kind_of(&self, tree: &Tree, item: &Item) -> Option<(u64, Option<Kind>)> {
        if item.ino == self.ino {
            return Some((item.ino, Some(item.kind)));
        }
        let table = tree.table();
        let (ino, node) = table.named(&join(&self.path, &item.name))?;
        let is_file = item.kind == Kind::Directory || node.facts.size > attr::SYMLINK_MAX;
        Some((ino, node.facts.kind.or(is_file.then_some(item.kind))))
    }

    /// What the kernel may be told of an item without asking, counted as told.
    pub fn known_entry(&self, tree: &Tree, item: &Item) -> Option<Entry> {
        let mut table = tree.table();
        let (ino, node) = table.named(&join(&self.path, &item.name))?;
        let entry = tree.fresh_entry(node, ino)?;
        tree.remember(&mut table, ino);
        Some(entry)
    }

    /// What the kernel may be told of an item of `batch`, counted as told; `None`: it is gone. Of one of which nobody can
    /// say what it is, no more than that it is there, and nothing to be believed.
    pub async fn entry_of(&self, tree: &Tree, batch: &Batch, item: &Item) -> Option<Entry> {
        let path = join(&self.path, &item.name);
        if let Some(entry) = entry_now(tree, &path) {
            return Some(entry);
        }
        if !batch.unknown.contains(&path) {
            // The table had no room for it.
            match tree.resolve(&path).await {
                Ok(answer) => return answer.found.and_then(|_| entry_now(tree, &path)),
                Err(error) => tracing::debug!(?path, error = %error, "no headers came"),
            }
        }
        let mut table = tree.table();
        let (ino, node) = table.named(&path)?;
        let Facts { size, kind, version, .. } = &node.facts;
        let modified = version.as_ref().map_or(0, |version| version.last_modified);
        let unreadable = Attributes::unreadable(*size, modified, &tree.rules.defaults);
        let attributes = match kind {
            Some(Kind::Directory) => tree.rules.implicit_directory(),
            kind => Attributes { kind: kind.unwrap_or(unreadable.kind), ..unreadable },
        };
        tree.remember(&mut table, ino);
        Some(Entry { ino, attributes, valid_for: Duration::ZERO })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a reader comes from the start or from further back.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seek {
    Again,
    On,
}

fn entry_now(tree: &Tree, path: &str) -> Option<Entry> {
    let mut table = tree.table();
    let (ino, node) = table.named(path)?;
    let attributes = node.facts.attributes.clone()?;
    let age = node.checked.map_or(Duration::MAX, |checked| checked.elapsed());
    let valid_for = tree.rules.freshness.saturating_sub(age);
    tree.remember(&mut table, ino);
    Some(Entry { ino, attributes, valid_for })
}

fn no_such_page() -> StoreError {
    StoreError::Malformed { reason: "a directory is read where no page begins".into() }
}
