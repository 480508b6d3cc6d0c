//! A host that exists only in memory: mount, bucket, Docker, container, service, ECS, and what breaks them.
//!
//! Two things are kept apart: what is true, and what was last answered. The agent is judged by both: by what it could
//! know when it acts, and by what comes of it.
//!
//! `faults.rs` breaks it, `views.rs` answers for it, `actions.rs` repairs it, and `host.rs` is its face to the loop.

mod actions;
mod faults;
mod host;
mod views;

use std::cell::{Cell, RefCell};
use std::time::Duration;

use ladder::state::*;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::schedule::{Kind, Schedule};

pub use host::Simulated;

thread_local! {
    static BEGIN: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// When the schedule of this thread began.
pub fn begin() -> Instant {
    BEGIN.with(|begin| begin.get()).expect("a schedule is being played")
}

pub const DISK: Device = Device { major: 254, minor: 1 };
pub const FOREIGN: Device = Device { major: 0, minor: 9 };

/// The truth.
#[derive(Debug, Clone)]
pub struct Truth {
    /// Mounted at the path, the topmost last.
    pub layers: Vec<Device>,
    /// The session of the agent that runs now.
    pub session: Option<Device>,
    pub session_ended: bool,
    pub stuck: bool,
    pub errors: bool,
    /// Somebody waits for an answer that nobody will give; whether a new process could give it.
    pub lost: Option<bool>,
    pub died: Option<Duration>,
    pub next_device: u32,
    pub container: Option<Container>,
    pub lives: u32,
    pub agent_restarting: Option<Duration>,
    pub registered: bool,
    /// The attribute, and the state: ECS places nothing where either says so, and takes away what is on a drained host.
    pub ready: bool,
    pub draining: bool,
}

impl Truth {
    /// Nothing has been done yet.
    fn new() -> Truth {
        Truth {
            layers: Vec::new(),
            session: None,
            session_ended: false,
            stuck: false,
            errors: false,
            lost: None,
            died: None,
            next_device: 50,
            container: None,
            lives: 0,
            agent_restarting: None,
            registered: true,
            ready: true,
            draining: false,
        }
    }
}

#[derive(Debug, Clone)]
pub struct Container {
    pub id: String,
    pub phase: Phase,
    pub life: u32,
    pub view: Option<Device>,
    pub wedged: bool,
    /// Wedged for good: only another container helps.
    pub rotten: bool,
    pub outdated: bool,
    pub answers_from: Duration,
    /// Runs into its broken entrypoint then.
    pub ends_at: Option<Duration>,
}

/// What was last answered, part by part; a question that hangs was not answered.
#[derive(Debug, Clone)]
pub struct Answered {
    pub credentials: Seen<CredentialsSeen>,
    pub store: Seen<StoreSeen>,
    pub entry: Seen<Option<MountEntry>>,
    pub session: Seen<Option<Session>>,
    pub answer: Seen<MountAnswer>,
    pub docker: Seen<DockerSeen>,
    pub container: Seen<ContainerState>,
    pub view: Seen<Option<Device>>,
    pub service: Seen<ServiceSeen>,
    pub ecs: Seen<EcsSeen>,
    pub requests: Seen<Requests>,
}

pub struct Model {
    pub truth: RefCell<Truth>,
    pub answered: RefCell<Answered>,
    /// The conditions that hold now, one entry for each fault that brought it.
    conditions: RefCell<Vec<Kind>>,
    owner: Owner,
    in_cluster: bool,
    bare: bool,
    workers: Workers,
    /// Looks in a row at which the mount was silent or failed, and the service was silent.
    faulty: Cell<u32>,
    misses: Cell<u32>,
    /// The life of the container in which its service answered last.
    served: Cell<u32>,
    first_seen: Cell<(u32, Duration)>,
    /// In which life, and since when, no answer has come.
    unanswered: Cell<Option<(u32, Duration)>>,
    /// Since when ECS was detected as faulty without a break.
    ecs_faulty: Cell<Option<Duration>>,
    /// Since when requests were seen lost at every look.
    lost: Cell<Option<Duration>>,
    /// Whether the agent that runs now has seen everything well, and which was its first action.
    pub seen_well: Cell<bool>,
    pub mount_seen_well: Cell<bool>,
    /// When a look last showed a cause that other hosts have as well.
    pub shared: Cell<Option<Duration>>,
    first_action: Cell<usize>,
    /// Whether an action is under way.
    pub acting: Cell<bool>,
    killed: Cell<bool>,
    /// How often a fault came or went.
    pub turns: Cell<u32>,
    rng: RefCell<fastrand::Rng>,
    wake: Notify,
    kill: Notify,
    wall_jump: Cell<Duration>,
    /// Each action as it began, and whether it disturbed nobody.
    pub begun: RefCell<Vec<(Duration, Target, Rung, bool)>>,
    pub actions: RefCell<Vec<(Duration, Action, bool)>>,
    pub broken: RefCell<Option<String>>,
    looks: Cell<u64>,
    log: RefCell<Vec<String>>,
}

fn unseen<T>() -> Seen<T> {
    Seen::Unknown("not asked".to_owned())
}

impl Model {
    pub fn new(schedule: &Schedule, seed: u64) -> Model {
        BEGIN.with(|begin| begin.set(Some(Instant::now())));
        Model {
            truth: RefCell::new(Truth::new()),
            answered: RefCell::new(Answered {
                credentials: unseen(),
                store: unseen(),
                entry: unseen(),
                session: unseen(),
                answer: unseen(),
                docker: unseen(),
                container: unseen(),
                view: unseen(),
                service: unseen(),
                ecs: unseen(),
                requests: unseen(),
            }),
            conditions: RefCell::default(),
            owner: schedule.owner,
            in_cluster: schedule.in_cluster,
            bare: schedule.bare,
            workers: schedule.workers,
            faulty: Cell::default(),
            misses: Cell::default(),
            served: Cell::default(),
            first_seen: Cell::default(),
            unanswered: Cell::default(),
            ecs_faulty: Cell::default(),
            lost: Cell::default(),
            seen_well: Cell::default(),
            mount_seen_well: Cell::default(),
            shared: Cell::default(),
            first_action: Cell::default(),
            acting: Cell::default(),
            killed: Cell::default(),
            turns: Cell::default(),
            rng: RefCell::new(fastrand::Rng::with_seed(seed ^ 0x5eed)),
            wake: Notify::new(),
            kill: Notify::new(),
            wall_jump: Cell::default(),
            begun: RefCell::default(),
            actions: RefCell::default(),
            broken: RefCell::default(),
            looks: Cell::default(),
            log: RefCell::default(),
        }
    }

    pub fn now(&self) -> Duration {
        begin().elapsed()
    }

    pub fn is(&self, kind: Kind) -> bool {
        self.conditions.borrow().contains(&kind)
    }

    /// Whether any of these holds.
    pub fn any(&self, kinds: &[Kind]) -> bool {
        kinds.iter().any(|kind| self.is(*kind))
    }

    fn chance(&self, one_in: u32) -> bool {
        self.rng.borrow_mut().u32(0..one_in) == 0
    }

    pub fn log(&self, text: String) {
        let at = self.now().as_secs_f64();
        self.log.borrow_mut().push(format!("{at:9.3} {text}"));
    }

    pub fn story(&self) -> String {
        let log = self.log.borrow();
        let tail = log.len().saturating_sub(120);
        format!("{}\nthe truth: {:#?}", log[tail..].join("\n"), self.truth.borrow())
    }

    pub fn counts(&self) -> (usize, u64) {
        (self.actions.borrow().len(), self.looks.get())
    }

    pub async fn killed(&self) {
        self.kill.notified().await;
    }

    pub fn was_killed(&self) -> bool {
        self.killed.get()
    }

    pub fn is_ours(&self) -> bool {
        self.owner == Owner::Mapkeeper
    }

    pub fn in_cluster(&self) -> bool {
        self.in_cluster
    }

    pub fn is_bare(&self) -> bool {
        self.bare
    }

    pub fn workers(&self) -> Workers {
        self.workers
    }

    /// How long ECS has been seen faulty without a break.
    pub fn lost_for(&self) -> Duration {
        self.lost.get().map_or(Duration::ZERO, |since| self.now() - since)
    }

    pub fn ecs_faulty_for(&self) -> Duration {
        self.ecs_faulty.get().map_or(Duration::ZERO, |since| self.now() - since)
    }

    /// When the agent that runs now has tried this: the ends of all its attempts.
    pub fn attempts(&self, counts: impl Fn(&Action) -> bool) -> Vec<Duration> {
        let actions = self.actions.borrow();
        let of_this_agent = actions.iter().skip(self.first_action.get());
        of_this_agent.filter(|(_, action, _)| counts(action)).map(|(at, ..)| *at).collect()
    }

    /// Looks in a row at which the mount did not answer as it should.
    pub fn faulty_looks(&self) -> u32 {
        self.faulty.get()
    }

    /// Whether the service was faulty at three looks in a row, or silent at two, and had its time in this life of the
    /// container.
    pub fn service_was_given_time(&self) -> bool {
        let (life, since) = self.first_seen.get();
        let grown = self.served.get() == life || self.now() - since >= Duration::from_millis(19_900);
        let told = self.answered.borrow();
        let silent = matches!(&told.service, Seen::Known(ServiceSeen::Unanswered { .. }));
        self.misses.get() >= if silent { 2 } else { 3 } && grown
    }

    /// Everything about the host that is broken in a way that a look shows.
    pub fn visible_faults(&self) -> Vec<String> {
        let store = [Kind::S3Away, Kind::S3Slow, Kind::S3Refuses, Kind::BucketGone, Kind::CredentialsGone];
        let of_containers = [Kind::MapBroken, Kind::DockerDown, Kind::ServiceSlow, Kind::ServiceBusy];
        let in_cluster = [Kind::EcsAgentDown, Kind::EcsDisconnected, Kind::DrainedByHand, Kind::Impostor];
        let of_containers = of_containers.iter().filter(|_| !self.bare);
        let in_cluster = in_cluster.iter().filter(|_| self.in_cluster);
        let mounted = !self.truth.borrow().layers.is_empty();
        let hidden = [Kind::Hidden].iter().filter(|_| mounted);
        let conditions = store.iter().chain(hidden).chain(of_containers).chain(in_cluster);
        let mut faults: Vec<String> =
            conditions.filter(|kind| self.is(**kind)).map(|kind| format!("{kind:?}")).collect();
        let truth = self.truth.borrow();
        if self.in_cluster && (!truth.registered || truth.agent_restarting.is_some()) {
            faults.push("no place in the cluster".to_owned());
        }
        drop(truth);
        if !self.serving() {
            faults.push("the mount".to_owned());
        } else if !self.serves_maps() {
            faults.push("the container".to_owned());
        }
        faults
    }

    /// Whether the container runs on the mount that serves.
    pub fn serves_maps(&self) -> bool {
        if self.bare {
            return self.serving();
        }
        let truth = self.truth.borrow();
        let runs = truth.container.as_ref().is_some_and(|container| {
            container.phase == Phase::Running
                && container.view == truth.session
                && !container.wedged
                && !container.outdated
        });
        drop(truth);
        runs && self.serving()
    }

    /// Whether the container runs and does nothing.
    pub fn is_wedged(&self) -> bool {
        let truth = self.truth.borrow();
        truth.container.as_ref().is_some_and(|one| one.phase == Phase::Running && one.wedged)
    }

    /// Whether the container has come up on the mount and stays up.
    pub fn answers_maps(&self) -> bool {
        let came_up =
            |container: &Container| container.ends_at.is_none() && self.now() >= container.answers_from;
        self.serves_maps() && (self.bare || self.truth.borrow().container.as_ref().is_some_and(came_up))
    }

    /// Whether the ECS agent runs and the cluster knows this instance.
    pub fn has_its_place(&self) -> bool {
        let truth = self.truth.borrow();
        truth.registered && truth.agent_restarting.is_none()
    }

    /// Whether a map could be had from this host if ECS placed a container on it.
    pub fn could_serve(&self) -> bool {
        let gone = self.truth.borrow().container.as_ref().is_none_or(|one| one.phase == Phase::Exited);
        self.serving()
            && self.has_its_place()
            && (gone || self.answers_maps())
            && self.conditions.borrow().is_empty()
    }

    /// What serves nobody at all, and is ours to bring back.
    pub fn serves_nobody(&self) -> Option<Target> {
        let truth = self.truth.borrow();
        let dead = truth.layers.last().is_none_or(|top| *top != FOREIGN)
            && truth.layers.last() != truth.session.as_ref();
        if dead || truth.session_ended {
            return Some(Target::Mount("mapfiles".to_owned()));
        }
        let runs = truth.container.as_ref().is_some_and(|container| {
            container.phase == Phase::Running && container.ends_at.is_none_or(|end| self.now() < end)
        });
        drop(truth);
        let ours = self.owner == Owner::Mapkeeper && !self.bare;
        (ours && self.serving() && !runs).then(|| Target::Container("mapserver".to_owned()))
    }

    /// The agent's process is gone, and its session with it.
    pub fn process_ended(&self) {
        let mut truth = self.truth.borrow_mut();
        truth.session = None;
        truth.session_ended = false;
        (truth.stuck, truth.errors, truth.lost) = (false, false, None);
        truth.died = Some(self.now());
        self.killed.set(true);
        self.served.set(0);
        self.first_seen.set((0, Duration::ZERO));
        self.faulty.set(0);
        self.misses.set(0);
        self.ecs_faulty.set(None);
        self.lost.set(None);
        self.seen_well.set(false);
        self.mount_seen_well.set(false);
        self.first_action.set(self.actions.borrow().len());
        self.acting.set(false);
    }

    /// Whether the session of this agent answers at the path.
    pub fn serving(&self) -> bool {
        let truth = self.truth.borrow();
        truth.session.is_some()
            && truth.layers.last() == truth.session.as_ref()
            && !truth.session_ended
            && !truth.stuck
            && !truth.errors
    }

    /// Whether a map can be had from this host. What the cluster was told of it is another question.
    pub fn well(&self) -> bool {
        let (truth, now) = (self.truth.borrow(), self.now());
        let on = truth.session;
        let runs = self.bare
            || truth.container.as_ref().is_some_and(|container| {
                container.phase == Phase::Running
                    && container.view == on
                    && !container.wedged
                    && !container.outdated
                    && container.ends_at.is_none()
                    && now >= container.answers_from
            });
        let ecs = truth.registered && truth.agent_restarting.is_none();
        let lost = truth.lost.is_some();
        drop(truth);
        !lost && self.serving() && runs && ecs && self.conditions.borrow().is_empty()
    }
}
