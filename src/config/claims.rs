//! What the sections lay claim to: what has to be unique, handed from reading to checking.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::container::Port;
use super::setting::KeyPath;

/// What the sections lay claim to, with the path of the claim; only good values.
#[derive(Debug, Default)]
pub(super) struct Claims {
    pub names: Vec<(KeyPath, String)>,
    pub paths: Vec<(KeyPath, PathBuf)>,
    pub containers: Vec<(KeyPath, String)>,
    pub ports: Vec<(KeyPath, Port)>,
    pub targets: Vec<(KeyPath, String)>,
    pub listeners: Vec<(KeyPath, SocketAddr)>,
    pub probes: Vec<(KeyPath, String, Vec<Port>)>,
}
