//! The phases: what is read, and what each reading costs.
//!
//! A scenario mounts a peer afresh and goes through its phases on that mount: the first one finds nothing cached,
//! the second one everything that the first has left behind.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::ValueEnum;
use tokio::process::Command;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::peer::{Access, Mounted, Peer, Recipe};
use super::reader::{self, RANDOM_READS, Work};
use super::server::{Counters, Server};
use super::timing::Timing;
use super::{maps, world, writer};

/// Longest time for a phase of one peer.
const PHASE_LIMIT: Duration = Duration::from_secs(180);

/// Phases that share a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Scenario {
    /// Open and read 500 unknown files of 4 KiB, one after the other; then again
    Small,
    /// The same with 8 threads in one directory
    Threads,
    /// Read 1 GiB from front to back; then again
    Sequential,
    /// 500 random reads of 64 KiB in an object of 512 MiB; then the same again
    Random,
    /// `ls -l` of 10,000 objects with headers; then again
    List,
    /// 100 WMS GetMap requests through MapServer on a raster of 300 MB; then again
    Wms,
    /// Write 256 MiB from front to back, fsync and close
    Write,
    /// Make 50 files of 4 KiB in a new directory
    Create,
}

/// One row of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    SmallCold,
    SmallWarm,
    Threads,
    SequentialCold,
    SequentialWarm,
    RandomCold,
    RandomWarm,
    ListCold,
    ListWarm,
    WmsCold,
    WmsWarm,
    Write,
    Create,
}

impl Phase {
    pub fn title(self) -> &'static str {
        match self {
            Phase::SmallCold => "500 unknown 4 KiB files, each",
            Phase::SmallWarm => "the same again, each",
            Phase::Threads => "500 unknown files, 8 threads, in all",
            Phase::SequentialCold => "sequential 1 GiB, cold",
            Phase::SequentialWarm => "sequential 1 GiB, warm",
            Phase::RandomCold => "500 random 64 KiB reads, cold, in all",
            Phase::RandomWarm => "the same again, in all",
            Phase::ListCold => "`ls -l` of 10,000 objects, cold",
            Phase::ListWarm => "`ls -l` of 10,000 objects, warm",
            Phase::WmsCold => "100 GetMap, cold, each",
            Phase::WmsWarm => "100 GetMap, warm, each",
            Phase::Write => "sequential write of 256 MiB, durable",
            Phase::Create => "50 new 4 KiB files, each",
        }
    }

    /// How often the phase runs on one mount; the quickest counts. More than once where the kernel's page cache is
    /// what is measured: a kernel that takes idle pages back between two passes says nothing of a file system.
    fn passes(self) -> usize {
        match self {
            Phase::SequentialWarm | Phase::RandomWarm => 3,
            _ => 1,
        }
    }

    /// `seconds` in all, in the unit that the title asks for.
    pub fn shown(self, seconds: f64) -> String {
        match self {
            Phase::SmallCold | Phase::SmallWarm => each(seconds, world::SMALL_FILES),
            Phase::WmsCold | Phase::WmsWarm => each(seconds, maps::MAPS),
            Phase::Create => each(seconds, writer::CREATED),
            Phase::Write => format!("{:.0} MB/s", writer::WRITTEN.length as f64 / seconds / 1e6),
            Phase::SequentialCold | Phase::SequentialWarm => {
                format!("{:.0} MB/s", world::LARGE.length as f64 / seconds / 1e6)
            }
            _ => format!("{seconds:.3} s"),
        }
    }
}

fn each(seconds: f64, count: usize) -> String {
    format!("{:.3} ms", seconds * 1e3 / count as f64)
}

/// What one phase of one peer took, once.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    pub timing: Timing,
    /// Nothing for the local disk, which asks nobody.
    pub cost: Option<Cost>,
}

#[derive(Clone, Debug)]
pub struct Cost {
    pub counters: Counters,
    pub cpu_seconds: f64,
    pub peak_rss_bytes: u64,
}

/// Who reads: a peer's mount, or the same files on the local disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    Local,
    Peer(Peer),
}

impl Subject {
    pub fn name(self) -> &'static str {
        match self {
            Subject::Local => "local disk",
            Subject::Peer(peer) => peer.name(),
        }
    }
}

