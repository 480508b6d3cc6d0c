//! Containers: how they are chosen, what is unique, what their probe and binds may say.

use super::*;

#[test]
fn a_container_is_chosen_in_exactly_one_way() {
    let cases = r#"
        image = "a:1" => 4: container.name: neither `name` nor `match` is given, expected exactly one
        name = "a1"; match = { label = "x" } => 6: container.match: both `name` and `match` are given, expected exactly one
        match = {} => 5: container.match: `match` is empty, expected a `label`, an `image` or both
        match = "x" => 5: container.match = "x": expected a table: [container.match]
        owner = "mapkeeper"; image = "a:1"; match = { label = "x" } => 7: container.match: mapkeeper creates this container, so it needs a `name` and cannot use `match`
        owner = "mapkeeper"; name = "a1" => 4: container.image: mapkeeper creates this container, so it needs an `image`
        owner = "docker"; name = "a1" => 5: container.owner = "docker": expected "ecs" or "mapkeeper"
        name = "-a" => 5: container.name = "-a": expected at least two letters, digits, "_", "." and "-", the first a letter or digit
    "#;
    said_of_a_container("", cases);
    let by_match =
        load(&format!("{LEAST}[container]\nmatch = {{ label = \"role=maps\" }}\n")).expect("valid");
    let label = Some("role=maps".to_owned());
    assert_eq!(by_match.config.containers[0].selector, Selector::Match { label, image: None });
}

/// Each case is what a container has, and the line and the words of the one fault that is told.
fn said_of_a_container(begin: &str, cases: &str) {
    for (container, expected) in lines(cases).filter_map(|case| case.split_once(" => ")) {
        let text = format!("{LEAST}[container]\n{begin}{}\n", container.replace("; ", "\n"));
        assert_eq!(faults(&text), [format!("/c.toml:{expected}")]);
    }
}

#[test]
fn values_of_a_container_are_checked_one_by_one() {
    let cases = r#"
        ports = [; "80:80",; "81"] => 8: container.ports[1] = "81": expected a port such as "8080:80", "127.0.0.1:8080:80" or "8080:80/udp"
        ports = "80:80" => 6: container.ports = "80:80": expected a list of ports such as ["8080:80"]
        ports = [80] => 6: container.ports[0] = 80: expected a list of ports such as ["8080:80"]
        binds = ["a:/b"] => 6: container.binds[0] = "a:/b": expected two absolute paths and options such as "/src:/dst:ro,rslave"
        environment = { A = 1 } => 6: container.environment.A = 1: expected a string
        environment = { "A=B" = "1" } => 6: container.environment."A=B" = "1": expected text without "=" as the name
        environment = { DB_PASSWORD = 815 } => 6: container.environment.DB_PASSWORD = [redacted]: expected a string
        probe = { url = "http://h/", expect = "tcp" } => 6: container.probe.expect = "tcp": expected "wms" or "http"
        probe = { url = "http://h/", interval = "2s" } => 6: container.probe.timeout: longer than the interval of 2s, so questions would pile up
        probe = { url = "http://h/", timeout = "1ms" } => 6: container.probe.timeout = "1ms": expected a duration from 100ms to 1h
        probe = {} => 6: container.probe.url: missing, expected an http:// URL such as "http://127.0.0.1:8080/"
    "#;
    said_of_a_container("name = \"a1\"\n", cases);
}

