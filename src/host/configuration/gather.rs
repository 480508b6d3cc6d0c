//! Every source of a configuration, asked in turn.

use std::collections::BTreeMap;

use super::{parameters, tags};
use crate::config::{ConfigError, ConfigFile, DEFAULT_FILE, Fault, Inputs, Layer, Loaded, Problem, Wanted};

/// Asks every source and checks the result. Tags that cannot be asked are `before`, where they are known.
///
/// Waits for the tags of the instance (where they are wanted, and on an instance only) and for Parameter Store (where
/// a path is named).
///
/// # Errors
///
/// Parameters that are wanted and cannot be read, or every fault of the configuration at once.
pub async fn load(inputs: &Inputs, before: Option<&BTreeMap<String, String>>) -> Result<Loaded, ConfigError> {
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
    let wanted = Wanted::of(local);
    let tags = match wanted.tags {
        true => tags::instance_tags(&mut warnings).await.or_else(|| before.cloned()),
        false => None,
    };
    let (of_tags, refused) = tags.as_ref().map(Layer::tags).unwrap_or_default();
    warnings.extend(refused);
    let parameters = match &wanted.parameters {
        Some(path) => parameters_below(path, wanted.region.as_deref(), &mut warnings).await?,
        None => Layer::default(),
    };
    let all_silent = [&of_tags, &parameters, &environment, &flags].iter().all(|layer| layer.is_empty());
    if file.is_none() && all_silent {
        return Err(ConfigError::Absent { path: DEFAULT_FILE.into() });
    }
    let below = vec![file.unwrap_or_default(), parameters];
    let mut loaded = Loaded::laid(&below, of_tags, &[environment, flags], &mut warnings)?;
    loaded.warnings.extend(warnings);
    loaded.tags = tags;
    Ok(loaded)
}

async fn parameters_below(
    path: &str,
    region: Option<&str>,
    warnings: &mut Vec<Fault>,
) -> Result<Layer, ConfigError> {
    let layer = parameters::layer(path, region).await?;
    if layer.is_empty() {
        warnings.push(Fault {
            origin: None,
            key: "sources.parameters".to_owned(),
            found: Some(format!("{path:?}")),
            problem: Problem::NoParameters,
        });
    }
    Ok(layer)
}
