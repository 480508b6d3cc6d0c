//! A store that does to one request of a step what the step says, and forwards all others.
//!
//! What must hold: a request that is refused has not been done; one whose answer is lost has.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::future::{BoxFuture, pending};
use tokio::sync::watch;

use crate::store::memory::Memory;
use crate::store::write::{
    CopyRequest, Headers, ObjectStoreWrite, PartOf, Put, Tags, Upload, WriteIf, Written,
};
use crate::store::{ETag, Fetch, Fetched, List, Object, ObjectStore, Page, StoreError};

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is answered 403, and not done.
    Refused,
    /// It is answered 503, and not done.
    Unavailable,
    /// It is done, and no answer comes.
    AnswerLost,
    /// It never arrives, and no answer comes either: whoever asked is killed meanwhile.
    KilledBefore,
    /// It is done, and whoever asked is killed before it hears of it.
    KilledAfter,
}

impl Fault {
    pub fn kills(self) -> bool {
        matches!(self, Fault::KilledBefore | Fault::KilledAfter)
    }
}

#[derive(Default)]
struct Plan {
    /// Requests until the fault, and which.
    armed: Option<(u8, Fault)>,
}

/// The store that the file system is given.
#[derive(Clone)]
pub struct Faulty {
    pub inner: Memory,
    plan: Arc<Mutex<Plan>>,
    /// Whether a request is held for good.
    held: Arc<watch::Sender<bool>>,
}

impl Faulty {
    pub fn new(inner: Memory) -> Faulty {
        Faulty { inner, plan: Arc::default(), held: Arc::new(watch::Sender::new(false)) }
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does this to the request that comes after `count` others; `None`: all are well. Answers whether what was said
    /// before has come to pass.
    pub fn arm(&self, fault: Option<(u8, Fault)>) -> bool {
        self.held.send_replace(false);
        std::mem::replace(&mut *self.plan(), Plan { armed: fault }).armed.is_none()
    }

    /// Waits until a request is held for good.
    pub async fn held(&self) {
        let _ = self.held.subscribe().wait_for(|held| *held).await;
    }

    fn next(&self) -> Option<Fault> {
        let mut plan = self.plan();
        let (count, fault) = plan.armed?;
        plan.armed = count.checked_sub(1).map(|count| (count, fault));
        (count == 0).then_some(fault)
    }

    async fn pass<T>(&self, request: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        match self.next() {
            None => request.await,
            Some(Fault::Refused) => {
                Err(StoreError::Denied { what: "a request".into(), code: "AccessDenied".into() })
            }
            Some(Fault::Unavailable) => Err(StoreError::Refused { status: 503, code: "SlowDown".into() }),
            Some(Fault::AnswerLost) => {
                let _ = request.await;
                Err(StoreError::TimedOut(Duration::ZERO))
            }
            Some(fault) => {
                if fault == Fault::KilledAfter {
                    let _ = request.await;
                }
                self.held.send_replace(true);
                pending().await
            }
        }
    }
}

impl ObjectStore for Faulty {
    fn head<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Object, StoreError>> {
        Box::pin(self.pass(self.inner.head(key)))
    }

    fn fetch<'a>(&'a self, fetch: Fetch<'a>) -> BoxFuture<'a, Result<Fetched, StoreError>> {
        Box::pin(self.pass(self.inner.fetch(fetch)))
    }

    fn list<'a>(&'a self, list: List<'a>) -> BoxFuture<'a, Result<Page, StoreError>> {
        Box::pin(self.pass(self.inner.list(list)))
    }
}

impl ObjectStoreWrite for Faulty {
    fn put<'a>(&'a self, put: Put<'a>) -> BoxFuture<'a, Result<Written, StoreError>> {
        Box::pin(self.pass(ObjectStoreWrite::put(&self.inner, put)))
    }

    fn copy<'a>(&'a self, copy: CopyRequest<'a>) -> BoxFuture<'a, Result<Written, StoreError>> {
        Box::pin(self.pass(self.inner.copy(copy)))
    }

    fn delete<'a>(&'a self, key: &'a str, condition: WriteIf) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.pass(ObjectStoreWrite::delete(&self.inner, key, condition)))
    }

    fn tags<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Tags, StoreError>> {
        Box::pin(self.pass(self.inner.tags(key)))
    }

    fn begin_upload<'a>(
        &'a self,
        key: &'a str,
        headers: &'a Headers,
        tags: &'a [(String, String)],
    ) -> BoxFuture<'a, Result<String, StoreError>> {
        Box::pin(self.pass(self.inner.begin_upload(key, headers, tags)))
    }

    fn put_part<'a>(
        &'a self,
        upload: Upload<'a>,
        number: u32,
        body: Bytes,
    ) -> BoxFuture<'a, Result<ETag, StoreError>> {
        Box::pin(self.pass(self.inner.put_part(upload, number, body)))
    }

    fn copy_part<'a>(
        &'a self,
        upload: Upload<'a>,
        number: u32,
        part: PartOf<'a>,
    ) -> BoxFuture<'a, Result<ETag, StoreError>> {
        Box::pin(self.pass(self.inner.copy_part(upload, number, part)))
    }

    fn complete_upload<'a>(
        &'a self,
        upload: Upload<'a>,
        parts: &'a [(u32, ETag)],
        condition: WriteIf,
    ) -> BoxFuture<'a, Result<Written, StoreError>> {
        Box::pin(self.pass(self.inner.complete_upload(upload, parts, condition)))
    }

    fn abort_upload<'a>(&'a self, upload: Upload<'a>) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.pass(self.inner.abort_upload(upload)))
    }
}
