//! Open directories: a listing walked page by page.
//!
//! A directory may hold more names than fit in memory, so an open one holds a single page and where each page
//! seen so far begins. An offset (the kernel's `d_off`) is the page's number and the position in it; going back
//! asks for that page again. Headers of listed objects are fetched side by side, a page at a time, and only where
//! the listing leaves something open.
//!
//! ```text
//!   offset = page << PAGE_BITS | position + 1      0: the start;  `.` and `..` are the first page's first two
//! ```
//!
//! What must hold: a name appears once, a directory before an object of the same name; a key that is no name
//! (empty component, `.`, `..`, NUL, longer than 255 bytes) is hidden and counted, never an error.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use tokio::time::Instant;

use super::attr::{Attributes, Kind};
use super::error::FsError;
use super::inode::{Facts, ROOT};
use super::store::{Depth, From, List, Listed, Page, StoreError, Version};
use super::tree::{Entry, NAME_MAX, Tree, is_settled, join};

/// Entries of a page at the most: what one LIST answers.
const PAGE_LIMIT: u16 = 1_000;
/// Bits of an offset that say the position within a page.
const PAGE_BITS: u32 = 11;
/// The first page, listed by opening the directory, serves the reading that follows.
const JUST_LISTED: Duration = Duration::from_secs(1);
/// Items handed out at once: about as many as the kernel's buffer takes.
const ITEMS_AT_ONCE: usize = 128;
/// Headers asked for at the same time.
const HEADERS_AT_ONCE: usize = 64;
/// A symbolic link's target is no longer than this, so a longer object is a plain file without looking.
const SYMLINK_MAX: u64 = libc::PATH_MAX as u64;

/// How much a reader of the directory wants to know of each entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Names and kinds.
    Names,
    /// Attributes too.
    Attributes,
}

/// One name in a directory.
#[derive(Clone, Debug)]
pub struct Item {
    pub name: Arc<str>,
    pub ino: u64,
    pub kind: Kind,
    /// Where the next item is read from.
    pub next_offset: u64,
}

/// An open directory.
pub struct Directory {
    ino: u64,
    path: Arc<str>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The token by which page 1, 2, ... was reached; page 0 needs none.
    tokens: Vec<String>,
    page: Option<Held>,
    /// The name of a listed object that a later page might show to be hidden by a directory.
    last_file: Option<Arc<str>>,
}

/// The page that was listed last.
struct Held {
    number: usize,
    items: Arc<Vec<Item>>,
    asked: Instant,
}

/// Keys that no file name can stand for, since the mount began.
#[derive(Default)]
pub struct Hidden(AtomicU64);

