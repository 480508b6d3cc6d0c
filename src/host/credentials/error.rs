//! Why there are no credentials, with the cure of each reason.

use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError as ProviderError;
use aws_sdk_secretsmanager::error::SdkError;
use aws_sdk_secretsmanager::operation::get_secret_value::GetSecretValueError;

use super::passwd::PasswdError;
use crate::error::{Advise, Exit};

/// Why there are no credentials.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    #[error("the AWS default chain has no credentials")]
    Chain { source: ProviderError },
    #[error("the AWS default chain gave no answer within {} s", .limit.as_secs())]
    ChainSilent { limit: Duration },
    #[error("no credentials within {} s", .limit.as_secs())]
    Silent { limit: Duration },
    #[error("secret {name:?} does not exist in this region")]
    Missing { name: String },
    #[error("access to secret {name:?} is denied")]
    Denied { name: String, source: Box<SdkError<GetSecretValueError>> },
    #[error("cannot fetch secret {name:?}")]
    Fetch { name: String, source: Box<SdkError<GetSecretValueError>> },
    #[error("Secrets Manager gave no answer about secret {name:?} within {} s", .limit.as_secs())]
    SecretSilent { name: String, limit: Duration },
    #[error("secret {name:?} is binary, expected text")]
    Binary { name: String },
    #[error("secret {name:?} is no JSON object (line {line}, column {column})")]
    NotJson { name: String, line: usize, column: usize },
    #[error("secret {name:?} has no field `{field}`, expected {expected}")]
    NoField { name: String, field: &'static str, expected: &'static str },
    #[error("field `{field}` of secret {name:?} is {found}, expected {expected}")]
    BadField { name: String, field: &'static str, found: &'static str, expected: &'static str },
    #[error("secret {name:?} has {found} fields, expected ACCESS_KEY_ID:SECRET_ACCESS_KEY or JSON")]
    Shape { name: String, found: usize },
    #[error("role {arn:?} cannot be assumed")]
    Role { arn: String, source: ProviderError },
    #[error("{of} is refused by the store: {reason}")]
    Unproven { of: String, reason: String },
    #[error(
        "the clock of this host is {minutes} min {direction} that of Secrets Manager, so signatures are invalid"
    )]
    ClockSkew { minutes: u64, direction: &'static str },
    #[error(transparent)]
    Passwd(#[from] PasswdError),
}

impl Advise for CredentialsError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            CredentialsError::Chain { .. } | CredentialsError::ChainSilent { .. } => {
                "give the instance a role, set AWS_PROFILE or AWS_ACCESS_KEY_ID, or name a secret in `credentials.secret`"
                    .to_owned()
            }
            CredentialsError::Silent { .. } => {
                "check the way to Secrets Manager and to the metadata service".to_owned()
            }
            CredentialsError::Missing { .. } => {
                "check `credentials.secret` and `region`; a secret of another account needs its ARN".to_owned()
            }
            CredentialsError::Denied { name, .. } => {
                format!("allow secretsmanager:GetSecretValue on {name:?} to the role of this instance")
            }
            CredentialsError::Fetch { .. } | CredentialsError::SecretSilent { .. } => {
                "check that this host reaches Secrets Manager: route, endpoint, proxy, clock".to_owned()
            }
            CredentialsError::Binary { .. }
            | CredentialsError::NotJson { .. }
            | CredentialsError::NoField { .. }
            | CredentialsError::BadField { .. }
            | CredentialsError::Shape { .. } => {
                r#"store {"access_key_id": "...", "secret_access_key": "..."} or ACCESS_KEY_ID:SECRET_ACCESS_KEY"#
                    .to_owned()
            }
            CredentialsError::Role { arn, .. } => {
                format!("allow sts:AssumeRole on {arn} to the role of this instance, and trust that role in {arn}")
            }
            CredentialsError::Unproven { .. } => {
                "check that the key in it is active and may list the bucket, and store a good version".to_owned()
            }
            CredentialsError::ClockSkew { .. } => {
                "set the clock of this host: timedatectl set-ntp true, or chronyc makestep".to_owned()
            }
            CredentialsError::Passwd(error) => return error.hint(),
        })
    }

    fn exit(&self) -> Exit {
        Exit::CredentialsRefused
    }
}
