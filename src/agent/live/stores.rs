//! Buckets of a live host, asked past their mounts: does S3 answer, and does the mount show what is there?
//!
//! One small read of a key answers the first question for the price of a GET: a key that is not there is an answer
//! as well. Only where such a read is refused is the bucket listed, which tells a missing bucket from a missing
//! right.
//!
//! ```text
//!   is S3 there?    GET 1 byte --> answers (one look)    refused --> LIST 1 --> answers, refuses, missing
//!                         '-- no answer --> away (1 s long)
//!   is it the same? GET key -> child reads it -> GET key: equal to either one --> same
//!                                                 twice equal to neither  --> differs
//! ```

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use futures::FutureExt;
use futures::TryStreamExt;
use futures::future::{LocalBoxFuture, Shared};
use tokio::time::{Instant, sleep, timeout};

use super::convert::seen_at;
use crate::config::{Config, Mount, Source};
use crate::host::container::title;
use crate::host::credentials::Holder;
use crate::host::mount::{self, store_hint};
use crate::host::probe::{CONTENT_BYTES, MountFinding, MountProbe, content_hash};
use bucketfs::store::s3::S3;
use bucketfs::store::{Condition, Depth, Fetch, Fetched, List, ListStart, ObjectStore, StoreError};
use ladder::state::{DataSeen, Seen, StoreSeen};

/// A bucket that answered is believed this long.
const BELIEVED: Duration = Duration::from_millis(3500);
/// One that did not is asked again after this long.
const AGAIN: Duration = Duration::from_secs(1);
/// Longest wait for a bucket. Less than the loop waits for one part of a look.
const LIMIT: Duration = Duration::from_secs(4);
/// Longest wait for a bucket that is listed. Whoever lists the mount may have to wait for two listings, one after the
/// other: where one takes longer than this, it is the bucket that does not answer in time, and not the mount.
const LISTING_LIMIT: Duration = Duration::from_secs(2);
/// Longest wait while the key that the bucket refused is being replaced: the answer is the bucket's only after that.
const RENEWAL_LIMIT: Duration = Duration::from_secs(10);
/// Time between two looks whether it is.
const RENEWAL_LOOK: Duration = Duration::from_millis(250);
/// Time between two comparisons of a key.
const COMPARED: Duration = Duration::from_secs(30);
/// What is read where no key is known. That it is not there is the answer.
const NO_KEY: &str = ".mapkeeper-probe";

/// The buckets of a host, by the name of their mount.
pub(super) struct Stores {
    region: Option<String>,
    asked: BTreeMap<String, Rc<Asked>>,
}

struct Asked {
    spec: Mount,
    /// Below the mount's root: a file that a service needs, if the configuration names one.
    known: Option<String>,
    store: RefCell<Option<S3>>,
    answer: RefCell<Option<(Instant, StoreSeen)>>,
    pending: RefCell<Option<Shared<LocalBoxFuture<'static, StoreSeen>>>>,
    /// The mount answered with an error: ask the bucket for what the mount needs.
    list: Cell<bool>,
    /// Where the bucket said that it lives.
    home: RefCell<Option<String>>,
    compared: RefCell<(Option<Instant>, DataSeen)>,
}

impl Stores {
    pub(super) fn new(config: &Config) -> Stores {
        let asked = |spec: &Mount| Asked {
            known: known_key(config, spec),
            spec: spec.clone(),
            store: RefCell::default(),
            answer: RefCell::default(),
            pending: RefCell::default(),
            list: Cell::new(false),
            home: RefCell::default(),
            compared: RefCell::new((None, DataSeen::NotCompared)),
        };
        let asked = config.mounts.iter().map(|spec| (spec.name.clone(), Rc::new(asked(spec)))).collect();
        Stores { region: config.region.clone(), asked }
    }

    /// What the bucket of `mount` answers. May be dropped: the question goes on with the next look.
    pub(super) async fn look(&self, mount: &str, credentials: Option<Holder>) -> Seen<StoreSeen> {
        let Some(asked) = self.asked.get(mount).cloned() else {
            return Seen::Unknown(format!("no mount is called {mount:?}"));
        };
        if !matches!(asked.spec.source, Source::S3 { .. }) {
            return Seen::Known(StoreSeen::NoStore);
        }
        let Some(credentials) = credentials else {
            return Seen::Unknown("there are no credentials to ask it with".to_owned());
        };
        if let Some((at, seen)) = &*asked.answer.borrow() {
            let believed = if *seen == StoreSeen::Answers { BELIEVED } else { AGAIN };
            if at.elapsed() < believed {
                return Seen::Known(seen.clone());
            }
        }
        let question = {
            let fresh = || ask(asked.clone(), self.region.clone(), credentials).boxed_local().shared();
            asked.pending.borrow_mut().get_or_insert_with(fresh).clone()
        };
        let seen = question.await;
        asked.pending.take();
        *asked.answer.borrow_mut() = Some((Instant::now(), seen.clone()));
        Seen::Known(seen)
    }

