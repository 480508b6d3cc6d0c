//! How fast a store is asked, and for how long when it does not answer.
//!
//! ```text
//!   at will -- "slow down" --> pauses, each twice as long -- an answer --> half as long ... --> at will
//! ```
//!
//! A store that is asked too often says so to one request and means the client: all of them wait, readers and writers. What
//! must hold: no request waits longer than [`PAUSE_MAX`] before it is sent; how often a write is sent again is bounded by
//! its deadline alone while the store answers, and by [`SILENCE_MAX`] while nobody is there.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_sdk_s3::config::retry::{RetryConfig, RetryPartition, TokenBucket};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;
use tokio::time::Instant;

/// The first pause after the store said that it is asked too often, and the longest.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// How long nobody may be reached before a request is not sent again.
const SILENCE_MAX: Duration = Duration::from_secs(20);
/// Failures this far apart have nothing to do with each other.
const SILENCE_GAP: Duration = Duration::from_secs(10);
/// Attempts of one question, the first included.
const READ_ATTEMPTS: u32 = 8;
/// Attempts of one write: more than fit into its deadline.
const WRITE_ATTEMPTS: u32 = 1000;
/// Longest pause between two attempts of the same request; each is jittered by the SDK.
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// What the client of one bucket knows of how fast it may ask.
#[derive(Debug, Default)]
pub(super) struct Pace {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    pause: Duration,
    until: Option<Instant>,
    /// When nobody was reached for the first time, and for the last time.
    silent: Option<(Instant, Instant)>,
}

impl Pace {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When a request may be sent.
    fn next(&self) -> Option<Instant> {
        self.state().until.filter(|until| *until > Instant::now())
    }

    /// Takes note of an answer; of what it says of the pace, with what a pause is lengthened by chance: 0 to 1.
    fn heard(&self, status: u16, chance: f64) {
        let mut state = self.state();
        let now = Instant::now();
        state.silent = None;
        if !matches!(status, 429 | 503) {
            state.pause /= 2;
            if state.pause < PAUSE_MIN {
                state.pause = Duration::ZERO;
            }
        } else if state.until.is_none_or(|until| until <= now) {
            // Those that were under way say the same once more.
            state.pause = (state.pause * 2).clamp(PAUSE_MIN, PAUSE_MAX);
            state.until = Some(now + state.pause.mul_f64((1.0 + chance) / 2.0));
        }
    }

    /// Takes note that nobody was reached; answers whether that has lasted too long.
    fn not_reached(&self) -> bool {
        let mut state = self.state();
        let now = Instant::now();
        let since = match state.silent {
            Some((since, last)) if now - last < SILENCE_GAP => since,
            _ => now,
        };
        state.silent = Some((since, now));
        now - since >= SILENCE_MAX
    }
}

/// `client`, which asks no faster than `pace` says.
pub(super) fn paced(client: SharedHttpClient, pace: Arc<Pace>) -> SharedHttpClient {
    http_client_fn(move |settings, components| {
        let inner = client.http_connector(settings, components);
        SharedHttpConnector::new(Paced { inner, pace: pace.clone() })
    })
}

#[derive(Debug)]
struct Paced {
    inner: SharedHttpConnector,
    pace: Arc<Pace>,
}

impl HttpConnector for Paced {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (inner, pace) = (self.inner.clone(), self.pace.clone());
        HttpConnectorFuture::new(async move {
            while let Some(next) = pace.next() {
                tokio::time::sleep_until(next).await;
            }
            match inner.call(request).await {
                Ok(response) => {
                    pace.heard(response.status().as_u16(), chance());
                    Ok(response)
                }
                // Of another kind, it is not sent again.
                Err(error) if !error.is_user() && pace.not_reached() => {
                    Err(ConnectorError::other(error.into_source(), None))
                }
                Err(error) => Err(error),
            }
        })
    }
}

/// From 0 to 1.
fn chance() -> f64 {
    let nanoseconds = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    f64::from(nanoseconds.map_or(0, |since| since.subsec_nanos()) % 1_000_000) / 1e6
}

/// How often a question is asked.
pub(super) fn of_questions() -> RetryConfig {
    RetryConfig::standard().with_max_attempts(READ_ATTEMPTS).with_max_backoff(BACKOFF_MAX)
}

/// How often a write is sent: until its deadline.
pub(super) fn of_writes() -> RetryConfig {
    RetryConfig::standard().with_max_attempts(WRITE_ATTEMPTS).with_max_backoff(BACKOFF_MAX)
}

/// The SDK counts what all clients send again, and refuses to at some number: here the pace bounds it.
pub(super) fn uncounted() -> RetryPartition {
    RetryPartition::custom("bucketfs").token_bucket(TokenBucket::unlimited()).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn all_wait_while_the_store_wants_it_and_then_less_and_less() {
        let pace = Pace::default();
        pace.heard(200, 1.0);
        assert_eq!(pace.next(), None);
        pace.heard(503, 1.0);
        pace.heard(503, 1.0);
        assert_eq!(pace.next(), Some(Instant::now() + PAUSE_MIN));
        tokio::time::advance(PAUSE_MIN).await;
        assert_eq!(pace.next(), None);
        for _ in 0..9 {
            pace.heard(429, 1.0);
            tokio::time::advance(PAUSE_MAX).await;
        }
        pace.heard(503, 0.0);
        assert_eq!(pace.next(), Some(Instant::now() + PAUSE_MAX / 2));
        (0..5).for_each(|_| pace.heard(200, 1.0));
        tokio::time::advance(PAUSE_MAX).await;
        pace.heard(503, 1.0);
        assert_eq!(pace.next(), Some(Instant::now() + PAUSE_MIN));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_called_for_longer_than_it_is_worth() {
        let pace = Pace::default();
        let step = Duration::from_secs(4);
        for _ in 0..5 {
            assert!(!pace.not_reached());
            tokio::time::advance(step).await;
        }
        assert!(pace.not_reached());
        tokio::time::advance(SILENCE_GAP).await;
        assert!(!pace.not_reached(), "another time");
        tokio::time::advance(step).await;
        pace.heard(404, 0.0);
        assert_eq!(pace.state().silent, None);
    }
}
