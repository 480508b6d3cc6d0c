//! Stories about one decision or a few: a normal world, one thing wrong, one expectation.

use super::*;
use crate::agent::state::*;

const MOUNT: &str = "mapfiles";
const DEVICE: Device = Device { major: 0, minor: 50 };
const OLD_DEVICE: Device = Device { major: 0, minor: 40 };
const DISK: Device = Device { major: 254, minor: 1 };

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// A host, its history and its clock.
struct World {
    seen: Observation,
    history: History,
    now: Moment,
    settings: Settings,
}

impl World {
    /// Everything is well and has been looked at once.
    fn healthy(owner: Owner) -> World {
        let mut world = World {
            seen: healthy(),
            history: History::default(),
            now: Moment(seconds(100)),
            settings: settings(owner),
        };
        assert_eq!(world.look().health, Health::Healthy);
        world
    }

    fn look(&mut self) -> Decision {
        let judgement = judge(&self.seen, &self.settings);
        self.history.note(&self.seen, &judgement, self.now, &self.settings);
        plan(&self.seen, &self.history, self.now, &self.settings)
    }

    fn repair(&mut self) -> Option<Repair> {
        self.look().action.map(|action| action.repair)
    }

    fn wait(&mut self, time: Duration) {
        self.now = self.now.after(time);
    }

    /// Looks as often as the plan asks for until it acts, at most `limit` long.
    fn next_action(&mut self, limit: Duration) -> Option<Action> {
        let end = self.now.after(limit);
        while self.now <= end {
            let decision = self.look();
            if decision.action.is_some() {
                return decision.action;
            }
            self.wait(decision.next_look);
        }
        None
    }

    fn tried(&mut self, action: &Action, outcome: Outcome) {
        self.history.tried(action, &outcome, self.now, 7, &self.settings.timing);
    }

    fn mount(&mut self) -> &mut MountSeen {
        self.seen.mounts.get_mut(MOUNT).unwrap()
    }

    fn container(&mut self) -> &mut ContainerSeen {
        self.seen.containers.get_mut("mapserver").unwrap()
    }

    fn facts(&mut self) -> &mut ContainerFacts {
        match &mut self.container().state {
            Seen::Known(ContainerState::Present(facts)) => facts,
            other => panic!("no container: {other:?}"),
        }
    }

    fn ended(&mut self, phase: Phase) {
        let facts = self.facts();
        facts.phase = phase;
        facts.pid = None;
        facts.exit_code = Some(137);
        self.container().views.clear();
        self.container().service = None;
    }

    fn absent(&mut self) {
        *self.container() = ContainerSeen {
            state: Seen::Known(ContainerState::Absent),
            views: Default::default(),
            service: None,
        };
    }

    fn serves(&mut self, service: ServiceSeen) {
        self.container().service = Some(Seen::Known(service));
    }

    fn link(&mut self, target: &Target) -> Link {
        self.look().links.into_iter().find(|link| link.target == *target).unwrap()
    }
}

fn settings(owner: Owner) -> Settings {
    Settings {
        mounts: vec![MOUNT.to_owned()],
        containers: vec![ContainerSettings {
            name: "mapserver".to_owned(),
            owner,
            mounts: vec![MOUNT.to_owned()],
            probed: true,
        }],
        timing: Timing::default(),
    }
}

fn healthy() -> Observation {
    let facts = ContainerFacts {
        id: "c0ffee".to_owned(),
        phase: Phase::Running,
        pid: Some(4242),
        started: "2024-01-01T00:00:00Z".to_owned(),
        restarts: 0,
        oom_killed: false,
        exit_code: None,
        image: "mapserver:8".to_owned(),
        specification: Specification::Current,
    };
    let mount = MountSeen {
        entry: Seen::Known(Some(entry(DEVICE, Origin::Mapkeeper))),
        session: Seen::Known(Some(Session { device: DEVICE, state: SessionState::Serving })),
        answer: Seen::Known(MountAnswer::Serves(DEVICE)),
    };
    let container = ContainerSeen {
        state: Seen::Known(ContainerState::Present(facts)),
        views: [(MOUNT.to_owned(), Seen::Known(Some(DEVICE)))].into(),
        service: Some(Seen::Known(ServiceSeen::Healthy)),
    };
    Observation {
        credentials: Seen::Known(CredentialsSeen::Held),
        mounts: [(MOUNT.to_owned(), mount)].into(),
        docker: Seen::Known(DockerSeen::Answers),
        containers: [("mapserver".to_owned(), container)].into(),
    }
}

