//! Listing: pages of keys in byte order, with keys under a common prefix rolled up into one entry.
//!
//! One algorithm for both backends. A backend brings a [`Cursor`] over its keys in byte order that can jump forward;
//! a page costs as many steps as it has entries, whatever lies under a rolled-up prefix.
//!
//! A page continues after a text, not at a position: keys may come and go between two pages. An entry, key or
//! prefix, is on the page only if it sorts after that text; so a marker inside or at the end of a rolled-up prefix
//! hides that prefix, as in S3.

use std::time::SystemTime;

use super::entity_tag::EntityTag;
use super::error::StoreError;

/// The most entries that S3 puts on one page.
pub(super) const PAGE_LIMIT: usize = 1000;

/// What to list.
#[derive(Debug, Clone, Default)]
pub struct Query {
    pub prefix: String,
    /// Not empty.
    pub delimiter: Option<String>,
    /// The page starts behind this text.
    pub after: Option<String>,
    /// Entries on the page, keys and prefixes together.
    pub limit: usize,
}

impl Query {
    /// The common prefix that `key` is rolled up into.
    pub(super) fn group<'k>(&self, key: &'k str) -> Option<&'k str> {
        let delimiter = self.delimiter.as_deref()?;
        let rest = key.strip_prefix(self.prefix.as_str())?;
        let end = self.prefix.len() + rest.find(delimiter)? + delimiter.len();
        key.get(..end)
    }

    /// The smallest text that the first entry can have. `None`: nothing can follow `after`.
    pub(super) fn start(&self) -> Option<String> {
        let Some(after) = &self.after else { return Some(self.prefix.clone()) };
        if *after < self.prefix {
            return Some(self.prefix.clone());
        }
        match self.group(after) {
            Some(group) => successor(group),
            None => Some(format!("{after}\0")),
        }
    }
}

/// The smallest text that is larger than every text beginning with `prefix`, in byte order.
pub(super) fn successor(prefix: &str) -> Option<String> {
    let mut text = prefix.to_owned();
    while let Some(last) = text.pop() {
        let next = match last {
            '\u{D7FF}' => Some('\u{E000}'),
            _ => char::from_u32(u32::from(last) + 1),
        };
        if let Some(next) = next {
            text.push(next);
            return Some(text);
        }
    }
    None
}

/// An object as a list shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub key: String,
    pub size: u64,
    pub tag: EntityTag,
    pub modified: SystemTime,
    pub storage_class: Option<String>,
}

/// A line of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    Object(Entry),
    Prefix(String),
}

impl Item {
    fn text(&self) -> &str {
        match self {
            Self::Object(entry) => &entry.key,
            Self::Prefix(prefix) => prefix,
        }
    }
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    pub items: Vec<Item>,
    pub truncated: bool,
}

impl Page {
    /// The text behind which the next page starts.
    pub fn next_after(&self) -> Option<&str> {
        if self.truncated { self.items.last().map(Item::text) } else { None }
    }
}

/// A walk over keys in byte order.
pub(super) trait Cursor {
    /// The next key that is not smaller than what was last skipped to.
    fn next(&mut self) -> Result<Option<Entry>, StoreError>;

    /// Leaves out all keys smaller than `key`. Only ever called with larger texts than before.
    fn skip_to(&mut self, key: String);
}

