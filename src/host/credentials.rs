//! Credentials: where they come from, and the holder that a running mount asks for each request.
//!
//! ```text
//!   fixed (file of s3fs, demo) -----------------------------+
//!   default chain of AWS ----+                              v
//!   role that it assumes ----+--> refresher (one task) --> Holder --> every request to S3
//!   secret in Secrets Manager +      `refresh.rs`             ^             |
//!                                                             +--- refused -+  `wire.rs`
//! ```
//!
//! What must hold: a value is nowhere but in memory, and never in a message; the refresher is the only
//! one that changes what a holder holds; what is new is proved by a request before it takes the old one's place.

mod memory;
mod passwd;
mod refresh;
mod secret;
mod wire;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError as ProviderError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use aws_sdk_secretsmanager::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_secretsmanager::operation::get_secret_value::GetSecretValueError;
use aws_smithy_types::date_time::{DateTime, Format};
use futures::future::BoxFuture;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use zeroize::Zeroize;

use self::refresh::{CredentialCell, Held, Refusal};
use crate::aws;
use crate::error::{Advise, Exit};

pub use memory::keep_out_of_core_dumps;
pub use passwd::PasswdError;

/// How often credentials of the default chain without an end are looked at again.
const CHAIN_REFRESH: Duration = Duration::from_secs(300);

/// Clocks that differ by more than this make signatures invalid, give or take the time of a request.
const SKEW_LIMIT: Duration = Duration::from_secs(240);

/// Longest time one look at a source of credentials takes.
const FETCH_LIMIT: Duration = Duration::from_secs(45);

/// A value that must not be seen: `Debug` and `Display` say `[redacted]`, and its memory is overwritten
/// when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    /// Hides `value`.
    pub fn new(value: T) -> Secret<T> {
        Secret(value)
    }

    /// The value itself, for the one place that needs it.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("[redacted]")
    }
}

impl<T: Zeroize> fmt::Display for Secret<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("[redacted]")
    }
}

/// An access key, its secret, and the token of a session where there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct KeyPair {
    access_key_id: Secret<String>,
    secret_access_key: Secret<String>,
    session_token: Option<Secret<String>>,
}

impl KeyPair {
    fn credentials(&self, provider: &'static str) -> Credentials {
        let token = self.session_token.as_ref().map(|token| token.expose().clone());
        let (id, key) = (self.access_key_id.expose(), self.secret_access_key.expose());
        Credentials::new(id, key, token, None, provider)
    }
}

/// Why there are no credentials.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    #[error("the AWS default chain has no credentials")]
    Chain { source: ProviderError },
    #[error("the AWS default chain gave no answer within {} s", .limit.as_secs())]
    ChainSilent { limit: Duration },
    #[error("secret {name:?} does not exist in this region")]
    Missing { name: String },
    #[error("access to secret {name:?} is denied")]
    Denied { name: String, source: Box<SdkError<GetSecretValueError>> },
    #[error("cannot fetch secret {name:?}")]
    Fetch { name: String, source: Box<SdkError<GetSecretValueError>> },
    #[error("Secrets Manager gave no answer about secret {name:?} within {} s", .limit.as_secs())]
    SecretSilent { name: String, limit: Duration },
    #[error("secret {name:?} is binary, expected text")]
    Binary { name: String },
    #[error("secret {name:?} is no JSON object (line {line}, column {column})")]
    NotJson { name: String, line: usize, column: usize },
    #[error("secret {name:?} has no field `{field}`, expected {expected}")]
    NoField { name: String, field: &'static str, expected: &'static str },
    #[error("field `{field}` of secret {name:?} is {found}, expected {expected}")]
    BadField { name: String, field: &'static str, found: &'static str, expected: &'static str },
    #[error("secret {name:?} has {found} fields, expected ACCESS_KEY_ID:SECRET_ACCESS_KEY or JSON")]
    Shape { name: String, found: usize },
    #[error("role {arn:?} cannot be assumed")]
    Role { arn: String, source: ProviderError },
    #[error("{of} is refused by the store: {reason}")]
    Unproven { of: String, reason: String },
    #[error(
        "the clock of this host is {minutes} min {direction} that of Secrets Manager, so signatures are invalid"
    )]
    ClockSkew { minutes: u64, direction: &'static str },
    #[error(transparent)]
    Passwd(#[from] PasswdError),
}

impl Advise for CredentialsError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            CredentialsError::Chain { .. } | CredentialsError::ChainSilent { .. } => {
                "give the instance a role, set AWS_PROFILE or AWS_ACCESS_KEY_ID, or name a secret in `credentials.secret`"
                    .to_owned()
            }
            CredentialsError::Missing { .. } => {
                "check `credentials.secret` and `region`; a secret of another account needs its ARN".to_owned()
            }
            CredentialsError::Denied { name, .. } => {
                format!("allow secretsmanager:GetSecretValue on {name:?} to the role of this instance")
            }
            CredentialsError::Fetch { .. } | CredentialsError::SecretSilent { .. } => {
                "check that this host reaches Secrets Manager: route, endpoint, proxy, clock".to_owned()
            }
            CredentialsError::Binary { .. }
            | CredentialsError::NotJson { .. }
            | CredentialsError::NoField { .. }
            | CredentialsError::BadField { .. }
            | CredentialsError::Shape { .. } => {
                r#"store {"access_key_id": "...", "secret_access_key": "..."} or ACCESS_KEY_ID:SECRET_ACCESS_KEY"#
                    .to_owned()
            }
            CredentialsError::Role { arn, .. } => {
                format!("allow sts:AssumeRole on {arn} to the role of this instance, and trust that role in {arn}")
            }
            CredentialsError::Unproven { .. } => {
                "check that the key in it is active and may list the bucket, and store a good version".to_owned()
            }
            CredentialsError::ClockSkew { .. } => {
                "set the clock of this host: timedatectl set-ntp true, or chronyc makestep".to_owned()
            }
            CredentialsError::Passwd(error) => return error.hint(),
        })
    }

    fn exit(&self) -> Exit {
        Exit::CredentialsRefused
    }
}

