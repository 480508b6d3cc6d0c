//! mapkeeper beside s3fs and rclone: the same S3 server, the same files, the same run.
//!
//! ```text
//!   this process --starts--> S3 server (`serve`: counts requests, adds latency)
//!        |                        ^
//!        +--starts--> a peer -----'      mounted afresh for each scenario
//!        |              ^
//!        '--starts--> a reader (`read`, ls, mapserv): checks every byte
//! ```
//!
//! Peers take turns (A B C A B C), so that whatever else the machine does meets all of them. It needs root,
//! `/dev/fuse` and the peers; `make bench` installs them. It is for people: how long something takes is no test.

mod maps;
mod peer;
mod phase;
mod reader;
mod report;
mod server;
mod timing;
mod world;
mod writer;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{CommandFactory, Parser, Subcommand, ValueEnum};

use peer::Peer;
use phase::{Bench, Scenario, Subject};
use report::Results;
use server::Server;

/// Compares mapkeeper with other file systems over S3
///
/// Every phase runs on each peer in turn, against one S3 server in a process of its own, with the latency asked
/// for added to every request. What is read is compared byte by byte. The tables on standard output are
/// Markdown: medians of all rounds, and for each phase the requests that the server counted, the bytes it sent,
/// and the processor time and peak memory of the process that serves the mount. Needs root and /dev/fuse.
#[derive(Debug, Parser)]
#[command(name = "peers", after_help = EXAMPLES)]
struct Arguments {
    /// How often everything is done
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,
    /// Phases to run, separated by commas; all without it
    #[arg(long, value_name = "PHASE", value_delimiter = ',')]
    only: Vec<Scenario>,
    /// Who takes part
    #[arg(long, value_name = "PEER", value_delimiter = ',', default_values = ["mapkeeper", "s3fs", "rclone"])]
    peers: Vec<Peer>,
    /// Latencies in milliseconds that are added to each request, one table for each
    #[arg(long, value_name = "MS", value_delimiter = ',', default_values = ["0", "20"])]
    latency: Vec<u64>,
    /// The mapkeeper to measure; without it the one that cargo has just built
    #[arg(long, value_name = "FILE", default_value = env!("CARGO_BIN_EXE_mapkeeper"))]
    mapkeeper: PathBuf,
    /// Further options of mapkeeper's mounts, `memory=256MiB` for example
    #[arg(short, long, value_name = "OPTION")]
    options: Vec<String>,
    /// Also put the tables into this document, in the place of the last ones
    #[arg(long, value_name = "FILE")]
    update: Option<PathBuf>,
    /// What cargo passes to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
    #[command(subcommand)]
    part: Option<Part>,
}

const EXAMPLES: &str = "\
Examples:
  cargo bench --bench peers -- --only random,sequential --rounds 3 --latency 20
  cargo bench --bench peers -- --peers mapkeeper -o memory=256MiB
  make bench BENCH_FLAGS='--update docs/performance.md'";

/// The other processes of a run.
#[derive(Debug, Subcommand)]
enum Part {
    #[command(hide = true)]
    Serve { maps: Option<PathBuf> },
    #[command(hide = true)]
    Read { root: PathBuf, work: String },
}

