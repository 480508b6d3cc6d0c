//! The loop on a simulated host, under paused time: a healthy world, one thing wrong, one expectation.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};

use super::status::{Document, Event, EventKind, Writer, milliseconds};
use super::*;
use ladder::state::*;

/// More looks than this in one test mean that the loop spins.
const ABSURD: u32 = 3_000;

/// A host with one mount and one container on it, as far as the loop can see.
#[derive(Default)]
struct Model {
    mounted: Cell<Option<Device>>,
    session: Cell<Option<Device>>,
    session_dead: Cell<bool>,
    devices: Cell<u32>,
    /// The life of the container, if it exists; `Some(Some(device))` runs on that mount.
    container: RefCell<Option<Option<Device>>>,
    lives: Cell<u32>,
    answers_from: Cell<Duration>,
    hangs: RefCell<Vec<&'static str>>,
    fails: RefCell<Option<Failure>>,
    action_takes: Cell<Duration>,
    wake: Notify,
    looks: Cell<u32>,
    applied: RefCell<Vec<Repair>>,
    shut_down: Cell<bool>,
    maintenance: Cell<Maintenance>,
}

impl Model {
    async fn answer<T>(&self, part: &'static str, value: T) -> Seen<T> {
        if self.hangs.borrow().contains(&part) {
            std::future::pending::<()>().await;
        }
        Seen::Known(value)
    }

    fn alive(&self) -> bool {
        self.mounted.get().is_some() && self.mounted.get() == self.session.get() && !self.session_dead.get()
    }

    fn run_container(&self) {
        self.lives.set(self.lives.get() + 1);
        *self.container.borrow_mut() = Some(Some(self.mounted.get().unwrap_or(DISK)));
        self.answers_from.set(now() + Duration::from_millis(500));
    }
}

const DISK: Device = Device { major: 254, minor: 1 };

fn now() -> Duration {
    Instant::now().duration_since(EPOCH.with(|epoch| *epoch))
}

thread_local! {
    static EPOCH: Instant = Instant::now();
}

