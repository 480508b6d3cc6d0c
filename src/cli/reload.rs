//! A running agent and its configuration: read again at SIGHUP, and now and then where parts of it are elsewhere.
//!
//! ```text
//!   SIGHUP ------------------+
//!   every `sources.poll` ----+--> gather --refused--> said; the old configuration stays in force
//!   (parameters, tags)                 |--the same--> nothing
//!                                      +--another---> consequences named, then handed to the agent
//! ```
//!
//! Tags that cannot be asked are no refusal: the rest is taken, with the tags known last, and that is said.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::sleep;

use crate::agent::live::inbox::Outbox;
use crate::config::{Config, Fault, Inputs, Loaded};
use crate::error::Chain;
use crate::host::configuration;
use crate::host::instance::Metadata;
use crate::host::mount::handover;
use crate::host::systemd;

/// Why the configuration is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// A person or systemd asked.
    Asked,
    Polled,
}

/// Listens for SIGHUP. From here on it ends nothing any more.
///
/// # Errors
///
/// When the handler cannot be installed.
pub(super) fn requests() -> io::Result<Signal> {
    signal(SignalKind::hangup())
}

/// The configuration in force, and what was told of its sources.
pub(super) struct InForce {
    pub config: Config,
    /// The tags of the instance as they were last read.
    pub tags: Option<BTreeMap<String, String>>,
    /// Why a newer one, or a source, is not in force.
    pub told: Option<String>,
    /// What has been warned of.
    pub warnings: Vec<Fault>,
}

/// Looks at the configuration again whenever there is a reason, for ever.
pub(super) async fn follow(inputs: Inputs, mut current: InForce, mut requests: Signal, outbox: Outbox) {
    loop {
        let reason = wait(&current.config, &mut requests).await;
        if reason == Cause::Asked {
            systemd::reloading();
        }
        match configuration::load(&inputs, current.tags.as_ref()).await {
            Ok(loaded) => take(&mut current, loaded, reason, &outbox).await,
            Err(error) => refuse(&mut current, Chain(&error).to_string(), reason, &outbox),
        }
        if reason == Cause::Asked {
            systemd::ready();
        }
    }
}

/// Hands over what differs, and tells what is faulty with it once.
async fn take(current: &mut InForce, loaded: Loaded, reason: Cause, outbox: &Outbox) {
    let told = loaded.unasked();
    let is_new = loaded.config != current.config;
    if is_new {
        handover::keep_settings(&loaded.to_bytes());
        for consequence in current.config.difference(&loaded.config) {
            tracing::info!(%consequence, "new configuration");
        }
    } else if reason == Cause::Asked {
        tracing::info!("the configuration is the same as before");
    }
    if current.warnings != loaded.warnings {
        loaded.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    }
    if is_new || reason == Cause::Asked || told != current.told {
        outbox.fresh(loaded.config.clone()).await;
        if let Some(why) = &told {
            outbox.refused(why.clone());
        }
    }
    let Loaded { config, tags, warnings, .. } = loaded;
    *current = InForce { config, tags, told, warnings };
}

/// Tells why the configuration in force stays so.
fn refuse(current: &mut InForce, error: String, reason: Cause, outbox: &Outbox) {
    match reason {
        Cause::Asked => tracing::error!(error, "new configuration refused, the old one stays in force"),
        Cause::Polled => {
            tracing::warn!(error, "the configuration cannot be read anew, the old one stays in force");
        }
    }
    outbox.refused(error.clone());
    current.told = Some(error);
}

async fn wait(current: &Config, requests: &mut Signal) -> Cause {
    let poll = current.sources.poll.mul_f64(0.9 + 0.2 * fastrand::f64());
    let elsewhere = current.sources.parameters.is_some()
        || (current.sources.instance_tags && Metadata::from_environment().is_expected());
    let pause = if elsewhere { poll } else { Duration::from_secs(u32::MAX.into()) };
    // Both arms are cancel-safe: a signal that was not waited for is kept, and a timer.
    tokio::select! {
        _ = requests.recv() => Cause::Asked,
        () = sleep(pause) => Cause::Polled,
    }
}
