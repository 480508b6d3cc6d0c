//! Credentials of a live host: fetched in the background until there are some.
//!
//! ```text
//! [none] -- asked for --> [fetching] -- got --> [held]   kept fresh by the holder itself
//!    ^                        |
//!    +---- pause, doubled ----+ refused, unreachable
//! ```
//!
//! There is one holder for each AWS profile that a mount names, and one for all others.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared, join_all};
use tokio::time::Instant;

use crate::config::{self, Config, Mount, Source};
use crate::error::{Advise, Chain, Exit};
use crate::host::credentials::{Holder, Prover, Proving};
use crate::host::mount::prove;
use bucketfs::store::StoreError;
use ladder::state::{CredentialsSeen, Failure, Seen};

const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// A secret that is corrected is in use within ten seconds.
const LONGEST_PAUSE: Duration = Duration::from_secs(6);

/// All holders of a host.
pub(super) struct CredentialCache {
    credentials: config::Credentials,
    region: Option<String>,
    mounts: Vec<Mount>,
    /// By profile.
    by_profile: RefCell<BTreeMap<Option<String>, Cached>>,
}

#[derive(Clone)]
enum Cached {
    Held(Holder),
    Fetching {
        fetch: Fetch,
        pause: Duration,
    },
    /// Nothing before `until`.
    Pausing {
        refusal: Failure,
        until: Instant,
        pause: Duration,
    },
}

type Fetch = Shared<BoxFuture<'static, Result<Holder, Failure>>>;

impl CredentialCache {
    /// The holders that `config` needs; `given` takes the place of all of them.
    pub(super) fn new(config: &Config, given: Option<Holder>) -> CredentialCache {
        // What the kernel serves needs no keys of ours.
        let buckets = config.mounts.iter().filter(|mount| matches!(mount.source, Source::S3 { .. }));
        let profiles = buckets.map(|mount| mount.profile.clone());
        let idle = Cached::Pausing {
            refusal: refused("not asked for yet".to_owned(), None),
            until: Instant::now(),
            pause: Duration::ZERO,
        };
        let start = given.map_or(idle, Cached::Held);
        CredentialCache {
            credentials: config.credentials.clone(),
            region: config.region.clone(),
            mounts: config.mounts.clone(),
            by_profile: RefCell::new(profiles.map(|profile| (profile, start.clone())).collect()),
        }
    }

    /// The same holders for a configuration whose credentials come from where they came from; the time between two looks
    /// at a secret may be another.
    pub(super) fn renewed(&self, config: &Config) -> CredentialCache {
        let keys = CredentialCache::new(config, None);
        for (profile, cached) in keys.by_profile.borrow_mut().iter_mut() {
            if let Some(before) = self.by_profile.borrow().get(profile) {
                *cached = before.clone();
                keys.set_pace(cached);
            }
        }
        keys
    }

    fn set_pace(&self, cached: &Cached) {
        if let Cached::Held(holder) = cached
            && self.credentials.secret.is_some()
        {
            holder.look_every(self.credentials.refresh);
        }
    }

    /// The holder for `mount`, if it is there.
    pub(super) fn for_mount(&self, mount: &Mount) -> Option<Holder> {
        match self.by_profile.borrow().get(&mount.profile) {
            Some(Cached::Held(holder)) => Some(holder.clone()),
            _ => None,
        }
    }

    /// Fetches anew what is held. Until that has succeeded, what is held stays.
    pub(super) async fn refresh(&self) -> Result<(), Failure> {
        let held = |(profile, cached): (&Option<String>, &Cached)| {
            matches!(cached, Cached::Held(_)).then(|| profile.clone())
        };
        let profiles: Vec<_> = self.by_profile.borrow().iter().filter_map(held).collect();
        for profile in profiles {
            let holder = self.fetch(profile.clone()).await?;
            self.by_profile.borrow_mut().insert(profile, Cached::Held(holder));
        }
        Ok(())
    }

    /// Looks whether all are held, and fetches what is not. May be dropped: the fetching goes on.
    pub(super) async fn look(&self) -> Seen<CredentialsSeen> {
        let profiles: Vec<_> = self.by_profile.borrow().keys().cloned().collect();
        let refusals = join_all(profiles.into_iter().map(|profile| self.refusal(profile))).await;
        match refusals.into_iter().flatten().next() {
            None => Seen::Known(CredentialsSeen::HeldAs(self.description())),
            Some(Failure { error: reason, hint, .. }) => {
                Seen::Known(CredentialsSeen::Missing { reason, hint })
            }
        }
    }

    /// What is held, one for each profile; no part of a value.
    fn description(&self) -> String {
        let by_profile = self.by_profile.borrow();
        let held = by_profile.values().filter_map(|cached| match cached {
            Cached::Held(holder) => Some(holder.description()),
            _ => None,
        });
        let held = held.collect::<Vec<_>>().join("; ");
        if held.is_empty() { "none needed".to_owned() } else { held }
    }

