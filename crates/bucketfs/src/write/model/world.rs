//! A mount without a kernel: makes the calls that the kernel would make, and compares.
//!
//! What must hold: a step that is killed is asked for once more of whoever goes on, as the kernel does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tokio::runtime::Handle;

use super::calls::{Mount, Outcome, Told};
use super::oracle::{Bucket, Fate, MODE, NAMES, Object, Oracle};
use super::step::{Op, SLOTS, Step};
use super::store::{Fault, Faulty};
use super::verdict::possible;
use crate::attr::{Defaults, Timestamp};
use crate::cache::BlockCache;
use crate::error::FsError;
use crate::health::Availability;
use crate::read::Source;
use crate::store::memory::Memory;
use crate::store::{Condition, Fetch, Fetched, ObjectStore};
use crate::tree::{Rules, Tree};
use crate::write::{OnConflict, Owner, WriteOptions, Writing};

const MEMORY: u64 = 64 << 20;
/// Between a step and a look at it: no two things happen at one moment.
const TICK: Duration = Duration::from_millis(1);

pub struct World {
    store: Faulty,
    tree: Arc<Tree>,
    staging: tempfile::TempDir,
    writing: Arc<Writing>,
    oracle: Oracle,
    /// Makes no two writes alike.
    count: u32,
}

fn tree(store: &Faulty) -> Arc<Tree> {
    let source = Source {
        store: Arc::new(store.clone()),
        cache: Arc::new(BlockCache::new(1 << 20)),
        availability: Arc::new(Availability::default()),
        runtime: Handle::current(),
        push: Arc::default(),
    };
    let rules = Rules {
        prefix: "p/".into(),
        freshness: Duration::ZERO,
        max_stale: Duration::ZERO,
        defaults: Defaults { uid: 0, gid: 0, file_permissions: MODE, directory_permissions: 0o755 },
        began: Timestamp::EPOCH,
        suid: false,
    };
    Tree::new(rules, source, 4 << 20)
}

fn owner() -> Owner {
    Owner { source: "s3://bucket/p".into(), mount_point: "/srv/maps".into() }
}

fn key(name: usize) -> String {
    format!("p/{}", NAMES[name])
}

impl World {
    pub fn new() -> World {
        let store = Faulty::new(Memory::default());
        let tree = tree(&store);
        let staging = tempfile::tempdir().expect("a directory");
        let options = WriteOptions {
            staging: staging.path().into(),
            on_conflict: OnConflict::Fail,
            remove_hidden: false,
        };
        let writing = Writing::new(tree.clone(), &options, owner(), MEMORY).expect("it begins");
        World { store, tree, staging, writing, oracle: Oracle::default(), count: 0 }
    }

    fn options(&self) -> WriteOptions {
        WriteOptions {
            staging: self.staging.path().into(),
            on_conflict: OnConflict::Fail,
            remove_hidden: false,
        }
    }

    pub async fn step(&mut self, step: &Step) -> Result<(), String> {
        self.count += 1;
        tokio::time::advance(TICK).await;
        match step.op {
            Op::Restart => self.killed().await,
            Op::Remount => self.remounted().await,
            Op::Replace { name } => {
                let body = format!("{:05}.", self.count).into_bytes();
                self.store.inner.put(&key(name), body.clone(), &[]);
                self.oracle.bucket.insert(name, Object::of(&body));
            }
            Op::Remove { name } => {
                self.store.inner.delete(&key(name));
                self.oracle.bucket.remove(&name);
            }
            _ => self.call(step).await?,
        }
        self.oracle.note_races();
        self.compare().await
    }

    /// Closes all that is open, ends the mount, and looks what is left.
    pub async fn end(&mut self) -> Result<(), String> {
        for slot in 0..SLOTS {
            let step = Step { op: Op::Close { slot }, fault: None };
            self.step(&step).await.map_err(|differs| format!("at the end, {step:?}: {differs}"))?;
        }
        self.writing.finish().await;
        self.compare().await.map_err(|differs| format!("at the end: {differs}"))?;
        match (self.writing.open_files(), self.store.inner.uploads().as_slice()) {
            (0, []) => Ok(()),
            (open, uploads) => Err(format!("{open} files stay open, and uploads: {uploads:?}")),
        }
    }

