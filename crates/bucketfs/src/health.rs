//! Whether the store answers, as the file system itself notices in passing.
//!
//! ```text
//!   answering  -- a request could not be asked -->  silent since t  -- any answer -->  answering
//! ```
//!
//! What must hold: an answer that refuses (a missing key, a denied one) is an answer; one that makes no sense is told, but
//! not with every request.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::store::StoreError;

/// How long an answer about something that is known already is waited for, before what is known is served.
const PATIENCE: Duration = Duration::from_secs(3);
/// The same while the store is silent: long enough to notice that it answers again.
const PATIENCE_IN_SILENCE: Duration = Duration::from_secs(1);

/// Time between two complaints about answers that make no sense.
const COMPLAINTS: Duration = Duration::from_secs(60);

/// What a mount knows of its store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreHealth {
    Answering,
    /// The store has not been heard since `silent_for`; what was read before is served meanwhile.
    Silent {
        silent_for: Duration,
        reason: String,
    },
}

/// Watches the answers that pass by.
#[derive(Default)]
pub struct Availability {
    outage: Mutex<Option<Outage>>,
    complained: Mutex<Option<Instant>>,
}

struct Outage {
    since: Instant,
    reason: String,
}

impl Availability {
    /// Takes note of an answer, or of its absence.
    pub fn note<T>(&self, answer: &Result<T, StoreError>) {
        if let Err(error @ StoreError::Malformed { .. }) = answer {
            let mut complained = self.complained.lock().unwrap_or_else(PoisonError::into_inner);
            if complained.is_none_or(|at| at.elapsed() >= COMPLAINTS) {
                *complained = Some(Instant::now());
                tracing::warn!(error = %error, "an answer is not believed");
            }
        }
        match answer {
            Err(error) if error.is_outage() => {
                let mut outage = self.outage();
                let since = outage.as_ref().map_or_else(Instant::now, |known| known.since);
                if outage.is_none() {
                    tracing::warn!(error = %error, "the store does not answer");
                }
                *outage = Some(Outage { since, reason: error.to_string() });
            }
            _ => {
                if let Some(ended) = self.outage().take() {
                    let elapsed_ms = ended.since.elapsed().as_millis() as u64;
                    tracing::info!(elapsed_ms, "the store answers again");
                }
            }
        }
    }

    /// How long it is worth waiting for an answer that is not needed.
    pub fn patience(&self) -> Duration {
        if self.outage().is_some() { PATIENCE_IN_SILENCE } else { PATIENCE }
    }

    pub fn health(&self) -> StoreHealth {
        match self.outage().as_ref() {
            None => StoreHealth::Answering,
            Some(outage) => {
                StoreHealth::Silent { silent_for: outage.since.elapsed(), reason: outage.reason.clone() }
            }
        }
    }

    fn outage(&self) -> MutexGuard<'_, Option<Outage>> {
        self.outage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_outage_lasts_from_its_first_failure_to_the_next_answer() {
        let availability = Availability::default();
        assert_eq!(availability.health(), StoreHealth::Answering);
        assert_eq!(availability.patience(), PATIENCE);
        availability.note::<()>(&Err(StoreError::TimedOut(Duration::from_secs(1))));
        tokio::time::advance(Duration::from_secs(5)).await;
        availability.note::<()>(&Err(StoreError::Throttled { code: "SlowDown".into() }));
        assert_eq!(
            availability.health(),
            StoreHealth::Silent {
                silent_for: Duration::from_secs(5),
                reason: "the store is asked too often (SlowDown)".into()
            }
        );
        assert_eq!(availability.patience(), PATIENCE_IN_SILENCE);
        availability.note::<()>(&Err(StoreError::NotFound { key: "a".into() }));
        assert_eq!(availability.health(), StoreHealth::Answering);
    }
}