fn entry(device: Device, origin: Origin) -> MountEntry {
    let fs_type = if origin == Origin::Mapkeeper { "fuse.mapkeeper" } else { "tmpfs" };
    MountEntry { device, fs_type: fs_type.to_owned(), source: "s3://bucket/maps".to_owned(), origin }
}

fn no_connection() -> ServiceSeen {
    ServiceSeen::Faulty { trigger: Trigger::NoConnection, detail: "connection refused".to_owned() }
}

fn failure(error: &str) -> Outcome {
    Outcome::Failed(Failure { error: error.to_owned(), hint: Some("do this".to_owned()), exit: 1 })
}

fn mount_target() -> Target {
    Target::Mount(MOUNT.to_owned())
}

fn service_target() -> Target {
    Target::Service("mapserver".to_owned())
}

#[test]
fn a_healthy_host_is_left_alone() {
    let mut world = World::healthy(Owner::Mapkeeper);
    let decision = world.look();
    assert_eq!((decision.action, decision.health), (None, Health::Healthy));
    assert_eq!(decision.reason, "every link is good");
    assert_eq!(decision.next_look, Timing::default().look_every);
    assert!(decision.links.iter().all(|link| link.state == LinkState::Ok), "{:?}", decision.links);
}

#[test]
fn the_chain_is_shown_in_order_of_dependency() {
    let shown: Vec<String> =
        World::healthy(Owner::Ecs).look().links.iter().map(|link| link.target.to_string()).collect();
    assert_eq!(
        shown,
        ["credentials", "mount mapfiles", "docker", "container mapserver", "service mapserver"]
    );
}

#[test]
fn nothing_at_the_path_is_mounted() {
    let mut world = World::healthy(Owner::Mapkeeper);
    world.mount().entry = Seen::Known(None);
    world.mount().session = Seen::Known(None);
    world.mount().answer = Seen::Known(MountAnswer::Serves(DISK));
    let action = world.look().action.unwrap();
    assert_eq!((action.repair, action.trigger), (Repair::Mount, Trigger::NothingMounted));
}

#[test]
fn a_mount_taken_away_from_a_living_session_is_mounted_again() {
    let mut world = World::healthy(Owner::Mapkeeper);
    world.mount().entry = Seen::Known(None);
    assert_eq!(world.repair(), Some(Repair::Mount));
}

#[test]
fn a_mount_whose_session_ended_is_mounted_again() {
    let mut world = World::healthy(Owner::Mapkeeper);
    world.mount().session = Seen::Known(Some(Session {
        device: DEVICE,
        state: SessionState::Ended("the connection was aborted".to_owned()),
    }));
    let decision = world.look();
    assert_eq!(decision.action.unwrap().trigger, Trigger::SessionEnded);
    assert_eq!(decision.health, Health::Repairing);
    assert!(decision.reason.contains("the connection was aborted"), "{}", decision.reason);
}

#[test]
fn enotconn_proves_a_mount_dead_before_its_session_knows() {
    let mut world = World::healthy(Owner::Mapkeeper);
    world.mount().answer = Seen::Known(MountAnswer::Errno("ENOTCONN".to_owned()));
    assert_eq!(world.repair(), Some(Repair::Remount));
}

#[test]
fn what_was_mounted_over_ours_is_taken_away() {
    let mut world = World::healthy(Owner::Mapkeeper);
    world.mount().entry = Seen::Known(Some(entry(DISK, Origin::Foreign)));
    let action = world.look().action.unwrap();
    assert_eq!((action.repair, action.trigger), (Repair::Remount, Trigger::Covered));
}

