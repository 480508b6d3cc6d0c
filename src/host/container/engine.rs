//! A connection to Docker Engine: finding, making, starting, stopping and removing containers.
//!
//! What must hold: a container that is not ours is never changed; no image is pulled that is present.

use std::collections::HashMap;
use std::convert::Infallible;
use std::path::Path;
use std::time::Duration;

use bollard::Docker;
use bollard::models::{
    ContainerInspectResponse, ContainerSummary, ContainerSummaryStateEnum, EventMessage, EventMessageTypeEnum,
};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, CreateImageOptionsBuilder, EventsOptionsBuilder,
    ListContainersOptionsBuilder, RemoveContainerOptionsBuilder, RestartContainerOptionsBuilder,
    StopContainerOptionsBuilder,
};
use futures::StreamExt;
use tokio::time::timeout;

use super::error::{ContainerError, is_status};
use super::facts::{Facts, Found, facts, pairs};
use super::identity::title;
use super::specification;
use crate::config::{self, Owner, Selector};

/// A container has this long to end by itself before Docker kills it.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// The same, for one that is restarted because it does not serve.
const RESTART_SECONDS: i32 = 2;
/// Longest wait for an image to be pulled.
const PULL_LIMIT: Duration = Duration::from_secs(240);

/// A connection to Docker Engine. Each request opens a connection of its own.
#[derive(Debug, Clone)]
pub struct Engine {
    pub(super) docker: Docker,
    /// Runtime directory of the agent on whose behalf this acts. `None`: what any agent made is taken for ours.
    agent: Option<String>,
}

impl Engine {
    /// Connects to the socket that `DOCKER_HOST` names (`unix://...`), or to Docker's own, and agrees
    /// on a version of its interface.
    ///
    /// # Errors
    ///
    /// [`ContainerError::Unreachable`] when nothing answers there.
    pub async fn connect() -> Result<Engine, ContainerError> {
        let docker = Docker::connect_with_unix_defaults().map_err(ContainerError::unreachable)?;
        let docker = docker.negotiate_version().await.map_err(ContainerError::unreachable)?;
        Ok(Engine { docker, agent: None })
    }

    /// The same connection on behalf of the agent that has this runtime directory: what another one made is not its own.
    #[must_use]
    pub fn on_behalf_of(self, runtime_dir: &Path) -> Engine {
        Engine { agent: Some(runtime_dir.to_string_lossy().into_owned()), ..self }
    }

    /// Asks Docker for a sign of life.
    ///
    /// # Errors
    ///
    /// [`ContainerError::Unreachable`].
    pub async fn ping(&self) -> Result<(), ContainerError> {
        self.docker.ping().await.map(drop).map_err(ContainerError::unreachable)
    }

    /// Finds the container that `wanted` describes: by its name, or by label and image. Of several that
    /// match, one that runs is preferred, then the youngest.
    ///
    /// # Errors
    ///
    /// When Docker cannot be asked. A container that is not there is no error.
    pub async fn find(&self, wanted: &config::Container) -> Result<Found, ContainerError> {
        let name = match &wanted.selector {
            Selector::Name(name) => name.clone(),
            Selector::Match { label, image } => {
                match self.matching(label.as_deref(), image.as_deref()).await? {
                    Some(id) => id,
                    None => return Ok(Found::Absent),
                }
            }
        };
        let Some(shown) = self.inspect(&name).await? else { return Ok(Found::Absent) };
        let facts = facts(shown, wanted);
        // Agents before this version did not sign theirs.
        let another =
            facts.agent.clone().filter(|agent| self.agent.as_ref().is_some_and(|ours| ours != agent));
        if wanted.owner == Owner::Mapkeeper && (facts.specification.is_none() || another.is_some()) {
            return Ok(Found::Foreign { id: facts.seen.id.chars().take(12).collect(), agent: another });
        }
        Ok(Found::Present(Box::new(facts)))
    }

    /// Makes the container that `wanted` describes and starts it, from the image `recorded` (an id) if that is
    /// still here, else from the one that its tag means now. A missing image is pulled. If it cannot be
    /// started it is removed again.
    ///
    /// # Errors
    ///
    /// [`ContainerError::ImageMissing`], [`ContainerError::PortTaken`],
    /// [`ContainerError::BindSourceMissing`], [`ContainerError::Foreign`], or what Docker says.
    pub async fn create(
        &self,
        wanted: &config::Container,
        recorded: Option<&str>,
    ) -> Result<(), ContainerError> {
        let image = self.image(wanted, recorded).await?;
        self.create_here(wanted, &image).await
    }

