//! The metadata service in each of the ways in which it can be, played by a small server.

use std::path::Path;
use std::time::Duration;

use tokio::net::TcpListener;

use super::*;
use crate::config::TAG_PREFIX;
use crate::error::{Advise, Exit};
use crate::host::http::stand_in::{Play, server};

const SHORT: Limits = Limits {
    connect: Duration::from_millis(500),
    answer: Duration::from_millis(100),
    whole: Duration::from_millis(700),
};

fn metadata(endpoint: &str) -> Metadata {
    Metadata::at(Some(endpoint), SHORT, Path::new("/nonexistent"))
}

fn complete(request: &str, token: Option<&str>) -> Option<(u16, &'static str)> {
    let path = request.split(' ').nth(1).unwrap_or_default();
    if request.starts_with("PUT /latest/api/token ") {
        return Some((200, "TOKEN"));
    }
    if token != Some("TOKEN") {
        return Some((401, ""));
    }
    Some(match path {
        "/latest/meta-data/placement/region" => (200, "us-west-2"),
        "/latest/meta-data/placement/availability-zone" => (200, "us-west-2-lax-1a"),
        "/latest/meta-data/instance-id" => (200, "i-0123456789abcdef0"),
        "/latest/meta-data/iam/security-credentials/" => (200, "maps\n"),
        "/latest/meta-data/tags/instance/" => (200, "Name\nmapkeeper:region\nmapkeeper:mount.0.uid"),
        "/latest/meta-data/tags/instance/mapkeeper:region" => (200, "us-east-1"),
        "/latest/meta-data/tags/instance/mapkeeper:mount.0.uid" => (200, "7"),
        "/latest/user-data" => (200, "#cloud-config\n"),
        _ => (404, ""),
    })
}

#[tokio::test]
async fn an_instance_says_who_it_is_and_a_local_zone_does_not_bend_the_region() {
    let server = server(complete).await;
    let identity = metadata(&server.url).identity().await.unwrap();
    let expected = Identity {
        region: "us-west-2".into(),
        zone: "us-west-2-lax-1a".into(),
        id: "i-0123456789abcdef0".into(),
        role: Some("maps".into()),
    };
    assert_eq!(identity, expected);
    assert_eq!(metadata(&server.url).user_data().await.unwrap().as_deref(), Some(&b"#cloud-config\n"[..]));
}

#[tokio::test]
async fn who_always_refuses_is_asked_until_the_limit_however_often_that_is() {
    let server = server(|_, _| Some((500, ""))).await;
    // What dozens of attempts come to, each of which doubles it.
    let limits = Limits { answer: Duration::MAX, ..SHORT };
    let error = Metadata::at(Some(&server.url), limits, Path::new("/nonexistent")).user_data().await;
    assert_eq!(error, Err(InstanceError::Refused { path: "api/token".into(), status: 500 }));
}

#[tokio::test]
async fn tags_are_read_one_by_one_and_only_ours() {
    let server = server(complete).await;
    let tags = metadata(&server.url).offered_tags(TAG_PREFIX).await.unwrap().unwrap();
    let tags: Vec<_> = tags.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(tags, [("mapkeeper:mount.0.uid", "7"), ("mapkeeper:region", "us-east-1")]);
}

#[tokio::test]
async fn what_an_instance_does_not_have_is_absent_and_no_failure() {
    let bare =
        server(|request, _| Some(if request.starts_with("PUT") { (200, "T") } else { (404, "") })).await;
    let metadata = metadata(&bare.url);
    assert_eq!(metadata.user_data().await, Ok(None));
    assert_eq!(metadata.role().await, Ok(None));
    assert_eq!(metadata.offered_tags(TAG_PREFIX).await, Ok(None));
    let error = metadata.region().await.unwrap_err();
    assert_eq!(error.to_string(), "the instance metadata has no region");
}

