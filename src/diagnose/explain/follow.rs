//! A map followed from link to link, in the place that a person means.

use serde::Serialize;

use super::container::host;
use super::location::{MapLocation, places};
use super::mount::{bind, file, mounted};
use super::object::of_bucket;
use super::service;
use crate::config::{Config, Source};
use crate::diagnose::result::{CheckResult, Grade, exit};
use crate::error::{Advise, Exit};
use ladder::state::Phase;

/// What was found of one map.
#[derive(Debug, Clone, Serialize)]
pub struct Explanation {
    /// Its address in the bucket.
    pub map: String,
    /// The links of the chain, in order.
    pub links: Vec<CheckResult>,
    /// What is unwise in the mapfile.
    pub remarks: Vec<CheckResult>,
}

impl Explanation {
    /// The first link that is wrong.
    pub fn first_wrong(&self) -> Option<&CheckResult> {
        self.links.iter().find(|link| link.grade == Grade::Fail)
    }

    /// 0 where every link is good.
    pub fn exit(&self) -> Exit {
        exit(&self.links)
    }
}

/// Why a map was not followed.
#[derive(Debug, thiserror::Error)]
#[error("no mount shows {map:?}")]
pub struct ExplainError {
    map: String,
    mounts: Vec<String>,
}

impl Advise for ExplainError {
    fn hint(&self) -> Option<String> {
        Some(format!(
            "name it as it is in the bucket, on the host or in the container; there is {}",
            self.mounts.join(", ")
        ))
    }

    fn exit(&self) -> Exit {
        Exit::Usage
    }
}

/// Follows the map that a person calls `map`.
///
/// # Errors
///
/// When no mount of `config` can show it.
pub async fn explain(config: &Config, map: &str) -> Result<Explanation, ExplainError> {
    let mut candidates = places(config, map);
    candidates.retain(|place| !place.below.is_empty());
    let (first, others) = candidates.split_first().ok_or_else(|| ExplainError {
        map: map.to_owned(),
        mounts: config
            .mounts
            .iter()
            .map(|mount| format!("{} at {}", mount.source, mount.path.display()))
            .collect(),
    })?;
    let explained = follow(config, first).await;
    // A name that several mounts could have is that of the one that has it.
    for place in others {
        if explained.links.first().is_some_and(|object| object.grade == Grade::Ok) {
            break;
        }
        let other = follow(config, place).await;
        if other.links.first().is_some_and(|object| object.grade == Grade::Ok) {
            return Ok(other);
        }
    }
    Ok(explained)
}

async fn follow(config: &Config, place: &MapLocation<'_>) -> Explanation {
    let host = host(config, place).await;
    let mut links = Vec::new();
    let mut remarks = Vec::new();
    let (mut object, mut restored) = (None, None);
    if matches!(place.mount.source, Source::S3 { .. }) {
        let told = of_bucket(config, place, &host).await;
        links.extend(told.links);
        (remarks, object, restored) = (told.remarks, told.object, told.restored);
    }
    let (mounted, device) = mounted(place.mount);
    let serves = mounted.grade == Grade::Ok;
    links.push(mounted);
    if serves {
        links.push(file(place, object.as_ref()).await);
    }
    if place.container.is_some() {
        links.push(bind(place, host.facts.as_ref(), device));
    }
    let runs = host.result.grade != Grade::Fail;
    let host_running = host.facts.as_ref().is_some_and(|facts| facts.seen.phase == Phase::Running);
    links.push(host.result);
    if let (Some(container), Some(inside), true) = (place.container, place.inside(), host_running || runs) {
        links.push(service::asked(container, &inside.to_string_lossy(), restored.as_deref()).await);
    }
    Explanation { map: place.url(&place.below), links, remarks }
}
