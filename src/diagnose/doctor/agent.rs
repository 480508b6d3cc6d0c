//! The agent: whether it runs, what it says, how its host was prepared, and its listener.

use std::path::Path;

use super::containers::listeners;
use crate::agent::status::{self, Standing};
use crate::bootstrap;
use crate::config::Config;
use crate::diagnose::result::CheckResult;
use ladder::state::Health;

/// `runtime_dir` is that of the agent.
pub(super) async fn checks(config: Option<&Config>, runtime_dir: &Path) -> Vec<CheckResult> {
    let (agent, runs) = agent(runtime_dir);
    vec![agent, preparation(), listener(config, runs)]
}

fn agent(runtime_dir: &Path) -> (CheckResult, bool) {
    let name = "agent";
    let report = match status::read(runtime_dir) {
        Ok(report) => report,
        Err(error) => return (CheckResult::failed(name, &error, "mapkeeper status"), false),
    };
    let start = "systemctl start mapkeeper; journalctl -u mapkeeper says why it ended";
    match (report.standing, &report.document) {
        (Standing::Fresh, Some(document)) => {
            let said = format!("runs (pid {}), {}", document.writer.pid, document.reason);
            let result = match document.health {
                Health::Healthy => CheckResult::ok(name, said),
                Health::Degraded | Health::Repairing => {
                    CheckResult::warn(name, said, "mapkeeper status says more")
                }
                Health::Failed => CheckResult::fail(name, said, "mapkeeper status says more"),
            };
            (result, true)
        }
        (Standing::Stale { age_ms }, _) => {
            let said = format!("runs, and has been silent for {} s", age_ms / 1000);
            (CheckResult::fail(name, said, "systemctl restart mapkeeper; the mounts stay"), true)
        }
        (Standing::Absent, _) => (CheckResult::warn(name, "has not run since boot", start), false),
        _ => (CheckResult::fail(name, "does not run any more", start), false),
    }
}

fn preparation() -> CheckResult {
    let name = "bootstrap";
    match bootstrap::last_outcome(Path::new("/")) {
        None => CheckResult::ok(name, "has not run since boot"),
        Some(outcome) => match outcome.fault {
            None => CheckResult::ok(name, "prepared this host"),
            Some(fault) => {
                let hint = "correct it and run mapkeeper bootstrap again; the agent is not started before";
                CheckResult::fail(name, fault.lines().next().unwrap_or_default(), hint)
            }
        },
    }
}

fn listener(config: Option<&Config>, runs: bool) -> CheckResult {
    let name = "health.listen";
    let Some(health) = config.and_then(|config| config.health) else {
        return CheckResult::ok(name, "off");
    };
    let (address, taken) = (health.listen, listeners().contains(&health.listen.port()));
    let open = !address.ip().is_loopback();
    match (runs, taken) {
        (true, true) if open => {
            let hint =
                "it tells names of buckets and maps to whoever asks: let a security group decide who may";
            CheckResult::warn(name, format!("{address} answers, also to other hosts"), hint)
        }
        (true, true) => CheckResult::ok(name, format!("{address} answers")),
        (true, false) => {
            CheckResult::fail(name, format!("nobody listens on {address}"), "systemctl restart mapkeeper")
        }
        (false, true) => CheckResult::fail(
            name,
            format!("{address} is taken by somebody else"),
            "choose another `health.listen`",
        ),
        (false, false) => CheckResult::ok(name, format!("{address} is free")),
    }
}
