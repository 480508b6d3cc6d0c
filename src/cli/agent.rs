//! `mapkeeper run`, and the commands that look at it from outside or leave word for it.
//!
//! What must hold: `status` reads the status file and nothing else, so it answers while everything hangs; `run`
//! refuses at once what no waiting cures (a wrong configuration, missing rights, another agent) and leaves everything
//! else to the loop, which retries and reports.

use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::arguments::{PauseArguments, ProbeArguments, RunArguments, StatusArguments};
use super::reload;
use crate::agent::live::{self, Live};
use crate::agent::status::{self, Document, ReadError, Report, RuntimeDir, Screens, Writer, render};
use crate::agent::{self, Orders, Publisher, maintenance};
use crate::bootstrap;
use crate::config::{ConfigError, Inputs, Loaded};
use crate::error::{Advise, Chain, Exit, Failed};
use crate::host::mount::handover::{self, Sessions};
use crate::host::{configuration, probe, systemd};
use crate::terminal::Style;
use ladder::state::Settings;

/// How long an agent that cannot start takes to end, where it is started again.
const FAILED_PAUSE: Duration = Duration::from_secs(2);

/// What keeps an agent from starting that no other part has a word for.
#[derive(Debug, thiserror::Error)]
pub(super) enum RunError {
    #[error("only root can mount and speak to Docker")]
    NotRoot,
    #[error("cannot find out who this process is")]
    Process { source: io::Error },
    #[error("cannot answer load balancers on {address}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("cannot wait for signals")]
    Signals { source: io::Error },
}

impl Advise for RunError {
    fn hint(&self) -> Option<String> {
        match self {
            RunError::NotRoot => Some("run it as root, with sudo for example".into()),
            RunError::Process { .. } => Some("check that /proc is mounted".into()),
            RunError::Listen { .. } => Some("choose another `health.listen`".into()),
            RunError::Signals { .. } => None,
        }
    }

    fn exit(&self) -> Exit {
        match self {
            RunError::NotRoot => Exit::NotRoot,
            RunError::Listen { .. } => Exit::PortTaken,
            RunError::Process { .. } | RunError::Signals { .. } => Exit::Degraded,
        }
    }
}

/// Looks after this host until a signal ends it.
///
/// # Errors
///
/// What keeps it from starting; once it runs, nothing.
pub(super) async fn run(arguments: &RunArguments, runtime_dir: &Path) -> Result<(), Failed> {
    let ended = look_after(arguments, runtime_dir).await;
    if ended.is_err() && systemd::keeps() {
        // Whoever was killed is started again at once; what fails need not be tried that often.
        tokio::time::sleep(FAILED_PAUSE).await;
    }
    ended
}

async fn look_after(arguments: &RunArguments, runtime_dir: &Path) -> Result<(), Failed> {
    super::mount::prepare_process();
    // Before any child is started, which would hold them as well.
    let left = handover::left();
    // Before anything else: a SIGHUP that comes early must not end us.
    let requests = reload::requests().map_err(|source| RunError::Signals { source })?;
    let inputs = arguments.file.inputs();
    let (loaded, refused) = gathered(&inputs, &left).await?;
    handover::keep_settings(&loaded.to_bytes());
    let unasked = loaded.unasked();
    loaded.doubts().for_each(|doubt| tracing::warn!("{doubt}"));
    let Loaded { config, warnings, tags, .. } = loaded;
    if !nix::unistd::geteuid().is_root() {
        return Err(RunError::NotRoot.into());
    }
    let runtime_dir = RuntimeDir::claim(runtime_dir)?;
    let writer = Writer::this().map_err(|source| RunError::Process { source })?;
    let orders = agent::stop_on_signals().map_err(|source| RunError::Signals { source })?;
    let (outbox, inbox) = live::inbox::mailbox();
    let told = refused.or(unasked);
    if let Some(why) = &told {
        outbox.refused(why.clone());
    }
    let options = live::Options {
        inbox: Some(inbox),
        runtime_dir: Some(runtime_dir.path().to_owned()),
        left,
        orders: Some(orders.clone()),
        ..live::Options::default()
    };
    let host = Live::new(&config, options)?;
    let (mut publisher, documents) = Publisher::new(Some(runtime_dir));
    let _listening = match config.health {
        Some(health) => {
            let listening = agent::http::listen(health.listen, documents.clone()).await;
            Some(listening.map_err(|source| RunError::Listen { address: health.listen, source })?)
        }
        None => None,
    };
    publisher.alive = Box::new(sign_of_life(orders.clone()));
    let settings = Settings { workers: host.workers(), ..live::settings(&config) };
    let reloads = reload::follow(inputs, reload::InForce { config, tags, told, warnings }, requests, outbox);
    // Cancel-safe: only the agent ends, and what else is under way ends with it.
    tokio::select! {
        () = agent::run(&host, &settings, writer, publisher, orders.stop) => {}
        () = reloads => {}
        () = tell_instance(documents) => {}
    }
    Ok(())
}