    /// Removes the container of ours that `wanted` describes, if there is one, and makes it again. The
    /// image is fetched first, so that a missing one costs nobody a container that runs.
    ///
    /// # Errors
    ///
    /// As [`Engine::create`].
    pub async fn recreate(
        &self,
        wanted: &config::Container,
        recorded: Option<&str>,
    ) -> Result<(), ContainerError> {
        let image = self.image(wanted, recorded).await?;
        self.remove(wanted).await?;
        self.create_here(wanted, &image).await
    }

    /// Starts a container that exists.
    ///
    /// # Errors
    ///
    /// [`ContainerError::PortTaken`], or what Docker says.
    pub async fn start(&self, wanted: &config::Container) -> Result<(), ContainerError> {
        let facts = self.ours(wanted).await?;
        self.docker
            .start_container(&facts.seen.id, None)
            .await
            .map_err(|source| ContainerError::refused("start", wanted, source))
    }

    /// Stops and starts a container that exists.
    ///
    /// # Errors
    ///
    /// What Docker says.
    pub async fn restart(&self, wanted: &config::Container) -> Result<(), ContainerError> {
        let facts = self.ours(wanted).await?;
        // What is restarted serves nobody: no request is lost by a short wait.
        let options = RestartContainerOptionsBuilder::default().t(RESTART_SECONDS).build();
        self.docker
            .restart_container(&facts.seen.id, Some(options))
            .await
            .map_err(|source| ContainerError::refused("restart", wanted, source))
    }

    /// Stops a container, whoever made it. One that does not run, or is gone, is no error.
    ///
    /// # Errors
    ///
    /// What Docker says.
    pub async fn stop(&self, wanted: &config::Container) -> Result<(), ContainerError> {
        let Found::Present(facts) = self.find(wanted).await? else { return Ok(()) };
        let options = StopContainerOptionsBuilder::default().t(stop_seconds()).build();
        let stopped = self.docker.stop_container(&facts.seen.id, Some(options)).await;
        match stopped {
            Err(error) if is_status(&error, 304) || is_status(&error, 404) => Ok(()),
            other => other.map_err(|source| ContainerError::refused("stop", wanted, source)),
        }
    }

    /// Lets a paused container go on.
    ///
    /// # Errors
    ///
    /// What Docker says.
    pub async fn unpause(&self, wanted: &config::Container) -> Result<(), ContainerError> {
        let facts = self.ours(wanted).await?;
        self.docker
            .unpause_container(&facts.seen.id)
            .await
            .map_err(|source| ContainerError::refused("unpause", wanted, source))
    }

    /// Removes a container of ours, running or not. None is no error.
    ///
    /// # Errors
    ///
    /// [`ContainerError::Foreign`] for a container that we did not make; else what Docker says.
    pub async fn remove(&self, wanted: &config::Container) -> Result<(), ContainerError> {
        let facts = match self.find(wanted).await? {
            Found::Absent => return Ok(()),
            Found::Foreign { agent, .. } => return Err(ContainerError::foreign(wanted, agent)),
            Found::Present(facts) if facts.specification.is_none() => {
                return Err(ContainerError::foreign(wanted, None));
            }
            Found::Present(facts) => facts,
        };
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        match self.docker.remove_container(&facts.seen.id, Some(options)).await {
            Err(error) if is_status(&error, 404) => Ok(()),
            other => other.map_err(|source| ContainerError::refused("remove", wanted, source)),
        }
    }

