//! The metadata service of the instance: whether it answers, to whom, and which role it gives.

use std::time::Duration;

use tokio::time::timeout;

use super::tell::not_needed;
use crate::diagnose::result::CheckResult;
use crate::error::{Advise, Chain};
use crate::host::instance::{Identity, InstanceError, Metadata};

const LIMIT: Duration = Duration::from_secs(8);
const NAMES: [&str; 3] = ["imds", "imds hop limit", "instance role"];

pub(super) async fn checks() -> Vec<CheckResult> {
    let metadata = Metadata::from_environment();
    if !metadata.is_expected() {
        return not_needed(&NAMES, "this host is no EC2 instance");
    }
    let asked = async { (metadata.identity().await, metadata.role().await) };
    let (identity, role) = match timeout(LIMIT, asked).await {
        Ok(told) => told,
        Err(_) => {
            let said = format!("no answer within {} s", LIMIT.as_secs());
            let fail = |name: &str| CheckResult::fail(name, &*said, "ip route get 169.254.169.254");
            return NAMES.map(fail).into();
        }
    };
    match identity {
        Err(error) => silent(&error),
        Ok(identity) => answered(&identity, role.ok().flatten()),
    }
}

/// The results where the service does not answer.
fn silent(error: &InstanceError) -> Vec<CheckResult> {
    let hint = error.hint().unwrap_or_default();
    let hop = match error {
        InstanceError::HopLimit { .. } => CheckResult::fail(NAMES[1], error.to_string(), hint.clone()),
        _ => CheckResult::warn(NAMES[1], "not looked at: the service does not answer", "see `imds` above"),
    };
    // `Disabled` is a wish, not a fault.
    let imds = match error {
        InstanceError::Disabled => CheckResult::warn(NAMES[0], Chain(error).to_string(), hint),
        _ => CheckResult::fail(NAMES[0], Chain(error).to_string(), hint),
    };
    let role = CheckResult::warn(NAMES[2], "not looked at: the service does not answer", "see `imds` above");
    vec![imds, hop, role]
}

/// The results where it does.
fn answered(identity: &Identity, role: Option<String>) -> Vec<CheckResult> {
    let role = match role {
        Some(role) => CheckResult::ok(NAMES[2], role),
        None => CheckResult::warn(
            NAMES[2],
            "the instance has none",
            "give it an instance profile (docs/iam.md), or credentials in another way",
        ),
    };
    vec![
        CheckResult::ok(
            NAMES[0],
            format!("IMDSv2 answers: {} in {} ({})", identity.id, identity.zone, identity.region),
        ),
        CheckResult::ok(
            NAMES[1],
            "tokens reach this process; containers of the bridge network need a hop limit of 2",
        ),
        role,
    ]
}
