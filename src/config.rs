//! Every setting of mapkeeper: its meaning, unit, default and limits.
//!
//! The types here are plain data that every other part reads. They are made in one way only, by
//! [`load`](Config) from layers (defaults, file, environment, flags), so a value that exists has been
//! checked. Nothing here touches the host beyond reading the configuration file.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// The whole configuration, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// AWS region of everything that does not name its own. `None`: the environment, the AWS profile
    /// or the instance metadata say it.
    pub region: Option<String>,
    /// Where credentials come from.
    pub credentials: Credentials,
    /// The mounts, at least one, in the order of the file. Names and paths are unique, and no path
    /// lies below another.
    pub mounts: Vec<Mount>,
    /// The containers that are served by the mounts, in the order of the file.
    pub containers: Vec<Container>,
    /// Membership in an ECS cluster.
    pub ecs: Option<Ecs>,
    /// The listener for load balancers and Prometheus.
    pub health: Option<Health>,
}

/// Where credentials come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Name or ARN of a secret in Secrets Manager. `None`: the AWS default chain.
    pub secret: Option<String>,
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
        /// File system id, `fs-...`.
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

/// A container that reads from the mounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Who creates it. Default ECS.
    pub owner: Owner,
    /// How it is recognised among the containers of the host. A container that mapkeeper creates is
    /// always recognised by its name.
    pub selector: Selector,
    /// The image to create it from; always present when mapkeeper is the owner.
    pub image: Option<String>,
    /// Ports of the host that lead into the container; no two claim the same one.
    pub ports: Vec<Port>,
    /// Directories of the host that the container sees; no two have the same target.
    pub binds: Vec<Bind>,
    /// Environment of the container. May hold secrets: never log a value.
    pub environment: BTreeMap<String, String>,
    /// How to ask whether the service in it answers.
    pub probe: Option<Probe>,
}

/// Who creates a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// ECS starts it; mapkeeper watches it.
    Ecs,
    /// mapkeeper creates it from the configuration.
    Mapkeeper,
}

/// How a container is recognised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// By its name, whole.
    Name(String),
    /// By a label, an image, or both; at least one is given.
    Match {
        /// `key` or `key=value`.
        label: Option<String>,
        /// Image reference as the container was created with.
        image: Option<String>,
    },
}

/// A port of the host that leads into a container: `8080:80`, `127.0.0.1:8080:80/udp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Port {
    /// Address of the host it listens on. `None`: all.
    pub host_ip: Option<IpAddr>,
    /// Port of the host, never 0.
    pub host: u16,
    /// Port inside the container, never 0.
    pub container: u16,
    /// Default TCP.
    pub protocol: Protocol,
}

/// Transport protocol of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    Tcp,
    Udp,
}

/// A directory of the host that a container sees: `/source:/target:ro,rslave`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// Absolute path on the host.
    pub source: PathBuf,
    /// Absolute path in the container.
    pub target: String,
    /// `ro`, `rslave`, ...; in the order given.
    pub options: Vec<String>,
}

/// How to ask whether a service answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// An `http://` URL.
    pub url: String,
    /// What a good answer is. Default WMS.
    pub expect: Expect,
    /// Time from one question to the next. Default 10 s; 1 s to 1 h.
    pub interval: Duration,
    /// Longest wait for an answer. Default 5 s; at least 100 ms, at most `interval`.
    pub timeout: Duration,
}

/// What a good answer of a probe is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// A WMS capabilities document or an image. A status of 200 proves nothing: MapServer says 200 to
    /// a broken map.
    Wms,
    /// Any status of 2xx or 3xx.
    Http,
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
