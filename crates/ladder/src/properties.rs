//! Properties over arbitrary hosts, histories and schedules of faults.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::decide::SHORTEST_LOOK;
use crate::state::*;

const MOUNTS: [&str; 2] = ["maps", "rasters"];
const DEVICES: [Device; 3] =
    [Device { major: 0, minor: 50 }, Device { major: 0, minor: 51 }, Device { major: 254, minor: 1 }];

fn seen<T: std::fmt::Debug + Clone + 'static>(
    known: impl Strategy<Value = T> + 'static,
) -> impl Strategy<Value = Seen<T>> {
    prop_oneof![
        8 => known.prop_map(Seen::Known),
        1 => Just(Seen::Unknown("could not look".to_owned())),
    ]
}

fn device() -> impl Strategy<Value = Device> {
    proptest::sample::select(&DEVICES[..])
}

fn mount() -> impl Strategy<Value = MountSeen> {
    let origin = prop_oneof![Just(Origin::Mapkeeper), Just(Origin::Foreign), Just(Origin::OverMapkeeper)];
    let hidden_by = proptest::option::weighted(0.1, Just("tmpfs at /srv".to_owned()));
    let entry = (device(), origin, hidden_by).prop_map(|(device, origin, hidden_by)| MountEntry {
        device,
        fs_type: "fuse.mapkeeper".to_owned(),
        source: "s3://bucket".to_owned(),
        origin,
        hidden_by,
    });
    let state = prop_oneof![
        4 => Just(SessionState::Serving),
        1 => Just(SessionState::Degraded("S3 away".to_owned())),
        1 => Just(SessionState::Keeps("kept".to_owned())),
        1 => Just(SessionState::Noted("no conditions".to_owned())),
        1 => Just(SessionState::Ended("aborted".to_owned())),
    ];
    let session = (device(), state).prop_map(|(device, state)| Session { device, state });
    let answer = prop_oneof![
        4 => device().prop_map(MountAnswer::Serves),
        1 => proptest::sample::select(vec!["ENOTCONN", "EIO", "EACCES"])
            .prop_map(|errno| MountAnswer::Errno(errno.to_owned())),
        1 => Just(MountAnswer::Silent(Duration::from_secs(5))),
    ];
    let anything = (
        seen(store()),
        seen(proptest::option::weighted(0.8, entry)),
        seen(proptest::option::weighted(0.8, session)),
        seen(answer),
        seen((0u64..3, 0u64..2).prop_map(|(waiting, taken)| Requests { waiting, taken })),
    )
        .prop_map(|(store, entry, session, answer, requests)| MountSeen {
            store,
            entry,
            session,
            answer,
            data: DataSeen::Same,
            requests,
        });
    prop_oneof![2 => device().prop_map(good_mount), 3 => anything]
}

fn store() -> impl Strategy<Value = StoreSeen> {
    let why = || ("no".to_owned(), None);
    let (away, refuses, missing) = (why(), why(), why());
    prop_oneof![
        6 => Just(StoreSeen::Answers),
        1 => Just(StoreSeen::NoStore),
        1 => Just(StoreSeen::Away { reason: away.0, hint: away.1 }),
        1 => Just(StoreSeen::Refuses { reason: refuses.0, hint: refuses.1 }),
        1 => Just(StoreSeen::Missing { reason: missing.0, hint: missing.1 }),
    ]
}

fn good_mount(device: Device) -> MountSeen {
    MountSeen {
        store: Seen::Known(StoreSeen::Answers),
        data: DataSeen::Same,
        requests: Seen::Known(Requests::default()),
        entry: Seen::Known(Some(MountEntry {
            device,
            fs_type: "fuse.mapkeeper".to_owned(),
            source: "s3://bucket".to_owned(),
            origin: Origin::Mapkeeper,
            hidden_by: None,
        })),
        session: Seen::Known(Some(Session { device, state: SessionState::Serving })),
        answer: Seen::Known(MountAnswer::Serves(device)),
    }
}

fn service() -> impl Strategy<Value = ServiceSeen> {
    let triggers = vec![
        Reason::NoConnection,
        Reason::NoAnswer,
        Reason::ServerError,
        Reason::MapBroken,
        Reason::MapMissing,
        Reason::PatternRefused,
        Reason::NotWms,
    ];
    prop_oneof![
        1 => Just(ServiceSeen::Healthy),
        1 => proptest::sample::select(triggers)
            .prop_map(|trigger| ServiceSeen::Faulty { trigger, detail: "faulty".to_owned() }),
    ]
}

