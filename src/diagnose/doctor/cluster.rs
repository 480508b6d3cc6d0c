//! The ECS agent and its cluster.

use std::fs;
use std::time::Duration;

use tokio::time::timeout;

use super::look::Look;
use super::tell::{not_needed, skipped};
use crate::config::{Config, Escalate};
use crate::diagnose::result::CheckResult;
#[cfg(feature = "ec2")]
use crate::error::Chain;
use crate::host::ecs::EcsError;
use ladder::state::{EcsAgent, EcsInstance, EcsSeen, Seen, Target};

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

pub(super) fn checks(config: &Config, look: &Look) -> Vec<CheckResult> {
    let Some(wanted) = &config.ecs else {
        return not_needed(&NAMES, "no cluster is configured");
    };
    let mut results = vec![written(&wanted.cluster)];
    let instance = match &look.seen.ecs {
        Some(Seen::Known(EcsSeen { agent: EcsAgent::Registered { cluster, .. }, instance, .. }))
            if *cluster == wanted.cluster =>
        {
            instance
        }
        _ => {
            let hint = "systemctl status ecs; journalctl -u ecs";
            results.push(look.result(NAMES[1], &Target::Ecs, hint));
            results.extend(skipped(&NAMES[2..], "the agent is not in the cluster"));
            return results;
        }
    };
    results.push(CheckResult::ok(NAMES[1], format!("is in cluster {:?}", wanted.cluster)));
    results.push(match instance {
        // The agent does without; it cannot tell a host that is cut off from one that serves.
        Seen::Known(EcsInstance::Hidden) => {
            let denied = EcsError::Denied { operation: "DescribeContainerInstances" };
            CheckResult::failed(NAMES[2], &denied, "")
        }
        _ => look.result(NAMES[2], &Target::Ecs, "check that this host reaches the endpoints of ECS"),
    });
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::tests::{LEAST, config};
    use crate::diagnose::result::Grade;
    use ladder::state::{Maintenance, Observation};

    /// What is said of the ECS agent and of its cluster, as it was seen.
    fn said(agent: EcsAgent, instance: EcsInstance) -> [(Grade, String); 2] {
        let config = config(&format!("{LEAST}[ecs]\ncluster = \"maps\"\n"));
        let unseen = || "not asked".to_owned();
        let ecs = EcsSeen { agent, instance: Seen::Known(instance), tasks: Seen::Unknown(unseen()) };
        let seen = Observation {
            maintenance: Maintenance::Off,
            credentials: Seen::Unknown(unseen()),
            mounts: BTreeMap::new(),
            docker: Seen::Unknown(unseen()),
            containers: BTreeMap::new(),
            ecs: Some(Seen::Known(ecs)),
        };
        let results = checks(&config, &Look::of(&config, seen));
        assert_eq!([&results[1].name, &results[2].name], ["ecs agent", "ecs cluster"]);
        [1, 2].map(|at| {
            let hint = results[at].hint.as_deref().unwrap_or_default();
            (results[at].grade, format!("{}; {hint}", results[at].detail))
        })
    }

    #[test]
    fn the_cluster_is_told_in_the_words_of_the_assessment_and_a_missing_right_is_a_fault() {
        let registered = |cluster: &str| EcsAgent::Registered {
            cluster: cluster.to_owned(),
            instance: "arn:x".to_owned(),
        };
        let [agent, cluster] = said(EcsAgent::Unregistered, EcsInstance::Absent);
        assert!(agent.0 == Grade::Fail && agent.1.contains("no place in a cluster yet"), "{agent:?}");
        assert!(cluster.0 == Grade::Warn && cluster.1.starts_with("not looked at"), "{cluster:?}");
        let [agent, _] = said(registered("other"), EcsInstance::Absent);
        assert!(agent.0 == Grade::Fail && agent.1.contains("ECS_CLUSTER"), "{agent:?}");
        let [agent, cluster] = said(registered("maps"), EcsInstance::Absent);
        assert!(agent.0 == Grade::Ok && cluster.0 == Grade::Fail, "{agent:?} {cluster:?}");
        assert!(cluster.1.contains("does not know this instance"), "{cluster:?}");
        let [_, cluster] = said(registered("maps"), EcsInstance::Hidden);
        assert!(cluster.0 == Grade::Fail, "{cluster:?}");
        assert!(cluster.1.contains("allow ecs:DescribeContainerInstances"), "{cluster:?}");
    }
}
