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
    let parameters = match timeout(LIMIT, read(path, region)).await {
        Ok(read) => read?,
        Err(_) => {
            let reason = format!("no answer within {} s", LIMIT.as_secs());
            return Err(ConfigError::Parameters { path: path.to_owned(), reason });
        }
    };
    Ok(Layer::parameters(path, parameters.into_iter().filter_map(told)))
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

/// A parameter in our own terms; one without a name or a value says nothing.
fn told(parameter: Parameter) -> Option<config::Parameter> {
    let kind = match parameter.r#type {
        Some(ParameterType::StringList) => ParameterKind::List,
        Some(ParameterType::SecureString) => ParameterKind::Secure,
        _ => ParameterKind::Text,
    };
    Some(config::Parameter { name: parameter.name?, value: parameter.value?, kind })
}