/// What all scenarios need.
pub struct Bench {
    pub server: Server,
    pub mapkeeper: PathBuf,
    /// Options of mapkeeper from the command line.
    pub options: Vec<String>,
    pub maps: Option<PathBuf>,
    /// What MapServer draws from the local disk, by the number of the round.
    pub drawn: Mutex<BTreeMap<u64, Vec<u64>>>,
    pub scratch: tempfile::TempDir,
    /// Names that have been given to what is written.
    pub names: AtomicU64,
}

impl Bench {
    /// Runs a scenario once.
    ///
    /// # Errors
    ///
    /// When the peer does not mount, reads a wrong byte, fails, or takes too long; nothing stays mounted.
    pub async fn run(
        &self,
        scenario: Scenario,
        subject: Subject,
        round: u64,
    ) -> anyhow::Result<Vec<(Phase, Sample)>> {
        let peer = match subject {
            Subject::Local => return self.local(round).await,
            Subject::Peer(peer) => peer,
        };
        let mounted = Mounted::new(peer, &self.recipe(scenario)).await?;
        let measured = self.phases(scenario, peer, &mounted, round).await;
        let unmounted = mounted.unmount().await;
        let measured = measured?;
        unmounted.map(|()| measured)
    }

    async fn phases(
        &self,
        scenario: Scenario,
        peer: Peer,
        mounted: &Mounted,
        round: u64,
    ) -> anyhow::Result<Vec<(Phase, Sample)>> {
        let names = match scenario {
            Scenario::Small => vec![Phase::SmallCold, Phase::SmallWarm],
            Scenario::Threads => vec![Phase::Threads],
            Scenario::Sequential => vec![Phase::SequentialCold, Phase::SequentialWarm],
            Scenario::Random => vec![Phase::RandomCold, Phase::RandomWarm],
            Scenario::List => vec![Phase::ListCold, Phase::ListWarm],
            Scenario::Wms => vec![Phase::WmsCold, Phase::WmsWarm],
            Scenario::Write => vec![Phase::Write],
            Scenario::Create => vec![Phase::Create],
        };
        let mut samples = Vec::new();
        for phase in names {
            let mut best: Option<Sample> = None;
            for _ in 0..phase.passes() {
                let sample = self.sample(scenario, peer, mounted, round).await;
                let sample = sample.with_context(|| phase.title())?;
                if best.as_ref().is_none_or(|best| sample.timing.seconds < best.timing.seconds) {
                    best = Some(sample);
                }
            }
            samples.extend(best.map(|best| (phase, best)));
        }
        Ok(samples)
    }

    /// Reads once and says what it took.
    async fn sample(
        &self,
        scenario: Scenario,
        peer: Peer,
        mounted: &Mounted,
        round: u64,
    ) -> anyhow::Result<Sample> {
        self.server.reset().await?;
        mounted.forget_peak()?;
        let before = mounted.usage()?;
        let timing = self.read(scenario, peer, &mounted.path(), round).await?;
        let counters = self.server.counters_when_idle().await?;
        let after = mounted.usage()?;
        let cpu_seconds = after.cpu_seconds - before.cpu_seconds;
        let cost = Cost { counters, cpu_seconds, peak_rss_bytes: after.peak_rss_bytes };
        Ok(Sample { timing, cost: Some(cost) })
    }

    async fn read(&self, scenario: Scenario, peer: Peer, root: &Path, round: u64) -> anyhow::Result<Timing> {
        let work = match scenario {
            Scenario::List => return list(root, peer).await,
            Scenario::Wms => return self.maps(&root.join("wms"), round).await,
            Scenario::Small => Work::Small { threads: 1 },
            Scenario::Threads => Work::Small { threads: 8 },
            Scenario::Sequential => Work::Sequential,
            Scenario::Random => Work::Random { seed: 100 + round },
            Scenario::Write => Work::Write { name: self.fresh_name() },
            Scenario::Create => Work::Create { name: self.fresh_name() },
        };
        reader::run(&work, root, PHASE_LIMIT).await
    }

    /// A name that nobody has used yet.
    fn fresh_name(&self) -> String {
        format!("new-{}", self.names.fetch_add(1, Ordering::Relaxed))
    }

