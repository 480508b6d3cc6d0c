//! A model of what a reader may see: every answer was true less than `freshness` before it was asked for.
//!
//! One hand changes a bucket, several readers look names up, list, open and read, and each believes what it was told
//! for exactly as long as it was told to, as the kernel does. The bucket's history is written down; an answer is
//! right if it was true of the bucket at some moment from `freshness` before the question to the arrival of the
//! answer. One exception is part of the promise (docs/filesystem.md): a file stays one for a while when keys appear
//! below its name.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::file_system::common::{Bucket, DEFAULTS};
use bucketfs::attr::{Kind, Timestamp};
use bucketfs::cache::BlockCache;
use bucketfs::directory::{Detail, Directory};
use bucketfs::error::FsError;
use bucketfs::health::Availability;
use bucketfs::inode::ROOT;
use bucketfs::read::{Content, Source};
use bucketfs::store::memory::Clock;
use bucketfs::tree::{Looked, Rules, Tree};
use bytes::Bytes;
use proptest::prelude::*;
use tokio::runtime::Handle;
use tokio::time::Instant;

/// Keys that the hand writes: files, a directory with and without a marker, a name that is now one, now the other.
const KEYS: [&str; 8] = ["a", "b", "d/", "d/x", "d/y", "d/e/z", "c", "c/x"];
/// Paths that readers ask for.
const PATHS: [&str; 10] = ["a", "b", "d", "d/x", "d/y", "d/e", "d/e/z", "c", "c/x", "absent"];
/// Two of the same length, one shorter, one of several blocks.
const BODIES: [&str; 4] = ["one", "two", "o", "long"];
const MODES: [u32; 2] = [0o100644, 0o100600];

/// What a key holds.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Held {
    body: Bytes,
    mode: u32,
}

type State = BTreeMap<&'static str, Held>;

/// What a path is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Truth {
    Absent,
    Directory,
    File(Held),
}

fn truth(state: &State, path: &str) -> Truth {
    let below = format!("{path}/");
    if state.keys().any(|key| key.starts_with(&below)) {
        return Truth::Directory;
    }
    state.get(path).map_or(Truth::Absent, |held| Truth::File(held.clone()))
}

fn names(state: &State, path: &str) -> BTreeSet<String> {
    let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
    let rests = state.keys().filter_map(|key| key.strip_prefix(&prefix)).filter(|rest| !rest.is_empty());
    rests.map(|rest| rest.split('/').next().unwrap_or_default().to_string()).collect()
}

/// All states that the bucket was in, with the moments between which each one began.
struct History(Mutex<Vec<(Instant, Instant, State)>>);

impl History {
    /// Whether `holds` of some state that the bucket may have been in from `from` to `to`.
    fn had(&self, from: Instant, to: Instant, holds: impl Fn(&State) -> bool) -> bool {
        let states = self.0.lock().expect("no test panicked");
        states.iter().enumerate().any(|(number, (began, _, state))| {
            let over = states.get(number + 1).map(|(_, ended, _)| *ended);
            *began <= to && over.is_none_or(|over| over >= from) && holds(state)
        })
    }

    fn now(&self) -> State {
        self.0.lock().expect("no test panicked").last().expect("it begins with one").2.clone()
    }

    fn append(&self, began: Instant, state: State) {
        self.0.lock().expect("no test panicked").push((began, Instant::now(), state));
    }
}

#[derive(Clone, Debug)]
enum Change {
    Put {
        key: usize,
        body: usize,
        mode: usize,
    },
    Headers {
        key: usize,
        mode: usize,
    },
    Delete {
        key: usize,
    },
    /// Everything below a directory, at once.
    Clear,
}

#[derive(Clone, Debug)]
enum Ask {
    Look {
        path: usize,
    },
    Open {
        path: usize,
    },
    /// Reads what was opened first, again.
    ReadOld,
    List {
        path: usize,
    },
}

/// What one story is made of: pauses in milliseconds, and what follows each.
#[derive(Clone, Debug)]
struct Story {
    freshness: Duration,
    wall_clock: bool,
    changes: Vec<(u64, Change)>,
    readers: Vec<Vec<(u64, Ask)>>,
}

fn story(longest_pause_ms: u64, length: usize) -> impl Strategy<Value = Story> {
    let pause = 0..longest_pause_ms;
    let change = prop_oneof![
        6 => (0..KEYS.len(), 0..BODIES.len(), 0..MODES.len())
            .prop_map(|(key, body, mode)| Change::Put { key, body, mode }),
        3 => (0..KEYS.len(), 0..MODES.len()).prop_map(|(key, mode)| Change::Headers { key, mode }),
        4 => (0..KEYS.len()).prop_map(|key| Change::Delete { key }),
        1 => Just(Change::Clear),
    ];
    let ask = prop_oneof![
        4 => (0..PATHS.len()).prop_map(|path| Ask::Look { path }),
        4 => (0..PATHS.len()).prop_map(|path| Ask::Open { path }),
        1 => Just(Ask::ReadOld),
        2 => (0..PATHS.len()).prop_map(|path| Ask::List { path }),
    ];
    let reader = prop::collection::vec((pause.clone(), ask), 1..length);
    let freshness = prop::sample::select(vec![0u64, 200, 1000]).prop_map(Duration::from_millis);
    (
        freshness,
        any::<bool>(),
        prop::collection::vec((pause, change), 1..length),
        prop::collection::vec(reader, 1..4),
    )
        .prop_map(|(freshness, wall_clock, changes, readers)| Story {
            freshness,
            wall_clock,
            changes,
            readers,
        })
}