#[test]
fn what_was_there_before_us_is_refused_and_left_alone() {
    let mut world = World::healthy(Owner::Mapkeeper);
    world.mount().entry = Seen::Known(Some(entry(DISK, Origin::Foreign)));
    world.mount().session = Seen::Known(None);
    let decision = world.look();
    assert_eq!((decision.action, decision.health), (None, Health::Failed));
    assert!(world.link(&mount_target()).hint.unwrap().contains("fstab"));
}

#[test]
fn the_mount_of_a_dead_agent_is_replaced() {
    let mut world = World::healthy(Owner::Mapkeeper);
    world.mount().entry = Seen::Known(Some(entry(OLD_DEVICE, Origin::Mapkeeper)));
    world.mount().session = Seen::Known(None);
    world.mount().answer = Seen::Known(MountAnswer::Errno("ENOTCONN".to_owned()));
    let action = world.look().action.unwrap();
    assert_eq!((action.repair, action.trigger), (Repair::Remount, Trigger::LeftOver));
}

#[test]
fn the_mount_of_a_living_agent_is_not_taken_from_it() {
    let mut world = World::healthy(Owner::Mapkeeper);
    world.mount().session = Seen::Known(None);
    assert_eq!(world.look().health, Health::Failed);
    assert_eq!(world.repair(), None);
}

#[test]
fn a_left_over_mount_that_could_not_be_asked_is_left_alone() {
    let mut world = World::healthy(Owner::Mapkeeper);
    world.mount().session = Seen::Known(None);
    world.mount().answer = Seen::Unknown("no child could be started".to_owned());
    assert_eq!(world.repair(), None);
}

#[test]
fn a_mount_that_serves_from_cache_is_degraded_and_not_repaired() {
    let mut world = World::healthy(Owner::Mapkeeper);
    let state = SessionState::Degraded("S3 does not answer".to_owned());
    world.mount().session = Seen::Known(Some(Session { device: DEVICE, state }));
    let decision = world.look();
    assert_eq!((decision.action, decision.health), (None, Health::Degraded));
    assert_eq!(world.link(&mount_target()).state, LinkState::Degraded);
}

#[test]
fn a_container_that_ended_is_started_while_the_mount_serves_from_cache() {
    let mut world = World::healthy(Owner::Mapkeeper);
    let state = SessionState::Degraded("S3 does not answer".to_owned());
    world.mount().session = Seen::Known(Some(Session { device: DEVICE, state }));
    world.ended(Phase::Exited);
    assert_eq!(world.repair(), Some(Repair::Start));
}

#[test]
fn a_silent_service_is_not_restarted_while_the_mount_serves_from_cache() {
    let mut world = World::healthy(Owner::Mapkeeper);
    let state = SessionState::Degraded("S3 does not answer".to_owned());
    world.mount().session = Seen::Known(Some(Session { device: DEVICE, state }));
    world.serves(no_connection());
    assert_eq!(world.next_action(seconds(600)), None);
}

#[test]
fn file_calls_that_fail_or_hang_are_reported_and_not_repaired() {
    for answer in [MountAnswer::Errno("EIO".to_owned()), MountAnswer::Silent(seconds(5))] {
        let mut world = World::healthy(Owner::Mapkeeper);
        world.mount().answer = Seen::Known(answer.clone());
        world.ended(Phase::Exited);
        let decision = world.look();
        assert_eq!((decision.action, decision.health), (None, Health::Degraded), "{answer:?}");
    }
}

#[test]
fn a_path_hidden_by_a_mount_over_its_parent_proves_nothing() {
    let mut world = World::healthy(Owner::Mapkeeper);
    world.mount().answer = Seen::Known(MountAnswer::Serves(DISK));
    world.absent();
    assert_eq!(world.repair(), None);
    assert!(world.link(&mount_target()).hint.unwrap().contains("parent directory"));
}

