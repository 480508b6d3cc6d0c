//! Mounts: what is proven, what is repaired, what is left alone.

use super::*;

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
        [
            "credentials",
            "bucket of mapfiles",
            "mount mapfiles",
            "docker",
            "container mapserver",
            "service mapserver"
        ]
    );
}

#[test]
fn nothing_at_the_path_is_mounted() {
    let mut world = World::healthy(Owner::Mapkeeper);
    world.mount().entry = Seen::Known(None);
    world.mount().session = Seen::Known(None);
    world.mount().answer = Seen::Known(MountAnswer::Serves(DISK));
    let action = world.look().action.unwrap();
    assert_eq!((action.repair, action.trigger), (Repair::Mount, Reason::NothingMounted));
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
    assert_eq!(decision.action.unwrap().trigger, Reason::SessionEnded);
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
    assert_eq!((action.repair, action.trigger), (Repair::Uncover, Reason::Covered));
    // A session that has ended is no use below it either.
    let state = SessionState::Ended("the connection was aborted".to_owned());
    world.mount().session = Seen::Known(Some(Session { device: DEVICE, state }));
    assert_eq!(world.repair(), Some(Repair::Remount));
}

#[test]
fn what_was_mounted_over_a_mount_left_behind_is_taken_away() {
    let mut world = World::healthy(Owner::Mapkeeper);
    world.mount().entry = Seen::Known(Some(entry(DISK, Origin::OverMapkeeper)));
    world.mount().session = Seen::Known(None);
    world.mount().answer = Seen::Known(MountAnswer::Serves(DISK));
    let action = world.look().action.unwrap();
    assert_eq!((action.repair, action.trigger), (Repair::Remount, Reason::Covered));
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
    assert_eq!((action.repair, action.trigger), (Repair::Remount, Reason::LeftOver));
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
fn what_is_to_be_known_of_a_mount_is_said_and_is_no_fault() {
    let mut world = World::healthy(Owner::Mapkeeper);
    let state = SessionState::Noted("the store ignores conditions".to_owned());
    world.mount().session = Seen::Known(Some(Session { device: DEVICE, state }));
    let decision = world.look();
    assert_eq!((decision.action, decision.health), (None, Health::Healthy));
    let link = world.link(&mount_target());
    assert!(link.detail.contains("the store ignores conditions"), "{}", link.detail);
}

#[test]
fn a_write_that_lost_a_race_is_shown_until_somebody_has_looked_and_restarts_nothing() {
    let mut world = World::healthy(Owner::Mapkeeper);
    let state = SessionState::Keeps("what was written is in /kept/1-a.map".to_owned());
    world.mount().session = Seen::Known(Some(Session { device: DEVICE, state }));
    let decision = world.look();
    assert_eq!((decision.action, decision.health), (None, Health::Degraded));
    let link = world.link(&mount_target());
    assert_eq!(link.state, LinkState::Degraded);
    assert!(link.detail.contains("/kept/1-a.map"), "{}", link.detail);
}

#[test]
fn file_calls_that_fail_or_hang_while_the_bucket_is_away_are_reported_and_not_repaired() {
    let away = || "no answer".to_owned();
    for store in [
        Seen::Known(StoreSeen::Away { reason: away(), hint: None }),
        Seen::Known(StoreSeen::Refuses { reason: away(), hint: None }),
        Seen::Known(StoreSeen::Missing { reason: away(), hint: None }),
        Seen::Unknown(away()),
    ] {
        for answer in [MountAnswer::Errno("EIO".to_owned()), MountAnswer::Silent(seconds(5))] {
            let mut world = World::healthy(Owner::Mapkeeper);
            world.mount().answer = Seen::Known(answer.clone());
            world.mount().store = store.clone();
            world.ended(Phase::Exited);
            let action = world.next_action(seconds(600));
            let target = action.map(|action| action.target);
            assert!(target.is_none() || target == Some(Target::Credentials), "{answer:?} {target:?}");
        }
    }
}

#[test]
fn a_mount_that_stays_silent_while_its_bucket_answers_is_given_up_after_its_patience() {
    let timing = Timing::default();
    for (answer, patience) in [
        (MountAnswer::Silent(seconds(4)), timing.silence_patience),
        (MountAnswer::Errno("EIO".to_owned()), timing.errors_patience),
    ] {
        let mut world = World::healthy(Owner::Mapkeeper);
        world.mount().answer = Seen::Known(answer);
        let begun = world.now;
        let action = world.next_action(seconds(60)).unwrap();
        assert_eq!((action.target, action.repair), (mount_target(), Repair::Remount));
        let waited = world.now.since(begun);
        assert!(waited >= patience && waited <= patience + seconds(2), "{waited:?}");
    }
}

#[test]
fn workers_that_can_be_replaced_are_before_the_session_is() {
    let mut world = World::healthy(Owner::Mapkeeper);
    world.settings.workers = Workers::Restartable;
    world.mount().answer = Seen::Known(MountAnswer::Silent(seconds(4)));
    let mut repairs = Vec::new();
    for _ in 0..3 {
        let action = world.next_action(seconds(60)).unwrap();
        repairs.push(action.repair);
        world.tried(&action, Outcome::Done);
    }
    assert_eq!(repairs, [Repair::RestartWorkers, Repair::RestartWorkers, Repair::Remount]);
}

#[test]
fn a_mount_is_not_tried_while_its_bucket_is_known_to_be_away_and_is_at_once_after_it() {
    let mut world = World::healthy(Owner::Mapkeeper);
    world.mount().entry = Seen::Known(None);
    world.mount().session = Seen::Known(None);
    for store in [
        StoreSeen::Away { reason: "no answer".to_owned(), hint: None },
        StoreSeen::Missing { reason: "no bucket".to_owned(), hint: None },
    ] {
        world.mount().store = Seen::Known(store);
        assert_eq!(world.next_action(seconds(600)), None);
    }
    world.mount().store = Seen::Known(StoreSeen::Answers);
    assert_eq!(world.repair(), Some(Repair::Mount));
}

#[test]
fn credentials_that_a_bucket_refuses_are_fetched_anew_within_their_budget() {
    let mut world = World::healthy(Owner::Mapkeeper);
    let refuses = StoreSeen::Refuses { reason: "InvalidAccessKeyId".to_owned(), hint: None };
    world.mount().store = Seen::Known(refuses);
    let end = world.now.after(seconds(600));
    let mut count = 0;
    while world.now < end {
        if let Some(action) = world.next_action(seconds(100)) {
            assert_eq!((&action.target, action.repair), (&Target::Credentials, Repair::Refresh));
            world.tried(&action, Outcome::Done);
            count += 1;
        }
    }
    assert!((60..=90).contains(&count), "{count} in 10 min");
}

#[test]
fn what_the_bucket_does_not_hold_is_reported_and_not_repaired() {
    let mut world = World::healthy(Owner::Mapkeeper);
    world.mount().data = DataSeen::Differs("health.map shows other bytes".to_owned());
    assert_eq!(world.next_action(seconds(600)), None);
    assert_eq!(world.look().health, Health::Degraded);
    assert!(world.link(&mount_target()).detail.contains("other bytes"));
}

#[test]
fn requests_that_wait_at_every_look_are_reported_and_not_repaired() {
    let mut world = World::healthy(Owner::Mapkeeper);
    world.mount().requests = Seen::Known(Requests { waiting: 1, taken: 1 });
    assert_eq!(world.next_action(seconds(110)), None);
    assert_eq!(world.look().health, Health::Healthy);
    world.wait(seconds(10));
    assert_eq!((world.look().action, world.look().health), (None, Health::Degraded));
    world.mount().requests = Seen::Known(Requests::default());
    assert_eq!(world.look().health, Health::Healthy);
}

#[test]
fn a_session_is_given_up_for_a_request_of_which_it_knows_nothing_at_any_look() {
    let mut world = World::healthy(Owner::Mapkeeper);
    world.mount().requests = Seen::Known(Requests { waiting: 2, taken: 0 });
    assert_eq!(world.next_action(seconds(9)), None);
    // At one look it had one in hand.
    world.mount().requests = Seen::Known(Requests { waiting: 2, taken: 1 });
    world.look();
    world.mount().requests = Seen::Known(Requests { waiting: 2, taken: 0 });
    assert_eq!(world.next_action(seconds(9)), None);
    // Where it cannot be looked at, they may have been answered.
    world.mount().requests = Seen::Unknown("no answer in time".to_owned());
    assert_eq!(world.next_action(seconds(60)), None);
    world.mount().requests = Seen::Known(Requests { waiting: 2, taken: 0 });
    let action = world.next_action(seconds(4)).expect("it lasts");
    assert_eq!((action.repair, action.trigger), (Repair::Remount, Reason::RequestsLost));
    world.mount().store = Seen::Known(StoreSeen::Away { reason: "no answer".to_owned(), hint: None });
    assert_eq!(world.next_action(seconds(60)), None);
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
fn a_mount_that_is_hidden_is_left_alone_whatever_its_path_answers_and_well_when_the_cover_is_gone() {
    let answers = [
        MountAnswer::Errno("ENOENT".to_owned()),
        MountAnswer::Errno("ENOTCONN".to_owned()),
        MountAnswer::Serves(DISK),
        MountAnswer::Silent(seconds(4)),
    ];
    let ended = SessionState::Ended("the connection was aborted".to_owned());
    let sessions = [
        Some(Session { device: DEVICE, state: SessionState::Serving }),
        Some(Session { device: DEVICE, state: ended }),
        None,
    ];
    for (answer, session) in answers.iter().flat_map(|answer| sessions.iter().map(move |one| (answer, one))) {
        let mut world = World::healthy(Owner::Mapkeeper);
        let cover = Some("tmpfs at /srv".to_owned());
        let hidden = MountEntry { hidden_by: cover, ..entry(DEVICE, Origin::Mapkeeper) };
        world.mount().entry = Seen::Known(Some(hidden));
        world.mount().answer = Seen::Known(answer.clone());
        world.mount().session = Seen::Known(session.clone());
        assert_eq!(world.next_action(seconds(600)), None, "{answer:?} {session:?}");
        let link = world.link(&mount_target());
        assert_eq!((link.state, link.trigger), (LinkState::Broken, Some(Reason::Hidden)));
        assert!(link.detail.contains("hidden by tmpfs at /srv"), "{link:?}");
        world.seen = healthy();
        assert_eq!((world.look().action, world.look().health), (None, Health::Healthy));
    }
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
fn of_two_faults_the_first_in_order_of_dependency_is_repaired_first() {
    let mut world = World::healthy(Owner::Mapkeeper);
    let mut dead = world.mount().clone();
    dead.entry = Seen::Known(None);
    world.seen.mounts.insert("rasters".to_owned(), dead);
    world.settings.mounts.insert(0, "rasters".to_owned());
    world.absent();
    let first = world.look().action.unwrap();
    assert_eq!(first.target, Target::Mount("rasters".to_owned()));
}

#[test]
fn a_mount_without_a_bucket_has_no_link_for_one_and_is_repaired_all_the_same() {
    let mut world = World::healthy(Owner::Mapkeeper);
    world.mount().store = Seen::Known(StoreSeen::NoStore);
    let links = world.look().links;
    assert!(!links.iter().any(|link| matches!(link.target, Target::Store(_))), "{links:?}");
    world.mount().answer = Seen::Known(MountAnswer::Silent(seconds(4)));
    let action = world.next_action(seconds(60)).unwrap();
    assert_eq!((action.target, action.repair), (mount_target(), Repair::Remount));
}
