//! Containers and their services: when they are started, restarted, made anew, left alone.

use super::*;

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
        world.mount_fails();
        assert_eq!(world.next_action(seconds(600)), None);
        assert_eq!(world.link(&Target::Container("mapserver".to_owned())).detail, "waits for mount mapfiles");
    }
}

#[test]
fn a_mount_that_docker_shows_bound_counts_like_a_configured_one() {
    let mut world = World::healthy(Owner::Mapkeeper);
    world.settings.containers[0].mounts.clear();
    world.serves(no_connection());
    world.mount_fails();
    assert_eq!(world.next_action(seconds(600)), None);
}

#[test]
fn an_absent_container_is_created_on_a_proven_mount() {
    let mut world = World::healthy(Owner::Mapkeeper);
    world.absent();
    let action = world.look().action.unwrap();
    assert_eq!((action.repair, action.trigger), (Repair::Create, Reason::ContainerAbsent));
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
    world.mount_fails();
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
    world.container().state = Seen::Known(ContainerState::Foreign { id: "beef".to_owned(), agent: None });
    let decision = world.look();
    assert_eq!((decision.action, decision.health), (None, Health::Failed));
    assert!(decision.reason.contains("a container named mapserver exists and was not made by mapkeeper"));
    let agent = Some("/run/other".to_owned());
    world.container().state = Seen::Known(ContainerState::Foreign { id: "beef".to_owned(), agent });
    let decision = world.look();
    assert_eq!((decision.action, decision.health), (None, Health::Failed));
    assert!(decision.reason.contains("belongs to the agent of /run/other"), "{}", decision.reason);
    let hint = world.link(&Target::Container("mapserver".to_owned())).hint.unwrap_or_default();
    assert!(!hint.contains("docker rm"), "{hint}");
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
    assert_eq!((action.repair, action.trigger), (Repair::Restart, Reason::StaleMount));
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
    for trigger in [Reason::NoConnection, Reason::NoAnswer, Reason::ServerError] {
        let mut world = World::healthy(Owner::Mapkeeper);
        world.serves(ServiceSeen::Faulty { trigger, detail: String::new() });
        assert_eq!(world.repair(), None, "once is not enough");
        let action = world.next_action(seconds(10)).unwrap();
        assert_eq!((action.repair, action.trigger), (Repair::Restart, trigger));
        assert_eq!(action.target, Target::Container("mapserver".to_owned()));
    }
}

#[test]
fn a_service_that_answers_late_is_degraded_told_how_late_and_never_restarted() {
    let mut world = World::healthy(Owner::Mapkeeper);
    world.serves(ServiceSeen::Slow { took: Duration::from_millis(1300), timeout: seconds(1) });
    assert_eq!(world.next_action(seconds(3600)), None);
    let decision = world.look();
    assert_eq!((decision.health, decision.ready), (Health::Degraded, true));
    let link = world.link(&service_target());
    assert_eq!((link.state, link.trigger), (LinkState::Degraded, Some(Reason::ServiceSlow)));
    assert_eq!(link.detail, "answers after 1.3 s; the timeout of its probe is 1.0 s");
    assert!(link.hint.is_some());
}

#[test]
fn silence_is_no_answer_for_long_from_a_container_that_is_known_to_do_nothing() {
    let unknown = || Seen::Unknown("Docker does not answer".to_owned());
    let (idle, works) = (|| Seen::Known(false), || Seen::Known(true));
    // Seconds without an answer, the probe's timeout, what the container does, and whether that is silence.
    for (waited, timeout, works, silent) in [
        (29, 1, idle(), false),
        (31, 1, idle(), true),
        (49, 5, idle(), false),
        (51, 5, idle(), true),
        (31, 1, works(), false),
        (3600, 1, works(), false),
        (3600, 1, unknown(), false),
    ] {
        let mut world = World::healthy(Owner::Mapkeeper);
        let case = format!("{waited} s of {timeout} s, {works:?}");
        world.serves(ServiceSeen::Unanswered { waited: seconds(waited), timeout: seconds(timeout), works });
        let action = world.next_action(seconds(600)).map(|action| (action.repair, action.trigger));
        assert_eq!(action, silent.then_some((Repair::Restart, Reason::NoAnswer)), "{case}");
        let decision = world.look();
        assert!(silent || decision.health == Health::Degraded, "{case}: {:?}", decision.health);
        assert_eq!(decision.ready, waited < 30.max(10 * timeout), "{case}");
    }
}