#[test]
fn what_must_be_unique_is() {
    let mount = |name: &str, path: &str| {
        format!("[[mount]]\nsource = \"s3://maps\"\nname = \"{name}\"\npath = \"{path}\"\n")
    };
    let pair = |first: (&str, &str), second: (&str, &str)| {
        faults(&(mount(first.0, first.1) + &mount(second.0, second.1)))
    };
    assert_eq!(pair(("a", "/a"), ("b", "/ab")), Vec::<String>::new());
    assert_eq!(
        pair(("a", "/a"), ("a", "/b")),
        ["/c.toml:7: mount[1].name = \"a\": already the name of mount[0]"]
    );
    assert_eq!(
        pair(("a", "/a"), ("b", "/a/")),
        ["/c.toml:8: mount[1].path = \"/a/\": already the mount point of mount[0]"]
    );
    let nested = "lies below the mount point of";
    let below = |place, path, other| {
        format!("{place} = \"{path}\": {nested} {other}, and a mount cannot hold another")
    };
    assert_eq!(pair(("a", "/a"), ("b", "/a/b")), [below("/c.toml:8: mount[1].path", "/a/b", "mount[0]")]);
    assert_eq!(pair(("a", "/a/b"), ("b", "/a")), [below("/c.toml:4: mount[0].path", "/a/b", "mount[1]")]);
}

#[test]
fn ports_targets_and_names_of_containers_are_claimed_once() {
    let container = |name: &str, rest: &str| format!("[[container]]\nname = \"{name}\"\n{rest}\n");
    let two = |first: &str, second: &str| {
        faults(&(LEAST.to_owned() + &container("a1", first) + &container("b1", second)))
    };
    let taken = |found: &str, other: &str| {
        [format!(
            "/c.toml:9: container[1].ports[0] = \"{found}\": host port 80/tcp is already claimed by {other}"
        )]
    };
    let port = |text: &str| format!("ports = [\"{text}\"]");
    assert_eq!(two(&port("80:80"), &port("80:81")), taken("80:81", "container[0].ports[0]"));
    assert_eq!(
        two(&port("127.0.0.1:80:80"), &port("0.0.0.0:80:81")),
        taken("0.0.0.0:80:81", "container[0].ports[0]")
    );
    for second in ["80:80/udp", "81:80", "10.0.0.1:80:80"] {
        assert_eq!(two(&port("127.0.0.1:80:80"), &port(second)), Vec::<String>::new(), "{second}");
    }
    let same_name = faults(&(LEAST.to_owned() + &container("a1", "") + &container("a1", "")));
    assert_eq!(same_name, ["/c.toml:8: container[1].name = \"a1\": already the name of container[0]"]);
    let twice = faults(&(LEAST.to_owned() + &container("a1", "binds = [\"/a:/m\", \"/b:/m:ro\"]")));
    let expected = "/c.toml:6: container.binds[1] = \"/b:/m:ro\": container path /m is already the target of \
                    container.binds[0]";
    assert_eq!(twice, [expected]);
    assert_eq!(two("binds = [\"/a:/m\"]", "binds = [\"/a:/m\"]"), Vec::<String>::new());
    let listener = format!(
        "{LEAST}[container]\nname = \"a1\"\nports = [\"80:80\"]\n[health]\nlisten = \"127.0.0.1:80\"\n"
    );
    let expected = "/c.toml:8: health.listen = \"127.0.0.1:80\": host port 80/tcp is already claimed by \
                    container.ports[0]";
    assert_eq!(faults(&listener), [expected]);
}

#[test]
fn a_bind_may_begin_below_a_mount() {
    let text = format!("{LEAST}[container]\nname = \"a1\"\nbinds = [\"/srv/maps/sub:/m:ro\"]\n");
    assert_eq!(faults(&text), Vec::<String>::new());
}

#[test]
fn a_probe_that_misses_its_container_is_a_warning() {
    let text = |port: u16| {
        format!(
            "{LEAST}[container]\nname = \"a1\"\nports = [\"80:80\", \"82:82/udp\"]\nprobe = {{ url = \"http://h:{port}/\" }}\n"
        )
    };
    let warnings =
        |port| load(&text(port)).expect("valid").warnings.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(warnings(80), Vec::<String>::new());
    let expected = "/c.toml:7: container.probe.url = \"http://h:82/\": port 82 is not among the host ports of the \
                    container (80, 82)";
    assert_eq!(warnings(82), [expected]);
}
