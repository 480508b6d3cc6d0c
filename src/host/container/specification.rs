//! From the configuration of a container to what Docker is asked to make.
//!
//! The fingerprint is taken from the configuration, not from Docker's form of it, and covers all that
//! shapes the container: an upgrade of Docker changes nothing, a changed port or bind does.

use std::collections::HashMap;
use std::hash::Hasher;

use bollard::models::{
    ContainerCreateBody, HostConfig, HostConfigLogConfig, Mount, MountBindOptions,
    MountBindOptionsPropagationEnum, MountType, PortBinding, RestartPolicy, RestartPolicyNameEnum,
};

use fnv::FnvHasher;

use super::identity::{LABEL_AGENT, LABEL_MANAGED, LABEL_SPECIFICATION};
use crate::config::{Bind, Container, Port, Protocol};

/// Changes when what we make of the same configuration changes.
const GENERATION: &str = "2";

/// A hash of everything that the container is made from, 16 hexadecimal digits.
pub fn fingerprint(wanted: &Container) -> String {
    let mut hash = Fields::default();
    hash.field(GENERATION);
    hash.field(wanted.image.as_deref().unwrap_or(""));
    hash.list(wanted.ports.iter().map(|port| {
        let host_ip = port.host_ip.map(|address| address.to_string()).unwrap_or_default();
        [host_ip, port.host.to_string(), exposed(port)].join(" ")
    }));
    for bind in &wanted.binds {
        hash.field(&bind.source.to_string_lossy());
        hash.field(&bind.target);
        hash.list(bind.options.iter().cloned());
    }
    hash.list(wanted.environment.iter().map(|(name, value)| format!("{name}={value}")));
    format!("{:016x}", hash.0.finish())
}

