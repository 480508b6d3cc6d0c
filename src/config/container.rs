//! What the settings of a container are made of, and how it is written.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

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
