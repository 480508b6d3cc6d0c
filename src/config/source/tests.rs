//! Layers, and where each value comes from.

use std::ffi::OsString;
use std::path::Path;

use proptest::prelude::*;

use super::super::setting::{KEYS, KeyPath, Step, quoted};
use super::entry::Item;
use super::*;

fn path(text: &str) -> KeyPath {
    let step = |word: &str| word.parse().map_or_else(|_| Step::Name(word.to_owned()), Step::Place);
    KeyPath(text.split('/').map(step).collect())
}

fn environment(variables: &[(&str, &str)]) -> Layer {
    Layer::environment(variables.iter().map(|(name, value)| ((*name).into(), (*value).into())))
}

fn file(text: &str) -> Layer {
    Layer::toml(Path::new("/c.toml"), text).expect("valid TOML")
}

fn merged(layers: Vec<Layer>) -> (Entries, Vec<String>) {
    let (entries, faults) = Entries::merged(layers);
    (entries, faults.iter().map(ToString::to_string).collect())
}

fn value(entries: &Entries, at: &str) -> (Value, String) {
    let entry = entries.entry(&path(at)).unwrap_or_else(|| panic!("{at} has a value"));
    (entry.value.clone(), entry.origin.to_string())
}

#[test]
fn a_later_layer_wins_and_its_origin_with_it() {
    let below = file("region = \"us-east-1\"\n[[mount]]\nuid = 1\ngid = 2\n");
    let above = environment(&[("MAPKEEPER_MOUNT__0__UID", "7"), ("PATH", "/bin")]);
    let (entries, faults) = merged(vec![below, above]);
    assert_eq!(faults, Vec::<String>::new());
    assert_eq!(value(&entries, "region"), (Value::Text("us-east-1".into()), "/c.toml:1".into()));
    let uid = (Value::Untyped("7".into()), "environment MAPKEEPER_MOUNT__0__UID".into());
    assert_eq!(value(&entries, "mount/0/uid"), uid);
    assert_eq!(value(&entries, "mount/0/gid"), (Value::Integer(2), "/c.toml:4".into()));
    assert_eq!(entries.origin(&path("mount/0/freshness")).to_string(), "default");
}

#[test]
fn a_variable_finds_every_setting() {
    for key in KEYS.iter() {
        let variable = variable_of(key);
        let (entries, faults) = merged(vec![environment(&[(&variable, "x")])]);
        assert_eq!(faults, Vec::<String>::new(), "{variable}");
        let read = entries.0.iter().find(|(path, _)| path.known().value().is_some());
        let found = read.and_then(|(path, _)| path.known().value());
        assert_eq!(found.map(|key| key.path), Some(key.path), "{variable}");
    }
}

#[test]
fn the_only_container_needs_no_number() {
    let (entries, faults) = merged(vec![
        file("[container]\nname = \"a1\"\n"),
        environment(&[
            ("MAPKEEPER_CONTAINER__PROBE__URL", "http://h/"),
            ("MAPKEEPER_CONTAINER__ENVIRONMENT__Ms__Log", "stderr"),
        ]),
    ]);
    assert_eq!(faults, Vec::<String>::new());
    assert_eq!(value(&entries, "container/0/probe/url").0, Value::Untyped("http://h/".into()));
    assert_eq!(value(&entries, "container/0/environment/Ms__Log").0, Value::Untyped("stderr".into()));
    assert_eq!(entries.written(&path("container/0/probe/url")), "container.probe.url");
}

#[test]
fn of_two_containers_a_variable_must_say_which() {
    let two = "[[container]]\nname = \"a1\"\n[[container]]\nname = \"b1\"\n";
    let (entries, faults) = merged(vec![file(two), environment(&[("MAPKEEPER_CONTAINER__NAME", "c1")])]);
    let expected = "environment MAPKEEPER_CONTAINER__NAME: unknown variable, did you mean \
                    `MAPKEEPER_CONTAINER__0__NAME`?";
    assert_eq!(faults, [expected]);
    assert_eq!(entries.written(&path("container/0/name")), "container[0].name");
}

#[test]
fn a_variable_that_is_no_setting_is_named() {
    let (_, faults) = merged(vec![environment(&[
        ("MAPKEEPER_REGOIN", "hunter2"),
        ("MAPKEEPER_MOUNT__FRESHNESS", "1s"),
        ("MAPKEEPER_MOUNT__01__UID", "1"),
        ("MAPKEEPER_WHATEVER_ELSE", "1"),
        ("MAPKEEPER_ECS__ATTRIBUTES__", "1"),
        ("MAPKEEPER_LOG", "debug"),
        ("MAPKEEPER_CONFIG", "/x"),
        ("MAPKEEPER_RUNTIME_DIR", "/x"),
        ("MAPKEEPER_CACHE", "/x"),
    ])]);
    let expected = [
        "environment MAPKEEPER_ECS__ATTRIBUTES__: unknown variable",
        "environment MAPKEEPER_MOUNT__01__UID: unknown variable, did you mean `MAPKEEPER_MOUNT__01__UID`?",
        "environment MAPKEEPER_MOUNT__FRESHNESS: unknown variable, did you mean `MAPKEEPER_MOUNT__0__FRESHNESS`?",
        "environment MAPKEEPER_REGOIN: unknown variable, did you mean `MAPKEEPER_REGION`?",
        "environment MAPKEEPER_WHATEVER_ELSE: unknown variable",
    ];
    let expected =
        expected.map(|line| line.replace("`MAPKEEPER_MOUNT__01__UID`", "`MAPKEEPER_MOUNT__1__UID`"));
    assert_eq!(faults, expected);
}

