//! Questions that may not be answered: each has a limit, and one that hangs holds up nothing else.

use std::time::Duration;

use tokio::time::timeout;

use crate::diagnose::clients::output;
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
    let output = output(program, arguments, limit).await?;
    let said = if output.status.success() { Ok(output.stdout) } else { Err(output.stderr) };
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim().to_owned();
    said.map(text).map_err(text)
}