#[tokio::test]
async fn a_token_that_is_no_longer_good_is_replaced() {
    use std::sync::atomic::{AtomicU32, Ordering};
    static TOKENS: AtomicU32 = AtomicU32::new(0);
    let server = server(|request, token| {
        if request.starts_with("PUT") {
            return Some((200, if TOKENS.fetch_add(1, Ordering::SeqCst) == 0 { "OLD" } else { "NEW" }));
        }
        Some(if token == Some("NEW") { (200, "eu-west-1") } else { (401, "") })
    })
    .await;
    assert_eq!(metadata(&server.url).region().await.as_deref(), Ok("eu-west-1"));
    assert_eq!(TOKENS.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn an_answer_that_fails_once_is_asked_for_again() {
    use std::sync::atomic::{AtomicU32, Ordering};
    static ASKED: AtomicU32 = AtomicU32::new(0);
    let server = server(|request, _| match request.starts_with("PUT") {
        true => Some((200, "T")),
        false if ASKED.fetch_add(1, Ordering::SeqCst) == 0 => Some((503, "")),
        false => Some((200, "eu-west-1")),
    })
    .await;
    assert_eq!(metadata(&server.url).region().await.as_deref(), Ok("eu-west-1"));
}

/// The message and the cure of a service that is played so.
async fn told(play: impl Play) -> (String, String) {
    let server = server(play).await;
    let error = metadata(&server.url).region().await.unwrap_err();
    let hint = error.hint().unwrap_or_default();
    (error.to_string().replace(&server.url, "URL"), hint)
}

#[tokio::test]
async fn a_service_that_is_turned_off_is_told_apart() {
    let (text, hint) = told(|_, _| Some((403, ""))).await;
    assert_eq!(text, "the instance metadata service at URL is turned off (403)");
    assert!(hint.contains("--http-endpoint enabled"), "{hint}");
}

#[tokio::test]
async fn a_service_of_version_1_is_told_apart() {
    let (text, hint) =
        told(|request, _| Some(if request.starts_with("PUT") { (405, "") } else { (200, "x") })).await;
    let expected =
        "the metadata service at URL has no session tokens (IMDSv2): it answered 405 to the request for one";
    assert_eq!(text, expected);
    assert!(hint.contains("IMDSv2 only"), "{hint}");
}

#[tokio::test]
async fn a_hop_limit_of_1_is_told_apart() {
    let (text, hint) = told(|request, _| (!request.starts_with("PUT")).then_some((401, ""))).await;
    let expected = "the instance metadata service at URL answers, but its session token does not arrive: the hop limit \
                    is 1 and this process is more than one hop away";
    assert_eq!(text, expected);
    assert!(hint.contains("--http-put-response-hop-limit 2"), "{hint}");
}

#[tokio::test]
async fn a_slow_service_is_told_apart_and_the_wait_has_an_end() {
    let began = tokio::time::Instant::now();
    let (text, hint) = told(|_, _| None).await;
    assert_eq!(text, "the instance metadata service at URL gave no answer within 700 ms");
    assert!(hint.contains("limits the rate"), "{hint}");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_host_that_is_no_instance_is_told_so_without_a_wait() {
    let bare = Metadata::at(None, Limits::default(), Path::new("/nonexistent"));
    assert!(!bare.is_expected());
    let began = tokio::time::Instant::now();
    let error = bare.region().await.unwrap_err();
    assert_eq!(error.to_string(), "this host is no EC2 instance");
    assert!(error.hint().unwrap_or_default().contains("`region`"));
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn an_instance_whose_service_is_cut_off_is_told_so() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = metadata(&url).region().await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with(&format!("the instance metadata service at {url} cannot be reached: ")),
        "{text}"
    );
    assert!(error.hint().unwrap_or_default().contains("firewall"));
}

#[test]
fn an_instance_is_recognised_by_its_firmware() {
    for (file, text, expected) in [
        ("devices/virtual/dmi/id/board_vendor", "Amazon EC2\n", true),
        ("devices/virtual/dmi/id/sys_vendor", "Amazon EC2\n", true),
        ("hypervisor/uuid", "ec2e1916-9099\n", true),
        ("devices/virtual/dmi/id/sys_vendor", "QEMU\n", false),
    ] {
        let sys = tempfile::tempdir().unwrap();
        let file = sys.path().join(file);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
        assert_eq!(Metadata::at(None, SHORT, sys.path()).is_expected(), expected, "{text}");
    }
}

#[tokio::test]
async fn an_address_that_is_none_is_quoted() {
    for endpoint in ["https://169.254.169.254", "169.254.169.254", "not a url"] {
        let error = metadata(endpoint).region().await.unwrap_err();
        assert_eq!(error, InstanceError::Endpoint { endpoint: endpoint.to_owned() });
    }
}

#[test]
fn every_error_has_its_text_and_its_cure() {
    let endpoint = || "http://x".to_owned();
    let cases = [
        (
            InstanceError::Disabled,
            "the instance metadata service is not asked, because AWS_EC2_METADATA_DISABLED is set",
        ),
        (
            InstanceError::Endpoint { endpoint: endpoint() },
            "\"http://x\" is no address of an instance metadata service, expected http://host[:port]",
        ),
        (
            InstanceError::Refused { path: "user-data".into(), status: 500 },
            "the instance metadata service answered 500 to a request for \"user-data\"",
        ),
        (
            InstanceError::Malformed { path: "p".into(), found: "<html>".into() },
            "the instance metadata service said \"<html>\" for \"p\", expected one line of text",
        ),
    ];
    for (error, text) in cases {
        assert_eq!(error.to_string(), text);
        assert!(error.hint().is_some());
        assert_eq!(error.exit(), Exit::Degraded);
    }
}
