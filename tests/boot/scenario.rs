//! What has to hold on every host that boots by our user data.

use crate::world::{Host, PROGRAMS_URL, program};

use crate::revisions as packages;

/// The configuration of a host whose container is ECS's.
pub const ECS: &str = r#"
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

/// A picture of the sample map.
const MAP: &str = "http://127.0.0.1:8080/?map=/mapfiles/island.map&SERVICE=WMS&VERSION=1.3.0&REQUEST=GetMap&LAYERS=land&STYLES=\
                   &CRS=EPSG:4326&BBOX=39.65,-40.6,40.35,-39.4&WIDTH=64&HEIGHT=64&FORMAT=image/png";
const FILES: &str = "/etc/mapkeeper /etc/ecs /etc/systemd/system/mapkeeper.service /etc/systemd/system/mapkeeper-volume.service /etc/systemd/system/ecs.service.d \
                     /usr/bin/mapkeeper";

pub fn draws(host: &Host) -> bool {
    host.says(&format!("curl -s -m 5 '{MAP}' | head -c 8 | od -An -tx1")).0 == "89 50 4e 47 0d 0a 1a 0a"
}

fn container(host: &Host) -> String {
    host.sh("docker ps --quiet --no-trunc --filter label=com.amazonaws.ecs.cluster")
}

/// Waits for a map, and shows and checks what came before it.
pub fn serves(host: &Host, what: &str) {
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
    assert!(first < host.first_map_limit(), "{first:?}");
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
         maps=$((maps + 1)); [ \"$(curl -s -m 60 '{MAP}' | head -c 4 | tail -c 3)\" = PNG ] || fails=$((fails + 1))\ndone\n\
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

/// At a terminal, and as Systems Manager runs it: without one, and 2,500 characters are shown.
fn says_how_it_is(host: &Host) {
    // On a slow machine a single look may find a probe late.
    host.until("health at a terminal", |host| {
        let (shown, good) = host.shows("mapkeeper status");
        assert!(!good || shown.contains("\u{1b}["), "no color: {shown:?}");
        good
    });
    host.until("health without one", |host| {
        let (status, good) = host.says("env -i PATH=/usr/bin:/bin mapkeeper status </dev/null 2>&1");
        println!("{status}");
        assert!(status.chars().count() <= 2500, "{status}");
        good && status.starts_with("mapkeeper: healthy")
    });
    let made = "journalctl -b MESSAGE_ID=6d2b5c4f1e0a4c7d9b3f8a1765c0e2d2 -o json -n 1";
    let record: serde_json::Value = serde_json::from_str(&host.sh(made)).expect("a record");
    for field in ["LINK", "ACTION", "REASON", "ATTEMPT", "BEFORE", "AFTER", "ELAPSED_MS"] {
        assert!(record[field].is_string(), "{field} is not in {record}");
    }
}

/// No container starts on the volume before the mounts are proven, and what it shows is the mount.
fn the_volume_is_a_gate(host: &Host) {
    let reads = "docker run --rm --volume mapkeeper:/all:ro mapserver:8 tail -n 1 /all/mapfiles/health.map";
    host.sh("systemctl start mapkeeper-volume");
    assert_eq!(host.sh(reads), "END");
    // The volume stays and its device goes: as at a boot, whose /run is empty.
    host.sh("systemctl stop mapkeeper-volume && docker volume inspect mapkeeper");
    assert!(!host.says(reads).1, "a container was started on a volume whose mount is not proven");
    host.sh("systemctl start mapkeeper-volume");
    assert_eq!(host.sh(reads), "END");
}

/// A package over what user data installed, and the next one over that.
fn is_upgraded(host: &Host) {
    let made = tempfile::tempdir().expect("a directory");
    packages::revisions(&program(), made.path());
    for deb in ["1.deb", "2.deb"] {
        host.aws.put(deb, &std::fs::read(made.path().join(deb)).expect("made"));
        host.sh(&format!("curl -fsS -o /tmp/{deb} {PROGRAMS_URL}/{deb}"));
        // Nobody is there to be asked about the configuration: it stays.
        let install = format!("dpkg --force-confold --install /tmp/{deb} </dev/null");
        disturbs_nobody(host, &format!("package upgrade to {deb}"), &install);
    }
    assert!(host.sh("dpkg-query --show --showformat='${Version}' mapkeeper").ends_with("-2"));
}

/// Somebody drains the instance: ECS, that is its stand-in, takes the task away, and mapkeeper leaves it so.
fn is_drained_by_hand(host: &Host) {
    let set = |state: &str| {
        host.sh(&format!(
            "arn=$(sed 's/.*\"arn\": *\"\\([^\"]*\\)\".*/\\1/' /var/lib/ecs/data/agent.db)
            curl -fsS -H 'Content-Type: application/x-amz-json-1.1' \
                -H 'X-Amz-Target: AmazonEC2ContainerServiceV20141113.UpdateContainerInstancesState' \
                -H 'Authorization: AWS4-HMAC-SHA256 Credential=AKIATEST/20260101/us-east-1/ecs/aws4_request, SignedHeaders=host, Signature=0' \
                -d '{{\"cluster\":\"maps\",\"containerInstances\":[\"'$arn'\"],\"status\":\"{state}\"}}' \
                https://ecs.us-east-1.amazonaws.com/"
        ))
    };
    set("DRAINING");
    host.until("an instance without a task", |host| container(host).is_empty());
    host.until("word of it", |host| {
        host.says("mapkeeper status").0.contains("somebody else has set it to DRAINING")
    });
    assert_eq!(container(host), "", "a task was placed on a drained instance");
    set("ACTIVE");
    host.until("a map again", draws);
    host.until("health", |host| host.says("mapkeeper status").1);
}

fn files(host: &Host) -> String {
    host.sh(&format!(
        "find {FILES} -type f -printf '%p %m %i %T@ %s\\n' | sort; cat {FILES} 2>/dev/null | sha256sum"
    ))
}

/// A first boot, and everything that may befall a host afterwards. Returns it, still up.
pub fn lives(mut host: Host) -> Host {
    host.start();
    serves(&host, "first boot");
    // Its own unit has no fault, and neither has the one that it changes.
    let verified =
        host.says("systemd-analyze verify mapkeeper.service mapkeeper-volume.service ecs.service 2>&1");
    assert_eq!(verified, (String::new(), true));
    says_how_it_is(&host);
    is_drained_by_hand(&host);
    the_volume_is_a_gate(&host);
    disturbs_nobody(&host, "systemctl restart", "systemctl restart mapkeeper");
    disturbs_nobody(&host, "kill -9", "systemctl kill --signal KILL --kill-who main mapkeeper");
    let first = files(&host);
    host.reboot();
    serves(&host, "reboot");
    assert_eq!(files(&host), first, "a reboot changed something");
    host.cut_power();
    serves(&host, "power cut");
    assert_eq!(files(&host), first, "a power cut changed something");
    is_upgraded(&host);
    assert!(host.aws.s3.control().total() > 0, "the maps came from elsewhere");
    host
}
