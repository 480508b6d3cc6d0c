//! The commands and what each is for, as `--help` and the manual tell it.

use clap::{Parser, Subcommand};

use super::arguments::{
    BootstrapArguments, BundleArguments, CheckArguments, DemoArguments, DoctorArguments, ExplainArguments,
    GlobalArguments, ManualArguments, MountArguments, PauseArguments, ProbeArguments, RunArguments,
    ShowArguments, StatusArguments, SuperviseArguments, UserDataArguments, WaitArguments,
};
use crate::logging::To;

/// Serves maps out of an S3 bucket on a stock ECS host
///
/// mapkeeper mounts the bucket, proves that the mount serves, lets MapServer start on it, and from then on
/// watches the chain from bucket to WMS answer and repairs the first broken link.
#[derive(Debug, Parser)]
#[command(name = "mapkeeper", version, after_help = EXAMPLES, propagate_version = true)]
pub struct Cli {
    #[command(flatten)]
    pub global: GlobalArguments,
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// Where the log of this command goes.
    pub fn logs_to(&self) -> To {
        match self.command {
            Command::Bootstrap(_) => To::Both,
            _ => To::StandardError,
        }
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Look after this host: mount, watch, repair; the daemon
    Run(RunArguments),
    /// Prepare this host, at each boot: gate, configuration, overlay, ECS, units, start
    Bootstrap(BootstrapArguments),
    /// Print the cloud-init user data for this configuration
    UserData(UserDataArguments),
    /// Mount one bucket, in the foreground, without an agent
    Mount(MountArguments),
    /// Run another mapkeeper command so that its mounts outlive its process, where there is no systemd
    Supervise(SuperviseArguments),
    /// Show the chain, one line a link, and explain the first fault
    Status(StatusArguments),
    /// Check every precondition of this host, and say what cures what is wrong
    Doctor(DoctorArguments),
    /// Follow one map from the bucket to MapServer's answer, and name the first wrong link
    Explain(ExplainArguments),
    /// Wait until every mount is proven
    Wait(WaitArguments),
    /// Write everything that somebody else needs to help into one tar, without secrets
    Bundle(BundleArguments),
    /// Let the agent observe and repair nothing, for a while or until `resume`
    Pause(PauseArguments),
    /// Let the agent repair again
    #[command(after_help = "Example, after work on the host:\n  mapkeeper resume")]
    Resume,
    /// Check or show the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Play the whole chain on this machine, with a directory as the bucket
    Demo(DemoArguments),
    /// Write man pages and shell completions
    #[command(hide = true)]
    Manual(ManualArguments),
    #[command(name = crate::host::probe::MOUNT_COMMAND, hide = true)]
    ProbeMount(ProbeArguments),
}

/// What to do with the configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Validate the configuration and list every fault at once
    Check(CheckArguments),
    /// Print the effective values as TOML, secrets redacted
    Show(ShowArguments),
    /// Print the JSON Schema of a configuration file
    #[command(
        after_help = "Example, for an editor that checks TOML:\n  mapkeeper config schema >mapkeeper.schema.json"
    )]
    Schema,
}

const EXAMPLES: &str = "\
Examples:
  mapkeeper config check --config ./config.toml
  mapkeeper doctor
  mapkeeper status --watch
  mapkeeper explain island.map

Environment:
  MAPKEEPER_CONFIG       configuration file, as --config
  MAPKEEPER_RUNTIME_DIR  as --runtime-dir
  MAPKEEPER_LOG          error, warn, info, debug or trace
  MAPKEEPER_<KEY>        a setting: MAPKEEPER_REGION, MAPKEEPER_MOUNT__0__FRESHNESS";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::super::arguments::HelperArguments;
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
        HelperArguments::command().debug_assert();
    }

    /// Every command that a person may call, from the first to the last level.
    fn commands(of: &clap::Command) -> Vec<clap::Command> {
        let visible =
            of.get_subcommands().filter(|command| !command.is_hide_set() && command.get_name() != "help");
        visible
            .flat_map(|command| match command.has_subcommands() {
                true => commands(command),
                false => vec![command.clone()],
            })
            .collect()
    }

    #[test]
    fn the_help_of_every_command_has_an_example_that_is_understood() {
        let all = commands(&Cli::command());
        assert!(all.len() >= 15, "{}", all.len());
        for command in all {
            let help = command.clone().render_long_help().to_string();
            let (_, examples) =
                help.split_once("Example").unwrap_or_else(|| panic!("{}", command.get_name()));
            let lines = examples.lines().map(str::trim).filter(|line| line.starts_with("mapkeeper "));
            for line in lines {
                let words = line.split(['|', '>']).next().unwrap_or_default().replace(['\'', '"'], "");
                if words.contains("$(") {
                    continue;
                }
                Cli::try_parse_from(words.split_whitespace())
                    .unwrap_or_else(|error| panic!("{line}: {error}"));
            }
        }
    }
}
