//! All layers of a configuration, from wherever they are.
//!
//! ```text
//!   file, environment, flags ---> does `sources` name a path, are tags wanted? ---> tags, parameters
//!        |                                                                            |
//!        +------> defaults < file < parameters < tags < environment < flags <---------+
//! ```
//!
//! What must hold: parameters that cannot be had are an error, because a host must not run with half of its
//! configuration. Tags, which many may write, never keep a host from starting: what is wrong among them is left out
//! with a warning, and where they cannot be asked, those known last hold.

use std::collections::BTreeMap;
use std::ffi::OsString;

use super::fault::{ConfigError, Fault, Faults, Problem};
use super::setting::KeyPath;
use super::source::{Entries, Layer, Origin, Value};
use super::{ConfigFile, DEFAULT_FILE, Loaded, value};
use crate::error::Chain;
use crate::host::instance::{InstanceError, Metadata, TAG_PREFIX};

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
struct Wanted {
    parameters: Option<String>,
    tags: bool,
    region: Option<String>,
}

/// Tags of an instance, by their names.
type Tags = BTreeMap<String, String>;

impl Loaded {
    /// Reads file, environment and flags, and asks nobody.
    ///
    /// # Errors
    ///
    /// As [`Loaded::read`].
    pub fn local(inputs: &Inputs) -> Result<Loaded, ConfigError> {
        let environment = Layer::environment(inputs.environment.iter().cloned());
        let file = match &inputs.file {
            ConfigFile::Named(path) => Layer::file(path)?,
            ConfigFile::Standard => super::standard_layer(DEFAULT_FILE.as_ref(), &environment)?,
        };
        Loaded::from_layers(vec![file, environment, Layer::flags(&inputs.flags)])
    }

    /// Asks every source and checks the result. Tags that cannot be asked are `before`, where they are known.
    ///
    /// Waits for the tags of the instance (where they are wanted, and on an instance only) and for Parameter Store (where
    /// a path is named).
    ///
    /// # Errors
    ///
    /// Parameters that are wanted and cannot be read, or every fault of the configuration at once.
    pub async fn load(inputs: &Inputs, before: Option<&Tags>) -> Result<Loaded, ConfigError> {
        let environment = Layer::environment(inputs.environment.iter().cloned());
        let flags = Layer::flags(&inputs.flags);
        let file = match &inputs.file {
            ConfigFile::Named(path) => Layer::file(path).map(Some)?,
            ConfigFile::Standard => match Layer::file(DEFAULT_FILE.as_ref()) {
                Err(ConfigError::Absent { .. }) => None,
                read => read.map(Some)?,
            },
        };
        let mut warnings = Vec::new();
        let local = vec![file.clone().unwrap_or_default(), environment.clone(), flags.clone()];
        let wanted = wanted(local);
        let tags = match wanted.tags {
            true => instance_tags(&mut warnings).await.or_else(|| before.cloned()),
            false => None,
        };
        let (of_tags, refused) = tags.as_ref().map(Layer::tags).unwrap_or_default();
        warnings.extend(refused);
        let parameters = match &wanted.parameters {
            Some(path) => parameters(path, wanted.region.as_deref(), &mut warnings).await?,
            None => Layer::default(),
        };
        let all_silent = [&of_tags, &parameters, &environment, &flags].iter().all(|layer| layer.is_empty());
        if file.is_none() && all_silent {
            return Err(ConfigError::Absent { path: DEFAULT_FILE.into() });
        }
        let below = vec![file.unwrap_or_default(), parameters];
        let mut loaded = laid(&below, of_tags, &[environment, flags], &mut warnings)?;
        loaded.warnings.extend(warnings);
        Ok(Loaded { tags, ..loaded })
    }
}

/// The layers on top of each other, with those tags that make sense between the others.
fn laid(
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

/// What these layers say, as far as it is valid; what is not becomes a fault when all of it is checked.
fn wanted(layers: Vec<Layer>) -> Wanted {
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

/// The tags of this instance; `None`: it is none, or they could not be asked.
async fn instance_tags(warnings: &mut Vec<Fault>) -> Option<Tags> {
    let metadata = Metadata::from_environment();
    if !metadata.is_expected() {
        return None;
    }
    let problem = match tags(&metadata).await {
        Ok(Some(tags)) => return Some(tags),
        Ok(None) => Problem::TagsUnread,
        Err(Unasked::NoInstance) => return None,
        Err(Unasked::Because(reason)) => Problem::TagsUnasked { reason },
    };
    let key = "sources.instance_tags".to_owned();
    warnings.push(Fault { origin: None, key, found: None, problem });
    None
}

/// Why tags could not be asked.
enum Unasked {
    NoInstance,
    Because(String),
}

impl From<InstanceError> for Unasked {
    fn from(error: InstanceError) -> Unasked {
        match error {
            InstanceError::NotEc2 => Unasked::NoInstance,
            other => Unasked::Because(Chain(&other).to_string()),
        }
    }
}

/// `None`: nobody lets us read them.
#[cfg(feature = "ec2")]
async fn tags(metadata: &Metadata) -> Result<Option<Tags>, Unasked> {
    use crate::host::instance::TagsError;
    match metadata.tags(TAG_PREFIX).await {
        Ok(tags) => Ok(Some(tags)),
        Err(error) if error.is_denied() => Ok(None),
        Err(TagsError::Instance { source }) => Err(source.into()),
        Err(error) => Err(Unasked::Because(Chain(&error).to_string())),
    }
}

#[cfg(not(feature = "ec2"))]
async fn tags(metadata: &Metadata) -> Result<Option<Tags>, Unasked> {
    Ok(metadata.offered_tags(TAG_PREFIX).await?)
}

async fn parameters(
    path: &str,
    region: Option<&str>,
    warnings: &mut Vec<Fault>,
) -> Result<Layer, ConfigError> {
    let layer = Layer::parameters(path, region).await?;
    if layer.is_empty() {
        warnings.push(Fault {
            origin: None,
            key: "sources.parameters".to_owned(),
            found: Some(super::setting::quoted(path)),
            problem: Problem::NoParameters,
        });
    }
    Ok(layer)
}

/// The layers that cannot say where they are themselves.
pub(super) fn circular(entries: &Entries) -> Vec<Fault> {
    let sources = KeyPath::default().with("sources");
    let circular = |key: &str, is_circular: fn(&Origin) -> bool, reason: &'static str| {
        let path = sources.with(key);
        let origin = entries.origin(&path);
        is_circular(&origin).then(|| Fault {
            origin: Some(origin),
            key: path.to_string(),
            found: None,
            problem: Problem::Unsupported { reason },
        })
    };
    let is_parameter = |origin: &Origin| matches!(origin, Origin::Parameter { .. });
    [
        circular("parameters", is_parameter, "a parameter cannot say where the parameters are"),
        circular("instance_tags", is_parameter, "it is needed before the parameters are read"),
    ]
    .into_iter()
    .flatten()
    .collect()
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
        let loaded = laid(&below, layer, &[], &mut warnings);
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