#[test]
fn a_dead_mount_waits_for_credentials() {
    for credentials in [
        Seen::Known(CredentialsSeen::Missing { reason: "there are none".to_owned(), hint: None }),
        Seen::Unknown("no answer in 5 s".to_owned()),
    ] {
        let mut world = World::healthy(Owner::Mapkeeper);
        world.mount().entry = Seen::Known(None);
        world.seen.credentials = credentials;
        assert_eq!(world.next_action(seconds(600)), None);
    }
}

#[test]
fn a_container_without_a_proven_mount_is_neither_created_nor_started_nor_restarted() {
    let faults: [fn(&mut World); 4] = [
        World::absent,
        |world| world.ended(Phase::Exited),
        |world| world.container().views = [(MOUNT.to_owned(), Seen::Known(Some(OLD_DEVICE)))].into(),
        |world| world.facts().specification = Specification::Outdated,
    ];
    for fault in faults {
        let mut world = World::healthy(Owner::Mapkeeper);
        fault(&mut world);
        world.mount().answer = Seen::Known(MountAnswer::Errno("EIO".to_owned()));
        assert_eq!(world.next_action(seconds(600)), None);
        assert_eq!(world.link(&Target::Container("mapserver".to_owned())).detail, "waits for mount mapfiles");
    }
}

#[test]
fn a_mount_that_docker_shows_bound_counts_like_a_configured_one() {
    let mut world = World::healthy(Owner::Mapkeeper);
    world.settings.containers[0].mounts.clear();
    world.serves(no_connection());
    world.mount().answer = Seen::Known(MountAnswer::Errno("EIO".to_owned()));
    assert_eq!(world.next_action(seconds(600)), None);
}

#[test]
fn an_absent_container_is_created_on_a_proven_mount() {
    let mut world = World::healthy(Owner::Mapkeeper);
    world.absent();
    let action = world.look().action.unwrap();
    assert_eq!((action.repair, action.trigger), (Repair::Create, Trigger::ContainerAbsent));
    assert_eq!(action.rests_on, [Proof { mount: MOUNT.to_owned(), device: DEVICE }]);
}

#[test]
fn an_ecs_container_is_never_created_and_its_absence_calls_a_person_in_the_end() {
    for fault in [World::absent as fn(&mut World), |world| world.ended(Phase::Exited)] {
        let mut world = World::healthy(Owner::Ecs);
        fault(&mut world);
        assert_eq!(world.look().health, Health::Repairing);
        assert_eq!(world.next_action(seconds(119)), None);
        world.wait(seconds(5));
        let decision = world.look();
        assert_eq!((decision.action, decision.health), (None, Health::Failed));
    }
}

#[test]
fn the_deadline_of_ecs_starts_when_the_mount_is_proven() {
    let mut world = World::healthy(Owner::Ecs);
    world.absent();
    world.mount().answer = Seen::Known(MountAnswer::Errno("EIO".to_owned()));
    assert_eq!(world.next_action(seconds(600)), None);
    world.mount().answer = Seen::Known(MountAnswer::Serves(DEVICE));
    assert_eq!(world.look().health, Health::Repairing);
}

#[test]
fn a_container_that_ended_is_started_and_if_that_does_not_last_made_anew() {
    let mut world = World::healthy(Owner::Mapkeeper);
    world.ended(Phase::Exited);
    let first = world.next_action(seconds(10)).unwrap();
    world.tried(&first, Outcome::Done);
    let second = world.next_action(seconds(10)).unwrap();
    assert_eq!((first.repair, second.repair), (Repair::Start, Repair::Recreate));
}

#[test]
fn a_dead_container_is_made_anew() {
    let mut world = World::healthy(Owner::Mapkeeper);
    world.ended(Phase::Dead);
    assert_eq!(world.repair(), Some(Repair::Recreate));
}

