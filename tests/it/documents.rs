//! Every command in the documents is run: here, or by the test that is named for it.
//!
//! Blocks of shell in README, CONTRIBUTING and docs/ are taken as they stand and run against an agent of this test, with a
//! bucket of this test in the place of the one that is named. Commands between backticks are at least understood by the
//! command line. A command that is in no list fails the test. Needs root and `/dev/fuse`.

use crate::support::agent;

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use agent::{Agent, LIMIT};
use bucketfs::mountinfo::MountTable;
use clap::Parser;
use mapkeeper::cli::Cli;
use s3_testbed::{ACCESS_KEY, SECRET_KEY};
use tokio::time::{Instant, sleep};

/// Commands that another test or script runs: how they begin, the file that runs them, and a word of it.
const ELSEWHERE: &[(&str, &str, &str)] = &[
    ("make", "Makefile", ".PHONY"),
    ("scripts/install", ".ci/run", "scripts/install"),
    ("scripts/docker", "Makefile", "scripts/docker run"),
    ("scripts/simulation", "scripts/test", "simulation"),
    ("scripts/mutants", "Makefile", "scripts/mutants"),
    ("scripts/nextest", "scripts/test", "scripts/nextest"),
    ("cargo test -p ladder", "scripts/nextest", "--workspace"),
    ("cargo bench", "Makefile", "cargo bench"),
    ("docker run", "tests/it/container.rs", "mapserver:8"),
    ("journalctl MESSAGE_ID", "src/agent/status/tracker.rs", "6d2b5c4f1e0a4c7d9b3f8a1765c0e2d2"),
    ("curl -s http://127.0.0.1:8081/metrics", "tests/it/observability.rs", "promtool"),
    ("mapkeeper bootstrap", "tests/it/bootstrap.rs", "bootstrap"),
    ("mapkeeper run", "tests/it/support/agent.rs", "arg(\"run\")"),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn documents() -> Vec<(String, String)> {
    let mut files = vec![root().join("README.md"), root().join("CONTRIBUTING.md")];
    let docs = std::fs::read_dir(root().join("docs")).expect("readable");
    files.extend(
        docs.map(|entry| entry.expect("readable").path())
            .filter(|path| path.extension().is_some_and(|end| end == "md")),
    );
    files.sort();
    let read = |path: PathBuf| {
        let name = path.strip_prefix(root()).expect("below the root").display().to_string();
        (name, std::fs::read_to_string(path).expect("readable"))
    };
    files.into_iter().map(read).collect()
}

/// The lines of the blocks of shell, without comments.
fn commands(text: &str) -> Vec<String> {
    let mut inside = false;
    let mut found = Vec::new();
    for line in text.lines() {
        let line = line.trim();
        if line.starts_with("```") {
            inside = line == "```sh";
        } else if inside {
            let command = line.split(" #").next().unwrap_or_default().trim();
            if !command.is_empty() && !command.starts_with('#') {
                found.push(command.to_owned());
            }
        }
    }
    found
}

/// A command without the variables before it.
fn plain(command: &str) -> &str {
    let mut rest = command;
    while let Some((first, after)) = rest.split_once(' ') {
        let is_variable = first
            .split_once('=')
            .is_some_and(|(name, _)| name.chars().all(|letter| letter.is_ascii_uppercase() || letter == '_'));
        if !is_variable {
            break;
        }
        rest = after;
    }
    rest
}

#[test]
fn what_other_tests_run_is_run_there() {
    for (command, file, word) in ELSEWHERE {
        let text = std::fs::read_to_string(root().join(file))
            .unwrap_or_else(|_| panic!("no {file}, which runs {command}"));
        assert!(text.contains(word), "{file} is said to run `{command}` and does not say {word}");
    }
}

#[test]
fn what_stands_between_backticks_is_understood() {
    let span = regex_lite::Regex::new(r"`(mapkeeper [a-z][^`]*)`").expect("a pattern");
    let mut seen = BTreeSet::new();
    for (file, text) in documents() {
        let text = text.replace('\n', " ");
        for found in span.captures_iter(&text) {
            let words: Vec<&str> = found[1].split_whitespace().collect();
            // A command that is only named: its arguments are left out.
            let named = words.len() == 2;
            match Cli::try_parse_from(&words) {
                Ok(_) => {}
                Err(error) if named && error.kind() == clap::error::ErrorKind::MissingRequiredArgument => {}
                Err(error) if error.kind() == clap::error::ErrorKind::DisplayHelp => {}
                Err(error)
                    if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {}
                Err(error) => panic!("{file}: `{}`: {error}", &found[1]),
            }
            seen.insert(found[1].to_owned());
        }
    }
    assert!(seen.len() > 10, "{seen:?}");
}

/// A directory in which the documents' commands run.
struct Stage {
    agent: Agent,
    directory: PathBuf,
}

impl Stage {
    /// An agent that serves, `mapkeeper` in the path, and `maps.toml` as the documents have it.
    async fn new() -> Stage {
        let mut agent = Agent::new();
        let map = "MAP CONFIG MS_ERRORFILE stderr PROJECTION 'init=epsg:4326' END WEB METADATA 'wms_srs' 'EPSG:4326' \
            'wms_enable_request' '*' END END END";
        agent.server.store().put("maps", "island.map", map, &[]).expect("stored");
        agent.server.store().create_bucket("mapserver-bucket").expect("made");
        let prepared = "[bootstrap]\nbinary_url = \"https://example.com/mapkeeper\"\nbinary_sha256 = \
            \"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"\n";
        agent.write(&(agent.mount("maps", "") + prepared));
        let directory = agent.scratch.path().join("stage");
        std::fs::create_dir_all(directory.join("bin")).expect("made");
        std::fs::create_dir(directory.join("srv")).expect("made");
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_mapkeeper"), directory.join("bin/mapkeeper"))
            .expect("linked");
        std::fs::copy(agent.file(), directory.join("maps.toml")).expect("copied");
        let passwd = directory.join("passwd-s3fs");
        std::fs::write(&passwd, format!("{ACCESS_KEY}:{SECRET_KEY}\n")).expect("written");
        std::fs::set_permissions(&passwd, std::fs::Permissions::from_mode(0o600)).expect("set");
        agent.start();
        agent.healthy().await;
        Stage { agent, directory }
    }

    fn shell(&self, line: &str) -> Command {
        let line = line.replace("/srv/maps", &self.directory.join("srv").display().to_string());
        let line =
            line.replace("/etc/passwd-s3fs", &self.directory.join("passwd-s3fs").display().to_string());
        let line = line.replace("docs/", &format!("{}/", root().join("docs").display()));
        let of_agent = self.agent.mapkeeper();
        let mut command = Command::new("sh");
        for (name, value) in of_agent.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let path =
            format!("{}:{}", self.directory.join("bin").display(), std::env::var("PATH").expect("a path"));
        command
            .env("PATH", path)
            .env("AWS_ENDPOINT_URL", self.agent.server.endpoint())
            .env("AWS_REGION", "us-east-1");
        command.current_dir(&self.directory).stdin(Stdio::null()).arg("-c").arg(line);
        command
    }

    async fn run(&self, line: &str) -> Output {
        let output = tokio::process::Command::from(self.shell(line)).output();
        tokio::time::timeout(LIMIT, output)
            .await
            .unwrap_or_else(|_| panic!("{line} does not end"))
            .expect("a shell")
    }

    /// Mounts until it serves, and ends as a terminal would end it.
    async fn mounts(&self, line: &str) {
        let mut child = self.shell(&format!("exec {line}")).spawn().expect("started");
        let point = self.directory.join("srv").canonicalize().expect("there");
        let began = Instant::now();
        while MountTable::of(None).expect("readable").top(&point).is_none() {
            assert!(child.try_wait().expect("asked").is_none(), "{line} ended");
            assert!(began.elapsed() < LIMIT, "{line} does not mount");
            sleep(std::time::Duration::from_millis(50)).await;
        }
        let pid = nix::unistd::Pid::from_raw(child.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("it runs");
        let ended = tokio::task::spawn_blocking(move || child.wait()).await.expect("waited").expect("ended");
        assert_eq!(ended.code(), Some(0), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_in_the_documents_is_run() {
    let stage = Stage::new().await;
    let mut run = 0;
    for (file, text) in documents() {
        for line in commands(&text) {
            let command = plain(&line);
            if ELSEWHERE.iter().any(|(begins, ..)| command.starts_with(begins)) {
                continue;
            }
            // Blocks of variables alone are compared with the settings by tests/it/config.rs.
            if line.starts_with("MAPKEEPER_") {
                continue;
            }
            run += 1;
            if command.starts_with("mapkeeper mount") {
                stage.mounts(&line).await;
                continue;
            }
            let known = ["mapkeeper ", "tar ", "promtool "].iter().any(|begins| command.starts_with(begins));
            assert!(known, "{file}: `{line}` is run by no test: name the one that runs it");
            // A bundle without a name has one of the second in which it is made.
            drop(stage.run("rm -f mapkeeper-*.tar").await);
            let output = stage.run(&line).await;
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            // What looks at the host may find it wanting: that is an answer.
            let may_find =
                command.starts_with("mapkeeper doctor") || command.starts_with("mapkeeper explain");
            let code = output.status.code().unwrap_or(-1);
            assert!(code == 0 || (may_find && code == 1), "{file}: `{line}` ended with {code}: {said}");
        }
    }
    assert!(run >= 20, "only {run} commands were run");
    assert!(stage.run("mapkeeper resume").await.status.success());
    stage.agent.healthy().await;
    stage.agent.end().await;
}