impl Host for Rc<Model> {
    fn clock(&self) -> (Duration, SystemTime) {
        (now(), SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000) + now())
    }

    fn random(&self) -> u64 {
        4
    }

    async fn credentials(&self) -> Seen<CredentialsSeen> {
        self.looks.set(self.looks.get() + 1);
        assert!(self.looks.get() < ABSURD, "the loop spins");
        self.answer("credentials", CredentialsSeen::Held).await
    }

    fn maintenance(&self) -> Maintenance {
        self.maintenance.get()
    }

    async fn store(&self, _: &str) -> Seen<StoreSeen> {
        self.answer("store", StoreSeen::Answers).await
    }

    async fn data(&self, _: &str) -> DataSeen {
        DataSeen::NotCompared
    }

    async fn requests(&self, _: &str) -> Seen<Requests> {
        Seen::Known(Requests::default())
    }

    async fn ecs(&self) -> Seen<EcsSeen> {
        Seen::Unknown("no cluster".to_owned())
    }

    async fn mount_entry(&self, _: &str) -> Seen<Option<MountEntry>> {
        let entry = self.mounted.get().map(|device| MountEntry {
            device,
            fs_type: "fuse.mapkeeper".to_owned(),
            source: "s3://bucket".to_owned(),
            origin: Origin::Mapkeeper,
            hidden_by: None,
        });
        self.answer("entry", entry).await
    }

    async fn session(&self, _: &str) -> Seen<Option<Session>> {
        let state = match self.session_dead.get() {
            true => SessionState::Ended("aborted".to_owned()),
            false => SessionState::Serving,
        };
        self.answer("session", self.session.get().map(|device| Session { device, state })).await
    }

    async fn mount_answer(&self, _: &str) -> Seen<MountAnswer> {
        let answer = match (self.mounted.get(), self.alive()) {
            (Some(device), true) => MountAnswer::Serves(device),
            (Some(_), false) => MountAnswer::Errno("ENOTCONN".to_owned()),
            (None, _) => MountAnswer::Serves(DISK),
        };
        self.answer("answer", answer).await
    }

    async fn docker(&self) -> Seen<DockerSeen> {
        self.answer("docker", DockerSeen::Answers).await
    }

    async fn container(&self, _: &ContainerSettings) -> Seen<ContainerState> {
        let state = match *self.container.borrow() {
            None => ContainerState::Absent,
            Some(running) => ContainerState::Present(ContainerFacts {
                id: "c0ffee".to_owned(),
                phase: if running.is_some() { Phase::Running } else { Phase::Exited },
                pid: running.map(|_| 42),
                started: format!("life {}", self.lives.get()),
                restarts: 0,
                oom_killed: false,
                exit_code: Some(137),
                image: "mapserver:8".to_owned(),
                specification: Specification::Current,
            }),
        };
        self.answer("container", state).await
    }

    fn mounts_bound(&self, _: &ContainerSettings) -> Vec<String> {
        vec!["mapfiles".to_owned()]
    }

    async fn view(&self, _: &ContainerSettings, _: u32, _: &str) -> Seen<Option<Device>> {
        let view = self.container.borrow().flatten();
        self.answer("view", view).await
    }

    async fn service(&self, _: &ContainerSettings) -> Seen<ServiceSeen> {
        let service = if now() >= self.answers_from.get() {
            ServiceSeen::Healthy
        } else {
            ServiceSeen::Faulty { trigger: Reason::NoConnection, detail: "refused".to_owned() }
        };
        self.answer("service", service).await
    }

    async fn apply(&self, action: &Action) -> Result<(), Failure> {
        self.applied.borrow_mut().push(action.repair);
        sleep(self.action_takes.get()).await;
        if let Some(failure) = self.fails.borrow().clone() {
            return Err(failure);
        }
        match action.repair {
            Repair::Mount | Repair::Remount => {
                self.devices.set(self.devices.get() + 1);
                let device = Device { major: 0, minor: 50 + self.devices.get() };
                self.mounted.set(Some(device));
                self.session.set(Some(device));
                self.session_dead.set(false);
            }
            _ => {
                assert!(self.alive(), "{:?} on a mount that does not serve", action.repair);
                self.run_container();
            }
        }
        Ok(())
    }

    async fn wake(&self) {
        self.wake.notified().await;
    }

    async fn shut_down(&self) {
        self.shut_down.set(true);
        *self.container.borrow_mut() = None;
        self.mounted.set(None);
        if self.hangs.borrow().contains(&"shut down") {
            std::future::pending::<()>().await;
        }
    }
}

fn settings() -> Settings {
    Settings {
        mounts: vec!["mapfiles".to_owned()],
        containers: vec![ContainerSettings {
            name: "mapserver".to_owned(),
            owner: Owner::Mapkeeper,
            mounts: vec!["mapfiles".to_owned()],
            probed: true,
        }],
        ecs: None,
        workers: Workers::Fixed,
        escalation: Escalation::Drain,
        timing: Timing::default(),
    }
}

/// A running agent and the host it looks after.
struct Story {
    host: Rc<Model>,
    stop: watch::Sender<bool>,
    status: watch::Receiver<Option<Arc<Document>>>,
}

impl Story {
    fn document(&self) -> Arc<Document> {
        self.status.borrow().clone().expect("a document was published")
    }

    /// Waits for a document that is as wanted, at most `limit` long; returns how long it took.
    async fn until(&mut self, limit: Duration, wanted: impl Fn(&Document) -> bool) -> Duration {
        let begun = Instant::now();
        let found = self.status.wait_for(|document| document.as_ref().is_some_and(|found| wanted(found)));
        let in_time = timeout(limit, found).await.is_ok();
        assert!(in_time, "not within {limit:?}: {:#?}", self.document());
        begun.elapsed()
    }

    async fn until_healthy(&mut self, limit: Duration) -> Duration {
        self.until(limit, |document| document.health == Health::Healthy).await
    }

    fn applied(&self) -> Vec<Repair> {
        self.host.applied.borrow().clone()
    }
}