#[test]
fn a_value_that_is_no_text_is_a_fault() {
    use std::os::unix::ffi::OsStringExt;
    let layer = Layer::environment([("MAPKEEPER_REGION".into(), OsString::from_vec(vec![0xff]))]);
    assert_eq!(merged(vec![layer]).1, ["environment MAPKEEPER_REGION: region: not UTF-8 text"]);
}

#[test]
fn an_unknown_key_is_named_once_with_its_neighbour() {
    let (entries, faults) = merged(vec![file(
        "regoin = \"hunter2\"\n[mounts]\na = 1\nb = 2\n[[mount]]\nfreshnes = \"1s\"\n[container.probe]\nuri = 1\n",
    )]);
    let expected = [
        "/c.toml:8: container[0].probe.uri: unknown key, did you mean `url`?",
        "/c.toml:6: mount[0].freshnes: unknown key, did you mean `freshness`?",
        "/c.toml:2: mounts: unknown key, did you mean `mount`?",
        "/c.toml:1: regoin: unknown key, did you mean `region`?",
    ];
    assert_eq!(faults, expected);
    assert!(entries.entry(&path("regoin")).is_none());
}

#[test]
fn a_list_has_no_gap() {
    let (entries, faults) = merged(vec![
        file("[[mount]]\nuid = 1\n"),
        environment(&[("MAPKEEPER_MOUNT__2__UID", "1"), ("MAPKEEPER_MOUNT__3__UID", "1")]),
    ]);
    let expected = "environment MAPKEEPER_MOUNT__2__UID: mount[2]: a list without a gap was expected: the next \
                    entry is number 1";
    assert_eq!(faults, [expected]);
    assert_eq!(entries.places("mount"), [0]);
}

#[test]
fn every_value_knows_its_line() {
    let text = "region = \"a\"\n\n[[mount]]\npath = '''\nx'''\nuid = 1\n[[mount]]\n[container]\nports = [\n  \"1:1\",\n\"2:2\"]\nmatch = { label = \"l\" }\n";
    let (entries, _) = merged(vec![file(text)]);
    for (at, line) in [
        ("region", 1),
        ("mount/0", 3),
        ("mount/0/path", 4),
        ("mount/0/uid", 6),
        ("mount/1", 7),
        ("container/0", 8),
        ("container/0/ports", 9),
        ("container/0/match/label", 12),
    ] {
        assert_eq!(value(&entries, at).1, format!("/c.toml:{line}"), "{at}");
    }
    let Value::List(items) = value(&entries, "container/0/ports").0 else { panic!("a list") };
    let lines: Vec<String> = items.iter().map(|item| item.origin.to_string()).collect();
    assert_eq!(lines, ["/c.toml:10", "/c.toml:11"]);
}

#[test]
fn a_value_is_shown_without_secrets_and_not_at_full_length() {
    assert_eq!(Value::Text("a\"b".into()).shown(), r#""a\"b""#);
    assert_eq!(Value::Text("http://u:p@h/".into()).shown(), r#""http://[redacted]@h/""#);
    assert_eq!(Value::Text("ü".repeat(300)).shown().chars().count(), 205);
    let item = |value| Item { value, origin: Origin::Default };
    let list = Value::List(vec![item(Value::Integer(1)), item(Value::Boolean(true)), item(Value::Section)]);
    assert_eq!(list.shown(), "[1, true, a table]");
    assert_eq!(Value::Foreign("1.5".into()).shown(), "1.5");
}

#[test]
fn what_is_not_toml_is_shown_with_its_place() {
    let error = Layer::toml(Path::new("/c.toml"), "a = 1\nregion = us-east-1\n").expect_err("no TOML");
    let text = error.to_string();
    assert!(
        text.starts_with("configuration file \"/c.toml\" is not valid TOML\n  line 2, column 10: "),
        "{text}"
    );
    assert!(text.ends_with("\n    2 | region = us-east-1\n                 ^"), "{text}");
}

#[test]
fn a_line_that_may_hold_a_secret_is_not_shown() {
    for line in ["PASSWORD = hunter2", "url = http://u:hunter2@h/", "x = AKIAABCDEFGHIJKLMNOP hunter2"] {
        let text = Layer::toml(Path::new("/c.toml"), line).expect_err(line).to_string();
        assert!(text.contains("line 1, column ") && !text.contains("hunter2"), "{text}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in any::<String>(), name in "[A-Z0-9_]{0,20}", number in any::<u64>()) {
        let _ = Layer::toml(Path::new("/c"), &text).map(|layer| Entries::merged(vec![layer]));
        let document = format!("region = {number}\n[[mount]]\nuid = {number}\npath = {}\n", quoted(&text));
        let entries = Layer::toml(Path::new("/c"), &document).map(|layer| Entries::merged(vec![layer]).1);
        prop_assert_eq!(entries.ok(), Some(vec![]));
        let variables = [format!("MAPKEEPER_{name}"), format!("MAPKEEPER_MOUNT__{number}__{name}")];
        let layer = Layer::environment(variables.map(|name| (name.into(), text.replace('\0', "").into())));
        let _ = Entries::merged(vec![layer]);
    }
}
