//! The ECS agent and the containers that it owns: never fought, given time, helped where it cannot help itself.

use super::*;

/// This very host, not drained.
fn present(connected: bool, ready: Option<bool>) -> EcsInstance {
    EcsInstance::Present { connected, draining: false, ready, identity: Identity::Same }
}

fn drained(ready: bool) -> EcsInstance {
    EcsInstance::Present { connected: true, draining: true, ready: Some(ready), identity: Identity::Same }
}

fn member() -> World {
    let mut world = World::healthy(Owner::Ecs);
    world.settings.ecs = Some(EcsSettings { cluster: "maps".to_owned() });
    world.seen.ecs = Some(Seen::Known(EcsSeen {
        agent: EcsAgent::Registered { cluster: "maps".to_owned(), instance: "arn:x".to_owned() },
        instance: Seen::Known(present(true, Some(true))),
        tasks: Seen::Known(vec!["c0ffee".to_owned()]),
    }));
    assert_eq!(world.look().health, Health::Healthy);
    world
}

impl World {
    fn ecs(&mut self) -> &mut EcsSeen {
        match &mut self.seen.ecs {
            Some(Seen::Known(seen)) => seen,
            other => panic!("no cluster: {other:?}"),
        }
    }

    fn instance(&mut self, instance: EcsInstance) {
        self.ecs().instance = Seen::Known(instance);
    }
}

#[test]
fn an_agent_that_is_down_or_not_heard_is_started_again_after_its_patience_and_seldom() {
    let faults: [fn(&mut World); 3] = [
        |world| world.ecs().agent = EcsAgent::Down { reason: "refused".to_owned() },
        |world| world.ecs().agent = EcsAgent::Unregistered,
        |world| world.instance(present(false, Some(true))),
    ];
    for fault in faults {
        let mut world = member();
        fault(&mut world);
        assert_eq!(world.next_action(seconds(29)), None);
        let end = world.now.after(seconds(3600));
        let mut count = 0;
        while world.now < end {
            if let Some(action) = world.next_action(seconds(600)) {
                assert_eq!((&action.target, action.repair), (&Target::Ecs, Repair::RestartEcsAgent));
                world.tried(&action, Outcome::Done);
                count += 1;
            }
        }
        assert!((4..=7).contains(&count), "{count} in an hour");
        assert_eq!(world.look().health, Health::Failed);
    }
}

#[test]
fn an_instance_that_the_cluster_does_not_know_registers_again() {
    let mut world = member();
    world.instance(EcsInstance::Absent);
    let action = world.next_action(seconds(60)).unwrap();
    assert_eq!((action.target, action.repair), (Target::Ecs, Repair::Reregister));
}

#[test]
fn nothing_is_done_to_the_agent_on_a_host_whose_mount_is_not_proven() {
    let mut world = member();
    world.instance(EcsInstance::Absent);
    world.mount_fails();
    assert_eq!(world.next_action(seconds(600)), None);
}

#[test]
fn another_cluster_than_the_configured_one_calls_a_person() {
    let mut world = member();
    let instance = "arn:y".to_owned();
    world.ecs().agent = EcsAgent::Registered { cluster: "default".to_owned(), instance };
    assert_eq!(world.next_action(seconds(600)), None);
    assert_eq!(world.look().health, Health::Failed);
}

#[test]
fn a_stale_container_is_stopped_only_while_ecs_can_replace_it() {
    let stale = |world: &mut World| {
        world.container().views = [(MOUNT.to_owned(), Seen::Known(Some(OLD_DEVICE)))].into();
    };
    let mut world = member();
    stale(&mut world);
    assert_eq!(world.repair(), Some(Repair::Stop));
    let faults: [fn(&mut World); 4] = [
        |world| world.ecs().agent = EcsAgent::Down { reason: "refused".to_owned() },
        |world| world.ecs().agent = EcsAgent::Unregistered,
        |world| world.instance(EcsInstance::Absent),
        |world| world.seen.ecs = Some(Seen::Unknown("silent".to_owned())),
    ];
    for fault in faults {
        let mut world = member();
        stale(&mut world);
        fault(&mut world);
        assert_ne!(world.next_action(seconds(20)).map(|action| action.repair), Some(Repair::Stop));
    }
}

