//! All layers on top of each other: for each setting the value that counts.
//!
//! What must hold: the last layer wins; a name that means nothing is a fault, and so is a gap in a list.

use std::collections::{BTreeMap, BTreeSet};

use super::super::fault::{Fault, Problem};
use super::super::redact::{self, REDACTED};
use super::super::setting::{KeyPath, Known, Step};
use super::entry::{Entry, Value};
use super::environment;
use super::layer::Layer;
use super::origin::Origin;

/// All layers on top of each other.
#[derive(Debug, Clone, Default)]
pub struct Entries(pub(super) BTreeMap<KeyPath, Entry>);

impl Entries {
    /// Those that were taken out of others by [`iter`](Entries::iter).
    pub fn of(entries: impl IntoIterator<Item = (KeyPath, Entry)>) -> Entries {
        Entries(entries.into_iter().collect())
    }

    pub fn iter(&self) -> impl Iterator<Item = (&KeyPath, &Entry)> {
        self.0.iter()
    }

    /// Lays `layers` on top of each other, the last uppermost, and says which names mean nothing.
    pub fn merged(layers: Vec<Layer>) -> (Entries, Vec<Fault>) {
        let mut entries = Entries::default();
        let (mut faults, mut unplaced) = (Vec::new(), Vec::new());
        for layer in layers {
            faults.extend(layer.faults);
            unplaced.extend(layer.unplaced);
            for (path, entry) in layer.entries {
                entries.insert(path, entry);
            }
        }
        entries.check_names(&mut faults);
        entries.check_places(&mut faults);
        if entries.places("container").len() > 1 {
            faults.extend(unplaced.into_iter().map(|(path, origin)| unplaced_fault(&path, origin)));
        }
        (entries, faults)
    }

    fn insert(&mut self, path: KeyPath, entry: Entry) {
        for depth in 1..path.0.len() {
            let above = KeyPath(path.0[..depth].to_vec());
            let section = || Entry { value: Value::Section, origin: entry.origin.clone() };
            self.0.entry(above).or_insert_with(section);
        }
        let is_section = entry.value == Value::Section;
        if is_section && self.0.get(&path).is_some_and(|present| present.value == Value::Section) {
            return;
        }
        self.0.insert(path, entry);
    }

    /// Takes out everything that no setting is called, with one fault for each outermost name.
    fn check_names(&mut self, faults: &mut Vec<Fault>) {
        let mut unknown = BTreeSet::new();
        self.0.retain(|path, entry| {
            let Known::Nothing { depth } = path.known() else { return true };
            let path = KeyPath(path.0[..depth].to_vec());
            if unknown.insert(path.clone()) {
                let problem = Problem::UnknownKey { suggestion: path.nearest() };
                faults.push(Fault::new(Some(entry.origin.clone()), path.to_string(), problem));
            }
            false
        });
    }

    /// Takes out entries of lists that lie beyond a gap.
    fn check_places(&mut self, faults: &mut Vec<Fault>) {
        for list in ["mount", "container"] {
            let places = self.places(list);
            let Some((next, beyond)) =
                places.iter().enumerate().find(|(expected, place)| expected != *place).map(|(n, p)| (n, *p))
            else {
                continue;
            };
            let section = KeyPath::default().with(list).at(beyond);
            let origin = self.0.get(&section).map(|entry| entry.origin.clone());
            faults.push(Fault::new(origin, section.to_string(), Problem::Gap { next }));
            self.0.retain(|path, _| match path.0.as_slice() {
                [Step::Name(name), Step::Place(place), ..] => name != list || *place < next,
                _ => true,
            });
        }
    }

    /// The places of a list of tables that have an entry, in order.
    pub fn places(&self, list: &str) -> Vec<usize> {
        let place = |path: &KeyPath| match path.0.as_slice() {
            [Step::Name(name), Step::Place(place)] if name == list => Some(*place),
            _ => None,
        };
        self.0.keys().filter_map(place).collect()
    }

    /// The value at `path`, from the uppermost layer that has one.
    pub fn entry(&self, path: &KeyPath) -> Option<&Entry> {
        self.0.get(path)
    }

    /// The names below the section `path` that the user has chosen, with their values.
    pub fn named_below<'a>(&'a self, path: &'a KeyPath) -> impl Iterator<Item = (&'a str, &'a Entry)> {
        self.0.iter().filter_map(move |(below, entry)| match below.0.split_last() {
            Some((Step::Name(name), above)) if above == path.0 => Some((name.as_str(), entry)),
            _ => None,
        })
    }

    /// Where the value at `path` was written.
    pub fn origin(&self, path: &KeyPath) -> Origin {
        self.0.get(path).map_or(Origin::Default, |entry| entry.origin.clone())
    }

    /// `path` as a person writes it: the only container has no number.
    pub fn written(&self, path: &KeyPath) -> String {
        match path.0.as_slice() {
            [Step::Name(name), Step::Place(0), rest @ ..]
                if name == "container" && self.places("container").len() < 2 =>
            {
                let mut steps = vec![Step::Name(name.clone())];
                steps.extend_from_slice(rest);
                KeyPath(steps).to_string()
            }
            _ => path.to_string(),
        }
    }

    /// A fault of the setting at `path`, with the value that it has and where that was written.
    pub fn fault(&self, path: &KeyPath, problem: Problem) -> Fault {
        let above = || KeyPath(path.0[..path.0.len().saturating_sub(1)].to_vec());
        let entry = self.entry(path);
        Fault {
            origin: entry.or_else(|| self.entry(&above())).map(|entry| entry.origin.clone()),
            key: self.written(path),
            found: entry.filter(|entry| entry.value != Value::Section).map(|entry| shown(path, entry)),
            problem,
        }
    }
}

/// That a setting of "the" container does not say which of several.
fn unplaced_fault(path: &KeyPath, origin: Origin) -> Fault {
    let problem = match origin {
        Origin::Environment { .. } => Problem::UnknownVariable { suggestion: environment::variable(path) },
        _ => Problem::UnknownKey { suggestion: Some(path.to_string()) },
    };
    Fault::new(Some(origin), "", problem)
}

/// The value as a message may show it: never what may be a secret by the name of its setting.
fn shown(path: &KeyPath, entry: &Entry) -> String {
    let name = path.to_string();
    let may_hold_one = ["environment.", "attributes.", "secret"].iter().any(|part| name.contains(part));
    if may_hold_one && redact::names_a_secret(&name) { REDACTED.to_owned() } else { entry.shown() }
}
