//! A mount that somebody else puts up is proven and supervised like a bucket, and never touched.
//!
//! Here it is a tmpfs: the supervision knows of a kernel file system only what the list of mounts and a probe say.
//! Needs root.

use crate::support::agent;
use crate::support::aws as support;

use agent::Agent;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::Value;

fn detail(status: &Value) -> String {
    let links = status["links"].as_array().map(Vec::as_slice).unwrap_or_default();
    let link = links.iter().find(|link| link["kind"] == "mount" && link["name"] == "maps");
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
    assert!(!status["links"].to_string().contains("store"), "it has no bucket: {status:#}");
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

#[tokio::test]
async fn a_file_system_is_found_by_its_name_if_exactly_one_has_it() {
    let moto = support::Moto::start(&[]);
    let sdk = moto.sdk().await;
    let efs = aws_sdk_efs::Client::new(&sdk);
    let mut ids = Vec::new();
    for (number, name) in ["maps", "fonts", "fonts"].iter().enumerate() {
        let tag = aws_sdk_efs::types::Tag::builder().key("Name").value(*name).build().expect("complete");
        let create = efs.create_file_system().creation_token(number.to_string()).tags(tag).send().await;
        ids.push(create.expect("moto makes a file system").file_system_id().to_owned());
    }
    assert_eq!(mapkeeper::host::mount::file_system_id(&sdk, "maps").await.expect("one"), ids[0]);
    let told = async |name| {
        mapkeeper::host::mount::file_system_id(&sdk, name).await.expect_err("not one").to_string()
    };
    assert_eq!(told("rasters").await, "no EFS file system has the tag Name = \"rasters\"");
    let two = told("fonts").await;
    assert!(
        two.starts_with("2 EFS file systems have the tag Name = \"fonts\": fs-") && two.contains(&ids[2]),
        "{two}"
    );
}
