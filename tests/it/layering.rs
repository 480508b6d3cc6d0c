//! The direction in which modules may depend on each other, and the one file that may name a crate of the outside.
//!
//! ```text
//!   main -> cli -> demo -> agent -> agent/plan -> agent/state      (pure: no IO, clock, log, random)
//!                              \-> agent/live -> probe, mount -> fs -> fs/store
//!                                            \-> container, credentials, ecs
//!              \-> inspect -> agent (read only), probe, mount, container, credentials, ecs, instance
//!   config/source, ecs -> instance -> aws
//!   config, error, lock, systemd, logging, mountinfo: used by all, use nothing above themselves
//! ```
//!
//! It reads the sources as text: every `crate::`, `super::` and crate name in code, comments and tests aside.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What each module of the crate's root may use of the others.
const ALLOWED: &[(&str, &[&str])] = &[
    ("main", &["cli", "logging"]),
    ("lib", &[]),
    (
        "cli",
        &[
            "agent",
            "bootstrap",
            "config",
            "credentials",
            "demo",
            "error",
            "fs",
            "inspect",
            "instance",
            "logging",
            "mount",
            "mountinfo",
            "probe",
            "supervisor",
            "systemd",
            "terminal",
        ],
    ),
    (
        "inspect",
        &[
            "agent",
            "bootstrap",
            "config",
            "container",
            "credentials",
            "ecs",
            "error",
            "fs",
            "instance",
            "mount",
            "mountinfo",
            "probe",
            "terminal",
        ],
    ),
    ("demo", &["agent", "config", "container", "credentials", "error", "mount", "probe", "s3_server"]),
    (
        "agent",
        &[
            "aws",
            "config",
            "container",
            "credentials",
            "ecs",
            "error",
            "fs",
            "instance",
            "lock",
            "measure",
            "mount",
            "probe",
            "systemd",
            "terminal",
        ],
    ),
    ("ecs", &["aws", "error", "instance", "probe"]),
    ("mount", &["aws", "config", "credentials", "error", "fs", "measure", "mountinfo", "systemd"]),
    ("container", &["config", "error", "mountinfo"]),
    ("probe", &["config", "error"]),
    ("credentials", &["aws", "error"]),
    ("bootstrap", &["aws", "config", "error", "fs", "instance", "lock"]),
    ("instance", &["aws", "error"]),
    ("fs", &["measure", "mountinfo"]),
    ("config", &["aws", "error", "instance"]),
    ("lock", &[]),
    ("logging", &[]),
    ("measure", &[]),
    ("terminal", &[]),
    ("systemd", &["error"]),
    ("supervisor", &["error"]),
    ("s3_server", &["error"]),
    ("aws", &[]),
    ("error", &[]),
    ("mountinfo", &[]),
];

/// Parts of modules that are held to more than their module is.
const NARROWER: &[(&str, &[&str])] = &[
    ("src/agent/state.rs", &[]),
    ("src/agent/state/seen.rs", &[]),
    ("src/agent/state/figures.rs", &[]),
    ("src/agent/state/timing.rs", &[]),
    ("src/agent/plan.rs", &["agent::state"]),
    ("src/agent/plan/judge.rs", &["agent::state", "agent::plan"]),
    ("src/agent/plan/course.rs", &["agent::state", "agent::plan"]),
    ("src/agent/plan/link.rs", &["agent::state", "agent::plan"]),
    ("src/agent/plan/history.rs", &["agent::state", "agent::plan"]),
    ("src/fs/attr.rs", &["fs::store"]),
    ("src/fs/store.rs", &[]),
];

/// Words that mean an effect, which the deciding part must not have.
const EFFECTS: &[&str] = &[
    "tokio",
    "tracing",
    "std::fs",
    "std::net",
    "std::process",
    "Instant",
    "SystemTime",
    "fastrand",
    "std::env",
    "async ",
];

/// A crate of the outside and where it may be named.
const OUTSIDE: &[(&str, &[&str])] = &[
    ("fuser", &["src/fs/fuse.rs", "src/fs/fuse/", "src/fs/session.rs"]),
    ("bollard", &["src/container.rs", "src/container/"]),
    ("aws_sdk_ecs", &["src/ecs.rs"]),
    ("aws_sdk_s3", &["src/fs/store/s3.rs", "src/fs/store/s3/"]),
    ("aws_sdk_efs", &["src/mount/efs.rs"]),
    ("aws_sdk_ssm", &["src/config/source/parameters.rs"]),
    ("aws_sdk_ec2", &["src/instance/ec2.rs"]),
    ("aws_sdk_secretsmanager", &["src/credentials.rs", "src/aws.rs"]),
    ("prometheus_client", &["src/agent/metrics.rs"]),
    ("s3s", &["src/s3_server.rs", "src/s3_server/"]),
    ("sd_notify", &["src/systemd.rs"]),
    ("tracing_journald", &["src/logging.rs"]),
    ("clap", &["src/cli.rs", "src/cli/"]),
];

