//! The directions in which the parts of the workspace may use each other: what the compiler cannot hold between crates.
//!
//! ```text
//!   main -> cli -> { agent, diagnose, bootstrap, demo }
//!                    agent    -> ladder, host
//!                    diagnose -> agent (looks once, changes nothing), host
//!                    host     -> bucketfs, config, aws, and the words of ladder (state)
//!   bucketfs:  session -> fuse -> { resolve, read, write } -> inode -> store        relay, journal, wire at the bottom
//! ```
//!
//! `error`, `lock`, `logging`, `terminal`, `supervisor`: used by all, use nothing above themselves.

mod sources;

use sources::{Sources, collect, root};

/// What each module of the agent's package may use of the others.
const AGENT: &[(&str, &[&str])] = &[
    ("main", &["cli", "logging"]),
    ("lib", &[]),
    (
        "cli",
        &[
            "agent",
            "bootstrap",
            "config",
            "demo",
            "diagnose",
            "error",
            "host",
            "logging",
            "supervisor",
            "terminal",
        ],
    ),
    ("diagnose", &["agent", "bootstrap", "config", "error", "host", "terminal"]),
    ("demo", &["agent", "config", "error", "host"]),
    ("agent", &["config", "error", "host", "lock", "terminal"]),
    ("bootstrap", &["aws", "config", "error", "host", "lock"]),
    ("host", &["aws", "config", "error"]),
    ("config", &["error"]),
    ("aws", &[]),
    ("error", &[]),
    ("lock", &[]),
    ("logging", &[]),
    ("supervisor", &["error"]),
    ("terminal", &[]),
];

/// The layers of the file system, the highest first. A module uses only what stands in a line below its own; what stands
/// beside it in a line is a part of the same whole.
const FILE_SYSTEM: &[&[&str]] = &[
    &[""],
    &["mount"],
    &["session"],
    &["fuse"],
    &["write", "options"],
    &["directory", "tree", "resolve"],
    &["read", "negative_cache", "single_flight"],
    &["relay", "inode"],
    &["journal", "listing", "health", "error", "attr", "cache", "random_prefetch", "connection"],
    &["store", "xattr", "wire", "caller"],
    &["measure", "mountinfo", "percent"],
];

/// Words that mean an effect, which the deciding crate must not have.
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
    (
        "fuser",
        &["crates/bucketfs/src/fuse.rs", "crates/bucketfs/src/fuse/", "crates/bucketfs/src/session.rs"],
    ),
    ("bollard", &["src/host/container.rs", "src/host/container/"]),
    ("hyper_util", &["src/host/http.rs", "src/agent/http.rs", "crates/s3-testbed/src/"]),
    ("aws_sdk_ecs", &["src/host/ecs.rs", "src/host/ecs/"]),
    ("aws_sdk_s3", &["crates/bucketfs/src/store/s3.rs", "crates/bucketfs/src/store/s3/"]),
    ("aws_sdk_efs", &["src/host/mount/efs.rs"]),
    ("aws_sdk_ssm", &["src/host/configuration/parameters.rs"]),
    ("aws_sdk_ec2", &["src/host/instance/ec2.rs"]),
    ("aws_sdk_secretsmanager", &["src/host/credentials.rs", "src/host/credentials/", "src/aws.rs"]),
    ("prometheus_client", &["src/agent/metrics.rs"]),
    ("s3s", &["crates/s3-testbed/src/"]),
    ("sd_notify", &["src/host/systemd.rs"]),
    ("tracing_journald", &["src/logging.rs"]),
    ("clap", &["src/cli.rs", "src/cli/"]),
];

/// Lines of a file, at most.
const LINES_MAX: usize = 600;
/// Lines of a function, at most, from its first to its closing brace.
const FUNCTION_MAX: usize = 60;

