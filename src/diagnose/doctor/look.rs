//! One look at containers and cluster, with the eyes of the agent and by its judgement.
//!
//! What must hold: nothing is changed. The mounts are left out, because only the agent has their sessions: they are
//! looked at by themselves (`buckets.rs`), and the containers are judged as if each mount served.

use ladder::state::{ContainerFacts, ContainerState, Observation, Seen, Settings, Target};
use ladder::{Assessment, Condition, assess};

use super::tell::of_condition;
use crate::agent::live::{Live, LiveError, Options, settings};
use crate::agent::observe;
use crate::config::Config;
use crate::diagnose::result::CheckResult;

/// What was seen, and what it comes to.
pub(super) struct Look {
    pub(super) settings: Settings,
    pub(super) seen: Observation,
    assessment: Assessment,
}

impl Look {
    /// Looks at what `config` names, but its mounts.
    pub(super) async fn at(config: &Config) -> Result<Look, LiveError> {
        let config = Config { mounts: Vec::new(), ..config.clone() };
        let live = Live::new(&config, Options::default())?;
        let seen = observe(&live, &settings(&config)).await;
        Ok(Look::of(&config, seen))
    }

    /// What `seen` comes to.
    pub(super) fn of(config: &Config, seen: Observation) -> Look {
        let settings = settings(config);
        Look { assessment: assess(&seen, &settings), settings, seen }
    }

    pub(super) fn condition(&self, target: &Target) -> &Condition {
        self.assessment.condition(target).expect("asked only for links of the configuration")
    }

    /// What is said of a link; `otherwise` is the cure where none is known.
    pub(super) fn result(&self, name: &str, target: &Target, otherwise: &str) -> CheckResult {
        of_condition(name, self.condition(target), otherwise)
    }

    /// What Docker says of a container, by its name in the settings.
    pub(super) fn facts(&self, container: &str) -> Option<&ContainerFacts> {
        match &self.seen.containers.get(container)?.state {
            Seen::Known(ContainerState::Present(facts)) => Some(facts),
            _ => None,
        }
    }
}
