//! `mapkeeper bootstrap` on a scratch root: everything that old boot scripts got wrong, and the overlay.
//!
//! Only systemd is not there: what it is told is written down. Needs root. The firewall rule is set in a network
//! namespace of its own.

use crate::support::aws as support;
use crate::support::scratch;

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;

use s3_testbed::{Options, Server, Versioning};
use scratch::{CONFIG, ECS, World};
use sha2::{Digest, Sha256};
use support::{mapkeeper, streams};

#[test]
fn three_boots_change_what_one_changes() {
    let world = World::new(&format!("{CONFIG}{ECS}"));
    std::fs::create_dir_all(world.at("etc/ecs")).expect("made");
    std::fs::write(world.at("etc/ecs/ecs.config"), "ECS_LOGLEVEL=debug\n").expect("written");
    let (code, said, errors) = world.boot();
    println!("first:\n{said}{errors}");
    assert_eq!(code, Some(0), "{errors}");
    assert_eq!(said.lines().filter(|line| line.starts_with("changed")).count(), 5, "{said}");
    let first = world.files();
    for number in ["second", "third"] {
        let (code, said, errors) = world.boot();
        println!("{number}:\n{said}{errors}");
        assert_eq!(code, Some(0), "{errors}");
        assert!(said.lines().all(|line| line.starts_with("as it was")), "{said}");
        assert_eq!(world.files(), first);
    }
    let ecs = world.read("etc/ecs/ecs.config");
    println!("{ecs}");
    assert!(ecs.starts_with("ECS_LOGLEVEL=debug\n# BEGIN mapkeeper"), "{ecs}");
    assert_eq!(ecs.matches("ECS_CLUSTER=maps\n").count(), 1);
    assert!(ecs.contains("ECS_INSTANCE_ATTRIBUTES={\"mapkeeper.ready\":\"true\"}\n"), "{ecs}");
    assert_eq!(world.read("etc/mapkeeper/config.toml"), format!("{CONFIG}{ECS}"));
    let gate = world.read("etc/systemd/system/ecs.service.d/10-mapkeeper.conf");
    assert!(gate.contains("ExecStartPre=/usr/bin/mapkeeper wait") && !gate.contains("\nRequires="), "{gate}");
    let told = world.told();
    assert_eq!(told.matches("daemon-reload").count(), 1, "{told}");
    assert_eq!(told.matches("\nstart --no-block mapkeeper.service").count(), 3, "{told}");
}

#[test]
fn the_journal_has_what_cloud_init_takes_from_standard_error() {
    let world = World::new(CONFIG);
    let scratch = world.scratch.path().display().to_string();
    // The journal of a mount namespace: whatever comes is written down.
    let listener = "import os, socket; s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); \
        s.bind('/run/systemd/journal/socket'); open(os.environ['JOURNAL'] + '.ready', 'w').close(); \
        f = open(os.environ['JOURNAL'], 'ab', 0)\nwhile True: f.write(s.recv(65536) + b'\\n\\n')";
    let script = format!(
        "mkdir -p /run/systemd/journal; mount -t tmpfs journal /run/systemd/journal; python3 -c \"$LISTENER\" & \
         until [ -e {scratch}/journal.ready ]; do sleep .01; done; \"$@\"; code=$?; for n in $(seq 200); do grep -qs prepared {scratch}/journal && break; sleep .05; done; \
         kill $!; exit $code"
    );
    let boot = || {
        let inner = world.command();
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", &script, "sh"]).arg(inner.get_program()).args(inner.get_args());
        command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.env("LISTENER", listener).env("JOURNAL", format!("{scratch}/journal"));
        streams(&mut command)
    };
    let (code, _, errors) = boot();
    assert_eq!(code, Some(0), "{errors}");
    assert!(!errors.contains("is prepared"), "{errors}");
    // A value follows its name, a line's end and eight bytes of length.
    let journal = || {
        let bytes = std::fs::read(world.scratch.path().join("journal")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).replace(|c: char| c.is_control() && c != '\n', "")
    };
    let said = journal();
    assert!(said.contains("MESSAGE\n") && said.contains("the host is prepared\n"), "{said}");
    assert!(said.contains("SYSLOG_IDENTIFIER\n") && said.contains("CHANGED\n"), "{said}");
    for name in ["journal", "journal.ready"] {
        std::fs::remove_file(world.scratch.path().join(name)).expect("there");
    }
    world.publish("no toml");
    assert_eq!(boot().0, Some(64));
    let said = journal();
    assert!(said.contains("the host is not prepared\n") && said.contains("ERROR\n"), "{said}");
}

