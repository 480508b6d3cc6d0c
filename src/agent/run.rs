//! The loop itself: it observes, decides, publishes, applies and waits until it is stopped.
//!
//! What must hold: at most one action a round; while an action runs the document stays fresh; a stop order ends the
//! loop within [`STOP_LIMIT`] and [`SHUT_DOWN_LIMIT`].

use std::borrow::Cow;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::host::{ConfigChange, Host};
use super::observe::{LOOK_LIMIT, observe};
use super::status::{Clock, Document, RuntimeDir, StatusTracker, Writer};
use crate::error::Chain;
use ladder::state::{Action, Failure, History, Maintenance, Moment, Outcome, Repair, Settings};

/// Longest wait for an action that is running when the stop order comes.
pub const STOP_LIMIT: Duration = Duration::from_secs(10);
/// Longest wait for containers and mounts to be put away.
pub const SHUT_DOWN_LIMIT: Duration = Duration::from_secs(30);
/// Time between two looks at the least, however often the host wakes.
const BREATH: Duration = Duration::from_millis(100);
/// The document is renewed this often while an action runs.
const BEAT: Duration = Duration::from_secs(2);

/// Where the document goes.
pub struct Publisher {
    /// The runtime directory, for `status` and `wait`.
    pub runtime_dir: Option<RuntimeDir>,
    /// The same document in memory, for whoever runs the agent inside another program.
    pub watch: watch::Sender<Option<Arc<Document>>>,
    /// Called with every document: a sign of life for the service manager.
    pub alive: Box<dyn FnMut(&Document)>,
}

impl Publisher {
    /// Publishes into `runtime_dir`, if there is one, and to the receiver that is returned.
    pub fn new(runtime_dir: Option<RuntimeDir>) -> (Publisher, watch::Receiver<Option<Arc<Document>>>) {
        let (sender, receiver) = watch::channel(None);
        (Publisher { runtime_dir, watch: sender, alive: Box::new(|_| {}) }, receiver)
    }
}

/// Runs the agent on `host` until `stop` becomes true or its sender is gone.
///
/// `writer` is the process in whose name the document is written: [`Writer::this`].
pub async fn run<H: Host>(
    host: &H,
    settings: &Settings,
    writer: Writer,
    publisher: Publisher,
    stop: watch::Receiver<bool>,
) {
    let wall = host.clock().1;
    let mut rounds = Loop {
        host,
        settings: Cow::Borrowed(settings),
        history: History::default(),
        tracker: StatusTracker::new(writer, wall),
        publisher,
        started: Instant::now(),
        stop,
        publish_failed: false,
    };
    rounds.until_stopped().await;
    rounds.tracker.ended("stopped in order");
    if timeout(SHUT_DOWN_LIMIT, host.shut_down()).await.is_err() {
        tracing::error!(limit_s = SHUT_DOWN_LIMIT.as_secs(), "shutting down did not end in time");
    }
    rounds.publish(Duration::ZERO);
}

struct Loop<'a, H> {
    host: &'a H,
    settings: Cow<'a, Settings>,
    history: History,
    tracker: StatusTracker,
    publisher: Publisher,
    started: Instant,
    stop: watch::Receiver<bool>,
    publish_failed: bool,
}

