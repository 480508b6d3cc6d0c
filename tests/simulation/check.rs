//! What must hold in every schedule, in words of its own: nothing here is taken from the planner.
//!
//! | name | what must hold |
//! | --- | --- |
//! | P3 | no container is started by us on anything but the session of this agent |
//! | precondition | what was last answered is a reason for the action, and nothing it rests on was unknown |
//! | confirmed | what may come right by itself was detected as faulty more than once, and a service had its time to start; one that is slow or busy is never restarted |
//! | hands off | no action in maintenance, none on a container of ECS but stop and unpause, none on what is not ours, none on a mount that is hidden |
//! | in order | workers are replaced before a living session is given up, where they can be |
//! | bounded | no more actions of a kind in a minute or in ten than backoff and budget allow, never without a breath; the ECS agent has half a minute to come up, and as long after each restart |
//! | last rungs | the cluster is told "not ready" of this host alone, never while somebody else drains it, and the instance is given back only after every attempt was made; the latter once, ten minutes later, never while a bucket or the credentials are faulty, and never one that was not well before |
//! | honest | nothing is called healthy that has been broken for long, and nothing ready that does not serve |
//! | alive | documents come in time, and the loop does not spin |
//! | prompt | what serves nobody is tried again within seconds, however often it was tried before |
//! | told | a cluster learns in time that a host is spent, and that it could serve again, also where the drain took its container; an instance that is to be given back is |
//! | anew | what was well for long is repaired as on the first day: promptly, and the next time too |
//! | health | once the faults are over, the host serves within bounded time, and then nothing is done any more |

use std::time::Duration;

use ladder::state::*;

use crate::model::{Answered, Model};
use crate::schedule::Kind;

/// The ECS agent has this long to come up by itself, to register and to connect.
const ECS_PATIENCE: Duration = Duration::from_secs(30);
/// Requests of which nobody knows are seen for this long before a session is given up for them.
const LOST_PATIENCE: Duration = Duration::from_secs(10);
/// What answers nothing is not silent before this.
pub const SILENCE: Duration = Duration::from_secs(30);
/// A host that is spent says so for this long before it is given back.
pub const SPENT_FOR: Duration = Duration::from_secs(600);

fn wrong(model: &Model, text: String) {
    model.log(format!("BROKEN: {text}"));
    model.broken.borrow_mut().get_or_insert(text);
}

/// P3, at the moment the container would start.
pub fn container_starts(model: &Model, action: &Action) {
    if !matches!(action.repair, Repair::Create | Repair::Recreate | Repair::Start | Repair::Restart) {
        return;
    }
    let truth = model.truth.borrow().clone();
    let fresh_death = truth.died.is_some_and(|died| model.now() - died < Duration::from_secs(8));
    let shown = truth.layers.last() == truth.session.as_ref() && !model.is(Kind::Hidden);
    let proven = truth.session.is_some() && shown;
    if !(proven && (!truth.session_ended || fresh_death)) {
        wrong(model, format!("P3: {:?} on an unproven mount", action.repair));
    }
}

pub fn action_begins(model: &Model, action: &Action) {
    if model.is(Kind::Maintenance) {
        wrong(model, format!("hands off: {action:?} in maintenance"));
    }
    if let Err(why) = precondition(model, action) {
        wrong(model, format!("precondition: {why}: {action:?}\n{:#?}", model.answered.borrow()));
    }
    bounded(model, action);
}

