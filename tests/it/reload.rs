//! A new configuration for an agent that runs: what differs is done and named, what is wrong is refused and said.
//!
//! Needs root and `/dev/fuse`.

use crate::support::agent;
use crate::support::aws as support;

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use agent::Agent;
use aws_sdk_ssm::types::ParameterType;
use nix::sys::signal::Signal;
use serde_json::Value;
use support::{Http, Moto};

fn events<'a>(status: &'a Value, kind: &str) -> Vec<&'a Value> {
    let events = status["events"].as_array().map(Vec::as_slice).unwrap_or_default();
    events.iter().filter(|event| event["event"] == kind).collect()
}

fn times_mounted(agent: &Agent, mount: &str) -> usize {
    agent.said().lines().filter(|line| line.contains("mount serves") && line.contains(mount)).count()
}

async fn printed(command: Command) -> String {
    let output = tokio::process::Command::from(command).output().await.expect("started");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn a_hangup_mounts_again_what_differs_and_nothing_else() {
    let mut agent = Agent::new();
    agent.write(&(agent.mount("maps", "") + &agent.mount("fonts", "")));
    agent.start();
    agent.healthy().await;
    let fonts = agent.device("fonts");
    agent.write(&(agent.mount("maps", "file_mode = \"0600\"") + &agent.mount("fonts", "")));
    agent.signal(Signal::SIGHUP);
    let status = agent
        .until("the new configuration", |status| {
            status["health"] == "healthy" && !events(status, "configured").is_empty()
        })
        .await;
    let named = &events(&status, "configured")[0]["consequences"];
    assert_eq!(*named, serde_json::json!(["mount maps is mounted again (file_mode)"]));
    assert_eq!((times_mounted(&agent, "maps"), times_mounted(&agent, "fonts")), (2, 1), "{}", agent.said());
    assert_eq!(agent.device("fonts"), fonts);
    let named = agent.said().find("new configuration").expect("it is said before it is done");
    assert!(agent.said().rfind("unmounted").is_some_and(|done| named < done), "{}", agent.said());
    let mut stat = Command::new("stat");
    stat.args(["-c", "%a"]).arg(agent.point("maps").join("file"));
    assert_eq!(printed(stat).await.trim(), "600");

    // One goes, and nothing is left of it.
    agent.write(&agent.mount("fonts", ""));
    agent.signal(Signal::SIGHUP);
    agent
        .until("one mount", |status| {
            let links = status["links"].as_array().map(Vec::as_slice).unwrap_or_default();
            status["health"] == "healthy"
                && links.iter().all(|link| link["mount"] != "maps")
                && events(status, "configured").len() == 2
        })
        .await;
    assert_eq!(agent.device("maps"), None);
    assert_eq!(agent.device("fonts"), fonts);
    agent.end().await;
}

#[tokio::test]
async fn a_bad_configuration_is_refused_and_the_old_one_goes_on_and_says_so() {
    let mut agent = Agent::new();
    agent.write(&agent.mount("maps", ""));
    agent.start();
    agent.healthy().await;
    let before = agent.device("maps");
    agent.write(&agent.mount("maps", "freshness = 5\nuid = -1"));
    agent.signal(Signal::SIGHUP);
    let status = agent.until("the refusal", |status| status["configuration_fault"].is_string()).await;
    let fault = status["configuration_fault"].as_str().expect("a text");
    assert!(fault.contains("2 faults") && fault.contains("c.toml:7: mount[0].freshness = 5"), "{fault}");
    assert_eq!(status["health"], "healthy");
    assert_eq!(agent.device("maps"), before);
    assert_eq!(events(&status, "configuration_refused").len(), 1);
    let mut status = agent.mapkeeper();
    status.arg("status");
    let shown = printed(status).await;
    assert!(shown.contains("an older configuration is in force: the configuration has 2 faults"), "{shown}");

    agent.write(&agent.mount("maps", ""));
    agent.signal(Signal::SIGHUP);
    agent.until("the cure", |status| status["configuration_fault"].is_null()).await;
    assert_eq!(agent.device("maps"), before);
    agent.end().await;
}

#[tokio::test]
async fn a_changed_parameter_is_in_force_after_the_next_poll_and_a_bad_one_is_not() {
    let moto = Moto::start(&[]);
    let ssm = aws_sdk_ssm::Client::new(&moto.sdk().await);
    let put = async |value: &str| {
        let name = "/maps/prod/mount/0/freshness";
        let put = ssm.put_parameter().name(name).value(value).r#type(ParameterType::String).overwrite(true);
        put.send().await.expect("moto stores a parameter");
    };
    put("1s").await;
    let mut agent = Agent::new();
    agent.variables.push(("AWS_ENDPOINT_URL_SSM".to_owned(), moto.url()));
    let sources = "[sources]\nparameters = \"/maps/prod\"\npoll = \"1s\"\n";
    agent.write(&(sources.to_owned() + &agent.mount("maps", "")));
    agent.start();
    agent.healthy().await;
    let before = agent.device("maps");
    put("forever").await;
    let status = agent.until("the refusal", |status| status["configuration_fault"].is_string()).await;
    let fault = status["configuration_fault"].as_str().expect("a text");
    assert!(
        fault.contains("parameter /maps/prod/mount/0/freshness: mount[0].freshness = \"forever\""),
        "{fault}"
    );
    assert_eq!((times_mounted(&agent, "maps"), agent.device("maps")), (1, before));
    put("2s").await;
    let status = agent
        .until("the new parameter", |status| {
            status["health"] == "healthy"
                && status["configuration_fault"].is_null()
                && !events(status, "configured").is_empty()
        })
        .await;
    let named = &events(&status, "configured")[0]["consequences"];
    assert_eq!(*named, serde_json::json!(["mount maps is mounted again (freshness)"]));
    assert_eq!(times_mounted(&agent, "maps"), 2, "{}", agent.said());
    agent.end().await;
}

const TAGS: &str = "/latest/meta-data/tags/instance/";

/// The metadata of an instance on which somebody has written tags, told while the switch is on.
fn tagged(is_told: &Arc<AtomicBool>) -> Http {
    let is_told = is_told.clone();
    Http::start(move |request| {
        let answer = |status, headers: &str, text: &str| Some((status, headers.to_owned(), text.to_owned()));
        if request.method == "PUT" {
            return answer(200, "x-aws-ec2-metadata-token-ttl-seconds: 21600\r\n", "TOKEN");
        }
        match request.path.strip_prefix(TAGS) {
            Some(_) if !is_told.load(Ordering::SeqCst) => answer(500, "", ""),
            Some("") => answer(200, "", "Name\nmapkeeper:mount.0.file_mode\nmapkeeper:mount.0.read_only"),
            Some("mapkeeper:mount.0.file_mode") => answer(200, "", "0600"),
            Some("mapkeeper:mount.0.read_only") => answer(200, "", "false"),
            _ => answer(404, "", ""),
        }
    })
}

fn on_instance(metadata: &Http) -> Agent {
    let mut agent = Agent::new();
    let variables = [
        ("AWS_EC2_METADATA_DISABLED", "false"),
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata.url.as_str()),
    ];
    agent.variables.extend(variables.map(|(name, value)| (name.to_owned(), value.to_owned())));
    agent
}

