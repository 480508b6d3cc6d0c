//! What must hold in every schedule, in words of its own: nothing here is taken from the planner.
//!
//! | name | what must hold |
//! | --- | --- |
//! | P3 | no container is started by us on anything but the session of this agent |
//! | precondition | what was last answered is a reason for the action, and nothing it rests on was unknown |
//! | confirmed | what may come right by itself was seen amiss more than once, and a service had its time to start |
//! | hands off | no action in maintenance, none on a container of ECS but stop and unpause, none on what is not ours |
//! | bounded | no more actions of a kind in a minute or in ten than backoff and budget allow, never without a breath |
//! | last rung | an instance is given back once, and never while a bucket or the credentials are amiss |
//! | honest | nothing is called healthy that has been broken for long, and nothing ready that does not serve |
//! | alive | documents come in time, and the loop does not spin |
//! | health | once the faults are over, the host serves within bounded time, and then nothing is done any more |

use std::time::Duration;

use mapkeeper::agent::state::*;

use crate::model::{Answered, Model};
use crate::schedule::Kind;

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
    let proven = truth.session.is_some() && truth.layers.last() == truth.session.as_ref();
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
    let of_its_kind = |within: Duration| {
        before
            .iter()
            .filter(|(at, one, _)| {
                one.target == action.target && one.repair.rung() == action.repair.rung() && now - *at < within
            })
            .count()
    };
    let last = before.iter().rev().find(|(_, one, _)| one.target == action.target);
    let breath = Duration::from_millis(500);
    if last.is_some_and(|(at, ..)| now - *at < breath) && !model.is(Kind::AgentKilled) {
        wrong(model, format!("bounded: {action:?} without a breath"));
    }
    let per_minute = if gentle(model, action) { 20 } else { 7 };
    let per_ten = if gentle(model, action) { 130 } else { 30 };
    for (limit, within) in [(per_minute, 60), (per_ten, 600)] {
        let count = of_its_kind(Duration::from_secs(within));
        // Each agent has budgets of its own: those that were killed left theirs behind.
        if count > limit && !model.was_killed() {
            wrong(model, format!("bounded: {count} of {:?} within {within} s", action.repair.rung()));
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
        Repair::Mount | Repair::Remount => !model.serving(),
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
        Target::Instance => instance(&told, action.repair),
        other => Err(format!("nothing repairs {other}")),
    }
}

fn mount(model: &Model, told: &Answered, repair: Repair) -> Result<(), String> {
    require(held(told), "credentials are held")?;
    require(
        !matches!(&told.store, Seen::Known(store) if *store != StoreSeen::Answers),
        "the bucket is not away",
    )?;
    let (Seen::Known(entry), Seen::Known(session)) = (&told.entry, &told.session) else {
        return Err("the mount was not seen".to_owned());
    };
    let ended = session.as_ref().is_some_and(|session| matches!(session.state, SessionState::Ended(_)));
    let enotconn = told.answer == Seen::Known(MountAnswer::Errno("ENOTCONN".to_owned()));
    let amiss = match &told.answer {
        Seen::Known(MountAnswer::Silent(_)) => true,
        Seen::Known(MountAnswer::Errno(errno)) => errno != "ENOTCONN",
        _ => false,
    };
    let confirmed = amiss && answers(told) && model.amiss_looks() >= 2;
    match (repair, entry, session) {
        (Repair::Mount, None, _) => require(!ended, "the session has not ended"),
        (Repair::RestartWorkers, Some(entry), Some(session)) => {
            require(entry.device == session.device && !ended && confirmed, "the session lives and is silent")
        }
        (Repair::Remount, Some(entry), Some(session)) => {
            let gone = entry.device != session.device || ended || enotconn;
            require(gone || confirmed, "the session is gone, covered, or confirmed to be amiss")
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
    let curable = matches!(
        &told.service,
        Seen::Known(ServiceSeen::Faulty {
            trigger: Trigger::NoConnection | Trigger::NoAnswer | Trigger::ServerError,
            ..
        })
    );
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

fn instance(told: &Answered, repair: Repair) -> Result<(), String> {
    let shown = match &told.ecs {
        Seen::Known(EcsSeen { instance: Seen::Known(EcsInstance::Present { ready, .. }), .. }) => *ready,
        _ => None,
    };
    match repair {
        Repair::MarkUnready => require(shown == Some(true), "the cluster says ready"),
        Repair::MarkReady => {
            require(shown == Some(false) && proven(told).is_some(), "the cluster says unready, and it serves")
        }
        Repair::Terminate => {
            require(held(told) && answers(told), "credentials are held and the bucket answers")
        }
        other => Err(format!("{other:?} is nothing for an instance")),
    }
}