/// What a request with new credentials came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proving {
    Good,
    /// The store says no to these credentials.
    Refused(String),
    /// The store could not be asked.
    Unknown(String),
}

/// Makes a request with the credentials that it is given.
pub type Prover = Arc<dyn Fn(SharedCredentialsProvider) -> BoxFuture<'static, Proving> + Send + Sync>;

/// Which version of a secret: as Secrets Manager calls them, but for the untested one of a rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Current,
    Previous,
}

impl Stage {
    fn as_str(self) -> &'static str {
        match self {
            Stage::Current => "AWSCURRENT",
            Stage::Previous => "AWSPREVIOUS",
        }
    }
}

/// The credentials of a running mount. Clones share one value: what the refresher puts in is what the
/// next request is signed with.
#[derive(Clone)]
pub struct Holder {
    cell: Arc<CredentialCell>,
    source: Arc<str>,
    /// Present where something refreshes the value; it ends with the last clone.
    refresher: Option<Arc<Refresher>>,
}

impl fmt::Debug for Holder {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Holder([redacted])")
    }
}

struct Refresher(JoinHandle<()>);

impl Drop for Refresher {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Holder {
    /// Holds these credentials for ever.
    pub fn fixed(
        access_key_id: Secret<String>,
        secret_access_key: Secret<String>,
        session_token: Option<Secret<String>>,
    ) -> Holder {
        let keys = KeyPair { access_key_id, secret_access_key, session_token };
        Holder::of(keys.credentials("fixed"), "given")
    }

    /// Holds what the default chain of AWS finds (environment, profile, role of task or instance), and
    /// renews it before it ends.
    ///
    /// # Errors
    ///
    /// [`CredentialsError::Chain`] when no link of the chain has any.
    pub async fn default_chain(
        profile: Option<&str>,
        region: Option<&str>,
        prover: Option<Prover>,
    ) -> Result<Holder, CredentialsError> {
        let config = aws::sdk_config(region, profile, None).await;
        let Some(provider) = config.credentials_provider() else {
            let source = ProviderError::not_loaded_no_source();
            return Err(CredentialsError::Chain { source });
        };
        Holder::refreshed(Origin::Chain { provider }, CHAIN_REFRESH, prover).await
    }

    /// Holds what the role `arn` gives, which is assumed with the credentials of the default chain.
    ///
    /// # Errors
    ///
    /// [`CredentialsError::Role`] when it cannot be assumed.
    pub async fn role(
        arn: &str,
        profile: Option<&str>,
        region: Option<&str>,
        prover: Option<Prover>,
    ) -> Result<Holder, CredentialsError> {
        let config = aws::sdk_config(region, profile, None).await;
        let builder = aws_config::sts::AssumeRoleProvider::builder(arn).session_name("mapkeeper");
        let provider = SharedCredentialsProvider::new(builder.configure(&config).build().await);
        Holder::refreshed(Origin::Role { provider, arn: arn.to_owned() }, CHAIN_REFRESH, prover).await
    }