#[test]
fn a_paused_container_goes_on_whoever_owns_it() {
    for owner in [Owner::Ecs, Owner::Mapkeeper] {
        let mut world = World::healthy(owner);
        world.ended(Phase::Paused);
        assert_eq!(world.repair(), Some(Repair::Unpause));
    }
}

#[test]
fn a_container_on_its_way_is_awaited() {
    for phase in [Phase::Restarting, Phase::Removing, Phase::Stopping] {
        let mut world = World::healthy(Owner::Mapkeeper);
        world.ended(phase);
        world.facts().specification = Specification::Outdated;
        assert_eq!(world.next_action(seconds(600)), None, "{phase:?}");
    }
}

#[test]
fn a_container_of_another_maker_is_never_touched() {
    let mut world = World::healthy(Owner::Mapkeeper);
    world.absent();
    world.container().state = Seen::Known(ContainerState::Foreign { id: "beef".to_owned() });
    let decision = world.look();
    assert_eq!((decision.action, decision.health), (None, Health::Failed));
    assert!(decision.reason.contains("a container named mapserver exists and was not made by mapkeeper"));
}

#[test]
fn a_container_made_from_another_configuration_is_recreated() {
    let mut world = World::healthy(Owner::Mapkeeper);
    world.facts().specification = Specification::Outdated;
    assert_eq!(world.repair(), Some(Repair::Recreate));
}

#[test]
fn a_container_holding_a_replaced_mount_is_restarted() {
    let mut world = World::healthy(Owner::Mapkeeper);
    world.container().views = [(MOUNT.to_owned(), Seen::Known(Some(OLD_DEVICE)))].into();
    let action = world.look().action.unwrap();
    assert_eq!((action.repair, action.trigger), (Repair::Restart, Trigger::StaleMount));
}

#[test]
fn a_container_that_started_before_the_mount_is_restarted() {
    for view in [Some(DISK), None] {
        let mut world = World::healthy(Owner::Mapkeeper);
        world.container().views = [(MOUNT.to_owned(), Seen::Known(view))].into();
        assert_eq!(world.repair(), Some(Repair::Restart), "{view:?}");
    }
}

#[test]
fn a_stale_container_of_ecs_is_stopped_for_ecs_to_replace() {
    let mut world = World::healthy(Owner::Ecs);
    world.container().views = [(MOUNT.to_owned(), Seen::Known(Some(OLD_DEVICE)))].into();
    assert_eq!(world.repair(), Some(Repair::Stop));
}

#[test]
fn a_view_that_could_not_be_read_restarts_nothing() {
    let mut world = World::healthy(Owner::Mapkeeper);
    world.container().views = [(MOUNT.to_owned(), Seen::Unknown("no such process".to_owned()))].into();
    world.serves(no_connection());
    assert_eq!(world.next_action(seconds(600)), None);
}

#[test]
fn one_stale_mount_outweighs_another_that_could_not_be_looked_at() {
    let mut world = World::healthy(Owner::Mapkeeper);
    let rasters = world.mount().clone();
    world.seen.mounts.insert("rasters".to_owned(), rasters);
    world.settings.mounts.push("rasters".to_owned());
    world.settings.containers[0].mounts.push("rasters".to_owned());
    world.container().views = [
        (MOUNT.to_owned(), Seen::Unknown("no such process".to_owned())),
        ("rasters".to_owned(), Seen::Known(Some(OLD_DEVICE))),
    ]
    .into();
    assert_eq!(world.repair(), Some(Repair::Restart));
}

#[test]
fn a_service_that_stays_silent_is_restarted_after_it_was_confirmed() {
    for trigger in [Trigger::NoConnection, Trigger::NoAnswer, Trigger::ServerError] {
        let mut world = World::healthy(Owner::Mapkeeper);
        world.serves(ServiceSeen::Faulty { trigger, detail: String::new() });
        assert_eq!(world.repair(), None, "once is not enough");
        let action = world.next_action(seconds(10)).unwrap();
        assert_eq!((action.repair, action.trigger), (Repair::Restart, trigger));
        assert_eq!(action.target, Target::Container("mapserver".to_owned()));
    }
}

