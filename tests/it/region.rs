//! A region that nobody has configured: the instance metadata tells it, sooner or later.
//!
//! Needs root and `/dev/fuse`.

use crate::support::agent;
use crate::support::aws as support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use agent::Agent;
use mapkeeper::host::mount;
use serde_json::Value;
use support::{Http, REGION};

const LATE: Duration = Duration::from_millis(2500);

#[tokio::test(flavor = "multi_thread")]
async fn a_region_that_the_instance_tells_late_is_used_and_kept() {
    let is_told = Arc::new(AtomicBool::new(false));
    let tells = is_told.clone();
    let metadata = Http::start(move |request| {
        let answer = |status, headers: &str, text: &str| Some((status, headers.to_owned(), text.to_owned()));
        let is_told = tells.load(Ordering::SeqCst);
        // Token and region together take longer than a look at a bucket waits.
        std::thread::park_timeout(if is_told { LATE } else { Duration::ZERO });
        match (request.method.as_str(), request.path.as_str()) {
            ("PUT", _) => answer(200, "x-aws-ec2-metadata-token-ttl-seconds: 21600\r\n", "TOKEN"),
            (_, "/latest/meta-data/placement/region") if is_told => answer(200, "", REGION),
            (_, "/latest/meta-data/placement/region") => answer(500, "", ""),
            (_, "/latest/meta-data/tags/instance/") => answer(200, "", "Name"),
            _ => answer(404, "", ""),
        }
    });
    let mut agent = Agent::new();
    let variables = [
        ("AWS_EC2_METADATA_DISABLED", "false"),
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata.url.as_str()),
    ];
    agent.variables.extend(variables.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let both = agent.mount("maps", "") + &agent.mount("fonts", "");
    std::fs::write(agent.file(), both).expect("written");
    agent.start();
    let why = "it is not known in which AWS region the bucket \\\"maps\\\" is to be asked";
    let status = agent.until("what is wrong", |status| status.to_string().contains(why)).await;
    assert!(status.to_string().contains("set `region` or AWS_REGION"), "{status:#}");
    is_told.store(true, Ordering::SeqCst);
    agent.healthy().await;
    // What is mounted anew needs no other answer.
    is_told.store(false, Ordering::SeqCst);
    let mounts = || agent.said().matches("mount serves").count();
    let before = mounts();
    mount::detach(&agent.point("maps")).expect("unmounted");
    let serves_again = |status: &Value| status["health"] == "healthy" && mounts() > before;
    agent.until("another mount", serves_again).await;
    agent.end().await;
}