fn container() -> impl Strategy<Value = ContainerSeen> {
    let phase = prop_oneof![
        6 => Just(Phase::Running),
        1 => Just(Phase::Created),
        1 => Just(Phase::Paused),
        1 => Just(Phase::Restarting),
        1 => Just(Phase::Stopping),
        1 => Just(Phase::Removing),
        2 => Just(Phase::Exited),
        1 => Just(Phase::Dead),
    ];
    let specification = prop_oneof![5 => Just(Specification::Current), 1 => Just(Specification::Outdated)];
    let facts = (phase, specification, 0u8..3).prop_map(|(phase, specification, life)| ContainerFacts {
        id: "c0ffee".to_owned(),
        phase,
        pid: (phase == Phase::Running).then_some(42),
        started: format!("life {life}"),
        restarts: 0,
        oom_killed: false,
        exit_code: None,
        image: "mapserver:8".to_owned(),
        specification,
    });
    let state = prop_oneof![
        1 => Just(ContainerState::Absent),
        1 => Just(ContainerState::Foreign { id: "beef".to_owned(), agent: None }),
        8 => facts.prop_map(ContainerState::Present),
    ];
    let view = seen(proptest::option::weighted(0.9, device()));
    let views = proptest::collection::btree_map(
        proptest::sample::select(&MOUNTS[..]).prop_map(str::to_owned),
        view,
        0..=2,
    );
    (seen(state), views, proptest::option::of(seen(service())))
        .prop_map(|(state, views, service)| ContainerSeen { state, views, service })
}

fn observation() -> impl Strategy<Value = Observation> {
    let credentials = prop_oneof![
        8 => Just(CredentialsSeen::Held),
        1 => Just(CredentialsSeen::Missing { reason: "none".to_owned(), hint: None }),
    ];
    let docker = prop_oneof![
        8 => Just(DockerSeen::Answers),
        1 => Just(DockerSeen::Unreachable { reason: "refused".to_owned(), hint: "start it".to_owned() }),
    ];
    (seen(credentials), mount(), mount(), seen(docker), container(), container()).prop_map(
        |(credentials, first, second, docker, one, other)| Observation {
            maintenance: Maintenance::Off,
            ecs: None,
            credentials,
            mounts: [("maps".to_owned(), first), ("rasters".to_owned(), second)].into(),
            docker,
            containers: [("web".to_owned(), one), ("tiles".to_owned(), other)].into(),
        },
    )
}

fn settings() -> impl Strategy<Value = Settings> {
    let owner = prop_oneof![Just(Owner::Mapkeeper), Just(Owner::Ecs)];
    let bound = proptest::sample::subsequence(vec!["maps".to_owned(), "rasters".to_owned()], 0..=2);
    (owner, bound, any::<bool>()).prop_map(|(owner, mounts, probed)| Settings {
        mounts: MOUNTS.map(str::to_owned).to_vec(),
        containers: vec![
            ContainerSettings { name: "web".to_owned(), owner, mounts, probed },
            ContainerSettings {
                name: "tiles".to_owned(),
                owner: Owner::Mapkeeper,
                mounts: vec!["rasters".to_owned()],
                probed: true,
            },
        ],
        ecs: None,
        workers: Workers::Fixed,
        escalation: Escalation::Drain,
        timing: Timing::default(),
    })
}

/// Whether `mount` serves, in words of its own: kernel, session and child agree on one device.
fn serves(seen: &Observation, mount: &str) -> Option<Device> {
    let mount = seen.mounts.get(mount)?;
    match (&mount.entry, &mount.session, &mount.answer) {
        (Seen::Known(Some(entry)), Seen::Known(Some(session)), Seen::Known(MountAnswer::Serves(answer)))
            if entry.device == session.device
                && entry.hidden_by.is_none()
                && *answer == session.device
                && !matches!(session.state, SessionState::Ended(_)) =>
        {
            Some(session.device)
        }
        _ => None,
    }
}

/// The precondition of each repair, from the table in the header of `lib.rs`, in words of its own.
fn precondition(action: &Action, seen: &Observation, settings: &Settings) -> Result<(), String> {
    match &action.target {
        Target::Credentials => {
            let refuses = |mount: &MountSeen| matches!(mount.store, Seen::Known(StoreSeen::Refuses { .. }));
            match seen.mounts.values().any(refuses) {
                true => Ok(()),
                false => Err("fetched credentials that no bucket refuses".to_owned()),
            }
        }
        Target::Mount(name) => mount_precondition(name, action.repair, seen),
        Target::Container(name) => {
            let container = settings.containers.iter().find(|one| one.name == *name).unwrap();
            container_precondition(container, action, seen)
        }
        other => Err(format!("nothing repairs {other}")),
    }
}

