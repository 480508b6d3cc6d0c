//! A stock-like ECS host boots by nothing but our user data and serves a map, and goes on to do so.
//!
//! cloud-init reads the user data from a metadata service, the program comes out of a bucket under AWS's own name, Docker
//! and an ecs.service with the real one's ordering start beside it. Needs root, `/dev/fuse` and a Docker Engine.

mod world;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use world::{Ecs, Host, program};

const ECS: &str = r#"
[credentials]
secret = "mapserver/s3"

[[mount]]
name = "mapfiles"
source = "s3://mapserver-bucket/maps"
path = "/srv/mapkeeper/mapfiles"

[container]
owner = "ecs"
match = { label = "com.amazonaws.ecs.container-name=mapserver" }
binds = ["/srv/mapkeeper/mapfiles:/mapfiles:ro"]

[container.probe]
url = "http://127.0.0.1:8080/?map=/mapfiles/health.map&SERVICE=WMS&REQUEST=GetCapabilities"

[ecs]
cluster = "maps"
attributes = { "mapkeeper.ready" = "true" }
"#;

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

/// A picture of the sample map.
const MAP: &str = "http://127.0.0.1:8080/?map=/mapfiles/island.map&SERVICE=WMS&VERSION=1.3.0&REQUEST=GetMap&LAYERS=land&STYLES=\
                   &CRS=EPSG:4326&BBOX=39.65,-40.6,40.35,-39.4&WIDTH=64&HEIGHT=64&FORMAT=image/png";
/// From the start of the machine to the first map.
const FIRST_MAP_LIMIT: Duration = Duration::from_secs(120);
const FILES: &str = "/etc/mapkeeper /etc/ecs /etc/systemd/system/mapkeeper.service /etc/systemd/system/ecs.service.d \
                     /usr/bin/mapkeeper";

/// One host at a time: a test that waits for another is not slow.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn draws(host: &Host) -> bool {
    host.says(&format!("curl -s -m 5 '{MAP}' | head -c 8 | od -An -tx1")).0 == "89 50 4e 47 0d 0a 1a 0a"
}

fn container(host: &Host) -> String {
    host.sh("docker ps --quiet --no-trunc --filter label=com.amazonaws.ecs.cluster")
}

/// Waits for a map, and shows and checks what came before it.
fn serves(host: &Host, what: &str) {
    host.until("a map", draws);
    let first = host.started.elapsed().expect("it is later");
    println!("\n{what}: seconds from the start of the machine");
    let phases = [
        ("cloud-init begins", "Starting cloud-init.service"),
        ("program is looked for", "Starting mapkeeper-boot.service"),
        ("host is prepared", "the host is prepared"),
        ("Docker runs", "Started docker.service"),
        ("agent runs", "Started mapkeeper.service"),
        ("mount serves", "mount serves"),
        ("ECS agent starts", "agent starts, cluster maps"),
        ("task runs", "task 1 runs"),
    ];
    let times = phases.map(|(phase, words)| (phase, host.at(words)));
    times.iter().for_each(|(phase, at)| println!("{at:6.1}  {phase}"));
    println!("{:6.1}  first map", first.as_secs_f64());
    assert!(first < FIRST_MAP_LIMIT, "{first:?}");
    let at = |wanted: &str| times.iter().find(|(phase, _)| *phase == wanted).expect("a phase").1;
    assert!(at("mount serves") < at("ECS agent starts") && at("ECS agent starts") <= at("task runs"));
    host.until("health", |host| host.says("mapkeeper status").1);
    let cycles = host.says("journalctl -b --no-pager | grep -i 'ordering cycle'").0;
    assert_eq!(cycles, "", "systemd dropped a unit");
}

