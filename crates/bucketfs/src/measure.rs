//! What this process counts while it works: file operations, questions to S3, how old answers are.
//!
//! Plain atomic numbers, cheap enough for every operation: what is made of them (metrics, `status`, a page) is decided
//! elsewhere. What must hold: counting never waits, never fails and never allocates.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Upper bounds of the buckets of a [`Histogram`] in seconds; one more takes what is above.
pub const BOUNDS: [f64; 16] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// How often something took how long.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    sum_us: AtomicU64,
}

/// A [`Histogram`] at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Distribution {
    /// How many fell into each bucket, not cumulated; the last one has no upper bound.
    pub buckets: [u64; BOUNDS.len() + 1],
    pub sum_seconds: f64,
}

impl Distribution {
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

impl Histogram {
    /// Counts one that took `time`.
    pub fn note(&self, time: Duration) {
        let seconds = time.as_secs_f64();
        let bucket = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.sum_us.fetch_add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub fn distribution(&self) -> Distribution {
        let mut taken = Distribution::default();
        for (to, from) in taken.buckets.iter_mut().zip(&self.buckets) {
            *to = from.load(Ordering::Relaxed);
        }
        taken.sum_seconds = self.sum_us.load(Ordering::Relaxed) as f64 / 1e6;
        taken
    }
}

/// Numbers of FUSE operations are below this.
const OPCODES: usize = 64;

/// The file operations of one mount, by the kernel's number for each.
#[derive(Debug)]
pub struct Operations {
    times: [Histogram; OPCODES],
    failed: [AtomicU64; OPCODES],
}

impl Default for Operations {
    fn default() -> Operations {
        Operations {
            times: std::array::from_fn(|_| Histogram::default()),
            failed: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

/// One kind of file operation.
#[derive(Debug, Clone, PartialEq)]
pub struct Operation {
    pub name: &'static str,
    pub times: Distribution,
    /// Of these, how many were answered with an error. A name that does not exist is one.
    pub failed: u64,
}

impl Operations {
    /// Counts an operation from when it was taken to its answer.
    pub fn note(&self, opcode: u32, time: Duration, is_error: bool) {
        let opcode = opcode as usize;
        if let (Some(times), Some(failed)) = (self.times.get(opcode), self.failed.get(opcode)) {
            times.note(time);
            if is_error {
                failed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Those that have happened.
    pub fn taken(&self) -> Vec<Operation> {
        let numbered = (0..).zip(self.times.iter().zip(&self.failed));
        let taken = numbered.map(|(opcode, (times, failed))| Operation {
            name: operation_name(opcode),
            times: times.distribution(),
            failed: failed.load(Ordering::Relaxed),
        });
        let mut taken: Vec<Operation> = taken.filter(|operation| operation.times.count() > 0).collect();
        // Several numbers may have one name.
        taken.sort_by_key(|operation| operation.name);
        taken.dedup_by(|later, kept| {
            let same = later.name == kept.name;
            if same {
                kept.failed += later.failed;
                kept.times.sum_seconds += later.times.sum_seconds;
                kept.times.buckets.iter_mut().zip(later.times.buckets).for_each(|(to, from)| *to += from);
            }
            same
        });
        taken
    }
}

/// The name of a FUSE operation, as the file system's documentation has it.
pub fn operation_name(opcode: u32) -> &'static str {
    match opcode {
        1 => "lookup",
        3 => "getattr",
        4 => "setattr",
        5 => "readlink",
        6 => "symlink",
        8 | 9 => "make",
        10 | 11 => "remove",
        12 | 45 => "rename",
        13 => "link",
        14 => "open",
        15 => "read",
        16 => "write",
        17 => "statfs",
        18 => "release",
        20 | 25 => "flush",
        21..=24 => "xattr",
        27 => "opendir",
        28 | 44 => "readdir",
        29 => "releasedir",
        35 => "create",
        _ => "other",
    }
}

/// What is asked of an object store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Question {
    Get,
    Head,
    List,
    Put,
    Copy,
    Delete,
    Other,
}

impl Question {
    pub const ALL: [Question; 7] = [
        Question::Get,
        Question::Head,
        Question::List,
        Question::Put,
        Question::Copy,
        Question::Delete,
        Question::Other,
    ];

    /// The word in metrics and in `status`.
    pub fn word(self) -> &'static str {
        match self {
            Question::Get => "get",
            Question::Head => "head",
            Question::List => "list",
            Question::Put => "put",
            Question::Copy => "copy",
            Question::Delete => "delete",
            Question::Other => "other",
        }
    }

    /// What S3 takes for a thousand of them, in millionths of a dollar: the standard class in us-east-1.
    pub fn price_microdollars(self) -> u64 {
        match self {
            Question::Get | Question::Head | Question::Other => 400,
            Question::List | Question::Put | Question::Copy => 5000,
            Question::Delete => 0,
        }
    }
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// An answer; that nothing has a key, or nothing has changed, is one.
    Answered,
    /// Refused: a status of 4xx that is none of those.
    Refused,
    /// The store is out of order: 5xx.
    Broken,
    /// No answer at all.
    Silent,
}

impl Ending {
    pub const ALL: [Ending; 4] = [Ending::Answered, Ending::Refused, Ending::Broken, Ending::Silent];

    /// The word in metrics.
    pub fn word(self) -> &'static str {
        match self {
            Ending::Answered => "answered",
            Ending::Refused => "refused",
            Ending::Broken => "broken",
            Ending::Silent => "silent",
        }
    }

    /// The ending that a status of HTTP means; `None`: there was no answer.
    pub fn of_status(status: Option<u16>) -> Ending {
        match status {
            Some(404 | 412 | 416) | Some(..=399) => Ending::Answered,
            Some(400..=499) => Ending::Refused,
            Some(_) => Ending::Broken,
            None => Ending::Silent,
        }
    }
}

/// The requests to one bucket: every attempt is one, because every attempt is paid for.
#[derive(Debug, Default)]
pub struct Requests {
    /// To the first byte of the answer.
    times: [Histogram; Question::ALL.len()],
    endings: [[AtomicU64; Ending::ALL.len()]; Question::ALL.len()],
}

/// One kind of request to one bucket.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    pub question: Question,
    pub times: Distribution,
    /// In the order of [`Ending::ALL`].
    pub endings: [u64; Ending::ALL.len()],
}

impl Asked {
    pub fn count(&self) -> u64 {
        self.endings.iter().sum()
    }
}

impl Requests {
    /// Counts one attempt.
    pub fn note(&self, question: Question, time: Duration, ending: Ending) {
        if let Some(times) = self.times.get(question as usize) {
            times.note(time);
        }
        if let Some(count) =
            self.endings.get(question as usize).and_then(|endings| endings.get(ending as usize))
        {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Those that have happened.
    pub fn taken(&self) -> Vec<Asked> {
        let all = Question::ALL.into_iter().zip(self.times.iter().zip(&self.endings));
        let taken = all.map(|(question, (times, endings))| Asked {
            question,
            times: times.distribution(),
            endings: std::array::from_fn(|ending| endings[ending].load(Ordering::Relaxed)),
        });
        taken.filter(|asked| asked.count() > 0).collect()
    }
}

/// The counters of a bucket: the same for everybody in this process who asks it.
pub fn requests(bucket: &str) -> Arc<Requests> {
    shared(&BUCKETS).entry(bucket.to_owned()).or_default().clone()
}

/// Every bucket that this process has asked, with what it was asked.
pub fn all_requests() -> Vec<(String, Vec<Asked>)> {
    shared(&BUCKETS).iter().map(|(bucket, requests)| (bucket.clone(), requests.taken())).collect()
}

static BUCKETS: Mutex<BTreeMap<String, Arc<Requests>>> = Mutex::new(BTreeMap::new());

/// How old the answers are that a mount gives about names.
#[derive(Debug, Default)]
pub struct Ages {
    times: Histogram,
    /// The oldest since it was last asked for.
    oldest_us: AtomicU64,
}

impl Ages {
    /// Counts an answer that rests on what the store said so long ago.
    pub fn note(&self, age: Duration) {
        self.times.note(age);
        let age_us = u64::try_from(age.as_micros()).unwrap_or(u64::MAX);
        self.oldest_us.fetch_max(age_us, Ordering::Relaxed);
    }

    pub fn distribution(&self) -> Distribution {
        self.times.distribution()
    }

    /// The oldest answer since this was last called.
    pub fn take_oldest(&self) -> Duration {
        Duration::from_micros(self.oldest_us.swap(0, Ordering::Relaxed))
    }
}

/// What is counted of one mount.
#[derive(Debug, Clone)]
pub struct Mount {
    pub operations: Arc<Operations>,
    pub ages: Arc<Ages>,
}

/// From now on the mount of this name is counted so.
pub fn watch_mount(name: &str, mount: Mount) {
    shared(&MOUNTS).insert(name.to_owned(), mount);
}

/// Every mount that this process serves, or has served, by name.
pub fn mounts() -> Vec<(String, Mount)> {
    shared(&MOUNTS).iter().map(|(name, mount)| (name.clone(), mount.clone())).collect()
}

/// Counts a good answer of the service in `container`.
pub fn probed(container: &str, time: Duration) {
    let mut probes = shared(&PROBES);
    let (last, times) = probes.entry(container.to_owned()).or_default();
    *last = time;
    times.note(time);
}

/// Every container that was probed: its name, its last time, all times.
pub fn probes() -> Vec<(String, Duration, Distribution)> {
    let probes = shared(&PROBES);
    probes.iter().map(|(name, (last, times))| (name.clone(), *last, times.distribution())).collect()
}

static MOUNTS: Mutex<BTreeMap<String, Mount>> = Mutex::new(BTreeMap::new());
static PROBES: Mutex<BTreeMap<String, (Duration, Histogram)>> = Mutex::new(BTreeMap::new());

fn shared<T>(kept: &'static Mutex<T>) -> MutexGuard<'static, T> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_falls_into_the_bucket_that_it_does_not_exceed() {
        let histogram = Histogram::default();
        for ms in [0, 1, 2, 60_000] {
            histogram.note(Duration::from_millis(ms));
        }
        let taken = histogram.distribution();
        assert_eq!(taken.count(), 4);
        let at =
            |bound: f64| taken.buckets[BOUNDS.iter().position(|known| *known == bound).expect("a bound")];
        assert_eq!((at(0.0001), at(0.001), at(0.0025), taken.buckets[BOUNDS.len()]), (1, 1, 1, 1));
        assert!((taken.sum_seconds - 60.003).abs() < 1e-9);
        assert!(BOUNDS.is_sorted());
    }

    #[test]
    fn operations_are_told_by_name_with_their_errors() {
        let operations = Operations::default();
        operations.note(1, Duration::from_millis(1), true);
        operations.note(28, Duration::from_millis(1), false);
        operations.note(44, Duration::from_millis(1), false);
        operations.note(u32::MAX, Duration::from_millis(1), false);
        let taken: Vec<_> =
            operations.taken().into_iter().map(|one| (one.name, one.times.count(), one.failed)).collect();
        assert_eq!(taken, [("lookup", 1, 1), ("readdir", 2, 0)]);
    }

    #[test]
    fn requests_of_one_bucket_are_counted_together() {
        let name = "a-bucket-of-this-test";
        requests(name).note(Question::Get, Duration::from_millis(3), Ending::of_status(Some(404)));
        requests(name).note(Question::Get, Duration::from_millis(3), Ending::of_status(Some(503)));
        requests(name).note(Question::List, Duration::from_millis(3), Ending::of_status(None));
        let all = all_requests();
        let (_, asked) = all.iter().find(|(bucket, _)| bucket == name).expect("it was asked");
        let told: Vec<_> = asked.iter().map(|asked| (asked.question.word(), asked.endings)).collect();
        assert_eq!(told, [("get", [1, 0, 1, 0]), ("list", [0, 0, 0, 1])]);
        assert_eq!(Ending::of_status(Some(403)), Ending::Refused);
    }

    #[test]
    fn the_oldest_answer_is_told_once() {
        let ages = Ages::default();
        ages.note(Duration::from_millis(400));
        ages.note(Duration::from_millis(90));
        assert_eq!(ages.take_oldest(), Duration::from_millis(400));
        assert_eq!(ages.take_oldest(), Duration::ZERO);
        assert_eq!(ages.distribution().count(), 2);
    }
}