    /// Why the cached of `profile` holds nothing; `None` if it does.
    async fn refusal(&self, profile: Option<String>) -> Option<Failure> {
        let cached = self.by_profile.borrow().get(&profile).cloned()?;
        let (fetch, pause) = match cached {
            Cached::Held(_) => return None,
            Cached::Pausing { refusal, until, .. } if Instant::now() < until => return Some(refusal),
            Cached::Pausing { pause, .. } => {
                let fetch = self.fetch(profile.clone());
                let fetching = Cached::Fetching { fetch: fetch.clone(), pause };
                self.by_profile.borrow_mut().insert(profile.clone(), fetching);
                (fetch, pause)
            }
            Cached::Fetching { fetch, pause } => (fetch, pause),
        };
        let (cached, refusal) = match fetch.await {
            Ok(holder) => (Cached::Held(holder), None),
            Err(refusal) => {
                let pause = (pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
                let until = Instant::now() + pause;
                (Cached::Pausing { refusal: refusal.clone(), until, pause }, Some(refusal))
            }
        };
        self.set_pace(&cached);
        self.by_profile.borrow_mut().insert(profile, cached);
        refusal
    }

    /// Fetches in a task of its own, which ends by the limit that each source of credentials has.
    fn fetch(&self, profile: Option<String>) -> Fetch {
        let (credentials, region) = (self.credentials.clone(), self.region.clone());
        let prover = prover(self.mounts.iter().filter(|mount| mount.profile == profile), region.as_deref());
        let task = tokio::spawn(async move {
            Holder::configured(&credentials, profile.as_deref(), region.as_deref(), Some(prover)).await
        });
        let fetched = task.map(|ended| match ended {
            Ok(Ok(holder)) => Ok(holder),
            Ok(Err(error)) => Err(refused(Chain(&error).to_string(), error.hint())),
            Err(error) => Err(refused(Chain(&error).to_string(), None)),
        });
        fetched.boxed().shared()
    }
}

fn refused(error: String, hint: Option<String>) -> Failure {
    Failure { error, hint, exit: Exit::CredentialsRefused.code() }
}

/// Asks each of the buckets that these mounts show.
fn prover<'a>(mounts: impl Iterator<Item = &'a Mount>, region: Option<&str>) -> Prover {
    let (mounts, region) = (mounts.cloned().collect::<Vec<_>>(), region.map(str::to_owned));
    Arc::new(move |keys| {
        let (mounts, region) = (mounts.clone(), region.clone());
        async move {
            let mut doubt = None;
            for mount in &mounts {
                match proof(prove(mount, region.as_deref(), keys.clone()).await) {
                    Proving::Good => {}
                    refused @ Proving::Refused(_) => return refused,
                    unknown => doubt = Some(unknown),
                }
            }
            doubt.unwrap_or(Proving::Good)
        }
        .boxed()
    })
}

/// What the answer of a bucket says of the keys it was asked with.
fn proof(answer: Result<(), StoreError>) -> Proving {
    match answer {
        Ok(()) => Proving::Good,
        Err(
            error @ (StoreError::Credentials { .. }
            | StoreError::Denied { .. }
            | StoreError::NoCredentials { .. }),
        ) => Proving::Refused(error.to_string()),
        // An answer about the bucket: the keys were taken.
        Err(StoreError::NoBucket { .. } | StoreError::NotFound { .. } | StoreError::WrongRegion { .. }) => {
            Proving::Good
        }
        Err(error) => Proving::Unknown(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests;
    use super::*;
    use crate::host::credentials::Secret;

    fn config() -> Config {
        tests::config(vec![tests::mount("maps", "/srv/maps")], Vec::new())
    }

    #[tokio::test]
    async fn what_is_given_is_held() {
        let holder = Holder::fixed(Secret::new("id".to_owned()), Secret::new("key".to_owned()), None);
        let keys = CredentialCache::new(&config(), Some(holder));
        let held = CredentialsSeen::HeldAs("0 s old, from given".to_owned());
        assert_eq!(keys.look().await, Seen::Known(held));
        assert!(keys.for_mount(&config().mounts[0]).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_told_with_its_cure_and_the_source_left_alone_for_a_while() {
        let keys = CredentialCache::new(&config(), None);
        let refused = |reason: &str| super::refused(reason.to_owned(), Some("cure".to_owned()));
        let fetch = |refusal| futures::future::ready(Err(refusal)).boxed().shared();
        let fetching = Cached::Fetching { fetch: fetch(refused("no")), pause: Duration::ZERO };
        keys.by_profile.borrow_mut().insert(None, fetching);
        let told = keys.look().await;
        let missing = CredentialsSeen::Missing { reason: "no".to_owned(), hint: Some("cure".to_owned()) };
        assert_eq!(told, Seen::Known(missing));
        assert!(keys.for_mount(&config().mounts[0]).is_none());
        let pause = |keys: &CredentialCache| match keys.by_profile.borrow().get(&None) {
            Some(Cached::Pausing { until, pause, .. }) => (*until - Instant::now(), *pause),
            _ => panic!("it does not pause"),
        };
        assert_eq!(pause(&keys), (FIRST_PAUSE, FIRST_PAUSE));
        assert_eq!(keys.look().await, told);
        let fetching = Cached::Fetching { fetch: fetch(refused("no")), pause: LONGEST_PAUSE };
        keys.by_profile.borrow_mut().insert(None, fetching);
        keys.look().await;
        assert_eq!(pause(&keys), (LONGEST_PAUSE, LONGEST_PAUSE));
    }
}
