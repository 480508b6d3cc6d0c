//! The list of all settings, and the paths that name them: `mount[0].freshness`.
//!
//! [`KEYS`] is the one place that says which settings exist and what their defaults are: the reader
//! takes defaults from it, unknown keys are found with it, and `docs/configuration.md` is compared with
//! it by a test.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Its path: `[]` stands for a place in a list of tables, `*` for a name that the user chooses.
    pub path: &'static str,
    /// How its value is written.
    pub kind: Kind,
    /// What its value has to be, as the end of a sentence that starts with "expected".
    pub expects: &'static str,
    /// The value it has when nobody sets it, in the text form of an environment variable.
    pub default: Option<&'static str>,
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

const fn key(path: &'static str, kind: Kind, expects: &'static str, default: Option<&'static str>) -> Key {
    Key { path, kind, expects, default }
}

/// Every setting there is, in the order in which they are documented and shown.
pub const KEYS: &[Key] = &[
    key("region", Kind::Text, r#"an AWS region such as "us-east-1""#, None),
    key(
        "escalate",
        Kind::Choice(&["drain", "dry-run", "terminate"]),
        r#""drain", "dry-run" or "terminate""#,
        Some("drain"),
    ),
    key("sources.parameters", Kind::Text, r#"a path of Parameter Store such as "/maps/prod""#, None),
    key("sources.instance_tags", Kind::Boolean, "true or false", Some("true")),
    key("sources.poll", Kind::Duration, r#"a duration such as "1m""#, Some("1m")),
    key("credentials.secret", Kind::Text, "the name or ARN of a secret in Secrets Manager", None),
    key(
        "credentials.role",
        Kind::Text,
        r#"the ARN of a role such as "arn:aws:iam::123456789012:role/maps""#,
        None,
    ),
    key("credentials.refresh", Kind::Duration, r#"a duration such as "5m""#, Some("5m")),
    key("mount[].name", Kind::Text, r#"letters, digits, ".", "_" and "-", at most 64"#, None),
    key("mount[].source", Kind::Text, r#"a source such as "s3://bucket/prefix""#, None),
    key("mount[].path", Kind::Text, r#"an absolute path such as "/srv/mapkeeper/mapfiles""#, None),
    key("mount[].read_only", Kind::Boolean, "true or false", Some("true")),
    key("mount[].freshness", Kind::Duration, r#"a duration such as "1s""#, Some("1s")),
    key("mount[].uid", Kind::Number, "a user number from 0 to 4294967294", Some("0")),
    key("mount[].gid", Kind::Number, "a group number from 0 to 4294967294", Some("0")),
    key("mount[].file_mode", Kind::Mode, r#"an octal mode in quotes such as "0644""#, Some("0644")),
    key("mount[].dir_mode", Kind::Mode, r#"an octal mode in quotes such as "0755""#, Some("0755")),
    key("mount[].memory", Kind::Size, r#"a size such as "128MiB""#, Some("128MiB")),
    key("mount[].disk_cache", Kind::Size, r#"a size such as "10GiB", or "0" for none"#, Some("0")),
    key("mount[].max_stale", Kind::Duration, r#"a duration such as "1h", or "0s" for never"#, Some("1h")),
    key(
        "mount[].staging",
        Kind::Text,
        "an absolute path such as \"/var/lib/mapkeeper/staging\"",
        Some("/var/lib/mapkeeper/staging"),
    ),
    key(
        "mount[].on_conflict",
        Kind::Choice(&["fail", "overwrite"]),
        r#""fail" or "overwrite""#,
        Some("fail"),
    ),
    key("mount[].resend", Kind::Boolean, "true or false", Some("true")),
    key("mount[].endpoint_url", Kind::Text, r#"a base URL such as "http://127.0.0.1:9000""#, None),
    key("mount[].path_style", Kind::Boolean, "true or false", None),
    key("mount[].region", Kind::Text, r#"an AWS region such as "us-east-1""#, None),
    key("mount[].profile", Kind::Text, "the name of a profile in the AWS configuration files", None),
    key("container[].owner", Kind::Choice(&["ecs", "mapkeeper"]), r#""ecs" or "mapkeeper""#, Some("ecs")),
    key("container[].name", Kind::Text, "the name of a container", None),
    key("container[].match.label", Kind::Text, r#"a label such as "role" or "role=mapserver""#, None),
    key("container[].match.image", Kind::Text, r#"an image such as "mapserver:8""#, None),
    key("container[].image", Kind::Text, r#"an image such as "mapserver:8""#, None),
    key("container[].ports", Kind::Texts, r#"a list of ports such as ["8080:80"]"#, None),
    key("container[].binds", Kind::Texts, r#"a list of binds such as ["/src:/dst:ro"]"#, None),
    key("container[].environment.*", Kind::Text, "a string", None),
    key("container[].probe.url", Kind::Text, r#"an http:// URL such as "http://127.0.0.1:8080/""#, None),
    key("container[].probe.expect", Kind::Choice(&["wms", "http"]), r#""wms" or "http""#, Some("wms")),
    key("container[].probe.interval", Kind::Duration, r#"a duration such as "10s""#, Some("10s")),
    key("container[].probe.timeout", Kind::Duration, r#"a duration such as "5s""#, Some("5s")),
    key(
        "bootstrap.overlay",
        Kind::Text,
        r#"files for this host such as "s3://bucket/prefix" or "/srv/mapkeeper/mapfiles/host""#,
        None,
    ),
    key(
        "bootstrap.overlay_version",
        Kind::Text,
        "the version id of the manifest in a bucket that keeps versions",
        None,
    ),
    key("bootstrap.block_imds", Kind::Boolean, "true or false", Some("false")),
    key("bootstrap.binary_url", Kind::Text, r#"an https:// URL of the program"#, None),
    key("bootstrap.binary_sha256", Kind::Text, "64 hexadecimal digits", None),
    key("bootstrap.signal", Kind::Text, r#"a stack and a resource such as "maps/Hosts""#, None),
    key("ecs.cluster", Kind::Text, "the name of an ECS cluster", None),
    key("ecs.attributes.*", Kind::Text, "a string", None),
    key("health.listen", Kind::Text, r#"an address and port such as "127.0.0.1:8081""#, None),
];

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
    Value(&'static Key),
    /// A table, or a list of tables, of the configuration.
    Section,
    /// Nothing: the first `depth` steps of the path already name nothing that exists.
    Nothing { depth: usize },
}

impl Known {
    /// The setting, where the path leads to one.
    pub fn value(self) -> Option<&'static Key> {
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
        for key in KEYS {
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
        let elsewhere = |key: &&Key| key.path.rsplit('.').next() == Some(wrong.as_str());
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

impl Key {
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
        .map(|candidate| (distance(wrong, candidate), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// How many letters have to be put in, taken out or replaced to get from `a` to `b`.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        row[0] = left;
        for (cell, to) in row[1..].iter_mut().zip(&b) {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = *cell;
            left = replaced.min(*cell + 1).min(left + 1);
            *cell = left;
        }
    }
    row.last().copied().unwrap_or(0)
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
    fn a_misspelt_key_finds_its_neighbour() {
        assert_eq!(path(&["mount", "0", "freshnes"]).nearest().as_deref(), Some("freshness"));
        assert_eq!(path(&["mounts"]).nearest().as_deref(), Some("mount"));
        assert_eq!(path(&["freshness"]).nearest().as_deref(), Some("mount[].freshness"));
        assert_eq!(path(&["mount", "0", "colour"]).nearest(), None);
    }

    #[test]
    fn the_distance_counts_single_letters() {
        for (a, b, expected) in [("", "", 0), ("abc", "", 3), ("", "ab", 2), ("kitten", "sitting", 3)] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }

    proptest! {
        #[test]
        fn the_distance_is_the_same_both_ways_and_zero_only_for_equals(a in ".{0,12}", b in ".{0,12}") {
            prop_assert_eq!(distance(&a, &b), distance(&b, &a));
            prop_assert_eq!(distance(&a, &b) == 0, a == b);
        }

        #[test]
        fn a_quoted_string_is_the_same_string_to_toml(text in any::<String>()) {
            let document = format!("{} = {}", quoted_key(&text), quoted(&text));
            let table: toml::Table = document.parse().expect("valid TOML");
            prop_assert_eq!(table.get(&text), Some(&toml::Value::String(text.clone())));
        }
    }
}
