//! The loop that owns every decision: observe, plan, publish, apply, wait.
//!
//! ```text
//!        +----------------------------- wake, or next_look has passed --------------------------+
//!        v                                                                                       |
//!    [observe] --> [plan] --> [publish] -- action --> [apply] --> look again at once             |
//!        |                       |                                                               |
//!        |                       +-------- no action ---------------------------------------> [wait]
//!        +-- stop order, at any of these --> [shut down] --> last document
//! ```
//!
//! What must hold: all parts are observed concurrently and each under a limit of its own, so one part
//! that hangs is `Unknown` and holds up nothing else; at most one action a round; while an action runs
//! the document stays fresh; a stop order ends the loop within [`STOP_LIMIT`] and [`SHUT_DOWN_LIMIT`].
//!
//! The loop runs on a single-threaded runtime and is generic over [`Host`], the seam at which tests
//! put a simulated host under paused time.
//!
//! # At the end
//!
//! `run` unmounts when it stops, and a container on a mount that is gone would answer every request
//! with an error inside HTTP 200, which no load balancer notices. So the containers that mapkeeper owns
//! are stopped first and the mounts are taken away after them. The next start finds the containers
//! exited and starts them on the proven mount. Containers of ECS are left to ECS, which would replace
//! a stopped one at once.

pub mod http;
pub mod live;
pub mod maintenance;
pub mod metrics;
mod page;
pub mod status;

use std::borrow::Cow;
use std::cell::RefCell;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use futures::future::join_all;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use self::status::{Clock, Document, RuntimeDir, StatusTracker, Writer, milliseconds};
use crate::error::Chain;
use ladder::state::{
    Action, ContainerSeen, ContainerSettings, ContainerState, CredentialsSeen, DataSeen, Device, DockerSeen,
    EcsSeen, Failure, History, Maintenance, Moment, MountAnswer, MountEntry, MountSeen, Observation, Outcome,
    Phase, Repair, Requests, Seen, ServiceSeen, Session, Settings, Stats, StoreSeen,
};

/// Longest wait for one part of an observation.
pub const LOOK_LIMIT: Duration = Duration::from_secs(6);
/// Longest wait for an action that is running when the stop order comes.
pub const STOP_LIMIT: Duration = Duration::from_secs(10);
/// Longest wait for containers and mounts to be put away.
pub const SHUT_DOWN_LIMIT: Duration = Duration::from_secs(30);
/// Time between two looks at the least, however often the host wakes.
const BREATH: Duration = Duration::from_millis(100);
/// The document is renewed this often while an action runs.
const BEAT: Duration = Duration::from_secs(2);

/// A host, live or simulated.
///
/// The questions may be asked concurrently and may hang; the loop puts a limit on each and may drop any
/// of these futures at any time. None may touch a file below a mount of this process.
pub trait Host {
    /// Time since boot and wall time.
    fn clock(&self) -> (Duration, SystemTime);
    /// A random number.
    fn random(&self) -> u64;

    /// Whether a person asked for no repairs. Answers at once.
    fn maintenance(&self) -> Maintenance;

    fn credentials(&self) -> impl Future<Output = Seen<CredentialsSeen>>;
    /// What the bucket of `mount` answers when it is asked past the mount.
    fn store(&self, mount: &str) -> impl Future<Output = Seen<StoreSeen>>;
    /// What the kernel has at the path of the mount called `mount`.
    fn mount_entry(&self, mount: &str) -> impl Future<Output = Seen<Option<MountEntry>>>;
    /// The session that serves it in this process.
    fn session(&self, mount: &str) -> impl Future<Output = Seen<Option<Session>>>;
    /// What a child process gets at its path.
    fn mount_answer(&self, mount: &str) -> impl Future<Output = Seen<MountAnswer>>;
    /// What a child process reads of a known key, compared with the bucket.
    fn data(&self, mount: &str) -> impl Future<Output = DataSeen>;
    /// What the kernel has asked of the session of `mount` and has no answer to. A request is lost only if it was that
    /// for as long as this took.
    fn requests(&self, mount: &str) -> impl Future<Output = Seen<Requests>>;
    fn docker(&self) -> impl Future<Output = Seen<DockerSeen>>;
    fn container(&self, container: &ContainerSettings) -> impl Future<Output = Seen<ContainerState>>;
    /// The names of our mounts that this container binds: by configuration and by what Docker shows.
    fn mounts_bound(&self, container: &ContainerSettings) -> Vec<String>;
    /// The device that process `pid` of the container sees where it should see `mount`.
    fn view(
        &self,
        container: &ContainerSettings,
        pid: u32,
        mount: &str,
    ) -> impl Future<Output = Seen<Option<Device>>>;
    fn service(&self, container: &ContainerSettings) -> impl Future<Output = Seen<ServiceSeen>>;
    fn ecs(&self) -> impl Future<Output = Seen<EcsSeen>>;