#[test]
fn repairs_of_a_service_that_stays_silent_come_ever_more_slowly() {
    let mut world = World::healthy(Owner::Mapkeeper);
    world.serves(ServiceSeen::Unanswered {
        waited: seconds(60),
        timeout: seconds(1),
        works: Seen::Known(false),
    });
    let timing = Timing::default();
    for (rung, budget) in [(Rung::Restart, timing.restart.clone()), (Rung::Recreate, timing.recreate.clone())]
    {
        let mut pauses = Vec::new();
        for seed in 0..u64::from(budget.attempts) {
            let action = world.next_action(seconds(600)).unwrap();
            assert_eq!(action.repair.rung(), rung);
            world.history.tried(&action, &Outcome::Done, world.now, seed * 997, &timing);
            let record = world.history.record(&action.target);
            pauses.push(record.attempts[&rung].delay);
        }
        assert!(pauses.is_sorted() && pauses.last() == Some(&seconds(300)), "{pauses:?}");
    }
}

#[test]
fn an_answer_that_is_overdue_neither_proves_a_new_life_nor_forgives_what_was_tried() {
    let mut world = World::healthy(Owner::Mapkeeper);
    world.serves(no_connection());
    let action = world.next_action(seconds(60)).unwrap();
    world.tried(&action, Outcome::Done);
    world.facts().started = "2024-01-01T00:10:00Z".to_owned();
    world.serves(ServiceSeen::Unanswered {
        waited: seconds(20),
        timeout: seconds(5),
        works: Seen::Known(false),
    });
    for _ in 0..400 {
        world.look();
        world.wait(seconds(1));
    }
    let record = world.history.record(&Target::Container("mapserver".to_owned()));
    assert_eq!(record.count(Rung::Restart), 1);
    assert!(!record.life.unwrap().served);
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
fn the_error_log_that_mapserver_misses_is_made_for_ours_and_reported_for_those_of_ecs() {
    for (owner, expected) in [(Owner::Mapkeeper, Some(Repair::MakeErrorLog)), (Owner::Ecs, None)] {
        let mut world = World::healthy(owner);
        world.serves(ServiceSeen::Faulty { trigger: Reason::ErrorFile, detail: "missing".to_owned() });
        assert_eq!(world.repair(), expected);
    }
}

#[test]
fn a_broken_map_is_reported_and_repairs_nothing() {
    for trigger in [
        Reason::MapBroken,
        Reason::MapMissing,
        Reason::ErrorFileUnnamed,
        Reason::PatternRefused,
        Reason::ConfigMissing,
        Reason::RasterCredentials,
        Reason::HttpStatus,
        Reason::NotWms,
        Reason::ServiceException,
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
fn what_ended_and_is_outdated_is_made_anew_without_a_long_pause() {
    let mut world = World::healthy(Owner::Mapkeeper);
    world.ended(Phase::Exited);
    world.facts().specification = Specification::Outdated;
    for _ in 0..Timing::default().recreate.attempts + 2 {
        let begun = world.now;
        let action = world.next_action(seconds(600)).unwrap();
        assert_eq!(action.repair, Repair::Recreate);
        assert!(world.now.since(begun) <= Timing::default().idle_cap, "{:?}", world.now.since(begun));
        world.tried(&action, Outcome::Done);
    }
}
