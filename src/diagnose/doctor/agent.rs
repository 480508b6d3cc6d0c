//! The agent: whether it runs, what it says, how its host was prepared, and its listener.

use std::fs;
use std::path::Path;

use super::containers::listeners;
use crate::agent::status::{self, Standing};
use crate::bootstrap;
use crate::config::Config;
use crate::diagnose::result::CheckResult;
use bucketfs::write::writable_at_once;
use ladder::state::Health;

/// Descriptors below which a mount that is written may run out of them.
const FILES_FEW: u64 = 4096;

/// `runtime_dir` is that of the agent.
pub(super) async fn checks(config: Option<&Config>, runtime_dir: &Path) -> Vec<CheckResult> {
    let (agent, pid) = agent(runtime_dir);
    vec![agent, open_files(pid), preparation(), listener(config, pid.is_some())]
}

/// How the agent is, and the process that it is.
fn agent(runtime_dir: &Path) -> (CheckResult, Option<u32>) {
    let name = "agent";
    let report = match status::read(runtime_dir) {
        Ok(report) => report,
        Err(error) => return (CheckResult::failed(name, &error, "mapkeeper status"), None),
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
            (result, Some(document.writer.pid))
        }
        (Standing::Stale { age_ms }, document) => {
            let said = format!("runs, and has been silent for {} s", age_ms / 1000);
            let result = CheckResult::fail(name, said, "systemctl restart mapkeeper; the mounts stay");
            (result, document.as_ref().map(|document| document.writer.pid))
        }
        (Standing::Absent, _) => (CheckResult::warn(name, "has not run since boot", start), None),
        _ => (CheckResult::fail(name, "does not run any more", start), None),
    }
}

/// How many files the agent may have open: the one that runs, or the one that this host would start.
fn open_files(pid: Option<u32>) -> CheckResult {
    let name = "open files";
    let hint = "LimitNOFILE=524288 by systemctl edit mapkeeper, then systemctl restart mapkeeper";
    let process = pid.map_or_else(|| "self".to_owned(), |pid| pid.to_string());
    let limits = fs::read_to_string(format!("/proc/{process}/limits"));
    let Some((soft, hard)) = limits.ok().as_deref().and_then(files_of) else {
        return CheckResult::warn(name, "the limit of the agent cannot be read", "is /proc mounted?");
    };
    // It raises its own limit when it starts.
    let (most, whose) = if pid.is_some() { (soft, "in force") } else { (hard, "for an agent") };
    let said = format!("at most {most} {whose}: {} files open for writing", writable_at_once(most));
    if most < FILES_FEW { CheckResult::warn(name, said, hint) } else { CheckResult::ok(name, said) }
}

/// The soft and the hard limit of open files in `/proc/PID/limits`.
fn files_of(limits: &str) -> Option<(u64, u64)> {
    let mut words = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?.split_whitespace();
    let mut number = || match words.next()? {
        "unlimited" => Some(u64::MAX),
        word => word.parse().ok(),
    };
    Some((number()?, number()?))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_as_the_kernel_writes_them() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max processes             1                    2                    processes \n\
                    Max open files            1024                 524288               files     \n";
        assert_eq!(files_of(text), Some((1024, 524_288)));
        assert_eq!(files_of(&text.replace("524288", "unlimited")), Some((1024, u64::MAX)));
        assert_eq!(files_of("Max open files"), None);
    }
}
