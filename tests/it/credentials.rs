//! Credentials against a Secrets Manager that answers: moto, in a process of its own.
//!
//! What is asked, and with which keys, is decided by the environment of a process. So every test starts
//! moto and then itself again, with the environment that it is about, and tells its story there.

use crate::support::aws as support;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use aws_credential_types::provider::ProvideCredentials;
use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::primitives::Blob;
use mapkeeper::aws;
use mapkeeper::config::Credentials;
use mapkeeper::error::Chain;
use mapkeeper::host::credentials::{CredentialsError, Holder};

use support::{Http, LIMIT, Moto, moto_program};

const REFRESH: Duration = Duration::from_secs(1);

const TOLD: &str = "TELLS_CREDENTIALS";

/// Tells the story of the test `name` in a process with these variables and no other of AWS.
fn retell(name: &str, variables: &[(&str, &str)]) {
    let mut command = Command::new(std::env::current_exe().expect("this test's program"));
    for (variable, _) in std::env::vars_os() {
        let text = variable.to_string_lossy().into_owned();
        if text.starts_with("AWS_") || text.to_ascii_lowercase().ends_with("_proxy") {
            command.env_remove(variable);
        }
    }
    command
        .args(["--exact", &format!("credentials::{name}")])
        .env(TOLD, "1")
        .env("AWS_EC2_METADATA_DISABLED", "true");
    command.env("AWS_CONFIG_FILE", "/nonexistent").env("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent");
    let output = command.envs(variables.iter().copied()).output().expect("starts");
    let text =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

/// Runs `story` when this is the process that tells it; says whether it was.
fn told(story: impl Future<Output = ()>) -> bool {
    if std::env::var_os(TOLD).is_none() {
        return false;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(LIMIT, story).await.expect("the story ends in time") });
    true
}

fn with_moto(name: &str) {
    let moto = Moto::start(&[]);
    let keys =
        [("AWS_ACCESS_KEY_ID", "chain"), ("AWS_SECRET_ACCESS_KEY", "chain"), ("AWS_REGION", "us-east-1")];
    retell(name, &[&keys[..], &[("AWS_ENDPOINT_URL_SECRETS_MANAGER", &moto.url())]].concat());
}

async fn client(region: &str) -> Client {
    Client::new(&aws::sdk_config(Some(region), None, None).await)
}

async fn create(name: &str, value: &str) -> String {
    let created = client("us-east-1").await.create_secret().name(name).secret_string(value).send().await;
    created.expect("moto creates a secret").arn.expect("a secret has an ARN")
}

async fn put(name: &str, value: &str) {
    let put = client("us-east-1").await.put_secret_value().secret_id(name).secret_string(value).send().await;
    put.expect("moto stores a value");
}

async fn holder(name: &str) -> Result<Holder, CredentialsError> {
    let secret = Credentials { secret: Some(name.to_owned()), role: None, refresh: REFRESH };
    Holder::configured(&secret, None, None, None).await
}

async fn of_role(arn: &str) -> Result<Holder, CredentialsError> {
    let role = Credentials { secret: None, role: Some(arn.to_owned()), refresh: REFRESH };
    Holder::configured(&role, None, Some("us-east-1"), None).await
}

async fn given(holder: &Holder) -> (String, String, Option<String>) {
    let keys = holder.provide_credentials().await.expect("a holder always has credentials");
    let token = keys.session_token().map(str::to_owned);
    (keys.access_key_id().to_owned(), keys.secret_access_key().to_owned(), token)
}

fn keys(id: &str, key: &str, token: Option<&str>) -> (String, String, Option<String>) {
    (id.to_owned(), key.to_owned(), token.map(str::to_owned))
}

