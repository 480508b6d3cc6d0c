//! Counts of a live host, taken whenever a document is written: nobody is asked for them.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use crate::agent::status::milliseconds;
use crate::config::Mount;
use bucketfs::Session;
use bucketfs::measure::{self, Ending};
use ladder::state::{BucketStats, MountStats, ServiceStats, Stats};

/// How long the oldest answer is remembered.
const OLDEST_OF: Duration = Duration::from_secs(60);
/// Time between two samples of what was spent, and how many are kept: an hour.
const SAMPLE_EVERY: Duration = Duration::from_secs(60);
const SAMPLES: usize = 60;
/// Thirty days.
const MONTH: Duration = Duration::from_secs(30 * 24 * 3600);

/// What was counted before.
#[derive(Debug, Default)]
pub(super) struct Meter {
    /// The oldest answer at each document, by mount.
    ages: BTreeMap<String, VecDeque<(Instant, Duration)>>,
    /// What was spent by each bucket so far, in thousandths of a millionth of a dollar, the oldest first.
    spent: VecDeque<(Instant, BTreeMap<String, u64>)>,
}

impl Meter {
    /// The figures at this moment.
    pub(super) fn figures<'a>(&mut self, mounts: impl Iterator<Item = (&'a Mount, &'a Session)>) -> Stats {
        let now = Instant::now();
        let mounts = mounts.map(|(spec, session)| self.mount(spec, session, now)).collect();
        let services = measure::probes().into_iter();
        let services =
            services.map(|(container, last, _)| ServiceStats { container, latency_ms: milliseconds(last) });
        Stats { mounts, buckets: self.buckets(now), services: services.collect() }
    }

    fn mount(&mut self, spec: &Mount, session: &Session, now: Instant) -> MountStats {
        let health = session.health();
        let ages = self.ages.entry(spec.name.clone()).or_default();
        let age = session.counted().ages.take_oldest();
        if age > Duration::ZERO {
            ages.push_back((now, age));
        }
        while ages.front().is_some_and(|(at, _)| now - *at > OLDEST_OF) {
            ages.pop_front();
        }
        MountStats {
            mount: spec.name.clone(),
            freshness_ms: milliseconds(spec.freshness),
            oldest_answer_ms: ages.iter().map(|(_, age)| milliseconds(*age)).max(),
            cache_hits: health.cache.hits,
            cache_misses: health.cache.misses,
            cache_bytes: health.cache.held_bytes,
            cache_limit_bytes: session.cache_budget(),
            names: health.inodes as u64,
            names_bytes: session.table_bytes(),
            hidden_keys: health.hidden_keys,
            unreadable_keys: health.unreadable_keys,
            resumed: health.resumed,
        }
    }

    fn buckets(&mut self, now: Instant) -> Vec<BucketStats> {
        let asked = measure::all_requests();
        let spent: BTreeMap<String, u64> = asked
            .iter()
            .map(|(bucket, asked)| {
                let prices =
                    asked.iter().map(|one| one.count().saturating_mul(one.question.price_microdollars()));
                (bucket.clone(), prices.sum())
            })
            .collect();
        let first = self.spent.front().cloned();
        if self.spent.back().is_none_or(|(at, _)| now - *at >= SAMPLE_EVERY) {
            self.spent.push_back((now, spent.clone()));
            if self.spent.len() > SAMPLES {
                self.spent.pop_front();
            }
        }
        let figures = asked.into_iter().map(|(bucket, asked)| {
            let ended = |ending: Ending| asked.iter().map(|one| one.endings[ending as usize]).sum::<u64>();
            let rate = first.as_ref().and_then(|(since, before)| {
                let so_far =
                    spent.get(&bucket)?.saturating_sub(before.get(&bucket).copied().unwrap_or_default());
                monthly_cents(so_far, now - *since)
            });
            BucketStats {
                failed: ended(Ending::Refused) + ended(Ending::Broken) + ended(Ending::Silent),
                requests: asked.iter().map(|one| (one.question.word().to_owned(), one.count())).collect(),
                cents_per_month: rate,
                bucket,
            }
        });
        figures.collect()
    }
}

/// What a month costs if `spent` (thousandths of a millionth of a dollar) was for `time`; `None` for less than a minute.
fn monthly_cents(spent: u64, time: Duration) -> Option<u64> {
    (time >= SAMPLE_EVERY).then_some(())?;
    let cents = spent as f64 / 1e9 * 100.0 * (MONTH.as_secs_f64() / time.as_secs_f64());
    Some(cents.round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_costs_what_the_last_hour_did_seven_hundred_and_twenty_times() {
        // 1,000 GETs in an hour: $0.0004, so 28.8 cents in 720 hours.
        let an_hour = 1000 * measure::Question::Get.price_microdollars();
        assert_eq!(monthly_cents(an_hour, Duration::from_secs(3600)), Some(29));
        assert_eq!(monthly_cents(an_hour, Duration::from_secs(59)), None);
    }
}
