//! How a holder stays right: looks at its source, proves what is new, and only then switches.
//!
//! ```text
//!   every `refresh`, give or take a tenth ---+
//!   before the credentials end --------------+--> [look] fetch --the same--> nothing
//!   a request was refused (rate-limited) ----+             |
//!                                                       [prove] --good--------> switched
//!                                                          |----cannot ask----> the old one stays, soon again
//!                                                          +----refused--> AWSPREVIOUS, where the held one is not
//!                                                                          good either; else the old one stays
//! ```
//!
//! What must hold: what was not proved never takes the place of what works; AWSPENDING is never asked for; a failed
//! look changes nothing; looks that refused requests ask for are [`FORCED_PAUSE`] apart.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use futures::future::BoxFuture;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::error::CredentialsError;
use super::origin::{Held, Origin, Stage};
use crate::error::Chain;

/// Credentials that end are renewed this long before.
const BEFORE_EXPIRY: Duration = Duration::from_secs(300);
/// Time between two looks that refused requests ask for.
const FORCED_PAUSE: Duration = Duration::from_secs(1);
/// The same while nobody knows whether it is the key that was refused: an object may just be none of ours.
const DOUBTFUL_PAUSE: Duration = Duration::from_secs(10);
/// A request that was refused waits this long for the look that follows, pause included.
const FORCED_PATIENCE: Duration = Duration::from_secs(6);

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

/// What a refusal was about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The key itself: unknown, ended, wrong.
    Key,
    /// Perhaps the key, perhaps what was asked for.
    Doubtful,
}

/// What the refresher and the requests share.
#[derive(Debug)]
pub(super) struct CredentialCell {
    pub held: watch::Sender<Held>,
    /// Time between two looks at the source.
    pub every: watch::Sender<Duration>,
    wanted: Notify,
    /// Looks that were asked for and have ended.
    forced_looks: watch::Sender<u64>,
    last_forced: Mutex<Option<Forced>>,
}

/// A look that was asked for.
#[derive(Debug, Clone, Copy)]
struct Forced {
    at: Instant,
    number: u64,
}

/// What one look came to.
enum Look {
    Unchanged,
    Switched(Held),
}

impl CredentialCell {
    pub fn new(held: Held, every: Duration) -> CredentialCell {
        CredentialCell {
            held: watch::Sender::new(held),
            every: watch::Sender::new(every),
            wanted: Notify::new(),
            forced_looks: watch::Sender::new(0),
            last_forced: Mutex::new(None),
        }
    }

    /// A request with the key `id` was refused: true when other credentials are there by now, so that asking again
    /// makes sense. Waits for a look at the source; after a doubtful refusal only if the last one is a while ago.
    pub async fn refused(&self, id: &str, refusal: Refusal) -> bool {
        let differs = || self.held.borrow().credentials.access_key_id() != id;
        if differs() {
            return true;
        }
        let deadline = Instant::now() + FORCED_PATIENCE;
        let last = *self.last_forced.lock().expect("nobody panics while holding it");
        if let Some(last) = last {
            let ended = *self.forced_looks.borrow() >= last.number;
            if refusal == Refusal::Doubtful && ended && last.at.elapsed() < DOUBTFUL_PAUSE {
                return false;
            }
            sleep_until(last.at + FORCED_PAUSE).await;
        }
        let awaited = self.ask_for_look();
        let mut ended = self.forced_looks.subscribe();
        let _in_time = timeout_at(deadline, ended.wait_for(|ended| *ended >= awaited)).await;
        differs()
    }

    /// Whether a look that a refused request asked for is still to end.
    pub fn renewing(&self) -> bool {
        let last = *self.last_forced.lock().expect("nobody panics while holding it");
        last.is_some_and(|last| *self.forced_looks.borrow() < last.number)
    }

    /// The number of the look that follows: several that ask at the same time share it.
    fn ask_for_look(&self) -> u64 {
        let mut last = self.last_forced.lock().expect("nobody panics while holding it");
        match *last {
            Some(forced) if forced.at.elapsed() < FORCED_PAUSE => forced.number,
            _ => {
                let number = *self.forced_looks.borrow() + 1;
                *last = Some(Forced { at: Instant::now(), number });
                self.wanted.notify_one();
                number
            }
        }
    }
}

/// The first look: there is nothing yet that could stay.
pub(super) async fn first(origin: &Origin, prover: Option<&Prover>) -> Result<Held, CredentialsError> {
    let fresh = origin.fetch(Stage::Current).await?;
    let reason = match prove(&fresh, prover).await {
        Proving::Good => return Ok(fresh),
        Proving::Unknown(reason) => {
            tracing::warn!(reason, "credentials are used unproven, because the store cannot be asked");
            return Ok(fresh);
        }
        Proving::Refused(reason) => reason,
    };
    let previous = good_previous(origin, prover).await;
    previous.ok_or_else(|| CredentialsError::Unproven { of: origin.to_string(), reason })
}