#[test]
fn cloud_formation_is_told_how_it_ended_and_changes_nothing() {
    let metadata = support::metadata(&[]);
    let stack = support::Http::start(|request| {
        let waits = request.body.contains("StackName=maps&");
        let refusal = "<ErrorResponse><Error><Code>ValidationError</Code><Message>it waits for nobody</Message></Error></ErrorResponse>";
        Some(match waits {
            true => (200, String::new(), "<SignalResourceResponse/>".to_owned()),
            false => (400, String::new(), refusal.to_owned()),
        })
    });
    let boot = |world: &World| {
        let mut command = world.command();
        command.env("AWS_ENDPOINT_URL_CLOUDFORMATION", &stack.url).env("AWS_REGION", support::REGION);
        command.env("AWS_EC2_METADATA_DISABLED", "false");
        streams(command.env("AWS_EC2_METADATA_SERVICE_ENDPOINT", &metadata.url))
    };
    let signal = |stack: &str| format!("{CONFIG}[bootstrap]\nsignal = \"{stack}/Hosts\"\n");
    let told_of = |config: &str| World { program: support::shipped(), ..World::new(config) };
    let world = told_of(&signal("maps"));
    let (code, _, errors) = boot(&world);
    assert_eq!(code, Some(0), "{errors}");
    // An overlay that is not there ends the boot.
    world.publish(&(signal("maps") + "overlay = \"/nonexistent\"\n"));
    assert_eq!(boot(&world).0, Some(1));
    let bodies: Vec<String> = stack.requests().into_iter().map(|request| request.body).collect();
    let said = |body: &str, status: &str| {
        ["Action=SignalResource", "LogicalResourceId=Hosts", "UniqueId=i-0123456789abcdef0", status]
            .iter()
            .all(|field| body.split('&').any(|found| found == *field))
    };
    assert_eq!(bodies.len(), 2, "{bodies:?}");
    assert!(said(&bodies[0], "Status=SUCCESS") && said(&bodies[1], "Status=FAILURE"), "{bodies:?}");
    let signed = stack.requests()[0].headers["authorization"].clone();
    assert!(signed.contains(&format!("/{}/cloudformation/aws4_request", support::REGION)), "{signed}");
    // Nobody waits: the host is prepared all the same.
    let later = told_of(&signal("other"));
    let (code, _, errors) = boot(&later);
    assert_eq!(code, Some(0), "{errors}");
    assert!(
        errors.contains("CloudFormation was not told") && errors.contains("it waits for nobody"),
        "{errors}"
    );
}

#[test]
fn nobody_but_root_can_hold_it_up_or_write_to_what_it_makes() {
    let world = World::new(&format!("{CONFIG}{ECS}"));
    // A local user was here before: Debian lets everybody make files in /run/lock.
    std::fs::create_dir_all(world.at("run/lock")).expect("made");
    std::fs::set_permissions(world.at("run/lock"), PermissionsExt::from_mode(0o1777)).expect("set");
    let planted = std::fs::File::create(world.at("run/lock/mapkeeper-bootstrap.lock")).expect("made");
    planted.lock().expect("anybody can");
    let inner = world.command();
    let mut command = Command::new("timeout");
    command
        .args(["60", "sh", "-c", "umask 0; exec \"$@\"", "sh"])
        .arg(inner.get_program())
        .args(inner.get_args());
    command.env_clear().envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let (code, _, errors) = streams(&mut command);
    assert_eq!(code, Some(0), "{errors}");
    let mut open = Command::new("find");
    open.arg(world.root()).args([
        "-path",
        "*/run/lock",
        "-prune",
        "-o",
        "(",
        "-type",
        "f",
        "-o",
        "-type",
        "d",
        ")",
    ]);
    let (_, found, _) = streams(open.args(["-perm", "/022", "-print"]));
    assert_eq!(found, "", "others may write to it");
    let lock = world.at("run/mapkeeper-bootstrap.lock").metadata().expect("there");
    assert_eq!((lock.mode() & 0o777, lock.uid()), (0o600, 0));
}

