//! What a test or a benchmark sees of a running server, and does to it.
//!
//! A [`Control`] is a handle that may be used from any thread and any runtime. Counters count a request when it
//! arrives, and the log has its status before the client can have it: whoever has an answer finds the request
//! counted and logged.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;

use super::fault::{Action, Fault, Faults};
use super::operation::{Operation, Target};

/// Requests that the log remembers.
const LOG_LENGTH: usize = 10_000;

/// Access key that every server accepts until told otherwise.
pub const ACCESS_KEY: &str = "AKIAMAPKEEPEREXAMPLE";
/// Secret of [`ACCESS_KEY`]. Not a secret at all.
pub const SECRET_KEY: &str = "mapkeeper-s3-server-secret";

/// Counters, latency, faults and keys of a server. Clones are handles to the same.
#[derive(Debug, Clone)]
pub struct Control {
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    tally: Mutex<Tally>,
    bytes_sent: AtomicU64,
    settings: Mutex<Settings>,
    faults: Mutex<Faults>,
    /// By their access keys.
    keys: Mutex<HashMap<String, Key>>,
    /// Requests with this number or a later one wait.
    gate: watch::Sender<Option<u64>>,
    /// Moves whenever a counter does.
    activity: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Tally {
    counts: BTreeMap<Operation, u64>,
    total: u64,
    in_progress: u64,
    highest_in_progress: u64,
    held: u64,
    /// Requests ever; unlike `total` it survives a reset, so that an old request cannot be taken for a new one.
    serial: u64,
    /// With the serial number of each: consecutive numbers.
    log: VecDeque<(u64, LogEntry)>,
}

#[derive(Debug, Default)]
struct Settings {
    latency: Duration,
    refusal: Option<Refusal>,
    anonymous: bool,
    /// Requests signed for another region are turned away.
    region: Option<String>,
}

#[derive(Debug, Clone)]
pub(super) struct Key {
    pub secret: String,
    pub session_token: Option<String>,
}

/// A reason for which all requests are refused, whoever signed them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    AccessDenied,
    ExpiredToken,
    RequestTimeTooSkewed,
}

/// One request as it was answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogEntry {
    /// 1 for the first since the start or the last reset.
    pub number: u64,
    pub operation: Operation,
    pub bucket: String,
    /// For a list its prefix.
    pub key: String,
    /// The `Range` header.
    pub range: Option<String>,
    /// Absent while there is no answer.
    pub status: Option<u16>,
    /// Bytes of the body of the answer given to the connection so far.
    pub bytes: u64,
}