#[test]
fn a_cluster_that_could_not_be_asked_or_may_not_be_holds_up_no_replacement() {
    for instance in [Seen::Unknown("throttled".to_owned()), Seen::Known(EcsInstance::Hidden)] {
        let mut world = member();
        world.ecs().instance = instance;
        world.container().views = [(MOUNT.to_owned(), Seen::Known(None))].into();
        assert_eq!(world.repair(), Some(Repair::Stop));
    }
}

#[test]
fn a_container_that_ecs_does_not_know_is_reported_and_left_alone() {
    let mut world = member();
    world.ecs().tasks = Seen::Known(vec!["another".to_owned()]);
    assert_eq!(world.next_action(seconds(600)), None);
    let link = world.link(&Target::Container("mapserver".to_owned()));
    assert_eq!((link.state, link.trigger), (LinkState::Degraded, Some(Reason::EcsTaskUnknown)));
}

/// A host whose mount cannot be mounted any more, and whose repairs are spent.
fn exhausted() -> World {
    let mut world = member();
    world.mount().entry = Seen::Known(None);
    for _ in 0..Timing::default().remount.attempts {
        let action = world.next_action(seconds(600)).unwrap();
        assert_eq!(action.target, mount_target());
        world.tried(&action, failure("no /dev/fuse"));
    }
    world
}

/// The same, drained for it, as ECS then does: its container is gone.
fn drained_for_its_mount() -> World {
    let mut world = exhausted();
    let action = world.look().action.unwrap();
    assert_eq!((&action.target, action.repair), (&Target::Instance, Repair::MarkUnready));
    world.tried(&action, Outcome::Done);
    world.instance(drained(false));
    world.absent();
    assert!(!world.look().ready);
    world
}

#[test]
fn a_drained_host_whose_mount_came_back_is_ready_again_without_the_container_that_the_drain_took() {
    let mut world = drained_for_its_mount();
    world.wait(seconds(600));
    world.look();
    *world.mount() = healthy().mounts.remove(MOUNT).unwrap();
    let action = world.next_action(seconds(60)).unwrap();
    assert_eq!((&action.target, action.repair), (&Target::Instance, Repair::MarkReady));
    let link = world.link(&Target::Container("mapserver".to_owned()));
    assert_eq!((link.state, link.detail.as_str()), (LinkState::Waiting, "waits for ecs"));
    assert_eq!(world.look().health, Health::Degraded);
}

#[test]
fn an_agent_that_starts_on_a_host_that_was_drained_from_here_makes_it_ready() {
    for instance in [drained(false), present(true, Some(false))] {
        let mut world = member();
        world.history = History::default();
        world.instance(instance);
        world.absent();
        assert_eq!(world.next_action(seconds(60)).map(|action| action.repair), Some(Repair::MarkReady));
    }
}

#[test]
fn a_drained_host_is_not_ready_before_it_could_serve() {
    let faults: [fn(&mut World); 6] = [
        |world| world.mount().entry = Seen::Known(None),
        |world| world.seen.docker = Seen::Unknown("no answer".to_owned()),
        |world| world.container().state = Seen::Unknown("no answer".to_owned()),
        |world| {
            let identity = Identity::Same;
            world.instance(EcsInstance::Present {
                connected: false,
                draining: true,
                ready: Some(false),
                identity,
            });
        },
        |world| world.ecs().agent = EcsAgent::Down { reason: "refused".to_owned() },
        |world| world.ecs().agent = EcsAgent::Unregistered,
    ];
    for fault in faults {
        let mut world = member();
        world.instance(drained(false));
        world.absent();
        fault(&mut world);
        let end = world.now.after(seconds(300));
        while world.now < end {
            if let Some(action) = world.next_action(seconds(100)) {
                assert_ne!(action.repair, Repair::MarkReady);
                world.tried(&action, failure("no"));
            }
        }
    }
}