async fn until_given(holder: &Holder, id: &str) {
    while given(holder).await.0 != id {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn a_secret_gives_its_keys_in_both_shapes() {
    if !told(async {
        create("json", r#"{"access_key_id":"AK1","secret_access_key":"SK1","session_token":"T1"}"#).await;
        let arn = create("pair", "AK2:SK2").await;
        assert_eq!(given(&holder("json").await.expect("reads")).await, keys("AK1", "SK1", Some("T1")));
        assert_eq!(given(&holder("pair").await.expect("reads")).await, keys("AK2", "SK2", None));
        assert_eq!(given(&holder(&arn).await.expect("reads")).await, keys("AK2", "SK2", None));
    }) {
        with_moto("a_secret_gives_its_keys_in_both_shapes");
    }
}

#[test]
fn an_arn_is_asked_for_in_its_own_region() {
    if !told(async {
        let created =
            client("eu-west-1").await.create_secret().name("far").secret_string("AK:SK").send().await;
        let arn = created.expect("moto creates a secret").arn.expect("a secret has an ARN");
        assert_eq!(given(&holder(&arn).await.expect("reads")).await.0, "AK");
        let here = holder("far").await.expect_err("not in us-east-1");
        assert_eq!(here.to_string(), r#"secret "far" does not exist in this region"#);
    }) {
        with_moto("an_arn_is_asked_for_in_its_own_region");
    }
}

#[test]
fn a_secret_that_cannot_be_used_is_named_with_its_field() {
    if !told(async {
        create("half", r#"{"access_key_id":"hunter2"}"#).await;
        create("shape", "hunter2").await;
        let binary =
            client("us-east-1").await.create_secret().name("binary").secret_binary(Blob::new("hunter2"));
        binary.send().await.expect("moto creates a secret");
        for (name, expected) in [
            ("absent", r#"secret "absent" does not exist in this region"#),
            (
                "half",
                r#"secret "half" has no field `secret_access_key`, expected text that is not empty and has no spaces"#,
            ),
            ("shape", r#"secret "shape" has 1 fields, expected ACCESS_KEY_ID:SECRET_ACCESS_KEY or JSON"#),
            ("binary", r#"secret "binary" is binary, expected text"#),
        ] {
            let error = holder(name).await.expect_err(name);
            assert_eq!(Chain(&error).to_string(), expected);
        }
    }) {
        with_moto("a_secret_that_cannot_be_used_is_named_with_its_field");
    }
}

#[test]
fn a_changed_secret_reaches_every_clone_and_a_broken_one_changes_nothing() {
    if !told(async {
        create("turns", "AK1:SK1").await;
        let holder = holder("turns").await.expect("reads");
        let clone = holder.clone();
        put("turns", "AK2:SK2").await;
        until_given(&clone, "AK2").await;
        drop(holder);
        put("turns", "broken").await;
        let looks = tokio::time::sleep(REFRESH * 3);
        tokio::pin!(looks);
        while !looks.is_elapsed() {
            assert_eq!(given(&clone).await, keys("AK2", "SK2", None));
            // Cancel-safe: two timers.
            tokio::select! { () = &mut looks => {}, () = tokio::time::sleep(Duration::from_millis(50)) => {} }
        }
        put("turns", "AK3:SK3").await;
        until_given(&clone, "AK3").await;
    }) {
        with_moto("a_changed_secret_reaches_every_clone_and_a_broken_one_changes_nothing");
    }
}

#[test]
fn a_secrets_manager_out_of_reach_is_said_so() {
    if !told(async {
        let error = holder("maps").await.expect_err("nobody listens");
        let text = Chain(&error).to_string();
        assert!(text.starts_with(r#"cannot fetch secret "maps": "#) && text.contains("refused"), "{text}");
    }) {
        let keys = [("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b"), ("AWS_REGION", "us-east-1")];
        let url = [("AWS_ENDPOINT_URL", "http://127.0.0.1:1")];
        retell("a_secrets_manager_out_of_reach_is_said_so", &[&keys[..], &url].concat());
    }
}

#[test]
fn the_default_chain_finds_the_keys_of_the_environment() {
    if !told(async {
        let holder =
            Holder::default_chain(None, Some("us-east-1")).await.expect("keys are in the environment");
        assert_eq!(given(&holder).await, keys("AK", "SK", Some("T")));
    }) {
        let variables =
            [("AWS_ACCESS_KEY_ID", "AK"), ("AWS_SECRET_ACCESS_KEY", "SK"), ("AWS_SESSION_TOKEN", "T")];
        retell("the_default_chain_finds_the_keys_of_the_environment", &variables);
    }
}

#[test]
fn the_default_chain_reads_the_profile_that_is_named() {
    if !told(async {
        let holder =
            Holder::default_chain(Some("maps"), Some("us-east-1")).await.expect("the profile has keys");
        assert_eq!(given(&holder).await.0, "AK2");
    }) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let file = directory.path().join("credentials");
        let entry = |profile, id| format!("[{profile}]\naws_access_key_id={id}\naws_secret_access_key=SK\n");
        std::fs::write(&file, entry("default", "AK1") + &entry("maps", "AK2")).expect("writes");
        let file = file.to_str().expect("UTF-8");
        retell("the_default_chain_reads_the_profile_that_is_named", &[("AWS_SHARED_CREDENTIALS_FILE", file)]);
    }
}

#[test]
fn a_chain_without_any_credentials_says_so() {
    if !told(async {
        let error = Holder::default_chain(None, Some("us-east-1")).await.expect_err("there are none");
        assert_eq!(error.to_string(), "the AWS default chain has no credentials");
    }) {
        retell("a_chain_without_any_credentials_says_so", &[]);
    }
}

#[test]
fn tls_trusts_what_the_system_trusts_and_nothing_else() {
    if !told(async {
        let answer = client("us-east-1").await.list_secrets().send().await;
        let trusted = std::env::var_os("EXPECT_TRUST").is_some();
        let text = answer.as_ref().map_or_else(|error| Chain(error).to_string(), |_| "an answer".to_owned());
        assert_eq!(answer.is_ok(), trusted, "{text}");
        assert!(trusted || text.contains("UnknownIssuer"), "{text}");
    }) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let at = |name: &str| directory.path().join(name).to_str().expect("UTF-8").to_owned();
        let (authority, stranger) = (at("authority.pem"), at("stranger.pem"));
        let (certificate, key) = (at("certificate.pem"), at("key.pem"));
        make_certificates(&[&authority, &stranger, &certificate, &key]);
        let moto = Moto::start(&["-s", "-c", &certificate, "-k", &key]);
        let url = format!("https://{}", moto.address);
        let name = "tls_trusts_what_the_system_trusts_and_nothing_else";
        let variables = |store| {
            [
                ("AWS_ACCESS_KEY_ID", "a"),
                ("AWS_SECRET_ACCESS_KEY", "b"),
                ("AWS_ENDPOINT_URL", &url),
                ("SSL_CERT_FILE", store),
            ]
        };
        retell(name, &[&variables(&authority)[..], &[("EXPECT_TRUST", "1")]].concat());
        retell(name, &variables(&stranger));
    }
}

/// Makes two authorities, and a certificate for 127.0.0.1 from the first, with the library that moto
/// brings along.
fn make_certificates(files: &[&str]) {
    let python = moto_program().with_file_name("python");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/credentials/certificates.py");
    let status = Command::new(python).arg(script).args(files).status().expect("starts");
    assert!(status.success(), "certificates are made");
}

#[test]
fn a_role_is_assumed_with_what_the_chain_gives() {
    if !told(async {
        let arn = "arn:aws:iam::123456789012:role/maps";
        let holder = of_role(arn).await.expect("moto lets anybody assume it");
        let (id, _, token) = given(&holder).await;
        assert!(id.starts_with("ASIA") && token.is_some(), "{id}");
        assert!(holder.description().ends_with("from role \"arn:aws:iam::123456789012:role/maps\""));
    }) {
        let moto = Moto::start(&[]);
        let keys = [("AWS_ACCESS_KEY_ID", "chain"), ("AWS_SECRET_ACCESS_KEY", "chain")];
        let url = moto.url();
        let variables = [&keys[..], &[("AWS_ENDPOINT_URL_STS", url.as_str())]].concat();
        retell("a_role_is_assumed_with_what_the_chain_gives", &variables);
    }
}

#[test]
fn a_role_that_may_not_be_assumed_is_named() {
    if !told(async {
        let arn = "arn:aws:iam::123456789012:role/maps";
        let error = of_role(arn).await.expect_err("it is refused");
        assert_eq!(error.to_string(), "role \"arn:aws:iam::123456789012:role/maps\" cannot be assumed");
        let hint = mapkeeper::error::Advise::hint(&error).unwrap_or_default();
        assert!(hint.contains("sts:AssumeRole"), "{hint}");
    }) {
        let refusing = Http::start(|_| {
            let body = "<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>";
            Some((403, String::new(), body.to_owned()))
        });
        let keys = [("AWS_ACCESS_KEY_ID", "chain"), ("AWS_SECRET_ACCESS_KEY", "chain")];
        let variables = [&keys[..], &[("AWS_ENDPOINT_URL_STS", refusing.url.as_str())]].concat();
        retell("a_role_that_may_not_be_assumed_is_named", &variables);
    }
}

#[test]
fn a_clock_that_is_wrong_is_named_as_the_cause() {
    if !told(async {
        let error = holder("maps").await.expect_err("the signature is refused");
        let text = error.to_string();
        assert!(
            text.starts_with("the clock of this host is ") && text.contains(" min ahead of that of"),
            "{text}"
        );
        let hint = mapkeeper::error::Advise::hint(&error).unwrap_or_default();
        assert!(hint.contains("set the clock"), "{hint}");
    }) {
        let earlier = Http::start(|_| {
            let headers =
                "Date: Mon, 02 Jan 2023 03:04:05 GMT\r\nContent-Type: application/x-amz-json-1.1\r\n";
            let body = r#"{"__type":"InvalidSignatureException","message":"Signature not yet current"}"#;
            Some((400, headers.to_owned(), body.to_owned()))
        });
        let keys = [("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b"), ("AWS_REGION", "us-east-1")];
        let variables = [&keys[..], &[("AWS_ENDPOINT_URL", earlier.url.as_str())]].concat();
        retell("a_clock_that_is_wrong_is_named_as_the_cause", &variables);
    }
}