impl Default for Control {
    fn default() -> Self {
        let key = Key { secret: SECRET_KEY.to_owned(), session_token: None };
        let state = State {
            tally: Mutex::default(),
            bytes_sent: AtomicU64::new(0),
            settings: Mutex::default(),
            faults: Mutex::default(),
            keys: Mutex::new(HashMap::from([(ACCESS_KEY.to_owned(), key)])),
            gate: watch::Sender::new(None),
            activity: watch::Sender::new(()),
        };
        Self { state: Arc::new(state) }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reading.
impl Control {
    /// Requests by operation; operations that nobody asked for are absent.
    pub fn counts(&self) -> BTreeMap<Operation, u64> {
        lock(&self.state.tally).counts.clone()
    }

    /// Requests for one operation.
    pub fn count(&self, operation: Operation) -> u64 {
        lock(&self.state.tally).counts.get(&operation).copied().unwrap_or(0)
    }

    /// Requests of any kind.
    pub fn total(&self) -> u64 {
        lock(&self.state.tally).total
    }

    /// The most requests that were in progress at one time: from their arrival to the last byte of their answer.
    pub fn highest_concurrency(&self) -> u64 {
        lock(&self.state.tally).highest_in_progress
    }

    /// Requests in progress.
    pub fn in_progress(&self) -> u64 {
        lock(&self.state.tally).in_progress
    }

    /// Requests that wait because of [`hold_from`](Self::hold_from).
    pub fn held(&self) -> u64 {
        lock(&self.state.tally).held
    }

    /// Bytes of bodies of answers, without heads.
    pub fn bytes_sent(&self) -> u64 {
        self.state.bytes_sent.load(Ordering::Relaxed)
    }

    /// The latest requests, oldest first; at most 10,000.
    pub fn log(&self) -> Vec<LogEntry> {
        lock(&self.state.tally).log.iter().map(|(_, entry)| entry.clone()).collect()
    }

    /// Sets all counters to zero and empties the log. Requests in progress stay in progress.
    pub fn reset(&self) {
        let mut tally = lock(&self.state.tally);
        let Tally { in_progress, held, serial, .. } = *tally;
        *tally = Tally { in_progress, highest_in_progress: in_progress, held, serial, ..Tally::default() };
        self.state.bytes_sent.store(0, Ordering::Relaxed);
    }

    /// Waits until `condition` holds, looking again whenever a request arrives, is held, or is answered. The caller
    /// sets a limit.
    pub async fn until(&self, mut condition: impl FnMut(&Self) -> bool) {
        let mut activity = self.state.activity.subscribe();
        while !condition(self) {
            // The sender lives in `self`, so waiting cannot fail.
            let _ = activity.changed().await;
        }
    }
}

/// Changing.
impl Control {
    /// From now on every request waits so long for the first byte of its answer, beside what the work takes.
    pub fn set_latency(&self, latency: Duration) {
        lock(&self.state.settings).latency = latency;
    }

    pub fn latency(&self) -> Duration {
        lock(&self.state.settings).latency
    }

    /// Adds a rule by which requests go wrong.
    pub fn inject(&self, fault: Fault) {
        lock(&self.state.faults).add(fault);
    }

    /// Ends all faults. Requests that stall already stay so.
    pub fn clear_faults(&self) {
        lock(&self.state.faults).clear();
    }

    /// Holds requests from the `number`th on (counted since the start or the last reset) until [`release`](Self::release).
    pub fn hold_from(&self, number: u64) {
        self.state.gate.send_replace(Some(number));
    }

    /// Lets all held requests go on.
    pub fn release(&self) {
        self.state.gate.send_replace(None);
    }

    /// Accepts requests signed with this key, beside those accepted so far.
    pub fn accept_key(&self, access_key: &str, secret: &str) {
        self.insert_key(access_key, secret, None);
    }

    /// Accepts requests signed with this temporary key if they also carry its token.
    pub fn accept_session(&self, access_key: &str, secret: &str, token: &str) {
        self.insert_key(access_key, secret, Some(token.to_owned()));
    }

    fn insert_key(&self, access_key: &str, secret: &str, session_token: Option<String>) {
        let key = Key { secret: secret.to_owned(), session_token };
        lock(&self.state.keys).insert(access_key.to_owned(), key);
    }

    /// Refuses requests signed with this key from now on.
    pub fn revoke_key(&self, access_key: &str) {
        lock(&self.state.keys).remove(access_key);
    }

    /// Refuses all requests for this reason; `None` ends that.
    pub fn refuse_all(&self, refusal: Option<Refusal>) {
        lock(&self.state.settings).refusal = refusal;
    }

    /// Has all buckets live in `region`: requests that are signed for another one are told so and refused.
    pub fn live_in(&self, region: &str) {
        lock(&self.state.settings).region = Some(region.to_string());
    }

    /// Also answers requests that nobody signed.
    pub fn allow_anonymous(&self) {
        lock(&self.state.settings).anonymous = true;
    }
}

/// What the server asks.
impl Control {
    pub(super) fn region(&self) -> Option<String> {
        lock(&self.state.settings).region.clone()
    }

    pub(super) fn key(&self, access_key: &str) -> Option<Key> {
        lock(&self.state.keys).get(access_key).cloned()
    }

    pub(super) fn refusal(&self) -> Option<Refusal> {
        lock(&self.state.settings).refusal
    }

    pub(super) fn allows_anonymous(&self) -> bool {
        lock(&self.state.settings).anonymous
    }

    pub(super) fn fault(&self, target: &Target) -> Option<Action> {
        lock(&self.state.faults).next(target)
    }

    pub(super) fn begin(&self, target: Target) -> Ticket {
        let mut tally = lock(&self.state.tally);
        tally.total += 1;
        tally.serial += 1;
        *tally.counts.entry(target.operation).or_default() += 1;
        tally.in_progress += 1;
        tally.highest_in_progress = tally.highest_in_progress.max(tally.in_progress);
        let (number, serial) = (tally.total, tally.serial);
        let Target { operation, bucket, key, range } = target;
        if tally.log.len() == LOG_LENGTH {
            tally.log.pop_front();
        }
        let entry = LogEntry { number, operation, bucket, key, range, status: None, bytes: 0 };
        tally.log.push_back((serial, entry));
        drop(tally);
        self.state.activity.send_replace(());
        Ticket { control: self.clone(), number, serial }
    }

    /// Waits while requests of this number are held.
    pub(super) async fn pass_gate(&self, number: u64) {
        let mut gate = self.state.gate.subscribe();
        let open = |from: &Option<u64>| from.is_none_or(|from| number < from);
        if open(&gate.borrow_and_update()) {
            return;
        }
        let _held = Held::new(self);
        // The sender lives in `self`, so waiting cannot fail.
        let _ = gate.wait_for(open).await;
    }

    fn log_entry(&self, serial: u64, change: impl FnOnce(&mut LogEntry)) {
        let mut tally = lock(&self.state.tally);
        let first = tally.log.front().map_or(0, |(serial, _)| *serial);
        let position = serial.checked_sub(first).and_then(|position| usize::try_from(position).ok());
        // Absent after a reset, or pushed out by later requests.
        if let Some((_, entry)) = position.and_then(|position| tally.log.get_mut(position)) {
            change(entry);
        }
    }
}

/// A request in progress. Dropped at its end.
#[derive(Debug)]
pub(super) struct Ticket {
    control: Control,
    pub number: u64,
    serial: u64,
}

impl Ticket {
    pub fn answered(&self, status: u16) {
        self.control.log_entry(self.serial, |entry| entry.status = Some(status));
        self.control.state.activity.send_replace(());
    }

    pub fn sent(&self, bytes: u64) {
        self.control.state.bytes_sent.fetch_add(bytes, Ordering::Relaxed);
        self.control.log_entry(self.serial, |entry| entry.bytes += bytes);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        lock(&self.control.state.tally).in_progress -= 1;
        self.control.state.activity.send_replace(());
    }
}

/// A request that waits at the gate.
struct Held<'c> {
    control: &'c Control,
}

impl<'c> Held<'c> {
    fn new(control: &'c Control) -> Self {
        lock(&control.state.tally).held += 1;
        control.state.activity.send_replace(());
        Self { control }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        lock(&self.control.state.tally).held -= 1;
        self.control.state.activity.send_replace(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(key: &str) -> Target {
        Target { operation: Operation::HeadObject, bucket: "b".into(), key: key.into(), range: None }
    }

    #[test]
    fn a_request_is_in_progress_until_its_ticket_is_dropped() {
        let control = Control::default();
        let first = control.begin(target("a"));
        let second = control.begin(target("b"));
        first.answered(200);
        second.sent(7);
        drop((first, second));
        drop(control.begin(target("c")));
        assert_eq!((control.total(), control.in_progress(), control.highest_concurrency()), (3, 0, 2));
        assert_eq!(control.counts(), BTreeMap::from([(Operation::HeadObject, 3)]));
        let log = control.log();
        assert_eq!((log[0].status, log[1].status, log[1].bytes), (Some(200), None, 7));
    }

    #[test]
    fn the_log_forgets_the_oldest_and_still_finds_the_rest() {
        let control = Control::default();
        let tickets: Vec<_> = (0..=LOG_LENGTH).map(|_| control.begin(target("k"))).collect();
        tickets[0].answered(500);
        tickets[LOG_LENGTH].answered(200);
        let log = control.log();
        assert_eq!((log.len(), log[0].number), (LOG_LENGTH, 2));
        assert_eq!(log.last().unwrap().status, Some(200));
        assert!(log.iter().all(|entry| entry.status != Some(500)));
    }

    #[test]
    fn a_ticket_from_before_a_reset_does_not_touch_the_new_log() {
        let control = Control::default();
        let old = (control.begin(target("a")), control.begin(target("b")));
        control.reset();
        let new = control.begin(target("c"));
        new.answered(200);
        old.0.answered(500);
        old.1.answered(500);
        assert_eq!(control.log().len(), 1);
        assert_eq!(control.log()[0].status, Some(200));
        assert_eq!(control.highest_concurrency(), 3);
    }

    #[tokio::test]
    async fn requests_from_a_number_on_wait_for_the_release() {
        let control = Control::default();
        control.hold_from(2);
        control.pass_gate(1).await;
        let waiting = tokio::spawn({
            let control = control.clone();
            async move { control.pass_gate(2).await }
        });
        control.until(|control| control.held() == 1).await;
        control.release();
        waiting.await.unwrap();
        assert_eq!(control.held(), 0);
    }
}
