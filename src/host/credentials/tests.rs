//! Secrets stay hidden, and are read in each of their shapes.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials;
use aws_credential_types::provider::error::CredentialsError as ProviderError;
use aws_sdk_secretsmanager::error::SdkError;

use super::origin::{Held, Stage, region_of_arn};
use super::refresh::pause;
use super::*;
use crate::error::{Advise, Exit};

fn keys(id: &str) -> Credentials {
    Credentials::new(id, "SK", None, None, "test")
}

#[test]
fn a_secret_never_shows() {
    let secret = Secret::new("hunter2".to_owned());
    assert_eq!(format!("{secret} {secret:?}"), "[redacted] [redacted]");
    assert_eq!(secret.expose(), "hunter2");
    let holder = Holder::fixed(Secret::new("AK".into()), secret, Some(Secret::new("hunter2".into())));
    assert_eq!(format!("{holder:?}"), "Holder([redacted])");
    let given = format!("{:?}", holder.cell.held.borrow());
    assert!(!given.contains("hunter2"), "{given}");
}

#[tokio::test]
async fn a_fixed_holder_gives_its_credentials_to_every_request() {
    let hide = |text: &str| Secret::new(text.to_owned());
    let holder = Holder::fixed(hide("AK"), hide("SK"), Some(hide("T")));
    let given = holder.clone().provide_credentials().await.expect("credentials");
    assert_eq!(
        (given.access_key_id(), given.secret_access_key(), given.session_token()),
        ("AK", "SK", Some("T"))
    );
}

#[tokio::test]
async fn what_is_put_in_is_what_the_next_request_gets() {
    let holder = Holder::of(keys("old"), "a test");
    let provider = holder.provider();
    let fresh = Held { credentials: keys("new"), ..holder.cell.held.borrow().clone() };
    holder.cell.held.send_replace(fresh);
    assert_eq!(provider.provide_credentials().await.expect("credentials").access_key_id(), "new");
}

#[tokio::test(start_paused = true)]
async fn what_is_held_is_described_by_age_version_and_source_only() {
    let holder = Holder::of(keys("AK"), "secret \"maps\"");
    holder.cell.held.send_modify(|held| {
        held.version = Some("v1".to_owned());
        held.stage = Some(Stage::Current);
    });
    tokio::time::advance(Duration::from_secs(7)).await;
    assert_eq!(holder.description(), "7 s old, version v1, from secret \"maps\"");
    holder.cell.held.send_modify(|held| held.stage = Some(Stage::Previous));
    assert_eq!(holder.description(), "7 s old, version v1 (AWSPREVIOUS), from secret \"maps\"");
}

#[test]
fn the_next_look_is_before_the_end_and_soon_after_a_failure() {
    let seconds = Duration::from_secs;
    let now = SystemTime::UNIX_EPOCH + seconds(1_000_000);
    let ends_in = |left| Some(now + seconds(left));
    assert_eq!(pause(seconds(300), None, now, 0), seconds(300));
    assert_eq!(pause(seconds(900), ends_in(600), now, 0), seconds(300));
    assert_eq!(pause(seconds(300), ends_in(21_600), now, 0), seconds(300));
    assert_eq!(pause(seconds(300), ends_in(10), now, 0), seconds(1));
    assert_eq!(pause(seconds(300), Some(now - seconds(10)), now, 0), seconds(1));
    assert_eq!(pause(seconds(300), None, now, 1), seconds(1));
    assert_eq!(pause(seconds(300), None, now, 4), seconds(8));
    assert_eq!(pause(seconds(300), None, now, u32::MAX), seconds(60));
    assert_eq!(pause(seconds(5), None, now, 9), seconds(5));
}

#[test]
fn an_arn_says_where_to_ask() {
    let arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:maps-AbCdEf";
    assert_eq!(region_of_arn(arn), Some("eu-central-1"));
    assert_eq!(region_of_arn("maps/s3"), None);
    assert_eq!(region_of_arn("arn:aws:secretsmanager"), None);
}

#[test]
fn every_error_has_its_text_its_cure_and_its_code() {
    let name = || "maps".to_owned();
    let limit = Duration::from_secs(45);
    let source = || Box::new(SdkError::timeout_error("slow"));
    let chain = "give the instance a role, set AWS_PROFILE or AWS_ACCESS_KEY_ID, or name a secret in `credentials.secret`";
    let reach = "check that this host reaches Secrets Manager: route, endpoint, proxy, clock";
    let cases = [
        (
            CredentialsError::Chain { source: ProviderError::not_loaded_no_source() },
            "the AWS default chain has no credentials",
            chain,
        ),
        (CredentialsError::ChainSilent { limit }, "the AWS default chain gave no answer within 45 s", chain),
        (
            CredentialsError::Silent { limit },
            "no credentials within 45 s",
            "check the way to Secrets Manager and to the metadata service",
        ),
        (
            CredentialsError::Missing { name: name() },
            r#"secret "maps" does not exist in this region"#,
            "check `credentials.secret` and `region`; a secret of another account needs its ARN",
        ),
        (
            CredentialsError::Denied { name: name(), source: source() },
            r#"access to secret "maps" is denied"#,
            r#"allow secretsmanager:GetSecretValue on "maps" to the role of this instance"#,
        ),
        (CredentialsError::Fetch { name: name(), source: source() }, r#"cannot fetch secret "maps""#, reach),
        (
            CredentialsError::SecretSilent { name: name(), limit },
            r#"Secrets Manager gave no answer about secret "maps" within 45 s"#,
            reach,
        ),
        (
            CredentialsError::Binary { name: name() },
            r#"secret "maps" is binary, expected text"#,
            r#"store {"access_key_id": "...", "secret_access_key": "..."} or ACCESS_KEY_ID:SECRET_ACCESS_KEY"#,
        ),
    ];
    for (error, text, hint) in cases {
        assert_eq!(error.to_string(), text);
        assert_eq!(error.hint().as_deref(), Some(hint), "{text}");
        assert_eq!(error.exit(), Exit::CredentialsRefused, "{text}");
    }
}
