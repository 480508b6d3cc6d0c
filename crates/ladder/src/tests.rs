//! Stories about one decision or a few: a normal world, one thing wrong, one expectation.

mod containers;
mod ecs;
mod escalation;
mod mounts;
mod patience;

use std::time::Duration;

use super::*;
use crate::state::*;

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
        plan(&self.seen, &mut self.history, self.now, &self.settings)
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

    /// File calls fail, because the bucket does not answer.
    fn mount_fails(&mut self) {
        self.mount().answer = Seen::Known(MountAnswer::Errno("EIO".to_owned()));
        self.mount().store = Seen::Known(StoreSeen::Away { reason: "no answer".to_owned(), hint: None });
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
        ecs: None,
        workers: Workers::Fixed,
        escalation: Escalation::Drain,
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
        store: Seen::Known(StoreSeen::Answers),
        data: DataSeen::Same,
        requests: Seen::Known(Requests::default()),
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
        maintenance: Maintenance::Off,
        ecs: None,
        credentials: Seen::Known(CredentialsSeen::Held),
        mounts: [(MOUNT.to_owned(), mount)].into(),
        docker: Seen::Known(DockerSeen::Answers),
        containers: [("mapserver".to_owned(), container)].into(),
    }
}

fn entry(device: Device, origin: Origin) -> MountEntry {
    let fs_type = if origin == Origin::Mapkeeper { "fuse.mapkeeper" } else { "tmpfs" };
    MountEntry {
        device,
        fs_type: fs_type.to_owned(),
        source: "s3://bucket/maps".to_owned(),
        origin,
        hidden_by: None,
    }
}

fn no_connection() -> ServiceSeen {
    ServiceSeen::Faulty { trigger: Reason::NoConnection, detail: "connection refused".to_owned() }
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