    /// What was counted so far. Answers at once; nothing is decided by it.
    fn stats(&self) -> Stats {
        Stats::default()
    }

    /// Takes over a configuration that has come since. Called between two rounds; what it leaves undone, the next
    /// rounds find amiss and repair.
    fn apply_config(&self) -> impl Future<Output = Option<ConfigChange>> {
        std::future::ready(None)
    }
    /// Carries out one action, completely or not at all as far as that is possible.
    fn apply(&self, action: &Action) -> impl Future<Output = Result<(), Failure>>;
    /// Waits until something happened that makes a look worthwhile. Cancel-safe.
    fn wake(&self) -> impl Future<Output = ()>;
    /// Puts away what this run made, in order: containers of ours, then mounts.
    fn shut_down(&self) -> impl Future<Output = ()>;
}

/// What became of a configuration that came while the agent ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigChange {
    /// It is in force, with these consequences.
    Taken { settings: Box<Settings>, consequences: Vec<String> },
    /// The old one stays in force.
    Refused { error: String },
}

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
    let mut agent = Agent {
        host,
        settings: Cow::Borrowed(settings),
        history: History::default(),
        tracker: StatusTracker::new(writer, wall),
        publisher,
        started: Instant::now(),
        stop,
        publish_failed: false,
    };
    agent.until_stopped().await;
    agent.tracker.ended("stopped in order");
    if timeout(SHUT_DOWN_LIMIT, host.shut_down()).await.is_err() {
        tracing::error!(limit_s = SHUT_DOWN_LIMIT.as_secs(), "shutting down did not end in time");
    }
    agent.publish(Duration::ZERO);
}

/// What signals have ordered.
#[derive(Clone, Debug)]
pub struct Orders {
    /// Becomes true at the first SIGTERM, SIGINT or SIGUSR1.
    pub stop: watch::Receiver<bool>,
    replace: Arc<AtomicBool>,
}

impl Orders {
    /// Whether another process takes the place of this one: SIGUSR1 says so.
    pub fn replace(&self) -> bool {
        self.replace.load(Ordering::SeqCst)
    }
}

/// Follows the signals that end a process.
///
/// # Errors
///
/// When the handlers cannot be installed.
pub fn stop_on_signals() -> std::io::Result<Orders> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut replaced = signal(SignalKind::user_defined1())?;
    let (sender, stop) = watch::channel(false);
    let replace = Arc::new(AtomicBool::new(false));
    let orders = Orders { stop, replace: replace.clone() };
    tokio::spawn(async move {
        // Cancel-safe: all arms only wait for a signal, and nothing else drops them.
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = replaced.recv() => replace.store(true, Ordering::SeqCst),
        }
        sender.send_replace(true);
        // The sender is kept: its end would be a stop order of its own.
        sender.closed().await;
    });
    Ok(orders)
}

struct Agent<'a, H> {
    host: &'a H,
    settings: Cow<'a, Settings>,
    history: History,
    tracker: StatusTracker,
    publisher: Publisher,
    started: Instant,
    stop: watch::Receiver<bool>,
    publish_failed: bool,
}

impl<H: Host> Agent<'_, H> {
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
            let assessment = ladder::assess(&seen, &self.settings);
            self.history.note(&seen, &assessment, now, &self.settings);
            let decision = ladder::plan(&seen, &self.history, now, &self.settings);
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

