//! Patience: pauses, budgets, forgiveness, and what could not be looked at.

use super::*;

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
fn what_was_faulty_when_it_was_last_seen_is_not_called_well_for_want_of_a_look() {
    let mut world = World::healthy(Owner::Mapkeeper);
    world.ended(Phase::Exited);
    world.look();
    world.container().state = Seen::Unknown("no answer in 5 s".to_owned());
    assert_eq!(world.look().health, Health::Degraded);
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
    assert_eq!(world.now.since(before), Timing::default().idle_cap);
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
fn the_slow_pause_of_a_spent_budget_outlasts_a_steady_while() {
    let mut world = World::healthy(Owner::Mapkeeper);
    let budget = Timing::default().remount;
    for _ in 0..budget.attempts {
        world.mount().answer = Seen::Known(MountAnswer::Silent(seconds(4)));
        let action = world.next_action(seconds(60)).unwrap();
        world.tried(&action, Outcome::Done);
    }
    world.seen = healthy();
    world.look();
    world.wait(seconds(20));
    world.look();
    world.mount().answer = Seen::Known(MountAnswer::Silent(seconds(4)));
    let before = world.now;
    assert!(world.next_action(seconds(60)).is_some());
    assert!(world.now.since(before) >= budget.slow - seconds(20));
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
    world.serves(ServiceSeen::Faulty { trigger: Reason::MapBroken, detail: String::new() });
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

#[test]
fn a_mount_that_was_made_anew_has_the_patience_of_a_new_one() {
    let mut world = World::healthy(Owner::Mapkeeper);
    world.mount().answer = Seen::Known(MountAnswer::Errno("EIO".to_owned()));
    let remount = world.next_action(seconds(60)).expect("it was patient for long");
    assert_eq!((remount.repair, remount.trigger), (Repair::Remount, Reason::MountErrors));
    world.tried(&remount, Outcome::Done);
    // Nothing can be seen for a while, and then the new one fails as well.
    world.mount().answer = Seen::Unknown("no answer".to_owned());
    world.wait(seconds(60));
    world.look();
    world.mount().answer = Seen::Known(MountAnswer::Errno("EIO".to_owned()));
    assert_eq!(world.repair(), None);
    world.wait(world.settings.timing.errors_patience);
    assert_eq!(world.repair(), Some(Repair::Remount));
}
