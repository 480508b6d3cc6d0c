//! Where settings come from: layers of values, each of which knows its origin.
//!
//! ```text
//!   defaults  <  file  <  parameters  <  tags  <  environment  <  flags, options        later wins
//!  (config::key)   |          |           |            |               |
//!                  +-- Layer -+-----------+------------+---------------+--> Entries --> config::read
//! ```
//!
//! A layer is flat: a map from the path of a setting to its value and origin. One more kind of layer is
//! one more function that makes such a map. Nothing is judged here but whether a setting of that name
//! exists; values are judged by `config::read`, when it is known which layer won.

mod environment;
mod file;
mod flags;
mod key_syntax;
mod parameters;
mod tags;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::fault::{ConfigError, Fault, Problem};
use super::redact::{self, REDACTED};
use super::setting::{KeyPath, Known, Setting, Step, quoted};

pub use parameters::parameter;
pub use tags::STATE_TAG;

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nowhere: it is the default.
    Default,
    /// In a file, on this line, counted from 1.
    File { path: PathBuf, line: Option<usize> },
    /// In a parameter of Parameter Store; what was encrypted there is never shown.
    Parameter { name: String, secure: bool },
    /// In a tag of the instance.
    Tag { name: String },
    /// In an environment variable of mapkeeper.
    Environment { variable: String },
    /// In `--set`, by the name given there.
    Flag { name: String },
    /// In `-o`: the option as it was written, without secrets.
    Option { text: String },
    /// In an argument of the command line, by its name in the usage.
    Argument { name: &'static str },
    /// Where a process before said, in its words.
    Before { text: String, secure: bool },
}

impl fmt::Display for Origin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => out.write_str("default"),
            Origin::File { path, line: Some(line) } => write!(out, "{}:{line}", path.display()),
            Origin::File { path, line: None } => write!(out, "{}", path.display()),
            Origin::Parameter { name, secure: false } => write!(out, "parameter {name}"),
            Origin::Parameter { name, secure: true } => write!(out, "secure parameter {name}"),
            Origin::Tag { name } => write!(out, "tag {name}"),
            Origin::Flag { name } => write!(out, "--set {name}"),
            Origin::Environment { variable } => write!(out, "environment {variable}"),
            Origin::Option { text } => write!(out, "-o {text}"),
            Origin::Argument { name } => out.write_str(name),
            Origin::Before { text, .. } => out.write_str(text),
        }
    }
}

/// A value before it is judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Value {
    /// A table of the configuration; its settings are entries of their own.
    Section,
    /// A string of a typed layer.
    Text(String),
    Integer(i64),
    Boolean(bool),
    List(Vec<Item>),
    /// A value of a kind that no setting has: a float, a date, a table inside a list. As written.
    Foreign(String),
    /// Text of a layer that has nothing but text; what kind it is depends on the setting.
    Untyped(String),
}

/// One value of a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Item {
    pub value: Value,
    pub origin: Origin,
}

/// A value and where it was written.
pub type Entry = Item;

impl Item {
    /// The value as a message may show it: nothing of what was encrypted where it came from.
    pub fn shown(&self) -> String {
        if self.origin.is_secure() { REDACTED.to_owned() } else { self.value.shown() }
    }
}

impl Origin {
    /// Whether the value was encrypted where it was written.
    pub fn is_secure(&self) -> bool {
        matches!(self, Origin::Parameter { secure: true, .. } | Origin::Before { secure: true, .. })
    }
}

impl Value {
    /// The value as a message may show it.
    pub fn shown(&self) -> String {
        match self {
            Value::Section => "a table".to_owned(),
            Value::Text(text) | Value::Untyped(text) => quoted(&shortened(&redact::shown(text))),
            Value::Integer(number) => number.to_string(),
            Value::Boolean(value) => value.to_string(),
            Value::List(items) => {
                let items: Vec<String> = items.iter().map(|item| item.value.shown()).collect();
                format!("[{}]", items.join(", "))
            }
            Value::Foreign(text) => shortened(text),
        }
    }
}

