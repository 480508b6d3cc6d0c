//! What is in the bucket, and what a reader must therefore see.
//!
//! Everything follows from numbers, so the server, the readers and the checks agree without telling each other.
//! What must hold: a reader's wrong offset, wrong file or stale byte cannot look right. So contents have no
//! period that a block size divides.

use std::path::Path;

use anyhow::Context;
use bytes::Bytes;
use fastrand::Rng;
use s3_testbed::{Content, Store};

pub const BUCKET: &str = "bench";

pub const SMALL_DIRECTORY: &str = "small";
pub const SMALL_FILES: usize = 500;
pub const SMALL_BYTES: usize = 4096;

pub const LARGE: Repeated = Repeated { key: "large/sequential.bin", length: 1 << 30, seed: 1 };
pub const HALF: Repeated = Repeated { key: "large/random.bin", length: 512 << 20, seed: 2 };

pub const LIST_DIRECTORY: &str = "list";
pub const LIST_FILES: usize = 10_000;

/// Length of the pattern of a large object: a prime, so that no two blocks at different offsets are equal.
const PATTERN_BYTES: usize = 1_048_573;

/// A large object that takes no memory: its pattern again and again.
#[derive(Clone, Copy, Debug)]
pub struct Repeated {
    pub key: &'static str,
    pub length: u64,
    pub seed: u64,
}

/// Pseudo-random bytes, the same in every process.
fn random(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    Rng::with_seed(seed).fill(&mut bytes);
    bytes
}

impl Repeated {
    pub fn pattern(&self) -> Vec<u8> {
        random(self.seed, PATTERN_BYTES)
    }
}

/// Whether `bytes`, found at `offset`, are those of an object made of `pattern`.
pub fn matches(pattern: &[u8], offset: u64, bytes: &[u8]) -> bool {
    let mut rest = bytes;
    let mut at = (offset % pattern.len() as u64) as usize;
    while !rest.is_empty() {
        let length = rest.len().min(pattern.len() - at);
        if rest[..length] != pattern[at..at + length] {
            return false;
        }
        rest = &rest[length..];
        at = 0;
    }
    true
}

/// The name of small file `index` in its directory.
pub fn small_name(index: usize) -> String {
    format!("layer-{index:03}.map")
}

pub fn small_content(index: usize) -> Vec<u8> {
    random(1_000 + index as u64, SMALL_BYTES)
}

/// One object of the directory that is listed, as `ls -ln` shows it when its headers are honoured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListEntry {
    pub name: String,
    pub size: u64,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: u64,
}

pub fn list_entry(index: usize) -> ListEntry {
    ListEntry {
        name: format!("sheet-{index:05}.tif"),
        size: 100 + (index % 900) as u64,
        mode: if index.is_multiple_of(2) { 0o100_640 } else { 0o100_604 },
        uid: 1_000 + (index % 7) as u32,
        gid: 2_000 + (index % 5) as u32,
        mtime: 1_600_000_000 + 60 * index as u64,
    }
}

/// Puts all objects into `store`; those of `maps`, a directory, under `wms/`.
pub fn fill(store: &Store, maps: Option<&Path>) -> anyhow::Result<()> {
    for index in 0..SMALL_FILES {
        let key = format!("{SMALL_DIRECTORY}/{}", small_name(index));
        store.put(BUCKET, &key, small_content(index), &[])?;
    }
    for object in [LARGE, HALF] {
        let content = Content::Repeated { pattern: object.pattern().into(), length: object.length };
        store.put(BUCKET, object.key, content, &[])?;
    }
    for entry in (0..LIST_FILES).map(list_entry) {
        let number = |value: u64| value.to_string();
        let (mode, mtime) = (number(entry.mode.into()), number(entry.mtime));
        let (uid, gid) = (number(entry.uid.into()), number(entry.gid.into()));
        let headers = [("mode", &*mode), ("uid", &uid), ("gid", &gid), ("mtime", &mtime)];
        let body = vec![b'.'; entry.size as usize];
        store.put(BUCKET, &format!("{LIST_DIRECTORY}/{}", entry.name), body, &headers)?;
    }
    let Some(maps) = maps else { return Ok(()) };
    for file in std::fs::read_dir(maps)? {
        let file = file?;
        let name = file.file_name().into_string().ok().context("a map file's name is not UTF-8")?;
        let body: Bytes = std::fs::read(file.path())?.into();
        store.put(BUCKET, &format!("wms/{name}"), body, &[])?;
    }
    Ok(())
}
