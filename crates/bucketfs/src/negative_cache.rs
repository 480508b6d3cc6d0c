//! Small directories, remembered whole.
//!
//! A program that opens a file asks for a dozen names beside it that do not exist (GDAL: `.aux.xml`, `.ovr`,
//! `.msk`). Asked one by one each of them costs two requests; one listing of a small directory answers all of them,
//! and says of every file in it whether it has changed. So a directory in which several questions come together is
//! listed instead, and a directory where that was worth it is listed at once the next time:
//!
//! ```text
//!   one by one -- a second unknown name within `freshness` --> listed -- it answered several --> listed first
//!        ^                                                       |                                   |
//!        '------- too many names for it, or too few asked -------'-----------------------------------'
//! ```
//!
//! Pure: time and answers are handed in. What must hold: an answer is never older than `freshness`; a name of which
//! it is not certain that it is absent is asked for; memory is bounded.

use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use lru::LruCache;
use tokio::time::Instant;

/// Names of a directory that is listed for the sake of a few of them.
pub const SMALL: u16 = 250;
/// Directories that are remembered; some 2 KiB each at most.
const DIRECTORIES: usize = 512;
/// How long a directory that held more is not tried again.
const TOO_LARGE_FOR: Duration = Duration::from_secs(300);
/// How long the habit of asking for several names is expected to go on.
const HABIT: Duration = Duration::from_secs(60);
/// Unknown names by which several questions are told from one: each of them costs as much as a listing.
const SEVERAL: u32 = 2;
/// Questions answered by one listing that make it worth its price.
const WORTH: u32 = 3;

/// How a question about a name is best asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// By itself.
    Ask,
    /// By itself, and at the same time by listing its directory: more questions are coming.
    AskAndList,
    /// By listing its directory: what it says will do.
    List,
}

/// What is remembered of the directories of a mount.
pub struct NegativeCache {
    directories: LruCache<Arc<str>, Directory>,
    hasher: RandomState,
}

#[derive(Default)]
struct Directory {
    /// When it was listed whole.
    listed: Option<Instant>,
    /// Hashes of the names that were in it, sorted.
    names: Vec<u64>,
    /// Questions that this listing has answered.
    answered: u32,
    /// When it was seen to hold more than [`SMALL`] names.
    too_large: Option<Instant>,
    /// When the first of `unknown` was asked.
    since: Option<Instant>,
    /// Names asked one by one, nothing being known of them.
    unknown: u32,
    /// When a name in it was last made or removed from here: a listing that left before does not know.
    changed: Option<Instant>,
}

impl Default for NegativeCache {
    fn default() -> NegativeCache {
        let most = NonZeroUsize::new(DIRECTORIES).expect("not zero");
        NegativeCache { directories: LruCache::new(most), hasher: RandomState::new() }
    }
}

impl NegativeCache {
    /// How to ask for a name in `directory` of which something is known, or nothing (`is_unknown`).
    pub fn advice(&mut self, directory: &str, is_unknown: bool, now: Instant, freshness: Duration) -> Advice {
        if freshness.is_zero() {
            return Advice::Ask;
        }
        let directory = self.directory(directory);
        let within = |moment: Option<Instant>, limit| moment.is_some_and(|moment| now - moment < limit);
        if within(directory.too_large, TOO_LARGE_FOR) || within(directory.listed, freshness) {
            return Advice::Ask;
        }
        if within(directory.listed, HABIT.max(freshness * 2)) && directory.answered >= WORTH {
            return Advice::List;
        }
        if !is_unknown {
            return Advice::Ask;
        }
        if !within(directory.since, freshness) {
            (directory.since, directory.unknown) = (Some(now), 0);
        }
        directory.unknown += 1;
        if directory.unknown < SEVERAL { Advice::Ask } else { Advice::AskAndList }
    }

    /// How many names to ask for when `directory` is listed to see what it is.
    pub fn limit(&mut self, directory: &str, now: Instant) -> u16 {
        match self.directories.get(directory).and_then(|directory| directory.too_large) {
            Some(seen) if now - seen < TOO_LARGE_FOR => 1,
            _ => SMALL,
        }
    }

