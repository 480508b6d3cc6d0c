//! Telling CloudFormation how the preparation of this host ended: the only place that speaks to it.
//!
//! What must hold: a host is prepared, or not, whatever CloudFormation says to that; nobody waits long for it.

use crate::config::{Config, StackSignal};

/// Sends the signal that `config` asks for, if it does. What goes wrong is said in the log.
pub(super) async fn send(config: &Config, is_prepared: bool) {
    let Some(signal) = &config.bootstrap.signal else { return };
    let StackSignal { stack, resource } = signal;
    match say(signal, config.region.as_deref(), is_prepared).await {
        Ok(()) => tracing::info!(stack, resource, is_prepared, "CloudFormation was told"),
        // It takes signals only while it waits for them: at later boots this is what it says.
        Err(reason) => {
            tracing::warn!(stack, resource, is_prepared, error = reason, "CloudFormation was not told")
        }
    }
}

#[cfg(feature = "cloudformation")]
async fn say(signal: &StackSignal, region: Option<&str>, is_prepared: bool) -> Result<(), String> {
    use std::time::Duration;

    use aws_sdk_cloudformation::Client;
    use aws_sdk_cloudformation::types::ResourceSignalStatus;

    use crate::aws;
    use crate::error::Chain;
    use crate::host::instance::Metadata;

    /// Longest wait for the instance metadata and for CloudFormation.
    const LIMIT: Duration = Duration::from_secs(20);

    let status = if is_prepared { ResourceSignalStatus::Success } else { ResourceSignalStatus::Failure };
    let told = async {
        let id = Metadata::from_environment().id().await.map_err(|error| Chain(&error).to_string())?;
        let client = Client::new(&aws::sdk_config(region, None, None).await);
        let request = client.signal_resource().stack_name(&signal.stack).unique_id(id).status(status);
        let sent = request.logical_resource_id(&signal.resource).send().await;
        sent.map(drop).map_err(|error| match error.as_service_error() {
            Some(refused) => Chain(refused).to_string(),
            None => Chain(&error).to_string(),
        })
    };
    tokio::time::timeout(LIMIT, told).await.unwrap_or_else(|_| Err("no answer".to_owned()))
}

#[cfg(not(feature = "cloudformation"))]
async fn say(_signal: &StackSignal, _region: Option<&str>, _is_prepared: bool) -> Result<(), String> {
    Err("this program was built without CloudFormation".to_owned())
}