fn shortened(text: &str) -> String {
    const LIMIT: usize = 200;
    match text.char_indices().nth(LIMIT) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// The settings that one source gives, and what is wrong with their names.
#[derive(Debug, Clone, Default)]
pub struct Layer {
    entries: BTreeMap<KeyPath, Entry>,
    faults: Vec<Fault>,
    /// Settings of "the" container, given without its place.
    unplaced: Vec<(KeyPath, Origin)>,
}

impl Layer {
    /// The settings in the file at `path`.
    ///
    /// # Errors
    ///
    /// The file is absent, unreadable, larger than 1 MiB, not UTF-8 or not TOML.
    pub fn file(path: &Path) -> Result<Layer, ConfigError> {
        file::read(path)
    }

    /// The settings in `text`, which stands in the file at `path`.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Syntax`] with everything that is not TOML.
    pub fn toml(path: &Path, text: &str) -> Result<Layer, ConfigError> {
        file::parse(path, text)
    }

    /// The settings in the variables of an environment that start with `MAPKEEPER_`.
    pub fn environment(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Layer {
        environment::layer(variables)
    }

    /// The settings among the tags of an instance, and those that no tag may set.
    pub fn tags(tags: &BTreeMap<String, String>) -> (Layer, Vec<Fault>) {
        tags::layer(tags)
    }

    /// The settings in `--set KEY=VALUE`.
    pub fn flags(flags: &[String]) -> Layer {
        flags::layer(flags)
    }

    /// The settings below a path of Parameter Store.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Parameters`] and [`ConfigError::ParametersDenied`].
    pub async fn parameters(path: &str, region: Option<&str>) -> Result<Layer, ConfigError> {
        parameters::layer(path, region).await
    }

    /// Adds a setting as text.
    pub fn set(&mut self, path: KeyPath, text: &str, origin: Origin) {
        self.insert(path, Value::Untyped(text.to_owned()), origin);
    }

    /// Adds something that is wrong.
    pub fn fault(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    /// Takes out what was written at `origin`; whether there was anything.
    pub fn leave_out(&mut self, origin: &Origin) -> bool {
        let before = self.entries.len();
        self.entries.retain(|_, entry| entry.origin != *origin);
        self.unplaced.retain(|(_, other)| other != origin);
        self.entries.len() < before
    }

    /// Whether the source says nothing at all, right or wrong.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.faults.is_empty()
    }

    fn insert(&mut self, path: KeyPath, value: Value, origin: Origin) {
        self.entries.insert(path, Entry { value, origin });
    }
}

/// That a setting of "the" container does not say which of several.
fn unplaced_fault(path: &KeyPath, origin: Origin) -> Fault {
    let problem = match origin {
        Origin::Environment { .. } => Problem::UnknownVariable { suggestion: environment::variable(path) },
        _ => Problem::UnknownKey { suggestion: Some(path.to_string()) },
    };
    Fault { problem, key: String::new(), found: None, origin: Some(origin) }
}

/// All layers on top of each other.
#[derive(Debug, Clone, Default)]
pub struct Entries(BTreeMap<KeyPath, Entry>);

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
                let origin = Some(entry.origin.clone());
                faults.push(Fault { key: path.to_string(), origin, found: None, problem });
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
            faults.push(Fault {
                key: section.to_string(),
                origin,
                found: None,
                problem: Problem::Gap { next },
            });
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
}

/// The variables that start with `MAPKEEPER_` and are not settings: they say how the command runs.
pub const RESERVED_VARIABLES: &[&str] =
    &["MAPKEEPER_RUNTIME_DIR", "MAPKEEPER_CONFIG", "MAPKEEPER_LOG", "MAPKEEPER_CACHE"];

/// The environment variable of a setting: `MAPKEEPER_MOUNT__0__FRESHNESS`, with `NAME` where the user
/// chooses a name.
pub fn variable_of(key: &Setting) -> String {
    environment::pattern(key, "0")
}

#[cfg(test)]
mod tests;
