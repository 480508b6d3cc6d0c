//! Whether a container works: how its processor time grows.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use ladder::state::Seen;

/// Over so long at least: a container that does nothing is asked for its health by Docker now and then.
const OVER: Duration = Duration::from_secs(10);
/// What uses more of one processor than one part in so many works. Docker's question takes a tenth of that.
const SHARE: u32 = 33;

/// What was read of one container's processor time, the youngest last.
#[derive(Debug, Default)]
pub(super) struct Work(VecDeque<(Instant, Duration)>);

impl Work {
    /// Takes note of the time that was used so far; whether it has been working lately.
    pub(super) fn note(&mut self, now: Instant, used: Seen<Duration>) -> Seen<bool> {
        let used = match used {
            Seen::Known(used) => used,
            Seen::Unknown(reason) => {
                self.0.clear();
                return Seen::Unknown(reason);
            }
        };
        self.0.push_back((now, used));
        // The youngest that is old enough is what the next one is compared with.
        while self.0.get(1).is_some_and(|(at, _)| now - *at >= OVER) {
            self.0.pop_front();
        }
        match self.0.front() {
            Some((at, before)) if now - *at >= OVER && used >= *before => {
                Seen::Known((used - *before) * SHARE > now - *at)
            }
            _ => Seen::Unknown("not observed for long enough".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_container_works_if_its_processor_time_grows_and_is_not_idle_before_that_is_known() {
        let second = Duration::from_secs(1);
        let mut work = Work::default();
        let mut used = second;
        let unknown = |seen: Seen<bool>| assert!(matches!(seen, Seen::Unknown(_)), "{seen:?}");
        for _ in 0..10 {
            unknown(work.note(Instant::now(), Seen::Known(used)));
            tokio::time::advance(second).await;
        }
        // What Docker's own look at its health takes.
        used += second / 40;
        assert_eq!(work.note(Instant::now(), Seen::Known(used)), Seen::Known(false));
        used += second;
        assert_eq!(work.note(Instant::now(), Seen::Known(used)), Seen::Known(true));
        tokio::time::advance(11 * second).await;
        assert_eq!(work.note(Instant::now(), Seen::Known(used)), Seen::Known(false));
        unknown(work.note(Instant::now(), Seen::Unknown("Docker does not answer".to_owned())));
        unknown(work.note(Instant::now(), Seen::Known(used)));
    }
}