#[test]
fn two_at_once_end_as_one() {
    let world = World::new(&format!("{CONFIG}{ECS}"));
    let mut running: Vec<_> = (0..4)
        .map(|_| {
            let mut command = world.command();
            command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
            command.spawn().expect("starts")
        })
        .collect();
    for process in &mut running {
        assert!(process.wait().expect("ends").success());
    }
    assert_eq!(world.read("etc/ecs/ecs.config").matches("# BEGIN mapkeeper").count(), 1);
    assert!(!world.files().keys().any(|path| path.to_string_lossy().contains(".mapkeeper-")));
}

#[test]
fn a_wrong_configuration_takes_no_place_and_the_gate_stands_all_the_same() {
    let world = World::new(CONFIG);
    assert_eq!(world.boot().0, Some(0));
    world.publish(&format!("{CONFIG}freshness = 5\n"));
    let (code, _, errors) = world.boot();
    assert_eq!(code, Some(64), "{errors}");
    assert!(errors.contains("mount[0].freshness = 5: expected"), "{errors}");
    assert_eq!(world.read("etc/mapkeeper/config.toml"), CONFIG);
    assert!(world.at("run/mapkeeper-bootstrap.failed").exists());

    let fresh = World::new("no toml");
    let (code, _, _) = fresh.boot();
    assert_eq!(code, Some(64));
    assert!(fresh.at("etc/systemd/system/ecs.service.d/10-mapkeeper.conf").exists());
    assert!(!fresh.told().contains("start"), "{}", fresh.told());
    world.publish(CONFIG);
    assert_eq!(world.boot().0, Some(0));
    assert!(!world.at("run/mapkeeper-bootstrap.failed").exists());
}

#[test]
fn a_host_without_ecs_gets_no_file_of_ecs() {
    let world = World::new(CONFIG);
    assert_eq!(world.boot().0, Some(0));
    assert!(!world.at("etc/ecs").exists());
}

#[test]
fn containers_are_kept_from_the_metadata_by_one_rule() {
    let world = World::new(&format!("{CONFIG}[bootstrap]\nblock_imds = true\n"));
    let mut command = Command::new("unshare");
    command.args(["--net", "sh", "-ec"]).env_clear();
    command.arg("\"$@\"; \"$@\" >/dev/null; iptables -w -S DOCKER-USER").arg("sh");
    let inner = world.command();
    command.arg(inner.get_program()).args(inner.get_args());
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let (code, said, errors) = streams(&mut command);
    assert_eq!(code, Some(0), "{errors}");
    assert!(said.contains("changed   DOCKER-USER rule against 169.254.169.254/32"), "{said}");
    assert_eq!(said.matches("-A DOCKER-USER -d 169.254.169.254/32 -j DROP").count(), 1, "{said}");
}

