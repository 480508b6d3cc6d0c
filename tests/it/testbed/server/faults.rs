//! Faults, as a client sees them on its connection, and what the server counts meanwhile.

use std::io;
use std::time::Duration;

use s3_testbed::{Action, Content, Control, Fault, Operation, Options, Remote, Server};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::http::{Answer, End, LIMIT, ask, connect, header, listen, request};

/// Time in which nothing comes where nothing is to come.
const SILENCE: Duration = Duration::from_millis(150);

fn start() -> Server {
    let server = Server::start(Options { remote: Remote::Served, ..Options::memory(["bucket"]) }).unwrap();
    server.control().allow_anonymous();
    server.store().put("bucket", "a", "0123456789", &[]).unwrap();
    server
}

async fn get(server: &Server) -> Answer {
    request(server, "GET", "/bucket/a", "").await
}

async fn until(control: &Control, condition: impl FnMut(&Control) -> bool) {
    timeout(LIMIT, control.until(condition)).await.expect("the server gets there");
}

#[tokio::test]
async fn a_request_is_answered_with_the_error_of_a_rule_as_often_as_it_says() {
    let server = start();
    server.control().inject(Fault::slow_down().on(Operation::GetObject).after(1).times(1));
    let statuses = [get(&server).await, get(&server).await, get(&server).await];
    assert_eq!(statuses.each_ref().map(|answer| answer.status), [200, 503, 200]);
    assert!(String::from_utf8_lossy(&statuses[1].body).contains("<Code>SlowDown</Code>"));
    let log = server.control().log();
    assert_eq!(log.iter().map(|entry| entry.status).collect::<Vec<_>>(), [Some(200), Some(503), Some(200)]);
}

#[tokio::test]
async fn an_error_reaches_a_client_that_is_still_sending_and_nothing_is_stored() {
    let server = start();
    server.control().inject(Fault::slow_down());
    let mut stream = connect(&server).await;
    let body = "x".repeat(4 * 1024 * 1024);
    ask(&mut stream, "PUT", "/bucket/new", "", &body).await;
    assert_eq!(listen(&mut stream, LIMIT).await.status, 503);
    assert_eq!(server.store().keys("bucket").unwrap(), ["a"]);
}

#[tokio::test]
async fn a_connection_can_be_reset_instead_of_an_answer() {
    let server = start();
    server.control().inject(Fault::new(Action::Reset).times(1));
    let answer = get(&server).await;
    assert_eq!((answer.status, answer.end), (0, End::Reset));
    assert_eq!(get(&server).await.body, b"0123456789");
}

#[tokio::test]
async fn a_connection_can_be_reset_in_the_middle_of_a_body() {
    let server = start();
    server.control().inject(Fault::new(Action::ResetAfter { bytes: 4 }));
    let answer = get(&server).await;
    assert_eq!((answer.status, answer.body, answer.end), (200, b"0123".to_vec(), End::Reset));
    assert_eq!(header(&answer.head, "content-length"), "10");
}

#[tokio::test]
async fn a_large_body_comes_up_to_the_byte_of_the_reset() {
    let server = start();
    let content = Content::Repeated { pattern: "0123456789x".into(), length: 8_000_000 };
    server.store().put("bucket", "large", content, &[]).unwrap();
    server.control().inject(Fault::new(Action::TruncateAfter { bytes: 5_000_001 }));
    let answer = request(&server, "GET", "/bucket/large", "").await;
    assert_eq!((answer.body.len(), answer.end), (5_000_001, End::Closed));
}

#[tokio::test]
async fn a_body_can_end_early_in_good_order() {
    let server = start();
    server.control().inject(Fault::new(Action::TruncateAfter { bytes: 4 }));
    let answer = get(&server).await;
    assert_eq!((answer.status, answer.body, answer.end), (200, b"0123".to_vec(), End::Closed));
}

#[tokio::test]
async fn a_request_can_stay_without_an_answer_and_others_are_served() {
    let server = start();
    server.control().inject(Fault::new(Action::Stall).times(1));
    let mut stalled = connect(&server).await;
    ask(&mut stalled, "GET", "/bucket/a", "", "").await;
    until(&server.control(), |control| control.total() == 1).await;
    assert_eq!(get(&server).await.status, 200);
    let answer = listen(&mut stalled, SILENCE).await;
    assert_eq!((answer.status, answer.end), (0, End::Open));
    drop(stalled);
    until(&server.control(), |control| control.in_progress() == 0).await;
}

#[tokio::test]
async fn a_body_can_stall_in_the_middle() {
    let server = start();
    server.control().inject(Fault::new(Action::StallAfter { bytes: 4 }));
    let mut stalled = connect(&server).await;
    ask(&mut stalled, "GET", "/bucket/a", "", "").await;
    let answer = listen(&mut stalled, SILENCE).await;
    assert_eq!((answer.status, answer.body, answer.end), (200, b"0123".to_vec(), End::Open));
    drop(stalled);
    until(&server.control(), |control| control.in_progress() == 0).await;
}

#[tokio::test]
async fn one_bit_of_a_body_can_be_wrong_under_the_right_tag() {
    let server = start();
    let good = get(&server).await;
    server.control().inject(Fault::new(Action::FlipBit { offset: 3 }));
    let bad = get(&server).await;
    assert_eq!(bad.body, b"0122456789");
    assert_eq!(header(&bad.head, "etag"), header(&good.head, "etag"));
    server.control().clear_faults();
    assert_eq!(get(&server).await.body, good.body);
}