#[test]
fn looks_in_quick_succession_do_not_confirm_a_fault() {
    let mut world = World::healthy(Owner::Mapkeeper);
    world.serves(no_connection());
    for _ in 0..10 {
        assert_eq!(world.repair(), None);
        world.wait(Duration::from_millis(100));
    }
}

#[test]
fn a_good_answer_between_two_bad_ones_starts_the_count_again() {
    let mut world = World::healthy(Owner::Mapkeeper);
    for round in 0..12 {
        world.serves(if round % 3 == 2 { ServiceSeen::Healthy } else { no_connection() });
        assert_eq!(world.repair(), None);
        world.wait(seconds(2));
    }
}

#[test]
fn a_container_that_just_started_is_given_time_to_answer() {
    let mut world = World::healthy(Owner::Mapkeeper);
    world.facts().started = "2024-01-01T00:10:00Z".to_owned();
    world.serves(no_connection());
    assert_eq!(world.next_action(seconds(18)), None);
    assert_eq!(world.link(&service_target()).state, LinkState::Waiting);
    assert!(world.next_action(seconds(5)).is_some());
}

#[test]
fn a_broken_map_is_reported_and_repairs_nothing() {
    for trigger in [
        Trigger::MapBroken,
        Trigger::MapMissing,
        Trigger::ErrorFile,
        Trigger::PatternRefused,
        Trigger::ConfigMissing,
        Trigger::RasterCredentials,
        Trigger::HttpStatus,
        Trigger::NotWms,
        Trigger::ServiceException,
    ] {
        let mut world = World::healthy(Owner::Mapkeeper);
        world.serves(ServiceSeen::Faulty { trigger, detail: "Parsing error near (X):(line 3)".to_owned() });
        assert_eq!(world.next_action(seconds(3600)), None, "{trigger:?}");
        assert_eq!(world.look().health, Health::Degraded, "{trigger:?}");
        let link = world.link(&service_target());
        assert!(link.hint.is_some() && link.detail.contains("line 3"), "{link:?}");
    }
}

#[test]
fn docker_out_of_reach_stops_every_repair_of_containers_and_none_of_mounts() {
    for docker in [
        Seen::Unknown("no answer in 5 s".to_owned()),
        Seen::Known(DockerSeen::Unreachable { reason: "refused".to_owned(), hint: "start it".to_owned() }),
    ] {
        let mut world = World::healthy(Owner::Mapkeeper);
        world.seen.docker = docker;
        world.absent();
        assert_eq!(world.next_action(seconds(60)), None);
        assert_eq!(world.look().health, Health::Degraded);
        world.mount().entry = Seen::Known(None);
        assert_eq!(world.repair(), Some(Repair::Mount));
    }
}

#[test]
fn the_mount_is_repaired_before_the_container_on_it() {
    let mut world = World::healthy(Owner::Mapkeeper);
    world.mount().entry = Seen::Known(None);
    world.ended(Phase::Exited);
    let first = world.look().action.unwrap();
    assert_eq!(first.target, mount_target());
    world.tried(&first, Outcome::Done);
    world.seen.mounts = healthy().mounts;
    assert_eq!(world.repair(), Some(Repair::Start));
}

#[test]
fn a_mount_in_its_pause_does_not_hold_up_a_container_on_another_mount() {
    let mut world = World::healthy(Owner::Mapkeeper);
    let mut dead = world.mount().clone();
    dead.entry = Seen::Known(None);
    world.seen.mounts.insert("rasters".to_owned(), dead);
    world.settings.mounts.insert(0, "rasters".to_owned());
    let first = world.look().action.unwrap();
    world.tried(&first, failure("no route"));
    world.absent();
    assert_eq!(world.repair(), Some(Repair::Create));
}

#[test]
fn could_not_look_is_forgiven_for_a_while_and_then_degrades() {
    let mut world = World::healthy(Owner::Mapkeeper);
    world.mount().entry = Seen::Unknown("no answer in 5 s".to_owned());
    assert_eq!(world.look().health, Health::Healthy);
    world.wait(seconds(15));
    let decision = world.look();
    assert_eq!((decision.action, decision.health), (None, Health::Degraded));
}