fn bounded(model: &Model, action: &Action) {
    let now = model.now();
    let before = model.actions.borrow();
    let rung = action.repair.rung();
    let gentle = gentle(model, action);
    // What disturbs is counted among what disturbed.
    let of_its_kind = |within: Duration| {
        let same = |one: &&(Duration, Target, Rung, bool)| {
            one.1 == action.target && one.2 == rung && (gentle || !one.3) && now - one.0 < within
        };
        model.begun.borrow().iter().filter(same).count()
    };
    let last = before.iter().rev().find(|(_, one, _)| one.target == action.target);
    let breath = Duration::from_millis(500);
    if last.is_some_and(|(at, ..)| now - *at < breath) && !model.is(Kind::AgentKilled) {
        wrong(model, format!("bounded: {action:?} without a breath"));
    }
    let per_minute = if gentle { 20 } else { 7 };
    // A restart: five attempts and one in five minutes, or five attempts before and after a long health.
    let per_ten = if gentle {
        130
    } else if rung == Rung::Restart {
        13
    } else {
        30
    };
    for (limit, within) in [(per_minute, 60), (per_ten, 600)] {
        let count = of_its_kind(Duration::from_secs(within));
        // Each agent has budgets of its own: those that were killed left theirs behind.
        if count > limit && !model.was_killed() {
            wrong(model, format!("bounded: {count} of {rung:?} within {within} s"));
        }
    }
    model.begun.borrow_mut().push((now, action.target.clone(), rung, gentle));
    if action.target == Target::Ecs {
        let tried = model.attempts(|one| one.target == Target::Ecs);
        let recent = tried.iter().filter(|at| now - **at < Duration::from_secs(600)).count();
        if tried.last().is_some_and(|at| now - *at < ECS_PATIENCE) || recent > 8 {
            wrong(model, format!("bounded: {:?} again, {recent} in ten minutes", action.repair));
        }
    }
    if action.repair == Repair::Terminate {
        let given = before.iter().any(|(_, one, done)| one.repair == Repair::Terminate && *done);
        if given && !model.was_killed() {
            wrong(model, "last rung: given back twice".to_owned());
        }
    }
}

/// Whether the repair disturbs nobody, because what it repairs serves nobody.
fn gentle(model: &Model, action: &Action) -> bool {
    match action.repair {
        Repair::Mount | Repair::Remount | Repair::Uncover => !model.serving(),
        Repair::Start | Repair::Create | Repair::Unpause | Repair::Refresh => true,
        Repair::Recreate => {
            model.truth.borrow().container.as_ref().is_none_or(|one| one.phase != Phase::Running)
        }
        _ => false,
    }
}

