//! What a host tells monitoring and people: a real scrape judged by promtool, the rules and the dashboard against it, and
//! the status page in a browser, healthy and degraded.
//!
//! Everything is real. Needs root, `/dev/fuse`, Docker, the image `mapserver:8`, promtool and Chromium.

use crate::support::world;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use mapkeeper::host::http;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use world::{HEALTH_MAP, Kit, LIMIT, World, output};

fn monitoring(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/monitoring").join(name)
}

async fn observed(name: &str) -> (World, String) {
    let address = format!("127.0.0.1:{}", crate::support::port::own());
    let end = format!("[health]\nlisten = \"{address}\"\n");
    (World::healthy_with(name, Kit { end, ..Kit::default() }).await, format!("http://{address}"))
}

async fn get(url: &str) -> String {
    let answer = http::get(url, Duration::from_secs(20)).await.expect("an answer");
    assert_eq!(answer.status, 200, "{url}");
    String::from_utf8(answer.body.to_vec()).expect("text")
}

/// Runs `program` with `input`, and answers what it said and whether it was content.
fn judged(program: &str, arguments: &[&str], input: &str) -> (bool, String) {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child =
        command.spawn().unwrap_or_else(|error| panic!("{program}: {error}; scripts/install has it"));
    child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("taken");
    let output = child.wait_with_output().expect("ended");
    let said =
        [output.stdout, output.stderr].map(|part| String::from_utf8_lossy(&part).into_owned()).concat();
    (output.status.success(), said)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scrape_pleases_promtool_and_has_every_series_that_rules_and_dashboard_use() {
    let (world, url) = observed("scrape").await;
    // Files are read, S3 is asked, and something is repaired.
    let read = output(
        Command::new("sh").arg("-c").arg(format!("cat {}/*; ls -l {0}/none", world.point().display())),
    )
    .await;
    assert!(!read.stdout.is_empty());
    world.repaired("container removed", async || drop(world.docker(&["rm", "--force"]).await)).await;
    let began = Instant::now();
    let scrape = loop {
        let scrape = get(&format!("{url}/metrics")).await;
        // What a month costs is known after a minute.
        if scrape.contains("mapkeeper_s3_cost_dollars_per_month{") {
            break scrape;
        }
        assert!(began.elapsed() < 2 * LIMIT, "{scrape}");
        sleep(Duration::from_secs(1)).await;
    };
    let (pleased, said) = judged("promtool", &["check", "metrics"], &scrape);
    println!("promtool check metrics: {}\n{said}", if pleased { "SUCCESS" } else { "FAILED" });
    assert!(pleased, "{said}");
    for (arguments, file) in [
        (["check", "rules"], "alerts.yml"),
        (["test", "rules"], "alerts.test.yml"),
        (["check", "config"], "prometheus.yml"),
    ] {
        let path = monitoring(file).display().to_string();
        let (pleased, said) = judged("promtool", &[&arguments[..], &[path.as_str()]].concat(), "");
        println!("promtool {}: {said}", arguments.join(" "));
        assert!(pleased, "{said}");
    }
    let series: BTreeSet<&str> = scrape
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split(['{', ' ']).next().unwrap_or_default())
        .collect();
    let names = regex_lite::Regex::new(r"\b(mapkeeper|process)_[a-z0-9_]+").expect("a pattern");
    let mut used = BTreeSet::new();
    for file in ["alerts.yml", "dashboard.json"] {
        let text = std::fs::read_to_string(monitoring(file)).expect("readable");
        let text = if file.ends_with("json") { expressions(&text) } else { text };
        used.extend(names.find_iter(&text).map(|name| name.as_str().to_owned()));
    }
    assert!(used.len() > 15, "{used:?}");
    let unknown: Vec<_> = used.iter().filter(|name| !series.contains(name.as_str())).collect();
    assert!(unknown.is_empty(), "rules and dashboard use {unknown:?}, there is {series:?}");
    for told in [
        "operation=\"lookup\"",
        "operation=\"read\"",
        "operation=\"get\"",
        "action=\"create\"",
        "state=\"healthy\"} 1.0",
    ] {
        assert!(scrape.contains(told), "{told} is not in it:\n{scrape}");
    }
    world.end().await;
}