fn sum(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn file(path: &str, mode: &str, content: &str) -> String {
    format!(
        "[[file]]\npath = \"{path}\"\nmode = \"{mode}\"\nowner = \"daemon:nogroup\"\nsha256 = \"{}\"\n",
        sum(content)
    )
}

/// A host whose overlay is in a bucket.
struct Overlaid {
    world: World,
    server: Server,
}

impl Overlaid {
    fn new(manifest: &str, files: &[(&str, &str)]) -> Overlaid {
        let server = Server::start(Options::memory(["host"])).expect("a server");
        let world = World::new(&format!("{CONFIG}[bootstrap]\noverlay = \"s3://host/v1\"\n"));
        let overlaid = Overlaid { world, server };
        overlaid.put("manifest.toml", manifest);
        for (key, content) in files {
            overlaid.put(key, content);
        }
        overlaid
    }

    fn put(&self, key: &str, content: &str) {
        self.server.store().put("host", &format!("v1/{key}"), content.to_owned(), &[]).expect("stored");
    }

    fn boot(&self) -> (Option<i32>, String, String) {
        streams(self.world.command().env("AWS_ENDPOINT_URL_S3", self.server.endpoint()))
    }
}

#[test]
fn an_overlay_brings_content_mode_and_owner_and_changes_nothing_twice() {
    let manifest = file("/etc/motd", "0644", "maps\n") + &file("/usr/local/bin/tool", "4750", "#!/bin/sh\n");
    let host = Overlaid::new(&manifest, &[("etc/motd", "maps\n"), ("usr/local/bin/tool", "#!/bin/sh\n")]);
    let (code, said, errors) = host.boot();
    assert_eq!(code, Some(0), "{errors}");
    assert!(said.contains("changed   /etc/motd\nchanged   /usr/local/bin/tool\n"), "{said}");
    let tool = host.world.at("usr/local/bin/tool").metadata().expect("there");
    assert_eq!((tool.mode() & 0o7777, tool.uid(), tool.gid()), (0o4750, 1, 65534));
    let first = host.world.files();
    let requests = host.server.control().total();
    let (code, said, _) = host.boot();
    assert_eq!(code, Some(0));
    assert!(said.lines().all(|line| line.starts_with("as it was")), "{said}");
    assert_eq!(host.world.files(), first);
    assert_eq!(host.server.control().total(), requests + 1, "only the manifest is fetched again");
    // Somebody changed a mode by hand.
    std::fs::set_permissions(host.world.at("etc/motd"), PermissionsExt::from_mode(0o666)).expect("set");
    assert_eq!(host.boot().0, Some(0));
    assert_eq!(host.world.at("etc/motd").metadata().expect("there").mode() & 0o7777, 0o644);
}

#[test]
fn a_pinned_version_of_the_manifest_and_of_a_file_is_the_one_that_is_used() {
    let host = Overlaid::new("", &[]);
    host.server.store().set_versioning("host", Versioning::Enabled).expect("a bucket");
    let version = |key: &str| {
        let object = host.server.store().get("host", &format!("v1/{key}")).expect("there");
        object.version.expect("the bucket keeps versions").to_string()
    };
    host.put("etc/motd", "first\n");
    let first = version("etc/motd");
    host.put("etc/motd", "second\n");
    let of = |content: &str, more: &str| file("/etc/motd", "0644", content) + more;
    host.put("manifest.toml", &of("first\n", &format!("version = \"{first}\"\n")));
    let pinned = version("manifest.toml");
    // The newest manifest takes the newest file.
    host.put("manifest.toml", &of("second\n", ""));
    assert_eq!(host.boot().0, Some(0));
    assert_eq!(host.world.read("etc/motd"), "second\n");
    let overlay = format!("{CONFIG}[bootstrap]\noverlay = \"s3://host/v1\"\noverlay_version = ");
    host.world.publish(&format!("{overlay}\"{pinned}\"\n"));
    let (code, _, errors) = host.boot();
    assert_eq!(code, Some(0), "{errors}");
    assert_eq!(host.world.read("etc/motd"), "first\n");
    // What is deleted is still there under its version, and a version that never was is an error.
    host.server.store().delete("host", "v1/etc/motd").expect("deleted");
    std::fs::remove_file(host.world.at("etc/motd")).expect("there");
    assert_eq!(host.boot().0, Some(0));
    assert_eq!(host.world.read("etc/motd"), "first\n");
    host.world.publish(&format!("{overlay}\"{first}\"\n"));
    let (code, _, errors) = host.boot();
    assert_eq!(code, Some(1), "{errors}");
    assert!(errors.contains("mapkeeper: overlay: manifest.toml: "), "{errors}");
}

#[test]
fn a_file_that_is_not_the_one_in_the_manifest_changes_nothing_at_all() {
    let manifest = file("/etc/motd", "0644", "maps\n") + &file("/etc/other", "0644", "right\n");
    let host = Overlaid::new(&manifest, &[("etc/motd", "maps\n"), ("etc/other", "wrong\n")]);
    std::fs::create_dir_all(host.world.at("etc")).expect("made");
    std::fs::write(host.world.at("etc/motd"), "before\n").expect("written");
    let (code, _, errors) = host.boot();
    assert_eq!(code, Some(1));
    let expected = format!(
        "mapkeeper: overlay: /etc/other: its sha256 is {}, the manifest says {}\n",
        sum("wrong\n"),
        sum("right\n")
    );
    assert!(errors.contains(&expected), "{errors}");
    assert_eq!(host.world.read("etc/motd"), "before\n");
    assert!(!host.world.files().keys().any(|path| path.to_string_lossy().contains(".mapkeeper-")));
    assert!(!host.world.told().contains("start"), "the agent is not started: {}", host.world.told());
    let failed = host.world.read("run/mapkeeper-bootstrap.failed");
    assert!(failed.starts_with("overlay: /etc/other: its sha256 is"), "{failed}");
}

#[test]
fn a_file_that_cannot_take_its_place_puts_the_others_back() {
    let manifest = file("/etc/new", "0644", "new\n")
        + &file("/etc/motd", "0644", "maps\n")
        + &file("/etc/taken", "0644", "x\n");
    let host =
        Overlaid::new(&manifest, &[("etc/new", "new\n"), ("etc/motd", "maps\n"), ("etc/taken", "x\n")]);
    std::fs::create_dir_all(host.world.at("etc/taken/inner")).expect("made");
    std::fs::write(host.world.at("etc/motd"), "before\n").expect("written");
    let (code, _, errors) = host.boot();
    assert_eq!(code, Some(1), "{errors}");
    assert_eq!(host.world.read("etc/motd"), "before\n");
    assert!(!host.world.at("etc/new").exists());
}

#[test]
fn commands_run_once_or_always_and_an_essential_one_that_fails_ends_the_boot_with_its_reason() {
    let log = |world: &World| world.scratch.path().join("log");
    let host = Overlaid::new("", &[]);
    let line = |name: &str, more: &str, script: &str| {
        format!("[[command]]\nname = \"{name}\"\nrun = [\"/bin/sh\", \"-c\", \"{script}\"]\n{more}\n")
    };
    let append = |word: &str| format!("echo {word} >>{}", log(&host.world).display());
    let good = line("first", "when = \"once\"", &append("once")) + &line("second", "", &append("always"));
    host.put("manifest.toml", &(good.clone() + &line("third", "essential = false", "exit 3")));
    for _ in 0..3 {
        let (code, said, errors) = host.boot();
        assert_eq!(code, Some(0), "{errors}");
        assert!(said.contains("command \"third\" failed and is not essential: exit status: 3"), "{said}");
    }
    let ran = std::fs::read_to_string(log(&host.world)).expect("it ran");
    assert_eq!(ran, "once\nalways\nalways\nalways\n");
    host.put("manifest.toml", &(good + &line("disk", "", "echo no space >&2; exit 5")));
    let (code, _, errors) = host.boot();
    assert_eq!(code, Some(1));
    assert!(
        errors.contains("mapkeeper: the essential command \"disk\" failed: exit status: 5: no space\n"),
        "{errors}"
    );
    assert!(host.world.read("run/mapkeeper-bootstrap.failed").contains("no space"));
    let mut status = mapkeeper();
    status
        .args(["status", "--boot-root"])
        .arg(host.world.root())
        .arg("--runtime-dir")
        .arg(host.world.at("run/mapkeeper"));
    let (code, said, _) = streams(&mut status);
    assert_eq!(code, Some(2));
    assert!(said.contains("bootstrap failed: the essential command \"disk\" failed"), "{said}");
}

#[test]
fn an_overlay_may_lie_in_a_directory() {
    let world = World::new("");
    let overlay = world.scratch.path().join("overlay");
    std::fs::create_dir_all(overlay.join("etc")).expect("made");
    std::fs::write(overlay.join("etc/motd"), "maps\n").expect("written");
    std::fs::write(overlay.join("manifest.toml"), file("/etc/motd", "0600", "maps\n")).expect("written");
    world.publish(&format!("{CONFIG}[bootstrap]\noverlay = \"{}\"\n", overlay.display()));
    assert_eq!(world.boot().0, Some(0));
    assert_eq!(world.read("etc/motd"), "maps\n");
}

#[tokio::test]
async fn the_configuration_comes_from_a_bucket_or_a_parameter() {
    let server = Server::start(Options::memory(["host"])).expect("a server");
    server.store().put("host", "config.toml", CONFIG, &[]).expect("stored");
    let moto = support::Moto::start(&[]);
    let ssm = aws_sdk_ssm::Client::new(&moto.sdk().await);
    let put = ssm
        .put_parameter()
        .name("/maps/config")
        .value(CONFIG)
        .r#type(aws_sdk_ssm::types::ParameterType::String);
    put.send().await.expect("moto stores a parameter");
    for from in ["s3://host/config.toml", "ssm:/maps/config"] {
        let world = World::new("");
        let mut command = world.command_from(from);
        command.env("AWS_ENDPOINT_URL_S3", server.endpoint()).env("AWS_ENDPOINT_URL_SSM", moto.url());
        let (code, _, errors) = streams(&mut command);
        assert_eq!(code, Some(0), "{from}: {errors}");
        assert_eq!(world.read("etc/mapkeeper/config.toml"), CONFIG);
    }
    let world = World::new("");
    let (code, _, errors) = streams(&mut world.command_from("http://host/x"));
    assert_eq!(code, Some(64));
    assert!(errors.contains("\"http://host/x\" is no source of a configuration"), "{errors}");
}
