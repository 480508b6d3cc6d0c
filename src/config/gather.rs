//! All layers of a configuration, from wherever they are.
//!
//! ```text
//!   file, environment, flags ---> does `sources` name a path, are tags wanted? ---> tags, then parameters
//!        |                                                                            |
//!        +------> defaults < file < parameters < tags < environment < flags <---------+
//! ```
//!
//! What must hold: a layer that cannot be had is an error, because a host must not run with half of its
//! configuration; only what nobody can be expected to have (no instance, no permission for tags) is passed over, the
//! latter with a warning.

use std::collections::BTreeMap;
use std::ffi::OsString;

use super::fault::{ConfigError, Fault, Problem};
use super::key::KeyPath;
use super::source::{Entries, Layer, Origin, Value};
use super::{ConfigFile, DEFAULT_FILE, Loaded, value};
use crate::instance::{InstanceError, Metadata, TAG_PREFIX};

/// Where a command takes its configuration from; the rest is said by `sources` in the configuration itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inputs {
    pub file: ConfigFile,
    /// Variables; those that start with `MAPKEEPER_` are settings.
    pub environment: Vec<(OsString, OsString)>,
    /// `KEY=VALUE`, as given with `--set`.
    pub flags: Vec<String>,
}

/// What the sources below the others say about those above.
struct Wanted {
    parameters: Option<String>,
    tags: bool,
    region: Option<String>,
}

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

    /// Asks every source and checks the result.
    ///
    /// Waits for the instance metadata (on an instance only) and for Parameter Store (where a path is named).
    ///
    /// # Errors
    ///
    /// A source that is named and cannot be read, or every fault of the configuration at once.
    pub async fn gather(inputs: &Inputs) -> Result<Loaded, ConfigError> {
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
        let local = [file.clone().unwrap_or_default(), environment.clone(), flags.clone()];
        let tags = match wanted(local.to_vec()).tags {
            true => instance_tags(&mut warnings).await?,
            false => Layer::default(),
        };
        let below = vec![file.clone().unwrap_or_default(), tags.clone(), environment.clone(), flags.clone()];
        let wanted = wanted(below);
        let parameters = match &wanted.parameters {
            Some(path) => parameters(path, wanted.region.as_deref(), &mut warnings).await?,
            None => Layer::default(),
        };
        let all_silent = [&tags, &parameters, &environment, &flags].iter().all(|layer| layer.is_empty());
        if file.is_none() && all_silent {
            return Err(ConfigError::Absent { path: DEFAULT_FILE.into() });
        }
        let layers = vec![file.unwrap_or_default(), parameters, tags, environment, flags];
        let mut loaded = Loaded::from_layers(layers)?;
        loaded.warnings.extend(warnings);
        Ok(loaded)
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
        tags: text(sources.with("instance_tags")).as_deref() != Some("false"),
        region: text(KeyPath::default().with("region")).and_then(|region| value::region(&region).ok()),
    }
}

async fn instance_tags(warnings: &mut Vec<Fault>) -> Result<Layer, ConfigError> {
    let metadata = Metadata::from_environment();
    if !metadata.is_expected() {
        return Ok(Layer::default());
    }
    match tags(&metadata).await {
        Ok(Some(tags)) => Ok(Layer::tags(&tags)),
        Ok(None) => {
            let key = "sources.instance_tags".to_owned();
            warnings.push(Fault { origin: None, key, found: None, problem: Problem::TagsUnread });
            Ok(Layer::default())
        }
        Err(ConfigError::Instance { source: InstanceError::NotEc2 }) => Ok(Layer::default()),
        Err(error) => Err(error),
    }
}

/// `None`: nobody lets us read them.
#[cfg(feature = "ec2")]
async fn tags(metadata: &Metadata) -> Result<Option<BTreeMap<String, String>>, ConfigError> {
    use crate::instance::TagsError;
    match metadata.tags(TAG_PREFIX).await {
        Ok(tags) => Ok(Some(tags)),
        Err(error) if error.is_denied() => Ok(None),
        Err(TagsError::Instance { source }) => Err(ConfigError::Instance { source }),
        Err(error) => Err(ConfigError::Tags { reason: error.to_string() }),
    }
}

#[cfg(not(feature = "ec2"))]
async fn tags(metadata: &Metadata) -> Result<Option<BTreeMap<String, String>>, ConfigError> {
    metadata.offered_tags(TAG_PREFIX).await.map_err(|source| ConfigError::Instance { source })
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
            found: Some(super::key::quoted(path)),
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
    let is_either = |origin: &Origin| matches!(origin, Origin::Parameter { .. } | Origin::Tag { .. });
    [
        circular("parameters", is_parameter, "a parameter cannot say where the parameters are"),
        circular("instance_tags", is_either, "it is needed before tags and parameters are read"),
    ]
    .into_iter()
    .flatten()
    .collect()
}