const WITH_TAGS: &str = "[sources]\ninstance_tags = true\npoll = \"1s\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn tags_are_no_settings_before_the_operator_says_so_and_then_only_harmless_ones_are() {
    let metadata = tagged(&Arc::new(AtomicBool::new(true)));
    let mut agent = on_instance(&metadata);
    agent.write(&agent.mount("maps", ""));
    agent.start();
    agent.healthy().await;
    let asked = |http: &Http| http.requests().iter().any(|request| request.path.starts_with(TAGS));
    assert!(!asked(&metadata), "nobody has asked for tags");
    agent.write(&(WITH_TAGS.to_owned() + &agent.mount("maps", "")));
    agent.signal(Signal::SIGHUP);
    let status = agent.until("the tags", |status| !events(status, "configured").is_empty()).await;
    let named = events(&status, "configured")[0]["consequences"].to_string();
    assert!(named.contains("mount maps is mounted again (file_mode)"), "{named}");
    let refused = "tag mapkeeper:mount.0.read_only: mount[0].read_only: no tag may set this";
    assert_eq!(agent.said().matches(refused).count(), 1, "{}", agent.said());
    agent.healthy().await;
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_that_cannot_be_asked_keep_no_agent_from_starting_and_those_known_last_hold() {
    let is_told = Arc::new(AtomicBool::new(false));
    let metadata = tagged(&is_told);
    let mut agent = on_instance(&metadata);
    agent.write(&(WITH_TAGS.to_owned() + &agent.mount("maps", "")));
    agent.start();
    agent.healthy().await;
    let is_missed = |status: &Value| {
        status["configuration_fault"]
            .as_str()
            .is_some_and(|fault| fault.contains("tags of this instance cannot be"))
    };
    agent.until("what is missed", is_missed).await;
    is_told.store(true, Ordering::SeqCst);
    let holds = |status: &Value| status["health"] == "healthy" && status["configuration_fault"].is_null();
    agent.until("the tags", |status| holds(status) && !events(status, "configured").is_empty()).await;
    assert_eq!(times_mounted(&agent, "maps"), 2, "{}", agent.said());
    is_told.store(false, Ordering::SeqCst);
    agent.until("what is missed again", is_missed).await;
    // A change elsewhere is taken all the same, and the tags stay as they were known.
    agent.write(&(WITH_TAGS.to_owned() + &agent.mount("maps", "") + &agent.mount("fonts", "")));
    agent.signal(Signal::SIGHUP);
    agent.until("another mount", |status| status.to_string().contains("fonts") && is_missed(status)).await;
    agent.healthy().await;
    assert_eq!(times_mounted(&agent, "maps"), 2, "{}", agent.said());
    agent.end().await;
}
