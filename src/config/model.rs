//! The configuration as plain data, with the meaning, unit and default of each setting.
//!
//! What must hold: a value that exists has been checked; nothing here reads or asks.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::container::Container;
use super::signal::StackSignal;
use crate::error::{Advise, Exit};

/// A setting that is accepted and checked, and that this version does not act on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// The setting, or the table, changes nothing.
    NoEffect { key: String },
}

impl fmt::Display for Notice {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Notice::NoEffect { key } => write!(out, "`{key}` has no effect in this version"),
        }
    }
}

/// Why a command cannot serve a mount that is configured correctly.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("mount {name:?} has source {source_text:?}, and `mapkeeper mount` mounts s3:// only")]
    Source { name: String, source_text: String },
}

impl Advise for Refusal {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Refusal::Source { .. } => {
                "mount it with mount(8), or let `mapkeeper run` do it: [[mount]] in the configuration"
                    .to_owned()
            }
        })
    }

    fn exit(&self) -> Exit {
        Exit::Usage
    }
}

/// The whole configuration, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// AWS region of everything that does not name its own. `None`: the environment, the AWS profile
    /// or the instance metadata say it.
    pub region: Option<String>,
    /// Where settings come from, beside file, environment and flags.
    pub sources: Sources,
    /// Where credentials come from.
    pub credentials: Credentials,
    /// The mounts, at least one, in the order of the file. Names and paths are unique, and no path
    /// lies below another.
    pub mounts: Vec<Mount>,
    /// The containers that are served by the mounts, in the order of the file.
    pub containers: Vec<Container>,
    /// How the host is prepared at boot.
    pub bootstrap: Bootstrap,
    /// Membership in an ECS cluster.
    pub ecs: Option<Ecs>,
    /// The listener for load balancers and Prometheus.
    pub health: Option<Health>,
    /// How far an instance goes that cannot be repaired. Default: it says that it is not ready, and stays.
    pub escalate: Escalate,
}

impl Config {
    /// Everything that is set and that this version does not act on.
    pub fn notices(&self) -> Vec<Notice> {
        let mut notices = Vec::new();
        for (number, mount) in self.mounts.iter().enumerate() {
            if mount.disk_cache > 0 {
                notices.push(Notice::NoEffect { key: format!("mount[{number}].disk_cache") });
            }
        }
        notices
    }
}

impl Mount {
    /// Why `mapkeeper mount` cannot serve this mount; `None` when it can. The agent serves them all.
    pub fn refusal(&self) -> Option<Refusal> {
        let name = self.name.clone();
        match &self.source {
            Source::S3 { .. } => None,
            other => Some(Refusal::Source { name, source_text: other.to_string() }),
        }
    }
}

/// Where settings come from, beside file, environment and flags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sources {
    /// Path of Parameter Store below which settings are looked for. `None`: nowhere.
    pub parameters: Option<String>,
    /// Read the tags `mapkeeper:*` of the instance, where this is one. Default false.
    pub instance_tags: bool,
    /// How often all sources are looked at again, give or take a tenth. Default 1 min; 1 s to 24 h.
    pub poll: Duration,
}

impl Default for Sources {
    fn default() -> Sources {
        Sources { parameters: None, instance_tags: false, poll: Duration::from_secs(60) }
    }
}

/// Where credentials come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Name or ARN of a secret in Secrets Manager. `None`: the AWS default chain.
    pub secret: Option<String>,
    /// ARN of a role that the default chain assumes. Never together with `secret`.
    pub role: Option<String>,
    /// How often the secret is looked at again. Default 5 min; 1 s to 24 h.
    pub refresh: Duration,
}

/// One bucket (or other source) at one directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Name in messages, status and metrics: letters, digits, `.`, `_`, `-`, at most 64. Default: the
    /// last component of `path`.
    pub name: String,
    /// What is mounted.
    pub source: Source,
    /// The mount point: absolute, not `/`, without `.` and `..`.
    pub path: PathBuf,
    /// Refuse every write. Default true.
    pub read_only: bool,
    /// A change in the bucket is seen by an `open` at most this much later. Default 1 s; at most 1 h;
    /// zero: every open asks S3.
    pub freshness: Duration,
    /// Owner of objects without s3fs headers. Default 0.
    pub uid: u32,
    /// Group of objects without s3fs headers. Default 0.
    pub gid: u32,
    /// Permission bits of files without s3fs headers. Default 0644.
    pub file_mode: u32,
    /// Permission bits of directories without s3fs headers. Default 0755.
    pub dir_mode: u32,
    /// Bytes that all caches and buffers of this mount may hold together. Default 128 MiB, at least
    /// 16 MiB.
    pub memory: u64,
    /// Bytes of the block cache on disk. Default 0: none.
    pub disk_cache: u64,
    /// Last-known-good content is served this long when S3 cannot be asked. Default 1 h, at most 30
    /// days; zero: never.
    pub max_stale: Duration,
    /// Where files are kept while they are being written. Default `/var/lib/mapkeeper/staging`.
    pub staging: PathBuf,
    /// What happens to a write if somebody else has written the object since it was opened. Default fail.
    pub on_conflict: OnConflict,
    /// Have the kernel send again what a process before left unanswered, where it can (Linux 6.9 and later). Without
    /// it, and on older kernels, the answers come from what that process wrote down. Default true.
    pub resend: bool,
    /// Show set-id bits of files, and `security.*` and `trusted.*` attributes. Default false.
    pub suid: bool,
    /// Base URL of an S3 server other than AWS.
    pub endpoint_url: Option<String>,
    /// Name the bucket in the path of a request instead of the host. Default: true with
    /// `endpoint_url`, else false.
    pub path_style: bool,
    /// AWS region of the bucket. Default: the region of the configuration.
    pub region: Option<String>,
    /// Profile of the AWS configuration files from which the default chain reads.
    pub profile: Option<String>,
}

