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

    /// Holds what `credentials` names: a secret, a role, else what the default chain of AWS finds.
    ///
    /// # Errors
    ///
    /// As [`Holder::secret`], [`Holder::role`] and [`Holder::default_chain`].
    pub async fn configured(
        credentials: &config::Credentials,
        profile: Option<&str>,
        region: Option<&str>,
        prover: Option<Prover>,
    ) -> Result<Holder, CredentialsError> {
        match (&credentials.secret, &credentials.role) {
            (Some(name), _) => Holder::secret(name, profile, region, credentials.refresh, prover).await,
            (None, Some(arn)) => Holder::role(arn, profile, region, prover).await,
            (None, None) => Holder::default_chain(profile, region, prover).await,
        }
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
