//! The last rungs, and maintenance: what a host does that cannot help itself, and what it does when told to rest.

use super::*;

/// A host whose container was well, fails, and is past all help.
fn exhausted(escalation: Escalation) -> World {
    let mut world = World::healthy(Owner::Mapkeeper);
    world.settings.escalation = escalation;
    world.ended(Phase::Exited);
    for _ in 0..Timing::default().recreate.attempts {
        let action = world.next_action(seconds(600)).unwrap();
        world.tried(&action, Outcome::Done);
    }
    assert_eq!(world.look().health, Health::Failed);
    world
}

/// What is done to the instance within an hour of further failures; attempts at it end as `outcome`.
fn given_back(world: &mut World, outcome: &Outcome) -> Vec<Duration> {
    let begun = world.now;
    let mut given = Vec::new();
    while world.now.since(begun) < seconds(3600) {
        let Some(action) = world.next_action(seconds(60)) else { continue };
        let to_the_instance = action.target == Target::Instance;
        if to_the_instance {
            assert_eq!(action.repair, Repair::Terminate);
            given.push(world.now.since(begun));
        }
        world.tried(&action, if to_the_instance { outcome.clone() } else { Outcome::Done });
    }
    given
}

#[test]
fn an_instance_is_given_back_only_where_that_was_asked_for() {
    assert!(given_back(&mut exhausted(Escalation::Drain), &Outcome::Done).is_empty());
}

#[test]
fn an_instance_past_help_is_given_back_once_and_after_its_time() {
    for escalation in [Escalation::Terminate, Escalation::DryRun] {
        let given = given_back(&mut exhausted(escalation), &Outcome::Done);
        let [after] = given[..] else { panic!("{given:?}") };
        let expected = Timing::default().terminate_after;
        assert!(after + seconds(60) >= expected && after <= expected + seconds(30), "{after:?}");
    }
}

#[test]
fn giving_back_that_fails_is_tried_again_within_its_budget() {
    let given = given_back(&mut exhausted(Escalation::Terminate), &failure("denied"));
    assert_eq!(given.len(), Timing::default().terminate.attempts as usize);
}

#[test]
fn a_cause_that_the_next_instance_would_meet_as_well_gives_nothing_back() {
    let shared: [fn(&mut World, String); 5] = [
        |world, reason| world.mount().store = Seen::Known(StoreSeen::Away { reason, hint: None }),
        |world, reason| world.mount().store = Seen::Known(StoreSeen::Missing { reason, hint: None }),
        |world, reason| world.mount().store = Seen::Known(StoreSeen::Refuses { reason, hint: None }),
        |world, reason| world.mount().store = Seen::Unknown(reason),
        |world, reason| {
            world.seen.credentials = Seen::Known(CredentialsSeen::Missing { reason, hint: None });
        },
    ];
    for cause in shared {
        let mut world = exhausted(Escalation::Terminate);
        cause(&mut world, "no".to_owned());
        let begun = world.now;
        while world.now.since(begun) < seconds(3600) {
            let Some(action) = world.next_action(seconds(60)) else { continue };
            assert_ne!(action.repair, Repair::Terminate);
            world.tried(&action, Outcome::Done);
        }
    }
}

#[test]
fn what_never_was_well_here_gives_nothing_back() {
    let mut world = World::healthy(Owner::Mapkeeper);
    world.settings.escalation = Escalation::Terminate;
    world.history = History::default();
    world.ended(Phase::Exited);
    assert!(given_back(&mut with_spent_budget(world), &Outcome::Done).is_empty());
}

#[test]
fn a_container_that_ran_and_never_served_gives_nothing_back() {
    let mut world = World::healthy(Owner::Mapkeeper);
    world.settings.escalation = Escalation::Terminate;
    world.history = History::default();
    world.serves(no_connection());
    world.look();
    world.ended(Phase::Exited);
    assert!(given_back(&mut with_spent_budget(world), &Outcome::Done).is_empty());
}

#[test]
fn after_a_shared_cause_an_instance_has_its_whole_time_again() {
    let mut world = exhausted(Escalation::Terminate);
    world.mount().store = Seen::Known(StoreSeen::Away { reason: "no".to_owned(), hint: None });
    assert!(given_back(&mut world, &Outcome::Done).is_empty());
    world.mount().store = Seen::Known(StoreSeen::Answers);
    let given = given_back(&mut world, &Outcome::Done);
    let [after] = given[..] else { panic!("{given:?}") };
    assert!(after >= Timing::default().terminate_after, "{after:?}");
}

fn with_spent_budget(mut world: World) -> World {
    for _ in 0..Timing::default().recreate.attempts {
        let action = world.next_action(seconds(600)).unwrap();
        world.tried(&action, Outcome::Done);
    }
    world
}

#[test]
fn in_maintenance_everything_is_told_and_nothing_repaired() {
    for left in [None, Some(seconds(60))] {
        let mut world = World::healthy(Owner::Mapkeeper);
        world.seen.maintenance = Maintenance::On { left };
        world.ended(Phase::Exited);
        assert_eq!(world.next_action(seconds(600)), None);
        let decision = world.look();
        assert!(decision.reason.starts_with("paused "), "{}", decision.reason);
        assert!(decision.reason.contains("it ended with"), "{}", decision.reason);
        assert_eq!(world.link(&Target::Container("mapserver".to_owned())).state, LinkState::Broken);
        world.seen.maintenance = Maintenance::Off;
        assert_eq!(world.repair(), Some(Repair::Start));
    }
}

#[test]
fn a_host_is_ready_while_it_serves_and_a_broken_map_takes_none_out() {
    let mut world = World::healthy(Owner::Mapkeeper);
    assert!(world.look().ready);
    world.serves(ServiceSeen::Faulty { trigger: Reason::MapBroken, detail: String::new() });
    assert!(world.look().ready);
    world.serves(no_connection());
    assert!(!world.look().ready);
    let mut world = World::healthy(Owner::Mapkeeper);
    world.ended(Phase::Exited);
    assert!(!world.look().ready);
    let mut world = World::healthy(Owner::Mapkeeper);
    world.mount_fails();
    assert!(!world.look().ready);
}