    /// Holds what the secret `name` (a name or an ARN) in Secrets Manager says, and looks at it again
    /// about every `refresh`. The secret is fetched with the credentials of the default chain.
    ///
    /// # Errors
    ///
    /// The secret is missing, refused or unreachable, is not in one of its two shapes, or `prover` says no to it
    /// and to the version before.
    pub async fn secret(
        name: &str,
        profile: Option<&str>,
        region: Option<&str>,
        refresh: Duration,
        prover: Option<Prover>,
    ) -> Result<Holder, CredentialsError> {
        let region = region.or_else(|| region_of_arn(name));
        let config = aws::sdk_config(region, profile, None).await;
        let client = aws_sdk_secretsmanager::Client::new(&config);
        Holder::refreshed(Origin::Secret { client, name: name.to_owned() }, refresh, prover).await
    }

    /// Holds the credentials that the file of s3fs at `path` has for `bucket`. Read once, as s3fs does.
    ///
    /// # Errors
    ///
    /// The file is unreadable, open to others, malformed, or has nothing for this bucket.
    pub fn passwd_file(path: &Path, bucket: &str) -> Result<Holder, CredentialsError> {
        let keys = passwd::read(path, bucket)?;
        Ok(Holder::of(keys.credentials("passwd_file"), "a password file"))
    }

    /// This holder as the SDK takes it.
    pub fn provider(&self) -> SharedCredentialsProvider {
        SharedCredentialsProvider::new(self.clone())
    }

    /// `config` with these credentials, and with a client that has them looked at again when a request is refused.
    pub fn signs(&self, config: aws_config::SdkConfig) -> aws_config::SdkConfig {
        let inner = config.http_client().unwrap_or_else(aws::http_client);
        config.into_builder().http_client(wire::heard_by(self.clone(), inner)).build()
    }

    /// What is held, without any part of it: age, version, source.
    pub fn description(&self) -> String {
        let held = self.cell.held.borrow();
        let age = held.since.elapsed().as_secs();
        let version = match (&held.version, held.stage) {
            (Some(version), Some(Stage::Previous)) => format!(", version {version} (AWSPREVIOUS)"),
            (Some(version), _) => format!(", version {version}"),
            (None, _) => String::new(),
        };
        format!("{age} s old{version}, from {}", self.source)
    }

    /// From now on the source is looked at about every `refresh`.
    pub fn look_every(&self, refresh: Duration) {
        self.cell.every.send_if_modified(|every| std::mem::replace(every, refresh) != refresh);
    }

    /// Whether requests that were refused wait for other credentials.
    pub fn renewing(&self) -> bool {
        self.cell.renewing()
    }

    /// A request that the key `id` has signed was refused: whether there are other credentials by now. Has the
    /// source looked at, but not at every refusal.
    async fn refused(&self, id: &str, refusal: Refusal) -> bool {
        self.refresher.is_some() && self.cell.refused(id, refusal).await
    }

    fn of(credentials: Credentials, source: &str) -> Holder {
        let held = Held { credentials, stage: None, version: None, since: Instant::now() };
        Holder {
            cell: Arc::new(CredentialCell::new(held, CHAIN_REFRESH)),
            source: source.into(),
            refresher: None,
        }
    }

    async fn refreshed(
        origin: Origin,
        refresh: Duration,
        prover: Option<Prover>,
    ) -> Result<Holder, CredentialsError> {
        let cell = Arc::new(CredentialCell::new(refresh::first(&origin, prover.as_ref()).await?, refresh));
        let source = origin.to_string().into();
        let task = tokio::spawn(refresh::keep_fresh(origin, Arc::downgrade(&cell), prover));
        Ok(Holder { cell, source, refresher: Some(Arc::new(Refresher(task))) })
    }
}

impl ProvideCredentials for Holder {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::ready(Ok(self.cell.held.borrow().credentials.clone()))
    }
}

/// What a refresher looks at.
enum Origin {
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
    async fn fetch(&self, stage: Stage) -> Result<Held, CredentialsError> {
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
    let credentials = secret::parse(&name, &text)?.credentials("secret");
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
fn region_of_arn(name: &str) -> Option<&str> {
    name.strip_prefix("arn:")?.split(':').nth(2).filter(|region| !region.is_empty())
}

#[cfg(test)]
mod tests;
