//! Who watches the host and what the agent says of it, all the time: what must hold between two actions.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ladder::state::*;
use mapkeeper::agent::status::Document;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::check::{SILENCE, SPENT_FOR, container_spent, mount_spent};
use crate::model::Model;
use crate::schedule::{Kind, Schedule};

/// From the end of the last fault to health, at most. The longest pause of a running container's budget, and a little.
const HEALTH: Duration = Duration::from_secs(400);
/// The same where the ECS agent had to be helped: it is started again at most every half hour after four attempts.
const HEALTH_IN_CLUSTER: Duration = Duration::from_secs(2_000);
/// What is broken is not called healthy after this.
const HONEST: Duration = Duration::from_secs(15);
/// What serves nobody is tried again within this: a pause of five seconds, and a look.
const PROMPT: Duration = Duration::from_secs(12);
/// The cluster is told within this that a host is spent, or serves again: a pause of a minute, and a look.
const TOLD: Duration = Duration::from_secs(75);
/// ECS has this long to place a container, which then has its time to come up or to be silent.
const TRIAL: Duration = Duration::from_secs(130);
/// What fails after a long health is repaired within this: silence, a look before it and two after it.
const ANEW: Duration = Duration::from_secs(50);
/// A host that serves again is left alone for this long.
const QUIET: Duration = Duration::from_secs(60);

/// Watches the host and what the agent says of it.
pub struct Watcher {
    model: Rc<Model>,
    documents: watch::Receiver<Option<Arc<Document>>>,
    over: Duration,
    limit: Duration,
    /// Since when exactly this has been broken, and how often a fault had come or gone by then.
    standing: RefCell<(Duration, Vec<String>, u32)>,
    /// Since when something has served nobody, and nothing kept a repair of it from being made.
    idle: RefCell<Option<(Target, Duration)>>,
    /// Since when this host has served nobody although every attempt was made.
    spent: Cell<Option<Duration>>,
    /// Whether that is for the mount.
    of_mount: Cell<bool>,
    /// When the mount served last, and when the container did: what is spent is counted from there.
    served: Cell<(Duration, Duration)>,
    /// Since when it could have served while the cluster is told otherwise.
    untold: Cell<Option<Duration>>,
    escalation: Escalation,
    anew: Vec<Duration>,
}

impl Watcher {
    pub fn new(
        model: Rc<Model>,
        schedule: &Schedule,
        documents: watch::Receiver<Option<Arc<Document>>>,
    ) -> Watcher {
        let limit = if schedule.in_cluster { HEALTH_IN_CLUSTER } else { HEALTH };
        Watcher {
            model,
            documents,
            over: schedule.over(),
            limit,
            standing: RefCell::default(),
            idle: RefCell::default(),
            spent: Cell::default(),
            of_mount: Cell::default(),
            served: Cell::default(),
            untold: Cell::default(),
            escalation: schedule.escalation,
            anew: schedule.anew.clone(),
        }
    }

    /// Watches until the host has recovered and was left alone; answers how long the recovery took.
    pub async fn watch(&self) -> Result<Duration, String> {
        let mut recovered = None;
        loop {
            sleep(Duration::from_millis(500)).await;
            let now = self.model.now();
            self.always(now)?;
            if now < self.over {
                continue;
            }
            let healthy = self.document().is_some_and(|document| {
                document.health == Health::Healthy && document.ready && document.acting.is_none()
            });
            match recovered {
                None if healthy && self.model.well() && self.cluster_says_ready() => {
                    recovered = Some((now, self.model.counts().0))
                }
                None if now - self.over > self.limit => {
                    return Err(format!(
                        "health: not within {} s: {:#?}",
                        self.limit.as_secs(),
                        self.document()
                    ));
                }
                Some((since, actions)) if now - since >= QUIET => {
                    let more = self.model.counts().0 - actions;
                    if more > 1 || !healthy {
                        return Err(format!(
                            "health: {more} actions on a host that serves, or it did not last"
                        ));
                    }
                    return Ok(since - self.over);
                }
                _ => {}
            }
        }
    }

    fn document(&self) -> Option<Arc<Document>> {
        self.documents.borrow().clone()
    }

    fn always(&self, now: Duration) -> Result<(), String> {
        if let Some(broken) = self.model.broken.borrow().clone() {
            return Err(broken);
        }
        let (_, looks) = self.model.counts();
        if looks as f64 > 20.0 + 11.0 * now.as_secs_f64() {
            return Err(format!("alive: the loop spins: {looks} looks"));
        }
        let Some(document) = self.document() else {
            return if now > Duration::from_secs(20) { Err("alive: no document".to_owned()) } else { Ok(()) };
        };
        let age = now.saturating_sub(Duration::from_millis(document.written_uptime_ms));
        // An agent that was killed takes two seconds to be started again, and a look to say something.
        if age > Duration::from_millis(document.fresh_for_ms) + Duration::from_secs(9) {
            return Err(format!("alive: the document is {} s old", age.as_secs()));
        }
        self.honest(now, &document)?;
        self.prompt(now)?;
        self.repaired_anew(now)?;
        self.told(now)
    }

