//! Why a host is not prepared, with the cure and the exit code of each reason.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::ConfigError;
use crate::error::{Advise, Exit};

/// Longest wait for another run.
pub(super) const LOCK_LIMIT: Duration = Duration::from_secs(600);

/// Why a host is not prepared.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    #[error("only root can prepare a host")]
    NotRoot,
    #[error("another bootstrap has not ended within {} s", LOCK_LIMIT.as_secs())]
    Busy,
    #[error("cannot write {path:?}")]
    Write { path: PathBuf, source: io::Error },
    #[error("{from:?} is no source of a configuration, expected a file, s3://bucket/key or ssm:NAME")]
    From { from: String },
    #[error("cannot fetch the configuration from {from:?}: {reason}")]
    Fetch { from: String, reason: String },
    #[error(transparent)]
    Config(ConfigError),
    #[error("overlay: {file}: {reason}")]
    Overlay { file: String, reason: String },
    #[error("the manifest of the overlay has {} faults\n  {}", .faults.len(), .faults.join("\n  "))]
    Manifest { faults: Vec<String> },
    #[error("the essential command {name:?} failed: {reason}")]
    Command { name: String, reason: String },
    #[error("{command:?} failed: {reason}")]
    System { command: String, reason: String },
}

impl Advise for BootstrapError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            BootstrapError::NotRoot => "run it as root, with sudo for example".to_owned(),
            BootstrapError::Busy => "look for it: pgrep -a mapkeeper".to_owned(),
            BootstrapError::Write { .. } => "check that the disk is writable and not full".to_owned(),
            BootstrapError::From { .. } | BootstrapError::Fetch { .. } => {
                "check the source, the region, and what the role of the instance may read".to_owned()
            }
            BootstrapError::Config(error) => return error.hint(),
            BootstrapError::Overlay { .. } | BootstrapError::Manifest { .. } => {
                "nothing of the overlay was applied; correct it and run `mapkeeper bootstrap` again"
                    .to_owned()
            }
            BootstrapError::Command { .. } => {
                "the agent is not started while this fails; run `mapkeeper bootstrap` again after the cure"
                    .to_owned()
            }
            BootstrapError::System { .. } => return None,
        })
    }

    fn exit(&self) -> Exit {
        match self {
            BootstrapError::NotRoot => Exit::NotRoot,
            BootstrapError::Busy => Exit::TimedOut,
            BootstrapError::Config(error) => error.exit(),
            BootstrapError::From { .. } => Exit::Usage,
            _ => Exit::Degraded,
        }
    }
}