#[test]
fn could_not_look_is_not_forgiven_before_anything_was_well() {
    let mut world = World::healthy(Owner::Mapkeeper);
    world.history = History::default();
    world.mount().entry = Seen::Unknown("no answer in 5 s".to_owned());
    assert_eq!(world.look().health, Health::Degraded);
}

#[test]
fn a_repair_that_fails_is_repeated_with_growing_pauses_and_named_in_the_link() {
    let mut world = World::healthy(Owner::Mapkeeper);
    world.mount().entry = Seen::Known(None);
    let mut pauses = Vec::new();
    for _ in 0..4 {
        let before = world.now;
        let action = world.next_action(seconds(60)).unwrap();
        pauses.push(world.now.since(before));
        world.history.tried(
            &action,
            &failure("the bucket is missing"),
            world.now,
            u64::MAX,
            &world.settings.timing,
        );
    }
    assert_eq!(pauses[0], Duration::ZERO);
    assert!(pauses[1] >= Timing::default().remount.base, "{pauses:?}");
    let link = world.link(&mount_target());
    assert!(link.detail.contains("last repair: the bucket is missing"), "{link:?}");
    assert_eq!(link.hint.as_deref(), Some("do this"));
}

#[test]
fn a_repair_that_never_helps_ends_in_failed_and_slow_retries() {
    let mut world = World::healthy(Owner::Mapkeeper);
    world.mount().entry = Seen::Known(None);
    let budget = Timing::default().remount;
    for _ in 0..budget.attempts {
        let action = world.next_action(seconds(60)).unwrap();
        world.tried(&action, Outcome::Done);
    }
    assert_eq!(world.look().health, Health::Failed);
    let before = world.now;
    assert!(world.next_action(seconds(600)).is_some());
    assert!(world.now.since(before) >= budget.slow);
}

#[test]
fn restarts_that_do_not_help_lead_to_recreation_and_then_to_a_person() {
    let mut world = World::healthy(Owner::Mapkeeper);
    world.container().views = [(MOUNT.to_owned(), Seen::Known(Some(OLD_DEVICE)))].into();
    let mut repairs = Vec::new();
    let timing = Timing::default();
    for _ in 0..timing.restart.attempts + timing.recreate.attempts {
        let action = world.next_action(seconds(600)).unwrap();
        repairs.push(action.repair);
        world.tried(&action, Outcome::Done);
    }
    let (restarts, recreations) = repairs.split_at(timing.restart.attempts as usize);
    assert!(restarts.iter().all(|repair| *repair == Repair::Restart), "{repairs:?}");
    assert!(recreations.iter().all(|repair| *repair == Repair::Recreate), "{repairs:?}");
    assert_eq!(world.look().health, Health::Failed);
}

#[test]
fn restarts_of_an_ecs_container_that_do_not_help_call_a_person() {
    let mut world = World::healthy(Owner::Ecs);
    world.container().views = [(MOUNT.to_owned(), Seen::Known(Some(OLD_DEVICE)))].into();
    for _ in 0..Timing::default().restart.attempts {
        let action = world.next_action(seconds(600)).unwrap();
        assert_eq!(action.repair, Repair::Stop);
        world.tried(&action, Outcome::Done);
    }
    assert_eq!(world.look().health, Health::Failed);
}

#[test]
fn a_fault_after_a_steady_while_is_repaired_at_once_and_still_counts() {
    let mut world = World::healthy(Owner::Mapkeeper);
    for count in 1..=4 {
        world.mount().entry = Seen::Known(None);
        let action = world.look().action.unwrap();
        world.history.tried(&action, &Outcome::Done, world.now, u64::MAX, &world.settings.timing);
        assert_eq!(world.history.record(&mount_target()).count(Rung::Remount), count);
        world.seen = healthy();
        world.look();
        world.wait(seconds(10));
        world.look();
    }
}