    /// The mount said `errno`, or serves: the bucket is asked for as much as the mount needs.
    pub(super) fn mount_answered(&self, mount: &str, well: bool) {
        if let Some(asked) = self.asked.get(mount)
            && asked.list.replace(!well) == well
            && !well
        {
            asked.answer.take();
        }
    }

    /// Forgets what was answered and with which connections: something was done to the host.
    pub(super) fn forget(&self) {
        for asked in self.asked.values() {
            asked.answer.take();
            asked.compared.borrow_mut().0 = None;
        }
    }

    /// Opens new connections, with whatever credentials are held then.
    pub(super) fn reconnect(&self) {
        self.asked.values().for_each(|asked| drop(asked.store.take()));
        self.forget();
    }

    /// Compares what a child reads at `path` with what the bucket holds, every half a minute.
    pub(super) async fn compare(&self, mount: &str, path: &Path, probe: &MountProbe) -> DataSeen {
        let Some(asked) = self.asked.get(mount) else { return DataSeen::NotCompared };
        let (at, seen) = asked.compared.borrow().clone();
        let answers = matches!(&*asked.answer.borrow(), Some((_, StoreSeen::Answers)));
        let store = asked.store.borrow().clone();
        let (Some(known), Some(store), true) = (&asked.known, store, answers) else {
            return DataSeen::NotCompared;
        };
        if at.is_some_and(|at| at.elapsed() < COMPARED) {
            return seen;
        }
        let seen = asked.compare(&store, path, known, probe).await;
        *asked.compared.borrow_mut() = (Some(Instant::now()), seen.clone());
        seen
    }
}

impl Asked {
    fn prefix(&self) -> &str {
        match &self.spec.source {
            Source::S3 { prefix, .. } => prefix,
            _ => "",
        }
    }

    async fn compare(&self, store: &S3, path: &Path, known: &str, probe: &MountProbe) -> DataSeen {
        let key = format!("{}{known}", self.prefix());
        let mut differs = DataSeen::NotCompared;
        for _ in 0..2 {
            let Some(before) = content(store, &key).await else { return DataSeen::NotCompared };
            let shown = match probe.read(&path.join(known)).await {
                Ok(MountFinding::Content { size, hash }) => (size, hash),
                // Whether the mount answers at all is asked elsewhere.
                _ => return DataSeen::NotCompared,
            };
            let Some(after) = content(store, &key).await else { return DataSeen::NotCompared };
            if shown == before || shown == after {
                return DataSeen::Same;
            }
            differs = DataSeen::Differs(format!(
                "{known} shows {} bytes that are not those of the object ({} bytes)",
                shown.0, after.0
            ));
            sleep(self.spec.freshness + Duration::from_millis(500)).await;
        }
        differs
    }
}

/// Size and hash of the object's first bytes; `None` if it could not be had.
async fn content(store: &S3, key: &str) -> Option<(u64, u64)> {
    let fetch = Fetch { key, range: Some(0..CONTENT_BYTES), condition: Condition::Always, version_id: None };
    let Ok(Fetched::Content { object, body, .. }) = timeout(LIMIT, store.fetch(fetch)).await.ok()? else {
        return None;
    };
    let bytes = body.try_collect::<Vec<_>>().await.ok()?.concat();
    Some((object.size, content_hash(&bytes)))
}

/// Waits for `answer` as long as a bucket has, and longer only if credentials were being replaced meanwhile.
async fn within_limit<T>(answer: impl Future<Output = T>, renewing: impl Fn() -> bool) -> Option<T> {
    let mut answer = std::pin::pin!(answer);
    let began = Instant::now();
    let mut limit = LIMIT;
    while began.elapsed() < limit {
        if let Ok(answer) = timeout(RENEWAL_LOOK, answer.as_mut()).await {
            return Some(answer);
        }
        if renewing() {
            limit = RENEWAL_LIMIT;
        }
    }
    None
}

