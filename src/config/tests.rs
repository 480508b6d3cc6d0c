//! The whole configuration: valid, with every fault at once, and any text at all.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::loaded::standard_layer;
use super::*;

mod containers;
mod round_trip;

/// A configuration that is valid and as short as it can be.
pub(crate) const LEAST: &str = "[[mount]]\nsource = \"s3://maps\"\npath = \"/srv/maps\"\n";

/// The example of the documentation: every setting there is.
fn full() -> &'static str {
    let document = include_str!("../../docs/configuration.md");
    document.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example")
}

/// What `text` says, which is valid.
pub(crate) fn config(text: &str) -> Config {
    load(text).expect("valid").config
}

/// A container that `text` describes, beside the least there has to be.
pub(crate) fn container(text: &str) -> Container {
    config(&format!("{LEAST}[container]\n{text}")).containers.remove(0)
}

fn load(text: &str) -> Result<Loaded, ConfigError> {
    load_with(text, &[])
}

fn load_with(text: &str, variables: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
    let variables = variables.iter().map(|(name, value)| ((*name).into(), (*value).into()));
    Loaded::from_layers(vec![Layer::toml(Path::new("/c.toml"), text)?, Layer::environment(variables)])
}

fn faults(text: &str) -> Vec<String> {
    faults_with(text, &[])
}

fn faults_with(text: &str, variables: &[(&str, &str)]) -> Vec<String> {
    match load_with(text, variables) {
        Err(ConfigError::Faults(Faults(faults))) => faults.iter().map(ToString::to_string).collect(),
        Err(other) => panic!("{other}"),
        Ok(_) => Vec::new(),
    }
}