/// One page of what `cursor` walks over.
pub(super) fn page(cursor: &mut impl Cursor, query: &Query) -> Result<Page, StoreError> {
    let mut page = Page { items: Vec::new(), truncated: false };
    let Some(start) = query.start() else { return Ok(page) };
    if query.limit == 0 {
        return Ok(page);
    }
    cursor.skip_to(start);
    while let Some(entry) = cursor.next()? {
        if !entry.key.starts_with(&query.prefix) {
            break;
        }
        if page.items.len() == query.limit {
            page.truncated = true;
            break;
        }
        let Some(group) = query.group(&entry.key) else {
            page.items.push(Item::Object(entry));
            continue;
        };
        page.items.push(Item::Prefix(group.to_owned()));
        match successor(group) {
            Some(next) => cursor.skip_to(next),
            None => break,
        }
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::UNIX_EPOCH;

    use proptest::prelude::*;

    use super::*;

    /// A cursor over a set that counts its steps.
    struct Keys<'a> {
        keys: &'a BTreeSet<String>,
        from: String,
        steps: usize,
    }

    impl<'a> Keys<'a> {
        fn new(keys: &'a BTreeSet<String>) -> Self {
            Self { keys, from: String::new(), steps: 0 }
        }
    }

    impl Cursor for Keys<'_> {
        fn next(&mut self) -> Result<Option<Entry>, StoreError> {
            self.steps += 1;
            let Some(key) = self.keys.range(self.from.clone()..).next() else { return Ok(None) };
            self.from = format!("{key}\0");
            let tag = EntityTag::of(b"");
            Ok(Some(Entry { key: key.clone(), size: 0, tag, modified: UNIX_EPOCH, storage_class: None }))
        }

        fn skip_to(&mut self, key: String) {
            assert!(key >= self.from, "jumped back from {:?} to {key:?}", self.from);
            self.from = key;
        }
    }

    fn set(keys: &[&str]) -> BTreeSet<String> {
        keys.iter().map(|&key| key.to_owned()).collect()
    }

    fn query(prefix: &str, delimiter: &str, after: &str, limit: usize) -> Query {
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Query { prefix: prefix.to_owned(), delimiter: text(delimiter), after: text(after), limit }
    }

    fn texts(keys: &BTreeSet<String>, query: &Query) -> (Vec<String>, bool) {
        let page = page(&mut Keys::new(keys), query).unwrap();
        (page.items.iter().map(|item| item.text().to_owned()).collect(), page.truncated)
    }

    /// The definition: roll every key up, then take what sorts after the marker.
    fn model(keys: &BTreeSet<String>, query: &Query) -> (Vec<String>, bool) {
        let all: BTreeSet<String> = keys
            .iter()
            .filter(|key| key.starts_with(&query.prefix))
            .map(|key| query.group(key).unwrap_or(key).to_owned())
            .filter(|text| query.after.as_ref().is_none_or(|after| text > after))
            .collect();
        let truncated = query.limit > 0 && all.len() > query.limit;
        (all.into_iter().take(query.limit).collect(), truncated)
    }

    #[test]
    fn prefixes_count_into_the_limit_and_are_walked_over_in_one_step() {
        let mut keys: BTreeSet<String> = (0..5000).map(|n| format!("a/{n}")).collect();
        keys.extend(set(&["b", "c/1", "d"]));
        let mut cursor = Keys::new(&keys);
        let page = page(&mut cursor, &query("", "/", "", 3)).unwrap();
        assert_eq!(page.items.iter().map(Item::text).collect::<Vec<_>>(), ["a/", "b", "c/"]);
        assert!(page.truncated);
        assert_eq!(cursor.steps, 4);
    }

    #[test]
    fn the_last_page_is_not_truncated_when_it_is_exactly_full() {
        let keys = set(&["a", "b"]);
        assert_eq!(texts(&keys, &query("", "", "", 2)), (vec!["a".into(), "b".into()], false));
    }

    #[test]
    fn a_marker_within_a_prefix_hides_that_prefix() {
        let keys = set(&["a/1", "a/2", "b"]);
        assert_eq!(texts(&keys, &query("", "/", "a/1", 9)).0, ["b"]);
        assert_eq!(texts(&keys, &query("", "/", "a/", 9)).0, ["b"]);
        assert_eq!(texts(&keys, &query("", "/", "a", 9)).0, ["a/", "b"]);
    }

    #[test]
    fn the_successor_passes_the_gap_and_the_end_of_the_characters() {
        assert_eq!(successor("a/"), Some("a0".into()));
        assert_eq!(successor("\u{D7FF}"), Some("\u{E000}".into()));
        assert_eq!(successor("a\u{10FFFF}"), Some("b".into()));
        assert_eq!(successor("\u{10FFFF}"), None);
        assert_eq!(successor(""), None);
    }

    #[test]
    fn no_room_means_no_entries_and_no_next_page() {
        assert_eq!(texts(&set(&["a"]), &query("", "", "", 0)), (vec![], false));
    }

    fn key() -> impl Strategy<Value = String> {
        let piece =
            prop::sample::select(vec!["a", "b", "/", "//", ".", "0", " ", "\u{D7FF}", "\u{10FFFF}", "é"]);
        prop::collection::vec(piece, 0..5).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn every_page_is_what_rolling_up_and_sorting_says(
            keys in prop::collection::btree_set(key(), 0..30),
            prefix in key(), delimiter in prop::sample::select(vec!["", "/", "//", "a"]),
            after in key(), limit in 0usize..8,
        ) {
            let query = query(&prefix, delimiter, &after, limit);
            prop_assert_eq!(texts(&keys, &query), model(&keys, &query));
        }

        #[test]
        fn following_the_pages_gives_everything_once(
            keys in prop::collection::btree_set(key(), 0..30), limit in 1usize..4,
        ) {
            let keys: BTreeSet<String> = keys.into_iter().filter(|key| !key.is_empty()).collect();
            let mut query = query("", "/", "", limit);
            let mut seen = Vec::new();
            for _ in 0..=keys.len() {
                let page = page(&mut Keys::new(&keys), &query).unwrap();
                seen.extend(page.items.iter().map(|item| item.text().to_owned()));
                let Some(after) = page.next_after() else { break };
                query.after = Some(after.to_owned());
            }
            query.after = None;
            query.limit = usize::MAX;
            prop_assert_eq!(seen, model(&keys, &query).0);
        }
    }
}
