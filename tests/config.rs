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
    let place = Place::with(&format!(
        "{VALID}disk_cache = \"1GiB\"\nread_only = false\n[health]\nlisten = \"127.0.0.1:8081\"\n"
    ));
    let file = place.file();
    let (code, _, errors) =
        streams(&mapkeeper(&["config", "check", "--config", file.to_str().expect("UTF-8")], &[]));
    let expected = "warning: `mount[0].read_only = false` is refused by `run` and `mount` in this version\n\
                    warning: `mount[0].disk_cache` has no effect in this version\n\
                    warning: `health.listen` has no effect in this version\n";
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
