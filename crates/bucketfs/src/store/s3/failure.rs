//! What an error of the SDK is an error of.

use std::error::Error;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use super::cause::{chain, innermost};
use super::client::{CONNECT_LIMIT, OPERATION_LIMIT, S3};
use super::said::malformed;
use crate::store::error::{ClockSkew, StoreError};

fn credentials_reason(error: &(dyn Error + 'static)) -> Option<String> {
    chain(error).find_map(|cause| cause.downcast_ref::<CredentialsError>()).map(|cause| innermost(cause))
}

impl S3 {
    /// Says of an answer that makes no sense whose it is.
    pub(super) fn told<T>(&self, answer: Result<T, StoreError>) -> Result<T, StoreError> {
        answer.map_err(|error| match error {
            StoreError::Malformed { reason } => malformed(&format!("{reason} (from {})", self.endpoint)),
            error => error,
        })
    }

    pub(super) fn failure<E>(&self, error: &SdkError<E, HttpResponse>, what: &str) -> StoreError
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        if let Some(reason) = credentials_reason(error) {
            return StoreError::NoCredentials { reason };
        }
        let unreachable =
            |reason: String| StoreError::Unreachable { endpoint: self.endpoint.clone(), reason };
        match error {
            SdkError::TimeoutError(_) => StoreError::TimedOut(OPERATION_LIMIT),
            SdkError::DispatchFailure(failure) if failure.is_timeout() => StoreError::TimedOut(CONNECT_LIMIT),
            // It is about this question: the store has not heard of it.
            SdkError::ConstructionFailure(_) => {
                StoreError::NotSent { what: what.to_string(), reason: innermost(error) }
            }
            SdkError::DispatchFailure(failure) if failure.is_user() => {
                StoreError::NotSent { what: what.to_string(), reason: innermost(error) }
            }
            // What was right by its status, and cannot be read.
            SdkError::ServiceError(answer) if (200..300).contains(&answer.raw().status().as_u16()) => {
                malformed(&innermost(error))
            }
            SdkError::ServiceError(answer) => {
                let response = answer.raw();
                self.refusal(response, answer.err().code().unwrap_or_default(), what)
            }
            SdkError::ResponseError(_) => StoreError::Malformed { reason: innermost(error) },
            _ => unreachable(innermost(error)),
        }
    }

    fn refusal(&self, response: &HttpResponse, code: &str, what: &str) -> StoreError {
        let status = response.status().as_u16();
        let header = |name: &str| response.headers().get(name).map(str::to_string);
        let named = if code.is_empty() { status.to_string() } else { code.to_string() };
        let what = what.to_string();
        match (status, code) {
            (_, "NoSuchBucket") => StoreError::NoBucket { bucket: self.bucket.clone() },
            (404, _) => StoreError::NotFound { key: what },
            (_, "RequestTimeTooSkewed") => {
                StoreError::Credentials { code: named, skew: Some(ClockSkew { server_time: header("date") }) }
            }
            (
                _,
                "InvalidAccessKeyId"
                | "SignatureDoesNotMatch"
                | "ExpiredToken"
                | "InvalidToken"
                | "TokenRefreshRequired"
                | "InvalidSecurity"
                | "NotSignedUp",
            ) => StoreError::Credentials { code: named, skew: None },
            (301 | 307, _)
            | (
                _,
                "PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException",
            ) => {
                let region = header("x-amz-bucket-region");
                StoreError::WrongRegion { bucket: self.bucket.clone(), region }
            }
            (_, "InvalidObjectState") => StoreError::Archived { key: what },
            (_, "KeyTooLongError") => StoreError::KeyTooLong { key: what },
            (403, _) => StoreError::Denied { what, code: named },
            (429, _) | (503, "SlowDown" | "503 SlowDown") => StoreError::Throttled { code: named },
            _ => StoreError::Refused { status, code: named },
        }
    }
}