fn main() -> anyhow::Result<ExitCode> {
    if std::env::args_os().len() == 1 {
        // `cargo test --all-targets` calls it so, and means a test; cargo bench passes a flag.
        Arguments::command().print_help()?;
        return Ok(ExitCode::SUCCESS);
    }
    let arguments = Arguments::parse();
    match &arguments.part {
        Some(Part::Serve { maps }) => server::serve(maps.as_deref())?,
        Some(Part::Read { root, work }) => {
            let timing = reader::work(root, &serde_json::from_str(work)?)?;
            println!("{}", serde_json::to_string(&timing)?);
        }
        None => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            return runtime.block_on(async {
                // Both arms are cancel-safe: what is mounted or running ends with what is dropped here.
                tokio::select! {
                    outcome = compare(&arguments) => outcome,
                    _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
                }
            });
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn compare(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let scenarios = match arguments.only.as_slice() {
        [] => Scenario::value_variants(),
        only => only,
    };
    let maps = if scenarios.contains(&Scenario::Wms) { Some(maps::make(&cache()?).await?) } else { None };
    let bench = Bench {
        server: Server::start(maps.as_deref()).await?,
        mapkeeper: arguments.mapkeeper.clone(),
        options: arguments.options.clone(),
        maps,
        drawn: Default::default(),
        scratch: tempfile::tempdir()?,
        names: Default::default(),
    };
    let mut results = Results::default();
    for &latency in &arguments.latency {
        bench.server.set_latency(latency).await?;
        for round in 1..=arguments.rounds {
            for &scenario in scenarios {
                turn(&bench, arguments, &mut results, (latency, round, scenario)).await;
            }
        }
    }
    let report = report(arguments, &results)?;
    println!("{report}");
    if let Some(document) = &arguments.update {
        report::update(document, &report)?;
    }
    Ok(if results.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One scenario of one round, with everybody in turn.
async fn turn(
    bench: &Bench,
    arguments: &Arguments,
    results: &mut Results,
    (latency, round, scenario): (u64, u64, Scenario),
) {
    let peers = arguments.peers.iter().map(|peer| Subject::Peer(*peer));
    let local = (scenario == Scenario::Wms).then_some(Subject::Local);
    for subject in local.into_iter().chain(peers) {
        let at = format!("{latency} ms, round {round}, {scenario:?}, {}", subject.name());
        match bench.run(scenario, subject, round).await {
            Ok(samples) => {
                for (phase, sample) in samples {
                    eprintln!("{at}: {}: {}", phase.title(), phase.shown(sample.timing.seconds));
                    results.add(latency, phase, subject, sample);
                }
            }
            Err(error) => {
                eprintln!("{at}: FAILED: {error:#}");
                results.failures.push(format!("{at}: {error:#}"));
            }
        }
    }
}

fn report(arguments: &Arguments, results: &Results) -> anyhow::Result<String> {
    let mut text = format!("Medians of {} rounds; {}.\n", arguments.rounds, machine()?);
    for peer in &arguments.peers {
        text += &format!("\n- {}: {}", peer.name(), peer::settings(*peer));
    }
    if !arguments.options.is_empty() {
        text += &format!("\n- mapkeeper also: `{}`", arguments.options.join(","));
    }
    for latency in &arguments.latency {
        text += &format!("\n\n### {latency} ms added to each request\n\n{}", results.table(*latency));
    }
    text += &format!("\n### Bars\n\n{}", results.bars());
    for failure in &results.failures {
        text += &format!("\nFAILED: {failure}\n");
    }
    Ok(text)
}

/// What the numbers were measured on.
fn machine() -> anyhow::Result<String> {
    let cpus = std::thread::available_parallelism()?;
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let kernel = kernel.split('-').next().unwrap_or_default().trim();
    let reclaim = if takes_idle_pages_back() { ", which takes idle page cache back (DAMON)" } else { "" };
    Ok(format!("{cpus} processors for everything, server included; Linux {kernel}{reclaim}"))
}

/// Whether a DAMON scheme of this kernel takes idle pages back, which warm phases then have to fetch again.
fn takes_idle_pages_back() -> bool {
    let schemes = "/sys/kernel/mm/damon/admin/kdamonds/0/contexts/0/schemes/0/action";
    let state = "/sys/kernel/mm/damon/admin/kdamonds/0/state";
    let is = |path: &str, word: &str| std::fs::read_to_string(path).is_ok_and(|text| text.trim() == word);
    is(state, "on") && is(schemes, "pageout")
}

/// Where what is expensive to make is kept.
fn cache() -> anyhow::Result<PathBuf> {
    if let Some(directory) = std::env::var_os("MAPKEEPER_CACHE") {
        return Ok(directory.into());
    }
    let home = std::env::var_os("HOME").context("neither MAPKEEPER_CACHE nor HOME is set")?;
    Ok(PathBuf::from(home).join(".cache/mapkeeper"))
}