    /// Calls `happened` with a container's name at each of its events that may matter, until the stream
    /// breaks off; returns why it did.
    pub async fn events(&self, mut happened: impl FnMut(&str)) -> ContainerError {
        let filters = HashMap::from([("type", vec!["container"])]);
        let options = EventsOptionsBuilder::default().filters(&filters).build();
        let mut events = std::pin::pin!(self.docker.events(Some(options)));
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    if let Some(name) = concerns(event) {
                        happened(&name);
                    }
                }
                Err(error) => return ContainerError::unreachable(error),
            }
        }
        ContainerError::EventsEnded
    }

    async fn inspect(&self, name: &str) -> Result<Option<ContainerInspectResponse>, ContainerError> {
        match self.docker.inspect_container(name, None).await {
            Ok(shown) => Ok(Some(shown)),
            Err(error) if is_status(&error, 404) => Ok(None),
            Err(error) => Err(ContainerError::asked("inspect", name, error)),
        }
    }

    /// The environment that the container `id` was made with, that of its image included. May hold secrets.
    ///
    /// # Errors
    ///
    /// When Docker cannot be asked.
    pub async fn environment(&self, id: &str) -> Result<Vec<(String, String)>, ContainerError> {
        let shown = self.inspect(id).await?.and_then(|shown| shown.config).and_then(|config| config.env);
        Ok(pairs(shown))
    }

    /// Version of the Docker Engine, as `25.0.3`.
    ///
    /// # Errors
    ///
    /// When Docker cannot be asked.
    pub async fn version(&self) -> Result<String, ContainerError> {
        let told = self.docker.version().await.map_err(ContainerError::unreachable)?;
        Ok(told.version.unwrap_or_default())
    }

    /// The environment of an image; `None` if it is not on this host.
    ///
    /// # Errors
    ///
    /// When Docker cannot be asked.
    pub async fn image_environment(
        &self,
        image: &str,
    ) -> Result<Option<Vec<(String, String)>>, ContainerError> {
        match self.docker.inspect_image(image).await {
            Ok(shown) => Ok(Some(pairs(shown.config.and_then(|config| config.env)))),
            Err(error) if is_status(&error, 404) => Ok(None),
            Err(error) => Err(ContainerError::asked("inspect", image, error)),
        }
    }

    /// Everything that Docker shows of the container `id`, as JSON. Holds its environment, secrets included.
    ///
    /// # Errors
    ///
    /// When Docker cannot be asked.
    pub async fn shown(&self, id: &str) -> Result<serde_json::Value, ContainerError> {
        let shown = self.inspect(id).await?;
        Ok(serde_json::to_value(shown).unwrap_or_default())
    }

    /// The facts of a container that exists and may be acted on.
    pub(super) async fn ours(&self, wanted: &config::Container) -> Result<Box<Facts>, ContainerError> {
        match self.find(wanted).await? {
            Found::Present(facts) => Ok(facts),
            Found::Foreign { agent, .. } => Err(ContainerError::foreign(wanted, agent)),
            Found::Absent => Err(ContainerError::Gone { name: title(wanted) }),
        }
    }

    async fn matching(
        &self,
        label: Option<&str>,
        image: Option<&str>,
    ) -> Result<Option<String>, ContainerError> {
        let mut filters = HashMap::new();
        if let Some(label) = label {
            filters.insert("label", vec![label]);
        }
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let listed = self
            .docker
            .list_containers(Some(options))
            .await
            .map_err(|error| ContainerError::asked("list", label.or(image).unwrap_or(""), error))?;
        let made_from = |one: &ContainerSummary| image.is_none() || one.image.as_deref() == image;
        // Docker lists the youngest first, and the last of several maxima wins.
        let best = listed.into_iter().rev().filter(made_from).max_by_key(precedence);
        Ok(best.and_then(|one| one.id))
    }

    /// What to make a container from: the tag, or the recorded image where the tag means another by now.
    async fn image(
        &self,
        wanted: &config::Container,
        recorded: Option<&str>,
    ) -> Result<String, ContainerError> {
        let (_, image) = created_as(wanted)?;
        if let Some(recorded) = recorded
            && self.has_image(recorded).await?
        {
            let tagged = self.docker.inspect_image(image).await.ok().and_then(|shown| shown.id);
            let same = tagged.as_deref() == Some(recorded);
            return Ok(if same { image } else { recorded }.to_owned());
        }
        if !self.has_image(image).await? {
            self.pull(image).await?;
        }
        Ok(image.to_owned())
    }

    async fn has_image(&self, image: &str) -> Result<bool, ContainerError> {
        Ok(self.image_environment(image).await?.is_some())
    }

    async fn pull(&self, image: &str) -> Result<(), ContainerError> {
        tracing::info!(image, "image is absent, pulling it");
        let missing = |source| ContainerError::ImageMissing { image: image.to_owned(), source };
        let options = CreateImageOptionsBuilder::default().from_image(image).build();
        let mut progress = std::pin::pin!(self.docker.create_image(Some(options), None, None));
        let pulled = timeout(PULL_LIMIT, async {
            while let Some(step) = progress.next().await {
                step?;
            }
            Ok::<(), bollard::errors::Error>(())
        });
        match pulled.await {
            Ok(outcome) => outcome.map_err(|error| missing(Box::new(error))),
            Err(_) => Err(ContainerError::PullSilent { image: image.to_owned(), limit: PULL_LIMIT }),
        }
    }

    async fn create_here(&self, wanted: &config::Container, image: &str) -> Result<(), ContainerError> {
        let (name, _) = created_as(wanted)?;
        let options = CreateContainerOptionsBuilder::default().name(name).build();
        let body = specification::body(wanted, image, self.agent.as_deref());
        let created = match self.docker.create_container(Some(options), body).await {
            Ok(created) => created,
            Err(error) if is_status(&error, 409) => {
                let agent = match self.find(wanted).await? {
                    Found::Foreign { agent, .. } => agent,
                    Found::Absent | Found::Present(_) => None,
                };
                return Err(ContainerError::foreign(wanted, agent));
            }
            Err(error) => return Err(ContainerError::refused("create", wanted, error)),
        };
        let Err(error) = self.docker.start_container(&created.id, None).await else { return Ok(()) };
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        if let Err(error) = self.docker.remove_container(&created.id, Some(options)).await {
            let error = crate::error::Chain(&error);
            tracing::warn!(container = name, %error, "a container that did not start is left behind");
        }
        Err(ContainerError::refused("start", wanted, error))
    }
}

