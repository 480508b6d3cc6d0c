//! What the agent counts while it works, as plain numbers: nothing is decided by them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::repair::Repair;
use super::target::Target;

/// Everything that is counted on a host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stats {
    pub mounts: Vec<MountStats>,
    pub buckets: Vec<BucketStats>,
    pub services: Vec<ServiceStats>,
}

/// One mount that this process serves.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MountStats {
    pub mount: String,
    /// How old an answer may be, as configured.
    pub freshness_ms: u64,
    /// How old the oldest answer of the last minute was; `None`: nobody asked.
    pub oldest_answer_ms: Option<u64>,
    pub cache_hits: u64,
    pub cache_misses: u64,
    pub cache_bytes: u64,
    pub cache_limit_bytes: u64,
    /// Names that the kernel holds, and what they take.
    pub names: u64,
    pub names_bytes: u64,
    /// Keys that no file name can stand for, and those that the store says nothing about.
    pub hidden_keys: u64,
    pub unreadable_keys: u64,
    /// How often another process went on with the session.
    pub resumed: u64,
}

/// One bucket, with everything that this process asks it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BucketStats {
    pub bucket: String,
    /// Attempts since the agent started, by what was asked.
    pub requests: BTreeMap<String, u64>,
    /// Of these, how many were refused, failed or had no answer.
    pub failed: u64,
    /// What a month of requests costs, in hundredths of a dollar, by the last hour; `None`: too early to say.
    pub cents_per_month: Option<u64>,
}

/// One service that is probed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceStats {
    pub container: String,
    /// How long the last good answer took.
    pub latency_ms: u64,
}

/// How often a repair was tried, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairCount {
    pub target: Target,
    pub action: Repair,
    pub done: u64,
    pub failed: u64,
}
