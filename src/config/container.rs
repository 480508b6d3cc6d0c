//! The settings of a container, and how they are written.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

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

impl Owner {
    /// The text of the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Owner::Ecs => "ecs",
            Owner::Mapkeeper => "mapkeeper",
        }
    }
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

impl fmt::Display for Port {
    /// The text of the configuration: `127.0.0.1:8080:80/udp`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host_ip {
            Some(IpAddr::V6(address)) => write!(out, "[{address}]:")?,
            Some(IpAddr::V4(address)) => write!(out, "{address}:")?,
            None => {}
        }
        write!(out, "{}:{}", self.host, self.container)?;
        match self.protocol {
            Protocol::Tcp => Ok(()),
            Protocol::Udp => out.write_str("/udp"),
        }
    }
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

impl fmt::Display for Bind {
    /// The text of the configuration: `/source:/target:ro`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}", self.source.display(), self.target)?;
        if self.options.is_empty() { Ok(()) } else { write!(out, ":{}", self.options.join(",")) }
    }
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

impl Expect {
    /// The text of the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Expect::Wms => "wms",
            Expect::Http => "http",
        }
    }
}