#[test]
fn a_fault_before_a_steady_while_waits_for_its_pause() {
    let mut world = World::healthy(Owner::Mapkeeper);
    world.mount().entry = Seen::Known(None);
    for _ in 0..6 {
        let action = world.next_action(seconds(60)).unwrap();
        world.history.tried(&action, &Outcome::Done, world.now, 10_000, &world.settings.timing);
    }
    world.seen = healthy();
    world.look();
    world.wait(Duration::from_millis(600));
    world.look();
    world.mount().entry = Seen::Known(None);
    assert_eq!(world.repair(), None);
}

#[test]
fn attempts_are_forgotten_after_lasting_health() {
    let mut world = World::healthy(Owner::Mapkeeper);
    world.mount().entry = Seen::Known(None);
    let action = world.look().action.unwrap();
    world.tried(&action, Outcome::Done);
    world.seen = healthy();
    world.look();
    world.wait(seconds(299));
    world.look();
    assert_eq!(world.history.record(&mount_target()).count(Rung::Remount), 1);
    world.wait(seconds(1));
    world.look();
    assert_eq!(world.history.record(&mount_target()).count(Rung::Remount), 0);
}

#[test]
fn a_flapping_mount_runs_out_of_attempts() {
    let mut world = World::healthy(Owner::Mapkeeper);
    for _ in 0..Timing::default().remount.attempts {
        world.mount().entry = Seen::Known(None);
        let action = world.next_action(seconds(60)).unwrap();
        world.tried(&action, Outcome::Done);
        world.seen = healthy();
        world.look();
        world.wait(seconds(250));
        assert_eq!(world.look().health, Health::Healthy);
    }
    world.mount().entry = Seen::Known(None);
    assert_eq!(world.look().health, Health::Failed);
}

#[test]
fn restarts_made_for_a_service_are_not_forgiven_while_it_is_still_silent() {
    let mut world = World::healthy(Owner::Mapkeeper);
    world.serves(no_connection());
    let action = world.next_action(seconds(60)).unwrap();
    world.tried(&action, Outcome::Done);
    for _ in 0..400 {
        world.look();
        world.wait(seconds(1));
    }
    let record = world.history.record(&Target::Container("mapserver".to_owned()));
    assert_eq!(record.count(Rung::Restart), 1);
}

#[test]
fn a_container_with_a_broken_map_is_forgiven_its_earlier_end() {
    let mut world = World::healthy(Owner::Mapkeeper);
    world.ended(Phase::Exited);
    let action = world.look().action.unwrap();
    world.tried(&action, Outcome::Done);
    world.seen = healthy();
    world.serves(ServiceSeen::Faulty { trigger: Trigger::MapBroken, detail: String::new() });
    world.look();
    world.wait(seconds(300));
    world.look();
    assert_eq!(world.history.record(&Target::Container("mapserver".to_owned())).count(Rung::Recreate), 0);
}

#[test]
fn no_target_is_acted_on_twice_without_a_moment_to_settle() {
    let mut world = World::healthy(Owner::Mapkeeper);
    world.ended(Phase::Exited);
    let action = world.look().action.unwrap();
    world.tried(&action, Outcome::Done);
    world.seen = healthy();
    world.container().views = [(MOUNT.to_owned(), Seen::Known(Some(OLD_DEVICE)))].into();
    assert_eq!(world.repair(), None);
    world.wait(Timing::default().settle);
    assert_eq!(world.repair(), Some(Repair::Restart));
}

#[test]
fn the_next_look_comes_when_the_pause_ends() {
    let mut world = World::healthy(Owner::Mapkeeper);
    world.mount().entry = Seen::Known(None);
    let action = world.look().action.unwrap();
    world.history.tried(&action, &Outcome::Done, world.now, 0, &world.settings.timing);
    let decision = world.look();
    assert_eq!(decision.action, None);
    assert_eq!(decision.next_look, Timing::default().remount.base);
}