/// Looks at every part of the host at the same time, each under [`LOOK_LIMIT`].
pub async fn observe<H: Host>(host: &H, settings: &Settings) -> Observation {
    // The mounts that were found not to serve in this look, and word of each.
    let (useless, told) = (RefCell::new(Vec::new()), Notify::new());
    let (useless, told) = (&useless, &told);
    let mounts = join_all(settings.mounts.iter().map(|name| async move {
        // Only what gives a sign of life can be read.
        let answered = async {
            let answer = limited(host.mount_answer(name)).await;
            if !matches!(answer, Seen::Known(MountAnswer::Serves(_))) {
                useless.borrow_mut().push(name.clone());
                told.notify_waiters();
                return (answer, DataSeen::NotCompared);
            }
            let data = timeout(LOOK_LIMIT, host.data(name)).await;
            (answer, data.unwrap_or(DataSeen::NotCompared))
        };
        let (store, entry, session, requests, (answer, data)) = futures::join!(
            limited(host.store(name)),
            limited(host.mount_entry(name)),
            limited(host.session(name)),
            limited(host.requests(name)),
            answered,
        );
        (name.clone(), MountSeen { store, entry, session, answer, data, requests })
    }));
    let containers = join_all(settings.containers.iter().map(|container| async move {
        let waits = |mounts: Vec<String>| any_of(mounts, useless, told);
        (container.name.clone(), observe_container(host, container, waits).await)
    }));
    let docker = async {
        if settings.containers.is_empty() {
            return Seen::Unknown("no container is configured".to_owned());
        }
        limited(host.docker()).await
    };
    let ecs = async {
        match settings.ecs {
            Some(_) => Some(limited(host.ecs()).await),
            None => None,
        }
    };
    let (credentials, mounts, docker, containers, ecs) =
        futures::join!(limited(host.credentials()), mounts, docker, containers, ecs);
    Observation {
        maintenance: host.maintenance(),
        credentials,
        mounts: mounts.into_iter().collect(),
        docker,
        containers: containers.into_iter().collect(),
        ecs,
    }
}

/// Waits until one of `mounts` was found not to serve.
async fn any_of(mounts: Vec<String>, useless: &RefCell<Vec<String>>, told: &Notify) {
    loop {
        let next = told.notified();
        if useless.borrow().iter().any(|name| mounts.contains(name)) {
            return;
        }
        next.await;
    }
}

/// `fails` ends when one of the mounts that it is given does not serve: what a service answers then says nothing of
/// the service, and is not waited for.
async fn observe_container<H: Host, F: Future<Output = ()>>(
    host: &H,
    container: &ContainerSettings,
    fails: impl FnOnce(Vec<String>) -> F,
) -> ContainerSeen {
    let state = limited(host.container(container)).await;
    let pid = match &state {
        Seen::Known(ContainerState::Present(facts)) if facts.phase == Phase::Running => facts.pid,
        _ => return ContainerSeen { state, views: Default::default(), service: None },
    };
    let bound = host.mounts_bound(container);
    let fails = fails(bound.clone());
    let views = join_all(bound.into_iter().map(|mount| async move {
        let view = match pid {
            Some(pid) => limited(host.view(container, pid, &mount)).await,
            None => Seen::Unknown("Docker shows no process of it".to_owned()),
        };
        (mount, view)
    }));
    let service = async {
        match container.probed {
            // Cancel-safe: a question to a service outlives whoever waits for it.
            true => Some(tokio::select! {
                biased;
                seen = limited(host.service(container)) => seen,
                () = fails => Seen::Unknown("its mount does not serve".to_owned()),
            }),
            false => None,
        }
    };
    let (views, service) = futures::join!(views, service);
    ContainerSeen { state, views: views.into_iter().collect(), service }
}

/// Waits for one answer; none within [`LOOK_LIMIT`] is [`Seen::Unknown`].
async fn limited<T>(question: impl Future<Output = Seen<T>>) -> Seen<T> {
    match timeout(LOOK_LIMIT, question).await {
        Ok(seen) => seen,
        Err(_) => Seen::Unknown(format!("no answer within {} s", milliseconds(LOOK_LIMIT) / 1000)),
    }
}

#[cfg(test)]
mod tests;
