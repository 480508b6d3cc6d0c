//! What a command is given to read its configuration from, and how tags are laid between the other layers.
//!
//! What must hold: tags, which many may write, never keep a host from starting: what is wrong among them is left out
//! with a warning.

use std::ffi::OsString;

use super::fault::{ConfigError, Fault, Faults};
use super::loaded::{ConfigFile, DEFAULT_FILE, Loaded, standard_layer};
use super::setting::KeyPath;
use super::source::{Entries, Layer, Origin, Value};
use super::value;

/// Where a command takes its configuration from; the rest is said by `sources` in the configuration itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inputs {
    pub file: ConfigFile,
    /// Variables; those that start with `MAPKEEPER_` are settings.
    pub environment: Vec<(OsString, OsString)>,
    /// `KEY=VALUE`, as given with `--set`.
    pub flags: Vec<String>,
}

/// What file, environment and flags say of the other sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Path of Parameter Store below which settings are looked for.
    pub parameters: Option<String>,
    /// Whether the tags of the instance are read.
    pub tags: bool,
    pub region: Option<String>,
}

impl Wanted {
    /// What these layers say, as far as it is valid; what is not becomes a fault when all of it is checked.
    pub fn of(layers: Vec<Layer>) -> Wanted {
        let (entries, _) = Entries::merged(layers);
        let text = |path: KeyPath| match entries.entry(&path).map(|entry| entry.value.clone()) {
            Some(Value::Text(text) | Value::Untyped(text)) => Some(text),
            Some(Value::Boolean(value)) => Some(value.to_string()),
            _ => None,
        };
        let sources = KeyPath::default().with("sources");
        Wanted {
            parameters: text(sources.with("parameters")).and_then(|path| value::parameter_path(&path).ok()),
            tags: text(sources.with("instance_tags")).as_deref() == Some("true"),
            region: text(KeyPath::default().with("region")).and_then(|region| value::region(&region).ok()),
        }
    }
}

