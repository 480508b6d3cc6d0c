//! The steps of the preparation, in their order.
//!
//! What must hold: two runs never work at the same time; no step appends twice; the agent is started last, and only
//! when every step is done.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};

use super::error::{BootstrapError, LOCK_LIMIT};
use super::file::{Attributes, Change, below, put};
use super::overlay::{self, OverlaySource, bucket_of, read_object};
use super::step::{Done, HostRoot};
use super::{ecs_config, outcome, signal};
use crate::config::{Config, ConfigError, Layer, Loaded};
use crate::error::Chain;
use crate::host::configuration::parameter;
use crate::lock;

const CONFIG: &str = "/etc/mapkeeper/config.toml";
const ECS_CONFIG: &str = "/etc/ecs/ecs.config";
/// Not in `/run/lock`, where everybody may make files on Debian.
const LOCK: &str = "/run/mapkeeper-bootstrap.lock";

/// Longest wait for one command of the system.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);
const IMDS: &str = "169.254.169.254/32";

/// Files that come with the program.
const UNITS: &[(&str, &str)] = &[
    ("/etc/systemd/system/mapkeeper.service", include_str!("../../units/mapkeeper.service")),
    ("/etc/systemd/system/mapkeeper-volume.service", include_str!("../../units/mapkeeper-volume.service")),
    (
        "/etc/systemd/system/ecs.service.d/10-mapkeeper.conf",
        include_str!("../../units/ecs.service.d-mapkeeper.conf"),
    ),
];

/// Files that come with the program: where each belongs, and what stands in it.
pub fn units() -> &'static [(&'static str, &'static str)] {
    UNITS
}

/// Prepares the host. `load` reads the configuration once its file is in place.
///
/// The outcome is written where `status` finds it, and a failed one keeps the agent from being started.
///
/// # Errors
///
/// The first step that failed; those before it stay done.
pub async fn bootstrap<F>(place: &HostRoot, load: impl FnOnce() -> F) -> Result<Vec<Done>, BootstrapError>
where
    F: Future<Output = Result<Loaded, ConfigError>>,
{
    if !nix::unistd::geteuid().is_root() {
        return Err(BootstrapError::NotRoot);
    }
    let _lock = locked(&below(&place.root, Path::new(LOCK))).await?;
    let (mut done, mut config) = (Vec::new(), None);
    let prepared = prepare(place, load, &mut done, &mut config).await;
    let told = outcome::write(&place.root, prepared.as_ref().err().map(|error| Chain(error).to_string()));
    let told = told.map_err(|(path, source)| BootstrapError::Write { path, source });
    let started = match prepared.and(told) {
        Ok(()) => start(&done).await,
        Err(error) => Err(error),
    };
    if let Some(config) = &config {
        signal::send(config, started.is_ok()).await;
    }
    started.map(|()| done)
}

async fn prepare<F>(
    place: &HostRoot,
    load: impl FnOnce() -> F,
    done: &mut Vec<Done>,
    known: &mut Option<Config>,
) -> Result<(), BootstrapError>
where
    F: Future<Output = Result<Loaded, ConfigError>>,
{
    for (path, text) in UNITS {
        done.push(written(place, path, text, 0o644)?);
    }
    if done.iter().any(|step| step.change == Change::Made) {
        system("systemctl", &["daemon-reload"]).await?;
    }
    if let Some(from) = &place.from {
        let text = fetch_config(from, place).await?;
        done.push(written(place, CONFIG, &text, 0o644)?);
    }
    let config = known.insert(load().await.map_err(BootstrapError::Config)?.config);
    if let Some(step) = ecs_config(config, place)? {
        done.push(step);
    }
    if config.bootstrap.block_imds {
        done.push(block_imds().await?);
    }
    if let Some(overlay) = &config.bootstrap.overlay {
        let source = OverlaySource::of(overlay, config).await;
        done.extend(overlay::apply(&source, config.bootstrap.overlay_version.as_deref(), place).await?);
    }
    Ok(())
}

/// Waits until nobody else prepares this host.
async fn locked(path: &Path) -> Result<Flock<fs::File>, BootstrapError> {
    let unusable = |source| BootstrapError::Write { path: path.to_owned(), source };
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(unusable)?;
    }
    let deadline = Instant::now() + LOCK_LIMIT;
    loop {
        match Flock::lock(lock::open(path).map_err(unusable)?, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err(_) if Instant::now() < deadline => sleep(Duration::from_millis(100)).await,
            Err(_) => return Err(BootstrapError::Busy),
        }
    }
}