/// The lines of a text in which each is one case.
fn lines(cases: &str) -> impl Iterator<Item = &str> {
    cases.lines().map(str::trim).filter(|case| !case.is_empty())
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn the_full_example_means_what_is_documented() {
    let loaded = load(full()).expect("valid");
    assert_eq!(loaded.warnings, vec![]);
    let config = loaded.config;
    let mount = &config.mounts[0];
    assert_eq!(mount.source, Source::S3 { bucket: "mapserver-bucket".into(), prefix: "maps/".into() });
    assert_eq!((mount.freshness, mount.max_stale), (Duration::from_secs(1), Duration::from_secs(3_600)));
    assert_eq!(
        (mount.file_mode, mount.dir_mode, mount.memory, mount.disk_cache),
        (0o644, 0o755, 128 << 20, 0)
    );
    assert_eq!((mount.on_conflict, mount.path_style, mount.read_only), (OnConflict::Fail, true, true));
    let container = &config.containers[0];
    assert_eq!((container.owner, &container.selector), (Owner::Ecs, &Selector::Name("mapserver".into())));
    let port = Port { host_ip: None, host: 8080, container: 80, protocol: Protocol::Tcp };
    assert_eq!((&container.ports, container.binds[0].target.as_str()), (&vec![port], "/mapfiles"));
    assert_eq!(container.environment, map(&[("MS_ERRORFILE", "stderr")]));
    assert_eq!(container.probe.as_ref().map(|probe| probe.expect), Some(Expect::Wms));
    let overlay = Overlay::Bucket { bucket: "mapserver-bucket".into(), prefix: "host/".into() };
    assert_eq!(config.bootstrap.overlay, Some(overlay));
    let signal = StackSignal { stack: "maps".into(), resource: "Hosts".into() };
    assert_eq!((config.bootstrap.signal, config.escalate), (Some(signal), Escalate::Drain));
    assert_eq!(config.ecs.map(|ecs| ecs.attributes), Some(map(&[("mapkeeper.ready", "true")])));
    assert_eq!(config.health.map(|health| health.listen), "127.0.0.1:8081".parse().ok());
}

#[test]
fn what_is_not_set_has_the_default_of_its_key() {
    let with_all =
        format!("{LEAST}[container]\nname = \"mapserver\"\n[container.probe]\nurl = \"http://h/\"\n");
    let loaded = load(&with_all).expect("valid");
    let mount = &loaded.config.mounts[0];
    assert_eq!((mount.name.as_str(), mount.path_style), ("maps", false));
    let shown = loaded.show(Origins::Hidden);
    for key in KEYS.iter() {
        let Some(default) = key.default else { continue };
        let name = key.path.rsplit('.').next().unwrap_or_default();
        let texts = [format!("{name} = \"{default}\"\n"), format!("{name} = {default}\n")];
        assert!(texts.iter().any(|text| shown.contains(text)), "{} is {default} in:\n{shown}", key.path);
    }
    let other_server = format!("{LEAST}endpoint_url = \"http://127.0.0.1:9000\"\n");
    assert!(load(&other_server).expect("valid").config.mounts[0].path_style);
}

#[test]
fn each_wrong_value_is_a_fault_that_says_what_was_expected() {
    let cases = r#"
        uid = -1: expected a user number from 0 to 4294967294
        uid = 4294967295: expected a user number from 0 to 4294967294
        gid = "0": expected a group number from 0 to 4294967294
        gid = 99999999999999999999999: expected a group number from 0 to 4294967294
        file_mode = 644: expected an octal mode in quotes such as "0644"
        file_mode = "4644": expected three or four octal digits in quotes, at most "0777"
        freshness = "1": expected a whole number with a unit (ms, s, m, h or d) such as "250ms", "1s" or "5m"
        freshness = "61m": expected a duration from 0s to 1h
        max_stale = "31d": expected a duration from 0s to 30d
        memory = "15MiB": expected a size of at least 16MiB
        memory = 134217728: expected a size such as "128MiB"
        read_only = "yes": expected true or false
        path_style = 1.5: expected true or false
        name = 2026-01-01: expected letters, digits, ".", "_" and "-", at most 64
        region = "": expected an AWS region such as "us-east-1"
        on_conflict = "ask": expected "fail" or "overwrite"
    "#;
    for case in lines(cases) {
        let (setting, _) = case.split_once(": ").expect("a setting and what is said of it");
        assert_eq!(faults(&format!("{LEAST}{setting}\n")), [format!("/c.toml:4: mount[0].{case}")]);
    }
    let mode = "/c.toml:4: mount[0].dir_mode = 493: expected an octal mode in quotes such as \"0755\"";
    assert_eq!(faults(&format!("{LEAST}dir_mode = 0o755\n")), [mode]);
}

#[test]
fn limits_include_their_ends() {
    for setting in ["freshness = \"1h\"", "freshness = \"0s\"", "memory = \"16MiB\"", "max_stale = \"30d\""] {
        assert_eq!(faults(&format!("{LEAST}{setting}\n")), Vec::<String>::new(), "{setting}");
    }
    for (refresh, valid) in [("1s", true), ("24h", true), ("999ms", false), ("25h", false)] {
        let found = faults(&format!("{LEAST}[credentials]\nrefresh = \"{refresh}\"\n"));
        let expected =
            format!("/c.toml:5: credentials.refresh = \"{refresh}\": expected a duration from 1s to 1d");
        assert_eq!(found, if valid { vec![] } else { vec![expected] });
    }
}

#[test]
fn a_probe_may_take_as_long_as_its_interval_and_no_longer() {
    let found = |interval: &str| {
        let probe = format!("probe = {{ url = \"http://h/\", interval = \"{interval}\", timeout = \"5s\" }}");
        faults(&format!("{LEAST}[container]\nname = \"a1\"\n{probe}\n"))
    };
    assert_eq!(found("5s"), Vec::<String>::new());
    let expected = "/c.toml:6: container.probe.timeout = \"5s\": longer than the interval of 4999ms, so questions \
                    would pile up";
    assert_eq!(found("4999ms"), [expected]);
}

#[test]
fn tables_and_lists_have_to_be_such() {
    let missing = |what: &str| format!("/c.toml:1: mount[0].{what}");
    let source = missing("source: missing, expected a source such as \"s3://bucket/prefix\"");
    let path = missing("path: missing, expected an absolute path such as \"/srv/mapkeeper/mapfiles\"");
    let name = missing("name: missing, expected letters, digits, \".\", \"_\" and \"-\", at most 64");
    let none = "no mount is configured, expected at least one [[mount]] with a source and a path".to_owned();
    let list =
        |found: &str| format!("/c.toml:1: mount = {found}: expected a table in double brackets: [[mount]]");
    for (text, expected) in [
        ("", vec![none]),
        ("mount = 1\n", vec![list("1")]),
        ("[mount]\npath = \"/a\"\n", vec![list("a table")]),
        ("mount = [1]\n", vec!["/c.toml:1: mount[0] = 1: expected a table: [mount[0]]".to_owned()]),
        ("[[mount]]\n", vec![source, path]),
        ("[[mount]]\nsource = \"s3://maps\"\npath = \"/srv/my maps\"\n", vec![name]),
    ] {
        assert_eq!(faults(text), expected, "{text}");
    }
    for (text, expected) in [
        ("credentials = 1", "/c.toml:1: credentials = 1: expected a table: [credentials]"),
        ("health = 1", "/c.toml:1: health = 1: expected a table: [health]"),
        ("region = { a = 1 }", "/c.toml:1: region: expected an AWS region such as \"us-east-1\""),
        ("ecs = {}", "/c.toml:1: ecs.cluster: missing, expected the name of an ECS cluster"),
        ("container = 1", "/c.toml:1: container = 1: expected a table in double brackets: [[container]]"),
    ] {
        let found = faults(&format!("{text}\n{LEAST}"));
        assert!(found.contains(&expected.to_owned()), "{text}: {found:?}");
    }
}

#[test]
fn the_environment_wins_and_is_named_in_faults() {
    let variables = [
        ("MAPKEEPER_REGION", "eu-west-1"),
        ("MAPKEEPER_MOUNT__0__READ_ONLY", "false"),
        ("MAPKEEPER_MOUNT__0__UID", "33"),
        ("MAPKEEPER_MOUNT__0__FILE_MODE", "0600"),
        ("MAPKEEPER_CONTAINER__NAME", "mapserver"),
        ("MAPKEEPER_CONTAINER__PORTS", "[\"80:80\", \"81:81\"]"),
        ("MAPKEEPER_CONTAINER__BINDS", "/a:/b:ro,rslave"),
        ("MAPKEEPER_CONTAINER__ENVIRONMENT__LANG", "C"),
    ];
    let config = load_with(LEAST, &variables).expect("valid").config;
    let mount = &config.mounts[0];
    assert_eq!((config.region.as_deref(), mount.read_only, mount.uid), (Some("eu-west-1"), false, 33));
    let container = &config.containers[0];
    assert_eq!((mount.file_mode, container.ports.len()), (0o600, 2));
    assert_eq!(container.binds[0].options, ["ro", "rslave"]);
    assert_eq!(container.environment, map(&[("LANG", "C")]));

    let wrong = [("MAPKEEPER_MOUNT__0__UID", "root"), ("MAPKEEPER_CREDENTIALS__SECRET", "AKIA:hunter2")];
    let expected = [
        "environment MAPKEEPER_CREDENTIALS__SECRET: credentials.secret = [redacted]: expected the name or ARN of a \
         secret in Secrets Manager, never the key itself",
        "environment MAPKEEPER_MOUNT__0__UID: mount[0].uid = \"root\": expected a user number from 0 to 4294967294",
    ];
    assert_eq!(faults_with(LEAST, &wrong), expected);
    let ports =
        faults_with(LEAST, &[("MAPKEEPER_CONTAINER__NAME", "a1"), ("MAPKEEPER_CONTAINER__PORTS", "[80")]);
    let expected = "environment MAPKEEPER_CONTAINER__PORTS: container.ports = \"[80\": expected a list of ports such \
                    as [\"8080:80\"]";
    assert_eq!(ports, [expected]);
}

#[test]
fn what_is_shown_names_the_origin_of_each_value() {
    let text = format!("{LEAST}[container]\nname = \"a1\"\n");
    let shown = load_with(&text, &[("MAPKEEPER_REGION", "eu-west-1")]).expect("valid").show(Origins::Shown);
    for (line, origin) in [
        ("region = \"eu-west-1\"", "environment MAPKEEPER_REGION"),
        ("source = \"s3://maps\"", "/c.toml:2"),
        ("freshness = \"1s\"", "default"),
        ("name = \"a1\"", "/c.toml:5"),
    ] {
        let expected = format!("{line:48}  # {origin}\n");
        assert!(shown.contains(&expected), "{expected} in:\n{shown}");
    }
    assert!(shown.contains("\n# secret is not set\n"), "{shown}");
}

#[test]
fn what_somebody_said_reads_back_as_the_same_without_a_default() {
    let probed =
        format!("{LEAST}[container]\nmatch = {{ label = \"a=b\" }}\nprobe = {{ url = \"http://h/\" }}\n");
    let two =
        format!("{LEAST}[[container]]\nname = \"a1\"\n[[container]]\n[container.match]\nimage = \"x\"\n");
    for text in [full(), LEAST, &probed, &two] {
        let loaded = load(text).expect("valid");
        let said = loaded.said();
        assert_eq!(load(&said).expect(&said).config, loaded.config, "{said}");
    }
    let variables = [("MAPKEEPER_CREDENTIALS__SECRET", "s"), ("MAPKEEPER_CONTAINER__MATCH__LABEL", "a=b")];
    let loaded = load_with(LEAST, &variables).expect("valid");
    let expected = format!(
        "[credentials]\nsecret = \"s\"\n\n{LEAST}\n[container]\n\n[container.match]\nlabel = \"a=b\"\n"
    );
    assert_eq!(loaded.said(), expected);
}

#[test]
fn what_is_shown_holds_no_secret() {
    let text = format!(
        "{LEAST}endpoint_url = \"http://user:hunter2@h\"\n[container]\nname = \"a1\"\nenvironment = {{ DB_PASSWORD = \
         \"hunter2\", DSN = \"host=db password=hunter2\" }}\nprobe = {{ url = \"http://h/?token=hunter2\" }}\n"
    );
    let shown = load(&text).expect("valid").show(Origins::Shown);
    assert_eq!(shown.matches("[redacted]").count(), 4, "{shown}");
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn what_has_no_effect_yet_is_said() {
    let text = full()
        .replace("read_only = true", "read_only = false")
        .replace("disk_cache = \"0\"", "disk_cache = \"1GiB\"");
    let text = text + "[[mount]]\nsource = \"external:\"\npath = \"/srv/nfs\"\n";
    let doubts = |text: &str| load(text).expect("valid").doubts().collect::<Vec<_>>();
    assert_eq!(doubts(&text), ["`mount[0].disk_cache` has no effect in this version"]);
    assert!(doubts(LEAST).is_empty());
}

#[test]
fn a_file_that_cannot_be_a_configuration_is_named() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("c.toml");
    let read = || Loaded::read(&ConfigFile::Named(path.clone()), []).expect_err("no configuration");
    assert!(matches!(read(), ConfigError::Absent { .. }));
    std::fs::write(&path, b"a = \"\xff\"").expect("writes");
    assert!(matches!(read(), ConfigError::NotText { offset: 5, .. }));
    std::fs::write(&path, "#".repeat((1 << 20) + 1)).expect("writes");
    assert!(matches!(read(), ConfigError::TooLarge { limit: 1_048_576, .. }));
    std::fs::remove_file(&path).expect("removes");
    std::fs::create_dir(&path).expect("creates");
    assert!(matches!(read(), ConfigError::Unreadable { .. }));
}

#[test]
fn the_standard_file_may_be_absent_where_the_environment_speaks() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("c.toml");
    let layer = |name: &str| Layer::environment([(name.into(), "x".into())]);
    assert!(matches!(standard_layer(&path, &layer("PATH")), Err(ConfigError::Absent { .. })));
    assert!(standard_layer(&path, &layer("MAPKEEPER_REGION")).is_ok_and(|layer| layer.is_empty()));
    assert!(standard_layer(&path, &layer("MAPKEEPER_REGOIN")).is_ok_and(|layer| layer.is_empty()));
    std::fs::write(&path, LEAST).expect("writes");
    assert!(standard_layer(&path, &layer("PATH")).is_ok_and(|layer| !layer.is_empty()));
}

#[test]
fn the_documentation_names_every_reserved_variable() {
    let document = include_str!("../../docs/configuration.md");
    assert!(RESERVED_VARIABLES.iter().all(|variable| document.contains(variable)));
}