#[test]
fn modules_of_the_agent_depend_downwards_only() {
    let all = Sources::of_workspace();
    let mut wrong = Vec::new();
    for source in all.iter().filter(|source| source.module[0] == "mapkeeper") {
        let own = source.module.get(1).map_or("lib", String::as_str);
        let Some((_, may_use)) = AGENT.iter().find(|(name, _)| *name == own) else {
            wrong.push(format!("{}: `{own}` is in no layer: give it one here", source.path));
            continue;
        };
        for used in all.uses(source).keys().filter(|used| used[0] == "mapkeeper") {
            let target = used.get(1).map_or("lib", String::as_str);
            if target != own && !may_use.contains(&target) {
                wrong.push(format!("{}: `{own}` must not use `{}`", source.path, used.join("::")));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn layers_of_the_file_system_depend_downwards_only() {
    let all = Sources::of_workspace();
    let layer = |module: &[String]| {
        let name = module.get(1).map_or("", String::as_str);
        FILE_SYSTEM.iter().position(|names| names.contains(&name))
    };
    let mut wrong = Vec::new();
    for source in all.iter().filter(|source| source.module[0] == "bucketfs") {
        let Some(own) = layer(&source.module) else {
            wrong.push(format!("{} is in no layer: give it one here", source.path));
            continue;
        };
        for used in all.uses(source).keys().filter(|used| used[0] == "bucketfs") {
            if layer(used).is_some_and(|target| target < own) {
                wrong.push(format!("{} must not use `{}`, which is above it", source.path, used.join("::")));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn no_files_use_each_other_in_a_circle() {
    let circles = Sources::of_workspace().circles();
    let told: Vec<String> =
        circles.iter().map(|arrows| format!("circle:\n  {}", arrows.join("\n  "))).collect();
    assert!(told.is_empty(), "\n{}", told.join("\n"));
}

#[test]
fn the_deciding_crate_has_no_effects() {
    let all = Sources::of_workspace();
    let mut looked = 0;
    let mut wrong = Vec::new();
    for source in all.iter().filter(|source| source.module[0] == "ladder") {
        looked += 1;
        for effect in EFFECTS.iter().filter(|effect| source.code.contains(**effect)) {
            wrong.push(format!("{} must not name `{effect}`: it decides and does nothing", source.path));
        }
    }
    assert!(looked > 5 && wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn a_crate_of_the_outside_is_named_in_one_place() {
    let mut wrong = Vec::new();
    for source in Sources::of_workspace().iter().filter(|source| source.module[0] != "peers") {
        let words: Vec<&str> =
            source.code.split(|c: char| c.is_whitespace() || "(<&{,[!;".contains(c)).collect();
        for (name, places) in OUTSIDE {
            let names_it = words.iter().any(|word| {
                *word == *name || word.strip_prefix(name).is_some_and(|rest| rest.starts_with("::"))
            });
            if names_it && !places.iter().any(|place| source.path.starts_with(place)) {
                wrong.push(format!("{} names `{name}`, which only {places:?} may", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// The functions of a formatted file that are too long, with their lines.
fn long_functions(text: &str) -> Vec<(&str, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let length = |at: usize| {
        let indent = &lines[at][..lines[at].len() - lines[at].trim_start().len()];
        let end = lines[at..]
            .iter()
            .position(|line| line.strip_prefix(indent).is_some_and(|rest| rest.starts_with('}')));
        end.map_or(0, |end| end + 1)
    };
    let begins = |line: &str| {
        let words = line.trim_start().split(' ');
        let mut words = words.skip_while(|word| {
            ["async", "const", "unsafe", "extern", "\"C\""].contains(word) || word.starts_with("pub")
        });
        words.next() == Some("fn") && !line.ends_with([';', '}'])
    };
    let functions = (0..lines.len()).filter(|at| begins(lines[*at])).map(|at| (lines[at].trim(), length(at)));
    functions.filter(|(_, lines)| *lines > FUNCTION_MAX).collect()
}

#[test]
fn every_file_says_what_it_is_for_and_stays_readable() {
    let mut files = Vec::new();
    for directory in ["src", "crates", "tests", "benches"] {
        collect(&root().join(directory), &mut files);
    }
    let mut wrong = Vec::new();
    for file in &files {
        let text = std::fs::read_to_string(file).expect("readable");
        let lines = text.lines().count();
        if !text.starts_with("//!") {
            wrong.push(format!("{} has no header", file.display()));
        }
        for (function, lines) in long_functions(&text) {
            wrong.push(format!("{} has {lines} lines in `{function}`", file.display()));
        }
        if lines > LINES_MAX {
            wrong.push(format!("{} has {lines} lines: it holds more than one idea", file.display()));
        }
    }
    assert!(files.len() > 200 && wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn long_functions_are_found_where_they_end() {
    let body = "        x();\n".repeat(59);
    let text =
        format!("impl A {{\n    pub async fn long() {{\n{body}    }}\n\n    fn short() {{\n    }}\n}}\n");
    assert_eq!(long_functions(&text), [("pub async fn long() {", 61)]);
}