impl Hidden {
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Directory {
    /// Opens the directory `ino` and lists its first page: a directory that is none any more is noticed here.
    ///
    /// # Errors
    ///
    /// [`FsError::NotDirectory`]; [`FsError::Stale`] when nothing is in it any more.
    pub async fn open(tree: &Tree, ino: u64, hidden: &Hidden) -> Result<Directory, FsError> {
        let directory = Directory { ino, path: tree.directory_path(ino)?, state: Mutex::default() };
        let asked = Instant::now();
        let (_, is_empty) = directory.fetch(tree, 0, hidden).await?;
        if ino != ROOT && is_empty {
            tree.table().record_absent(&directory.path, asked);
            return Err(FsError::Stale);
        }
        Ok(directory)
    }

    /// Some items from `offset` on, at most [`ITEMS_AT_ONCE`]; none at the end.
    ///
    /// # Errors
    ///
    /// Whatever listing, or asking for headers, meets.
    pub async fn items(
        &self,
        tree: &Tree,
        offset: u64,
        detail: Detail,
        hidden: &Hidden,
    ) -> Result<Vec<Item>, FsError> {
        let mut number = (offset >> PAGE_BITS) as usize;
        let mut position = (offset & ((1 << PAGE_BITS) - 1)) as usize;
        loop {
            let page = self.page(tree, number, hidden).await?;
            if position < page.len() {
                return self.completed(tree, &page[position..], detail).await;
            }
            number += 1;
            position = 0;
            if self.state().tokens.len() < number {
                return Ok(Vec::new());
            }
        }
    }

    async fn page(&self, tree: &Tree, number: usize, hidden: &Hidden) -> Result<Arc<Vec<Item>>, FsError> {
        if let Some(held) = &self.state().page
            && held.number == number
            // Going back to the start asks again, as POSIX wants.
            && (number > 0 || held.asked.elapsed() < tree.rules.freshness.max(JUST_LISTED))
        {
            return Ok(held.items.clone());
        }
        Ok(self.fetch(tree, number, hidden).await?.0)
    }

    /// Lists page `number` and keeps it. With whether no key at all was on it.
    async fn fetch(
        &self,
        tree: &Tree,
        number: usize,
        hidden: &Hidden,
    ) -> Result<(Arc<Vec<Item>>, bool), FsError> {
        let token = match number.checked_sub(1) {
            None => None,
            Some(before) => Some(self.state().tokens.get(before).cloned().ok_or(FsError::Stale)?),
        };
        let prefix = tree.directory_prefix(&self.path);
        let from = token.as_deref().map_or(From::Start, From::Page);
        let asked = Instant::now();
        let list = List { prefix: &prefix, depth: Depth::Directory, from, limit: PAGE_LIMIT };
        let answer = tree.store().list(list).await;
        tree.pulse().note(&answer);
        let answer = answer?;
        let is_empty = answer.objects.is_empty() && answer.prefixes.is_empty();
        let next = answer.next.clone();
        let items = Arc::new(self.record(tree, number, &prefix, answer, asked, hidden));
        let mut state = self.state();
        if let Some(next) = next
            && state.tokens.len() == number
        {
            state.tokens.push(next);
        }
        state.page = Some(Held { number, items: items.clone(), asked });
        Ok((items, is_empty))
    }

    /// Turns a page of keys into items and records what it says about them.
    fn record(
        &self,
        tree: &Tree,
        number: usize,
        prefix: &str,
        page: Page,
        asked: Instant,
        hidden: &Hidden,
    ) -> Vec<Item> {
        let mut names = Names { items: Vec::new(), number };
        if number == 0 {
            names.push(Arc::from("."), self.ino, Kind::Directory);
            names.push(Arc::from(".."), self.ino, Kind::Directory);
        }
        let mut table = tree.table();
        let mut directories = page.prefixes.iter().filter_map(|key| {
            let name = key.strip_prefix(prefix).and_then(|rest| rest.strip_suffix('/'));
            valid_name(name, hidden)
        });
        let mut objects =
            page.objects.into_iter().filter(|object| object.key != prefix).filter_map(|object| {
                let name = valid_name(object.key.strip_prefix(prefix), hidden).map(str::to_string);
                name.map(|name| (name, object))
            });
        let (mut directory, mut object) = (directories.next(), objects.next());
        let mut previous = self.state().last_file.take();
        loop {
            // Both parts are sorted; a directory goes before an object of the same name and hides it.
            let directory_first = match (&directory, &object) {
                (None, None) => break,
                (Some(name), Some((other, _))) => *name <= other.as_str(),
                (directory, _) => directory.is_some(),
            };
            if directory_first {
                let Some(name) = directory.take() else { break };
                directory = directories.next();
                if object.as_ref().is_some_and(|(other, _)| other == name) {
                    object = objects.next();
                }
                if previous.as_deref() == Some(name) {
                    continue;
                }
                let ino = table.record(&join(&self.path, name), Facts::directory(None), asked);
                names.push(Arc::from(name), ino, Kind::Directory);
            } else {
                let Some((name, listed)) = object.take() else { break };
                object = objects.next();
                let (name, facts) = (Arc::<str>::from(name), listed_facts(&listed));
                let ino = table.record(&join(&self.path, &name), facts, asked);
                let kind =
                    table.node(ino).and_then(|node| node.facts.attributes.as_ref()).map(|known| known.kind);
                names.push(name.clone(), ino, kind.unwrap_or(Kind::File));
                previous = Some(name);
            }
        }
        drop(table);
        self.state().last_file = previous;
        names.items
    }

    /// Asks for the headers that `detail` needs of these items, side by side.
    async fn completed(&self, tree: &Tree, items: &[Item], detail: Detail) -> Result<Vec<Item>, FsError> {
        let unknown: Vec<Unknown> = {
            let table = tree.table();
            let is_unknown = |item: &&Item| {
                table.node(item.ino).is_some_and(|node| {
                    let open = match detail {
                        Detail::Attributes => true,
                        Detail::Names => !node.facts.directory && node.facts.size <= SYMLINK_MAX,
                    };
                    open && node.facts.attributes.is_none()
                })
            };
            let unknown = |item: &Item| Unknown { name: item.name.clone(), kind: item.kind };
            items.iter().filter(is_unknown).map(unknown).collect()
        };
        let mut answers = futures::stream::iter(unknown)
            .map(|unknown| async move { unknown.ask(tree, &self.path).await })
            .buffer_unordered(HEADERS_AT_ONCE);
        while let Some(answer) = answers.next().await {
            answer?;
        }
        let table = tree.table();
        Ok(items
            .iter()
            .take(ITEMS_AT_ONCE)
            .map(|item| {
                let found = table.find(&join(&self.path, &item.name)).filter(|_| item.ino != self.ino);
                let ino = found.unwrap_or(item.ino);
                let known = table.node(ino).and_then(|node| node.facts.attributes.as_ref());
                Item { ino, kind: known.map_or(item.kind, |known| known.kind), ..item.clone() }
            })
            .collect())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the kernel may be told of an item, counted as told; `None` if it has gone from the table meanwhile.
///
/// Where the headers are not known (they may not be ours to read) it is shown without any permission, and may
/// not be believed: whoever wants to know looks it up.
pub fn entry_of(tree: &Tree, item: &Item) -> Option<Entry> {
    let mut table = tree.table();
    let node = table.node(item.ino)?;
    let entry = match &node.facts.attributes {
        Some(attributes) => {
            let age = node.checked.map_or(Duration::MAX, |checked| checked.elapsed());
            let valid_for = tree.rules.freshness.saturating_sub(age);
            Entry { ino: item.ino, attributes: attributes.clone(), valid_for }
        }
        None => {
            let unknown = Attributes::implicit_directory(&tree.rules.defaults);
            let attributes = Attributes { kind: item.kind, permissions: 0, size: node.facts.size, ..unknown };
            Entry { ino: item.ino, attributes, valid_for: Duration::ZERO }
        }
    };
    table.remember(item.ino);
    Some(entry)
}

struct Names {
    items: Vec<Item>,
    number: usize,
}

impl Names {
    fn push(&mut self, name: Arc<str>, ino: u64, kind: Kind) {
        let next_offset = (self.number as u64) << PAGE_BITS | (self.items.len() as u64 + 1);
        self.items.push(Item { name, ino, kind, next_offset });
    }
}

/// An item whose headers have not been seen.
struct Unknown {
    name: Arc<str>,
    kind: Kind,
}

impl Unknown {
    async fn ask(self, tree: &Tree, directory: &str) -> Result<(), StoreError> {
        let path = join(directory, &self.name);
        let left = Instant::now();
        if self.kind == Kind::Directory {
            let found = tree.marker_attributes(&tree.directory_prefix(&path)).await?;
            let attributes = found.unwrap_or_else(|| Attributes::implicit_directory(&tree.rules.defaults));
            tree.table().record(&path, Facts::directory(Some(attributes)), left);
            return Ok(());
        }
        match tree.store().head(&format!("{}{path}", tree.rules.prefix)).await {
            Ok(object) => {
                tree.record_object(&path, object, left, None);
                Ok(())
            }
            // Gone since it was listed, or not ours to look at: the name is shown, its attributes are not.
            Err(StoreError::NotFound { .. } | StoreError::Denied { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn listed_facts(listed: &Listed) -> Facts {
    let version =
        Version { etag: listed.etag.clone(), last_modified: listed.last_modified, version_id: None };
    Facts::object(version, listed.size, None, is_settled(listed.last_modified))
}

/// A key's last component if it can be a file name.
fn valid_name<'a>(name: Option<&'a str>, hidden: &Hidden) -> Option<&'a str> {
    let valid = name.filter(|name| {
        !name.is_empty() && *name != "." && *name != ".." && name.len() <= NAME_MAX && !name.contains('\0')
    });
    if valid.is_none() {
        hidden.0.fetch_add(1, Ordering::Relaxed);
    }
    valid
}
