//! The report: medians of all rounds, ratios, and which bars are reached.
//!
//! Everything is Markdown, so that `docs/performance.md` can hold it as it is.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use anyhow::Context;

use super::peer::Peer;
use super::phase::{Phase, Sample, Scenario, Subject};

const BEGIN: &str = "<!-- what the benchmark printed last: begin -->";
const END: &str = "<!-- what the benchmark printed last: end -->";

/// All samples of a run.
#[derive(Debug, Default)]
pub struct Results {
    samples: BTreeMap<(u64, Phase, Subject), Vec<Sample>>,
    pub failures: Vec<String>,
}

/// The median of all rounds, number by number.
#[derive(Clone, Debug, Default)]
struct Summary {
    seconds: f64,
    p50_ms: f64,
    p99_ms: f64,
    /// Absent for the local disk.
    cost: Option<CostSummary>,
}

#[derive(Clone, Debug, Default)]
struct CostSummary {
    requests: f64,
    megabytes: f64,
    cpu_seconds: f64,
    peak_mib: f64,
    /// Operations of the last round.
    operations: String,
    only_lists: bool,
}

impl Results {
    pub fn add(&mut self, latency_ms: u64, phase: Phase, subject: Subject, sample: Sample) {
        self.samples.entry((latency_ms, phase, subject)).or_default().push(sample);
    }

