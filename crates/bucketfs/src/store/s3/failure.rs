//! What an error of the SDK is an error of.

use std::error::Error;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use super::cause::{chain, innermost};
use super::client::{CONNECT_LIMIT, OPERATION_LIMIT, S3};
use super::said::malformed;
use crate::store::error::{ClockSkew, StoreError};

/// Longest name of a region.
const REGION_MAX: usize = 64;

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
            SdkError::ServiceError(answer)
                if is_success(answer.raw()) && answer.err().code().is_none_or(str::is_empty) =>
            {
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
        // An error that comes behind the status of a success is of the store's own making.
        let status = if is_success(response) { 500 } else { status };
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
                let region = header("x-amz-bucket-region").or_else(|| region_of(response));
                StoreError::WrongRegion { bucket: self.bucket.clone(), region }
            }
            (_, "InvalidObjectState") => StoreError::Archived { key: what },
            (_, "KeyTooLongError") => StoreError::KeyTooLong { key: what },
            (403, _) => StoreError::Denied { what, code: named },
            (429, _) | (503, "SlowDown" | "503 SlowDown") => StoreError::Throttled { code: named },
            _ => StoreError::Refused { status, code: code.to_string() },
        }
    }
}

fn is_success(response: &HttpResponse) -> bool {
    (200..300).contains(&response.status().as_u16())
}

/// The region that the text of an error names.
fn region_of(response: &HttpResponse) -> Option<String> {
    let text = std::str::from_utf8(response.body().bytes()?).ok()?;
    let (_, behind) = text.split_once("<Region>")?;
    let (region, _) = behind.split_once("</Region>")?;
    let is_region = (1..=REGION_MAX).contains(&region.len())
        && region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    is_region.then(|| region.to_string())
}
