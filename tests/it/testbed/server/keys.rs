//! Who is let in: what a client with the wrong key, an old key or a late clock is told.

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_s3::error::ProvideErrorMetadata;
use s3_testbed::{ACCESS_KEY, Action, Fault, Options, Refusal, SECRET_KEY, Server};

fn start() -> Server {
    let server = Server::start(Options::memory(["bucket"])).unwrap();
    server.store().put("bucket", "a", "hello", &[]).unwrap();
    server
}

fn client(server: &Server, credentials: Option<Credentials>) -> Client {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(server.endpoint())
        .force_path_style(true)
        .retry_config(RetryConfig::disabled())
        .http_client(aws_smithy_http_client::Builder::new().build_http());
    let config = match credentials {
        Some(credentials) => config.credentials_provider(credentials),
        None => config.allow_no_auth(),
    };
    Client::from_conf(config.build())
}

fn signed(server: &Server, key: &str, secret: &str, token: Option<&str>) -> Client {
    client(server, Some(Credentials::new(key, secret, token.map(str::to_owned), None, "test")))
}

/// 200, or the status and the code of the refusal.
async fn get(client: &Client) -> (u16, String) {
    match client.get_object().bucket("bucket").key("a").send().await {
        Ok(_) => (200, String::new()),
        Err(error) => {
            let status = error.raw_response().expect("an answer").status().as_u16();
            (status, error.code().unwrap_or_default().to_owned())
        }
    }
}

fn refused(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

fn served() -> (u16, String) {
    (200, String::new())
}

#[tokio::test]
async fn a_key_that_nobody_knows_and_a_wrong_secret_are_told_apart() {
    let server = start();
    assert_eq!(get(&signed(&server, ACCESS_KEY, SECRET_KEY, None)).await, served());
    assert_eq!(
        get(&signed(&server, "AKIANOBODY", SECRET_KEY, None)).await,
        refused(403, "InvalidAccessKeyId")
    );
    assert_eq!(get(&signed(&server, ACCESS_KEY, "wrong", None)).await, refused(403, "SignatureDoesNotMatch"));
    assert_eq!(get(&client(&server, None)).await, refused(403, "AccessDenied"));
}

#[tokio::test]
async fn a_rotation_accepts_the_new_key_before_it_refuses_the_old() {
    let server = start();
    let (old, new) =
        (signed(&server, ACCESS_KEY, SECRET_KEY, None), signed(&server, "AKIANEW", "new secret", None));
    assert_eq!((get(&old).await, get(&new).await), (served(), refused(403, "InvalidAccessKeyId")));
    server.control().accept_key("AKIANEW", "new secret");
    assert_eq!((get(&old).await, get(&new).await), (served(), served()));
    server.control().revoke_key(ACCESS_KEY);
    assert_eq!((get(&old).await, get(&new).await), (refused(403, "InvalidAccessKeyId"), served()));
}

#[tokio::test]
async fn a_temporary_key_needs_its_token() {
    let server = start();
    server.control().accept_session("ASIATEMPORARY", "secret", "token");
    assert_eq!(get(&signed(&server, "ASIATEMPORARY", "secret", Some("token"))).await, served());
    let expected = refused(400, "InvalidToken");
    assert_eq!(get(&signed(&server, "ASIATEMPORARY", "secret", Some("old token"))).await, expected);
    assert_eq!(get(&signed(&server, "ASIATEMPORARY", "secret", None)).await, expected);
}

#[tokio::test]
async fn all_requests_can_be_refused_for_a_reason() {
    let server = start();
    let client = signed(&server, ACCESS_KEY, SECRET_KEY, None);
    for (refusal, expected) in [
        (Some(Refusal::AccessDenied), refused(403, "AccessDenied")),
        (Some(Refusal::ExpiredToken), refused(400, "ExpiredToken")),
        (Some(Refusal::RequestTimeTooSkewed), refused(403, "RequestTimeTooSkewed")),
        (None, served()),
    ] {
        server.control().refuse_all(refusal);
        assert_eq!(get(&client).await, expected);
    }
}

#[tokio::test]
async fn strangers_are_served_where_that_is_allowed() {
    let server = start();
    server.control().allow_anonymous();
    assert_eq!(get(&client(&server, None)).await, served());
    assert_eq!(get(&signed(&server, ACCESS_KEY, "wrong", None)).await, refused(403, "SignatureDoesNotMatch"));
}

#[tokio::test]
async fn a_client_that_checks_checksums_notices_a_wrong_bit() {
    let server = start();
    let client = signed(&server, ACCESS_KEY, SECRET_KEY, None);
    let put = client.put_object().bucket("bucket").key("a").body(b"content".to_vec().into());
    put.send().await.unwrap();
    server.control().inject(Fault::new(Action::FlipBit { offset: 3 }).times(1));
    let read = async || {
        let got = client.get_object().bucket("bucket").key("a").send().await.unwrap();
        got.body.collect().await.map(|body| body.to_vec())
    };
    read().await.unwrap_err();
    assert_eq!(read().await.unwrap(), b"content");
}