fn body(index: usize) -> Bytes {
    match BODIES[index] {
        "long" => Bytes::from(vec![b'l'; 300_000]),
        short => Bytes::from_static(short.as_bytes()),
    }
}

async fn change_all(bucket: &Bucket, history: &History, changes: &[(u64, Change)]) {
    for (pause, change) in changes {
        tokio::time::sleep(Duration::from_millis(*pause)).await;
        let began = Instant::now();
        let mut state = history.now();
        match *change {
            Change::Put { key, body: content, mode } => {
                let (key, held) = (KEYS[key], Held { body: body(content), mode: MODES[mode] });
                bucket.put(key, &held.body, &[("mode", &held.mode.to_string())]);
                state.insert(key, held);
            }
            Change::Headers { key, mode } => {
                bucket.put_headers(KEYS[key], &[("mode", &MODES[mode].to_string())]);
                if let Some(held) = state.get_mut(KEYS[key]) {
                    held.mode = MODES[mode];
                }
            }
            Change::Delete { key } => {
                bucket.delete(KEYS[key]);
                state.remove(KEYS[key]);
            }
            Change::Clear => {
                for key in KEYS.iter().filter(|key| key.starts_with("d/")) {
                    let began = Instant::now();
                    bucket.delete(key);
                    state.remove(key);
                    history.append(began, state.clone());
                }
            }
        }
        history.append(began, state);
    }
}

/// One reader, with what it was told to believe.
struct Reader<'w> {
    tree: &'w Arc<Tree>,
    history: &'w History,
    freshness: Duration,
    believed: HashMap<(u64, String), (Instant, Seen)>,
    old: Option<(Arc<Content>, Bytes)>,
}

#[derive(Clone, Debug)]
struct Seen {
    ino: u64,
    truth: Option<(Kind, u64, u16)>,
}