fn written(place: &HostRoot, path: &str, text: &str, mode: u32) -> Result<Done, BootstrapError> {
    let target = below(&place.root, Path::new(path));
    let change = put(&target, text.as_bytes(), Attributes { mode, owner: None })
        .map_err(|source| BootstrapError::Write { path: target, source })?;
    Ok(Done { what: path.to_owned(), change })
}

/// The text of a configuration that is checked by itself: a wrong one never takes the place of the one that is there.
async fn fetch_config(from: &str, place: &HostRoot) -> Result<String, BootstrapError> {
    let failed = |reason: String| BootstrapError::Fetch { from: from.to_owned(), reason };
    let bytes = if let Some(rest) = from.strip_prefix("s3://") {
        let (bucket, key) = rest
            .split_once('/')
            .filter(|(bucket, key)| !bucket.is_empty() && !key.is_empty())
            .ok_or_else(|| BootstrapError::From { from: from.to_owned() })?;
        read_object(&bucket_of(bucket, None).await, key, None).await.map_err(failed)?
    } else if let Some(name) = from.strip_prefix("ssm:") {
        parameter(name).await.map_err(|error| failed(Chain(&error).to_string()))?.into_bytes()
    } else if from.contains("://") {
        return Err(BootstrapError::From { from: from.to_owned() });
    } else {
        fs::read(from).map_err(|error| failed(error.to_string()))?
    };
    let text = String::from_utf8(bytes).map_err(|error| failed(error.to_string()))?;
    let layer = Layer::toml(&below(&place.root, Path::new(CONFIG)), &text).map_err(BootstrapError::Config)?;
    // Other layers may complete it; what is wrong in it stays wrong.
    Loaded::faults_of(layer).map_err(BootstrapError::Config)?;
    Ok(text)
}

/// The block in the ECS agent's file; `None` where there is none and none is wanted.
fn ecs_config(config: &Config, place: &HostRoot) -> Result<Option<Done>, BootstrapError> {
    let path = below(&place.root, Path::new(ECS_CONFIG));
    let unusable = |source| BootstrapError::Write { path: path.clone(), source };
    let before = match fs::read_to_string(&path) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(unusable(error)),
    };
    let lines = ecs_config::lines(config);
    if before.is_none() && lines.is_empty() {
        return Ok(None);
    }
    let text = before.unwrap_or_default();
    for name in ecs_config::also_foreign(&text, &lines) {
        tracing::warn!(
            name,
            file = ECS_CONFIG,
            "somebody else sets this as well; the ECS agent takes the last line"
        );
    }
    let mode = fs::metadata(&path).map_or(0o644, |found| {
        use std::os::unix::fs::MetadataExt;
        found.mode() & 0o7777
    });
    written(place, ECS_CONFIG, &ecs_config::merged(&text, &lines), mode).map(Some)
}

/// No container that has a network of its own reaches the role of the instance.
async fn block_imds() -> Result<Done, BootstrapError> {
    let what = format!("DOCKER-USER rule against {IMDS}");
    let rule = ["DOCKER-USER", "-d", IMDS, "-j", "DROP"];
    let with =
        |first: &[&'static str]| -> Vec<&str> { ["-w"].iter().chain(first).chain(&rule).copied().collect() };
    if run("iptables", &with(&["-C"])).await.is_ok() {
        return Ok(Done { what, change: Change::None });
    }
    // Docker may not have started yet; it takes the chain as it finds it.
    let _exists = run("iptables", &["-w", "-N", "DOCKER-USER"]).await;
    system("iptables", &with(&["-I"])).await?;
    Ok(Done { what, change: Change::Made })
}

/// Enables and starts the agent, without a wait: units of this boot are still being started.
async fn start(done: &[Done]) -> Result<(), BootstrapError> {
    system("systemctl", &["enable", "--quiet", "mapkeeper.service"]).await?;
    system("systemctl", &["start", "--no-block", "mapkeeper.service"]).await?;
    if done.iter().any(|step| step.what == CONFIG && step.change == Change::Made) {
        system("systemctl", &["try-reload-or-restart", "--no-block", "mapkeeper.service"]).await?;
    }
    Ok(())
}

async fn system(program: &str, arguments: &[&str]) -> Result<(), BootstrapError> {
    run(program, arguments).await.map_err(|reason| BootstrapError::System {
        command: format!("{program} {}", arguments.join(" ")),
        reason,
    })
}

async fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    match timeout(COMMAND_LIMIT, command.output()).await {
        Err(_) => Err(format!("it did not end within {} s", COMMAND_LIMIT.as_secs())),
        Ok(Err(error)) => Err(error.to_string()),
        Ok(Ok(output)) if output.status.success() => Ok(()),
        Ok(Ok(output)) => {
            Err(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim()))
        }
    }
}