/// What happens to a write if somebody else was faster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnConflict {
    /// It is an error, and what was written is kept on disk.
    Fail,
    /// The last one wins.
    Overwrite,
}

impl OnConflict {
    /// The text of the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            OnConflict::Fail => "fail",
            OnConflict::Overwrite => "overwrite",
        }
    }
}

/// What a mount shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// `s3://bucket[/prefix]`
    S3 {
        /// A name by the rules of S3.
        bucket: String,
        /// The part of the bucket that is shown: empty, or a key prefix that ends in `/`.
        prefix: String,
    },
    /// `nfs://host/export`
    Nfs {
        /// Host name or address of the server.
        host: String,
        /// Absolute path of the export.
        export: String,
    },
    /// `efs://fs-id[/path]`
    Efs {
        /// File system id, `fs-...`, or the value of its tag `Name`.
        id: String,
        /// Absolute path inside the file system; `/` is all of it.
        path: String,
    },
    /// `external:`: somebody else mounts it, mapkeeper supervises it.
    External,
}

impl fmt::Display for Source {
    /// The text of the configuration: `s3://bucket/maps`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::S3 { bucket, prefix } if prefix.is_empty() => write!(out, "s3://{bucket}"),
            Source::S3 { bucket, prefix } => {
                write!(out, "s3://{bucket}/{}", prefix.strip_suffix('/').unwrap_or(prefix))
            }
            Source::Nfs { host, export } => write!(out, "nfs://{host}{export}"),
            Source::Efs { id, path } if path == "/" => write!(out, "efs://{id}"),
            Source::Efs { id, path } => write!(out, "efs://{id}{path}"),
            Source::External => write!(out, "external:"),
        }
    }
}

/// How the host is prepared at boot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bootstrap {
    /// Files to be put in place, and commands to be run after that.
    pub overlay: Option<Overlay>,
    /// Version of the manifest in a bucket that keeps versions. `None`: the newest.
    pub overlay_version: Option<String>,
    /// Keep containers with a network of their own from the instance metadata. Default false.
    pub block_imds: bool,
    /// Where user data fetches the program from.
    pub binary_url: Option<String>,
    /// Checksum of the program there.
    pub binary_sha256: Option<String>,
    /// What of CloudFormation is told how the preparation ended.
    pub signal: Option<StackSignal>,
}

/// Where the files of an overlay and its `manifest.toml` are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Overlay {
    Bucket {
        bucket: String,
        /// Empty, or a key prefix that ends in `/`.
        prefix: String,
    },
    Directory(PathBuf),
}

impl fmt::Display for Overlay {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Overlay::Bucket { bucket, prefix } => {
                let (bucket, prefix) = (bucket.clone(), prefix.clone());
                Source::S3 { bucket, prefix }.fmt(out)
            }
            Overlay::Directory(path) => write!(out, "{}", path.display()),
        }
    }
}

/// How far an instance goes that cannot be repaired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Escalate {
    /// It says that it is not ready, and stays.
    #[default]
    Drain,
    /// It asks AWS whether it could end itself, says so, and stays.
    DryRun,
    /// It ends itself, so that its Auto Scaling group puts another in its place.
    Terminate,
}

impl Escalate {
    /// The text of the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Escalate::Drain => "drain",
            Escalate::DryRun => "dry-run",
            Escalate::Terminate => "terminate",
        }
    }
}

/// Membership in an ECS cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ecs {
    /// Name of the cluster.
    pub cluster: String,
    /// Attributes of the container instance, for placement constraints.
    pub attributes: BTreeMap<String, String>,
}

/// The listener for load balancers and Prometheus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    /// Address and port of `GET /healthz` and `GET /metrics`.
    pub listen: SocketAddr,
}