impl Loaded {
    /// Reads file and environment and checks them together.
    ///
    /// # Errors
    ///
    /// A file that is absent (the standard one only if the environment says nothing), a file that is not TOML, or every
    /// fault of the configuration at once.
    pub fn read(
        file: &ConfigFile,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Loaded, ConfigError> {
        let environment = environment.into_iter().collect();
        Loaded::local(&Inputs { file: file.clone(), environment, flags: Vec::new() })
    }

    /// Reads file, environment and flags, and asks nobody.
    ///
    /// # Errors
    ///
    /// As [`Loaded::read`].
    pub fn local(inputs: &Inputs) -> Result<Loaded, ConfigError> {
        let environment = Layer::environment(inputs.environment.iter().cloned());
        let file = match &inputs.file {
            ConfigFile::Named(path) => Layer::file(path)?,
            ConfigFile::Standard => standard_layer(DEFAULT_FILE.as_ref(), &environment)?,
        };
        Loaded::from_layers(vec![file, environment, Layer::flags(&inputs.flags)])
    }

    /// The layers on top of each other, with those tags that make sense between the others.
    ///
    /// # Errors
    ///
    /// Every fault of the configuration at once.
    pub fn laid(
        below: &[Layer],
        mut tags: Layer,
        above: &[Layer],
        warnings: &mut Vec<Fault>,
    ) -> Result<Loaded, ConfigError> {
        let is_tag = |fault: &Fault| matches!(fault.origin, Some(Origin::Tag { .. }));
        let mut left_out = Vec::new();
        loop {
            let faults = match Loaded::from_layers([below, std::slice::from_ref(&tags), above].concat()) {
                Err(ConfigError::Faults(Faults(faults))) => faults,
                other => {
                    warnings.extend(left_out);
                    return other;
                }
            };
            let (of_tags, others): (Vec<Fault>, Vec<Fault>) = faults.into_iter().partition(is_tag);
            let mut changed = false;
            for origin in of_tags.iter().filter_map(|fault| fault.origin.as_ref()) {
                changed |= tags.leave_out(origin);
            }
            left_out.extend(of_tags);
            if changed {
                continue;
            }
            if tags.is_empty() {
                left_out.retain(is_tag);
                left_out.extend(others);
                return Err(ConfigError::Faults(Faults(left_out)));
            }
            // Another layer's setting does not go together with what tags say.
            left_out.extend(others);
            tags = Layer::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const FILE: &str = "[[mount]]\nsource = \"s3://maps\"\npath = \"/srv/maps\"\n[container]\nowner = \"mapkeeper\"\n\
                        name = \"web\"\nimage = \"web:1\"\n[container.probe]\nurl = \"http://h/\"\ntimeout = \"5s\"\n";

    fn with_tags(file: &str, tags: &[(&str, &str)]) -> (Result<Loaded, ConfigError>, String) {
        let below = [Layer::toml(Path::new("/c"), file).expect("TOML")];
        let tags =
            tags.iter().map(|(name, value)| (format!("mapkeeper:{name}"), (*value).to_owned())).collect();
        let (layer, mut warnings) = Layer::tags(&tags);
        let loaded = Loaded::laid(&below, layer, &[], &mut warnings);
        (loaded, warnings.iter().map(|warning| format!("{warning}\n")).collect())
    }

    #[test]
    fn what_is_wrong_among_tags_is_left_out_and_told_and_the_rest_counts() {
        let (loaded, told) = with_tags(
            FILE,
            &[
                ("container.binds", "[\"/:/host\"]"),
                ("bootstrap.overlay", "s3://mine/overlay"),
                ("sources.parameters", "/mine"),
                ("mount.0.endpoint_url", "http://mine/"),
                ("mount.0.freshness", "banana"),
                ("mount.0.freshnes", "1s"),
                ("mount.7.memory", "64MiB"),
                ("container.probe.timeout", "20s"),
                ("mount.0.uid", "33"),
                ("state", "healthy"),
            ],
        );
        let config = loaded.expect("it starts").config;
        assert_eq!((config.mounts.len(), config.mounts[0].uid), (1, 33));
        assert!(config.containers[0].binds.is_empty() && config.bootstrap.overlay.is_none());
        for line in [
            "tag mapkeeper:container.binds: container[0].binds: no tag may set this, because whoever",
            "tag mapkeeper:bootstrap.overlay: bootstrap.overlay: no tag may set this",
            "tag mapkeeper:sources.parameters: sources.parameters: no tag may set this",
            "tag mapkeeper:mount.0.endpoint_url: mount[0].endpoint_url: no tag may set this",
            "tag mapkeeper:mount.0.freshness: mount[0].freshness = \"banana\": expected",
            "tag mapkeeper:mount.0.freshnes: mount[0].freshnes: unknown key, did you mean `freshness`?",
            "tag mapkeeper:mount.7.memory: mount[7]: a list without a gap was expected",
            "tag mapkeeper:container.probe.timeout: container.probe.timeout = ",
        ] {
            assert!(told.contains(line), "{line}\n{told}");
        }
        assert_eq!(told.lines().count(), 8, "{told}");
    }

    #[test]
    fn tags_that_go_with_no_other_layer_are_left_out_as_a_whole() {
        let (loaded, told) = with_tags(FILE, &[("container.probe.interval", "2s"), ("mount.0.uid", "33")]);
        assert_eq!(loaded.expect("it starts").config.mounts[0].uid, 0);
        assert!(
            told.contains("/c:10: container.probe.timeout = \"5s\": longer than the interval of 2s"),
            "{told}"
        );
    }

    #[test]
    fn a_mount_that_only_tags_describe_is_none() {
        let (loaded, told) = with_tags(FILE, &[("mount.1.freshness", "2s")]);
        assert_eq!(loaded.expect("it starts").config.mounts.len(), 1);
        assert!(told.contains("tag mapkeeper:mount.1.freshness"), "{told}");
    }

    #[test]
    fn a_fault_of_the_file_is_told_together_with_those_of_tags() {
        let (loaded, _) = with_tags("[[mount]]\npath = \"/srv/maps\"\n", &[("mount.0.uid", "x")]);
        let text = loaded.expect_err("it has no source").to_string();
        assert!(
            text.contains("mount[0].uid = \"x\"") && text.contains("/c:1: mount[0].source: missing"),
            "{text}"
        );
    }
}
