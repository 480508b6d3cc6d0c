//! Docker, and each configured container: image, bind, port, what its environment tells MapServer, its answer.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use tokio::time::timeout;

use super::look::Look;
use super::tell::{not_needed, of_one, skipped};
use crate::agent::live::{map_asked_for, seen_at};
use crate::config::{Config, Container, Owner};
use crate::diagnose::explain::admits;
use crate::diagnose::result::{CheckResult, Grade};
use crate::error::Chain;
use crate::host::container::{ContainerError, Engine};
use bucketfs::mountinfo::MountTable;
use ladder::state::{ContainerFacts, Phase, Reason, Target};
use ladder::{Condition, Fault};

/// Longest wait for one question to Docker.
const LIMIT: Duration = Duration::from_secs(6);
/// The oldest Docker Engine that is known to do.
const OLDEST: (u32, u32) = (20, 10);

const OF_CONTAINER: [&str; 4] = ["image", "container", "MS_MAP_PATTERN", "MS_ERRORFILE"];

pub(super) async fn checks(config: &Config, look: &Look) -> Vec<CheckResult> {
    let names = ["docker socket", "docker version"];
    if config.containers.is_empty() {
        return not_needed(&names, "no container is configured");
    }
    let cure = "systemctl start docker; journalctl -u docker";
    let mut results = vec![look.result(names[0], &Target::Docker, cure)];
    let engine = match look.condition(&Target::Docker) {
        Condition::Good(_) => timeout(LIMIT, Engine::connect()).await.ok().and_then(Result::ok),
        _ => None,
    };
    match &engine {
        None => results.extend(skipped(&names[1..], "Docker does not answer")),
        Some(engine) => results.push(version(engine).await),
    }
    for (container, named) in config.containers.iter().zip(&look.settings.containers) {
        results.extend(of_container(config, container, &named.name, look, engine.as_ref()).await);
    }
    results
}

async fn version(engine: &Engine) -> CheckResult {
    let name = "docker version";
    let told = match timeout(LIMIT, engine.version()).await {
        Ok(Ok(told)) => told,
        Ok(Err(error)) => return CheckResult::failed(name, &error, "docker version"),
        Err(_) => return CheckResult::fail(name, "no answer", "docker version"),
    };
    let mut numbers = told.split('.').map_while(|part| part.parse::<u32>().ok());
    match numbers.next().zip(numbers.next()) {
        Some(version) if version < OLDEST => {
            CheckResult::fail(name, told, "20.10 or later is needed: use a newer AMI")
        }
        _ => CheckResult::ok(name, told),
    }
}

async fn of_container(
    config: &Config,
    container: &Container,
    name: &str,
    look: &Look,
    engine: Option<&Engine>,
) -> Vec<CheckResult> {
    let all = config.containers.len();
    let facts = look.facts(name);
    let mut results = vec![bind(config, container)];
    match engine {
        None => results.extend(skipped(&OF_CONTAINER, "Docker does not answer")),
        Some(engine) => {
            results.push(image(engine, container, facts).await);
            let mut state = state(look, name);
            if all == 1 {
                // It is always told by its name.
                state.detail.insert_str(0, &format!("{name}: "));
            }
            results.push(state);
            let why = match timeout(LIMIT, environment(engine, container, facts)).await {
                Ok(Ok(Some(environment))) => Ok(environment),
                Ok(Ok(None)) => Err("there is no container and no image yet".to_owned()),
                Ok(Err(error)) => Err(Chain(&error).to_string()),
                Err(_) => Err("Docker does not answer".to_owned()),
            };
            match why {
                Ok(environment) => {
                    results.push(pattern(config, container, &environment));
                    results.push(error_file(&environment));
                }
                Err(why) => results.extend(skipped(&OF_CONTAINER[2..], &why)),
            }
        }
    }
    results.extend(ports(container, facts));
    results.push(answer(container, name, look));
    of_one(name, all, results)
}

type Environment = BTreeMap<String, String>;

