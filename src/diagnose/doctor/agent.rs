//! The agent: whether it runs, what it says, how its host was prepared, and its listener.

use std::path::Path;

use super::Place;
use super::containers::listeners;
use crate::agent::status::{self, Standing};
use crate::bootstrap;
use crate::config::Config;
use crate::diagnose::finding::Finding;
use ladder::state::Health;

pub(super) async fn checks(config: Option<&Config>, place: Place<'_>) -> Vec<Finding> {
    let (agent, runs) = agent(place.runtime_dir);
    vec![agent, preparation(), listener(config, runs)]
}

fn agent(runtime_dir: &Path) -> (Finding, bool) {
    let name = "agent";
    let report = match status::read(runtime_dir) {
        Ok(report) => report,
        Err(error) => return (Finding::failed(name, &error, "mapkeeper status"), false),
    };
    let start = "systemctl start mapkeeper; journalctl -u mapkeeper says why it ended";
    match (report.standing, &report.document) {
        (Standing::Fresh, Some(document)) => {
            let said = format!("runs (pid {}), {}", document.writer.pid, document.reason);
            let finding = match document.health {
                Health::Healthy => Finding::ok(name, said),
                Health::Degraded | Health::Repairing => {
                    Finding::warn(name, said, "mapkeeper status says more")
                }
                Health::Failed => Finding::fail(name, said, "mapkeeper status says more"),
            };
            (finding, true)
        }
        (Standing::Stale { age_ms }, _) => {
            let said = format!("runs, and has been silent for {} s", age_ms / 1000);
            (Finding::fail(name, said, "systemctl restart mapkeeper; the mounts stay"), true)
        }
        (Standing::Absent, _) => (Finding::warn(name, "has not run since boot", start), false),
        _ => (Finding::fail(name, "does not run any more", start), false),
    }
}

fn preparation() -> Finding {
    let name = "bootstrap";
    match bootstrap::last_outcome(Path::new("/")) {
        None => Finding::ok(name, "has not run since boot"),
        Some(outcome) => match outcome.fault {
            None => Finding::ok(name, "prepared this host"),
            Some(fault) => {
                let first = fault.lines().next().unwrap_or_default().to_owned();
                Finding::fail(
                    name,
                    first,
                    "correct it and run mapkeeper bootstrap again; the agent is not started before",
                )
            }
        },
    }
}

fn listener(config: Option<&Config>, runs: bool) -> Finding {
    let name = "health.listen";
    let Some(health) = config.and_then(|config| config.health) else {
        return Finding::ok(name, "off");
    };
    let (address, taken) = (health.listen, listeners().contains(&health.listen.port()));
    let open = !address.ip().is_loopback();
    match (runs, taken) {
        (true, true) if open => {
            let hint =
                "it tells names of buckets and maps to whoever asks: let a security group decide who may";
            Finding::warn(name, format!("{address} answers, also to other hosts"), hint)
        }
        (true, true) => Finding::ok(name, format!("{address} answers")),
        (true, false) => {
            Finding::fail(name, format!("nobody listens on {address}"), "systemctl restart mapkeeper")
        }
        (false, true) => Finding::fail(
            name,
            format!("{address} is taken by somebody else"),
            "choose another `health.listen`",
        ),
        (false, false) => Finding::ok(name, format!("{address} is free")),
    }
}
