//! The programs that read below a mount: processes of their own, so that a mount that hangs can be left behind.
//!
//! What must hold: every byte is compared with what must be there; the clock runs while the file system is asked
//! and stands while bytes are compared.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Barrier;
use std::time::Duration;

use anyhow::{Context, ensure};
use fastrand::Rng;
use serde::{Deserialize, Serialize};
use tokio::process::Command;
use tokio::time::Instant;

use super::timing::Timing;
use super::world::{self, Repeated};
use super::writer;

/// Bytes of one read of a sequential reader.
const SEQUENTIAL_READ: usize = 1 << 20;
pub const RANDOM_READS: usize = 500;
const RANDOM_BYTES: usize = 64 * 1024;
/// Coprime to the number of files: every file once, in no order that a listing has.
const STRIDE: usize = 137;

/// What a reading process is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Work {
    /// Opens and reads every small file by its name.
    Small { threads: usize },
    /// Reads the large object from front to back.
    Sequential,
    /// Reads [`RANDOM_READS`] pieces at random places; the same places for the same seed.
    Random { seed: u64 },
    /// Writes a large file under this name.
    Write { name: String },
    /// Makes small files in a new directory of this name.
    Create { name: String },
}

/// Has a child process do `work` below `root`.
///
/// # Errors
///
/// When it reads a wrong byte, fails, or is not done within `limit`: it is killed then.
pub async fn run(work: &Work, root: &Path, limit: Duration) -> anyhow::Result<Timing> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("read").arg(root).arg(serde_json::to_string(work)?);
    let output = output(command, limit).await?;
    Ok(serde_json::from_slice(&output)?)
}

/// What a command prints; an error if it fails or is not done within `limit`.
pub async fn output(mut command: Command, limit: Duration) -> anyhow::Result<Vec<u8>> {
    let shown = format!("{:?}", command.as_std());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command.env("RUST_BACKTRACE", "0");
    let output = tokio::time::timeout(limit, command.output());
    let output = output.await.with_context(|| format!("{shown} is not done after {limit:?}"))??;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{shown}: {}: {}", output.status, said.trim());
    Ok(output.stdout)
}

/// What the hidden subcommand `read` does.
pub fn work(root: &Path, work: &Work) -> anyhow::Result<Timing> {
    match work {
        Work::Small { threads } => small(&root.join(world::SMALL_DIRECTORY), *threads),
        Work::Sequential => sequential(root, &world::LARGE),
        Work::Random { seed } => random(root, &world::HALF, *seed),
        Work::Write { name } => writer::sequential(root, name),
        Work::Create { name } => writer::create(root, name),
    }
}

fn small(directory: &Path, threads: usize) -> anyhow::Result<Timing> {
    let start = Barrier::new(threads);
    let read = |thread: usize| -> anyhow::Result<(Instant, Instant, Vec<Duration>)> {
        let order = (0..world::SMALL_FILES).map(|index| index * STRIDE % world::SMALL_FILES);
        let files: Vec<(PathBuf, Vec<u8>)> = order
            .skip(thread)
            .step_by(threads)
            .map(|index| (directory.join(world::small_name(index)), world::small_content(index)))
            .collect();
        start.wait();
        let begun = Instant::now();
        let mut parts = Vec::with_capacity(files.len());
        for (path, expected) in files {
            let opened = Instant::now();
            let found = std::fs::read(&path).with_context(|| format!("{path:?}"))?;
            parts.push(opened.elapsed());
            ensure!(found == expected, "{path:?} holds wrong bytes");
        }
        Ok((begun, Instant::now(), parts))
    };
    let read = &read;
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|thread| scope.spawn(move || read(thread))).collect();
        running.into_iter().map(|thread| thread.join().expect("readers do not panic")).collect()
    });
    let outcomes = outcomes.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    let begun = outcomes.iter().map(|(begun, ..)| *begun).min().context("no thread")?;
    let ended = outcomes.iter().map(|(_, ended, _)| *ended).max().context("no thread")?;
    Ok(Timing::of(ended - begun, outcomes.into_iter().flat_map(|(.., parts)| parts).collect()))
}

fn sequential(root: &Path, object: &Repeated) -> anyhow::Result<Timing> {
    let pattern = object.pattern();
    let path = root.join(object.key);
    let mut buffer = vec![0; SEQUENTIAL_READ];
    let mut parts = Vec::new();
    let begun = Instant::now();
    let file = File::open(&path)?;
    let mut total = begun.elapsed();
    let mut offset = 0;
    loop {
        let asked = Instant::now();
        let length = file.read_at(&mut buffer, offset)?;
        let took = asked.elapsed();
        total += took;
        if length == 0 {
            break;
        }
        parts.push(took);
        ensure!(world::matches(&pattern, offset, &buffer[..length]), "{path:?} is wrong at {offset}");
        offset += length as u64;
    }
    ensure!(offset == object.length, "{path:?} ends after {offset} of {} bytes", object.length);
    Ok(Timing::of(total, parts))
}

fn random(root: &Path, object: &Repeated, seed: u64) -> anyhow::Result<Timing> {
    let pattern = object.pattern();
    let path = root.join(object.key);
    let mut numbers = Rng::with_seed(seed);
    let mut buffer = vec![0; RANDOM_BYTES];
    let mut parts = Vec::with_capacity(RANDOM_READS);
    let begun = Instant::now();
    let file = File::open(&path)?;
    let mut total = begun.elapsed();
    for _ in 0..RANDOM_READS {
        let offset = numbers.u64(..object.length - RANDOM_BYTES as u64);
        let asked = Instant::now();
        file.read_exact_at(&mut buffer, offset)?;
        let took = asked.elapsed();
        total += took;
        parts.push(took);
        ensure!(world::matches(&pattern, offset, &buffer), "{path:?} is wrong at {offset}");
    }
    Ok(Timing::of(total, parts))
}
