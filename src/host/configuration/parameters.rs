//! Parameter Store: the only place that speaks to it.
//!
//! The whole path is read, page by page, `SecureString` decrypted.

use std::time::Duration;

use aws_sdk_ssm::Client;
use aws_sdk_ssm::error::ProvideErrorMetadata;
use aws_sdk_ssm::types::{Parameter, ParameterType};
use tokio::time::timeout;

use crate::aws;
use crate::config::{self, ConfigError, Layer, ParameterKind};
use crate::error::Chain;

/// Longest wait for all pages.
const LIMIT: Duration = Duration::from_secs(60);

/// The settings below `path`, asked for in `region`.
pub(super) async fn layer(path: &str, region: Option<&str>) -> Result<Layer, ConfigError> {
    let client = Client::new(&aws::sdk_config(region, None, None).await);
    let pages = client.get_parameters_by_path().path(path).recursive(true).with_decryption(true);
    let pages = in_time(path, pages.into_paginator().send().collect::<Result<Vec<_>, _>>()).await?;
    let parameters = pages.into_iter().filter_map(|page| page.parameters).flatten();
    Ok(Layer::parameters(path, parameters.filter_map(told)))
}

/// The value of one parameter.
///
/// # Errors
///
/// [`ConfigError::Parameters`] and [`ConfigError::ParametersDenied`].
pub async fn parameter(name: &str) -> Result<String, ConfigError> {
    let client = Client::new(&aws::sdk_config(None, None, None).await);
    let answer = in_time(name, client.get_parameter().name(name).with_decryption(true).send()).await?;
    let value = answer.parameter.and_then(|parameter| parameter.value);
    let reason = "it has no value".to_owned();
    value.ok_or_else(|| ConfigError::Parameters { path: name.to_owned(), reason })
}

/// What Parameter Store says of `path`, or why it says nothing.
async fn in_time<T, E>(path: &str, answer: impl Future<Output = Result<T, E>>) -> Result<T, ConfigError>
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let path = path.to_owned();
    match timeout(LIMIT, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) if error.code() == Some("AccessDeniedException") => {
            Err(ConfigError::ParametersDenied { path })
        }
        Ok(Err(error)) => Err(ConfigError::Parameters { path, reason: Chain(&error).to_string() }),
        Err(_) => {
            let reason = format!("no answer within {} s", LIMIT.as_secs());
            Err(ConfigError::Parameters { path, reason })
        }
    }
}

/// A parameter in our own terms; one without a name or a value says nothing.
fn told(parameter: Parameter) -> Option<config::Parameter> {
    let kind = match parameter.r#type {
        Some(ParameterType::StringList) => ParameterKind::List,
        Some(ParameterType::SecureString) => ParameterKind::Secure,
        _ => ParameterKind::Text,
    };
    Some(config::Parameter { name: parameter.name?, value: parameter.value?, kind })
}
