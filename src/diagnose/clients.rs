//! What a person's command asks with: the credentials of a mount, its bucket, a child for what may hang.
//!
//! Everything works without the daemon. Nothing here changes anything, and no file below a mount is touched from this
//! process.

use std::process::{Output, Stdio};
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use tokio::time::timeout;

use crate::config::{Config, Mount, Source};
use crate::host::credentials::{CredentialsError, Holder};
use crate::host::mount;
use crate::host::probe::{Limits, MountProbe};
use bucketfs::store::s3::S3;
use bucketfs::store::{Condition, Depth, Fetch, Fetched, List, ListStart, Object, ObjectStore, StoreError};

/// Longest wait for one question to a bucket.
pub const BUCKET_LIMIT: Duration = Duration::from_secs(8);
/// Longest wait for credentials.
const KEYS_LIMIT: Duration = Duration::from_secs(12);
/// How long a mount has to answer.
pub const MOUNT_LIMITS: Limits = Limits { ask: Duration::from_secs(3), read: Duration::from_secs(6) };

/// The credentials that the agent would use for `mount`.
///
/// # Errors
///
/// What their source says, or that it says nothing in time. They are not proved: that is a question of its own.
pub async fn keys(config: &Config, mount: &Mount) -> Result<Holder, CredentialsError> {
    let (profile, region) = (mount.profile.as_deref(), config.region.as_deref());
    let held = Holder::configured(&config.credentials, profile, region, None);
    timeout(KEYS_LIMIT, held).await.unwrap_or(Err(CredentialsError::Silent { limit: KEYS_LIMIT }))
}

/// The bucket of `mount`, where it lives; `None` if the mount shows no bucket.
///
/// # Errors
///
/// What the bucket says to the request for one key.
pub async fn bucket(config: &Config, mount: &Mount, keys: &Holder) -> Result<Option<S3>, StoreError> {
    let Source::S3 { prefix, .. } = &mount.source else { return Ok(None) };
    let mut region = mount.region.clone().or_else(|| config.region.clone());
    let one = List { prefix, depth: Depth::Directory, from: ListStart::Start, limit: 1 };
    let mut is_moved = false;
    loop {
        let Some(store) = mount::store(mount, region.as_deref(), keys).await? else { return Ok(None) };
        match in_time(store.list(one.clone())).await {
            Err(StoreError::WrongRegion { region: Some(home), .. }) if !is_moved => {
                (region, is_moved) = (Some(home), true);
            }
            // Who may not list may still read.
            Ok(_) | Err(StoreError::Denied { .. }) => return Ok(Some(store)),
            Err(error) => return Err(error),
        }
    }
}

/// An answer of a bucket, or that there is none within [`BUCKET_LIMIT`].
///
/// # Errors
///
/// What the bucket says.
pub async fn in_time<T>(answer: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    timeout(BUCKET_LIMIT, answer).await.unwrap_or(Err(StoreError::TimedOut(BUCKET_LIMIT)))
}

/// An object with its first `most` bytes.
///
/// # Errors
///
/// What the bucket says.
pub async fn content(store: &S3, key: &str, most: u64) -> Result<(Object, Bytes), StoreError> {
    let fetch = |range| Fetch { key, range, condition: Condition::Always, version_id: None };
    let asked = async {
        let fetched = match store.fetch(fetch(Some(0..most))).await {
            // An empty object has no range.
            Err(StoreError::RangeOutside { .. }) => store.fetch(fetch(None)).await?,
            answer => answer?,
        };
        let Fetched::Content { object, body, .. } = fetched else {
            return Err(StoreError::Malformed { reason: "no content".to_owned() });
        };
        Ok((object, body.try_collect::<Vec<_>>().await?.concat().into()))
    };
    in_time(asked).await
}

/// What another program of the system leaves, within `limit`; else why there is nothing.
///
/// # Errors
///
/// That it cannot be run, or has not ended: in words.
pub async fn output(program: &str, arguments: &[&str], limit: Duration) -> Result<Output, String> {
    let mut command = tokio::process::Command::new(program);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    match timeout(limit, command.output()).await {
        Err(_) => Err(format!("{program} gave no answer within {} s", limit.as_secs())),
        Ok(output) => output.map_err(|error| format!("cannot run {program}: {error}")),
    }
}

/// Sends children to paths that may hang.
pub fn child() -> MountProbe {
    MountProbe::new(vec!["/proc/self/exe".into()], MOUNT_LIMITS)
}