/// Asks for maps while `command` runs: each one comes, from the same container.
fn disturbs_nobody(host: &Host, what: &str, command: &str) {
    let before = container(host);
    host.sh(&format!(
        "rm -f /tmp/enough /tmp/drawn; cat >/tmp/load <<'E'\nfails=0 maps=0\nuntil [ -e /tmp/enough ] && [ $maps -gt 10 ]; do\n\
         maps=$((maps + 1)); [ \"$(curl -s -m 20 '{MAP}' | head -c 4 | tail -c 3)\" = PNG ] || fails=$((fails + 1))\ndone\n\
         echo \"$maps maps, $fails failed\" >/tmp/drawn\nE\n(sh /tmp/load >/dev/null 2>&1 &)"
    ));
    host.sh(command);
    host.until(what, |host| host.says("mapkeeper status").1);
    host.sh("touch /tmp/enough");
    host.until("the end of the load", |host| host.says("test -s /tmp/drawn").1);
    let drawn = host.sh("cat /tmp/drawn");
    println!("{what}: {drawn}");
    assert!(drawn.ends_with(" 0 failed"), "{what}: {drawn}\n{}", host.story());
    assert_eq!(container(host), before, "{what}: it is another container");
}

/// As Systems Manager runs it: no terminal, and 2,500 characters are shown.
fn says_how_it_is(host: &Host) {
    let (status, good) = host.says("env -i PATH=/usr/bin:/bin mapkeeper status </dev/null 2>&1");
    println!("{status}");
    assert!(good && status.starts_with("mapkeeper: healthy") && status.chars().count() <= 2500, "{status}");
    let made = "journalctl -b MESSAGE_ID=6d2b5c4f1e0a4c7d9b3f8a1765c0e2d2 -o json -n 1";
    let record: serde_json::Value = serde_json::from_str(&host.sh(made)).expect("a record");
    for field in ["LINK", "ACTION", "REASON", "ATTEMPT", "BEFORE", "AFTER", "ELAPSED_MS"] {
        assert!(record[field].is_string(), "{field} is not in {record}");
    }
}

fn files(host: &Host) -> String {
    host.sh(&format!(
        "find {FILES} -type f -printf '%p %m %i %T@ %s\\n' | sort; cat {FILES} 2>/dev/null | sha256sum"
    ))
}

#[test]
fn a_stock_host_serves_maps_by_user_data_alone_and_after_whatever_befalls_it() {
    let _turn = alone();
    let shipped = std::fs::read(program()).expect("readable");
    let mut host = Host::new(ECS, Ecs::There, &shipped);
    host.start();
    serves(&host, "first boot");
    // Its own unit has no fault, and neither has the one that it changes.
    let verified = host.says("systemd-analyze verify mapkeeper.service ecs.service 2>&1");
    assert_eq!(verified, (String::new(), true));
    says_how_it_is(&host);
    disturbs_nobody(&host, "systemctl restart", "systemctl restart mapkeeper");
    let first = files(&host);
    host.reboot();
    serves(&host, "reboot");
    assert_eq!(files(&host), first, "a reboot changed something");
    host.cut_power();
    serves(&host, "power cut");
    assert_eq!(files(&host), first, "a power cut changed something");
}

#[test]
fn where_the_program_is_broken_ecs_stays_down_says_why_and_comes_up_by_itself() {
    let _turn = alone();
    let mut host = Host::new(ECS, Ecs::There, b"a download that went wrong");
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
    host.aws.put("mapkeeper", &std::fs::read(program()).expect("readable"));
    host.until("a map", draws);
    host.until("health", |host| host.says("mapkeeper status").1);
}

#[test]
fn a_host_without_ecs_serves_maps_by_user_data_alone() {
    let _turn = alone();
    let mut host = Host::new(STANDALONE, Ecs::Absent, &std::fs::read(program()).expect("readable"));
    host.start();
    host.until("cloud-init", |host| host.says("cloud-init status").0 == "status: done");
    host.until("a map", draws);
    host.until("health", |host| host.says("mapkeeper status").1);
    // What cloud-init itself thinks of the part that is its own format.
    let part = "sed -n '/^#cloud-config/,/^--==/p' /var/lib/cloud/instance/user-data.txt | sed '/^--==/d' >/tmp/part";
    host.sh(part);
    println!("{}", host.sh("cloud-init schema --config-file /tmp/part"));
}
