//! Credentials: where they come from, and the holder that a running mount asks for each request.
//!
//! ```text
//!   fixed (file of s3fs, demo) -----------------------------+
//!   default chain of AWS ----+                              v
//!                            +--> refresher (one task) --> Holder --> every request to S3
//!   secret in Secrets Manager +      every `refresh`,
//!                                    before they expire
//! ```
//!
//! What must hold: a value is nowhere but in memory, and never in a message; the refresher is the only
//! one that changes what a holder holds; a failed refresh changes nothing, the old value stays.

mod passwd;
mod secret;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError as ProviderError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use aws_sdk_secretsmanager::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_secretsmanager::operation::get_secret_value::GetSecretValueError;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use zeroize::Zeroize;

use crate::aws;
use crate::error::{Advise, Chain, Exit};

pub use passwd::PasswdError;

/// How often credentials of the default chain without an end are looked at again.
const CHAIN_REFRESH: Duration = Duration::from_secs(300);

/// Credentials that end are renewed this long before.
const BEFORE_EXPIRY: Duration = Duration::from_secs(300);

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
            CredentialsError::Passwd(error) => return error.hint(),
        })
    }

    fn exit(&self) -> Exit {
        Exit::CredentialsRefused
    }
}

/// The credentials of a running mount. Clones share one value: what the refresher puts in is what the
/// next request is signed with.
#[derive(Clone)]
pub struct Holder {
    current: watch::Receiver<Credentials>,
    /// Present where something refreshes the value; it ends with the last clone.
    _refresher: Option<Arc<Refresher>>,
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
        Holder::of(keys.credentials("fixed"))
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
    ) -> Result<Holder, CredentialsError> {
        let config = aws::sdk_config(region, profile, None).await;
        let Some(provider) = config.credentials_provider() else {
            let source = ProviderError::not_loaded_no_source();
            return Err(CredentialsError::Chain { source });
        };
        Holder::refreshed(Origin::Chain { provider }, CHAIN_REFRESH).await
    }

    /// Holds what the secret `name` (a name or an ARN) in Secrets Manager says, and looks at it again
    /// about every `refresh`. The secret is fetched with the credentials of the default chain.
    ///
    /// # Errors
    ///
    /// The secret is missing, refused or unreachable, or is not in one of its two shapes.
    pub async fn secret(
        name: &str,
        profile: Option<&str>,
        region: Option<&str>,
        refresh: Duration,
    ) -> Result<Holder, CredentialsError> {
        let region = region.or_else(|| region_of_arn(name));
        let config = aws::sdk_config(region, profile, None).await;
        let client = aws_sdk_secretsmanager::Client::new(&config);
        Holder::refreshed(Origin::Secret { client, name: name.to_owned() }, refresh).await
    }

    /// Holds the credentials that the file of s3fs at `path` has for `bucket`. Read once, as s3fs does.
    ///
    /// # Errors
    ///
    /// The file is unreadable, open to others, malformed, or has nothing for this bucket.
    pub fn passwd_file(path: &Path, bucket: &str) -> Result<Holder, CredentialsError> {
        let keys = passwd::read(path, bucket)?;
        Ok(Holder::of(keys.credentials("passwd_file")))
    }

    /// This holder as the SDK takes it.
    pub fn provider(&self) -> SharedCredentialsProvider {
        SharedCredentialsProvider::new(self.clone())
    }

    fn of(credentials: Credentials) -> Holder {
        let (_, current) = watch::channel(credentials);
        Holder { current, _refresher: None }
    }

    async fn refreshed(origin: Origin, refresh: Duration) -> Result<Holder, CredentialsError> {
        let (sender, current) = watch::channel(origin.fetch().await?);
        let task = tokio::spawn(keep_fresh(origin, sender, refresh));
        Ok(Holder { current, _refresher: Some(Arc::new(Refresher(task))) })
    }
}

impl ProvideCredentials for Holder {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::ready(Ok(self.current.borrow().clone()))
    }
}

/// What a refresher looks at.
enum Origin {
    Chain { provider: SharedCredentialsProvider },
    Secret { client: aws_sdk_secretsmanager::Client, name: String },
}

impl Origin {
    async fn fetch(&self) -> Result<Credentials, CredentialsError> {
        let limit = FETCH_LIMIT;
        match self {
            Origin::Chain { provider } => tokio::time::timeout(limit, provider.provide_credentials())
                .await
                .map_err(|_| CredentialsError::ChainSilent { limit })?
                .map_err(|source| CredentialsError::Chain { source }),
            Origin::Secret { client, name } => {
                let request = client.get_secret_value().secret_id(name).send();
                let answer = tokio::time::timeout(limit, request)
                    .await
                    .map_err(|_| CredentialsError::SecretSilent { name: name.clone(), limit })?
                    .map_err(|error| refused(name, error))?;
                let text = answer.secret_string.map(Secret::new);
                let text = text.ok_or_else(|| CredentialsError::Binary { name: name.clone() })?;
                Ok(secret::parse(name, &text)?.credentials("secret"))
            }
        }
    }
}

fn refused(name: &str, error: SdkError<GetSecretValueError>) -> CredentialsError {
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

/// The region that an ARN names: a secret of another region is asked for there.
fn region_of_arn(name: &str) -> Option<&str> {
    name.strip_prefix("arn:")?.split(':').nth(2).filter(|region| !region.is_empty())
}

/// Looks at `origin` again and again, and puts in what has changed. Ends when no holder is left.
async fn keep_fresh(origin: Origin, sender: watch::Sender<Credentials>, refresh: Duration) {
    let mut failures = 0;
    loop {
        let expiry = sender.borrow().expiry();
        let wait = pause(refresh, expiry, SystemTime::now(), failures).mul_f64(0.9 + 0.2 * fastrand::f64());
        // Both arms are cancel-safe: a timer, and a notification that stays true.
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = sender.closed() => return,
        }
        match origin.fetch().await {
            Ok(fresh) => {
                failures = 0;
                if sender.send_if_modified(|held| replace(held, fresh)) {
                    tracing::info!("credentials changed");
                }
            }
            Err(error) => {
                failures += 1;
                tracing::warn!(attempt = failures, error = %Chain(&error), "credentials not refreshed");
            }
        }
    }
}

/// Puts `fresh` in the place of `held` and says whether they differ.
fn replace(held: &mut Credentials, fresh: Credentials) -> bool {
    let differs = *held != fresh;
    *held = fresh;
    differs
}

/// How long to wait before the next look: `refresh`, or less when the credentials end before; after
/// failures 1 s, 2 s, 4 s ... up to `refresh` or a minute.
fn pause(refresh: Duration, expiry: Option<SystemTime>, now: SystemTime, failures: u32) -> Duration {
    const SHORTEST: Duration = Duration::from_secs(1);
    const LONGEST_RETRY: Duration = Duration::from_secs(60);
    if failures > 0 {
        let doubled = SHORTEST.saturating_mul(1 << (failures - 1).min(6));
        return doubled.min(LONGEST_RETRY).min(refresh.max(SHORTEST));
    }
    let left = expiry.map_or(refresh, |end| {
        end.duration_since(now).unwrap_or_default().saturating_sub(BEFORE_EXPIRY).max(SHORTEST)
    });
    refresh.min(left)
}

#[cfg(test)]
mod tests;