/// What Docker is asked to make, by the agent with this runtime directory.
pub(super) fn body(wanted: &Container, image: &str, agent: Option<&str>) -> ContainerCreateBody {
    let mut labels = HashMap::from([
        (LABEL_MANAGED.to_owned(), "true".to_owned()),
        (LABEL_SPECIFICATION.to_owned(), fingerprint(wanted)),
    ]);
    labels.extend(agent.map(|agent| (LABEL_AGENT.to_owned(), agent.to_owned())));
    let mut bindings: HashMap<String, Option<Vec<PortBinding>>> = HashMap::new();
    for port in &wanted.ports {
        let binding = PortBinding {
            host_ip: port.host_ip.map(|address| address.to_string()),
            host_port: Some(port.host.to_string()),
        };
        bindings.entry(exposed(port)).or_default().get_or_insert_default().push(binding);
    }
    ContainerCreateBody {
        image: Some(image.to_owned()),
        env: Some(wanted.environment.iter().map(|(name, value)| format!("{name}={value}")).collect()),
        labels: Some(labels),
        exposed_ports: Some(bindings.keys().cloned().collect()),
        host_config: Some(HostConfig {
            port_bindings: Some(bindings),
            mounts: Some(wanted.binds.iter().map(mount).collect()),
            restart_policy: Some(RestartPolicy {
                name: Some(RestartPolicyNameEnum::NO),
                maximum_retry_count: None,
            }),
            // A container that writes errors for months must not fill the disk.
            log_config: Some(HostConfigLogConfig {
                typ: Some("json-file".to_owned()),
                config: Some(HashMap::from(
                    [("max-size", "10m"), ("max-file", "3")]
                        .map(|(key, value)| (key.to_owned(), value.to_owned())),
                )),
            }),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    }
}

fn exposed(port: &Port) -> String {
    let protocol = match port.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    };
    format!("{}/{protocol}", port.container)
}

/// A bind by the mounts interface: unlike a `-v` bind it fails when its source is missing.
fn mount(bind: &Bind) -> Mount {
    let has = |option: &str| bind.options.iter().any(|given| given == option);
    let propagation = bind.options.iter().find_map(|option| propagation(option));
    Mount {
        target: Some(bind.target.clone()),
        source: Some(bind.source.to_string_lossy().into_owned()),
        typ: Some(MountType::BIND),
        read_only: Some(has("ro")),
        bind_options: propagation
            .map(|propagation| MountBindOptions { propagation: Some(propagation), ..Default::default() }),
        ..Mount::default()
    }
}

fn propagation(option: &str) -> Option<MountBindOptionsPropagationEnum> {
    Some(match option {
        "private" => MountBindOptionsPropagationEnum::PRIVATE,
        "rprivate" => MountBindOptionsPropagationEnum::RPRIVATE,
        "shared" => MountBindOptionsPropagationEnum::SHARED,
        "rshared" => MountBindOptionsPropagationEnum::RSHARED,
        "slave" => MountBindOptionsPropagationEnum::SLAVE,
        "rslave" => MountBindOptionsPropagationEnum::RSLAVE,
        _ => return None,
    })
}

/// FNV-1a, 64 bits: the same on every machine and in every release of Rust. It only has to tell
/// configurations apart, nobody gains by a collision.
#[derive(Default)]
struct Fields(FnvHasher);

impl Fields {
    /// Takes in one field. Its length goes first, so that fields cannot run into each other.
    fn field(&mut self, text: &str) {
        self.0.write(&(text.len() as u64).to_le_bytes());
        self.0.write(text.as_bytes());
    }

    fn list(&mut self, items: impl ExactSizeIterator<Item = String>) {
        self.field(&items.len().to_string());
        for item in items {
            self.field(&item);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted() -> Container {
        crate::config::tests::container(
            "owner = \"mapkeeper\"\nname = \"mapserver\"\nimage = \"mapserver:8\"\nports = [\"127.0.0.1:8080:80\"]\n\
             binds = [\"/srv/maps:/mapfiles:ro,rslave\"]\nenvironment = { MS_ERRORFILE = \"stderr\" }\n",
        )
    }

    #[test]
    fn the_fingerprint_is_the_same_on_every_machine() {
        assert_eq!(fingerprint(&wanted()), fingerprint(&wanted().clone()));
        assert_eq!(fingerprint(&wanted()), "a938259a6276a808");
    }

    #[test]
    fn whatever_shapes_the_container_changes_the_fingerprint() {
        let changes: [fn(&mut Container); 8] = [
            |wanted| wanted.image = Some("mapserver:9".to_owned()),
            |wanted| wanted.ports[0].host = 8081,
            |wanted| wanted.ports[0].host_ip = None,
            |wanted| wanted.ports[0].protocol = Protocol::Udp,
            |wanted| wanted.binds[0].options.clear(),
            |wanted| wanted.binds[0].source = "/srv/other".into(),
            |wanted| drop(wanted.environment.insert("A".to_owned(), "B".to_owned())),
            |wanted| wanted.ports.clear(),
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let mut other = wanted();
            change(&mut other);
            assert_ne!(fingerprint(&wanted()), fingerprint(&other), "change {number}");
        }
    }

    #[test]
    fn a_changed_probe_does_not_recreate_the_container() {
        let mut other = wanted();
        other.probe = Some(crate::config::Probe {
            url: "http://127.0.0.1:8080/".to_owned(),
            expect: crate::config::Expect::Http,
            interval: std::time::Duration::from_secs(10),
            timeout: std::time::Duration::from_secs(5),
        });
        assert_eq!(fingerprint(&wanted()), fingerprint(&other));
    }

    #[test]
    fn docker_is_asked_for_a_bind_that_fails_without_its_source_and_never_to_restart() {
        let body = body(&wanted(), "mapserver:8", Some("/run/a"));
        assert_eq!(body.labels.as_ref().unwrap()[LABEL_AGENT], "/run/a");
        let host = body.host_config.unwrap();
        assert_eq!(host.binds, None);
        assert_eq!(host.restart_policy.unwrap().name, Some(RestartPolicyNameEnum::NO));
        let mount = &host.mounts.unwrap()[0];
        assert_eq!(mount.typ, Some(MountType::BIND));
        assert_eq!(
            (mount.source.as_deref(), mount.target.as_deref()),
            (Some("/srv/maps"), Some("/mapfiles"))
        );
        assert_eq!(mount.read_only, Some(true));
        let options = mount.bind_options.clone().unwrap();
        assert_eq!(options.propagation, Some(MountBindOptionsPropagationEnum::RSLAVE));
        assert_eq!(options.create_mountpoint, None);
        assert_eq!(body.env, Some(vec!["MS_ERRORFILE=stderr".to_owned()]));
        assert_eq!(body.exposed_ports, Some(vec!["80/tcp".to_owned()]));
        let binding = &host.port_bindings.unwrap()["80/tcp"].clone().unwrap()[0];
        assert_eq!(binding.host_ip.as_deref(), Some("127.0.0.1"));
        assert_eq!(binding.host_port.as_deref(), Some("8080"));
    }
}
