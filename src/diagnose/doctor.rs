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

use super::finding::Finding;
use crate::config::{Config, ConfigError, Loaded};
use crate::error::{Advise, Chain};
use crate::terminal::counted;

/// Where a host is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The runtime directory of the agent.
    pub runtime_dir: &'a Path,
}

/// Looks at everything. `loaded` is the configuration, or why there is none.
pub async fn doctor(loaded: &Result<Loaded, ConfigError>, place: Place<'_>) -> Vec<Finding> {
    let mut findings = configuration(loaded);
    let Ok(Loaded { config, .. }) = loaded else {
        let (host, network) = futures::join!(host::checks(None), network::checks());
        findings.extend(host);
        findings.extend(network);
        findings.extend(agent::checks(None, place).await);
        return findings;
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
    findings.extend(host);
    findings.extend(network);
    findings.extend(mounts.into_iter().flatten());
    findings.extend(containers);
    findings.extend(cluster);
    findings.push(escalation);
    findings.extend(agent);
    findings
}

/// What of a configuration only others can say: names and ways of the network, keys, buckets and rights, the cluster.
pub async fn remote(config: &Config) -> Vec<Finding> {
    let mounts = join_all(config.mounts.iter().map(|mount| buckets::checks(config, mount)));
    let (mut findings, mounts, cluster) = futures::join!(network::checks(), mounts, cluster::checks(config));
    findings.extend(mounts.into_iter().flatten());
    findings.extend(cluster);
    findings
}

fn configuration(loaded: &Result<Loaded, ConfigError>) -> Vec<Finding> {
    let name = "configuration";
    match loaded {
        Err(error) => vec![Finding::failed(name, error, "mapkeeper config check lists every fault")],
        Ok(Loaded { config, warnings, .. }) => {
            let (mounts, containers) = (config.mounts.len(), config.containers.len());
            let counted =
                format!("valid: {}, {}", counted(mounts, "mount"), counted(containers, "container"));
            let warnings = warnings.iter().map(ToString::to_string);
            let notices = config.notices().into_iter().map(|notice| notice.to_string());
            let doubts = warnings.chain(notices);
            let doubts = doubts.map(|doubt| {
                Finding::warn(name, doubt, "mapkeeper config show --origin says where it is from")
            });
            std::iter::once(Finding::ok(name, counted)).chain(doubts).collect()
        }
    }
}

/// What a check finds, or that it did not end in time.
async fn limited(name: &str, limit: Duration, hint: &str, check: impl Future<Output = Finding>) -> Finding {
    match timeout(limit, check).await {
        Ok(finding) => finding,
        Err(_) => Finding::fail(name, format!("no answer within {} s", limit.as_secs()), hint),
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

/// A finding of an error that knows its cure, prefixed with what it is about.
fn of_error<E: Advise + 'static>(name: &str, about: &str, error: &E, otherwise: &str) -> Finding {
    let hint = error.hint().unwrap_or_else(|| otherwise.to_owned());
    Finding::fail(name, format!("{about}{}", Chain(error)), hint)
}

/// `mount: ` where there are several, so that a finding says which is meant.
fn about(name: &str, of: usize) -> String {
    if of > 1 { format!("{name}: ") } else { String::new() }
}

/// Names of the checks that look at one mount or container.
fn skipped(names: &[&str], about: &str, why: &str) -> Vec<Finding> {
    let finding = |name: &&str| {
        Finding::warn(name, format!("{about}not looked at: {why}"), "cure what fails above first")
    };
    names.iter().map(finding).collect()
}
