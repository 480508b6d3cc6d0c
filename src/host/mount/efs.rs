//! EFS file systems by their tag `Name`: exactly one may have it.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_efs::Client;
use aws_sdk_efs::types::FileSystemDescription;
use tokio::time::timeout;

use super::error::KernelError;
use crate::error::Chain;

/// Longest wait for all pages.
const LIMIT: Duration = Duration::from_secs(20);

/// The id of the only file system whose tag `Name` is `name`.
///
/// # Errors
///
/// [`KernelError::NoFileSystem`], [`KernelError::Ambiguous`], or [`KernelError::Asking`] when EFS cannot be asked.
pub async fn file_system_id(sdk: &SdkConfig, name: &str) -> Result<String, KernelError> {
    let asking = |reason| KernelError::Asking { name: name.to_owned(), reason };
    let ids = match timeout(LIMIT, all_called(sdk, name)).await {
        Err(_) => return Err(asking(format!("no answer within {} s", LIMIT.as_secs()))),
        Ok(ids) => ids.map_err(asking)?,
    };
    match ids.as_slice() {
        [id] => Ok(id.clone()),
        [] => Err(KernelError::NoFileSystem { name: name.to_owned() }),
        _ => Err(KernelError::Ambiguous { name: name.to_owned(), ids }),
    }
}

async fn all_called(sdk: &SdkConfig, name: &str) -> Result<Vec<String>, String> {
    let all = Client::new(sdk).describe_file_systems().into_paginator().items().send();
    let all = all.collect::<Result<Vec<_>, _>>().await.map_err(|error| Chain(&error).to_string())?;
    let called = |found: &FileSystemDescription| {
        found.tags().iter().any(|tag| tag.key() == "Name" && tag.value() == name)
    };
    Ok(all.into_iter().filter(called).map(|found| found.file_system_id).collect())
}