    /// Keeps what a listing that left at `asked` showed: all names of `directory`.
    pub fn keep<'n>(&mut self, directory: &str, names: impl Iterator<Item = &'n str>, asked: Instant) {
        let hasher = self.hasher.clone();
        let mut hashes: Vec<u64> = names.map(|name| hasher.hash_one(name)).collect();
        if hashes.len() > usize::from(SMALL) {
            return self.keep_too_large(directory, asked);
        }
        hashes.sort_unstable();
        hashes.shrink_to_fit();
        let directory = self.directory(directory);
        if directory.listed.is_none_or(|listed| listed <= asked) && directory.changed <= Some(asked) {
            let changed = directory.changed;
            *directory = Directory { listed: Some(asked), names: hashes, changed, ..Directory::default() };
        }
    }

    /// Notes that `name` in `directory` was made or removed from here at `now`.
    pub fn note_change(&mut self, directory: &str, name: &str, is_there: bool, now: Instant) {
        let hash = self.hasher.hash_one(name);
        let directory = self.directory(directory);
        directory.changed = Some(now);
        match (directory.names.binary_search(&hash), is_there) {
            (Err(at), true) => directory.names.insert(at, hash),
            (Ok(at), false) => drop(directory.names.remove(at)),
            _ => {}
        }
        if directory.names.len() > usize::from(SMALL) {
            *directory = Directory { too_large: Some(now), changed: Some(now), ..Directory::default() };
        }
    }

    /// Whether a name in `directory` was made or removed from here after a listing left at `asked`.
    pub fn has_changed_since(&self, directory: &str, asked: Instant) -> bool {
        self.directories.peek(directory).and_then(|directory| directory.changed) >= Some(asked)
    }

    /// Forgets what is known of `directory`, which is no directory any more or another one.
    pub fn forget(&mut self, directory: &str, now: Instant) {
        *self.directory(directory) = Directory { changed: Some(now), ..Directory::default() };
    }

    /// Notes that `directory` holds more names than are worth listing.
    pub fn keep_too_large(&mut self, directory: &str, asked: Instant) {
        let directory = self.directory(directory);
        *directory = Directory { too_large: Some(asked), changed: directory.changed, ..Directory::default() };
    }

    /// When the listing left by which it is certain that `directory` does not hold `name`.
    pub fn absent_since(
        &mut self,
        directory: &str,
        name: &str,
        now: Instant,
        freshness: Duration,
    ) -> Option<Instant> {
        let hash = self.hasher.hash_one(name);
        let directory = self.directories.get_mut(directory)?;
        let listed = directory.listed.filter(|listed| now - *listed < freshness)?;
        if directory.names.binary_search(&hash).is_ok() {
            return None;
        }
        directory.answered += 1;
        Some(listed)
    }

    /// Counts that what was known of a name in `directory` at `checked` was enough.
    pub fn count_answer(&mut self, directory: &str, checked: Instant) {
        if let Some(directory) =
            self.directories.get_mut(directory).filter(|directory| directory.listed == Some(checked))
        {
            directory.answered += 1;
        }
    }

    fn directory(&mut self, directory: &str) -> &mut Directory {
        if !self.directories.contains(directory) {
            self.directories.put(Arc::from(directory), Directory::default());
        }
        self.directories.get_mut(directory).expect("put above")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRESHNESS: Duration = Duration::from_secs(1);

    #[test]
    fn the_second_unknown_name_within_freshness_lists_the_directory() {
        let mut negative_cache = NegativeCache::default();
        let now = Instant::now();
        assert_eq!(negative_cache.advice("d", true, now, FRESHNESS), Advice::Ask);
        assert_eq!(negative_cache.advice("e", true, now, FRESHNESS), Advice::Ask);
        assert_eq!(negative_cache.advice("d", false, now, FRESHNESS), Advice::Ask);
        assert_eq!(negative_cache.advice("d", true, now + FRESHNESS, FRESHNESS), Advice::Ask);
        assert_eq!(negative_cache.advice("d", true, now + FRESHNESS, FRESHNESS), Advice::AskAndList);
    }

    #[test]
    fn a_listing_says_what_is_absent_for_as_long_as_it_is_fresh() {
        let mut negative_cache = NegativeCache::default();
        let now = Instant::now();
        negative_cache.keep("d", ["a", "b"].into_iter(), now);
        assert_eq!(negative_cache.absent_since("d", "c", now, FRESHNESS), Some(now));
        assert_eq!(negative_cache.absent_since("d", "a", now, FRESHNESS), None);
        assert_eq!(negative_cache.absent_since("d", "c", now + FRESHNESS, FRESHNESS), None);
        assert_eq!(negative_cache.absent_since("e", "c", now, FRESHNESS), None);
    }

    #[test]
    fn a_directory_is_listed_first_where_that_was_worth_it() {
        let mut negative_cache = NegativeCache::default();
        let now = Instant::now();
        negative_cache.keep("d", ["a"].into_iter(), now);
        negative_cache.absent_since("d", "x", now, FRESHNESS);
        negative_cache.absent_since("d", "y", now, FRESHNESS);
        assert_eq!(negative_cache.advice("d", false, now + FRESHNESS, FRESHNESS), Advice::Ask);
        negative_cache.count_answer("d", now);
        assert_eq!(negative_cache.advice("d", false, now + FRESHNESS, FRESHNESS), Advice::List);
        assert_eq!(negative_cache.advice("d", false, now + HABIT, FRESHNESS), Advice::Ask);
    }

    #[test]
    fn a_large_directory_is_not_tried_again_for_a_while() {
        let mut negative_cache = NegativeCache::default();
        let now = Instant::now();
        let many: Vec<String> = (0..=SMALL).map(|number| number.to_string()).collect();
        negative_cache.keep("d", many.iter().map(String::as_str), now);
        assert_eq!(negative_cache.absent_since("d", "x", now, FRESHNESS), None);
        for _ in 0..3 {
            assert_eq!(negative_cache.advice("d", true, now, FRESHNESS), Advice::Ask);
        }
        assert_eq!((negative_cache.limit("d", now), negative_cache.limit("e", now)), (1, SMALL));
        let later = now + TOO_LARGE_FOR;
        assert_eq!(negative_cache.limit("d", later), SMALL);
        negative_cache.advice("d", true, later, FRESHNESS);
        assert_eq!(negative_cache.advice("d", true, later, FRESHNESS), Advice::AskAndList);
    }

    #[test]
    fn without_freshness_nothing_is_answered_from_a_listing() {
        let mut negative_cache = NegativeCache::default();
        let now = Instant::now();
        negative_cache.keep("d", [].into_iter(), now);
        assert_eq!(negative_cache.absent_since("d", "x", now, Duration::ZERO), None);
        for _ in 0..3 {
            assert_eq!(negative_cache.advice("d", true, now, Duration::ZERO), Advice::Ask);
        }
    }

    #[test]
    fn the_number_of_directories_is_bounded() {
        let mut negative_cache = NegativeCache::default();
        for number in 0..2 * DIRECTORIES {
            negative_cache.keep(&number.to_string(), [].into_iter(), Instant::now());
        }
        assert_eq!(negative_cache.directories.len(), DIRECTORIES);
    }
}
