//! A running agent and its configuration: read again at SIGHUP, and now and then where parts of it are elsewhere.
//!
//! ```text
//!   SIGHUP ------------------+
//!   every `sources.poll` ----+--> gather --refused--> said; the old configuration stays in force
//!   (parameters, tags)                 |--the same--> nothing
//!                                      +--another---> consequences named, then handed to the agent
//! ```

use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::sleep;

use crate::agent::live::reload::Outbox;
use crate::config::{Config, Inputs, Loaded};
use crate::error::Chain;
use crate::instance::Metadata;
use crate::mount::handover;
use crate::systemd;

/// Why the configuration is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
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

/// Looks at the configuration again whenever there is a reason, for ever.
pub(super) async fn follow(inputs: Inputs, mut current: Config, mut requests: Signal, outbox: Outbox) {
    loop {
        let reason = wait(&current, &mut requests).await;
        if reason == Reason::Asked {
            systemd::reloading();
        }
        match fresh(&inputs).await {
            Ok(Loaded { config, .. }) if config == current => {
                if reason == Reason::Asked {
                    tracing::info!("the configuration is the same as before");
                    outbox.fresh(config).await;
                }
            }
            Ok(loaded) => {
                handover::keep_settings(&loaded.to_bytes());
                let new = loaded.config;
                for consequence in current.difference(&new) {
                    tracing::info!(%consequence, "new configuration");
                }
                outbox.fresh(new.clone()).await;
                current = new;
            }
            Err(error) => {
                if reason == Reason::Asked {
                    tracing::error!(error, "new configuration refused, the old one stays in force");
                } else {
                    tracing::warn!(
                        error,
                        "the configuration cannot be read anew, the old one stays in force"
                    );
                }
                outbox.refused(error);
            }
        }
        if reason == Reason::Asked {
            systemd::ready();
        }
    }
}

async fn wait(current: &Config, requests: &mut Signal) -> Reason {
    let poll = current.sources.poll.mul_f64(0.9 + 0.2 * fastrand::f64());
    let elsewhere = current.sources.parameters.is_some()
        || (current.sources.instance_tags && Metadata::from_environment().is_expected());
    let pause = if elsewhere { poll } else { Duration::from_secs(u32::MAX.into()) };
    // Both arms are cancel-safe: a signal that was not waited for is kept, and a timer.
    tokio::select! {
        _ = requests.recv() => Reason::Asked,
        () = sleep(pause) => Reason::Polled,
    }
}

/// The configuration as it is now.
async fn fresh(inputs: &Inputs) -> Result<Loaded, String> {
    Loaded::gather(inputs).await.map_err(|error| Chain(&error).to_string())
}
