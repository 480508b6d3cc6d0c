//! `GET /metrics`: everything that is counted, in the words of Prometheus.
//!
//! It is made from the document that the loop last published and from counters of this process, so it asks nobody and
//! answers at once. Names follow Prometheus's conventions: base units, `_total` behind what only grows.

use std::fmt::Error;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::status::{Document, age_ms, word};
use bucketfs::measure::{self, BOUNDS, Distribution, Ending};
use ladder::state::{Health, LinkState, MountStats};

/// The content type of what [`exposition`] writes.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

type Labels = Vec<(String, String)>;

/// Everything that is counted, in Prometheus's text format.
pub fn exposition(document: Option<&Document>) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Snapshot { document: document.cloned() }));
    let mut open = String::new();
    match text::encode(&mut open, &registry) {
        Ok(()) => plain(&open),
        // Writing into a string does not fail; a scrape that is empty is told from one that is whole.
        Err(_) => String::new(),
    }
}

/// OpenMetrics, as the library writes it, in the older format that everybody reads: there a counter is described under
/// the name that it is told by.
fn plain(open: &str) -> String {
    let counters: Vec<&str> =
        open.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter")).collect();
    let mut text = String::with_capacity(open.len());
    for line in open.lines() {
        let described = line.strip_prefix("# HELP ").or_else(|| line.strip_prefix("# TYPE "));
        let name = described.and_then(|rest| rest.split(' ').next());
        match name {
            _ if line == "# EOF" || line.starts_with("# UNIT ") => continue,
            Some(name) if counters.contains(&name) => {
                text.push_str(&line.replacen(name, &format!("{name}_total"), 1));
            }
            _ => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

#[derive(Debug)]
struct Snapshot {
    document: Option<Document>,
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), Error> {
        let to = &mut encoder;
        let version = labels(&[("version", env!("CARGO_PKG_VERSION"))]);
        gauges(to, "mapkeeper_build_info", "Version of mapkeeper; always 1", None, [(version, 1.0)])?;
        process(to)?;
        if let Some(document) = &self.document {
            health(to, document)?;
            figures(to, document)?;
        }
        operations(to)?;
        requests(to)?;
        probes(to)
    }
}

fn health(to: &mut DescriptorEncoder, document: &Document) -> Result<(), Error> {
    let states = [Health::Healthy, Health::Degraded, Health::Repairing, Health::Failed];
    let states = states.map(|state| (labels(&[("state", &word(&state))]), truth(state == document.health)));
    let help = "How the host does as a whole: 1 for the state that it is in";
    gauges(to, "mapkeeper_health", help, None, states)?;
    let ready = truth(document.ready && document.ended.is_none());
    let help = "Whether load balancers are told that this host serves";
    gauges(to, "mapkeeper_ready", help, None, [(vec![], ready)])?;
    let age = age_ms(document) as f64 / 1000.0;
    let (help, unit) = ("Time since the loop last published", Some(Unit::Seconds));
    gauges(to, "mapkeeper_status_age", help, unit, [(vec![], age)])?;
    let states =
        [LinkState::Ok, LinkState::Degraded, LinkState::Broken, LinkState::Unknown, LinkState::Waiting];
    let links = document.links.iter().flat_map(|link| {
        let name = link.target.to_string();
        states.map(|state| (labels(&[("link", &name), ("state", &word(&state))]), truth(state == link.state)))
    });
    gauges(to, "mapkeeper_link", "Each link of the chain: 1 for the state that it is in", None, links)?;
    let repairs = document.repairs.iter().flat_map(|repair| {
        let (link, action) = (repair.target.to_string(), word(&repair.action));
        [("done", repair.done), ("failed", repair.failed)].map(|(outcome, count)| {
            (labels(&[("link", &link), ("action", &action), ("outcome", outcome)]), count)
        })
    });
    let help = "Repairs that were tried, by rung of the ladder and how they ended";
    counters(to, "mapkeeper_repairs", help, repairs)
}

/// One number of a mount.
type Of<T> = fn(&MountStats) -> T;

fn figures(to: &mut DescriptorEncoder, document: &Document) -> Result<(), Error> {
    let figures = &document.figures;
    let counted: [(&str, &str, Of<u64>); 3] = [
        ("mapkeeper_cache_hits", "Blocks of content found in memory", |mount| mount.cache_hits),
        ("mapkeeper_cache_misses", "Blocks of content that S3 was asked for", |mount| mount.cache_misses),
        ("mapkeeper_sessions_resumed", "How often another process went on with the mount", |mount| {
            mount.resumed
        }),
    ];
    for (name, help, value) in counted {
        counters(to, name, help, each_mount(&figures.mounts, value))?;
    }
    let (bytes, seconds) = (|| Some(Unit::Bytes), Some(Unit::Seconds));
    let held: [(&str, &str, Option<Unit>, Of<f64>); 7] = [
        ("mapkeeper_cache", "Content held in memory", bytes(), |mount| mount.cache_bytes as f64),
        ("mapkeeper_cache_limit", "Content that may be held in memory", bytes(), |mount| {
            mount.cache_limit_bytes as f64
        }),
        ("mapkeeper_names", "File numbers that the kernel holds", None, |mount| mount.names as f64),
        ("mapkeeper_names_memory", "Memory of the table of names", bytes(), |mount| mount.names_bytes as f64),
        ("mapkeeper_hidden_keys", "Keys seen that no file name can stand for", None, |mount| {
            mount.hidden_keys as f64
        }),
        (
            "mapkeeper_unreadable_keys",
            "Keys seen of which S3 refuses the headers: files of mode 0",
            None,
            |mount| mount.unreadable_keys as f64,
        ),
        ("mapkeeper_freshness_promised", "How old an answer may be", seconds, |mount| {
            mount.freshness_ms as f64 / 1000.0
        }),
    ];
    for (name, help, unit, value) in held {
        gauges(to, name, help, unit, each_mount(&figures.mounts, value))?;
    }
    let costs = figures.buckets.iter().filter_map(|bucket| {
        Some((labels(&[("bucket", &bucket.bucket)]), bucket.cents_per_month? as f64 / 100.0))
    });
    let help = "What a month of requests costs, by the last hour and the standard prices of us-east-1";
    gauges(to, "mapkeeper_s3_cost_dollars_per_month", help, None, costs)
}

/// One value of each mount.
fn each_mount<T>(mounts: &[MountStats], value: Of<T>) -> Vec<(Labels, T)> {
    mounts.iter().map(|mount| (labels(&[("mount", &mount.mount)]), value(mount))).collect()
}

fn operations(to: &mut DescriptorEncoder) -> Result<(), Error> {
    let mounts: Vec<_> = measure::mounts()
        .into_iter()
        .map(|(mount, counted)| (mount, counted.operations.taken(), counted))
        .collect();
    let times = mounts.iter().flat_map(|(mount, taken, _)| {
        taken.iter().map(|one| (labels(&[("mount", mount), ("operation", one.name)]), one.times.clone()))
    });
    histograms(to, "mapkeeper_file_operation_duration", "Time from a file operation to its answer", times)?;
    let failed = mounts.iter().flat_map(|(mount, taken, _)| {
        taken.iter().map(|one| (labels(&[("mount", mount), ("operation", one.name)]), one.failed))
    });
    let help = "File operations that were answered with an error; a name that does not exist is one";
    counters(to, "mapkeeper_file_operation_errors", help, failed)?;
    let ages =
        mounts.iter().map(|(mount, _, counted)| (labels(&[("mount", mount)]), counted.ages.distribution()));
    histograms(to, "mapkeeper_answer_age", "How old answers about names were: freshness as measured", ages)
}

fn requests(to: &mut DescriptorEncoder) -> Result<(), Error> {
    let buckets = measure::all_requests();
    let each = || buckets.iter().flat_map(|(bucket, asked)| asked.iter().map(move |one| (bucket, one)));
    let times = each().map(|(bucket, one)| {
        (labels(&[("bucket", bucket), ("operation", one.question.word())]), one.times.clone())
    });
    let help = "Time from a request to the first byte of its answer";
    histograms(to, "mapkeeper_s3_request_duration", help, times)?;
    let counts = each().flat_map(|(bucket, one)| {
        Ending::ALL.map(|ending| {
            let name =
                [("bucket", bucket.as_str()), ("operation", one.question.word()), ("outcome", ending.word())];
            (labels(&name), one.endings[ending as usize])
        })
    });
    counters(to, "mapkeeper_s3_requests", "Requests to S3, every attempt counted, by how they ended", counts)
}

fn probes(to: &mut DescriptorEncoder) -> Result<(), Error> {
    let times = measure::probes()
        .into_iter()
        .map(|(container, _, times)| (labels(&[("container", &container)]), times));
    histograms(to, "mapkeeper_probe_duration", "Time of good answers of MapServer to the probe", times)
}

/// What every process tells of itself, under the names that everybody uses.
fn process(to: &mut DescriptorEncoder) -> Result<(), Error> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let of = |field: &str| -> Option<f64> {
        let line = status.lines().find_map(|line| line.strip_prefix(field))?;
        line.split_whitespace().next()?.parse().ok()
    };
    let resident = of("VmRSS:").map(|kib| (vec![], kib * 1024.0));
    gauges(to, "process_resident_memory", "Resident memory of the process", Some(Unit::Bytes), resident)?;
    let threads = of("Threads:").map(|count| (vec![], count));
    gauges(to, "process_threads", "Threads of the process", None, threads)?;
    let files = std::fs::read_dir("/proc/self/fd").ok().map(|entries| (vec![], entries.count() as f64));
    gauges(to, "process_open_fds", "Open files of the process", None, files)
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    // The text format has an escape for each of these; a name that holds one is none of ours.
    let clean = |value: &str| value.replace(['\\', '"', '\n'], " ");
    pairs.iter().map(|(name, value)| ((*name).to_owned(), clean(value))).collect()
}

fn truth(is: bool) -> f64 {
    f64::from(u8::from(is))
}

fn gauges(
    to: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    unit: Option<Unit>,
    values: impl IntoIterator<Item = (Labels, f64)>,
) -> Result<(), Error> {
    each(to, (name, help, unit.as_ref(), MetricType::Gauge), values, |mut metric, value| {
        metric.encode_gauge(&value)
    })
}

fn counters(
    to: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    values: impl IntoIterator<Item = (Labels, u64)>,
) -> Result<(), Error> {
    each(to, (name, help, None, MetricType::Counter), values, |mut metric, value| {
        metric.encode_counter::<NoLabelSet, _, f64>(&value, None)
    })
}

fn histograms(
    to: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    values: impl IntoIterator<Item = (Labels, Distribution)>,
) -> Result<(), Error> {
    let described = (name, help, Some(&Unit::Seconds), MetricType::Histogram);
    each(to, described, values, |mut metric, value| {
        let bounds = BOUNDS.into_iter().chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(value.buckets).collect();
        metric.encode_histogram::<NoLabelSet>(value.sum_seconds, value.count(), &buckets, None)
    })
}

/// One metric with each of its values; none at all where there is no value.
fn each<T>(
    to: &mut DescriptorEncoder,
    (name, help, unit, kind): (&str, &str, Option<&Unit>, MetricType),
    values: impl IntoIterator<Item = (Labels, T)>,
    write: impl Fn(MetricEncoder, T) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut values = values.into_iter().peekable();
    if values.peek().is_none() {
        return Ok(());
    }
    let mut metric = to.encode_descriptor(name, help, unit, kind)?;
    for (labels, value) in values {
        write(metric.encode_family(&labels)?, value)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::status::tests::document;

    #[test]
    fn counters_are_described_under_the_name_that_they_are_told_by() {
        let open = "# HELP a Text.\n# TYPE a counter\na_total{b=\"c\"} 1\n# HELP d_bytes Text.\n# TYPE d_bytes gauge\n# UNIT d_bytes bytes\nd_bytes 2.0\n# EOF\n";
        let expected = "# HELP a_total Text.\n# TYPE a_total counter\na_total{b=\"c\"} 1\n# HELP d_bytes Text.\n# TYPE d_bytes gauge\nd_bytes 2.0\n";
        assert_eq!(plain(open), expected);
    }

    #[test]
    fn the_chain_is_told_even_before_anything_was_counted() {
        let text = exposition(Some(&document()));
        assert!(text.contains("mapkeeper_link{link=\"mount"), "{text}");
        assert!(text.contains("# TYPE mapkeeper_health gauge\n"), "{text}");
        assert!(exposition(None).contains("mapkeeper_build_info{version="), "{}", exposition(None));
    }

    #[test]
    fn no_value_breaks_out_of_its_label() {
        assert_eq!(labels(&[("a", "b\"} 1\nc\\")])[0].1, "b } 1 c ");
    }
}
