//! What a writing process does below a mount, and how it is timed.
//!
//! What must hold: the clock stops when the file system has said that the bytes are safe (`fsync` and `close` have
//! returned); what was written is read back and compared outside of the clock.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::time::Instant;

use super::timing::Timing;
use super::world::{self, Repeated};

/// The file that is written from front to back.
pub const WRITTEN: Repeated = Repeated { key: "written", length: 256 << 20, seed: 3 };
/// Bytes of one write.
const WRITE_BYTES: usize = 1 << 20;
/// Files that are made.
pub const CREATED: usize = 50;

/// Writes [`WRITTEN`] under `name`, with `fsync` and `close`.
pub fn sequential(root: &Path, name: &str) -> anyhow::Result<Timing> {
    let (pattern, path) = (WRITTEN.pattern(), root.join(name));
    let bytes: Vec<u8> = pattern.iter().copied().cycle().take(pattern.len() + WRITE_BYTES).collect();
    let begun = Instant::now();
    let mut file = File::create(&path)?;
    let mut at = 0;
    while at < WRITTEN.length {
        let from = (at % pattern.len() as u64) as usize;
        file.write_all(&bytes[from..from + WRITE_BYTES])?;
        at += WRITE_BYTES as u64;
    }
    // Not every file system can, and then closing has to do.
    let _ = file.sync_all();
    drop(file);
    let timing = Timing::of(begun.elapsed(), Vec::new());
    let (mut file, mut buffer, mut at) = (File::open(&path)?, vec![0; WRITE_BYTES], 0);
    loop {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            break;
        }
        ensure!(world::matches(&pattern, at, &buffer[..length]), "{path:?} is wrong at {at}");
        at += length as u64;
    }
    ensure!(at == WRITTEN.length, "{path:?} ends after {at} bytes");
    drop(file);
    std::fs::remove_file(&path)?;
    Ok(timing)
}

/// Makes [`CREATED`] files of 4 KiB in a new directory `name`.
pub fn create(root: &Path, name: &str) -> anyhow::Result<Timing> {
    let directory = root.join(name);
    std::fs::create_dir(&directory).with_context(|| format!("{directory:?}"))?;
    let mut parts: Vec<Duration> = Vec::with_capacity(CREATED);
    let begun = Instant::now();
    for index in 0..CREATED {
        let (path, content) = (directory.join(world::small_name(index)), world::small_content(index));
        let made = Instant::now();
        let mut file = File::create(&path)?;
        file.write_all(&content)?;
        drop(file);
        parts.push(made.elapsed());
    }
    Ok(Timing::of(begun.elapsed(), parts))
}
