//! A mount that somebody else puts up is proven and supervised like a bucket, and never touched.
//!
//! Here it is a tmpfs: the supervision knows of a kernel file system only what the list of mounts and a probe say.
//! Needs root.

#[path = "support/agent.rs"]
mod agent;

use agent::Agent;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::Value;

fn detail(status: &Value) -> String {
    let links = status["links"].as_array().map(Vec::as_slice).unwrap_or_default();
    let link = links.iter().find(|link| link.to_string().contains("\"maps\""));
    link.map_or(String::new(), |link| {
        let word = |name: &str| link[name].as_str().unwrap_or_default();
        format!("{} {}", word("state"), word("detail"))
    })
}

#[tokio::test]
async fn what_somebody_else_mounts_is_proven_and_missed_and_never_touched() {
    let mut agent = Agent::new();
    agent.variables.clear();
    let point = agent.point("maps");
    std::fs::create_dir(&point).expect("made");
    agent.write(&format!(
        "[[mount]]\nname = \"maps\"\nsource = \"external:\"\npath = \"{}\"\n",
        point.display()
    ));
    agent.start();
    let status = agent.until("its absence", |status| status["last_failure"].is_object()).await;
    assert_ne!(status["health"], "healthy");
    let failure = status["last_failure"]["error"].as_str().unwrap_or_default();
    assert!(failure.contains("is mounted on") && failure.contains("its source is `external:`"), "{status:#}");
    let put_up =
        || mount(Some("maps"), &point, Some("tmpfs"), MsFlags::empty(), None::<&str>).expect("mounted");
    put_up();
    let status = agent.healthy().await;
    assert!(detail(&status).starts_with("ok proven"), "{status:#}");
    let device = agent.device("maps");
    assert!(device.is_some());

    umount2(&point, MntFlags::MNT_DETACH).expect("unmounted");
    agent.until("the loss", |status| status["health"] != "healthy").await;
    assert_eq!(agent.device("maps"), None);
    put_up();
    let status = agent.healthy().await;
    assert!(status["events"].to_string().contains("recovered"), "{status:#}");

    agent.signal(nix::sys::signal::Signal::SIGTERM);
    let mut process = agent.process.take().expect("it runs");
    assert!(process.wait().expect("ended").success(), "{}", agent.said());
    assert!(agent.device("maps").is_some(), "it outlives the agent");
    umount2(&point, MntFlags::MNT_DETACH).expect("unmounted");
}