fn mount_precondition(name: &str, repair: Repair, seen: &Observation) -> Result<(), String> {
    let mount = &seen.mounts[name];
    let live = |session: &Session| !matches!(session.state, SessionState::Ended(_));
    match (repair, &mount.entry, &mount.session) {
        (_, Seen::Known(Some(entry)), _) if entry.hidden_by.is_some() => {
            return Err("a mount that is hidden was touched".to_owned());
        }
        (Repair::Uncover, Seen::Known(Some(entry)), Seen::Known(Some(session))) => {
            let covered = entry.device != session.device && live(session);
            return if covered { Ok(()) } else { Err(format!("uncovered {mount:?}")) };
        }
        _ => {}
    }
    if seen.credentials != Seen::Known(CredentialsSeen::Held) {
        return Err("mounted without credentials".to_owned());
    }
    let (Seen::Known(entry), Seen::Known(session)) = (&mount.entry, &mount.session) else {
        return Err("mounted on could-not-look".to_owned());
    };
    let ended = session.as_ref().is_some_and(|session| matches!(session.state, SessionState::Ended(_)));
    if matches!(&mount.store, Seen::Known(store) if !matches!(store, StoreSeen::Answers | StoreSeen::NoStore))
    {
        return Err(format!("mounted a bucket that does not answer: {:?}", mount.store));
    }
    let answers = matches!(mount.store, Seen::Known(StoreSeen::Answers | StoreSeen::NoStore));
    let silent = match &mount.answer {
        Seen::Known(MountAnswer::Silent(_)) => true,
        Seen::Known(MountAnswer::Errno(errno)) => errno != "ENOTCONN",
        _ => false,
    };
    let enotconn = mount.answer == Seen::Known(MountAnswer::Errno("ENOTCONN".to_owned()));
    let lost = matches!(&mount.requests, Seen::Known(requests) if requests.are_lost());
    let ok = match (repair, entry, session) {
        (Repair::Mount, None, _) => !ended,
        (Repair::Remount, Some(_), Some(_)) => ended || enotconn || ((silent || lost) && answers),
        (Repair::Remount, Some(entry), None) => match entry.origin {
            Origin::Mapkeeper => enotconn,
            Origin::OverMapkeeper => true,
            Origin::Foreign => false,
        },
        (Repair::Remount, None, Some(_)) => ended,
        _ => false,
    };
    if ok { Ok(()) } else { Err(format!("{repair:?} of {mount:?}")) }
}

fn container_precondition(
    container: &ContainerSettings,
    action: &Action,
    seen: &Observation,
) -> Result<(), String> {
    if seen.docker != Seen::Known(DockerSeen::Answers) {
        return Err("acted without Docker".to_owned());
    }
    let shown = &seen.containers[&container.name];
    for mount in container.mounts.iter().chain(shown.views.keys()) {
        let Some(device) = serves(seen, mount) else { return Err(format!("{mount} is not proven")) };
        if !action.rests_on.contains(&Proof { mount: mount.clone(), device }) {
            return Err(format!("the action does not carry the proof of {mount}"));
        }
    }
    let Seen::Known(state) = &shown.state else { return Err("acted on could-not-look".to_owned()) };
    let ours = container.owner == Owner::Mapkeeper;
    let ok = match (action.repair, state) {
        (Repair::Create, ContainerState::Absent) => ours,
        (_, ContainerState::Absent | ContainerState::Foreign { .. }) => false,
        (Repair::Start, ContainerState::Present(facts)) => {
            ours && matches!(facts.phase, Phase::Exited | Phase::Created)
        }
        (Repair::Recreate, ContainerState::Present(facts)) => {
            ours && (facts.specification == Specification::Outdated
                || matches!(facts.phase, Phase::Exited | Phase::Created | Phase::Dead | Phase::Paused)
                || broken_while_running(shown, seen))
        }
        (Repair::Unpause, ContainerState::Present(facts)) => facts.phase == Phase::Paused,
        (Repair::Restart, ContainerState::Present(facts)) => {
            ours && facts.phase == Phase::Running && broken_while_running(shown, seen)
        }
        (Repair::Stop, ContainerState::Present(facts)) => {
            !ours && facts.phase == Phase::Running && broken_while_running(shown, seen)
        }
        _ => false,
    };
    if ok { Ok(()) } else { Err(format!("{:?} of {shown:?}", action.repair)) }
}