    /// What was done before a long health does not hold up what is to be done after it.
    fn repaired_anew(&self, now: Duration) -> Result<(), String> {
        let tried = self.model.attempts(|one| one.target == Target::Container("mapserver".to_owned()));
        let in_time = |at: &Duration| tried.iter().any(|tried| tried > at && *tried - *at <= ANEW);
        match self.anew.iter().find(|at| now > **at + ANEW && !in_time(at)) {
            Some(at) => {
                Err(format!("anew: well for long, broken at {at:?}, and not repaired: tried at {tried:?}"))
            }
            None => Ok(()),
        }
    }

    /// Whether something keeps the agent from seeing or doing what it would.
    fn hindered(&self) -> bool {
        let hands = [Kind::Blind, Kind::Deaf, Kind::Slow, Kind::AgentKilled, Kind::Maintenance];
        let store = [Kind::S3Away, Kind::S3Slow, Kind::S3Refuses, Kind::BucketGone, Kind::CredentialsGone];
        let engine = [Kind::DockerDown, Kind::EcsAgentDown, Kind::EcsDisconnected, Kind::Hidden];
        let cluster = [Kind::DrainedByHand, Kind::Impostor];
        let place = self.model.in_cluster() && !self.model.has_its_place();
        [&hands[..], &store, &engine, &cluster].iter().any(|kinds| self.model.any(kinds)) || place
    }

    /// What serves nobody is tried again soon, however often that was in vain.
    fn prompt(&self, now: Duration) -> Result<(), String> {
        let idle = if self.hindered() || self.model.acting.get() { None } else { self.model.serves_nobody() };
        let mut since = self.idle.borrow_mut();
        match (idle, &*since) {
            (Some(idle), Some((target, since))) if idle == *target => {
                let tried = self.model.attempts(|one| one.target == *target).last().copied();
                if now - tried.unwrap_or_default().max(*since) > PROMPT {
                    return Err(format!("prompt: {target} serves nobody, and was last tried at {tried:?}"));
                }
            }
            (idle, _) => *since = idle.map(|target| (target, now)),
        }
        Ok(())
    }

    /// The cluster is told the truth, and an instance that is to be given back is.
    fn told(&self, now: Duration) -> Result<(), String> {
        let hindered = self.hindered();
        // A container is not judged while its mount is broken: each of them has its own time.
        let (mut mount, mut container) = self.served.get();
        if self.model.serving() {
            mount = now;
        }
        if self.model.answers_maps() {
            container = now;
        }
        self.served.set((mount, container));
        let useless = match mount == now {
            false => mount_spent(&self.model, mount).is_some(),
            true => now > container && container_spent(&self.model, container).is_some(),
        };
        let same = self.of_mount.replace(mount < now) == (mount < now);
        let useless = useless && same && !hindered;
        let since = |held: bool, cell: &Cell<Option<Duration>>| {
            cell.set(if held { cell.get().or(Some(now)) } else { None });
            cell.get().map_or(Duration::ZERO, |since| now - since)
        };
        // What the agent saw for a moment may have been over before this looked.
        let shared = self.model.shared.get().map_or(now, |at| now - at);
        let spent_for = since(useless, &self.spent).min(shared);
        let in_cluster = self.model.in_cluster();
        // What ECS places on a host that was spent for its container has its time, each time anew.
        let of_container = mount == now && in_cluster;
        let placed = self.model.attempts(|one| one.repair == Repair::MarkReady);
        let placed = placed.last().map_or(now, |at| now - *at);
        let (spent_for_now, told, given_for) = match of_container {
            true => (spent_for.min(placed), TOLD + TRIAL, SPENT_FOR + 2 * (TOLD + TRIAL)),
            false => (spent_for, TOLD, SPENT_FOR + TOLD),
        };
        if in_cluster && spent_for_now > told && self.cluster_says_ready() {
            return Err("told: every attempt was made, and the cluster says ready".to_owned());
        }
        let given = !self.model.attempts(|one| one.repair == Repair::Terminate).is_empty();
        let gives = self.escalation != Escalation::Drain && self.model.seen_well.get();
        if gives && !given && spent_for > given_for {
            return Err("told: every attempt was made, and it was not given back".to_owned());
        }
        let untold = in_cluster && !hindered && self.model.could_serve() && !self.cluster_says_ready();
        if since(untold, &self.untold) > TOLD {
            return Err("told: it could serve, and the cluster says not ready".to_owned());
        }
        Ok(())
    }

    fn cluster_says_ready(&self) -> bool {
        let truth = self.model.truth.borrow();
        truth.ready && !truth.draining
    }

    fn honest(&self, now: Duration, document: &Document) -> Result<(), String> {
        let excused = self.model.any(&[Kind::Blind, Kind::Deaf, Kind::Slow, Kind::AgentKilled]);
        // Counted from the last change of what is broken: each new fault has its own time to be found.
        let faults = self.model.visible_faults();
        let useless = !self.model.serves_maps();
        let mut standing = self.standing.borrow_mut();
        let turns = self.model.turns.get();
        if excused || standing.1 != faults || standing.2 != turns {
            *standing = (now, faults, turns);
            return Ok(());
        }
        if now - standing.0 <= HONEST || standing.1.is_empty() {
            return Ok(());
        }
        if document.health == Health::Healthy {
            return Err(format!("honest: called healthy: {:?}: {document:#?}", standing.1));
        }
        // What answers nothing may be slow before it is silent.
        let ready_for = if self.model.is_wedged() { HONEST + SILENCE } else { HONEST };
        if useless && document.ready && now - standing.0 > ready_for {
            return Err(format!("honest: called ready, and serves nothing: {document:#?}"));
        }
        Ok(())
    }
}