    /// All tables of `latency_ms`.
    pub fn table(&self, latency_ms: u64) -> String {
        let mut text = String::from(
            "| phase | file system | median | one: p50 | one: p99 | times mapkeeper's | requests | MB | CPU s | peak RSS MiB |\n\
             | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
        );
        let mut last = None;
        for ((latency, phase, subject), samples) in &self.samples {
            if *latency != latency_ms {
                continue;
            }
            let summary = Summary::of(samples);
            let own = self.summary(latency_ms, *phase, Peer::Mapkeeper);
            let ratio = own.map_or("".into(), |own| format!("{:.2}", summary.seconds / own.seconds));
            let title = if last == Some(*phase) { "" } else { phase.title() };
            last = Some(*phase);
            let (p50, p99) = match Scenario::parts(*phase) {
                Some(_) => (format!("{:.3} ms", summary.p50_ms), format!("{:.3} ms", summary.p99_ms)),
                None => Default::default(),
            };
            let cost = summary.cost.map_or("| | |".to_string(), |cost| {
                let requests = format!("{:.0} ({})", cost.requests, cost.operations);
                format!("{requests} | {:.1} | {:.2} | {:.0}", cost.megabytes, cost.cpu_seconds, cost.peak_mib)
            });
            let median = phase.shown(summary.seconds);
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "| {title} | {} | {median} | {p50} | {p99} | {ratio} | {cost} |",
                subject.name()
            );
        }
        text
    }

    fn summary(&self, latency_ms: u64, phase: Phase, peer: Peer) -> Option<Summary> {
        self.samples.get(&(latency_ms, phase, Subject::Peer(peer))).map(|samples| Summary::of(samples))
    }

    fn local(&self, latency_ms: u64, phase: Phase) -> Option<Summary> {
        self.samples.get(&(latency_ms, phase, Subject::Local)).map(|samples| Summary::of(samples))
    }

    /// Every bar that this run can judge.
    pub fn bars(&self) -> String {
        let mut text = String::from("| bar | found | |\n| --- | --- | --- |\n");
        for bar in self.judged() {
            let word = if bar.reached { "reached" } else { "**not reached**" };
            let _ = writeln!(text, "| {} | {} | {word} |", bar.claim, bar.found);
        }
        text
    }

    fn judged(&self) -> Vec<Bar> {
        let mut bars = Vec::new();
        self.judge_names(&mut bars);
        self.judge_reads(&mut bars);
        self.judge_lists(&mut bars);
        self.judge_maps(&mut bars);
        self.judge_writes(&mut bars);
        bars
    }

    /// Own summary and how many times as long s3fs takes, in the 20 ms case.
    fn against_s3fs(&self, latency_ms: u64, phase: Phase) -> Option<(Summary, Option<f64>)> {
        let own = self.summary(latency_ms, phase, Peer::Mapkeeper)?;
        let ratio = self.summary(latency_ms, phase, Peer::S3fs).map(|theirs| theirs.seconds / own.seconds);
        Some((own, ratio))
    }

    fn judge_names(&self, bars: &mut Vec<Bar>) {
        if let Some((own, ratio)) = self.against_s3fs(20, Phase::SmallCold) {
            let files = super::world::SMALL_FILES as f64;
            bars.extend(ratio.map(|ratio| Bar::at_least("unknown files: 2.5x faster than s3fs", ratio, 2.5)));
            // Whoever needs two round trips cannot be below 40 ms.
            bars.push(Bar::at_most("unknown files: p50 in ms, less than two round trips", own.p50_ms, 39.0));
            if let Some(cost) = own.cost {
                // Their directory is a name that has to be asked for as well.
                let each = cost.requests / (files + 1.0);
                bars.push(Bar::at_most("unknown files: requests for each name", each, 2.0));
            }
        }
        if let Some((own, _)) = self.against_s3fs(20, Phase::SmallWarm) {
            let each = own.seconds * 1e3 / super::world::SMALL_FILES as f64;
            bars.push(Bar::at_most("known files: ms each", each, 0.05));
            bars.extend(own.cost.map(|cost| Bar::at_most("known files: requests", cost.requests, 0.0)));
        }
        if let Some((_, Some(ratio))) = self.against_s3fs(20, Phase::Threads) {
            bars.push(Bar::at_least("unknown files, 8 threads: 6x faster than s3fs", ratio, 6.0));
        }
    }

    fn judge_reads(&self, bars: &mut Vec<Bar>) {
        let sequential =
            [(20, "sequential, cold, 20 ms: 1.2x s3fs", 1.2), (0, "sequential, cold, 0 ms: 1.0x s3fs", 1.0)];
        for (latency, claim, least) in sequential {
            let Some((own, ratio)) = self.against_s3fs(latency, Phase::SequentialCold) else { continue };
            bars.extend(ratio.map(|ratio| Bar::at_least(claim, ratio, least)));
            let claim = format!("sequential, cold, {latency} ms: peak RSS in MiB");
            bars.extend(own.cost.map(|cost| Bar::at_most(&claim, cost.peak_mib, 200.0)));
        }
        if let Some((_, Some(ratio))) = self.against_s3fs(20, Phase::SequentialWarm) {
            bars.push(Bar::at_least("sequential, warm: 4x s3fs", ratio, 4.0));
        }
        if let Some((own, ratio)) = self.against_s3fs(20, Phase::RandomCold) {
            bars.extend(ratio.map(|ratio| Bar::at_least("random, cold: in all as fast as s3fs", ratio, 1.0)));
            bars.push(Bar::at_most("random, cold: p99 in ms, two round trips", own.p99_ms, 40.0));
        }
        if let Some((own, _)) = self.against_s3fs(20, Phase::RandomWarm) {
            bars.push(Bar::at_most("random, warm: p50 in ms", own.p50_ms, 0.03));
            bars.extend(own.cost.map(|cost| Bar::at_most("random, warm: requests", cost.requests, 0.0)));
        }
    }

    fn judge_lists(&self, bars: &mut Vec<Bar>) {
        if let Some((_, Some(ratio))) = self.against_s3fs(20, Phase::ListCold) {
            bars.push(Bar::at_least("`ls -l`, cold: 4x faster than s3fs", ratio, 4.0));
        }
        if let Some((own, _)) = self.against_s3fs(20, Phase::ListWarm)
            && let Some(cost) = own.cost
        {
            let (claim, found) = ("`ls -l`, warm: LIST pages only".to_string(), cost.operations);
            bars.push(Bar { claim, found, reached: cost.only_lists });
        }
    }

    fn judge_writes(&self, bars: &mut Vec<Bar>) {
        if let Some((_, Some(ratio))) = self.against_s3fs(20, Phase::Write) {
            bars.push(Bar::at_least("sequential write: 1.7x s3fs", ratio, 1.7));
        }
        if let Some((own, ratio)) = self.against_s3fs(20, Phase::Create) {
            bars.extend(ratio.map(|ratio| Bar::at_least("new files: 4x faster than s3fs", ratio, 4.0)));
            // Their directory is made as well.
            let files = super::writer::CREATED as f64 + 1.0;
            let claim = "new files: requests each";
            bars.extend(own.cost.map(|cost| Bar::at_most(claim, cost.requests / files, 2.0)));
        }
    }

    fn judge_maps(&self, bars: &mut Vec<Bar>) {
        let maps = [
            (Phase::WmsCold, "GetMap, cold: times the local disk's", 1.6),
            (Phase::WmsWarm, "GetMap, warm: times the local disk's", 1.1),
        ];
        for (phase, claim, most) in maps {
            let Some((own, _)) = self.against_s3fs(20, phase) else { continue };
            if let Some(local) = self.local(20, phase) {
                bars.push(Bar::at_most(claim, own.seconds / local.seconds, most));
            }
            if phase == Phase::WmsWarm {
                let each = |requests: f64| requests / super::maps::MAPS as f64;
                let claim = "GetMap, warm: requests each";
                bars.extend(own.cost.map(|cost| Bar::at_most(claim, each(cost.requests), 1.0)));
            }
        }
    }
}

