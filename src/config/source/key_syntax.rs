//! Settings by the words of their path: what variables, parameters, tags and flags have in common.
//!
//! `mount 0 freshness` is `mount[0].freshness`. Where the user chooses a name, the rest of the words is that name.
//! The only container needs no number.

use super::super::setting::{KEYS, KeyPath, Part, Setting, Step};
use super::layer::Layer;
use super::origin::Origin;

/// The largest number that a place in a list may have in words.
const LAST_PLACE: usize = 999;

/// Whether words say which container they mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Placed {
    ByNumber,
    ByDefault,
}

pub(super) struct Found {
    pub path: KeyPath,
    pub placed: Placed,
}

/// How words are written in one kind of source.
#[derive(Clone, Copy)]
pub(super) struct Spelling {
    /// Stands between two words.
    pub joint: &'static str,
    /// A name of ours as it is written there.
    pub name: fn(&str) -> String,
}

/// As in the file: parameters, tags and flags.
pub(super) const fn plain(joint: &'static str) -> Spelling {
    Spelling { joint, name: str::to_owned }
}

impl Spelling {
    /// The setting that `text` names.
    pub fn path_of(self, text: &str) -> Option<Found> {
        KEYS.iter().find_map(|key| self.matched(key, text))
    }

    fn matched(self, key: &Setting, text: &str) -> Option<Found> {
        let mut words = text.split(self.joint).peekable();
        let mut steps = Vec::new();
        let mut placed = Placed::ByNumber;
        for part in key.steps() {
            match part {
                Part::Name(name) => {
                    words.next_if(|word| *word == (self.name)(name))?;
                    steps.push(Step::Name(name.to_owned()));
                }
                Part::AnyPlace => match words.peek().and_then(|word| place(word)) {
                    Some(number) => {
                        words.next();
                        steps.push(Step::Place(number));
                    }
                    None if key.path.starts_with("container") => {
                        placed = Placed::ByDefault;
                        steps.push(Step::Place(0));
                    }
                    None => return None,
                },
                Part::AnyName => {
                    let name = words.by_ref().collect::<Vec<_>>().join(self.joint);
                    steps.push(Step::Name(Some(name).filter(|name| !name.is_empty())?));
                }
            }
        }
        words.next().is_none().then_some(Found { path: KeyPath(steps), placed })
    }

    /// The setting that `text` names, or a path that leads to nothing and so becomes a fault with a suggestion.
    pub fn path_or_fault(self, text: &str) -> Found {
        self.path_of(text).unwrap_or_else(|| {
            let step = |word: &str| place(word).map_or_else(|| Step::Name(word.to_owned()), Step::Place);
            Found { path: KeyPath(text.split(self.joint).map(step).collect()), placed: Placed::ByNumber }
        })
    }
}

impl Layer {
    /// Adds a setting as text under a path that was found by its words.
    pub(super) fn set_found(&mut self, found: Found, text: &str, origin: Origin) {
        if found.placed == Placed::ByDefault {
            self.unplaced.push((found.path.clone(), origin.clone()));
        }
        self.set(found.path, text, origin);
    }
}

fn place(word: &str) -> Option<usize> {
    let number: usize = word.parse().ok().filter(|number| *number <= LAST_PLACE)?;
    (number.to_string() == word).then_some(number)
}