/// The queries of a dashboard; each panel has one, and a title of its own.
fn expressions(dashboard: &str) -> String {
    let dashboard: Value = serde_json::from_str(dashboard).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let titles: BTreeSet<_> = panels.iter().map(|panel| panel["title"].to_string()).collect();
    assert_eq!(titles.len(), panels.len());
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().expect("targets"));
    targets.map(|target| target["expr"].as_str().expect("a query").to_owned() + "\n").collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_shows_the_chain_in_a_browser_healthy_and_degraded() {
    let (world, url) = observed("page").await;
    let began = Instant::now();
    // Few points make a line already.
    while !get(&url).await.split("<polyline points=\"").skip(1).all(|line| points(line) >= 4) {
        assert!(began.elapsed() < LIMIT, "the lines stay short");
        sleep(Duration::from_millis(500)).await;
    }
    let healthy = browsed(&world, &url, "healthy").await;
    assert!(healthy.contains("mapkeeper: healthy"), "{healthy}");
    for link in ["credentials", "bucket", "mount", "docker", "container", "service"] {
        assert!(healthy.contains(&format!("<span class=\"kind\">{link}</span>")), "{link}: {healthy}");
    }
    assert!(healthy.contains("WMS answer") && healthy.contains("<polyline points=\""), "{healthy}");
    world.server().store().put("maps", "health.map", "MAP\n  <b>NONSENSE</b>\nEND\n", &[]).expect("stored");
    world.until("the report", |status| status["health"] != "healthy").await;
    let degraded = browsed(&world, &url, "degraded").await;
    assert!(
        degraded.contains("mapkeeper: degraded") && degraded.contains("First fault: service"),
        "{degraded}"
    );
    assert!(degraded.contains("correct the mapfile"), "the cure is on it: {degraded}");
    assert!(!degraded.contains("<b>NONSENSE"), "what comes from outside is text");
    world.server().store().put("maps", "health.map", HEALTH_MAP, &[]).expect("stored");
    world.until("health", |status| status["health"] == "healthy").await;
    world.end().await;
}

/// Points of a line that begins here.
fn points(line: &str) -> usize {
    line.split('"').next().unwrap_or_default().matches(',').count()
}

/// What the page is after the browser has read it; a picture of it is kept where `PAGE_PICTURES` says.
async fn browsed(world: &World, url: &str, name: &str) -> String {
    let profile = world.scratch.path().join("browser");
    let chromium = || {
        let mut command = Command::new("chromium");
        command.args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--hide-scrollbars",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
        ]);
        command.arg(format!("--user-data-dir={}", profile.display())).stdin(Stdio::null());
        command
    };
    let dom = output(chromium().args(["--dump-dom", url])).await;
    assert!(dom.status.success(), "{}", String::from_utf8_lossy(&dom.stderr));
    let picture = world.scratch.path().join(format!("{name}.png"));
    let shot = format!("--screenshot={}", picture.display());
    let taken = output(chromium().args([&shot, "--window-size=1100,1000", url])).await;
    assert!(taken.status.success(), "{}", String::from_utf8_lossy(&taken.stderr));
    let bytes = std::fs::read(&picture).expect("a picture");
    assert!(bytes.starts_with(b"\x89PNG") && bytes.len() > 10_000, "{} bytes", bytes.len());
    if let Some(kept) = std::env::var_os("PAGE_PICTURES") {
        std::fs::copy(&picture, Path::new(&kept).join(format!("page-{name}.png"))).expect("kept");
    }
    String::from_utf8_lossy(&dom.stdout).into_owned()
}