/// The configuration as it is now. Where it is wrong or cannot be had, and there are sessions to go on with: the one under
/// which they were begun, and why.
async fn gathered(inputs: &Inputs, left: &Sessions) -> Result<(Loaded, Option<String>), ConfigError> {
    let before = left.settings().and_then(|bytes| Loaded::from_bytes(&bytes));
    let tags = before.as_ref().and_then(|before| before.tags.as_ref());
    let error = match configuration::load(inputs, tags).await {
        Ok(loaded) => return Ok((loaded, None)),
        Err(error) => error,
    };
    let Some(before) = before else { return Err(error) };
    let why = Chain(&error).to_string();
    tracing::error!(error = why, "the configuration is refused; that of the process before stays in force");
    Ok((before, Some(why)))
}

/// Tags the instance with the health of the host, where this version can.
async fn tell_instance(documents: watch::Receiver<Option<Arc<Document>>>) {
    #[cfg(feature = "ec2")]
    super::tag::follow(documents).await;
    #[cfg(not(feature = "ec2"))]
    {
        drop(documents);
        std::future::pending::<()>().await;
    }
}

/// Tells systemd: ready with the first document, alive with each, and what it says. Who is replaced does not say that
/// the service stops.
fn sign_of_life(orders: Orders) -> impl FnMut(&Document) {
    let mut last = None;
    move |document| {
        if document.ended.is_some() {
            if !orders.replace() {
                systemd::stopping();
            }
            return;
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

/// Prints what the agent last said; with `--watch` again whenever it changes, until nobody reads it any more.
pub(super) async fn status(arguments: &StatusArguments, runtime_dir: &Path) -> Result<Exit, ReadError> {
    let show = |report: &Report| {
        let boot_fault = bootstrap::last_outcome(&arguments.boot_root).and_then(|outcome| outcome.fault);
        if arguments.json {
            let mut json = report.json();
            json["bootstrap_fault"] = boot_fault.into();
            return format!("{json:#}\n");
        }
        let told = boot_fault.map(|fault| {
            let line = fault.lines().next().unwrap_or_default().replace(char::is_control, " ");
            format!("bootstrap failed: {}\n", line.chars().take(60).collect::<String>())
        });
        render(report, Style::of(&io::stdout())) + &told.unwrap_or_default()
    };
    if arguments.watch {
        let replaced = io::stdout().is_terminal() && !arguments.json;
        let screens = if replaced { Screens::Replaced } else { Screens::Kept };
        let gone = status::watch(runtime_dir, screens, show, io::stdout()).await;
        tracing::debug!(error = %gone, "nobody reads the status any more");
        return Ok(status::read(runtime_dir)?.exit());
    }
    let report = status::read(runtime_dir)?;
    // A reader that has gone away (`status | head`) has seen enough.
    let _ = io::stdout().lock().write_all(show(&report).as_bytes());
    Ok(report.exit())
}

/// Why the wish of a person could not be left for the agent.
#[derive(Debug, thiserror::Error)]
#[error("cannot leave word for the agent in {dir:?}")]
pub(super) struct WishError {
    dir: PathBuf,
    source: io::Error,
}

impl Advise for WishError {
    fn hint(&self) -> Option<String> {
        Some("run as root, and check --runtime-dir".into())
    }

    fn exit(&self) -> Exit {
        if self.source.kind() == io::ErrorKind::PermissionDenied { Exit::NotRoot } else { Exit::Degraded }
    }
}

/// Asks the agent to repair nothing.
///
/// # Errors
///
/// When the wish cannot be written.
pub(super) fn pause(arguments: &PauseArguments, runtime_dir: &Path) -> Result<(), WishError> {
    maintenance::pause(runtime_dir, arguments.length)
        .map_err(|source| WishError { dir: runtime_dir.to_owned(), source })
}

/// Takes that back.
///
/// # Errors
///
/// When the wish cannot be removed.
pub(super) fn resume(runtime_dir: &Path) -> Result<(), WishError> {
    maintenance::resume(runtime_dir).map_err(|source| WishError { dir: runtime_dir.to_owned(), source })
}

/// What the agent's children do: look at a mount that may hang, and print what they found.
pub(super) fn probe_mount(arguments: &ProbeArguments) -> Exit {
    let expected = arguments.expect_device.map(|device| (device.major, device.minor));
    let look = match arguments.read {
        true => probe::Look::Read,
        false => probe::Look::Ask { expected, list: arguments.list },
    };
    let done = probe::end_with_parent(io::stdout().as_fd())
        .and_then(|()| probe::run_mount_command(&arguments.path, look, io::stdout().lock()));
    match done {
        Ok(()) => Exit::Success,
        Err(_) => Exit::Degraded,
    }
}
