//! Settings from environment variables.
//!
//! The variable of a setting is `MAPKEEPER_`, then its path in capitals with `__` between the steps:
//! `MAPKEEPER_MOUNT__0__FRESHNESS`. Where the user chooses a name (the environment of a container), the
//! rest of the variable is that name as it stands. The only container needs no number.

use std::collections::BTreeMap;
use std::ffi::OsString;

use super::super::fault::{Fault, Problem};
use super::super::setting::{KEYS, KeyPath, Part, Setting, Step, nearest};
use super::key_syntax::Spelling;
use super::layer::Layer;
use super::origin::Origin;

const PREFIX: &str = "MAPKEEPER_";

/// The variables that start with `MAPKEEPER_` and are not settings: they say how the command runs.
pub const RESERVED_VARIABLES: &[&str] =
    &["MAPKEEPER_RUNTIME_DIR", "MAPKEEPER_CONFIG", "MAPKEEPER_LOG", "MAPKEEPER_CACHE"];

const SPELLING: Spelling = Spelling { joint: "__", name: str::to_ascii_uppercase };

impl Layer {
    /// The settings in the variables of an environment that start with `MAPKEEPER_`.
    pub fn environment(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Layer {
        let sorted: BTreeMap<OsString, OsString> = variables.into_iter().collect();
        let mut layer = Layer::default();
        for (name, value) in sorted {
            let variable = name.to_string_lossy().into_owned();
            let Some(rest) = variable.strip_prefix(PREFIX) else { continue };
            if RESERVED_VARIABLES.contains(&variable.as_str()) {
                continue;
            }
            let origin = Origin::Environment { variable: variable.clone() };
            let mut fault = |key: String, problem| {
                layer.fault(Fault::new(Some(origin.clone()), key, problem));
            };
            match (SPELLING.path_of(rest), value.to_str()) {
                (None, _) => {
                    let suggestion = nearest_variable(&variable);
                    fault(String::new(), Problem::UnknownVariable { suggestion });
                }
                (Some(found), None) => fault(found.path.to_string(), Problem::NotText),
                (Some(found), Some(text)) => layer.set_found(found, text, origin),
            }
        }
        layer
    }
}

/// The variable of the setting at `path`.
pub(super) fn variable(path: &KeyPath) -> Option<String> {
    let words: Vec<String> = path
        .0
        .iter()
        .enumerate()
        .map(|(depth, step)| match step {
            Step::Place(place) => place.to_string(),
            Step::Name(name) if depth == 3 => name.clone(),
            Step::Name(name) => name.to_ascii_uppercase(),
        })
        .collect();
    let upper = words.join("__");
    [&upper, &upper.to_ascii_uppercase()]
        .into_iter()
        .find(|text| SPELLING.path_of(text).is_some_and(|found| found.path == *path))
        .map(|text| format!("{PREFIX}{text}"))
}

/// The environment variable of a setting: `MAPKEEPER_MOUNT__0__FRESHNESS`, with `NAME` where the user
/// chooses a name.
pub fn variable_of(key: &Setting) -> String {
    pattern(key, "0")
}

/// The variable of a key, with `place` wherever a number stands.
fn pattern(key: &Setting, place: &str) -> String {
    let word = |part: &Part| match part {
        Part::Name(name) => name.to_ascii_uppercase(),
        Part::AnyPlace => place.to_owned(),
        Part::AnyName => "NAME".to_owned(),
    };
    let words: Vec<String> = key.steps().iter().map(word).collect();
    format!("{PREFIX}{}", words.join("__"))
}

fn nearest_variable(wrong: &str) -> Option<String> {
    let number = wrong.split("__").find_map(|word| word.parse::<usize>().ok()).unwrap_or(0).to_string();
    let mut known: Vec<String> = KEYS.iter().map(|key| pattern(key, &number)).collect();
    let of_containers = KEYS.iter().filter(|key| key.path.starts_with("container"));
    known.extend(of_containers.map(|key| pattern(key, "").replace("____", "__")));
    known.extend(RESERVED_VARIABLES.iter().map(|name| (*name).to_owned()));
    nearest(wrong, known.iter().map(String::as_str)).map(str::to_owned)
}