impl Reader<'_> {
    async fn one(&mut self, parent: u64, path: &str) -> Seen {
        let name = path.rsplit('/').next().expect("a path has a name").to_string();
        let began = Instant::now();
        if let Some((until, seen)) = self.believed.get(&(parent, name.clone()))
            && began < *until
        {
            let seen = seen.clone();
            self.check(path, &seen, began);
            return seen;
        }
        let looked = match self.tree.lookup_now(parent, &name) {
            Some(looked) => looked,
            None => self.tree.lookup(parent, &name).await,
        };
        let (seen, valid_for) = match looked {
            Ok(Looked::Found(entry)) => {
                let known = entry.attributes;
                let truth = Some((known.kind, known.size, known.permissions));
                (Seen { ino: entry.ino, truth }, entry.valid_for)
            }
            Ok(Looked::Absent { valid_for }) => (Seen { ino: 0, truth: None }, valid_for),
            // What the number stood for has gone; the kernel would begin again.
            Err(FsError::Stale | FsError::NotDirectory) => return Seen { ino: 0, truth: None },
            Err(error) => panic!("{path}: {error}"),
        };
        self.check(path, &seen, began);
        self.believed.insert((parent, name), (Instant::now() + valid_for, seen.clone()));
        seen
    }

    fn check(&self, path: &str, seen: &Seen, began: Instant) {
        let from = began.checked_sub(self.freshness).unwrap_or(began);
        let is_file = |held: &Held| match seen.truth {
            Some((Kind::File, size, permissions)) => {
                held.body.len() as u64 == size && held.mode & 0o7777 == u32::from(permissions)
            }
            _ => false,
        };
        let is_true = |state: &State| match (truth(state, path), seen.truth) {
            (Truth::Absent, None) | (Truth::Directory, Some((Kind::Directory, ..))) => true,
            // The exception.
            (Truth::Directory, _) => state.get(path).is_some_and(is_file),
            (Truth::File(held), _) => is_file(&held),
            _ => false,
        };
        assert!(
            self.history.had(from, Instant::now(), is_true),
            "{path} was said to be {seen:?} after {:?}: {:?}",
            self.freshness,
            self.history.0.lock().expect("no test panicked")
        );
    }

    /// What is at the end of `path`, name by name.
    async fn look(&mut self, path: &str) -> Seen {
        let (mut parent, mut end) = (ROOT, 0);
        loop {
            end = path[end..].find('/').map_or(path.len(), |at| end + at);
            let seen = self.one(parent, &path[..end]).await;
            let is_directory = matches!(seen.truth, Some((Kind::Directory, ..)));
            if end == path.len() || !is_directory {
                return if end == path.len() { seen } else { Seen { ino: 0, truth: None } };
            }
            (parent, end) = (seen.ino, end + 1);
        }
    }

    async fn open(&mut self, path: &str) {
        let began = Instant::now();
        let seen = self.look(path).await;
        let Some((Kind::File, size, _)) = seen.truth else { return };
        let Ok(content) = self.tree.content(seen.ino) else { return };
        match content.read(0, 1 << 20).await {
            Ok(bytes) => {
                assert_eq!(bytes.len() as u64, size);
                let from = began.checked_sub(self.freshness).unwrap_or(began);
                let had = |state: &State| state.get(path).is_some_and(|held| held.body == bytes);
                assert!(
                    self.history.had(from, Instant::now(), had),
                    "{path} never held {size} such bytes then"
                );
                self.old.get_or_insert((content, bytes));
            }
            // Replaced between the lookup and the read.
            Err(error) => assert_eq!(error.errno(), libc::ESTALE, "{path}: {error}"),
        }
    }

    async fn read_old(&mut self) {
        let Some((content, bytes)) = &self.old else { return };
        match content.read(0, 1 << 20).await {
            Ok(again) => assert!(again == *bytes, "an open file changed"),
            Err(error) => assert_eq!(error.errno(), libc::ESTALE, "{error}"),
        }
    }

    async fn list(&mut self, path: &str) {
        let seen = self.look(path).await;
        let Some((Kind::Directory, ..)) = seen.truth else { return };
        let began = Instant::now();
        let listed = async {
            let directory = Directory::open(self.tree, seen.ino).await?;
            let (mut found, mut offset) = (BTreeSet::new(), 0);
            loop {
                let batch = directory.batch(self.tree, offset, Detail::Attributes).await?;
                let Some(last) = batch.items().last() else { return Ok(found) };
                offset = last.next_offset;
                found.extend(batch.items().iter().map(|item| item.name.to_string()));
            }
        };
        let had = |found: Option<&BTreeSet<String>>| {
            let from = began.checked_sub(self.freshness).unwrap_or(began);
            self.history.had(from, Instant::now(), |state| match found {
                Some(found) => names(state, path) == *found,
                None => truth(state, path) != Truth::Directory,
            })
        };
        match listed.await {
            Ok(mut found) => {
                found.retain(|name| name != "." && name != "..");
                assert!(had(Some(&found)), "{path} never held {found:?} then");
            }
            Err(FsError::Stale | FsError::NotDirectory) => {
                assert!(had(None), "{path} was there all the time")
            }
            Err(error) => panic!("{path}: {error}"),
        }
    }

    async fn live(&mut self, asks: &[(u64, Ask)]) {
        for (pause, ask) in asks {
            tokio::time::sleep(Duration::from_millis(*pause)).await;
            match *ask {
                Ask::Look { path } => {
                    self.look(PATHS[path]).await;
                }
                Ask::Open { path } => self.open(PATHS[path]).await,
                Ask::ReadOld => self.read_old().await,
                Ask::List { path } => self.list(PATHS[path]).await,
            }
        }
    }
}

async fn play(bucket: &Bucket, story: &Story) {
    let source = Source {
        store: bucket.store(),
        cache: Arc::new(BlockCache::new(16 << 20)),
        availability: Arc::new(Availability::default()),
        runtime: Handle::current(),
        push: Arc::default(),
    };
    let rules = Rules {
        prefix: String::new(),
        freshness: story.freshness,
        max_stale: Duration::from_secs(3600),
        defaults: DEFAULTS,
        began: Timestamp::EPOCH,
        suid: false,
    };
    let tree = Tree::new(rules, source, 4 << 20);
    let history = History(Mutex::default());
    history.append(Instant::now(), State::default());
    let readers = story.readers.iter().map(|asks| async {
        let mut reader = Reader {
            tree: &tree,
            history: &history,
            freshness: story.freshness,
            believed: HashMap::new(),
            old: None,
        };
        reader.live(asks).await;
    });
    futures::join!(change_all(bucket, &history, &story.changes), futures::future::join_all(readers));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn every_answer_was_true_less_than_freshness_ago(story in story(600, 40)) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().expect("a runtime");
        runtime.block_on(async {
            let bucket = Bucket::memory();
            if let Bucket::Memory(memory) = &bucket {
                memory.set_latency(Duration::from_millis(40));
                memory.set_clock(if story.wall_clock { Clock::Wall } else { Clock::Counted });
            }
            play(&bucket, &story).await;
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, max_shrink_iters: 0, ..ProptestConfig::default() })]
    #[test]
    fn the_same_holds_on_s3_in_real_time(stories in prop::collection::vec(story(120, 60), 16)) {
        let runtime = tokio::runtime::Runtime::new().expect("threads");
        runtime.block_on(async {
            let plays = stories.iter().map(|story| async {
                let bucket = Bucket::s3().await;
                bucket.control().set_latency(Duration::from_millis(10));
                play(&bucket, story).await;
            });
            futures::future::join_all(plays).await;
        });
    }
}