/// Its view of a mount is known to differ, or every view is good and its service fails curably.
fn broken_while_running(shown: &ContainerSeen, seen: &Observation) -> bool {
    let stale = shown
        .views
        .iter()
        .any(|(mount, view)| matches!(view, Seen::Known(shown) if *shown != serves(seen, mount)));
    let looked = shown.views.values().all(|view| matches!(view, Seen::Known(_)));
    let silent = matches!(
        shown.service,
        Some(Seen::Known(ServiceSeen::Faulty {
            trigger: Reason::NoConnection | Reason::NoAnswer | Reason::ServerError,
            ..
        }))
    );
    let from_cache = shown.views.keys().any(|mount| {
        matches!(
            &seen.mounts[mount].session,
            Seen::Known(Some(Session { state: SessionState::Degraded(_), .. }))
        )
    });
    let away = shown
        .views
        .keys()
        .any(|mount| matches!(&seen.mounts[mount].store, Seen::Known(store) if !matches!(store, StoreSeen::Answers | StoreSeen::NoStore)));
    stale || (looked && silent && !from_cache && !away)
}

/// A step of a schedule: what the host looks like, how long, and how actions end.
#[derive(Debug, Clone)]
struct Step {
    seen: Observation,
    lasts: Duration,
    succeeds: bool,
    seed: u64,
}

fn step() -> impl Strategy<Value = Step> {
    let lasts = prop_oneof![4 => 1u64..20_000, 1 => 300_000u64..400_000].prop_map(Duration::from_millis);
    (observation(), lasts, any::<bool>(), any::<u64>()).prop_map(|(seen, lasts, succeeds, seed)| Step {
        seen,
        lasts,
        succeeds,
        seed,
    })
}

/// Runs a schedule as the loop would and hands every decision to `check`.
fn run(
    schedule: &[Step],
    settings: &Settings,
    mut check: impl FnMut(&Observation, &Decision, Moment) -> Result<(), TestCaseError>,
) -> Result<(), TestCaseError> {
    let mut history = History::default();
    let mut now = Moment::default();
    for step in schedule {
        let end = now.after(step.lasts);
        while now < end {
            let decision = plan(&step.seen, &mut history, now, settings);
            check(&step.seen, &decision, now)?;
            prop_assert!(decision.next_look >= SHORTEST_LOOK, "{:?}", decision.next_look);
            prop_assert!(decision.next_look <= settings.timing.look_every, "{:?}", decision.next_look);
            match &decision.action {
                Some(action) => {
                    now = now.after(Duration::from_millis(100));
                    let outcome = if step.succeeds { Outcome::Done } else { failed() };
                    history.tried(action, &outcome, now, step.seed, &settings.timing);
                }
                None => now = now.after(decision.next_look),
            }
        }
    }
    Ok(())
}

fn failed() -> Outcome {
    Outcome::Failed(Failure { error: "no".to_owned(), hint: None, exit: 1 })
}

