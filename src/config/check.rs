//! What must hold between settings: unique names, paths and ports; a probe that meets its container.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use super::container::{Port, Protocol};
use super::fault::{Fault, Problem};
use super::setting::{KeyPath, Step};
use super::source::{Entries, Origin, Value};
use super::value;

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

/// Everything that is claimed twice.
pub(super) fn faults(entries: &Entries, claims: &Claims) -> Vec<Fault> {
    let mut faults = Vec::new();
    taken(entries, &claims.names, "the name", &mut faults);
    mount_points(entries, &claims.paths, &mut faults);
    taken(entries, &claims.containers, "the name", &mut faults);
    ports(entries, claims, &mut faults);
    targets(entries, &claims.targets, &mut faults);
    faults
}

/// What is allowed and yet hardly meant.
pub(super) fn warnings(entries: &Entries, claims: &Claims) -> Vec<Fault> {
    let elsewhere = |(path, url, ports): &(KeyPath, String, Vec<Port>)| {
        let port = value::port_of_url(url)?;
        if ports.is_empty() || ports.iter().any(|known| known.host == port && known.protocol == Protocol::Tcp)
        {
            return None;
        }
        let ports: Vec<String> = ports.iter().map(|known| known.host.to_string()).collect();
        Some(entries.fault(path, Problem::ProbeElsewhere { port, ports: ports.join(", ") }))
    };
    claims.probes.iter().filter_map(elsewhere).collect()
}

fn taken(entries: &Entries, claims: &[(KeyPath, String)], what: &'static str, faults: &mut Vec<Fault>) {
    for (number, (path, name)) in claims.iter().enumerate() {
        if let Some((first, _)) = claims[..number].iter().find(|(_, known)| known == name) {
            faults.push(entries.fault(path, Problem::Taken { what, other: section_of(entries, first) }));
        }
    }
}

fn mount_points(entries: &Entries, claims: &[(KeyPath, PathBuf)], faults: &mut Vec<Fault>) {
    for (number, (path, point)) in claims.iter().enumerate() {
        let others = || claims.iter().enumerate().filter(|(other, _)| *other != number);
        let same = others().find(|(other, (_, known))| *other < number && known == point);
        let above = others().find(|(_, (_, known))| known != point && point.starts_with(known));
        let problem = match (same, above) {
            (Some((_, (first, _))), _) => {
                Problem::Taken { what: "the mount point", other: section_of(entries, first) }
            }
            (None, Some((_, (outer, _)))) => Problem::Nested { other: section_of(entries, outer) },
            (None, None) => continue,
        };
        faults.push(entries.fault(path, problem));
    }
}

/// A port of the host, on all addresses or on one.
struct Claim<'a> {
    path: &'a KeyPath,
    address: Option<IpAddr>,
    port: u16,
    protocol: Protocol,
}

fn ports(entries: &Entries, claims: &Claims, faults: &mut Vec<Fault>) {
    let of_containers = claims.ports.iter().map(|(path, port)| Claim {
        path,
        address: port.host_ip.filter(|address| !address.is_unspecified()),
        port: port.host,
        protocol: port.protocol,
    });
    let of_listeners = claims.listeners.iter().map(|(path, listen)| Claim {
        path,
        address: Some(listen.ip()).filter(|address| !address.is_unspecified()),
        port: listen.port(),
        protocol: Protocol::Tcp,
    });
    let all: Vec<Claim<'_>> = of_containers.chain(of_listeners).collect();
    for (number, claim) in all.iter().enumerate() {
        let meets = |known: &&Claim<'_>| {
            let same_address =
                known.address.is_none() || claim.address.is_none() || known.address == claim.address;
            same_address && known.port == claim.port && known.protocol == claim.protocol
        };
        if let Some(first) = all[..number].iter().find(meets) {
            let protocol = if claim.protocol == Protocol::Udp { "udp" } else { "tcp" };
            let port = format!("{}/{protocol}", claim.port);
            let problem = Problem::PortTaken { port, other: entries.written(first.path) };
            faults.push(fault_of_item(entries, claim.path, problem));
        }
    }
}

fn targets(entries: &Entries, claims: &[(KeyPath, String)], faults: &mut Vec<Fault>) {
    for (number, (path, target)) in claims.iter().enumerate() {
        let same = |(known, other): &&(KeyPath, String)| other == target && known.0[..2] == path.0[..2];
        if let Some((first, _)) = claims[..number].iter().find(same) {
            let problem = Problem::TargetTaken { target: target.clone(), other: entries.written(first) };
            faults.push(fault_of_item(entries, path, problem));
        }
    }
}

/// A fault of the value at `path`, which may be an item of a list.
fn fault_of_item(entries: &Entries, path: &KeyPath, problem: Problem) -> Fault {
    let Some((Step::Place(place), list)) = path.0.split_last() else { return entries.fault(path, problem) };
    let list = KeyPath(list.to_vec());
    let mut fault = entries.fault(&list, problem);
    fault.key = entries.written(path);
    if let Some(Value::List(items)) = entries.entry(&list).map(|entry| &entry.value)
        && let Some(item) = items.get(*place)
    {
        fault.origin = Some(item.origin.clone());
        fault.found = Some(item.shown());
    }
    fault
}

/// `mount[0]` for `mount[0].name`.
fn section_of(entries: &Entries, path: &KeyPath) -> String {
    entries.written(&KeyPath(path.0[..path.0.len().saturating_sub(1)].to_vec()))
}

/// The layers that cannot say where they are themselves.
pub(super) fn circular(entries: &Entries) -> Vec<Fault> {
    let sources = KeyPath::default().with("sources");
    let circular = |key: &str, is_circular: fn(&Origin) -> bool, reason: &'static str| {
        let path = sources.with(key);
        let origin = entries.origin(&path);
        let problem = Problem::Unsupported { reason };
        is_circular(&origin).then(|| Fault::new(Some(origin), path.to_string(), problem))
    };
    let is_parameter = |origin: &Origin| matches!(origin, Origin::Parameter { .. });
    [
        circular("parameters", is_parameter, "a parameter cannot say where the parameters are"),
        circular("instance_tags", is_parameter, "it is needed before the parameters are read"),
    ]
    .into_iter()
    .flatten()
    .collect()
}