    fn mount(&self) -> Mount<'_> {
        Mount { tree: &self.tree, writing: &self.writing }
    }

    async fn call(&mut self, step: &Step) -> Result<(), String> {
        let makes = matches!(step.op, Op::Open { .. } | Op::CreateNew { .. });
        // Which descriptor an opening has made is known only to whoever was told.
        let fault = step.fault.filter(|(_, fault)| !(makes && fault.kills()));
        self.oracle.written = format!("{:05}.", self.count).into_bytes();
        let ino = match self.mount().find(&step.op).await {
            Ok(ino) => ino,
            Err(error) => return self.judge((&step.op, 0), Err(error), None).await,
        };
        self.store.arm(fault);
        let mount = self.mount();
        let asked = tokio::select! {
            outcome = mount.ask(&step.op, ino, &self.oracle) => Some(outcome),
            // Before what is asked is dropped: no destructor takes anything from the disk.
            () = async { self.store.held().await; self.writing.staging.die(); } => None,
        };
        let came = self.store.arm(None) && fault.is_some();
        let outcome = match asked {
            Some(outcome) => outcome,
            None => {
                self.killed().await;
                match (&step.op, self.mount().ask(&step.op, ino, &self.oracle).await) {
                    // As the adapter answers what a process before may have done.
                    (Op::Unlink { .. } | Op::Rename { .. }, Err(FsError::NotFound)) => Ok(Told::To(ino)),
                    (_, outcome) => outcome,
                }
            }
        };
        let fault = fault.map(|(_, fault)| fault).filter(|fault| came && !fault.kills());
        self.judge((&step.op, ino), outcome, fault).await
    }

    /// Believes of all that may be so what is in the bucket.
    async fn judge(
        &mut self,
        (op, ino): (&Op, u64),
        outcome: Outcome,
        fault: Option<Fault>,
    ) -> Result<(), String> {
        let told = format!("told {outcome:?}");
        let possible = possible(&self.oracle, (op, ino), &outcome, fault)?;
        let bucket = self.bucket().await;
        let Some(now) = possible.iter().find(|oracle| oracle.bucket == bucket) else {
            let expected: Vec<&Bucket> = possible.iter().map(|oracle| &oracle.bucket).collect();
            return Err(format!("{told}, the bucket has {bucket:?}, and not one of {expected:?}"));
        };
        // The kernel lets go of what it looked up to open it.
        let closed = if let Op::Close { slot } = op { self.oracle.slots.get(slot).copied() } else { None };
        self.oracle = now.clone();
        self.oracle.adopt(bucket);
        closed.inspect(|slot| self.tree.forget(slot.ino, 1));
        Ok(())
    }

    /// Kills the process, and starts the one that goes on.
    async fn killed(&mut self) {
        let session = self.writing.session().to_string();
        self.writing.staging.die();
        let resumed = Writing::resume(self.tree.clone(), &self.options(), owner(), MEMORY, &session).await;
        self.writing = resumed.expect("it goes on");
    }

    /// The host has lost its power: nobody has anything open any more.
    async fn remounted(&mut self) {
        self.writing.staging.die();
        self.tree = tree(&self.store);
        let writing = Writing::new(self.tree.clone(), &self.options(), owner(), MEMORY).expect("it begins");
        self.writing = writing;
        self.writing.cleared().await;
        (self.oracle.files, self.oracle.slots) = Default::default();
    }

    async fn bucket(&self) -> Bucket {
        let mut bucket = BTreeMap::new();
        for name in 0..NAMES.len() {
            let fetch =
                Fetch { key: &key(name), range: None, condition: Condition::Always, version_id: None };
            let Ok(Fetched::Content { object, mut body, .. }) = self.store.inner.fetch(fetch).await else {
                continue;
            };
            let mut bytes = Vec::new();
            while let Some(piece) = body.next().await {
                bytes.extend_from_slice(&piece.expect("whole"));
            }
            let mode = object.metadata.iter().find(|(name, _)| name == "mode");
            let mode = mode.map_or(MODE, |(_, mode)| mode.parse::<u32>().expect("a number") as u16 & 0o7777);
            bucket.insert(name, Object { body: bytes, mode });
        }
        bucket
    }

    async fn compare(&self) -> Result<(), String> {
        tokio::time::advance(TICK).await;
        let bucket = self.bucket().await;
        if bucket != self.oracle.bucket {
            return Err(format!("the bucket has {bucket:?}, and not {:?}", self.oracle.bucket));
        }
        for (name, text) in NAMES.iter().enumerate() {
            self.compare_name(name).await.map_err(|differs| format!("{text}: {differs}"))?;
        }
        for (at, slot) in &self.oracle.slots {
            let file = &self.oracle.files[&slot.ino];
            if matches!(file.fate, Fate::Lost | Fate::Loose) || file.was_raced {
                continue;
            }
            let read = self.mount().read(slot.ino).await;
            if !matches!(&read, Ok(bytes) if *bytes == file.now.body) {
                return Err(format!("descriptor {at} reads {read:?}, and not {file:?}"));
            }
            let size = self.mount().size(slot.ino).await;
            if !matches!(size, Ok(size) if size == file.now.body.len() as u64) {
                return Err(format!("descriptor {at} has the size {size:?}, and not that of {file:?}"));
            }
        }
        Ok(())
    }

    async fn compare_name(&self, name: usize) -> Result<(), String> {
        let found = self.mount().look(name).await.map_err(|error| format!("{error:?}"))?;
        let Some(entry) = found else {
            let wanted = self.oracle.shown(name);
            return wanted.map_or(Ok(()), |wanted| Err(format!("is not shown, and should be {wanted:?}")));
        };
        let read = match self.mount().read(entry.ino).await {
            // What was not brought here in time is nowhere any more.
            Err(_) if self.oracle.files.get(&entry.ino).is_some_and(|file| file.was_raced) => return Ok(()),
            read => read.map_err(|error| format!("{error:?}"))?,
        };
        let shown = Object { body: read, mode: entry.attributes.permissions };
        let own = self.oracle.files.get(&entry.ino).filter(|file| file.fate == Fate::Named(name));
        let is_own = own.is_some_and(|file| file.now == shown);
        let wanted = own.filter(|_| self.oracle.writers(entry.ino) > 0).map(|file| &file.now);
        let wanted = wanted.or(self.oracle.shown(name));
        let is_size = entry.attributes.size == shown.body.len() as u64;
        if (wanted == Some(&shown) || is_own) && is_size {
            return Ok(());
        }
        Err(format!("shows {shown:?} of {} bytes, and not {wanted:?}", entry.attributes.size))
    }
}
