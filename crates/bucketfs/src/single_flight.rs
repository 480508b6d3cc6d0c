//! Questions on their way: whoever asks the same thing meanwhile waits for the same answer.
//!
//! What must hold: a question goes on when its asker is gone; who asks joins only a question that left less than
//! `freshness` ago, because the answer to an older one may be older than what was asked for.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::store::StoreError;

/// Questions by what they are about.
pub struct SingleFlight<T> {
    under_way: Arc<Mutex<UnderWay<T>>>,
}

type UnderWay<T> = HashMap<Arc<str>, Flight<T>>;

/// A question that has left.
struct Flight<T> {
    sent_at: Instant,
    answer: Shared<BoxFuture<'static, Result<T, StoreError>>>,
}

/// Whether a question left because of who waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Leader,
    Follower,
}

impl<T> Default for SingleFlight<T> {
    fn default() -> SingleFlight<T> {
        SingleFlight { under_way: Arc::default() }
    }
}

impl<T: Clone + Send + Sync + 'static> SingleFlight<T> {
    /// The answer to the question about `subject`; `question`, told when it leaves, is asked if no other can be
    /// joined.
    pub async fn answer<F>(
        &self,
        subject: &Arc<str>,
        freshness: Duration,
        runtime: &Handle,
        question: impl FnOnce(Instant) -> F,
    ) -> (Role, Result<T, StoreError>)
    where
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let (role, answer) = self.join(subject, freshness, runtime, question);
        (role, answer.await)
    }

    /// As [`answer`](Self::answer), which is not waited for: the question has left when this returns.
    pub fn join<F>(
        &self,
        subject: &Arc<str>,
        freshness: Duration,
        runtime: &Handle,
        question: impl FnOnce(Instant) -> F,
    ) -> (Role, Shared<BoxFuture<'static, Result<T, StoreError>>>)
    where
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let mut under_way = lock(&self.under_way);
        if let Some(flight) = under_way.get(subject).filter(|flight| flight.sent_at.elapsed() < freshness) {
            return (Role::Follower, flight.answer.clone());
        }
        let sent_at = Instant::now();
        let answer = self.depart(subject.clone(), sent_at, runtime, question(sent_at));
        under_way.insert(subject.clone(), Flight { sent_at, answer: answer.clone() });
        (Role::Leader, answer)
    }

    /// Lets nobody join the question about `subject` any more: what it asks about has just been changed.
    pub fn forget(&self, subject: &str) {
        lock(&self.under_way).remove(subject);
    }

    fn depart(
        &self,
        subject: Arc<str>,
        sent_at: Instant,
        runtime: &Handle,
        question: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Shared<BoxFuture<'static, Result<T, StoreError>>> {
        let under_way = self.under_way.clone();
        let task = runtime.spawn(async move {
            let answer = question.await;
            let mut under_way = lock(&under_way);
            if under_way.get(&subject).is_some_and(|flight| flight.sent_at == sent_at) {
                under_way.remove(&subject);
            }
            answer
        });
        let answer = async move {
            task.await.unwrap_or_else(|error| Err(StoreError::Malformed { reason: error.to_string() }))
        };
        answer.boxed().shared()
    }
}

fn lock<T>(under_way: &Mutex<UnderWay<T>>) -> MutexGuard<'_, UnderWay<T>> {
    under_way.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn slow(sent_at: Instant) -> Result<Instant, StoreError> {
        tokio::time::sleep(Duration::from_secs(5)).await;
        Ok(sent_at)
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_is_joined_while_it_is_young_and_forgotten_when_answered() {
        let in_flight = SingleFlight::default();
        let (subject, freshness) = (Arc::from("a"), Duration::from_secs(1));
        let here = Handle::current();
        let ask = || in_flight.answer(&subject, freshness, &here, slow);
        let late = async {
            tokio::time::sleep(freshness).await;
            ask().await
        };
        let ((first, one), (second, two), (third, three)) = futures::join!(ask(), ask(), late);
        assert_eq!([first, second, third], [Role::Leader, Role::Follower, Role::Leader]);
        assert_eq!(one.expect("answered"), two.clone().expect("answered"));
        assert_eq!(three.expect("answered") - two.expect("answered"), freshness);
        assert!(lock(&in_flight.under_way).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_goes_on_without_its_asker() {
        let in_flight = SingleFlight::default();
        let (subject, here) = (Arc::from("a"), Handle::current());
        let ask = || in_flight.answer(&subject, Duration::from_secs(60), &here, slow);
        let gone = tokio::time::timeout(Duration::from_secs(1), ask()).await;
        assert!(gone.is_err());
        let began = Instant::now();
        assert_eq!(ask().await.0, Role::Follower);
        assert_eq!(began.elapsed(), Duration::from_secs(4));
    }
}
