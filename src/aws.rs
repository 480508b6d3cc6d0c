//! The one way in which every AWS client of mapkeeper is set up.
//!
//! TLS is rustls with ring and trusts what the system trusts, nothing else: a private authority that an
//! operator has added works, and one that was removed does not. Addresses can be overridden as with every
//! AWS tool (`AWS_ENDPOINT_URL`, `AWS_ENDPOINT_URL_SECRETS_MANAGER`, the profile).

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::imds;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{AppName, BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_secretsmanager::config::{IdentityCache, SharedHttpClient};
use aws_smithy_http_client::tls;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};

/// Longest wait for a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);

/// Longest wait for the first byte of an answer.
const READ_LIMIT: Duration = Duration::from_secs(10);

/// Longest wait for the instance metadata: for a connection, which is all that passes where there are none; for one
/// answer, which a host that is busy starting may take seconds to hear; for everything.
const METADATA_CONNECT_LIMIT: Duration = Duration::from_secs(1);
const METADATA_READ_LIMIT: Duration = Duration::from_secs(4);
const METADATA_LIMIT: Duration = Duration::from_secs(10);

/// An HTTP client that trusts the system's store. Clients made by one call share their connections.
pub fn http_client() -> SharedHttpClient {
    let provider = tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring);
    aws_smithy_http_client::Builder::new().tls_provider(provider).build_https()
}

/// The settings that every AWS client starts from.
///
/// `region` and `profile` win over the environment. With `credentials`, clients ask that provider for
/// each request and keep nothing; without, the default chain of AWS is asked. Without a region anywhere
/// this waits for the instance metadata, at most [`METADATA_LIMIT`], unless it has told the region before. There may
/// be none in what is returned: who keeps a client looks first.
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
    let region = match region {
        Some(region) => Some(Region::new(region.to_owned())),
        None => default_region(profile).await,
    };
    loader = loader.region(region);
    if let Some(profile) = profile {
        loader = loader.profile_name(profile);
    }
    if let Some(credentials) = credentials {
        loader = loader.credentials_provider(credentials).identity_cache(IdentityCache::no_cache());
    }
    loader.load().await
}

/// The region that the environment names, or the profile, or the instance metadata: in the order of every AWS tool.
async fn default_region(profile: Option<&str>) -> Option<Region> {
    let mut profiles = ProfileFileRegionProvider::builder();
    if let Some(profile) = profile {
        profiles = profiles.profile_name(profile);
    }
    let chain = RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new());
    match chain.or_else(profiles.build()).region().await {
        Some(region) => Some(region),
        None => region_of_instance().await,
    }
}

/// What the instance metadata says. Once told it is kept: an instance does not move, and a client that is made while
/// nobody answers shall not be without. That nobody answered is not kept. The question outlives whoever waits for it,
/// so that the next one finds its answer.
async fn region_of_instance() -> Option<Region> {
    static ASKED: Mutex<Option<Shared<BoxFuture<'static, Option<Region>>>>> = Mutex::new(None);
    let asked = {
        let mut asked = ASKED.lock().unwrap_or_else(PoisonError::into_inner);
        match &*asked {
            Some(question) if question.peek() != Some(&None) => question.clone(),
            _ => {
                let task = tokio::spawn(ask_instance());
                asked.insert(async { task.await.ok().flatten() }.boxed().shared()).clone()
            }
        }
    };
    asked.await
}

async fn ask_instance() -> Option<Region> {
    let config = ProviderConfig::without_region().with_http_client(http_client());
    let client = imds::Client::builder()
        .configure(&config)
        .connect_timeout(METADATA_CONNECT_LIMIT)
        .read_timeout(METADATA_READ_LIMIT)
        .operation_timeout(METADATA_LIMIT)
        .build();
    let provider = imds::region::ImdsRegionProvider::builder().configure(&config).imds_client(client).build();
    provider.region().await
}
