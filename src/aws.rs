//! The one way in which every AWS client of mapkeeper is set up.
//!
//! TLS is rustls with ring and trusts what the system trusts, nothing else: a private authority that an
//! operator has added works, and one that was removed does not. Addresses can be overridden as with every
//! AWS tool (`AWS_ENDPOINT_URL`, `AWS_ENDPOINT_URL_SECRETS_MANAGER`, the profile).

use std::time::Duration;

use aws_config::timeout::TimeoutConfig;
use aws_config::{AppName, BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_secretsmanager::config::{IdentityCache, SharedHttpClient};
use aws_smithy_http_client::tls;

/// Longest wait for a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);

/// Longest wait for the first byte of an answer.
const READ_LIMIT: Duration = Duration::from_secs(10);

/// An HTTP client that trusts the system's store. Clients made by one call share their connections.
pub fn http_client() -> SharedHttpClient {
    let provider = tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring);
    aws_smithy_http_client::Builder::new().tls_provider(provider).build_https()
}

/// The settings that every AWS client starts from.
///
/// `region` and `profile` win over the environment. With `credentials`, clients ask that provider for
/// each request and keep nothing; without, the default chain of AWS is asked. Without a region anywhere
/// this waits for the instance metadata, at most a few seconds.
pub async fn sdk_config(
    region: Option<&str>,
    profile: Option<&str>,
    credentials: Option<SharedCredentialsProvider>,
) -> SdkConfig {
    let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_LIMIT).read_timeout(READ_LIMIT).build();
    let name = AppName::new("mapkeeper").expect("letters only");
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http_client())
        .timeout_config(timeouts)
        .app_name(name);
    if let Some(region) = region {
        loader = loader.region(Region::new(region.to_owned()));
    }
    if let Some(profile) = profile {
        loader = loader.profile_name(profile);
    }
    if let Some(credentials) = credentials {
        loader = loader.credentials_provider(credentials).identity_cache(IdentityCache::no_cache());
    }
    loader.load().await
}