    /// Draws the maps of this round, which must be those that the local disk gives.
    async fn maps(&self, directory: &Path, round: u64) -> anyhow::Result<Timing> {
        let expected = self.reference(round).await?;
        let configuration = maps::configuration(self.scratch.path())?;
        let (timing, found) = maps::requests(directory, &configuration, round).await?;
        ensure!(found == expected, "MapServer draws other maps from {directory:?} than from the local disk");
        Ok(timing)
    }

    /// What MapServer draws from the local disk in this round.
    async fn reference(&self, round: u64) -> anyhow::Result<Vec<u64>> {
        let mut drawn = self.drawn.lock().await;
        if let Some(hashes) = drawn.get(&round) {
            return Ok(hashes.clone());
        }
        let local = self.maps.as_deref().context("the maps were made when this phase was chosen")?;
        let configuration = maps::configuration(self.scratch.path())?;
        let (_, hashes) = maps::requests(local, &configuration, round).await?;
        drawn.insert(round, hashes.clone());
        Ok(hashes)
    }

    async fn local(&self, round: u64) -> anyhow::Result<Vec<(Phase, Sample)>> {
        let local = self.maps.as_deref().context("the maps were made when this phase was chosen")?;
        self.reference(round).await?;
        maps::drop_pages(local)?;
        let mut samples = Vec::new();
        for phase in [Phase::WmsCold, Phase::WmsWarm] {
            let timing = self.maps(local, round).await?;
            samples.push((phase, Sample { timing, cost: None }));
        }
        Ok(samples)
    }

    fn recipe(&self, scenario: Scenario) -> Recipe {
        let mut options = match scenario {
            Scenario::Wms | Scenario::Write | Scenario::Create => Vec::new(),
            _ => vec!["freshness=60s".to_string()],
        };
        options.extend(self.options.iter().cloned());
        let endpoint = self.server.endpoint().to_string();
        let access = match scenario {
            Scenario::Write | Scenario::Create => Access::Write,
            _ => Access::Read,
        };
        Recipe { mapkeeper: self.mapkeeper.clone(), endpoint, options, access }
    }
}

/// `ls -ln`, and whether it shows what is there.
async fn list(root: &Path, peer: Peer) -> anyhow::Result<Timing> {
    let mut command = Command::new("ls");
    command.env("LC_ALL", "C").args(["-ln", "--time-style=+%s"]).arg(root.join(world::LIST_DIRECTORY));
    let begun = Instant::now();
    let output = reader::output(command, PHASE_LIMIT).await?;
    let took = begun.elapsed();
    let text = String::from_utf8(output)?;
    let mut lines = text.lines().skip_while(|line| line.starts_with("total "));
    for entry in (0..world::LIST_FILES).map(world::list_entry) {
        let line = lines.next().with_context(|| format!("{:?} is not listed", entry.name))?;
        let fields: Vec<&str> = line.split_whitespace().collect();
        let &[mode, _, uid, gid, size, mtime, name] = fields.as_slice() else {
            anyhow::bail!("{line:?} is no line of ls -ln");
        };
        let bare = name == entry.name && size == entry.size.to_string();
        let owner = (uid, gid) == (&*entry.uid.to_string(), &*entry.gid.to_string());
        let times = mtime == entry.mtime.to_string();
        let mode = mode.get(..10) == Some(if entry.mode & 0o40 != 0 { "-rw-r-----" } else { "-rw----r--" });
        let right = bare && (!peer.shows_headers() || (owner && times && mode));
        ensure!(right, "{line:?} is listed for {entry:?}");
    }
    ensure!(lines.next().is_none(), "more is listed than there is");
    Ok(Timing { seconds: took.as_secs_f64(), ..Timing::default() })
}

impl Scenario {
    /// What is read in parts, so that the median and the 99th percentile of one part say something.
    pub fn parts(phase: Phase) -> Option<usize> {
        match phase {
            Phase::SmallCold | Phase::SmallWarm | Phase::Threads => Some(world::SMALL_FILES),
            Phase::RandomCold | Phase::RandomWarm => Some(RANDOM_READS),
            Phase::WmsCold | Phase::WmsWarm => Some(maps::MAPS),
            Phase::Create => Some(writer::CREATED),
            _ => None,
        }
    }
}