#[test]
fn what_somebody_else_drains_is_told_and_stays_drained() {
    let mut world = member();
    world.instance(drained(true));
    world.absent();
    assert_eq!(world.next_action(seconds(3600)), None);
    let link = world.link(&Target::Ecs);
    assert_eq!((link.state, link.trigger), (LinkState::Degraded, Some(Reason::EcsDraining)));
    // Not even a host that is past help makes it look like its own.
    let mut world = exhausted();
    world.instance(drained(true));
    for _ in 0..100 {
        let Some(action) = world.next_action(seconds(60)) else { continue };
        assert_eq!(action.target, mount_target());
        world.tried(&action, failure("no /dev/fuse"));
    }
}

#[test]
fn a_drain_that_was_half_done_is_done_again() {
    let mut world = exhausted();
    world.instance(present(true, Some(false)));
    assert_eq!(world.look().action.map(|action| action.repair), Some(Repair::MarkUnready));
}

#[test]
fn an_instance_that_is_not_known_to_be_this_host_is_neither_drained_nor_marked() {
    let words = || "the ECS agent names instance i-2, this host is i-1".to_owned();
    let cases = [
        (Identity::Other(words()), LinkState::Broken),
        (Identity::Unknown("the metadata service does not answer".to_owned()), LinkState::Degraded),
    ];
    for (identity, state) in cases {
        for ready in [true, false] {
            let mut world = if ready { exhausted() } else { member() };
            let identity = identity.clone();
            let instance =
                EcsInstance::Present { connected: true, draining: !ready, ready: Some(ready), identity };
            world.instance(instance);
            for _ in 0..20 {
                let Some(action) = world.next_action(seconds(60)) else { continue };
                assert_ne!(action.target, Target::Instance);
                world.tried(&action, failure("no /dev/fuse"));
            }
            let link = world.link(&Target::Ecs);
            assert_eq!((link.state, link.trigger), (state, Some(Reason::EcsIdentity)));
            let (Identity::Other(said) | Identity::Unknown(said)) = &identity_of(&world) else { panic!() };
            assert!(link.detail.contains(said) && link.hint.is_some(), "{link:?}");
        }
    }
}

fn identity_of(world: &World) -> Identity {
    match &world.seen.ecs {
        Some(Seen::Known(EcsSeen {
            instance: Seen::Known(EcsInstance::Present { identity, .. }), ..
        })) => identity.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_container_that_ecs_places_anew_has_its_time_before_the_host_is_drained_again() {
    let mut world = member();
    world.container().views = [(MOUNT.to_owned(), Seen::Known(None))].into();
    for _ in 0..Timing::default().restart.attempts {
        let action = world.next_action(seconds(600)).unwrap();
        assert_eq!(action.repair, Repair::Stop);
        world.tried(&action, Outcome::Done);
    }
    let action = world.look().action.unwrap();
    assert_eq!(action.repair, Repair::MarkUnready);
    world.tried(&action, Outcome::Done);
    world.instance(drained(false));
    assert_eq!(world.repair(), None, "it is there still");
    world.absent();
    let action = world.next_action(seconds(60)).unwrap();
    assert_eq!(action.repair, Repair::MarkReady);
    world.tried(&action, Outcome::Done);
    world.instance(present(true, Some(true)));
    assert_eq!(world.next_action(seconds(100)), None, "ECS has its time");
    let fresh = healthy().containers.remove("mapserver").unwrap();
    *world.container() = fresh;
    world.facts().started = "2024-01-01T00:10:00Z".to_owned();
    world.serves(no_connection());
    assert_eq!(world.next_action(seconds(18)), None, "it is coming up");
    assert_eq!(world.next_action(seconds(60)).map(|action| action.repair), Some(Repair::MarkUnready));
}

#[test]
fn a_cluster_without_the_attribute_is_told_nothing() {
    let mut world = member();
    world.instance(present(true, None));
    assert_eq!(world.next_action(seconds(600)), None);
}