/// Something to reach.
struct Bar {
    claim: String,
    found: String,
    reached: bool,
}

impl Bar {
    fn at_least(claim: &str, found: f64, least: f64) -> Bar {
        Bar {
            claim: claim.to_string(),
            found: format!("{found:.2}, at least {least}"),
            reached: found >= least,
        }
    }

    fn at_most(claim: &str, found: f64, most: f64) -> Bar {
        Bar { claim: claim.to_string(), found: format!("{found:.3}, at most {most}"), reached: found <= most }
    }
}

impl Summary {
    fn of(samples: &[Sample]) -> Summary {
        let of = |value: fn(&Sample) -> f64| median(samples.iter().map(value).collect());
        let costs: Vec<_> = samples.iter().filter_map(|sample| sample.cost.as_ref()).collect();
        let cost = costs.last().map(|last| {
            let counts = &last.counters.counts;
            let operations: Vec<String> =
                counts.iter().map(|(name, count)| format!("{} {count}", short(name))).collect();
            let median = |value: fn(&super::phase::Cost) -> f64| {
                median(costs.iter().map(|cost| value(cost)).collect())
            };
            CostSummary {
                requests: median(|cost| cost.counters.total as f64),
                megabytes: median(|cost| cost.counters.bytes_sent as f64 / 1e6),
                cpu_seconds: median(|cost| cost.cpu_seconds),
                peak_mib: median(|cost| cost.peak_rss_bytes as f64 / f64::from(1 << 20)),
                operations: if operations.is_empty() { "none".into() } else { operations.join(", ") },
                only_lists: counts.keys().all(|name| name == "list_objects"),
            }
        });
        Summary {
            seconds: of(|sample| sample.timing.seconds),
            p50_ms: of(|sample| sample.timing.p50_ms),
            p99_ms: of(|sample| sample.timing.p99_ms),
            cost,
        }
    }
}

/// The name of an operation in a narrow column.
fn short(operation: &str) -> &str {
    match operation {
        "get_object" => "GET",
        "get_range" => "GET range",
        "head_object" => "HEAD",
        "list_objects" => "LIST",
        "head_bucket" => "HEAD bucket",
        other => other,
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match (values.get(middle), values.len() % 2) {
        (None, _) => 0.0,
        (Some(value), 1) => *value,
        (Some(value), _) => (value + values[middle - 1]) / 2.0,
    }
}

/// Puts `report` in the place of the one that the document at `path` holds.
pub fn update(path: &Path, report: &str) -> anyhow::Result<()> {
    let document = std::fs::read_to_string(path).with_context(|| format!("cannot read {path:?}"))?;
    let (before, rest) = document.split_once(BEGIN).with_context(|| format!("{path:?} has no {BEGIN:?}"))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("{path:?} has no {END:?}"))?;
    std::fs::write(path, format!("{before}{BEGIN}\n\n{report}\n{END}{after}"))?;
    Ok(())
}
