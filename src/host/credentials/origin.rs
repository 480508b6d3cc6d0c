//! Where credentials come from, and one look there.
//!
//! What must hold: a look ends within [`FETCH_LIMIT`]; what is refused because the clock is wrong is told as that.

use std::fmt;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError as ProviderError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sdk_secretsmanager::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_secretsmanager::operation::get_secret_value::GetSecretValueError;
use aws_smithy_types::date_time::{DateTime, Format};
use tokio::time::Instant;

use super::error::CredentialsError;
use super::keys::Secret;
use super::secret::parse;

/// Clocks that differ by more than this make signatures invalid, give or take the time of a request.
const SKEW_LIMIT: Duration = Duration::from_secs(240);

/// Longest time one look at a source of credentials takes.
const FETCH_LIMIT: Duration = Duration::from_secs(45);

/// Which version of a secret: as Secrets Manager calls them, but for the untested one of a rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Current,
    Previous,
}

impl Stage {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Stage::Current => "AWSCURRENT",
            Stage::Previous => "AWSPREVIOUS",
        }
    }
}

/// What a holder gives out, and what is known of it.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub credentials: Credentials,
    pub stage: Option<Stage>,
    /// Id of the version of a secret.
    pub version: Option<String>,
    pub since: Instant,
}

/// What a refresher looks at.
pub(super) enum Origin {
    Chain { provider: SharedCredentialsProvider },
    Role { provider: SharedCredentialsProvider, arn: String },
    Secret { client: aws_sdk_secretsmanager::Client, name: String },
}

impl fmt::Display for Origin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Chain { .. } => out.write_str("the AWS default chain"),
            Origin::Role { arn, .. } => write!(out, "role {arn:?}"),
            Origin::Secret { name, .. } => write!(out, "secret {name:?}"),
        }
    }
}

impl Origin {
    /// Only a secret has more than one stage.
    pub(super) async fn fetch(&self, stage: Stage) -> Result<Held, CredentialsError> {
        let provided = |credentials| Held { credentials, stage: None, version: None, since: Instant::now() };
        match self {
            Origin::Chain { provider } => {
                asked(provider).await?.map(provided).map_err(|source| CredentialsError::Chain { source })
            }
            Origin::Role { provider, arn } => asked(provider)
                .await?
                .map(provided)
                .map_err(|source| CredentialsError::Role { arn: arn.clone(), source }),
            Origin::Secret { client, name } => fetch_secret(client, name, stage).await,
        }
    }
}

async fn asked(
    provider: &SharedCredentialsProvider,
) -> Result<Result<Credentials, ProviderError>, CredentialsError> {
    let limit = FETCH_LIMIT;
    tokio::time::timeout(limit, provider.provide_credentials())
        .await
        .map_err(|_| CredentialsError::ChainSilent { limit })
}

async fn fetch_secret(
    client: &aws_sdk_secretsmanager::Client,
    name: &str,
    stage: Stage,
) -> Result<Held, CredentialsError> {
    let (name, limit) = (name.to_owned(), FETCH_LIMIT);
    let request = client.get_secret_value().secret_id(&name).version_stage(stage.as_str()).send();
    let answer = match tokio::time::timeout(limit, request).await {
        Err(_) => return Err(CredentialsError::SecretSilent { name, limit }),
        Ok(answer) => answer.map_err(|error| refused(&name, error))?,
    };
    let Some(text) = answer.secret_string.map(Secret::new) else {
        return Err(CredentialsError::Binary { name });
    };
    let credentials = parse(&name, &text)?.credentials("secret");
    Ok(Held { credentials, stage: Some(stage), version: answer.version_id, since: Instant::now() })
}

fn refused(name: &str, error: SdkError<GetSecretValueError>) -> CredentialsError {
    if let Some(skew) = clock_skew(&error, SystemTime::now()) {
        return skew;
    }
    let name = name.to_owned();
    let missing = error.as_service_error().is_some_and(GetSecretValueError::is_resource_not_found_exception);
    let denied =
        error.as_service_error().and_then(ProvideErrorMetadata::code) == Some("AccessDeniedException");
    let source = Box::new(error);
    match (missing, denied) {
        (true, _) => CredentialsError::Missing { name },
        (false, true) => CredentialsError::Denied { name, source },
        (false, false) => CredentialsError::Fetch { name, source },
    }
}

/// That an answer refuses a signature and says another time than this host's clock.
fn clock_skew(error: &SdkError<GetSecretValueError>, now: SystemTime) -> Option<CredentialsError> {
    let code = error.as_service_error().and_then(ProvideErrorMetadata::code)?;
    let about_time =
        ["InvalidSignatureException", "SignatureDoesNotMatch", "RequestExpired", "RequestTimeTooSkewed"];
    let date = error.raw_response().and_then(|response| response.headers().get("date"))?;
    let theirs = SystemTime::try_from(DateTime::from_str(date, Format::HttpDate).ok()?).ok()?;
    let (ahead, direction) = match now.duration_since(theirs) {
        Ok(ahead) => (ahead, "ahead of"),
        Err(behind) => (behind.duration(), "behind"),
    };
    (about_time.contains(&code) && ahead > SKEW_LIMIT)
        .then(|| CredentialsError::ClockSkew { minutes: ahead.as_secs() / 60, direction })
}

/// The region that an ARN names: a secret of another region is asked for there.
pub(super) fn region_of_arn(name: &str) -> Option<&str> {
    name.strip_prefix("arn:")?.split(':').nth(2).filter(|region| !region.is_empty())
}