/// The most actions on one rung of one target that any window may hold: the budget once for every
/// time it may have been forgiven, and one slow retry per slow pause.
fn most_actions(budget: &Budget, window: Duration, forgive_after: Duration) -> u64 {
    let forgiven = window.as_millis() / forgive_after.as_millis() + 2;
    // What serves nobody is tried again within the cap.
    let slow = window.as_millis() / budget.slow.min(Timing::default().idle_cap).as_millis() + 1;
    u64::try_from(u128::from(budget.attempts) * forgiven + slow).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_action_is_taken_whose_precondition_is_false(
        settings in settings(), schedule in vec(step(), 1..6),
    ) {
        run(&schedule, &settings, |seen, decision, _| {
            if let Some(action) = &decision.action {
                let found = precondition(action, seen, &settings);
                prop_assert!(found.is_ok(), "{}: {action:?}", found.unwrap_err());
            }
            Ok(())
        })?;
    }

    #[test]
    fn a_healthy_verdict_means_that_no_known_link_is_bad(
        settings in settings(), schedule in vec(step(), 1..4),
    ) {
        run(&schedule, &settings, |_, decision, _| {
            let states: Vec<LinkState> = decision.links.iter().map(|link| link.state).collect();
            let bad = states.iter().any(|state| matches!(state, LinkState::Broken | LinkState::Degraded));
            prop_assert!(decision.health != Health::Healthy || (!bad && decision.action.is_none()));
            let good = states.iter().all(|state| *state == LinkState::Ok);
            prop_assert!(!good || decision.health == Health::Healthy);
            Ok(())
        })?;
    }

    #[test]
    fn the_number_of_actions_in_any_window_is_bounded(
        settings in settings(), schedule in vec(step(), 1..8),
    ) {
        let window = Duration::from_secs(600);
        let mut recent: BTreeMap<(Target, Rung), VecDeque<Moment>> = BTreeMap::new();
        run(&schedule, &settings, |_, decision, now| {
            let Some(action) = &decision.action else { return Ok(()) };
            let rung = action.repair.rung();
            let times = recent.entry((action.target.clone(), rung)).or_default();
            times.push_back(now);
            while times.front().is_some_and(|first| now.since(*first) > window) {
                times.pop_front();
            }
            let most =
                most_actions(settings.timing.budget(rung), window, settings.timing.forgive_after);
            prop_assert!(times.len() as u64 <= most, "{} actions, at most {most}", times.len());
            Ok(())
        })?;
    }

    /// A fault that lasts is tried again and again: never longer apart than the longest pause.
    #[test]
    fn a_fault_that_can_be_repaired_is_never_given_up(
        settings in settings(), before in vec(step(), 0..4), fault in 0usize..5, seed in any::<u64>(),
    ) {
        let seen = repairable(fault);
        let target = if fault < 2 { Target::Mount("maps".to_owned()) } else { Target::Container("web".to_owned()) };
        let mut settings = settings;
        settings.containers[0].owner = Owner::Mapkeeper;
        settings.containers[0].probed = true;
        settings.containers[0].mounts = vec!["maps".to_owned()];
        let start: Duration = before.iter().map(|step| step.lasts).sum();
        let mut schedule = before;
        schedule.push(Step { seen, lasts: Duration::from_secs(1500), succeeds: false, seed });
        let longest = settings.timing.restart.slow + settings.timing.start_grace + Duration::from_secs(10);
        let mut last = Moment(start);
        let mut checked = false;
        run(&schedule, &settings, |_, decision, now| {
            if now.0 <= start {
                return Ok(());
            }
            if decision.action.as_ref().is_some_and(|action| action.target == target) {
                last = now;
            }
            checked = true;
            prop_assert!(now.since(last) <= longest, "stuck for {:?}", now.since(last));
            Ok(())
        })?;
        prop_assert!(checked);
    }
}

/// A host with exactly one fault that has a repair.
fn repairable(fault: usize) -> Observation {
    let facts = |phase| ContainerFacts {
        id: "c0ffee".to_owned(),
        phase,
        pid: Some(42),
        started: "life 9".to_owned(),
        restarts: 0,
        oom_killed: false,
        exit_code: None,
        image: "mapserver:8".to_owned(),
        specification: Specification::Current,
    };
    let running = |device, service| ContainerSeen {
        state: Seen::Known(ContainerState::Present(facts(Phase::Running))),
        views: [("maps".to_owned(), Seen::Known(Some(device)))].into(),
        service: Some(Seen::Known(service)),
    };
    let gone = |state| ContainerSeen { state, views: BTreeMap::new(), service: None };
    let mut seen = Observation {
        maintenance: Maintenance::Off,
        ecs: None,
        credentials: Seen::Known(CredentialsSeen::Held),
        mounts: [("maps".to_owned(), good_mount(DEVICES[0])), ("rasters".to_owned(), good_mount(DEVICES[1]))]
            .into(),
        docker: Seen::Known(DockerSeen::Answers),
        containers: [("web".to_owned(), running(DEVICES[0], ServiceSeen::Healthy))].into(),
    };
    let silent = ServiceSeen::Faulty { trigger: Reason::NoAnswer, detail: String::new() };
    match fault {
        0 => seen.mounts.get_mut("maps").unwrap().entry = Seen::Known(None),
        1 => {
            seen.mounts.get_mut("maps").unwrap().answer =
                Seen::Known(MountAnswer::Errno("ENOTCONN".to_owned()));
        }
        2 => drop(seen.containers.insert("web".to_owned(), gone(Seen::Known(ContainerState::Absent)))),
        3 => drop(seen.containers.insert("web".to_owned(), running(DEVICES[1], ServiceSeen::Healthy))),
        _ => drop(seen.containers.insert("web".to_owned(), running(DEVICES[0], silent))),
    }
    seen
}
