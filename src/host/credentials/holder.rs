//! The holder of credentials: what a running mount asks for each request.
//!
//! What must hold: clones share one value; the refresher ends with the last of them.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError as ProviderError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::error::CredentialsError;
use super::keys::{KeyPair, Secret};
use super::origin::{Held, Origin, Stage, region_of_arn};
use super::passwd;
use super::refresh::{self, CredentialCell, Prover, Refusal};
use crate::{aws, config};

/// How often credentials of the default chain without an end are looked at again.
const CHAIN_REFRESH: Duration = Duration::from_secs(300);

/// The credentials of a running mount. Clones share one value: what the refresher puts in is what the
/// next request is signed with.
#[derive(Clone)]
pub struct Holder {
    pub(super) cell: Arc<CredentialCell>,
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

    /// Holds what `credentials` names: a secret in Secrets Manager (a name or an ARN), which is looked at again about every
    /// `refresh`, or a role, which is assumed; both with the credentials of the default chain of AWS. Else what that chain
    /// finds (environment, profile, role of task or instance). What has an end is renewed before.
    ///
    /// # Errors
    ///
    /// The secret is missing, refused or unreachable, or is not in one of its two shapes; the role cannot be assumed; no
    /// link of the chain has any; or `prover` says no to what there is, and to the version of the secret before.
    pub async fn configured(
        credentials: &config::Credentials,
        profile: Option<&str>,
        region: Option<&str>,
        prover: Option<Prover>,
    ) -> Result<Holder, CredentialsError> {
        let region = region.or_else(|| region_of_arn(credentials.secret.as_deref()?));
        let sdk = aws::sdk_config(region, profile, None).await;
        let (origin, refresh) = match (&credentials.secret, &credentials.role) {
            (Some(name), _) => {
                let client = aws_sdk_secretsmanager::Client::new(&sdk);
                (Origin::Secret { client, name: name.clone() }, credentials.refresh)
            }
            (None, Some(arn)) => {
                let builder = aws_config::sts::AssumeRoleProvider::builder(arn).session_name("mapkeeper");
                let provider = SharedCredentialsProvider::new(builder.configure(&sdk).build().await);
                (Origin::Role { provider, arn: arn.clone() }, CHAIN_REFRESH)
            }
            (None, None) => match sdk.credentials_provider() {
                Some(provider) => (Origin::Chain { provider }, CHAIN_REFRESH),
                None => {
                    let source = ProviderError::not_loaded_no_source();
                    return Err(CredentialsError::Chain { source });
                }
            },
        };
        let held = refresh::first(&origin, prover.as_ref()).await?;
        let cell = Arc::new(CredentialCell::new(held, refresh));
        let source = origin.to_string().into();
        let task = tokio::spawn(refresh::keep_fresh(origin, Arc::downgrade(&cell), prover));
        Ok(Holder { cell, source, refresher: Some(Arc::new(Refresher(task))) })
    }

    /// Holds what the default chain of AWS finds.
    ///
    /// # Errors
    ///
    /// As [`Holder::configured`].
    pub async fn default_chain(
        profile: Option<&str>,
        region: Option<&str>,
    ) -> Result<Holder, CredentialsError> {
        let chain = config::Credentials { secret: None, role: None, refresh: CHAIN_REFRESH };
        Holder::configured(&chain, profile, region, None).await
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
    pub(super) async fn refused(&self, id: &str, refusal: Refusal) -> bool {
        self.refresher.is_some() && self.cell.refused(id, refusal).await
    }

    pub(super) fn of(credentials: Credentials, source: &str) -> Holder {
        let held = Held { credentials, stage: None, version: None, since: Instant::now() };
        Holder {
            cell: Arc::new(CredentialCell::new(held, CHAIN_REFRESH)),
            source: source.into(),
            refresher: None,
        }
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
