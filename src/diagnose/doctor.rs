//! Every precondition of a host, each looked at by itself: before the first start, in operation, and when all is down.
//!
//! ```text
//!   configuration --> mounts: credentials, name, connection, bucket, rights, headers, mount point
//!              |  '-> containers: image, bind, port, pattern, error log, probe
//!              '----> cluster, agent
//!   host: kernel, FUSE, mounts, systemd, clock, memory, disk       (whatever the configuration says)
//! ```
//!
//! What must hold: nothing is changed; each check has a deadline and an answer, `ok`, `warn` or `fail` with its cure; what
//! one check waits for holds up no other but those that need its result.

mod agent;
mod buckets;
mod cluster;
mod containers;
mod host;
mod network;

use std::path::Path;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::timeout;

use super::result::CheckResult;
use crate::config::{Config, ConfigError, Loaded};
use crate::error::{Advise, Chain};
use crate::terminal::counted;

/// Where a host is looked at.
#[derive(Debug, Clone, Copy)]
pub struct AgentAt<'a> {
    /// The runtime directory of the agent.
    pub runtime_dir: &'a Path,
}

/// Looks at everything. `loaded` is the configuration, or why there is none.
pub async fn doctor(loaded: &Result<Loaded, ConfigError>, place: AgentAt<'_>) -> Vec<CheckResult> {
    let mut results = configuration(loaded);
    let Ok(Loaded { config, .. }) = loaded else {
        let (host, network) = futures::join!(host::checks(None), network::checks());
        results.extend(host);
        results.extend(network);
        results.extend(agent::checks(None, place).await);
        return results;
    };
    let mounts = join_all(config.mounts.iter().map(|mount| buckets::checks(config, mount)));
    let (host, network, mounts, containers, cluster, escalation, agent) = futures::join!(
        host::checks(Some(config)),
        network::checks(),
        mounts,
        containers::checks(config),
        cluster::checks(config),
        cluster::escalation(config),
        agent::checks(Some(config), place),
    );
    results.extend(host);
    results.extend(network);
    results.extend(mounts.into_iter().flatten());
    results.extend(containers);
    results.extend(cluster);
    results.push(escalation);
    results.extend(agent);
    results
}

/// What of a configuration only others can say: names and ways of the network, keys, buckets and rights, the cluster.
pub async fn remote(config: &Config) -> Vec<CheckResult> {
    let mounts = join_all(config.mounts.iter().map(|mount| buckets::checks(config, mount)));
    let (mut results, mounts, cluster) = futures::join!(network::checks(), mounts, cluster::checks(config));
    results.extend(mounts.into_iter().flatten());
    results.extend(cluster);
    results
}

fn configuration(loaded: &Result<Loaded, ConfigError>) -> Vec<CheckResult> {
    let name = "configuration";
    match loaded {
        Err(error) => vec![CheckResult::failed(name, error, "mapkeeper config check lists every fault")],
        Ok(Loaded { config, warnings, .. }) => {
            let (mounts, containers) = (config.mounts.len(), config.containers.len());
            let counted =
                format!("valid: {}, {}", counted(mounts, "mount"), counted(containers, "container"));
            let warnings = warnings.iter().map(ToString::to_string);
            let notices = config.notices().into_iter().map(|notice| notice.to_string());
            let doubts = warnings.chain(notices);
            let doubts = doubts.map(|doubt| {
                CheckResult::warn(name, doubt, "mapkeeper config show --origin says where it is from")
            });
            std::iter::once(CheckResult::ok(name, counted)).chain(doubts).collect()
        }
    }
}

/// What a check finds, or that it did not end in time.
async fn limited(
    name: &str,
    limit: Duration,
    hint: &str,
    check: impl Future<Output = CheckResult>,
) -> CheckResult {
    match timeout(limit, check).await {
        Ok(result) => result,
        Err(_) => CheckResult::fail(name, format!("no answer within {} s", limit.as_secs()), hint),
    }
}

/// The answer of a call that may block, from a thread that nobody waits for; `None` after `limit`.
async fn detached<T: Send + 'static>(
    limit: Duration,
    call: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let started =
        std::thread::Builder::new().name("doctor".to_owned()).spawn(move || drop(sender.send(call())));
    started.ok()?;
    timeout(limit, receiver).await.ok()?.ok()
}

/// What a command of the system prints, within `limit`; else why there is nothing.
async fn command(program: &str, arguments: &[&str], limit: Duration) -> Result<String, String> {
    let mut command = tokio::process::Command::new(program);
    command.args(arguments).stdin(std::process::Stdio::null()).kill_on_drop(true);
    match timeout(limit, command.output()).await {
        Err(_) => Err(format!("{program} gave no answer within {} s", limit.as_secs())),
        Ok(Err(error)) => Err(format!("cannot run {program}: {error}")),
        Ok(Ok(output)) if output.status.success() => {
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        }
        Ok(Ok(output)) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}

/// A result of an error that knows its cure, prefixed with what it is about.
fn of_error<E: Advise + 'static>(name: &str, about: &str, error: &E, otherwise: &str) -> CheckResult {
    let hint = error.hint().unwrap_or_else(|| otherwise.to_owned());
    CheckResult::fail(name, format!("{about}{}", Chain(error)), hint)
}

/// `mount: ` where there are several, so that a result says which is meant.
fn about(name: &str, of: usize) -> String {
    if of > 1 { format!("{name}: ") } else { String::new() }
}

/// Names of the checks that look at one mount or container.
fn skipped(names: &[&str], about: &str, why: &str) -> Vec<CheckResult> {
    let result = |name: &&str| {
        CheckResult::warn(name, format!("{about}not looked at: {why}"), "cure what fails above first")
    };
    names.iter().map(result).collect()
}
