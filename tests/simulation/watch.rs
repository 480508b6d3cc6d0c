//! Who watches the host and what the agent says of it, all the time: what must hold between two actions.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use mapkeeper::agent::state::Health;
use mapkeeper::agent::status::Document;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::model::Model;
use crate::schedule::{Kind, Schedule};

/// From the end of the last fault to health, at most. The longest pause of a running container's budget, and a little.
const HEALTH: Duration = Duration::from_secs(400);
/// The same where the ECS agent had to be helped: it is started again at most every half hour after four attempts.
const HEALTH_IN_CLUSTER: Duration = Duration::from_secs(2_000);
/// What is broken is not called healthy after this.
const HONEST: Duration = Duration::from_secs(15);
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
}

impl Watcher {
    pub fn new(
        model: Rc<Model>,
        schedule: &Schedule,
        documents: watch::Receiver<Option<Arc<Document>>>,
    ) -> Watcher {
        let limit = if schedule.in_cluster { HEALTH_IN_CLUSTER } else { HEALTH };
        Watcher { model, documents, over: schedule.over(), limit, standing: RefCell::default() }
    }

    /// Watches until the host has recovered and was left alone; answers how long the recovery took.
    pub async fn watch(&self) -> Result<Duration, String> {
        let mut recovered = None;
        loop {
            sleep(Duration::from_millis(250)).await;
            let now = self.model.now();
            self.always(now)?;
            if now < self.over {
                continue;
            }
            let healthy = self.document().is_some_and(|document| {
                document.health == Health::Healthy && document.ready && document.acting.is_none()
            });
            match recovered {
                None if healthy && self.model.well() => recovered = Some((now, self.model.counts().0)),
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
        self.honest(now, &document)
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
        if useless && document.ready {
            return Err(format!("honest: called ready, and serves nothing: {document:#?}"));
        }
        Ok(())
    }
}
