//! The ECS agent and the containers that it owns: never fought, given time, helped where it cannot help itself.

use super::*;

fn member() -> World {
    let mut world = World::healthy(Owner::Ecs);
    world.settings.ecs = Some(EcsSettings { cluster: "maps".to_owned() });
    world.seen.ecs = Some(Seen::Known(EcsSeen {
        agent: EcsAgent::Registered { cluster: "maps".to_owned(), instance: "arn:x".to_owned() },
        instance: Seen::Known(EcsInstance::Present { connected: true, ready: Some(true) }),
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
        |world| world.instance(EcsInstance::Present { connected: false, ready: Some(true) }),
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
    assert_eq!((link.state, link.trigger), (LinkState::Degraded, Some(Trigger::EcsTaskUnknown)));
}

#[test]
fn the_cluster_is_told_when_a_host_is_exhausted_and_when_it_serves_again() {
    let mut world = member();
    world.container().views = [(MOUNT.to_owned(), Seen::Known(None))].into();
    for _ in 0..Timing::default().restart.attempts {
        let action = world.next_action(seconds(600)).unwrap();
        assert_eq!(action.repair, Repair::Stop);
        world.tried(&action, Outcome::Done);
    }
    let action = world.look().action.unwrap();
    assert_eq!((&action.target, action.repair), (&Target::Instance, Repair::MarkUnready));
    world.tried(&action, Outcome::Done);
    world.instance(EcsInstance::Present { connected: true, ready: Some(false) });
    assert!(!world.look().ready);
    world.container().views = [(MOUNT.to_owned(), Seen::Known(Some(DEVICE)))].into();
    let action = world.next_action(seconds(60)).unwrap();
    assert_eq!((&action.target, action.repair), (&Target::Instance, Repair::MarkReady));
}

#[test]
fn a_cluster_without_the_attribute_is_told_nothing() {
    let mut world = member();
    world.instance(EcsInstance::Present { connected: true, ready: None });
    assert_eq!(world.next_action(seconds(600)), None);
}
