//! The ECS agent and its cluster.

use std::fs;
use std::path::Path;
use std::time::Duration;

use tokio::time::timeout;

use super::tell::{of_error, skipped};
use crate::config::{Config, Escalate};
use crate::diagnose::result::CheckResult;
#[cfg(feature = "ec2")]
use crate::error::Chain;
use crate::host::ecs::{Agent, DATA, Ecs, INTROSPECTION, Identity, Instance, STRANGER};

const LIMIT: Duration = Duration::from_secs(10);
const ECS_CONFIG: &str = "/etc/ecs/ecs.config";
const NAMES: [&str; 3] = ["ecs.config", "ecs agent", "ecs cluster"];

/// What the last rung of the ladder needs, where an operator has opted in.
pub(super) async fn escalation(config: &Config) -> CheckResult {
    let name = "escalation";
    if config.escalate == Escalate::Drain {
        return CheckResult::ok(name, "not needed: this host never gives its instance back");
    }
    match timeout(LIMIT, may_give_back(config.region.as_deref())).await {
        Err(_) => CheckResult::fail(name, "no answer", "check that this host reaches the endpoint of EC2"),
        Ok(Err(said)) => {
            CheckResult::fail(name, said, "allow ec2:TerminateInstances to the role (docs/iam.md)")
        }
        Ok(Ok(instance)) => CheckResult::ok(name, format!("EC2 would end instance {instance}")),
    }
}

#[cfg(feature = "ec2")]
async fn may_give_back(region: Option<&str>) -> Result<String, String> {
    use crate::host::instance::{Metadata, terminate};
    let id = Metadata::from_environment().id().await.map_err(|error| Chain(&error).to_string())?;
    terminate(region, &id, true).await.map_err(|error| Chain(&error).to_string())?;
    Ok(id)
}

#[cfg(not(feature = "ec2"))]
async fn may_give_back(_region: Option<&str>) -> Result<String, String> {
    Err("this program was built without the EC2 API".to_owned())
}

pub(super) async fn checks(config: &Config) -> Vec<CheckResult> {
    let Some(wanted) = &config.ecs else {
        return NAMES
            .iter()
            .map(|name| CheckResult::ok(name, "not needed: no cluster is configured"))
            .collect();
    };
    let mut results = vec![written(&wanted.cluster)];
    let ecs = Ecs::new(&wanted.cluster, config.region.as_deref(), INTROSPECTION, Path::new(DATA));
    let hint = "systemctl status ecs; journalctl -u ecs";
    let instance = match timeout(LIMIT, ecs.agent()).await {
        Err(_) => {
            results.push(CheckResult::fail(NAMES[1], "no answer", hint));
            None
        }
        Ok(Err(error)) => {
            results.push(of_error(NAMES[1], "", &error, hint));
            None
        }
        Ok(Ok(Agent::Down { reason })) => {
            results.push(CheckResult::fail(
                NAMES[1],
                format!("does not run: {reason}"),
                "systemctl start --no-block ecs; journalctl -u ecs",
            ));
            None
        }
        Ok(Ok(Agent::Unregistered)) => {
            let hint = "it needs ecs:RegisterContainerInstance and the endpoints of ECS: journalctl -u ecs";
            results.push(CheckResult::fail(NAMES[1], "runs, and is in no cluster", hint));
            None
        }
        Ok(Ok(Agent::Registered { cluster, instance })) if cluster != wanted.cluster => {
            let said = format!("is in cluster {cluster:?}, configured is {:?}", wanted.cluster);
            let hint = "mapkeeper bootstrap writes ecs.config; then systemctl restart ecs with /var/lib/ecs/data moved aside";
            results.push(CheckResult::fail(NAMES[1], said, hint));
            Some(instance)
        }
        Ok(Ok(Agent::Registered { cluster, instance })) => {
            results.push(CheckResult::ok(NAMES[1], format!("is in cluster {cluster:?}")));
            Some(instance)
        }
    };
    match instance {
        None => results.extend(skipped(&NAMES[2..], "", "the agent is in no cluster")),
        Some(instance) => results.push(of_cluster(&ecs, &instance).await),
    }
    results
}

fn written(cluster: &str) -> CheckResult {
    let hint = "mapkeeper bootstrap writes the block";
    match fs::read_to_string(ECS_CONFIG) {
        Err(error) => CheckResult::fail(NAMES[0], format!("{ECS_CONFIG}: {error}"), hint),
        Ok(text) => {
            let told = text.lines().rev().find_map(|line| line.trim().strip_prefix("ECS_CLUSTER="));
            match told {
                Some(found) if found == cluster => {
                    CheckResult::ok(NAMES[0], format!("names cluster {cluster:?}"))
                }
                Some(found) => CheckResult::fail(
                    NAMES[0],
                    format!("names cluster {found:?}, configured is {cluster:?}"),
                    hint,
                ),
                None => CheckResult::fail(NAMES[0], "names no cluster", hint),
            }
        }
    }
}

async fn of_cluster(ecs: &Ecs, instance: &str) -> CheckResult {
    let hint = "check that this host reaches the endpoints of ECS";
    match timeout(LIMIT, ecs.instance(instance)).await {
        Err(_) => CheckResult::fail(NAMES[2], "no answer", hint),
        Ok(Err(error)) => of_error(NAMES[2], "", &error, hint),
        Ok(Ok(Instance::Absent)) => CheckResult::fail(
            NAMES[2],
            "does not know this instance",
            "the agent registers it again by itself; journalctl -u ecs",
        ),
        Ok(Ok(Instance::Present { identity: Identity::Other(reason), .. })) => {
            CheckResult::fail(NAMES[2], format!("{reason}: it is not marked by this host"), STRANGER)
        }
        Ok(Ok(Instance::Present { identity: Identity::Unknown(reason), .. })) => {
            let said = format!("it cannot be told whether this is the host that the agent names: {reason}");
            CheckResult::warn(NAMES[2], said, STRANGER)
        }
        Ok(Ok(Instance::Present { connected: false, .. })) => CheckResult::fail(
            NAMES[2],
            "knows this instance and does not hear it",
            "systemctl restart --no-block ecs",
        ),
        Ok(Ok(Instance::Present { ready, draining, .. })) => {
            let ready = match (ready, draining) {
                (Some(false), _) => ", marked as not ready",
                (_, true) => ", set to DRAINING by somebody else",
                (Some(true), false) => ", ready for tasks",
                (None, false) => "",
            };
            CheckResult::ok(NAMES[2], format!("hears this instance{ready}"))
        }
    }
}
