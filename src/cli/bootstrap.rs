//! `mapkeeper bootstrap`: prepares the host and says of each step whether it changed anything.

use std::io::Write;
use std::path::Path;

use super::arguments::BootstrapArguments;
use crate::bootstrap::{self, BootstrapError, Change, HostRoot};
use crate::config::{ConfigFile, Inputs, Loaded};
use crate::error::Chain;
use crate::host::configuration;
use crate::logging::JOURNAL;
use crate::terminal::while_waiting;

/// Where the configuration file goes.
const FILE: &str = "etc/mapkeeper/config.toml";

/// Prepares the host and prints one line a step.
///
/// # Errors
///
/// The first step that failed.
pub(super) async fn bootstrap(arguments: &BootstrapArguments) -> Result<(), BootstrapError> {
    let place = HostRoot { root: arguments.root.clone(), from: arguments.from.clone() };
    let mut inputs = arguments.file.inputs();
    let of_host = arguments.root.join(FILE);
    if arguments.root != Path::new("/") && inputs.file == ConfigFile::Standard {
        inputs.file = ConfigFile::Named(of_host);
    }
    let load = || load(inputs);
    let done = while_waiting("preparing the host", bootstrap::bootstrap(&place, load)).await.inspect_err(
        |error| {
            tracing::error!(target: JOURNAL, error = %Chain(error), "the host is not prepared");
        },
    )?;
    let changed = done.iter().filter(|step| step.change == Change::Made).count();
    tracing::info!(target: JOURNAL, steps = done.len(), changed, "the host is prepared");
    let mut out = std::io::stdout().lock();
    for step in done {
        let word = if step.change == Change::Made { "changed" } else { "as it was" };
        // A reader that has gone away has seen enough.
        let _gone = writeln!(out, "{word:<10}{}", step.what);
    }
    Ok(())
}

async fn load(inputs: Inputs) -> Result<Loaded, crate::config::ConfigError> {
    let loaded = configuration::load(&inputs, None).await?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    Ok(loaded)
}