async fn ask(asked: Rc<Asked>, region: Option<String>, credentials: Holder) -> StoreSeen {
    let answer = async {
        let store = asked.store.borrow().clone();
        let store = match store {
            Some(store) => store,
            None => {
                let home = asked.home.borrow().clone();
                let region = home.or(asked.spec.region.clone()).or(region);
                let store = mount::store(&asked.spec, region.as_deref(), &credentials).await?;
                let Some(store) = store else { return Ok(()) };
                asked.store.borrow_mut().replace(store.clone());
                store
            }
        };
        let key = format!("{}{}", asked.prefix(), asked.known.as_deref().unwrap_or(NO_KEY));
        let fetch = Fetch { key: &key, range: Some(0..1), condition: Condition::Always, version_id: None };
        let refused = match store.fetch(fetch).await {
            Err(error) if error.is_outage() => return Err(error),
            Ok(_) | Err(StoreError::NotFound { .. } | StoreError::RangeOutside { .. }) => asked.list.get(),
            Err(_) => true,
        };
        if refused {
            let list =
                List { prefix: asked.prefix(), depth: Depth::Directory, from: ListStart::Start, limit: 1 };
            let listed = timeout(LISTING_LIMIT, store.list(list)).await;
            listed.unwrap_or(Err(StoreError::TimedOut(LISTING_LIMIT)))?;
        }
        Ok(())
    };
    match within_limit(answer, || credentials.renewing()).await {
        Some(Ok(())) => StoreSeen::Answers,
        // Asked there from now on; the mount goes there by itself.
        Some(Err(StoreError::WrongRegion { region: Some(home), .. })) if asked.home.borrow().is_none() => {
            asked.home.borrow_mut().replace(home);
            asked.store.take();
            StoreSeen::Away { reason: "the bucket lives in another region".to_owned(), hint: None }
        }
        Some(Err(error)) => understood(&error),
        None => understood(&StoreError::TimedOut(LIMIT)),
    }
}

fn understood(error: &StoreError) -> StoreSeen {
    let (reason, hint) = (error.to_string(), store_hint(error));
    match error {
        StoreError::NoBucket { .. } | StoreError::WrongRegion { .. } => StoreSeen::Missing { reason, hint },
        // A clock that is wrong refuses any key: fetching another one cures nothing.
        StoreError::Credentials { skew: Some(_), .. } => StoreSeen::Away { reason, hint },
        StoreError::Denied { .. } | StoreError::Credentials { .. } | StoreError::NoCredentials { .. } => {
            StoreSeen::Refuses { reason, hint }
        }
        _ => StoreSeen::Away { reason, hint },
    }
}

/// The file of `mount` that the probe of a container asks for: `/?map=/mapfiles/health.map` with the mount bound at
/// `/mapfiles` is `health.map`.
fn known_key(config: &Config, mount: &Mount) -> Option<String> {
    config.containers.iter().find_map(|wanted| {
        let map = PathBuf::from(super::services::map_asked_for(&wanted.probe.as_ref()?.url)?);
        wanted.binds.iter().find_map(|bind| {
            let root = seen_at(&bind.source, &bind.target, &mount.path)?;
            let below = map.strip_prefix(&root).ok()?;
            // A bind of a directory in the mount shows only that part of it.
            let deeper = bind.source.strip_prefix(&mount.path).unwrap_or(Path::new(""));
            let key = deeper.join(below).to_str()?.to_owned();
            tracing::debug!(mount = %mount.name, container = title(wanted), key, "known key");
            (!key.is_empty()).then_some(key)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{config, mount};
    use super::*;
    use crate::host::credentials::Secret;
    use s3_testbed::{ACCESS_KEY, Action, Fault, Operation, Options, SECRET_KEY, Server, Store};

    async fn waited(takes: Duration, renewed_for: Duration) -> (bool, Duration) {
        let began = Instant::now();
        let answer = within_limit(sleep(takes), || began.elapsed() < renewed_for).await;
        (answer.is_some(), began.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_bucket_has_its_time_and_more_only_while_its_key_is_replaced() {
        let seconds = Duration::from_secs;
        let ever = Duration::MAX;
        assert_eq!(waited(seconds(3), Duration::ZERO).await, (true, seconds(3)));
        assert_eq!(waited(ever, Duration::ZERO).await, (false, LIMIT));
        assert_eq!(waited(seconds(7), seconds(2)).await, (true, seconds(7)));
        assert_eq!(waited(ever, ever).await, (false, RENEWAL_LIMIT));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_bucket_that_lists_too_slowly_for_its_mount_is_what_does_not_answer_in_time() {
        let server = Server::start(Options::new(Store::memory(["bucket"]))).expect("it listens");
        let slow = Fault::new(Action::Delay { milliseconds: 3000 }).on(Operation::ListObjects);
        server.control().inject(slow);
        let mut spec = mount("maps", "/maps");
        spec.endpoint_url = Some(server.endpoint());
        let stores = Stores::new(&config(vec![spec], Vec::new()));
        let secret = |text: &str| Secret::new(text.to_owned());
        let credentials = Holder::fixed(secret(ACCESS_KEY), secret(SECRET_KEY), None);
        let look = || stores.look("maps", Some(credentials.clone()));
        assert_eq!(look().await, Seen::Known(StoreSeen::Answers));
        stores.mount_answered("maps", false);
        let seen = look().await;
        assert!(matches!(seen, Seen::Known(StoreSeen::Away { .. })), "{seen:?}");
    }
}