#[tokio::test]
async fn one_request_can_be_late() {
    let server = start();
    server.control().inject(Fault::new(Action::Delay { milliseconds: 120 }).times(1));
    let start = Instant::now();
    assert_eq!(get(&server).await.status, 200);
    assert!(start.elapsed() >= Duration::from_millis(120));
}

#[tokio::test]
async fn latency_is_waited_for_by_many_requests_at_once() {
    let server = start();
    server.control().set_latency(Duration::from_secs(1));
    let start = Instant::now();
    let answers = futures::future::join_all((0..20).map(|_| get(&server))).await;
    assert!(answers.iter().all(|answer| answer.status == 200));
    // One after the other they would take 20 s.
    assert!((1000..15_000).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    assert_eq!(server.control().highest_concurrency(), 20);
}

#[tokio::test]
async fn the_world_stops_at_a_request_and_goes_on_at_the_release() {
    let server = start();
    let control = server.control();
    control.hold_from(2);
    assert_eq!(get(&server).await.status, 200);
    let held = async {
        until(&control, |control| control.held() == 2).await;
        server.store().put("bucket", "a", "changed", &[]).unwrap();
        control.release();
    };
    let (second, third, ()) = tokio::join!(get(&server), get(&server), held);
    assert_eq!((second.body, third.body), (b"changed".to_vec(), b"changed".to_vec()));
}

#[tokio::test]
async fn a_stopped_server_refuses_and_one_started_again_has_the_same_contents() {
    let server = start();
    let (address, control) = (server.address(), server.control());
    let mut open = connect(&server).await;
    ask(&mut open, "GET", "/bucket/a", "", "").await;
    assert_eq!(listen(&mut open, LIMIT).await.status, 200);
    let options = server.stop().await;
    assert_eq!(timeout(LIMIT, open.read(&mut [0])).await.unwrap().unwrap_or(0), 0);
    let refused = TcpStream::connect(address).await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    options.store.put("bucket", "meanwhile", "x", &[]).unwrap();
    let server = Server::start(options).unwrap();
    assert_eq!(server.address(), address);
    assert_eq!(get(&server).await.body, b"0123456789");
    assert_eq!(request(&server, "GET", "/bucket/meanwhile", "").await.body, b"x");
    assert_eq!(control.total(), 3);
}

#[tokio::test]
async fn nothing_is_in_progress_once_a_server_has_stopped() {
    let server = start();
    let control = server.control();
    control.inject(Fault::new(Action::Stall));
    let mut stalled = Vec::new();
    for _ in 0..50 {
        let mut stream = connect(&server).await;
        ask(&mut stream, "GET", "/bucket/a", "", "").await;
        stalled.push(stream);
    }
    until(&control, |control| control.in_progress() == 50).await;
    server.stop().await;
    assert_eq!(control.in_progress(), 0);
}

#[tokio::test]
async fn requests_are_counted_by_what_they_ask_for() {
    let server = start();
    let control = server.control();
    request(&server, "GET", "/bucket/a", "Range: bytes=2-3\r\n").await;
    get(&server).await;
    request(&server, "HEAD", "/bucket/absent", "").await;
    request(&server, "GET", "/bucket?list-type=2&prefix=maps%2F", "").await;
    let expected = [
        (Operation::GetObject, 1),
        (Operation::GetRange, 1),
        (Operation::HeadObject, 1),
        (Operation::ListObjects, 1),
    ];
    assert_eq!(control.counts().into_iter().collect::<Vec<_>>(), expected);
    assert_eq!((control.total(), control.highest_concurrency()), (4, 1));
    let log = control.log();
    assert_eq!((log[0].key.as_str(), log[0].range.as_deref()), ("a", Some("bytes=2-3")));
    assert_eq!((log[0].status, log[0].bytes, log[1].bytes), (Some(206), 2, 10));
    assert_eq!((log[2].status, log[3].key.as_str()), (Some(404), "maps/"));
    assert_eq!(control.bytes_sent(), 12 + log[3].bytes);
    control.reset();
    assert_eq!((control.total(), control.bytes_sent(), control.log().len()), (0, 0, 0));
}

#[tokio::test]
async fn another_process_reads_and_changes_the_server_by_json() {
    let server = start();
    get(&server).await;
    let mut stream = connect(&server).await;
    let change = r#"{"latency_ms":7,"faults":[{"operation":"head_object","action":"reset"}]}"#;
    ask(&mut stream, "POST", "/-/control", "", change).await;
    let state: serde_json::Value = serde_json::from_slice(&listen(&mut stream, LIMIT).await.body).unwrap();
    assert_eq!((&state["counts"]["get_object"], &state["latency_ms"]), (&1.into(), &7.into()));
    assert_eq!(request(&server, "HEAD", "/bucket/a", "").await.end, End::Reset);
    let log: serde_json::Value =
        serde_json::from_slice(&request(&server, "GET", "/-/log", "").await.body).unwrap();
    assert_eq!((&log[0]["operation"], &log[0]["status"]), (&"get_object".into(), &200.into()));
    ask(&mut stream, "POST", "/-/control", "", r#"{"reset":true,"clear_faults":true}"#).await;
    assert_eq!(listen(&mut stream, LIMIT).await.status, 200);
    assert_eq!(server.control().total(), 0);
    ask(&mut stream, "POST", "/-/control", "", r#"{"rest":true}"#).await;
    let refused = listen(&mut stream, LIMIT).await;
    assert_eq!(refused.status, 400);
    assert!(String::from_utf8_lossy(&refused.body).contains("rest"), "{refused:?}");
}