/// The device on which kernel, session and child agree.
fn proven(told: &Answered) -> Option<Device> {
    match (&told.entry, &told.session, &told.answer) {
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

fn held(told: &Answered) -> bool {
    told.credentials == Seen::Known(CredentialsSeen::Held)
}

fn answers(told: &Answered) -> bool {
    told.store == Seen::Known(StoreSeen::Answers)
}

fn require(holds: bool, what: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(format!("not so: {what}")) }
}

fn precondition(model: &Model, action: &Action) -> Result<(), String> {
    let told = model.answered.borrow();
    match &action.target {
        Target::Credentials => {
            require(matches!(told.store, Seen::Known(StoreSeen::Refuses { .. })), "a bucket refuses")
        }
        Target::Mount(_) => mount(model, &told, action.repair),
        Target::Container(_) => container(model, &told, action),
        Target::Ecs => {
            require(proven(&told).is_some(), "the mount is proven")?;
            require(model.ecs_faulty_for() >= ECS_PATIENCE, "it had time to come up")?;
            let Seen::Known(ecs) = &told.ecs else { return Err("ECS was not seen".to_owned()) };
            let down =
                ecs.agent != EcsAgent::Registered { cluster: "maps".to_owned(), instance: "arn".to_owned() };
            let absent = ecs.instance == Seen::Known(EcsInstance::Absent);
            let deaf = matches!(ecs.instance, Seen::Known(EcsInstance::Present { connected: false, .. }));
            match action.repair {
                Repair::Reregister => require(absent, "the cluster does not know it"),
                _ => require(down || deaf, "the agent is down or not heard"),
            }
        }
        Target::Instance => instance(model, &told, action.repair),
        other => Err(format!("nothing repairs {other}")),
    }
}

fn mount(model: &Model, told: &Answered, repair: Repair) -> Result<(), String> {
    let (Seen::Known(entry), Seen::Known(session)) = (&told.entry, &told.session) else {
        return Err("the mount was not seen".to_owned());
    };
    let hidden = entry.as_ref().is_some_and(|entry| entry.hidden_by.is_some());
    require(!hidden, "nothing over a directory above hides it")?;
    let needs_store = repair != Repair::Uncover;
    require(held(told) || !needs_store, "credentials are held")?;
    let away = matches!(&told.store, Seen::Known(store) if *store != StoreSeen::Answers);
    require(!away || !needs_store, "the bucket is not away")?;
    let ended = session.as_ref().is_some_and(|session| matches!(session.state, SessionState::Ended(_)));
    let enotconn = told.answer == Seen::Known(MountAnswer::Errno("ENOTCONN".to_owned()));
    let faulty = match &told.answer {
        Seen::Known(MountAnswer::Silent(_)) => true,
        Seen::Known(MountAnswer::Errno(errno)) => errno != "ENOTCONN",
        _ => false,
    };
    let lost = answers(told) && model.lost_for() >= LOST_PATIENCE;
    let confirmed = faulty && answers(told) && model.faulty_looks() >= 2 || lost;
    match (repair, entry, session) {
        (Repair::Mount, None, _) => require(!ended, "the session has not ended"),
        (Repair::RestartWorkers, Some(entry), Some(session)) => {
            require(model.workers() == Workers::Restartable, "workers can be replaced")?;
            require(entry.device == session.device && !ended && confirmed, "the session lives and is silent")
        }
        (Repair::Uncover, Some(entry), Some(session)) => {
            require(entry.device != session.device && !ended, "the session lives, and something covers it")
        }
        (Repair::Remount, Some(_), Some(_)) => {
            let gone = ended || enotconn;
            let fixed = model.workers() == Workers::Fixed;
            let renewed = model.attempts(|one| one.repair == Repair::RestartWorkers).len() >= 2;
            require(gone || fixed || renewed, "workers were replaced first, where they can be")?;
            require(gone || confirmed, "the session is gone, or confirmed to be faulty")
        }
        (Repair::Remount, Some(entry), None) => {
            let covers = entry.origin == Origin::OverMapkeeper;
            require(
                covers || entry.origin == Origin::Mapkeeper && enotconn,
                "it was left over, or covered so",
            )
        }
        (Repair::Remount, None, Some(_)) => require(ended, "the session has ended"),
        _ => Err("nothing is there to repair so".to_owned()),
    }
}

fn container(model: &Model, told: &Answered, action: &Action) -> Result<(), String> {
    require(told.docker == Seen::Known(DockerSeen::Answers), "Docker answers")?;
    let Some(device) = proven(told) else { return Err("the mount is not proven".to_owned()) };
    require(action.rests_on.iter().any(|proof| proof.device == device), "it carries the proof")?;
    let Seen::Known(state) = &told.container else { return Err("the container was not seen".to_owned()) };
    let ours = model.is_ours();
    let ContainerState::Present(facts) = state else {
        return require(
            *state == ContainerState::Absent && action.repair == Repair::Create && ours,
            "it is absent",
        );
    };
    let running = facts.phase == Phase::Running;
    let stale = matches!(&told.view, Seen::Known(view) if *view != Some(device));
    let curable = matches!(&told.service, Seen::Known(seen) if is_silent(seen));
    let looked = matches!(told.view, Seen::Known(_));
    let silent = looked && curable && answers_or_unknown(told) && model.service_was_given_time();
    let broken = running && (stale || silent);
    match action.repair {
        Repair::Unpause => require(facts.phase == Phase::Paused, "it is paused"),
        Repair::Start => {
            require(ours && matches!(facts.phase, Phase::Exited | Phase::Created), "ours, and it ended")
        }
        Repair::Restart => require(ours && broken, "ours, runs, and is stale or silent"),
        Repair::Recreate => {
            let outdated = facts.specification == Specification::Outdated;
            require(ours && (outdated || !running || broken), "ours, and outdated, ended, stale or silent")
        }
        Repair::Stop => {
            require(!ours && broken, "ECS's, runs, and is stale or silent")?;
            require(!model.in_cluster() || ecs_can_replace(told), "ECS can replace it")
        }
        other => Err(format!("{other:?} has no reason here")),
    }
}

/// Whether a service does not answer at all: no connection, a server's error, or nothing for half a minute and ten
/// times the timeout from a container that is known to do nothing. One that is slow, or busy, is not silent.
pub fn is_silent(seen: &ServiceSeen) -> bool {
    match seen {
        ServiceSeen::Faulty { trigger, .. } => {
            matches!(trigger, Reason::NoConnection | Reason::ServerError)
        }
        ServiceSeen::Unanswered { waited, timeout, works: Seen::Known(false) } => {
            *waited >= SILENCE && *waited >= 10 * *timeout
        }
        _ => false,
    }
}

fn answers_or_unknown(told: &Answered) -> bool {
    !matches!(&told.store, Seen::Known(store) if *store != StoreSeen::Answers)
        && !matches!(&told.session, Seen::Known(Some(Session { state: SessionState::Degraded(_), .. })))
}

fn ecs_can_replace(told: &Answered) -> bool {
    match &told.ecs {
        Seen::Known(EcsSeen { agent: EcsAgent::Registered { .. }, instance, .. }) => !matches!(
            instance,
            Seen::Known(EcsInstance::Absent | EcsInstance::Present { connected: false, .. })
        ),
        _ => false,
    }
}

/// Since when every attempt at the mount was made that the last rungs wait for: ten.
pub fn mount_spent(model: &Model, after: Duration) -> Option<Duration> {
    nth(model, 10, Rung::Remount, after)
}

/// The same for the container: eight made or started, or, where ECS makes them, five stopped.
pub fn container_spent(model: &Model, after: Duration) -> Option<Duration> {
    if model.is_ours() { nth(model, 8, Rung::Recreate, after) } else { nth(model, 5, Rung::Restart, after) }
}

fn nth(model: &Model, count: usize, rung: Rung, after: Duration) -> Option<Duration> {
    let tried = model.attempts(|one| one.repair.rung() == rung);
    tried.into_iter().filter(|at| *at >= after).nth(count - 1)
}

fn spent_since(model: &Model) -> Option<Duration> {
    let ever = Duration::ZERO;
    [mount_spent(model, ever), container_spent(model, ever)].into_iter().flatten().min()
}

fn instance(model: &Model, told: &Answered, repair: Repair) -> Result<(), String> {
    let (shown, draining, connected) = match &told.ecs {
        Seen::Known(EcsSeen {
            instance:
                Seen::Known(EcsInstance::Present { ready, draining, connected, identity: Identity::Same }),
            ..
        }) => (*ready, *draining, *connected),
        _ => (None, false, false),
    };
    match repair {
        Repair::MarkUnready => {
            require(shown.is_some() && !draining, "it is known to be this host, and nobody drains it")?;
            require(spent_since(model).is_some(), "every attempt was made")
        }
        Repair::MarkReady => {
            require(shown == Some(false) && connected, "it was marked from here, and is heard")?;
            require(proven(told).is_some(), "the mount is proven")?;
            if model.is_bare() || runs_well(told) {
                return Ok(());
            }
            let gone = match &told.container {
                Seen::Known(ContainerState::Present(facts)) => facts.phase != Phase::Running,
                Seen::Known(state) => *state == ContainerState::Absent,
                Seen::Unknown(_) => false,
            };
            let taken = gone && !model.is_ours() && told.docker == Seen::Known(DockerSeen::Answers);
            require(taken, "the container serves, or ECS has taken it away")
        }
        Repair::Terminate => {
            require(held(told) && answers(told), "credentials are held and the bucket answers")?;
            let spent = spent_since(model).is_some_and(|since| model.now() - since >= SPENT_FOR);
            require(spent, "every attempt was made long ago")?;
            let alone = model.now() - model.shared.get().unwrap_or_default() >= SPENT_FOR;
            require(alone, "no cause that others share stood meanwhile")?;
            let of_the_mount = proven(told).is_none() && model.mount_seen_well.get();
            require(of_the_mount || model.seen_well.get(), "it was well before")
        }
        other => Err(format!("{other:?} is nothing for an instance")),
    }
}

/// Whether the container was seen to run on the mount that is proven, with nothing that a restart could better.
fn runs_well(told: &Answered) -> bool {
    let Seen::Known(ContainerState::Present(facts)) = &told.container else { return false };
    let silent = match &told.service {
        Seen::Known(seen) => is_silent(seen) || matches!(seen, ServiceSeen::Unanswered { .. }),
        Seen::Unknown(_) => false,
    };
    let on = proven(told);
    facts.phase == Phase::Running && told.view == Seen::Known(on) && !silent
}
