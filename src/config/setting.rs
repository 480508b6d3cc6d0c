//! The list of all settings, and the paths that name them: `mount[0].freshness`.
//!
//! [`KEYS`] is made from the table of settings: the reader takes defaults from it, unknown keys are found with it, and
//! the tables of `docs/configuration.md` are written from it (`config::reference`).

use std::fmt;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};
use strsim::levenshtein;

use Kind::{Boolean, Choice, Duration, Mode, Number, Size, Text, Text as Path, Texts};

use super::choice::{CannedAcl, Escalate, Expect, OnConflict, Owner};
use super::table::settings;

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Its path: `[]` stands for a place in a list of tables, `*` for a name that the user chooses.
    pub path: &'static str,
    /// How its value is written.
    pub kind: Kind,
    /// What its value has to be, as the end of a sentence that starts with "expected".
    pub expects: &'static str,
    /// The value it has when nobody sets it, in the text form of an environment variable.
    pub default: Option<&'static str>,
    /// What is asked of its value beyond that, in Markdown; empty for nothing.
    pub limits: &'static str,
    /// What it does, in Markdown: a row of `docs/configuration.md`.
    pub meaning: &'static str,
    /// Whether a tag of the instance may set it. Whoever may write tags must come by no command, path, bind, image,
    /// endpoint or credential, so nothing may be set so that is not marked.
    pub taggable: bool,
    pub on_change: OnChange,
}

/// What becomes of an agent that runs, when a setting changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnChange {
    /// It follows at once, and interrupts nothing.
    Live,
    /// The mounts that it concerns are mounted again.
    Remount,
    /// A container that mapkeeper created is made anew; of another one it is at once known.
    RestartContainer,
    /// Nothing, before the agent is restarted.
    RestartAgent,
    /// Nothing, before the host is prepared again.
    Boot,
}

/// How a value is written in TOML.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Text,
    /// A text that is one of these.
    Choice(&'static [&'static str]),
    Boolean,
    /// A whole number from 0 to 4294967294.
    Number,
    /// A whole number with a unit of time.
    Duration,
    /// A whole number with a unit of bytes, or `"0"`.
    Size,
    /// Three or four octal digits.
    Mode,
    /// A list of texts.
    Texts,
}

macro_rules! default {
    ($text:literal) => {
        Some($text)
    };
    ($none:ident) => {
        None
    };
}

