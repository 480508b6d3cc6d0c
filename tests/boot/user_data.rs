//! A stock-like ECS host boots by nothing but our user data and serves a map, and goes on to do so.
//!
//! cloud-init reads the user data from a metadata service, the program comes out of a bucket under AWS's own name, Docker
//! and an ecs.service with the real one's ordering start beside it. Needs root, `/dev/fuse` and a Docker Engine. The same on
//! a machine with a kernel of its own: `user_data_machine.rs`.

use crate::container::Container;
use crate::scenario::{ECS, draws, lives};
use crate::world::{Aws, Ecs, Host, Metadata, shipped};

const STANDALONE: &str = r#"
[credentials]
secret = "mapserver/s3"

[[mount]]
name = "mapfiles"
source = "s3://mapserver-bucket/maps"
path = "/srv/mapkeeper/mapfiles"

[container]
owner = "mapkeeper"
name = "mapserver"
image = "mapserver:8"
ports = ["8080:80"]
binds = ["/srv/mapkeeper/mapfiles:/mapfiles:ro"]

[container.probe]
url = "http://127.0.0.1:8080/?map=/mapfiles/health.map&SERVICE=WMS&REQUEST=GetCapabilities"
"#;

#[test]
fn a_stock_host_serves_maps_by_user_data_alone_and_after_whatever_befalls_it() {
    let aws = Aws::start(&shipped(), Metadata::TokensOptional);
    lives(Host::new(aws, ECS, |aws| Container::new(aws, Ecs::There)));
}

#[test]
fn where_the_program_is_broken_ecs_stays_down_says_why_and_comes_up_by_itself() {
    let aws = Aws::start(b"a download that went wrong", Metadata::TokensOptional);
    let mut host = Host::new(aws, ECS, |aws| Container::new(aws, Ecs::There));
    host.start();
    let why = "journalctl -b --no-pager -u mapkeeper-boot";
    host.until("the reason", |host| host.says(why).0.contains("computed checksum did NOT match"));
    host.until("an attempt of ECS", |host| {
        host.says("systemctl show --property NRestarts --value ecs")
            .0
            .parse()
            .is_ok_and(|tries: u32| tries > 0)
    });
    assert_eq!(host.sh("systemctl show --property ExecMainStartTimestampMonotonic --value ecs"), "0");
    assert_eq!(host.sh("docker ps --all --quiet"), "", "something was started");
    assert!(!host.says("test -e /usr/bin/mapkeeper").1, "what is wrong was installed");
    host.aws.put("mapkeeper", &shipped());
    host.until("a map", draws);
    host.until("health", |host| host.says("mapkeeper status").1);
}

#[test]
fn a_host_without_ecs_serves_maps_by_user_data_alone() {
    let aws = Aws::start(&shipped(), Metadata::TokensOptional);
    let mut host = Host::new(aws, STANDALONE, |aws| Container::new(aws, Ecs::Absent));
    host.start();
    host.until("cloud-init", |host| host.says("cloud-init status").0 == "status: done");
    host.until("a map", draws);
    host.until("health", |host| host.says("mapkeeper status").1);
    // What cloud-init itself thinks of the part that is its own format.
    let part = "sed -n '/^#cloud-config/,/^--==/p' /var/lib/cloud/instance/user-data.txt | sed '/^--==/d' >/tmp/part";
    host.sh(part);
    println!("{}", host.sh("cloud-init schema --config-file /tmp/part"));
}