/// The environment that the container has or would have: that of the image below that of the configuration.
async fn environment(
    engine: &Engine,
    container: &Container,
    facts: Option<&ContainerFacts>,
) -> Result<Option<Environment>, ContainerError> {
    Ok(match (facts, &container.image) {
        (Some(facts), _) => Some(engine.environment(&facts.id).await?.into_iter().collect()),
        (None, Some(image)) => engine.image_environment(image).await?.map(|of_image| {
            let mut environment: Environment = of_image.into_iter().collect();
            environment.extend(container.environment.clone());
            environment
        }),
        (None, None) => None,
    })
}

async fn image(engine: &Engine, container: &Container, facts: Option<&ContainerFacts>) -> CheckResult {
    let name = "image";
    let Some(image) = &container.image else {
        let said = facts.map_or("chosen by ECS".to_owned(), |facts| facts.image.clone());
        return CheckResult::ok(name, said);
    };
    match timeout(LIMIT, engine.image_environment(image)).await {
        Ok(Ok(Some(_))) => CheckResult::ok(name, format!("{image} is here")),
        Ok(Ok(None)) if container.owner == Owner::Ecs => {
            CheckResult::ok(name, format!("{image} is not here yet: ECS pulls it"))
        }
        Ok(Ok(None)) => {
            let hint = format!("docker pull {image}; image/build makes mapserver:8");
            CheckResult::warn(name, format!("{image} is not here, and will be pulled"), hint)
        }
        Ok(Err(error)) => CheckResult::failed(name, &error, "docker images"),
        Err(_) => CheckResult::fail(name, "Docker does not answer", "systemctl status docker"),
    }
}

fn state(look: &Look, name: &str) -> CheckResult {
    let target = Target::Container(name.to_owned());
    let cure = "mapkeeper status says what is done about it; docker ps -a";
    let result = look.result("container", &target, cure);
    match look.condition(&target) {
        // So it is before the first start, and while ECS keeps its tasks away.
        Condition::Faulty(Fault { trigger: Reason::ContainerAbsent, .. }) | Condition::Blocked(_) => {
            CheckResult { grade: Grade::Warn, ..result }
        }
        _ => result,
    }
}

/// Whether a mount of ours is bound at all, in a way that works.
fn bind(config: &Config, container: &Container) -> CheckResult {
    let name = "bind";
    let shown = config.mounts.iter().filter_map(|mount| {
        container
            .binds
            .iter()
            .find_map(|bind| Some((bind, seen_at(&bind.source, &bind.target, &mount.path)?, mount)))
    });
    let shown: Vec<_> = shown.collect();
    let Some((bind, root, mount)) = shown.first() else {
        let paths: Vec<_> = config.mounts.iter().map(|mount| mount.path.display().to_string()).collect();
        let hint = format!(
            "binds = [\"{}:/mapfiles:ro\"] in [container]; for ECS the same in the task definition",
            paths.join(" or ")
        );
        return CheckResult::warn(name, "no bind of it shows a mount", hint);
    };
    // What is mounted over a bind's parent hides the mount from the container.
    let hidden = MountTable::of(None).ok().and_then(|table| {
        let parents = mount.path.ancestors().skip(1).filter(|path| *path != Path::new("/"));
        let mut over =
            parents.filter_map(|path| table.top(path).map(|entry| (path.to_owned(), entry.is_fuse())));
        over.find(|(_, is_fuse)| *is_fuse)
    });
    match hidden {
        Some((path, _)) => {
            let said = format!("{} is itself below a FUSE mount at {}", mount.path.display(), path.display());
            CheckResult::warn(name, said, "mount elsewhere: a fault of the upper one is a fault of both")
        }
        None => CheckResult::ok(name, format!("{} is seen at {} ({bind})", mount.name, root.display())),
    }
}

