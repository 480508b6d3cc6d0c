//! `mapkeeper manual`: man pages and shell completions, made from the same words that the command line is.
//!
//! For packages; whoever installs the program alone can have them as well.

use std::io;
use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory};
use clap_complete::Shell;

use super::arguments::{HelperArguments, ManualArguments};
use super::command::Cli;
use crate::error::{Advise, Exit};

/// Why a page could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write manual pages into {directory:?}")]
pub(super) struct ManualError {
    directory: PathBuf,
    source: io::Error,
}

impl Advise for ManualError {
    fn hint(&self) -> Option<String> {
        Some("name a directory that is there and may be written".to_owned())
    }

    fn exit(&self) -> Exit {
        Exit::Degraded
    }
}

/// Writes a page for each command, for `mount.mapkeeper`, and what bash, zsh and fish read.
///
/// # Errors
///
/// Those of writing.
pub(super) fn write(arguments: &ManualArguments) -> Result<(), ManualError> {
    let directory = arguments.directory.as_path();
    pages(directory).map_err(|source| ManualError { directory: directory.to_owned(), source })
}

fn pages(directory: &Path) -> io::Result<()> {
    clap_mangen::generate_to(Cli::command(), directory)?;
    let helper: Command = HelperArguments::command();
    let helper = clap_mangen::Man::new(helper.display_name("mount.mapkeeper")).section("8");
    let mut page = Vec::new();
    helper.render(&mut page)?;
    std::fs::write(directory.join("mount.mapkeeper.8"), page)?;
    let mut command = Cli::command();
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut command, "mapkeeper", directory)?;
    }
    Ok(())
}
