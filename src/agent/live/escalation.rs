//! Giving the instance back: the last rung, once in its life.
//!
//! ```text
//!   [never tried] -- asked AWS, which agreed --> [given back]: a file with the instance's id says so
//! ```
//!
//! The file outlives the agent and reboots, so an instance that AWS does not end after all is not asked for again.
//! In a dry run AWS is asked whether it would agree, and nothing else happens.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::timeout;

use super::convert::escalation;
use super::failure::plain_failure;
use crate::config::Config;
use crate::error::Chain;
use crate::host::instance::Metadata;
use ladder::state::{Escalation, Failure};

/// Where the file is kept.
pub const STATE: &str = "/var/lib/mapkeeper";
const FILE: &str = "given-back";
/// Longest wait for the instance metadata and for EC2.
const LIMIT: Duration = Duration::from_secs(20);

/// What became of giving the instance back.
pub(super) struct GivingBack {
    directory: PathBuf,
    region: Option<String>,
    how: Escalation,
}

impl GivingBack {
    pub(super) fn new(directory: &Path, config: &Config) -> GivingBack {
        GivingBack { directory: directory.to_owned(), region: config.region.clone(), how: escalation(config) }
    }

    /// Ends this instance by EC2, or asks whether that could be done.
    pub(super) async fn give_back(&self) -> Result<(), Failure> {
        let told = |error, hint: &str| Failure { hint: Some(hint.to_owned()), ..plain_failure(error) };
        let found = timeout(LIMIT, instance_id()).await.unwrap_or_else(|_| Err("no answer".to_owned()));
        let instance = found.map_err(|error| {
            told(format!("cannot learn the instance's id: {error}"), "is this an EC2 instance with IMDS on?")
        })?;
        let file = self.directory.join(FILE);
        match std::fs::read_to_string(&file) {
            Ok(given) if given.trim() == instance => {
                let error = format!("instance {instance} was given back before, and still runs");
                return Err(told(error, "look at it in the EC2 console; it is not asked for again"));
            }
            _ => {}
        }
        let dry_run = self.how != Escalation::Terminate;
        tracing::error!(%instance, dry_run, "giving the instance back");
        let ended = timeout(LIMIT, terminate(&instance, self.region.as_deref(), dry_run)).await;
        let ended = ended.unwrap_or_else(|_| Err("no answer".to_owned()));
        ended.map_err(|error| {
            told(
                format!("cannot give instance {instance} back: {error}"),
                "allow ec2:TerminateInstances to the role",
            )
        })?;
        // In a dry run nothing happened that may not happen again.
        if !dry_run && let Err(error) = self.note(&file, &instance) {
            tracing::error!(error = %Chain(&error), ?file, "cannot note that the instance was given back");
        }
        Ok(())
    }

    fn note(&self, file: &Path, instance: &str) -> io::Result<()> {
        std::fs::create_dir_all(&self.directory)?;
        std::fs::write(file, instance)
    }
}

async fn instance_id() -> Result<String, String> {
    Metadata::from_environment().id().await.map_err(|error| Chain(&error).to_string())
}

#[cfg(feature = "ec2")]
async fn terminate(instance: &str, region: Option<&str>, dry_run: bool) -> Result<(), String> {
    crate::host::instance::terminate(region, instance, dry_run)
        .await
        .map_err(|error| Chain(&error).to_string())
}

#[cfg(not(feature = "ec2"))]
async fn terminate(_instance: &str, _region: Option<&str>, _dry_run: bool) -> Result<(), String> {
    Err("this program was built without the EC2 API".to_owned())
}