/// Runs `story` beside an agent, then stops the agent.
async fn tell(host: Rc<Model>, story: impl AsyncFnOnce(&mut Story)) -> Rc<Document> {
    EPOCH.with(|_| ());
    let (stop, stop_order) = watch::channel(false);
    let (publisher, status) = Publisher::new(None);
    let writer = Writer { boot_id: "boot".to_owned(), pid: 1, process_start: 1 };
    let settings = settings();
    let agent = run(&host, &settings, writer, publisher, stop_order);
    let last = status.clone();
    let told = async {
        let mut told = Story { host: host.clone(), stop, status };
        story(&mut told).await;
        told.stop.send_replace(true);
        told
    };
    let (_, _story) = futures::join!(agent, told);
    let document = last.borrow().clone().expect("a document was published");
    Rc::new(Arc::unwrap_or_clone(document))
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn elapsed(events: &[Event], target: Option<Target>) -> Option<u64> {
    events.iter().rev().find_map(|event| match &event.what {
        EventKind::Recovered { elapsed_ms } if event.target == target => Some(*elapsed_ms),
        _ => None,
    })
}

#[tokio::test(start_paused = true)]
async fn an_empty_host_is_brought_up_in_order() {
    tell(Rc::default(), async |story| {
        story.until_healthy(seconds(5)).await;
        assert_eq!(story.applied(), [Repair::Mount, Repair::Create]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_killed_container_is_started_and_the_document_says_how_long_it_took() {
    tell(Rc::default(), async |story| {
        story.until_healthy(seconds(5)).await;
        *story.host.container.borrow_mut() = Some(None);
        story.host.wake.notify_one();
        story.until(seconds(5), |document| document.health != Health::Healthy).await;
        let took = story.until_healthy(seconds(5)).await;
        assert_eq!(story.applied()[2..], [Repair::Start]);
        let events = story.document().events.clone();
        let whole = elapsed(&events, None).unwrap();
        assert_eq!(Duration::from_millis(whole), took);
        assert!(elapsed(&events, Some(Target::Container("mapserver".to_owned()))).unwrap() <= whole);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_aborted_mount_is_mounted_again_and_the_container_on_it_restarted() {
    tell(Rc::default(), async |story| {
        story.until_healthy(seconds(5)).await;
        story.host.session_dead.set(true);
        story.host.wake.notify_one();
        story.until(seconds(5), |document| document.health != Health::Healthy).await;
        story.until_healthy(seconds(5)).await;
        assert_eq!(story.applied()[2..], [Repair::Remount, Repair::Restart]);
        let detected = story.document().events.iter().any(|event| {
            matches!(&event.what, EventKind::Detected { trigger: Some(Reason::StaleMount), .. })
        });
        assert!(detected, "{:#?}", story.document().events);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_fault_without_a_nudge_is_found_at_the_next_look() {
    tell(Rc::default(), async |story| {
        story.until_healthy(seconds(5)).await;
        story.host.mounted.set(None);
        let found = story.until(seconds(60), |document| document.health != Health::Healthy).await;
        assert!(found <= Timing::default().look_every, "{found:?}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_part_that_hangs_is_unknown_and_holds_up_no_other() {
    tell(Rc::default(), async |story| {
        story.until_healthy(seconds(5)).await;
        story.host.hangs.borrow_mut().push("docker");
        story.host.session_dead.set(true);
        story.host.wake.notify_one();
        let remounted = |document: &Document| document.events.iter().any(|event| event.target.is_some());
        story.until(seconds(20), remounted).await;
        story
            .until(seconds(20), |document| {
                document.links.iter().any(|link| {
                    link.target == Target::Docker && link.detail == "could not look: no answer within 6 s"
                })
            })
            .await;
        story.until(seconds(20), |document| document.links[2].state == LinkState::Ok).await;
        assert_eq!(story.applied()[2..], [Repair::Remount]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_steady_state_publishes_often_and_changes_nothing() {
    tell(Rc::default(), async |story| {
        story.until_healthy(seconds(5)).await;
        let (before, looks) = (story.document().events.clone(), story.host.looks.get());
        sleep(seconds(600)).await;
        assert_eq!(story.document().events, before);
        assert_eq!(story.applied().len(), 2);
        let more = story.host.looks.get() - looks;
        assert!((140..=155).contains(&more), "{more} looks in 10 min");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_nudges_does_not_make_the_loop_spin() {
    tell(Rc::default(), async |story| {
        story.until_healthy(seconds(5)).await;
        let looks = story.host.looks.get();
        for _ in 0..10_000 {
            story.host.wake.notify_one();
            sleep(Duration::from_millis(1)).await;
        }
        let more = story.host.looks.get() - looks;
        assert!((50..=101).contains(&more), "{more} looks in 10 s");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_repair_that_fails_names_its_error_hint_and_exit_code() {
    let host: Rc<Model> = Rc::default();
    let failure =
        Failure { error: "the bucket is missing".to_owned(), hint: Some("make it".to_owned()), exit: 11 };
    *host.fails.borrow_mut() = Some(failure.clone());
    tell(host, async |story| {
        story.until(seconds(5), |document| document.last_failure.is_some()).await;
        let document = story.document();
        assert_eq!(document.last_failure, Some(failure.clone()));
        *story.host.fails.borrow_mut() = None;
        story.until_healthy(seconds(30)).await;
        assert_eq!(story.document().last_failure, None);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_document_stays_fresh_while_a_long_action_runs() {
    let host: Rc<Model> = Rc::default();
    host.action_takes.set(seconds(25));
    tell(host, async |story| {
        story.until(seconds(1), |document| document.acting.is_some()).await;
        for _ in 0..24 {
            sleep(seconds(1)).await;
            let document = story.document();
            let age = milliseconds(now()) - document.written_uptime_ms;
            assert!(age <= 2_000 && age <= document.fresh_for_ms, "{age} ms old");
        }
        story.until(seconds(2), |document| document.acting.is_none()).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_action_that_never_ends_is_given_up_and_counts_as_failed() {
    let host: Rc<Model> = Rc::default();
    host.action_takes.set(seconds(100_000));
    tell(host, async |story| {
        story.until(seconds(40), |document| document.last_failure.is_some()).await;
        let failure = story.document().last_failure.clone().unwrap();
        assert_eq!(failure.error, "it did not end within 30 s");
        story.host.action_takes.set(Duration::ZERO);
        story.until_healthy(seconds(60)).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_order_ends_the_loop_and_puts_everything_away() {
    let host: Rc<Model> = Rc::default();
    let document = tell(host.clone(), async |story| {
        story.until_healthy(seconds(5)).await;
    })
    .await;
    assert!(host.shut_down.get());
    assert_eq!(document.ended.as_deref(), Some("stopped in order"));
}

#[tokio::test(start_paused = true)]
async fn a_stop_order_waits_for_a_running_action_no_longer_than_its_limit() {
    let host: Rc<Model> = Rc::default();
    host.action_takes.set(seconds(100_000));
    host.hangs.borrow_mut().push("shut down");
    let begun = Instant::now();
    tell(host.clone(), async |story| {
        story.until(seconds(1), |document| document.acting.is_some()).await;
    })
    .await;
    let took = begun.elapsed();
    assert!(host.shut_down.get());
    assert!(took <= STOP_LIMIT + SHUT_DOWN_LIMIT + seconds(2), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_observed_of_docker_without_a_container() {
    let host: Rc<Model> = Rc::default();
    host.hangs.borrow_mut().push("docker");
    let mut settings = settings();
    settings.containers.clear();
    let begun = Instant::now();
    let seen = observe(&host, &settings).await;
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert_eq!(seen.containers, BTreeMap::new());
}

#[tokio::test(start_paused = true)]
async fn a_service_is_not_waited_for_while_its_mount_does_not_serve() {
    let model: Rc<Model> = Rc::default();
    let device = Some(Device { major: 0, minor: 50 });
    model.mounted.set(device);
    model.session.set(device);
    model.container.replace(Some(device));
    model.hangs.borrow_mut().push("service");
    let began = Instant::now();
    let seen = observe(&model, &settings()).await;
    assert_eq!(began.elapsed(), LOOK_LIMIT, "on a mount that serves it is");
    assert!(matches!(seen.containers["mapserver"].service, Some(Seen::Unknown(_))));
    model.session_dead.set(true);
    let began = Instant::now();
    let seen = observe(&model, &settings()).await;
    assert_eq!(began.elapsed(), Duration::ZERO);
    let Some(Seen::Unknown(why)) = &seen.containers["mapserver"].service else { panic!("{seen:?}") };
    assert_eq!(why, "its mount does not serve");
}
