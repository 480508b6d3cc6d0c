//! Settings from a path of Parameter Store: `/maps/prod/mount/0/freshness` = `5s` below `/maps/prod`.
//!
//! The whole path is read, page by page, `SecureString` decrypted. A `StringList` is a list. What was a
//! `SecureString` is never shown, whatever its name.

use std::time::Duration;

use aws_sdk_ssm::Client;
use aws_sdk_ssm::error::ProvideErrorMetadata;
use aws_sdk_ssm::types::{Parameter, ParameterType};
use tokio::time::timeout;

use super::super::fault::ConfigError;
use super::key_syntax::plain;
use super::{Item, Layer, Origin, Value};
use crate::aws;
use crate::error::Chain;

/// Longest wait for all pages.
const LIMIT: Duration = Duration::from_secs(60);

/// The settings below `path`, asked for in `region`.
pub(super) async fn layer(path: &str, region: Option<&str>) -> Result<Layer, ConfigError> {
    let parameters = match timeout(LIMIT, read(path, region)).await {
        Ok(read) => read?,
        Err(_) => {
            let reason = format!("no answer within {} s", LIMIT.as_secs());
            return Err(ConfigError::Parameters { path: path.to_owned(), reason });
        }
    };
    let mut layer = Layer::default();
    for parameter in parameters {
        add(&mut layer, path, parameter);
    }
    Ok(layer)
}

/// The value of one parameter.
///
/// # Errors
///
/// [`ConfigError::Parameters`] and [`ConfigError::ParametersDenied`].
pub async fn parameter(name: &str) -> Result<String, ConfigError> {
    let client = Client::new(&aws::sdk_config(None, None, None).await);
    let answer = timeout(LIMIT, client.get_parameter().name(name).with_decryption(true).send()).await;
    let path = name.to_owned();
    let failed = |reason| ConfigError::Parameters { path: path.clone(), reason };
    let answer = answer.map_err(|_| failed(format!("no answer within {} s", LIMIT.as_secs())))?;
    let answer = answer.map_err(|error| match error.code() {
        Some("AccessDeniedException") => ConfigError::ParametersDenied { path: path.clone() },
        _ => failed(Chain(&error).to_string()),
    })?;
    let value = answer.parameter.and_then(|parameter| parameter.value);
    value.ok_or_else(|| failed("it has no value".to_owned()))
}

async fn read(path: &str, region: Option<&str>) -> Result<Vec<Parameter>, ConfigError> {
    let client = Client::new(&aws::sdk_config(region, None, None).await);
    let mut parameters = Vec::new();
    let mut page: Option<String> = None;
    loop {
        let request = client.get_parameters_by_path().path(path).recursive(true).with_decryption(true);
        let answer = request.set_next_token(page).send().await.map_err(|error| {
            let path = path.to_owned();
            match error.code() {
                Some("AccessDeniedException") => ConfigError::ParametersDenied { path },
                _ => ConfigError::Parameters { path, reason: Chain(&error).to_string() },
            }
        })?;
        page = answer.next_token.filter(|token| !token.is_empty());
        parameters.extend(answer.parameters.unwrap_or_default());
        if page.is_none() {
            return Ok(parameters);
        }
    }
}

fn add(layer: &mut Layer, path: &str, parameter: Parameter) {
    let (Some(name), Some(value)) = (parameter.name, parameter.value) else { return };
    let Some(rest) = name.strip_prefix(path).map(|rest| rest.trim_start_matches('/')) else { return };
    let found = plain("/").path_or_fault(rest);
    let secure = parameter.r#type == Some(ParameterType::SecureString);
    let origin = Origin::Parameter { name: name.clone(), secure };
    if parameter.r#type == Some(ParameterType::StringList) {
        let item = |text: &str| Item { value: Value::Text(text.trim().to_owned()), origin: origin.clone() };
        let list = Value::List(value.split(',').map(item).collect());
        layer.insert(found.path, list, origin.clone());
    } else {
        layer.set_found(found, &value, origin);
    }
}