fn pattern(config: &Config, container: &Container, environment: &Environment) -> CheckResult {
    let name = "MS_MAP_PATTERN";
    let probed = container.probe.as_ref().and_then(|probe| map_asked_for(&probe.url)).map(str::to_owned);
    let root = config.mounts.iter().find_map(|mount| {
        container.binds.iter().find_map(|bind| seen_at(&bind.source, &bind.target, &mount.path))
    });
    let map = probed.or_else(|| Some(root?.join("example.map").to_string_lossy().into_owned()));
    let (Some(pattern), Some(map)) = (environment.get(name), map) else {
        let hint = "MapServer 8 refuses every `map=` without MS_MAP_PATTERN or MS_MAP_NO_PATH: set it to \"^/mapfiles/.*[.]map$\"";
        return match environment.contains_key("MS_MAPFILE")
            || environment.contains_key("MAPSERVER_CONFIG_FILE")
        {
            true => CheckResult::ok(name, "not set; the image's own configuration decides"),
            false => CheckResult::warn(name, "not set", hint),
        };
    };
    match admits(pattern, &map) {
        Some(true) => CheckResult::ok(name, format!("{pattern:?} admits {map}")),
        Some(false) => {
            let hint = "environment = { MS_MAP_PATTERN = \"^/mapfiles/.*[.]map$\" } in [container] or the task definition";
            CheckResult::fail(name, format!("{pattern:?} does not admit {map}"), hint)
        }
        None => CheckResult::warn(
            name,
            format!("{pattern:?} is no pattern that can be read here"),
            "ask for a map: mapkeeper explain MAP",
        ),
    }
}

fn error_file(environment: &Environment) -> CheckResult {
    let name = "MS_ERRORFILE";
    match environment.get(name).map(String::as_str) {
        Some("stderr" | "stdout") => CheckResult::ok(name, "errors are in docker logs"),
        Some(path) => {
            let hint = "\"stderr\" needs no file; otherwise it must exist in the container and be writable by MapServer";
            CheckResult::warn(name, format!("{path}: a file in the container"), hint)
        }
        None => CheckResult::warn(
            name,
            "not set: MapServer tells nobody what goes wrong",
            "environment = { MS_ERRORFILE = \"stderr\" }",
        ),
    }
}

/// Whether each port is the container's, or free for it.
fn ports(container: &Container, facts: Option<&ContainerFacts>) -> Vec<CheckResult> {
    let runs = facts.is_some_and(|facts| facts.phase == Phase::Running);
    let taken = listeners();
    let result = |port: &crate::config::Port| {
        let name = format!("port {}", port.host);
        match (runs, taken.contains(&port.host)) {
            (true, _) => CheckResult::ok(&name, format!("leads to port {} of the container", port.container)),
            (false, false) => CheckResult::ok(&name, "is free"),
            (false, true) => {
                let hint =
                    format!("ss -ltnp 'sport = :{}' says by whom; end it, or choose another port", port.host);
                CheckResult::fail(&name, "is taken by somebody else", hint)
            }
        }
    };
    container.ports.iter().map(result).collect()
}

/// Ports at which somebody listens on this host.
pub(super) fn listeners() -> Vec<u16> {
    let text =
        ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default()).concat();
    text.lines().filter_map(listener).collect()
}

/// The port of a line of `/proc/net/tcp` that is a listener's.
fn listener(line: &str) -> Option<u16> {
    let mut fields = line.split_whitespace().skip(1);
    let (address, state) = (fields.next()?, fields.nth(1)?);
    let (_, port) = address.rsplit_once(':')?;
    (state == "0A").then(|| u16::from_str_radix(port, 16).ok()).flatten()
}

fn answer(container: &Container, name: &str, look: &Look) -> CheckResult {
    if container.probe.is_none() {
        let hint = "[container.probe] lets the agent see what MapServer answers: it says 200 to every fault";
        return CheckResult::warn("probe", "none is configured", hint);
    }
    let cure = "the container is down, or still starting: mapkeeper status; docker logs";
    let target = Target::Service(name.to_owned());
    let result = look.result("probe", &target, cure);
    match look.condition(&target) {
        // One look does not wait as long as the timeout of a slow service may be.
        Condition::Unknown(_) => CheckResult { grade: Grade::Warn, ..result },
        _ => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_where_somebody_listens_is_found() {
        let listening = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listening.local_addr().expect("bound").port();
        assert!(listeners().contains(&port));
        drop(listening);
        let line =
            "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1";
        assert_eq!(listener(line), Some(8080));
        assert_eq!(listener(&line.replace(" 0A ", " 01 ")), None);
        assert_eq!(listener("sl local_address rem_address st"), None);
    }
}
