//! All checks of a host, those that wait for others at the same time.

use std::path::Path;

use futures::future::join_all;

use super::look::Look;
use super::{agent, buckets, cluster, containers, host, network};
use crate::agent::live::LiveError;
use crate::config::{Config, ConfigError, Loaded};
use crate::diagnose::result::CheckResult;
use crate::terminal::counted;

/// Looks at everything. `loaded` is the configuration, or why there is none; `runtime_dir` is that of the agent.
pub async fn doctor(loaded: &Result<Loaded, ConfigError>, runtime_dir: &Path) -> Vec<CheckResult> {
    let mut results = configuration(loaded);
    let Ok(Loaded { config, .. }) = loaded else {
        let (host, network) = futures::join!(host::checks(None), network::checks());
        results.extend(host);
        results.extend(network);
        results.extend(agent::checks(None, runtime_dir).await);
        return results;
    };
    let mounts = join_all(config.mounts.iter().map(|mount| buckets::checks(config, mount)));
    let (host, network, mounts, looked, escalation, agent) = futures::join!(
        host::checks(Some(config)),
        network::checks(),
        mounts,
        looked(config),
        cluster::escalation(config),
        agent::checks(Some(config), runtime_dir),
    );
    results.extend(host);
    results.extend(network);
    results.extend(mounts.into_iter().flatten());
    results.extend(looked);
    results.push(escalation);
    results.extend(agent);
    results
}

/// What of a configuration only others can say: names and ways of the network, keys, buckets and rights, the cluster.
pub async fn remote(config: &Config) -> Vec<CheckResult> {
    let mounts = join_all(config.mounts.iter().map(|mount| buckets::checks(config, mount)));
    let elsewhere = Config { containers: Vec::new(), ..config.clone() };
    let (mut results, mounts, cluster) = futures::join!(network::checks(), mounts, async {
        match Look::at(&elsewhere).await {
            Ok(look) => cluster::checks(config, &look),
            Err(error) => vec![unseen(&error)],
        }
    });
    results.extend(mounts.into_iter().flatten());
    results.extend(cluster);
    results
}

/// Containers, then the cluster.
async fn looked(config: &Config) -> Vec<CheckResult> {
    match Look::at(config).await {
        Ok(look) => {
            let mut results = containers::checks(config, &look).await;
            results.extend(cluster::checks(config, &look));
            results
        }
        Err(error) => vec![unseen(&error)],
    }
}

fn unseen(error: &LiveError) -> CheckResult {
    CheckResult::failed("containers, cluster", error, "check that /proc is mounted")
}

fn configuration(loaded: &Result<Loaded, ConfigError>) -> Vec<CheckResult> {
    let name = "configuration";
    match loaded {
        Err(error) => vec![CheckResult::failed(name, error, "mapkeeper config check lists every fault")],
        Ok(loaded) => {
            let Config { mounts, containers, .. } = &loaded.config;
            let counted = format!(
                "valid: {}, {}",
                counted(mounts.len(), "mount"),
                counted(containers.len(), "container")
            );
            let doubts = loaded.doubts().map(|doubt| {
                CheckResult::warn(name, doubt, "mapkeeper config show --origin says where it is from")
            });
            std::iter::once(CheckResult::ok(name, counted)).chain(doubts).collect()
        }
    }
}
