//! Questions that may not be answered: each has a limit, and one that hangs holds up nothing else.

use std::time::Duration;

use tokio::time::timeout;

use crate::diagnose::result::CheckResult;

/// What a check finds, or that it did not end in time.
pub(super) async fn limited(
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
pub(super) async fn detached<T: Send + 'static>(
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
pub(super) async fn command(program: &str, arguments: &[&str], limit: Duration) -> Result<String, String> {
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
