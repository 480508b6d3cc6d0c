//! A host that exists only in memory: mount, bucket, Docker, container, service, ECS, and what breaks them.
//!
//! Two things are kept apart: what is true, and what was last answered. The agent is judged by both: by what it could
//! know when it acts, and by what comes of it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use mapkeeper::agent::Host;
use mapkeeper::agent::state::*;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use crate::schedule::{Kind, Schedule};
use crate::{check, until};

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
    pub died: Option<Duration>,
    pub next_device: u32,
    pub container: Option<Container>,
    pub lives: u32,
    pub agent_restarting: Option<Duration>,
    pub registered: bool,
    pub ready: bool,
}

#[derive(Debug, Clone)]
pub struct Container {
    pub id: String,
    pub phase: Phase,
    pub life: u32,
    pub view: Option<Device>,
    pub wedged: bool,
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
}

pub struct Model {
    pub truth: RefCell<Truth>,
    pub answered: RefCell<Answered>,
    /// The conditions that hold now, one entry for each fault that brought it.
    conditions: RefCell<Vec<Kind>>,
    owner: Owner,
    in_cluster: bool,
    /// Looks in a row at which the mount was silent or failed, and the service was silent.
    amiss: Cell<u32>,
    misses: Cell<u32>,
    /// The life of the container in which its service answered last.
    served: Cell<u32>,
    first_seen: Cell<(u32, Duration)>,
    killed: Cell<bool>,
    /// How often a fault came or went.
    pub turns: Cell<u32>,
    rng: RefCell<fastrand::Rng>,
    nudge: Notify,
    kill: Notify,
    wall_jump: Cell<Duration>,
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
            truth: RefCell::new(Truth {
                layers: Vec::new(),
                session: None,
                session_ended: false,
                stuck: false,
                errors: false,
                died: None,
                next_device: 50,
                container: None,
                lives: 0,
                agent_restarting: None,
                registered: true,
                ready: true,
            }),
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
            }),
            conditions: RefCell::default(),
            owner: schedule.owner,
            in_cluster: schedule.in_cluster,
            amiss: Cell::default(),
            misses: Cell::default(),
            served: Cell::default(),
            first_seen: Cell::default(),
            killed: Cell::default(),
            turns: Cell::default(),
            rng: RefCell::new(fastrand::Rng::with_seed(seed ^ 0x5eed)),
            nudge: Notify::new(),
            kill: Notify::new(),
            wall_jump: Cell::default(),
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

    /// Looks in a row at which the mount did not answer as it should.
    pub fn amiss_looks(&self) -> u32 {
        self.amiss.get()
    }

    /// Whether the service was silent at three looks in a row, and had its time in this life of the container.
    pub fn service_was_given_time(&self) -> bool {
        let (life, since) = self.first_seen.get();
        let grown = self.served.get() == life || self.now() - since >= Duration::from_millis(19_900);
        let told = self.answered.borrow();
        let silent =
            matches!(&told.service, Seen::Known(ServiceSeen::Faulty { trigger: Trigger::NoAnswer, .. }));
        self.misses.get() >= if silent { 2 } else { 3 } && grown
    }

    /// Everything about the host that is broken in a way that a look shows.
    pub fn visible_faults(&self) -> Vec<String> {
        let shown = [
            Kind::S3Away,
            Kind::S3Slow,
            Kind::S3Refuses,
            Kind::BucketGone,
            Kind::CredentialsGone,
            Kind::MapBroken,
            Kind::DockerDown,
        ];
        let in_cluster = [Kind::EcsAgentDown, Kind::EcsDisconnected];
        let conditions = shown.iter().chain(in_cluster.iter().filter(|_| self.in_cluster));
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

    /// The agent's process is gone, and its session with it.
    pub fn process_ended(&self) {
        let mut truth = self.truth.borrow_mut();
        truth.session = None;
        truth.session_ended = false;
        (truth.stuck, truth.errors) = (false, false);
        truth.died = Some(self.now());
        self.killed.set(true);
        self.served.set(0);
        self.first_seen.set((0, Duration::ZERO));
        self.amiss.set(0);
        self.misses.set(0);
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

    /// Whether a map can be had from this host.
    pub fn well(&self) -> bool {
        let (truth, now) = (self.truth.borrow(), self.now());
        let on = truth.session;
        let runs = truth.container.as_ref().is_some_and(|container| {
            container.phase == Phase::Running
                && container.view == on
                && !container.wedged
                && !container.outdated
                && container.ends_at.is_none()
                && now >= container.answers_from
        });
        let ecs = truth.registered && truth.agent_restarting.is_none();
        drop(truth);
        self.serving() && runs && ecs && self.conditions.borrow().is_empty()
    }

    /// Brings every fault at its time and takes away what lasts at its end.
    pub async fn suffers(self: Rc<Self>, schedule: &Schedule) {
        let ends = schedule.faults.iter().map(|fault| (fault.at + fault.lasts, false, fault.kind));
        let begins = schedule.faults.iter().map(|fault| (fault.at, true, fault.kind));
        let mut turns: Vec<_> = begins.chain(ends).collect();
        turns.sort_by_key(|(at, begins, _)| (*at, *begins));
        for (at, begins, kind) in turns {
            until(at).await;
            self.turns.set(self.turns.get() + 1);
            self.log(format!("{} {kind:?}", if begins { "FAULT" } else { "over " }));
            if begins {
                self.conditions.borrow_mut().push(kind);
                self.strike(kind);
            } else {
                let place = self.conditions.borrow().iter().position(|one| *one == kind);
                place.map(|place| self.conditions.borrow_mut().remove(place));
            }
            // Some changes are told at once, as by Docker's events; others are found by looking.
            if self.chance(2) {
                self.nudge.notify_one();
            }
        }
        std::future::pending().await
    }

    fn strike(&self, kind: Kind) {
        let now = self.now();
        let mut truth = self.truth.borrow_mut();
        match kind {
            Kind::SessionAborted if truth.session.is_some() => {
                (truth.session_ended, truth.died) = (true, Some(now));
            }
            Kind::Unmounted => drop(truth.layers.pop()),
            // Where nothing of ours ever was it would be somebody's, and a person's to take away.
            Kind::Covered if !truth.layers.is_empty() => truth.layers.push(FOREIGN),
            Kind::WorkersStuck => truth.stuck = truth.session.is_some(),
            Kind::MountErrors => truth.errors = truth.session.is_some(),
            Kind::EcsDeregistered if self.in_cluster => truth.registered = false,
            Kind::AgentKilled => self.kill.notify_one(),
            Kind::ClockJump => {
                let jump = Duration::from_secs(self.rng.borrow_mut().u64(0..1_000_000_000));
                self.wall_jump.set(jump);
            }
            Kind::DockerDown => {
                if let Some(container) = &mut truth.container {
                    container.phase = Phase::Exited;
                }
            }
            Kind::RestartedByHand if !truth.layers.contains(&FOREIGN) => {
                let shown = truth.layers.last().copied();
                truth.lives += 1;
                let life = truth.lives;
                if let Some(container) = &mut truth.container {
                    (container.life, container.phase, container.view) = (life, Phase::Running, shown);
                }
            }
            _ => self.strike_container(kind, &mut truth),
        }
    }

    fn strike_container(&self, kind: Kind, truth: &mut Truth) {
        if kind == Kind::ContainerRemoved {
            truth.container = None;
        }
        let Some(container) = &mut truth.container else { return };
        match kind {
            Kind::ContainerKilled => container.phase = Phase::Exited,
            Kind::ContainerPaused if container.phase == Phase::Running => container.phase = Phase::Paused,
            Kind::ServiceWedged => container.wedged = true,
            Kind::Outdated if self.owner == Owner::Mapkeeper => container.outdated = true,
            _ => {}
        }
    }

    /// Runs a container on whatever is mounted.
    fn run_container(&self, truth: &mut Truth, fresh: bool) {
        truth.lives += 1;
        let now = self.now();
        let shown = truth.layers.last().copied();
        let id = match (&truth.container, fresh) {
            (Some(container), false) => container.id.clone(),
            _ => format!("container{}", truth.lives),
        };
        let ends_at = self.is(Kind::BadEntrypoint).then(|| now + Duration::from_millis(200));
        truth.container = Some(Container {
            id,
            phase: Phase::Running,
            life: truth.lives,
            view: shown,
            wedged: false,
            outdated: truth.container.as_ref().is_some_and(|container| container.outdated && !fresh),
            answers_from: now + Duration::from_millis(800),
            ends_at,
        });
    }

    /// What time does to a container by itself.
    fn passes(&self) {
        let now = self.now();
        let mut truth = self.truth.borrow_mut();
        if truth.agent_restarting.is_some_and(|until| now >= until) {
            truth.agent_restarting = None;
        }
        if let Some(container) = &mut truth.container
            && container.ends_at.is_some_and(|end| now >= end)
        {
            container.phase = Phase::Exited;
            container.ends_at = None;
        }
    }

    /// ECS: replaces what ended, knowing nothing of mounts.
    pub async fn replaces(self: Rc<Self>) {
        loop {
            sleep(Duration::from_millis(500)).await;
            self.passes();
            let can = self.owner == Owner::Ecs
                && !self.any(&[Kind::DockerDown, Kind::EcsAgentDown, Kind::EcsDisconnected])
                && !self.any(&[Kind::PortTaken, Kind::ImageGone]);
            let wanted = {
                let truth = self.truth.borrow();
                let gone = truth.container.as_ref().is_none_or(|one| one.phase == Phase::Exited);
                gone && truth.registered && truth.agent_restarting.is_none()
            };
            if can && wanted {
                let pause = Duration::from_millis(self.rng.borrow_mut().u64(500..6_000));
                sleep(pause).await;
                self.log("ECS starts a container".to_owned());
                let mut truth = self.truth.borrow_mut();
                self.run_container(&mut truth, true);
                drop(truth);
                self.nudge.notify_one();
            }
        }
    }

    /// One answer: late, missing or given, and remembered as what was answered.
    async fn tell<T: Clone>(
        &self,
        slot: impl Fn(&mut Answered, Seen<T>),
        truth: impl FnOnce() -> T,
    ) -> Seen<T> {
        slot(&mut self.answered.borrow_mut(), Seen::Unknown("no answer".to_owned()));
        if self.is(Kind::Deaf) && self.chance(3) {
            std::future::pending::<()>().await;
        }
        let pause = self.rng.borrow_mut().u64(0..30);
        sleep(Duration::from_millis(pause)).await;
        let seen = match self.is(Kind::Blind) && self.chance(2) {
            true => Seen::Unknown("could not look".to_owned()),
            false => Seen::Known(truth()),
        };
        slot(&mut self.answered.borrow_mut(), seen.clone());
        seen
    }

    fn store_now(&self) -> StoreSeen {
        let why = || "as the schedule says".to_owned();
        if self.any(&[Kind::S3Away, Kind::S3Slow]) {
            StoreSeen::Away { reason: why(), hint: None }
        } else if self.is(Kind::BucketGone) {
            StoreSeen::Missing { reason: why(), hint: None }
        } else if self.is(Kind::S3Refuses) {
            StoreSeen::Refuses { reason: why(), hint: None }
        } else {
            StoreSeen::Answers
        }
    }

    fn entry_now(&self) -> Option<MountEntry> {
        let truth = self.truth.borrow();
        truth.layers.last().map(|device| MountEntry {
            device: *device,
            fs_type: "fuse".to_owned(),
            source: "s3://maps".to_owned(),
            origin: match (*device == FOREIGN, truth.layers.iter().any(|layer| *layer != FOREIGN)) {
                (false, _) => Origin::Mapkeeper,
                (true, true) => Origin::OverMapkeeper,
                (true, false) => Origin::Foreign,
            },
        })
    }

    fn session_now(&self) -> Option<Session> {
        let truth = self.truth.borrow();
        let state = match (truth.session_ended, self.any(&[Kind::S3Away, Kind::S3Slow])) {
            (true, _) => SessionState::Ended("aborted".to_owned()),
            (false, true) => SessionState::Degraded("S3 is away".to_owned()),
            (false, false) => SessionState::Serving,
        };
        truth.session.map(|device| Session { device, state })
    }

    fn answer_now(&self) -> MountAnswer {
        let truth = self.truth.borrow();
        match truth.layers.last() {
            None => MountAnswer::Serves(DISK),
            Some(device) if *device == FOREIGN => MountAnswer::Serves(FOREIGN),
            Some(device) if Some(*device) != truth.session || truth.session_ended => {
                MountAnswer::Errno("ENOTCONN".to_owned())
            }
            Some(_) if truth.stuck => MountAnswer::Silent(Duration::from_secs(4)),
            Some(_) if truth.errors => MountAnswer::Errno("EIO".to_owned()),
            Some(device) => MountAnswer::Serves(*device),
        }
    }

    fn container_now(&self) -> ContainerState {
        match &self.truth.borrow().container {
            None => ContainerState::Absent,
            Some(container) => ContainerState::Present(ContainerFacts {
                id: container.id.clone(),
                phase: container.phase,
                pid: (container.phase == Phase::Running).then_some(42),
                started: format!("life {}", container.life),
                restarts: 0,
                oom_killed: false,
                exit_code: Some(137),
                image: "mapserver:8".to_owned(),
                specification: if container.outdated {
                    Specification::Outdated
                } else {
                    Specification::Current
                },
            }),
        }
    }

    fn service_now(&self) -> ServiceSeen {
        let faulty = |trigger| ServiceSeen::Faulty { trigger, detail: "amiss".to_owned() };
        let truth = self.truth.borrow();
        let Some(container) = &truth.container else { return faulty(Trigger::NoConnection) };
        if container.phase != Phase::Running || self.now() < container.answers_from {
            faulty(Trigger::NoConnection)
        } else if container.wedged {
            faulty(Trigger::NoAnswer)
        } else if container.view != truth.session || truth.session_ended || truth.errors {
            faulty(Trigger::MapMissing)
        } else if truth.stuck || self.is(Kind::S3Slow) {
            faulty(Trigger::NoAnswer)
        } else if self.is(Kind::MapBroken) {
            faulty(Trigger::MapBroken)
        } else {
            ServiceSeen::Healthy
        }
    }

    fn ecs_now(&self) -> EcsSeen {
        let truth = self.truth.borrow();
        let none = || "no place in a cluster".to_owned();
        if self.is(Kind::EcsAgentDown) || truth.agent_restarting.is_some() {
            let agent = EcsAgent::Down { reason: "refused".to_owned() };
            return EcsSeen { agent, instance: Seen::Unknown(none()), tasks: Seen::Unknown(none()) };
        }
        let instance = match truth.registered {
            true => {
                EcsInstance::Present { connected: !self.is(Kind::EcsDisconnected), ready: Some(truth.ready) }
            }
            false => EcsInstance::Absent,
        };
        let tasks = truth.container.iter().map(|container| container.id.clone()).collect();
        EcsSeen {
            agent: EcsAgent::Registered { cluster: "maps".to_owned(), instance: "arn".to_owned() },
            instance: Seen::Known(instance),
            tasks: Seen::Known(tasks),
        }
    }

    fn fail(&self, error: &str) -> Result<(), Failure> {
        Err(Failure { error: error.to_owned(), hint: None, exit: 1 })
    }

    async fn carry_out(&self, action: &Action) -> Result<(), Failure> {
        let took = match self.is(Kind::Slow) {
            true if self.chance(4) => return std::future::pending().await,
            true => self.rng.borrow_mut().u64(1_000..20_000),
            false => self.rng.borrow_mut().u64(50..1_500),
        };
        let clumsy = self.is(Kind::Clumsy) && self.chance(2);
        if clumsy && self.chance(2) {
            sleep(Duration::from_millis(took)).await;
            return self.fail("it went wrong before it began");
        }
        match &action.target {
            Target::Mount(_) => self.carry_out_mount(action.repair, took, clumsy).await,
            Target::Container(_) => self.carry_out_container(action, took, clumsy).await,
            Target::Ecs => {
                let mut truth = self.truth.borrow_mut();
                truth.agent_restarting = Some(self.now() + Duration::from_secs(5));
                truth.registered |= action.repair == Repair::Reregister;
                Ok(())
            }
            Target::Instance if action.repair != Repair::Terminate => {
                self.truth.borrow_mut().ready = action.repair == Repair::MarkReady;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    async fn carry_out_mount(&self, repair: Repair, took: u64, clumsy: bool) -> Result<(), Failure> {
        if repair == Repair::RestartWorkers {
            sleep(Duration::from_millis(took)).await;
            // Only workers are cured by new workers.
            self.truth.borrow_mut().stuck = false;
            return Ok(());
        }
        {
            let mut truth = self.truth.borrow_mut();
            if repair == Repair::Remount {
                truth.layers.clear();
            } else if !truth.layers.is_empty() {
                return self.fail("something is mounted there");
            }
            truth.session = None;
            (truth.stuck, truth.errors, truth.session_ended) = (false, false, false);
            truth.died = Some(self.now());
        }
        sleep(Duration::from_millis(took)).await;
        if clumsy || self.store_now() != StoreSeen::Answers || self.is(Kind::CredentialsGone) {
            return self.fail("the bucket does not answer");
        }
        let mut truth = self.truth.borrow_mut();
        truth.next_device += 1;
        let device = Device { major: 0, minor: truth.next_device };
        truth.layers.push(device);
        truth.session = Some(device);
        Ok(())
    }

    async fn carry_out_container(&self, action: &Action, took: u64, clumsy: bool) -> Result<(), Failure> {
        let shown = self.truth.borrow().layers.last().copied();
        if action.rests_on.iter().any(|proof| Some(proof.device) != shown) {
            return self.fail("the mount changed in the meantime");
        }
        if self.is(Kind::DockerDown) {
            return self.fail("Docker does not answer");
        }
        check::container_starts(self, action);
        if action.repair == Repair::Recreate && !self.is(Kind::ImageGone) {
            self.truth.borrow_mut().container = None;
        }
        let starts =
            matches!(action.repair, Repair::Create | Repair::Recreate | Repair::Start | Repair::Restart);
        let fresh = matches!(action.repair, Repair::Create | Repair::Recreate);
        if starts && (self.is(Kind::PortTaken) || (fresh && self.is(Kind::ImageGone)) || clumsy) {
            return self.fail("it cannot be started");
        }
        {
            let mut truth = self.truth.borrow_mut();
            match action.repair {
                Repair::Stop => {
                    if let Some(container) = &mut truth.container {
                        container.phase = Phase::Exited;
                    }
                }
                Repair::Unpause => {
                    if let Some(container) = &mut truth.container {
                        container.phase = Phase::Running;
                    }
                }
                Repair::Create if truth.container.is_some() => {}
                _ if starts => self.run_container(&mut truth, fresh),
                _ => {}
            }
        }
        sleep(Duration::from_millis(took)).await;
        Ok(())
    }
}

/// The model, as the loop sees it.
pub struct Simulated(pub Rc<Model>);

impl std::ops::Deref for Simulated {
    type Target = Model;

    fn deref(&self) -> &Model {
        &self.0
    }
}

impl Host for Simulated {
    fn clock(&self) -> (Duration, SystemTime) {
        (
            self.now(),
            SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000) + self.now() + self.wall_jump.get(),
        )
    }

    fn random(&self) -> u64 {
        self.rng.borrow_mut().u64(..)
    }

    fn maintenance(&self) -> Maintenance {
        match self.is(Kind::Maintenance) {
            true => Maintenance::On { left: None },
            false => Maintenance::Off,
        }
    }

    async fn credentials(&self) -> Seen<CredentialsSeen> {
        self.passes();
        self.looks.set(self.looks.get() + 1);
        let missing = CredentialsSeen::Missing { reason: "none".to_owned(), hint: None };
        let found = || if self.is(Kind::CredentialsGone) { missing } else { CredentialsSeen::Held };
        self.tell(|told, seen| told.credentials = seen, found).await
    }

    async fn store(&self, _: &str) -> Seen<StoreSeen> {
        self.tell(|told, seen| told.store = seen, || self.store_now()).await
    }

    async fn mount_entry(&self, _: &str) -> Seen<Option<MountEntry>> {
        self.tell(|told, seen| told.entry = seen, || self.entry_now()).await
    }

    async fn session(&self, _: &str) -> Seen<Option<Session>> {
        self.tell(|told, seen| told.session = seen, || self.session_now()).await
    }

    async fn mount_answer(&self, _: &str) -> Seen<MountAnswer> {
        if self.truth.borrow().stuck {
            sleep(Duration::from_secs(4)).await;
        }
        let seen = self.tell(|told, seen| told.answer = seen, || self.answer_now()).await;
        match &seen {
            Seen::Known(MountAnswer::Serves(_)) => self.amiss.set(0),
            Seen::Known(MountAnswer::Errno(errno)) if errno == "ENOTCONN" => self.amiss.set(0),
            Seen::Known(_) => self.amiss.set(self.amiss.get() + 1),
            Seen::Unknown(_) => {}
        }
        seen
    }

    async fn data(&self, _: &str) -> DataSeen {
        DataSeen::NotCompared
    }

    fn waiting(&self, _: &str) -> Seen<u64> {
        Seen::Known(u64::from(self.truth.borrow().stuck))
    }

    async fn docker(&self) -> Seen<DockerSeen> {
        let away = DockerSeen::Unreachable { reason: "refused".to_owned(), hint: "start it".to_owned() };
        let found = || if self.is(Kind::DockerDown) { away } else { DockerSeen::Answers };
        self.tell(|told, seen| told.docker = seen, found).await
    }

    async fn container(&self, _: &ContainerSettings) -> Seen<ContainerState> {
        if self.is(Kind::DockerDown) {
            let seen = Seen::Unknown("Docker does not answer".to_owned());
            self.answered.borrow_mut().container = seen.clone();
            return seen;
        }
        self.tell(|told, seen| told.container = seen, || self.container_now()).await
    }

    fn mounts_bound(&self, _: &ContainerSettings) -> Vec<String> {
        vec!["mapfiles".to_owned()]
    }

    async fn view(&self, _: &ContainerSettings, _: u32, _: &str) -> Seen<Option<Device>> {
        let view = || self.truth.borrow().container.as_ref().and_then(|container| container.view);
        self.tell(|told, seen| told.view = seen, view).await
    }

    async fn service(&self, _: &ContainerSettings) -> Seen<ServiceSeen> {
        let seen = self.tell(|told, seen| told.service = seen, || self.service_now()).await;
        let life = self.truth.borrow().container.as_ref().map_or(0, |container| container.life);
        if self.first_seen.get().0 != life {
            self.first_seen.set((life, self.now()));
            self.misses.set(0);
        }
        match &seen {
            Seen::Known(ServiceSeen::Faulty {
                trigger: Trigger::NoConnection | Trigger::NoAnswer | Trigger::ServerError,
                ..
            }) => self.misses.set(self.misses.get() + 1),
            Seen::Known(_) => {
                self.misses.set(0);
                self.served.set(life);
            }
            Seen::Unknown(_) => {}
        }
        seen
    }

    async fn ecs(&self) -> Seen<EcsSeen> {
        self.tell(|told, seen| told.ecs = seen, || self.ecs_now()).await
    }

    async fn apply(&self, action: &Action) -> Result<(), Failure> {
        check::action_begins(self, action);
        self.log(format!("{:?} {} for {:?}", action.repair, action.target, action.trigger));
        let done = self.carry_out(action).await;
        self.log(format!(
            "      -> {}",
            done.as_ref().map_or_else(|failure| failure.error.as_str(), |()| "done")
        ));
        self.actions.borrow_mut().push((self.now(), action.clone(), done.is_ok()));
        done
    }

    async fn nudge(&self) {
        self.nudge.notified().await;
    }

    async fn shut_down(&self) {}
}