/// Looks again and again. Ends with the holder.
pub(super) async fn keep_fresh(
    origin: Origin,
    cell: std::sync::Weak<CredentialCell>,
    prover: Option<Prover>,
) {
    let Some(mut every) = cell.upgrade().map(|cell| cell.every.subscribe()) else { return };
    let mut failures = 0;
    loop {
        let forced = {
            let Some(cell) = cell.upgrade() else { return };
            let expiry = cell.held.borrow().credentials.expiry();
            let refresh = *every.borrow_and_update();
            let wait = pause(refresh, expiry, SystemTime::now(), failures);
            // All arms are cancel-safe: a timer, a word that is kept until somebody waits for it, a value.
            tokio::select! {
                () = sleep(wait.mul_f64(0.9 + 0.2 * fastrand::f64())) => Some(false),
                () = cell.wanted.notified() => Some(true),
                // The sender is the cell's own.
                _ = every.changed() => None,
            }
        };
        // Another time between looks: the wait begins anew.
        let Some(forced) = forced else { continue };
        let Some(cell) = cell.upgrade() else { return };
        let held = cell.held.borrow().clone();
        match look(&origin, &held, prover.as_ref(), forced).await {
            Ok(Look::Unchanged) => failures = 0,
            Ok(Look::Switched(fresh)) => {
                failures = 0;
                let version = fresh.version.clone().unwrap_or_default();
                tracing::info!(source = %origin, version, stage = ?fresh.stage, "credentials changed");
                cell.held.send_replace(fresh);
            }
            Err(error) => {
                failures += 1;
                tracing::warn!(attempt = failures, error = %Chain(&error), "credentials not refreshed");
            }
        }
        if forced {
            cell.forced_looks.send_modify(|ended| *ended += 1);
        }
    }
}

async fn look(
    origin: &Origin,
    held: &Held,
    prover: Option<&Prover>,
    forced: bool,
) -> Result<Look, CredentialsError> {
    let fresh = origin.fetch(Stage::Current).await?;
    let is_same = same(&fresh.credentials, &held.credentials);
    if is_same && !forced {
        return Ok(Look::Unchanged);
    }
    let has_ended = held.credentials.expiry().is_some_and(|end| end <= SystemTime::now());
    let unproven = |reason| CredentialsError::Unproven { of: origin.to_string(), reason };
    let reason = match prove(&fresh, prover).await {
        Proving::Good if is_same => return Ok(Look::Unchanged),
        Proving::Good => return Ok(Look::Switched(fresh)),
        // What is held is worth nothing any more.
        _ if has_ended && !is_same => return Ok(Look::Switched(fresh)),
        Proving::Unknown(reason) => return Err(unproven(reason)),
        Proving::Refused(reason) => reason,
    };
    // Only where what is held is no good either: a new version that is wrong is no reason to go back.
    let held_is_refused = is_same || matches!(prove(held, prover).await, Proving::Refused(_));
    if forced
        && held_is_refused
        && let Some(previous) = good_previous(origin, prover).await
        && !same(&previous.credentials, &held.credentials)
    {
        return Ok(Look::Switched(previous));
    }
    Err(unproven(reason))
}

/// What a request with `candidate` comes to; nobody to ask is no objection.
async fn prove(candidate: &Held, prover: Option<&Prover>) -> Proving {
    match prover {
        Some(prover) => prover(SharedCredentialsProvider::new(candidate.credentials.clone())).await,
        None => Proving::Good,
    }
}

/// The version before the current one, if a request proves it.
async fn good_previous(origin: &Origin, prover: Option<&Prover>) -> Option<Held> {
    let previous = origin.fetch(Stage::Previous).await.ok()?;
    if prove(&previous, prover).await != Proving::Good {
        return None;
    }
    tracing::warn!(source = %origin, "the current version is refused, the previous one is used");
    Some(previous)
}

fn same(a: &Credentials, b: &Credentials) -> bool {
    a.access_key_id() == b.access_key_id()
        && a.secret_access_key() == b.secret_access_key()
        && a.session_token() == b.session_token()
}

/// How long to wait before the next look: `refresh`, or less when the credentials end before; after
/// failures 1 s, 2 s, 4 s ... up to `refresh` or a minute.
pub(super) fn pause(
    refresh: Duration,
    expiry: Option<SystemTime>,
    now: SystemTime,
    failures: u32,
) -> Duration {
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
