//! Who may ask: signatures against the keys that are accepted at this moment.

use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, HeaderName, HeaderValue};
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};

use super::control::Control;

const SESSION_TOKEN: &str = "x-amz-security-token";

/// Keys and access of a server, both as its [`Control`] says.
#[derive(Debug, Clone)]
pub(super) struct Doorkeeper(pub Control);

#[async_trait::async_trait]
impl S3Auth for Doorkeeper {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        match self.0.key(access_key) {
            Some(key) => Ok(SecretKey::from(key.secret)),
            None => Err(s3_error!(
                InvalidAccessKeyId,
                "The AWS Access Key Id you provided does not exist in our records."
            )),
        }
    }
}

#[async_trait::async_trait]
impl S3Access for Doorkeeper {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        let Some(credentials) = context.credentials() else {
            return match self.0.allows_anonymous() {
                true => Ok(()),
                false => Err(s3_error!(AccessDenied, "Access Denied")),
            };
        };
        if let Some(region) = self.0.region()
            && signed_region(context.headers()).is_some_and(|signed| signed != region)
        {
            return Err(elsewhere(&region));
        }
        let token = self.0.key(&credentials.access_key).and_then(|key| key.session_token);
        match token {
            Some(token) if context.headers().get(SESSION_TOKEN).is_none_or(|found| *found != token) => {
                Err(s3_error!(InvalidToken, "The provided token is malformed or otherwise invalid."))
            }
            _ => Ok(()),
        }
    }
}

/// The region in the scope of a signature: `Credential=KEY/DATE/REGION/s3/aws4_request`.
fn signed_region(headers: &HeaderMap) -> Option<&str> {
    let authorization = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let scope = authorization.split_once("Credential=")?.1;
    scope.split('/').nth(2)
}

/// What AWS says of a bucket in another region than the one that a request was signed for.
fn elsewhere(region: &str) -> S3Error {
    let message = format!("The authorization header is malformed; the region is wrong; expecting '{region}'");
    let mut error = S3Error::with_message(S3ErrorCode::AuthorizationHeaderMalformed, message);
    if let Ok(region) = HeaderValue::from_str(region) {
        error.set_headers(HeaderMap::from_iter([(HeaderName::from_static("x-amz-bucket-region"), region)]));
    }
    error
}
