//! The cluster of a live host: what the ECS agent and ECS say, and what they are asked to do.
//!
//! The agent is asked at each look, ECS every few seconds: its API has a rate limit for the whole account.

use std::cell::RefCell;
use std::time::Duration;

use tokio::time::Instant;

use super::failure::{failure, plain_failure, seen};
use crate::config::Config;
use crate::error::Chain;
use crate::host::ecs::{self, Ecs, EcsError};
use ladder::state::{EcsAgent, EcsInstance, EcsSeen, Failure, Repair, Seen};

/// What ECS said is believed this long.
const BELIEVED: Duration = Duration::from_secs(10);
/// That the role may not ask is believed this long.
const HIDDEN: Duration = Duration::from_secs(300);

/// The place of a host in a cluster.
pub(super) struct Cluster {
    ecs: Ecs,
    /// What was told, of which container instance and when.
    instance: RefCell<Option<(Instant, String, Seen<EcsInstance>)>>,
}

impl Cluster {
    /// The cluster that `config` names, if it names one.
    pub(super) fn new(config: &Config) -> Option<Cluster> {
        let named = config.ecs.as_ref()?;
        let data = std::path::Path::new(ecs::DATA);
        let ecs = Ecs::new(&named.cluster, config.region.as_deref(), ecs::INTROSPECTION, data);
        Some(Cluster { ecs, instance: RefCell::default() })
    }

    pub(super) async fn look(&self) -> Seen<EcsSeen> {
        let agent = match self.ecs.agent().await {
            Ok(agent) => agent,
            Err(error) => return Seen::Unknown(Chain(&error).to_string()),
        };
        let EcsAgent::Registered { instance, .. } = &agent else {
            let none = || "the ECS agent has no place in a cluster".to_owned();
            let (instance, tasks) = (Seen::Unknown(none()), Seen::Unknown(none()));
            return Seen::Known(EcsSeen { agent, instance, tasks });
        };
        let (instance, tasks) = futures::join!(self.instance(instance), self.ecs.tasks());
        Seen::Known(EcsSeen { agent, instance, tasks: seen(tasks) })
    }

    async fn instance(&self, instance: &str) -> Seen<EcsInstance> {
        if let Some((at, of, told)) = &*self.instance.borrow()
            && of == instance
        {
            let believed = if *told == Seen::Known(EcsInstance::Hidden) { HIDDEN } else { BELIEVED };
            if at.elapsed() < believed {
                return told.clone();
            }
        }
        let told = match self.ecs.instance(instance).await {
            Err(error @ EcsError::Denied { .. }) => {
                tracing::warn!(error = %Chain(&error), "the cluster cannot be asked");
                Seen::Known(EcsInstance::Hidden)
            }
            answer => seen(answer),
        };
        *self.instance.borrow_mut() = Some((Instant::now(), instance.to_owned(), told.clone()));
        told
    }

    /// Carries out a repair of the ECS agent or of the instance's standing in the cluster.
    pub(super) async fn apply(&self, repair: Repair) -> Result<(), Failure> {
        let done = match repair {
            Repair::RestartEcsAgent => self.ecs.restart_agent().await,
            Repair::Reregister => self.ecs.reregister().await,
            Repair::MarkReady | Repair::MarkUnready => self.mark(repair == Repair::MarkReady).await,
            other => return Err(plain_failure(format!("{other:?} is no repair of a cluster"))),
        };
        self.instance.take();
        done.map_err(|error| failure(&error))
    }

    async fn mark(&self, ready: bool) -> Result<(), EcsError> {
        match self.ecs.agent().await? {
            EcsAgent::Registered { instance, .. } => self.ecs.mark(&instance, ready).await,
            // Gone since the look: whatever it registers as next has its attributes from its own configuration.
            _ => Ok(()),
        }
    }
}
