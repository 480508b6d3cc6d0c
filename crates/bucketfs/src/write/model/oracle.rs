//! What should be so: the bucket, and the files that somebody has open, going by what every caller was told.
//!
//! What must hold: nothing here knows of drafts, records, entity tags or requests; the content of a file says which version
//! it is, because no two writes are alike.

use std::collections::BTreeMap;

/// The names that a step may use.
pub const NAMES: [&str; 3] = ["a", "b", "c"];
pub const MODE: u16 = 0o644;

/// An object, or what an open file would be as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    pub body: Vec<u8>,
    pub mode: u16,
}

impl Object {
    pub fn of(body: &[u8]) -> Object {
        Object { body: body.to_vec(), mode: MODE }
    }
}

/// Objects by the place of their name in [`NAMES`].
pub type Bucket = BTreeMap<usize, Object>;

/// What became of an open file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is to be stored under this name.
    Named(usize),
    /// Its name was taken away: only those who have it open see it.
    Orphan,
    /// It had lost a race when its name was taken away: either.
    Loose,
    /// Somebody was told that it is not stored, for good.
    Lost,
}

#[derive(Clone, Debug)]
pub struct File {
    pub fate: Fate,
    pub now: Object,
    /// The object that it is a change of; `None` for one that was made here.
    pub base: Option<Object>,
    /// Somebody else has changed the object at some time: the name may lead elsewhere since.
    pub was_raced: bool,
}

impl File {
    pub fn is_dirty(&self) -> bool {
        self.base.as_ref() != Some(&self.now)
    }
}

/// An open descriptor.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    pub ino: u64,
    pub handle: u64,
    pub writes: bool,
}

#[derive(Clone, Debug, Default)]
pub struct Oracle {
    pub bucket: Bucket,
    pub files: BTreeMap<u64, File>,
    pub slots: BTreeMap<usize, Slot>,
    /// What a step writes.
    pub written: Vec<u8>,
}

impl Oracle {
    pub fn writers(&self, ino: u64) -> usize {
        self.slots.values().filter(|slot| slot.ino == ino && slot.writes).count()
    }

    pub fn users(&self, ino: u64) -> usize {
        self.slots.values().filter(|slot| slot.ino == ino).count()
    }

    /// Whether somebody else has changed the object that an open file is a change of.
    pub fn is_raced(&self, ino: u64) -> bool {
        let Some(File { fate: Fate::Named(name), base, .. }) = self.files.get(&ino) else { return false };
        base.as_ref().map(|base| &base.body) != self.bucket.get(name).map(|object| &object.body)
    }

    /// The open file that has the name, but for one that has lost a race.
    pub fn holder(&self, name: usize) -> Option<u64> {
        let holds = |(_, file): &(&u64, &File)| file.fate == Fate::Named(name) && !file.was_raced;
        self.files.iter().find(holds).map(|(ino, _)| *ino)
    }

    /// What whoever asks for the name now is to see; `None`: nothing. A file that has lost a race and does not know yet may
    /// be seen as well.
    pub fn shown(&self, name: usize) -> Option<&Object> {
        match self.holder(name).filter(|ino| self.writers(*ino) > 0) {
            Some(ino) => Some(&self.files[&ino].now),
            None => self.bucket.get(&name),
        }
    }

    pub fn note_races(&mut self) {
        let raced: Vec<u64> = self.files.keys().copied().filter(|ino| self.is_raced(*ino)).collect();
        for ino in raced {
            self.files.entry(ino).and_modify(|file| file.was_raced = true);
        }
    }

    /// The file is in the bucket as it is.
    pub fn store(&mut self, ino: u64) {
        let Some(file) = self.files.get_mut(&ino) else { return };
        if let Fate::Named(name) = file.fate {
            file.base = Some(file.now.clone());
            self.bucket.insert(name, file.now.clone());
        }
    }

    pub fn lose(&mut self, ino: u64) {
        if let Some(file) = self.files.get_mut(&ino) {
            file.fate = Fate::Lost;
        }
    }

    /// The name is gone, whoever had it.
    pub fn take_away(&mut self, name: usize) {
        self.orphan(name, None);
        self.bucket.remove(&name);
    }

    fn orphan(&mut self, name: usize, but: Option<u64>) {
        let having = |(ino, file): (&u64, &File)| {
            (file.fate == Fate::Named(name) && Some(*ino) != but).then_some(*ino)
        };
        let held: Vec<(u64, bool)> =
            self.files.iter().filter_map(having).map(|ino| (ino, self.files[&ino].was_raced)).collect();
        for (ino, is_raced) in held {
            let fate = if is_raced { Fate::Loose } else { Fate::Orphan };
            self.files.entry(ino).and_modify(|file| file.fate = fate);
        }
    }

    /// `ino`, if somebody has it open, and its object have another name.
    pub fn rename(&mut self, ino: u64, from: usize, to: usize) {
        self.orphan(to, Some(ino));
        if let Some(object) = self.bucket.remove(&from) {
            self.bucket.insert(to, object);
        }
        for file in self.files.values_mut().filter(|file| file.fate == Fate::Named(from)) {
            file.fate = Fate::Named(to);
        }
    }

    /// Nobody has it open any more: what nobody stored is not stored.
    pub fn close(&mut self, slot: usize) {
        let Some(Slot { ino, .. }) = self.slots.remove(&slot) else { return };
        if self.users(ino) == 0 {
            self.files.remove(&ino);
        } else if self.writers(ino) == 0
            && let Some(file) = self.files.get_mut(&ino)
            && file.is_dirty()
            && matches!(file.fate, Fate::Named(_))
        {
            file.fate = Fate::Lost;
        }
    }

    /// What the bucket says of a base when somebody was not told how a request ended.
    pub fn adopt(&mut self, bucket: Bucket) {
        self.bucket = bucket;
        for file in self.files.values_mut().filter(|file| !file.was_raced) {
            let Fate::Named(name) = file.fate else { continue };
            // A write of ours that got through.
            if self.bucket.get(&name).is_some_and(|object| object.body == file.now.body) {
                file.base = self.bucket.get(&name).cloned();
            }
        }
    }
}