fn created_as(wanted: &config::Container) -> Result<(&str, &str), ContainerError> {
    match (&wanted.selector, wanted.image.as_deref()) {
        (Selector::Name(name), Some(image)) => Ok((name, image)),
        _ => Err(ContainerError::NotDescribed { name: title(wanted) }),
    }
}

/// Of several containers that match, the greatest is meant.
fn precedence(one: &ContainerSummary) -> (bool, i64) {
    (one.state == Some(ContainerSummaryStateEnum::RUNNING), one.created.unwrap_or(0))
}

fn stop_seconds() -> i32 {
    i32::try_from(STOP_TIMEOUT.as_secs()).unwrap_or(i32::MAX)
}

/// The name of the container that an event concerns; `None` if it cannot matter. `exec_*` events
/// (Docker's own health checks, people looking around) come by the dozen and change nothing.
fn concerns(event: EventMessage) -> Option<String> {
    let action = event.action.unwrap_or_default();
    if event.typ != Some(EventMessageTypeEnum::CONTAINER) || action.starts_with("exec_") {
        return None;
    }
    event.actor.and_then(|actor| actor.attributes).and_then(|mut attributes| attributes.remove("name"))
}

/// Waits for events of Docker for ever. Calls `happened` with a container's name at each of its events,
/// and with `None` whenever the connection came or went; connects again after `pause`.
pub async fn follow_events(mut happened: impl FnMut(Option<&str>), pause: Duration) -> Infallible {
    loop {
        if let Ok(engine) = Engine::connect().await {
            happened(None);
            let ended = engine.events(|name| happened(Some(name))).await;
            tracing::debug!(error = %crate::error::Chain(&ended), "Docker's events broke off");
            happened(None);
        }
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use bollard::models::EventActor;

    use super::*;

    #[test]
    fn only_events_that_change_a_container_concern_anybody() {
        let event = |typ, action: &str| EventMessage {
            typ: Some(typ),
            action: Some(action.to_owned()),
            actor: Some(EventActor {
                id: Some("c0ffee".to_owned()),
                attributes: Some(HashMap::from([("name".to_owned(), "web".to_owned())])),
            }),
            ..EventMessage::default()
        };
        for action in ["die", "start", "destroy", "pause", "oom"] {
            let concerned = concerns(event(EventMessageTypeEnum::CONTAINER, action));
            assert_eq!(concerned.as_deref(), Some("web"), "{action}");
        }
        assert_eq!(concerns(event(EventMessageTypeEnum::CONTAINER, "exec_create: true")), None);
        assert_eq!(concerns(event(EventMessageTypeEnum::CONTAINER, "exec_die")), None);
        assert_eq!(concerns(event(EventMessageTypeEnum::NETWORK, "disconnect")), None);
        assert_eq!(concerns(EventMessage::default()), None);
    }
}
