//! A page of keys turned into the names that a directory shows.
//!
//! A key that goes on behind a `/` makes a directory, and so does `NAME_$folder$`, which Hadoop and old tools left
//! in place of `NAME/`; every other key is a file. Where a directory and an object have the same name the
//! directory is shown. Keys come in the order of their bytes, in which `d`, `d.map`, `d/` and `d_$folder$` follow
//! each other with any number of others between them, so the answer may be on another page:
//!
//! ```text
//!   page:   a  b  d | d.map  d/ ...        `d` is the start of the last key: what it is is not yet said
//!   shown:  a  b    | d  d.map
//! ```
//!
//! What must hold: a name is shown once, and as a directory if it is one; a key that is no name (empty component,
//! `.`, `..`, NUL, longer than 255 bytes) is hidden and counted, never an error.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, HashSet};
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::store::{Listed, Page, StoreError};

/// Longest name that Linux knows.
pub const NAME_MAX: usize = 255;
/// What the key of a directory ends in where Hadoop or an old tool made it.
pub const FOLDER_SUFFIX: &str = "_$folder$";
/// Hidden keys that are told apart: beyond, the count stands still.
const HIDDEN_MAX: usize = 16_384;

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    Directory,
    Object(Listed),
    /// Made here, and not in the store yet.
    Unsent,
}

/// What the pages so far leave open: names that the last key begins with.
#[derive(Clone, Debug, Default)]
pub struct Open(Vec<(Arc<str>, State)>);

#[derive(Clone, Debug)]
enum State {
    /// An object, not yet shown: a directory of its name may come.
    Waiting(Listed),
    /// A directory that is yet to be shown.
    Directory,
    /// A directory that has been shown: it may come again in another guise.
    Done,
}

/// The names of a page.
#[derive(Debug, Default)]
pub struct Names {
    pub shown: Vec<(Arc<str>, Shown)>,
    /// For the page behind this one.
    pub open: Open,
    /// The directory's own marker.
    pub marker: Option<Listed>,
    /// Whether there was a `_$folder$`.
    pub has_folder_keys: bool,
}

/// The names of `page`, which lists what is below `prefix`, in the order of their bytes.
pub fn names(prefix: &str, page: Page, open: Open, hidden: &Hidden) -> Names {
    let mut names = Names::default();
    let mut states: BTreeMap<Arc<str>, State> = open.0.into_iter().collect();
    let mut last = String::new();
    let mut see = |rest: &str| {
        if rest > last.as_str() {
            last = rest.to_string();
        }
    };
    for key in &page.prefixes {
        let rest = key.strip_prefix(prefix).unwrap_or_default();
        see(rest);
        if let Some(name) = valid_name(rest.strip_suffix('/').unwrap_or(rest), key, hidden) {
            be_directory(&mut states, name);
        }
    }
    for object in page.objects {
        let rest = object.key.strip_prefix(prefix).unwrap_or_default();
        see(rest);
        if object.key == prefix {
            names.marker = Some(object);
        } else if let Some(folder) = rest.strip_suffix(FOLDER_SUFFIX).filter(|name| !name.is_empty()) {
            names.has_folder_keys = true;
            if let Some(name) = valid_name(folder, &object.key, hidden) {
                be_directory(&mut states, name);
            }
        } else if let Some(name) = valid_name(rest, &object.key, hidden) {
            states.entry(Arc::from(name)).or_insert(State::Waiting(object));
        }
    }
    let is_last = page.next.is_none();
    for (name, state) in states {
        let is_open = !is_last && (last.is_empty() || last.starts_with(&*name));
        match state {
            State::Waiting(object) if is_open => names.open.0.push((name, State::Waiting(object))),
            State::Waiting(object) => names.shown.push((name, Shown::Object(object))),
            State::Directory | State::Done => {
                if is_open {
                    names.open.0.push((name.clone(), State::Done));
                }
                if matches!(state, State::Directory) {
                    names.shown.push((name, Shown::Directory));
                }
            }
        }
    }
    names
}

fn be_directory(states: &mut BTreeMap<Arc<str>, State>, name: &str) {
    match states.get_mut(name) {
        Some(State::Directory | State::Done) => {}
        Some(state) => *state = State::Directory,
        None => {
            states.insert(Arc::from(name), State::Directory);
        }
    }
}

/// `name` if a file can have it; the key that it is of is counted otherwise.
fn valid_name<'a>(name: &'a str, key: &str, hidden: &Hidden) -> Option<&'a str> {
    let is_valid = is_name(name);
    if !is_valid {
        hidden.note(key);
    }
    is_valid.then_some(name)
}

/// Whether no file name can stand for a key, of which this is the part behind the directory's prefix.
pub fn is_hidden(rest: &str) -> bool {
    let name = match rest.split_once('/') {
        Some((name, _)) => name,
        None => rest.strip_suffix(FOLDER_SUFFIX).filter(|name| !name.is_empty()).unwrap_or(rest),
    };
    !is_name(name)
}

/// Whether a file can have this name.
pub fn is_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && name.len() <= NAME_MAX && !name.contains(['/', '\0'])
}

/// Keys that no file name can stand for, and those that cannot be asked about, since the mount began.
#[derive(Default)]
pub struct Hidden {
    seen: Mutex<HashSet<u64>>,
    unreadable: Mutex<HashSet<u64>>,
    /// Those that keep a directory from being removed.
    in_the_way: Mutex<HashSet<u64>>,
    hasher: RandomState,
    /// `/` is where s3fs keeps what belongs to the root of a bucket.
    root_key: std::sync::atomic::AtomicBool,
}

impl Hidden {
    /// How many no file name can stand for, each counted once; it stands still at 16,384.
    pub fn count(&self) -> u64 {
        locked(&self.seen).len() as u64
    }

    /// How many could not be asked about, counted in the same way.
    pub fn unreadable(&self) -> u64 {
        locked(&self.unreadable).len() as u64
    }

    /// Takes note, and tells once, that `key` is there and that the store says no more about it.
    pub fn note_unreadable(&self, key: &str, error: &StoreError) {
        if self.is_new(&self.unreadable, key) {
            tracing::warn!(key, error = %error, "shown without its headers, which cannot be asked for");
        }
    }

    /// Takes note, and tells once, that nothing but keys like `key` is in a directory that is to be removed.
    pub fn note_in_the_way(&self, key: &str) {
        if self.is_new(&self.in_the_way, key) {
            let hint = "remove the keys in the bucket, or mount with remove_hidden";
            tracing::warn!(
                key,
                hint,
                "a directory is not empty: it holds keys that no file name can stand for"
            );
        }
    }

    /// Says that the key `/` has a meaning in this bucket.
    pub fn root_key_is_known(&self) {
        self.root_key.store(true, std::sync::atomic::Ordering::Relaxed);
    }

    fn note(&self, key: &str) {
        if key == "/" && self.root_key.load(std::sync::atomic::Ordering::Relaxed) {
            return;
        }
        if self.is_new(&self.seen, key) {
            tracing::debug!(key, "a key that is no file name is not shown");
        }
    }

    fn is_new(&self, of: &Mutex<HashSet<u64>>, key: &str) -> bool {
        let mut seen = locked(of);
        seen.len() < HIDDEN_MAX && seen.insert(self.hasher.hash_one(key))
    }
}

fn locked(seen: &Mutex<HashSet<u64>>) -> MutexGuard<'_, HashSet<u64>> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
