//! From entries to the typed configuration, collecting every fault on the way: a reader for each section of the table.
//!
//! Each setting is read whatever became of the one before it, and only at the end of a section is it
//! decided whether there is a value. What has to be unique is handed to `config::check` even where the
//! rest of its section is faulty.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::check::Claims;
use super::choice::{CannedAcl, Escalate, Expect, OnConflict, Owner};
use super::container::Selector;
use super::fault::{Expected, Fault, Problem};
use super::model::{Bootstrap, Config, Container, Credentials, Ecs, Health, Mount, Probe, Sources};
use super::quantity::{self, show_duration, show_size};
use super::setting::{KeyPath, Setting};
use super::source::{Entries, Entry, Value};
use super::table::settings;
use super::value;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// What reading found.
pub(super) struct Outcome {
    /// Present exactly when there are no faults.
    pub config: Option<Config>,
    pub faults: Vec<Fault>,
    pub claims: Claims,
}

/// Reads the whole configuration.
pub(super) fn config(entries: &Entries) -> Outcome {
    let mut reader = Reader { entries, faults: Vec::new(), claims: Claims::default() };
    let config = Config::read(&mut reader, &KeyPath::default());
    Outcome { config, faults: reader.faults, claims: reader.claims }
}

impl Default for Sources {
    fn default() -> Sources {
        let mut reader =
            Reader { entries: &Entries::default(), faults: Vec::new(), claims: Claims::default() };
        let sources = Sources::read(&mut reader, &KeyPath::default().with("sources"));
        sources.expect("a test reads the default of every key")
    }
}

/// Reads one field of the table, below the path of its section.
macro_rules! field {
    ($reader:ident $at:ident $field:ident in always $section:ident) => {
        $reader.always(&$at.with(stringify!($field)), $section::read)
    };
    ($reader:ident $at:ident $field:ident in maybe $section:ident) => {
        $reader.section(&$at.with(stringify!($field)), $section::read)
    };
    ($reader:ident $at:ident $field:ident in each $section:ident $list:literal) => {
        $reader.each($list, $section::read)
    };
    ($reader:ident $at:ident $field:ident of [$($rows:tt)+] $read:expr) => { $reader.by($at, $read) };
    ($reader:ident $at:ident $field:ident
        $default:tt, $kind:expr, $expects:expr, $limits:expr, $on:ident $($tag:ident)?, $read:expr) => {
        field!(@ $default $reader, &$at.with(stringify!($field)), $read)
    };
    (@ none $reader:ident, $path:expr, $read:expr) => { $reader.optional($path, $read) };
    (@ derived $reader:ident, $path:expr, $read:expr) => { $reader.optional($path, $read) };
    (@ list $reader:ident, $path:expr, $read:expr) => { $reader.by($path, $read) };
    (@ named $reader:ident, $path:expr, $read:expr) => { $reader.by($path, $read) };
    (@ $default:tt $reader:ident, $path:expr, $read:expr) => { $reader.setting($path, $read) };
}