/// The settings of one field of the table.
macro_rules! rows {
    ($prefix:literal [$($doc:literal)+] $field:ident in $($section:tt)+) => { vec![] };
    ($prefix:literal [$($of:literal)+] $field:ident
        of [$($(#[doc = $doc:literal])+ $name:literal $default:tt, $kind:expr, $expects:literal, $limits:literal, $on:ident;)+] $read:expr) => {
        vec![$(rows!(@ concat!($prefix, $name), [$($doc)+] $default, $kind, $expects, $limits, $on)),+]
    };
    ($prefix:literal [$($doc:literal)+] $field:ident named, $($how:tt)+) => {
        vec![rows!(@ concat!($prefix, stringify!($field), ".*"), [$($doc)+] named, $($how)+)]
    };
    ($prefix:literal [$($doc:literal)+] $field:ident $($how:tt)+) => {
        vec![rows!(@ concat!($prefix, stringify!($field)), [$($doc)+] $($how)+)]
    };
    (@ $path:expr, [$($doc:literal)+]
        $default:tt, $kind:expr, $expects:expr, $limits:expr, $on:ident $($tag:ident)? $(, $read:expr)?) => {
        Setting {
            path: $path,
            kind: $kind,
            expects: $expects,
            default: default!($default),
            limits: $limits,
            meaning: concat!($($doc),+).trim_ascii(),
            taggable: !concat!($(stringify!($tag))?).is_empty(),
            on_change: OnChange::$on,
        }
    };
}

macro_rules! list {
    ($(
        $(#[$about:meta])+
        $section:ident $prefix:literal { $($(#[doc = $doc:literal])+ $field:ident: $type:ty { $($how:tt)+ })+ } $rule:tt
    )+) => { [$($(rows!($prefix [$($doc)+] $field $($how)+)),+),+].concat() };
}

/// Every setting there is, in the order in which they are documented and shown.
pub static KEYS: LazyLock<Vec<Setting>> = LazyLock::new(|| settings!(list));

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Step {
    /// The name of a key or table.
    Name(String),
    /// The place in a list, from 0.
    Place(usize),
}

/// The way from the top of the configuration to one value.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KeyPath(pub Vec<Step>);

/// What a path leads to.
#[derive(Debug, Clone, Copy)]
pub enum Known {
    /// A value.
    Value(&'static Setting),
    /// A table, or a list of tables, of the configuration.
    Section,
    /// Nothing: the first `depth` steps of the path already name nothing that exists.
    Nothing { depth: usize },
}

impl Known {
    /// The setting, where the path leads to one.
    pub fn value(self) -> Option<&'static Setting> {
        match self {
            Known::Value(key) => Some(key),
            Known::Section | Known::Nothing { .. } => None,
        }
    }
}

impl KeyPath {
    /// This path and then the name `step`.
    pub fn with(&self, step: &str) -> KeyPath {
        self.and(Step::Name(step.to_owned()))
    }

    /// This path and then the place `place`.
    pub fn at(&self, place: usize) -> KeyPath {
        self.and(Step::Place(place))
    }

    fn and(&self, step: Step) -> KeyPath {
        let mut steps = self.0.clone();
        steps.push(step);
        KeyPath(steps)
    }

    /// What this path leads to.
    pub fn known(&self) -> Known {
        let mut reached = 0;
        for key in KEYS.iter() {
            let pattern = key.steps();
            let same = pattern.iter().zip(&self.0).take_while(|(part, step)| part.fits(step)).count();
            if same == self.0.len() {
                return if pattern.len() == same { Known::Value(key) } else { Known::Section };
            }
            reached = reached.max(same);
        }
        Known::Nothing { depth: reached + 1 }
    }

    /// The setting that was probably meant by a path that leads to nothing, as it would be written.
    pub fn nearest(&self) -> Option<String> {
        let Some((Step::Name(wrong), before)) = self.0.split_last() else { return None };
        let siblings = KEYS.iter().filter_map(|key| {
            let pattern = key.steps();
            let fits = before.iter().zip(&pattern).all(|(step, part)| part.fits(step));
            match (fits, pattern.get(before.len())) {
                (true, Some(Part::Name(name))) => Some(*name),
                _ => None,
            }
        });
        if let Some(name) = nearest(wrong, siblings) {
            return Some(name.to_owned());
        }
        let elsewhere = |key: &&Setting| key.path.rsplit('.').next() == Some(wrong.as_str());
        KEYS.iter().find(elsewhere).map(|key| key.path.to_owned())
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, step) in self.0.iter().enumerate() {
            match step {
                Step::Name(name) if number == 0 => out.write_str(&quoted_key(name))?,
                Step::Name(name) => write!(out, ".{}", quoted_key(name))?,
                Step::Place(place) => write!(out, "[{place}]")?,
            }
        }
        Ok(())
    }
}

/// One step of a pattern of [`KEYS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Exactly this name.
    Name(&'static str),
    /// Any place in a list.
    AnyPlace,
    /// Any name.
    AnyName,
}

impl Part {
    fn fits(self, step: &Step) -> bool {
        match (self, step) {
            (Part::Name(wanted), Step::Name(name)) => wanted == name,
            (Part::AnyPlace, Step::Place(_)) | (Part::AnyName, Step::Name(_)) => true,
            _ => false,
        }
    }
}

impl Setting {
    /// The pattern of its path, step by step.
    pub fn steps(&self) -> Vec<Part> {
        let mut parts = Vec::new();
        for word in self.path.split('.') {
            let name = word.strip_suffix("[]").unwrap_or(word);
            parts.push(if name == "*" { Part::AnyName } else { Part::Name(name) });
            if name.len() < word.len() {
                parts.push(Part::AnyPlace);
            }
        }
        parts
    }
}

/// The candidate that differs from `wrong` by so few letters that it was probably meant.
pub fn nearest<'a>(wrong: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (wrong.chars().count() / 3).clamp(1, 3);
    candidates
        .map(|candidate| (levenshtein(wrong, candidate), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// A key as TOML writes it: in quotes where it has to be.
pub fn quoted_key(name: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !name.is_empty() && name.chars().all(bare) { name.to_owned() } else { quoted(name) }
}

/// A string as TOML writes it on one line.
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn path(steps: &[&str]) -> KeyPath {
        let step = |text: &&str| text.parse().map_or_else(|_| Step::Name((*text).to_owned()), Step::Place);
        KeyPath(steps.iter().map(step).collect())
    }

    #[test]
    fn a_path_is_written_as_people_write_it() {
        assert_eq!(path(&["mount", "0", "freshness"]).to_string(), "mount[0].freshness");
        assert_eq!(path(&["ecs", "attributes", "a.b"]).to_string(), r#"ecs.attributes."a.b""#);
    }

    #[test]
    fn a_path_leads_to_a_value_a_section_or_nothing() {
        let value = path(&["mount", "3", "uid"]).known();
        assert!(matches!(value, Known::Value(key) if key.path == "mount[].uid"), "{value:?}");
        assert!(matches!(path(&["mount", "3"]).known(), Known::Section));
        assert!(matches!(path(&["container", "0", "probe"]).known(), Known::Section));
        assert!(matches!(path(&["mounts", "0", "uid"]).known(), Known::Nothing { depth: 1 }));
        assert!(matches!(path(&["mount", "0", "user"]).known(), Known::Nothing { depth: 3 }));
        assert!(matches!(path(&["region", "name"]).known(), Known::Nothing { depth: 2 }));
    }

    #[test]
    fn a_tag_sets_no_command_path_bind_image_endpoint_or_credential() {
        let taggable: Vec<&str> = KEYS.iter().filter(|key| key.taggable).map(|key| key.path).collect();
        let expected = [
            "sources.poll",
            "credentials.refresh",
            "mount[].freshness",
            "mount[].uid",
            "mount[].gid",
            "mount[].file_mode",
            "mount[].dir_mode",
            "mount[].memory",
            "mount[].max_stale",
            "container[].probe.interval",
            "container[].probe.timeout",
        ];
        assert_eq!(taggable, expected);
    }

    #[test]
    fn a_misspelt_key_finds_its_neighbour() {
        assert_eq!(path(&["mount", "0", "freshnes"]).nearest().as_deref(), Some("freshness"));
        assert_eq!(path(&["mounts"]).nearest().as_deref(), Some("mount"));
        assert_eq!(path(&["freshness"]).nearest().as_deref(), Some("mount[].freshness"));
        assert_eq!(path(&["mount", "0", "colour"]).nearest(), None);
    }

    proptest! {
        #[test]
        fn a_quoted_string_is_the_same_string_to_toml(text in any::<String>()) {
            let document = format!("{} = {}", quoted_key(&text), quoted(&text));
            let table: toml::Table = document.parse().expect("valid TOML");
            prop_assert_eq!(table.get(&text), Some(&toml::Value::String(text.clone())));
        }
    }
}
