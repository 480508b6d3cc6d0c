//! `mapkeeper run`, and the commands that look at it from outside: `status` and `wait`.
//!
//! What must hold: `status` and `wait` read the status file and nothing else, so they answer while everything
//! hangs; `run` refuses at once what no waiting cures (a wrong configuration, missing rights, another agent) and
//! leaves everything else to the loop, which retries and reports.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::arguments::{ProbeArguments, RunArguments, StatusArguments, WaitArguments};
use crate::agent::live::{self, Live, LiveError};
use crate::agent::status::{
    Document, ReadError, Report, RuntimeDir, RuntimeDirError, Style, Writer, read, render,
};
use crate::agent::{self, Publisher};
use crate::config::{ConfigError, Loaded};
use crate::error::{Advise, Exit};
use crate::{probe, systemd};

/// How often `status --watch` and `wait` look at the status file.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Why the agent did not start.
#[derive(Debug, thiserror::Error)]
pub(super) enum RunError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("only root can mount and speak to Docker")]
    NotRoot,
    #[error(transparent)]
    RuntimeDir(#[from] RuntimeDirError),
    #[error(transparent)]
    Live(#[from] LiveError),
    #[error("cannot find out who this process is")]
    Process { source: io::Error },
    #[error("cannot wait for signals")]
    Signals { source: io::Error },
}

impl Advise for RunError {
    fn hint(&self) -> Option<String> {
        match self {
            RunError::Config(error) => error.hint(),
            RunError::NotRoot => Some("run it as root, with sudo for example".into()),
            RunError::RuntimeDir(error) => error.hint(),
            RunError::Live(error) => error.hint(),
            RunError::Process { .. } => Some("check that /proc is mounted".into()),
            RunError::Signals { .. } => None,
        }
    }

    fn exit(&self) -> Exit {
        match self {
            RunError::Config(error) => error.exit(),
            RunError::NotRoot => Exit::NotRoot,
            RunError::RuntimeDir(error) => error.exit(),
            RunError::Live(error) => error.exit(),
            RunError::Process { .. } | RunError::Signals { .. } => Exit::Degraded,
        }
    }
}

/// Looks after this host until a signal ends it.
///
/// # Errors
///
/// What keeps it from starting; once it runs, nothing.
pub(super) async fn run(arguments: &RunArguments, runtime_dir: &Path) -> Result<(), RunError> {
    let Loaded { config, warnings, .. } = Loaded::read(&arguments.file.file(), std::env::vars_os())?;
    let notices = config.notices().into_iter().map(|notice| notice.to_string());
    for warning in warnings.iter().map(ToString::to_string).chain(notices) {
        tracing::warn!("{warning}");
    }
    if !nix::unistd::geteuid().is_root() {
        return Err(RunError::NotRoot);
    }
    let runtime_dir = RuntimeDir::claim(runtime_dir)?;
    let writer = Writer::this().map_err(|source| RunError::Process { source })?;
    let stop = agent::stop_on_signals().map_err(|source| RunError::Signals { source })?;
    let host = Live::new(&config, live::Options::default())?;
    let (mut publisher, _) = Publisher::new(Some(runtime_dir));
    publisher.alive = Box::new(sign_of_life());
    agent::run(&host, &live::settings(&config), writer, publisher, stop).await;
    Ok(())
}

/// Tells systemd: ready with the first document, alive with each, and what it says.
fn sign_of_life() -> impl FnMut(&Document) {
    let mut last = None;
    move |document| {
        if document.ended.is_some() {
            return systemd::stopping();
        }
        if last.is_none() {
            systemd::ready();
        }
        systemd::alive();
        if last.as_ref() != Some(&document.reason) {
            systemd::status(&document.reason);
            last = Some(document.reason.clone());
        }
    }
}

/// Prints what the agent last said, once or whenever it changes.
pub(super) async fn status(arguments: &StatusArguments, runtime_dir: &Path) -> Result<Exit, ReadError> {
    let mut shown = None;
    loop {
        let report = read(runtime_dir)?;
        let text = if arguments.json { format!("{:#}\n", report.json()) } else { render(&report, style()) };
        if shown.as_ref() != Some(&text) {
            if print(&screen(&text, arguments)).is_err() {
                // A reader that has gone away (`status | head`) has seen enough.
                return Ok(report.exit());
            }
            shown = Some(text);
        }
        if !arguments.watch {
            return Ok(report.exit());
        }
        sleep(LOOK_AGAIN).await;
    }
}

/// The text, on a terminal that is watched over what was there before.
fn screen(text: &str, arguments: &StatusArguments) -> String {
    if arguments.watch && !arguments.json && io::stdout().is_terminal() {
        format!("\x1b[H\x1b[2J{text}")
    } else {
        text.to_owned()
    }
}

/// Colour only for a person who has not asked for none.
pub(super) fn style() -> Style {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if io::stdout().is_terminal() && !unwanted { Style::Coloured } else { Style::Plain }
}

fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Why `wait` gave up.
#[derive(Debug, thiserror::Error)]
pub(super) enum WaitError {
    #[error("not every mount is proven after {} s: {}", .waited.as_secs_f64(), .unproven.join("; "))]
    TimedOut { waited: Duration, unproven: Vec<String> },
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl Advise for WaitError {
    fn hint(&self) -> Option<String> {
        match self {
            WaitError::TimedOut { .. } => Some("see `mapkeeper status`".into()),
            WaitError::Read(error) => error.hint(),
        }
    }

    fn exit(&self) -> Exit {
        match self {
            WaitError::TimedOut { .. } => Exit::TimedOut,
            WaitError::Read(error) => error.exit(),
        }
    }
}

/// Returns as soon as every mount is proven.
///
/// # Errors
///
/// [`WaitError::TimedOut`], naming what is missing.
pub(super) async fn wait(arguments: &WaitArguments, runtime_dir: &Path) -> Result<(), WaitError> {
    let deadline = Instant::now() + arguments.timeout;
    loop {
        // A document that cannot be read may be one of an agent that is being replaced: wait for the next.
        let unproven = match read(runtime_dir) {
            Ok(report) => report.unproven(),
            Err(error) if Instant::now() >= deadline => return Err(error.into()),
            Err(_) => vec!["the status cannot be read".to_owned()],
        };
        if unproven.is_empty() {
            return Ok(());
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(WaitError::TimedOut { waited: arguments.timeout, unproven });
        }
        sleep(left.min(LOOK_AGAIN)).await;
    }
}

/// What the agent's children do: look at a mount that may hang, and print what they found.
pub(super) fn probe_mount(arguments: &ProbeArguments) -> Exit {
    let expected = arguments.expect_device.map(|device| (device.major, device.minor));
    match probe::run_mount_command(&arguments.path, expected, io::stdout().lock()) {
        Ok(()) => Exit::Success,
        Err(_) => Exit::Degraded,
    }
}

/// A report of a document that is in memory.
pub(super) fn in_memory(document: &Document) -> Report {
    Report { standing: agent::status::Standing::Fresh, document: Some(document.clone()) }
}