struct Source {
    /// From the package's root, `src/fs/tree.rs`.
    path: String,
    /// Code without comments and without what only tests see.
    code: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    collect(&root.join("src"), &mut files);
    files.sort();
    let read = |file: &PathBuf| {
        let text = std::fs::read_to_string(file).expect("readable");
        let path = file.strip_prefix(root).expect("below the root").to_string_lossy().into_owned();
        Source { path, code: code_of(&text) }
    };
    files.iter().filter(|file| !is_for_tests(file)).map(read).collect()
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).expect("readable") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn is_for_tests(file: &Path) -> bool {
    let name = file.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
    name == "tests" || name == "properties" || file.components().any(|part| part.as_os_str() == "tests")
}

fn code_of(text: &str) -> String {
    let code = text.split("\n#[cfg(test)]\nmod ").next().unwrap_or(text);
    let without_comment = |line: &str| line.split("//").next().unwrap_or_default().to_owned();
    code.lines().map(without_comment).collect::<Vec<_>>().join("\n")
}

/// The root module that a file belongs to.
fn module_of(path: &str) -> &str {
    let below = path.strip_prefix("src/").unwrap_or(path);
    below.split(['/', '.']).next().unwrap_or(below)
}

/// `crate::a::b` and `crate::{a, b}` as "a::b", "a", "b".
fn uses(code: &str) -> Vec<String> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let mut found = Vec::new();
    for (at, marker) in code.match_indices("crate::") {
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = &code[at + marker.len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 1;
            let mut item = String::new();
            for c in group.chars() {
                match c {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    _ => {}
                }
                if depth == 0 || (depth == 1 && c == ',') {
                    found.push(item.trim().chars().take_while(|c| is_name(*c)).collect());
                    item.clear();
                } else {
                    item.push(c);
                }
                if depth == 0 {
                    break;
                }
            }
        } else {
            found.push(rest.chars().take_while(|c| is_name(*c)).collect());
        }
    }
    found.retain(|name: &String| !name.is_empty());
    found
}

#[test]
fn modules_depend_downwards_only() {
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.iter().copied().collect();
    let mut wrong = Vec::new();
    for source in sources() {
        let module = module_of(&source.path);
        let Some(may_use) = allowed.get(module) else {
            wrong.push(format!(
                "{}: `{module}` is in no layer: give it one in tests/layering.rs",
                source.path
            ));
            continue;
        };
        for used in uses(&source.code) {
            let target = used.split("::").next().unwrap_or_default();
            if allowed.contains_key(target) && target != module && !may_use.contains(&target) {
                wrong.push(format!("{}: `{module}` must not use `crate::{used}`", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn the_library_of_main_is_its_command_line() {
    let main = sources().into_iter().find(|source| source.path == "src/main.rs").expect("there is a main");
    let used: Vec<&str> = main
        .code
        .match_indices("mapkeeper::")
        .map(|(at, marker)| {
            main.code[at + marker.len()..].split([':', ';', ',', '}']).next().unwrap_or_default()
        })
        .map(|name| name.trim_start_matches('{').trim())
        .collect();
    assert!(!used.is_empty());
    for name in used {
        assert!(["cli", "logging"].contains(&name), "src/main.rs uses `mapkeeper::{name}`");
    }
}

#[test]
fn the_deciding_part_has_no_effects_and_knows_only_what_is_plain() {
    let sources = sources();
    let mut wrong = Vec::new();
    for (path, may_use) in NARROWER {
        let source = sources.iter().find(|source| source.path == *path);
        let source = source.unwrap_or_else(|| panic!("{path} is gone: correct tests/layering.rs"));
        for used in uses(&source.code) {
            if !may_use.iter().any(|prefix| used.starts_with(prefix)) && !used.starts_with("error") {
                wrong.push(format!("{path} must not use `crate::{used}`"));
            }
        }
    }
    for source in sources.iter().filter(|source| {
        source.path.starts_with("src/agent/state") || source.path.starts_with("src/agent/plan")
    }) {
        for effect in EFFECTS.iter().filter(|effect| source.code.contains(**effect)) {
            wrong.push(format!("{} must not name `{effect}`: it decides and does nothing", source.path));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn a_crate_of_the_outside_is_named_in_one_place() {
    let mut wrong = Vec::new();
    for source in sources() {
        for (name, places) in OUTSIDE {
            let names_it =
                [format!("{name}::"), format!("use {name};"), format!("{name} as ")].iter().any(|text| {
                    source
                        .code
                        .split(|c: char| c.is_whitespace() || "(<&{,[!".contains(c))
                        .any(|word| word.starts_with(text.as_str()))
                });
            if names_it && !places.iter().any(|place| source.path.starts_with(place)) {
                wrong.push(format!("{} names `{name}`, which only {places:?} may", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_file_says_what_it_is_for_and_stays_readable() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for directory in ["src", "tests", "benches", "examples"] {
        if root.join(directory).is_dir() {
            collect(&root.join(directory), &mut files);
        }
    }
    for file in files {
        let text = std::fs::read_to_string(&file).expect("readable");
        assert!(text.starts_with("//!"), "{} has no header", file.display());
        let lines = text.lines().count();
        assert!(lines <= 1500, "{} has {lines} lines: it holds more than one idea", file.display());
    }
}

#[test]
fn uses_are_found_however_they_are_written() {
    let code = "use crate::a::B; use crate::{c, d::{E, F}, g::H}; fn f() { crate::i::j(); other_crate::k() }";
    assert_eq!(uses(code), ["a::B", "c", "d::", "g::H", "i::j"]);
}
