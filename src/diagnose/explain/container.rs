//! The container that shows a map: whether it runs, and whether its environment admits the map.

use std::path::Path;
use std::time::Duration;

use tokio::time::timeout;

use super::location::MapLocation;
use super::process_identity::{self, Reader};
use super::service;
use crate::config::Config;
use crate::diagnose::result::CheckResult;
use crate::host::container::{ContainerError, Engine, Facts, Found, title};
use ladder::state::Phase;

/// Longest wait for Docker.
const DOCKER_LIMIT: Duration = Duration::from_secs(6);

/// What is known of the container that shows a map.
pub(super) struct Host {
    pub facts: Option<Facts>,
    pub environment: Vec<(String, String)>,
    pub reader: Option<Reader>,
    pub result: CheckResult,
}

/// The container that shows the map, as Docker knows it.
pub(super) async fn host(config: &Config, place: &MapLocation<'_>) -> Host {
    let without = |result| Host { facts: None, environment: Vec::new(), reader: None, result };
    let fail = |said: String, hint: &str| without(CheckResult::fail("container", said, hint));
    let Some(container) = place.container else {
        let said = match config.containers.is_empty() {
            true => "no container is configured",
            false => "no configured container binds the mount",
        };
        return without(CheckResult::warn("container", said, "add it: [container] with `binds`"));
    };
    let asked = async {
        let engine = Engine::connect().await?;
        let found = engine.find(container).await?;
        let environment = match &found {
            Found::Present(facts) => engine.environment(&facts.seen.id).await.unwrap_or_default(),
            _ => Vec::new(),
        };
        Ok::<_, ContainerError>((found, environment))
    };
    let (facts, environment) = match timeout(DOCKER_LIMIT, asked).await {
        Err(_) => {
            let said = format!("Docker does not answer within {} s", DOCKER_LIMIT.as_secs());
            return fail(said, "systemctl status docker; journalctl -u docker");
        }
        Ok(Err(error)) => {
            return without(CheckResult::failed("container", &error, "systemctl status docker"));
        }
        Ok(Ok((Found::Absent, _))) => {
            let said = format!("there is no container {}", title(container));
            return fail(said, "mapkeeper status says why it is not made");
        }
        Ok(Ok((Found::Foreign { id, .. }, _))) => {
            let said = format!("container {id} has the name, and was not made by mapkeeper");
            return fail(said, &format!("docker rm -f {id}, or choose another name"));
        }
        Ok(Ok((Found::Present(facts), environment))) => (*facts, environment),
    };
    let reader = facts.seen.pid.and_then(process_identity::reader);
    let result = running(&facts, &environment, place.inside().as_deref());
    Host { facts: Some(facts), environment, reader, result }
}

fn running(facts: &Facts, environment: &[(String, String)], inside: Option<&Path>) -> CheckResult {
    let name = &facts.name;
    if facts.seen.phase != Phase::Running {
        let ended = facts
            .seen
            .exit_code
            .filter(|_| facts.seen.phase == Phase::Exited)
            .map(|code| format!(" with code {code}"));
        let memory = if facts.seen.oom_killed { ", out of memory" } else { "" };
        let said =
            format!("{name} is {:?}{}{memory}", facts.seen.phase, ended.unwrap_or_default()).to_lowercase();
        return CheckResult::fail(
            "container",
            said,
            format!("docker logs {name}; mapkeeper status says what is done about it"),
        );
    }
    let pattern = environment.iter().find(|(name, _)| name == "MS_MAP_PATTERN").map(|(_, value)| value);
    let path = inside.map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
    if let Some(pattern) = pattern
        && service::admits(pattern, &path) == Some(false)
    {
        let said = format!("MS_MAP_PATTERN of {name} is {pattern:?} and does not match {path}");
        let hint = "set it: environment = { MS_MAP_PATTERN = \"^/mapfiles/.*[.]map$\" } in [container], or rename the map";
        return CheckResult::fail("container", said, hint);
    }
    CheckResult::ok(
        "container",
        format!(
            "{name} runs {} since {}",
            facts.seen.image,
            facts.seen.started.get(..19).unwrap_or(&facts.seen.started)
        ),
    )
}