impl<H: Host> Loop<'_, H> {
    async fn until_stopped(&mut self) {
        let mut stop = self.stop.clone();
        loop {
            self.apply_config().await;
            // Cancel-safe: an observation changes nothing and may be dropped; `stopped` only waits.
            let seen = tokio::select! {
                biased;
                () = stopped(&mut stop) => return,
                seen = observe(self.host, &self.settings) => seen,
            };
            let now = self.now();
            let decision = ladder::plan(&seen, &mut self.history, now, &self.settings);
            tracing::debug!(health = ?decision.health, reason = decision.reason, action = ?decision.action, "round");
            self.tracker.decided(&decision, self.clock());
            self.publish(decision.next_look);
            let pause = match decision.action {
                // The pause may have been asked for while the host was looked at.
                Some(_) if self.host.maintenance() != Maintenance::Off => Duration::ZERO,
                Some(action) => {
                    self.act(&action).await;
                    Duration::ZERO
                }
                None => decision.next_look,
            };
            if !self.pause(pause, &mut stop).await {
                return;
            }
        }
    }

    async fn apply_config(&mut self) {
        let adopted = self.host.apply_config().await;
        if let Some(adoption) = &adopted {
            self.tracker.configured(adoption, self.clock());
        }
        if let Some(ConfigChange::Taken { settings, .. }) = adopted {
            self.settings = Cow::Owned(*settings);
        }
    }

    /// Waits until the next look is due; false when the stop order came.
    async fn pause(&self, pause: Duration, stop: &mut watch::Receiver<bool>) -> bool {
        let earliest = Instant::now() + BREATH;
        // Cancel-safe: every arm only waits; what `wake` waits for is asked again by the next look.
        tokio::select! {
            biased;
            () = stopped(stop) => return false,
            () = sleep(pause) => {}
            () = self.host.wake() => {}
        }
        // Cancel-safe: both arms only wait.
        tokio::select! {
            biased;
            () = stopped(stop) => false,
            () = sleep_until(earliest) => true,
        }
    }

    /// Applies one action under its limit, keeping the document fresh meanwhile.
    async fn act(&mut self, action: &Action) {
        let rung = action.repair.rung();
        let attempt = self.history.record(&action.target).count(rung).saturating_add(1);
        self.tracker.acting(action, attempt);
        self.publish(BEAT);
        let begun = Instant::now();
        let outcome = self.apply(action).await;
        let now = self.now();
        self.history.tried(action, &outcome, now, self.host.random(), &self.settings.timing);
        let attempts = self.history.record(&action.target).attempts;
        let retry = attempts.get(&rung).map_or(Duration::ZERO, |attempts| attempts.not_before.since(now));
        self.tracker.acted(action, attempt, &outcome, begun.elapsed(), retry, self.clock());
        self.publish(BEAT);
    }

    async fn apply(&mut self, action: &Action) -> Outcome {
        let host = self.host;
        let mut stop = self.stop.clone();
        let mut applied = pin!(host.apply(action));
        let mut limit = limit(action.repair);
        let mut deadline = Instant::now() + limit;
        let mut stopping = false;
        let mut beat = Instant::now() + BEAT;
        loop {
            // Cancel-safe: `applied` is pinned outside and goes on; the other arms only wait.
            tokio::select! {
                ended = &mut applied => {
                    return match ended {
                        Ok(()) => Outcome::Done,
                        Err(failure) => Outcome::Failed(failure),
                    };
                }
                () = sleep_until(deadline) => return Outcome::Failed(overdue(limit)),
                () = stopped(&mut stop), if !stopping => {
                    stopping = true;
                    limit = STOP_LIMIT;
                    deadline = deadline.min(Instant::now() + STOP_LIMIT);
                }
                () = sleep_until(beat) => {
                    beat = Instant::now() + BEAT;
                    self.publish(BEAT);
                }
            }
        }
    }

    fn now(&self) -> Moment {
        Moment(self.started.elapsed())
    }

    fn clock(&self) -> Clock {
        let (uptime, wall) = self.host.clock();
        Clock { now: self.now(), wall, uptime }
    }

    /// Publishes the document; the next one follows after `pause` and an observation at the latest.
    fn publish(&mut self, pause: Duration) {
        let fresh_for = pause + 2 * LOOK_LIMIT + BEAT;
        let mut document = self.tracker.document(self.clock(), fresh_for);
        document.figures = self.host.stats();
        if let Some(dir) = &self.publisher.runtime_dir {
            let published = dir.publish(&document);
            match &published {
                Err(error) if !self.publish_failed => {
                    tracing::error!(error = %Chain(error), "cannot write the status document");
                }
                _ => {}
            }
            self.publish_failed = published.is_err();
        }
        (self.publisher.alive)(&document);
        self.publisher.watch.send_replace(Some(Arc::new(document)));
    }
}

/// Waits for the stop order, or for the end of whoever could give it. Cancel-safe.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error says that the sender is gone: nobody could stop us any more.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// The longest that a repair may take.
fn limit(repair: Repair) -> Duration {
    match repair {
        Repair::Mount | Repair::Remount | Repair::Uncover | Repair::Refresh | Repair::RestartWorkers => {
            Duration::from_secs(30)
        }
        Repair::Unpause
        | Repair::Restart
        | Repair::Stop
        | Repair::Start
        | Repair::MakeErrorLog
        | Repair::RestartEcsAgent
        | Repair::Reregister
        | Repair::MarkReady
        | Repair::MarkUnready
        | Repair::Terminate => Duration::from_secs(45),
        // The image may have to be pulled.
        Repair::Create | Repair::Recreate => Duration::from_secs(300),
    }
}

fn overdue(limit: Duration) -> Failure {
    Failure {
        error: format!("it did not end within {} s", limit.as_secs()),
        hint: None,
        exit: crate::error::Exit::Degraded.code(),
    }
}