macro_rules! readers {
    ($(
        $(#[$about:meta])+
        $section:ident $prefix:literal { $($(#[$doc:meta])+ $field:ident: $type:ty { $($how:tt)+ })+ }
        { $($reader:ident, $at:ident => $($rule:tt)+)? }
    )+) => { $(
        impl $section {
            /// `None` where there is a fault, which is noted.
            fn read(from: &mut Reader<'_>, path: &KeyPath) -> Option<$section> {
                $(let $field = field!(from path $field $($how)+);)+
                $(let ($reader, $at) = (from, path); $($rule)+)?
                Some($section { $($field: $field?),+ })
            }
        }
    )+ };
}

settings!(readers);

/// A typed value, or `None` where the value is of a kind that the setting cannot have.
type Judged<T> = Option<Result<T, Expected>>;

struct Reader<'a> {
    entries: &'a Entries,
    faults: Vec<Fault>,
    claims: Claims,
}

impl Reader<'_> {
    /// Calls `read`, which may be a closure of the table: its types stand here.
    fn by<T>(&mut self, at: &KeyPath, read: impl FnOnce(&mut Self, &KeyPath) -> Option<T>) -> Option<T> {
        read(self, at)
    }

    /// The name that is given to a mount, or the one that it has by its path.
    fn mount_name(
        &mut self,
        key: &KeyPath,
        given: Option<Option<String>>,
        path: Option<&Path>,
    ) -> Option<String> {
        match (given?, path) {
            (None, Some(path)) => {
                let name = value::name_of(path);
                if name.is_none() {
                    self.missing(key);
                }
                name
            }
            (given, _) => given,
        }
    }

    /// Puts what is wrong with `keys` of the section at `at` first, in this order, of all that is wrong in it.
    fn tell_first(&mut self, at: &KeyPath, keys: &[&str]) {
        let section = self.entries.written(at);
        let key = |fault: &Fault| -> Option<String> {
            let rest = fault.key.strip_prefix(&section)?.trim_start_matches('.');
            Some(rest.split(['.', '[']).next().unwrap_or_default().to_owned())
        };
        let others = self.faults.iter().rposition(|fault| key(fault).is_none()).map_or(0, |last| last + 1);
        let place = |fault: &Fault| keys.iter().position(|first| key(fault).as_deref() == Some(first));
        self.faults[others..].sort_by_key(|fault| place(fault).unwrap_or(keys.len()));
    }

    fn selector(&mut self, at: &KeyPath, owner: Option<Owner>) -> Option<Selector> {
        let criteria = at.with("match");
        let has_match = self.entries.entry(&criteria).is_some();
        let match_reads = self.must_be_table(&criteria);
        let name = self.optional(&at.with("name"), text(container_name));
        let label = self.optional(&criteria.with("label"), text(value::line));
        let image = self.optional(&criteria.with("image"), text(value::word));
        let has_name = self.entries.entry(&at.with("name")).is_some();
        if let Some(Some(name)) = &name {
            self.claims.containers.push((at.with("name"), name.clone()));
        }
        let problem = match (has_name, has_match) {
            (true, true) => Problem::NameAndMatch,
            (true, false) => return name?.map(Selector::Name),
            (false, _) if owner == Some(Owner::Mapkeeper) => Problem::OwnedNeedsName,
            (false, false) => Problem::NoSelector,
            (false, true) if !match_reads => return None,
            (false, true) => match (label?, image?) {
                (None, None) => Problem::EmptyMatch,
                (label, image) => return Some(Selector::Match { label, image }),
            },
        };
        self.fault(&if has_match { criteria } else { at.with("name") }, problem);
        None
    }

    /// A setting that has a default or must be given.
    fn setting<T>(&mut self, path: &KeyPath, judge: impl Fn(&Value) -> Judged<T>) -> Option<T> {
        match (self.optional(path, &judge)?, key(path).default) {
            (Some(value), _) => Some(value),
            (None, Some(default)) => {
                let judged = judge(&Value::Untyped(default.to_owned()));
                Some(judged.and_then(Result::ok).expect("a test reads the default of every key"))
            }
            (None, None) => {
                self.missing(path);
                None
            }
        }
    }

    /// A setting that may be absent: `Some(None)`. `None` is a value with a fault.
    fn optional<T>(&mut self, path: &KeyPath, judge: impl Fn(&Value) -> Judged<T>) -> Option<Option<T>> {
        let Some(entry) = self.entries.entry(path) else { return Some(None) };
        match judged(key(path), entry, judge) {
            Ok(value) => Some(Some(value)),
            Err(expected) => {
                self.fault(path, expected.into());
                None
            }
        }
    }

    /// A list of texts; from a layer of texts, one text or a TOML array. Every good one is claimed.
    fn list<T: Clone>(
        &mut self,
        path: &KeyPath,
        parse: fn(&str) -> Result<T, Expected>,
        claim: fn(&mut Claims, KeyPath, T),
    ) -> Option<Vec<T>> {
        let Some(entry) = self.entries.entry(path) else { return Some(Vec::new()) };
        let Some(items) = items(entry) else {
            self.fault(path, Expected::fixed(key(path).expects).into());
            return None;
        };
        let mut values = Vec::new();
        for (place, item) in items.iter().enumerate() {
            match judged(key(path), item, text(parse)) {
                Ok(value) => {
                    claim(&mut self.claims, path.at(place), value.clone());
                    values.push(value);
                }
                Err(expected) => self.faults.push(Fault {
                    origin: Some(item.origin.clone()),
                    key: self.entries.written(&path.at(place)),
                    found: Some(item.shown()),
                    problem: expected.into(),
                }),
            }
        }
        (values.len() == items.len()).then_some(values)
    }

    /// The texts below a section whose names the user chooses.
    fn named(
        &mut self,
        at: &KeyPath,
        name: fn(&str) -> Result<String, Expected>,
    ) -> Option<BTreeMap<String, String>> {
        self.must_be_table(at);
        let entries = self.entries;
        let mut values = BTreeMap::new();
        let mut all_good = true;
        for (word, entry) in entries.named_below(at) {
            let problem = match (name(word), judged(key(&at.with(word)), entry, text(any))) {
                (Ok(word), Ok(text)) => {
                    values.insert(word, text);
                    continue;
                }
                (Err(expected), _) => Expected::from(format!("{} as the name", expected.0)),
                (_, Err(expected)) => expected,
            };
            self.fault(&at.with(word), problem.into());
            all_good = false;
        }
        all_good.then_some(values)
    }

    /// A section that is there even where nobody has written it.
    fn always<T>(&mut self, at: &KeyPath, read: fn(&mut Self, &KeyPath) -> Option<T>) -> Option<T> {
        self.must_be_table(at);
        read(self, at)
    }

    /// A section that may be absent: `Some(None)`.
    fn section<T>(&mut self, at: &KeyPath, read: fn(&mut Self, &KeyPath) -> Option<T>) -> Option<Option<T>> {
        match self.entries.entry(at) {
            None => Some(None),
            Some(_) if self.must_be_table(at) => read(self, at).map(Some),
            Some(_) => None,
        }
    }

    /// Every entry of a list of tables.
    fn each<T>(&mut self, list: &str, read: fn(&mut Self, &KeyPath) -> Option<T>) -> Option<Vec<T>> {
        let path = KeyPath::default().with(list);
        let mut good = true;
        if let Some(Entry { value, .. }) = self.entries.entry(&path)
            && *value != Value::Section
        {
            self.fault(&path, Expected::from(format!("a table in double brackets: [[{list}]]")).into());
            good = false;
        }
        let places = self.entries.places(list);
        if list == "mount" && places.is_empty() && good {
            self.faults.push(Fault::new(None, "", Problem::NoMount));
            good = false;
        }
        let read: Vec<Option<T>> =
            places.iter().map(|place| self.section(&path.at(*place), read).flatten()).collect();
        read.into_iter().collect::<Option<Vec<T>>>().filter(|_| good)
    }

    fn must_be_table(&mut self, at: &KeyPath) -> bool {
        let wrong = self.entries.entry(at).is_some_and(|entry| entry.value != Value::Section);
        if wrong {
            let expected = Expected::from(format!("a table: [{}]", self.entries.written(at)));
            self.fault(at, expected.into());
        }
        !wrong
    }

    /// A setting that must be given is not: said of the place where its section begins.
    fn missing(&mut self, path: &KeyPath) {
        self.fault(path, Problem::Missing { expected: key(path).expects.into() });
    }

    fn fault(&mut self, path: &KeyPath, problem: Problem) {
        let fault = self.entries.fault(path, problem);
        self.faults.push(fault);
    }
}

fn key(path: &KeyPath) -> &'static Setting {
    path.known().value().expect("every path that is read stands in KEYS")
}

fn judged<T>(key: &Setting, entry: &Entry, judge: impl Fn(&Value) -> Judged<T>) -> Result<T, Expected> {
    judge(&entry.value).unwrap_or(Err(Expected::fixed(key.expects)))
}

fn items(entry: &Entry) -> Option<Vec<Entry>> {
    let one = || Some(vec![entry.clone()]);
    match &entry.value {
        Value::List(items) => Some(items.clone()),
        Value::Untyped(text) if text.starts_with('[') => {
            let table: toml::Table = format!("list = {text}").parse().ok()?;
            let texts = table.get("list")?.as_array()?.iter();
            let entry =
                |text: &str| Entry { value: Value::Text(text.to_owned()), origin: entry.origin.clone() };
            texts.map(|item| item.as_str().map(entry)).collect()
        }
        Value::Untyped(_) => one(),
        _ => None,
    }
}

fn text<T>(parse: impl Fn(&str) -> Result<T, Expected>) -> impl Fn(&Value) -> Judged<T> {
    move |value| match value {
        Value::Text(text) | Value::Untyped(text) => Some(parse(text)),
        _ => None,
    }
}

fn word<T>(of: fn(&str) -> Option<T>) -> impl Fn(&Value) -> Judged<T> {
    move |value| match value {
        Value::Text(text) | Value::Untyped(text) => of(text).map(Ok),
        _ => None,
    }
}

fn any(text: &str) -> Result<String, Expected> {
    if text.contains('\0') {
        Err(Expected::fixed("a string without zero bytes"))
    } else {
        Ok(text.to_owned())
    }
}

fn boolean(value: &Value) -> Judged<bool> {
    match value {
        Value::Boolean(value) => Some(Ok(*value)),
        Value::Untyped(text) => text.parse().ok().map(Ok),
        _ => None,
    }
}

/// A user or group number; the largest `u32` means "nobody in particular" to the kernel.
fn number(value: &Value) -> Judged<u32> {
    let number: u32 = match value {
        Value::Integer(number) => (*number).try_into().ok()?,
        Value::Untyped(text) if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok()?,
        _ => return None,
    };
    (number != u32::MAX).then_some(Ok(number))
}

fn duration(least: Duration, most: Duration) -> impl Fn(&Value) -> Judged<Duration> {
    text(move |text| {
        let duration = quantity::duration(text)?;
        if (least..=most).contains(&duration) {
            return Ok(duration);
        }
        Err(format!("a duration from {} to {}", show_duration(least), show_duration(most)).into())
    })
}

fn size(least: u64) -> impl Fn(&Value) -> Judged<u64> {
    text(move |text| {
        let size = quantity::size(text)?;
        if size >= least { Ok(size) } else { Err(format!("a size of at least {}", show_size(least)).into()) }
    })
}

/// A container's name by the rules of Docker.
fn container_name(text: &str) -> Result<String, Expected> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    let starts = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    if starts && text.len() >= 2 && text.bytes().all(plain) {
        return Ok(text.to_owned());
    }
    Err(Expected::fixed(r#"at least two letters, digits, "_", "." and "-", the first a letter or digit"#))
}

fn variable_name(text: &str) -> Result<String, Expected> {
    if text.is_empty() || text.contains(['=', '\0']) {
        return Err(Expected::fixed("text without \"=\""));
    }
    Ok(text.to_owned())
}

fn listen(text: &str) -> Result<SocketAddr, Expected> {
    let address = text.parse().ok().filter(|address: &SocketAddr| address.port() != 0);
    address.ok_or(Expected::fixed(r#"an address and port such as "127.0.0.1:8081""#))
}
