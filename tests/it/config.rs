//! `mapkeeper config` as people and scripts meet it: texts, streams and exit codes.

use std::path::PathBuf;
use std::process::{Command, Output};

/// A directory with a configuration file in it.
struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn with(text: &str) -> Place {
        let directory = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(directory.path().join("config.toml"), text).expect("writes");
        Place { directory }
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("config.toml")
    }
}

fn mapkeeper(words: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mapkeeper"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("MAPKEEPER_") {
            command.env_remove(name);
        }
    }
    command.args(words).envs(variables.iter().copied()).output().expect("starts")
}

fn streams(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

const VALID: &str = "[[mount]]\nsource = \"s3://maps\"\npath = \"/srv/maps\"\n";

#[test]
fn a_valid_configuration_is_said_to_be_so() {
    let place = Place::with(VALID);
    let file = place.file();
    let output = mapkeeper(&["config", "check", "--config", file.to_str().expect("UTF-8")], &[]);
    let expected = "the configuration is valid: 1 mount, 0 containers\n";
    assert_eq!(streams(&output), (Some(0), expected.to_owned(), String::new()));
}

#[test]
fn a_configuration_with_three_mistakes_names_all_three() {
    let place = Place::with(
        "[[mount]]\nsource = \"maps\"\npath = \"/srv/maps\"\nfile_mode = 644\nfreshnes = \"1s\"\n",
    );
    let file = place.file();
    let name = file.to_str().expect("UTF-8");
    let output = mapkeeper(&["config", "check"], &[("MAPKEEPER_CONFIG", name)]);
    let expected = format!(
        "mapkeeper: the configuration has 3 faults\n  \
         {name}:2: mount[0].source = \"maps\": expected s3://bucket[/prefix], nfs://host/export, \
         efs://fs-id[/path] or external:\n  \
         {name}:4: mount[0].file_mode = 644: expected an octal mode in quotes such as \"0644\"\n  \
         {name}:5: mount[0].freshnes: unknown key, did you mean `freshness`?\n\
         hint: `mapkeeper config check` repeats this check and starts nothing\n"
    );
    assert_eq!(streams(&output), (Some(64), String::new(), expected));
}

#[test]
fn what_has_no_effect_yet_is_a_warning() {
    let place = Place::with(&format!("{VALID}disk_cache = \"1GiB\"\n"));
    let file = place.file();
    let (code, _, errors) =
        streams(&mapkeeper(&["config", "check", "--config", file.to_str().expect("UTF-8")], &[]));
    let expected = "warning: `mount[0].disk_cache` has no effect in this version\n";
    assert_eq!((code, errors.as_str()), (Some(0), expected));
}

#[test]
fn a_named_file_that_is_absent_is_an_error_with_a_cure() {
    let output = mapkeeper(&["config", "show", "--config", "/nonexistent/c.toml"], &[]);
    let expected = "mapkeeper: configuration file \"/nonexistent/c.toml\" does not exist\n\
                    hint: create \"/nonexistent/c.toml\", or name another file with --config FILE or MAPKEEPER_CONFIG\n";
    assert_eq!(streams(&output), (Some(64), String::new(), expected.to_owned()));
}

#[test]
fn a_file_that_is_not_toml_is_shown_where() {
    let place = Place::with("region = us\n\n[credentials]\nrefresh = 5m\n");
    let file = place.file();
    let name = file.to_str().expect("UTF-8");
    let (code, output, errors) = streams(&mapkeeper(&["config", "check", "--config", name], &[]));
    assert_eq!((code, output.as_str()), (Some(64), ""));
    let first = format!("mapkeeper: configuration file {name:?} is not valid TOML\n  line 1, column 10: ");
    assert!(errors.starts_with(&first), "{errors}");
    assert!(errors.contains("\n    1 | region = us\n                 ^\n  line 4, column 11: "), "{errors}");
}

#[test]
fn the_effective_values_are_toml_with_their_origins() {
    let place = Place::with(VALID);
    let file = place.file();
    let name = file.to_str().expect("UTF-8");
    let variables = [
        ("MAPKEEPER_MOUNT__0__FRESHNESS", "5s"),
        ("MAPKEEPER_CONTAINER__NAME", "mapserver"),
        ("MAPKEEPER_CONTAINER__ENVIRONMENT__DB_PASSWORD", "hunter2"),
    ];
    let (code, shown, errors) =
        streams(&mapkeeper(&["config", "show", "--origin", "--config", name], &variables));
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    for (value, origin) in [
        ("freshness = \"5s\"", "environment MAPKEEPER_MOUNT__0__FRESHNESS"),
        ("source = \"s3://maps\"", &format!("{name}:2")),
        ("memory = \"128MiB\"", "default"),
        ("DB_PASSWORD = \"[redacted]\"", "environment MAPKEEPER_CONTAINER__ENVIRONMENT__DB_PASSWORD"),
    ] {
        assert!(shown.contains(&format!("{value:48}  # {origin}\n")), "{value} {origin} in:\n{shown}");
    }
    assert!(!shown.contains("hunter2"), "{shown}");
    let again = Place::with(&shown);
    let file = again.file();
    let output = mapkeeper(&["config", "check", "--config", file.to_str().expect("UTF-8")], &[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn wrong_usage_ends_with_64_and_help_with_0() {
    for (words, code) in [
        (vec!["--help"], 0),
        (vec!["--version"], 0),
        (vec!["config", "check", "--help"], 0),
        (vec![], 64),
        (vec!["config"], 64),
        (vec!["config", "chek"], 64),
        (vec!["config", "check", "--origin"], 64),
    ] {
        let (found, output, errors) = streams(&mapkeeper(&words, &[]));
        assert_eq!(found, Some(code), "{words:?}");
        assert_eq!((output.is_empty(), errors.is_empty()), (code == 64, code == 0), "{words:?}");
    }
}

/// What a validator says of each document: `None` where it is valid.
fn validated(schema: &serde_json::Value, documents: &[serde_json::Value]) -> Vec<Option<String>> {
    const SCRIPT: &str = "import json, jsonschema, sys\n\
        schema, documents = json.load(sys.stdin)\n\
        jsonschema.Draft202012Validator.check_schema(schema)\n\
        validator = jsonschema.Draft202012Validator(schema)\n\
        print(json.dumps([next((e.json_path for e in validator.iter_errors(d)), None) for d in documents]))\n";
    // The library comes with moto.
    let make = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/moto");
    let made = Command::new(make).output().expect("tests/support/moto runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let moto = PathBuf::from(String::from_utf8(made.stdout).expect("UTF-8").trim());
    let mut child = Command::new(moto.with_file_name("python"))
        .args(["-c", SCRIPT])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("starts");
    let input = serde_json::to_vec(&(schema, documents)).expect("JSON");
    std::io::Write::write_all(&mut child.stdin.take().expect("piped"), &input).expect("read");
    let output = child.wait_with_output().expect("ends");
    assert!(output.status.success(), "the schema is a schema");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn json_of(toml: &str) -> serde_json::Value {
    let table: toml::Table = toml.parse().expect("TOML");
    serde_json::to_value(table).expect("JSON")
}

/// The path of every value that the schema knows, as in the table of settings.
fn leaves(schema: &serde_json::Value, at: &str, found: &mut std::collections::BTreeSet<String>) {
    let schema = schema.get("oneOf").map_or(schema, |both| &both[1]);
    if let Some(properties) = schema["properties"].as_object() {
        for (name, inner) in properties {
            leaves(inner, &if at.is_empty() { name.clone() } else { format!("{at}.{name}") }, found);
        }
        if schema["additionalProperties"].is_object() {
            found.insert(format!("{at}.*"));
        }
    } else if schema["items"]["properties"].is_object() {
        leaves(&schema["items"], &format!("{at}[]"), found);
    } else {
        found.insert(at.to_owned());
    }
}

#[test]
fn the_schema_knows_every_setting_and_agrees_with_the_program() {
    let output = mapkeeper(&["config", "schema"], &[]);
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let mut found = std::collections::BTreeSet::new();
    leaves(&schema, "", &mut found);
    let known = mapkeeper::config::KEYS.iter().map(|key| key.path.to_owned());
    assert_eq!(found, known.collect());

    let document = include_str!("../../docs/configuration.md");
    let example =
        document.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    let mount = "[[mount]]\nsource = \"s3://maps\"\npath = \"/srv/maps\"\n";
    let right = [
        example.to_owned(),
        mount.to_owned(),
        format!("{mount}[[container]]\nname = \"a1\"\n[[container]]\nname = \"b1\"\n"),
    ];
    let wrong = [
        ("mount[0].freshness", format!("{mount}freshness = 5\n")),
        ("mount[0].freshness", format!("{mount}freshness = \"5\"\n")),
        ("mount[0].file_mode", format!("{mount}file_mode = 644\n")),
        ("mount[0].memory", format!("{mount}memory = \"64 megs\"\n")),
        ("mount[0].read_only", format!("{mount}read_only = \"yes\"\n")),
        ("mount[0].uid", format!("{mount}uid = -1\n")),
        ("mount[0]", format!("{mount}freshnes = \"5s\"\n")),
        ("container", format!("{mount}[container]\nname = \"a1\"\nowner = \"docker\"\n")),
        ("container", format!("{mount}[container]\nname = \"a1\"\nports = \"8080:80\"\n")),
        ("", format!("{mount}[credential]\nsecret = \"maps\"\n")),
    ];
    let texts: Vec<&str> =
        right.iter().map(String::as_str).chain(wrong.iter().map(|(_, text)| text.as_str())).collect();
    let documents: Vec<_> = texts.iter().map(|text| json_of(text)).collect();
    let said = validated(&schema, &documents);
    for (number, (text, said)) in texts.iter().zip(&said).enumerate() {
        // Nobody is asked for parameters here.
        let place = Place::with(&text.replace("parameters = \"/maps/prod\"", ""));
        let file = place.file();
        let check = mapkeeper(&["config", "check", "--config", file.to_str().expect("UTF-8")], &[]);
        assert_eq!(check.status.success(), said.is_none(), "{text}\n{said:?}");
        match number.checked_sub(right.len()) {
            None => assert_eq!(*said, None, "{text}"),
            Some(number) => {
                let path = wrong[number].0;
                let expected = if path.is_empty() { "$".to_owned() } else { format!("$.{path}") };
                assert_eq!(said.as_deref(), Some(expected.as_str()), "{text}");
            }
        }
    }
}
