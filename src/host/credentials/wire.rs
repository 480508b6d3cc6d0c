//! The HTTP client of requests that a holder signs: it hears refusals, and asks again once there are other keys.
//!
//! A key may be revoked the moment its successor is stored. The first request that is refused then has the holder
//! look at its source at once; if that brings other credentials, the SDK is told to try again and signs anew. So a
//! rotation of that kind costs a pause and no error. A refusal that stays is passed on as it is.

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::retry::ErrorKind;
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::holder::Holder;
use super::refresh::Refusal;
use crate::aws;

/// Most bytes that are read of a refusal: those of S3 have some hundred, or some thousand with what was signed.
const REFUSAL_MAX: usize = 256 * 1024;

#[derive(Debug)]
struct Client {
    inner: SharedHttpClient,
    holder: Holder,
}

#[derive(Debug)]
struct Connector {
    inner: SharedHttpConnector,
    holder: Holder,
}

/// That a request was refused with keys that have changed since.
#[derive(Debug, thiserror::Error)]
#[error("the credentials changed while the store was asked")]
struct Changed;

impl Holder {
    /// `config` with these credentials, and with a client that has them looked at again when a request is refused.
    pub fn signs(&self, config: aws_config::SdkConfig) -> aws_config::SdkConfig {
        let inner = config.http_client().unwrap_or_else(aws::http_client);
        config.into_builder().http_client(heard_by(self.clone(), inner)).build()
    }
}

/// `inner`, with every refusal told to `holder`.
fn heard_by(holder: Holder, inner: SharedHttpClient) -> SharedHttpClient {
    SharedHttpClient::new(Client { inner, holder })
}

impl HttpClient for Client {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        let inner = self.inner.http_connector(settings, components);
        SharedHttpConnector::new(Connector { inner, holder: self.holder.clone() })
    }
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let id = request.headers().get("authorization").and_then(signer).map(str::to_owned);
        let (answer, holder) = (self.inner.call(request), self.holder.clone());
        HttpConnectorFuture::new(async move {
            let response = answer.await?;
            let status = response.status().as_u16();
            let (Some(id), 400 | 401 | 403) = (id, status) else { return Ok(response) };
            let (response, text) = with_text(response).await?;
            match refusal(status, &text) {
                Some(refusal) if holder.refused(&id, refusal).await => {
                    Err(ConnectorError::other(Changed.into(), Some(ErrorKind::TransientError)))
                }
                _ => Ok(response),
            }
        })
    }
}

/// An answer and its body, which is the little text of an error. One that is longer says nothing but its status.
async fn with_text(response: HttpResponse) -> Result<(HttpResponse, String), ConnectorError> {
    let (status, headers) = (response.status(), response.headers().clone());
    let bytes = match Limited::new(response.into_body(), REFUSAL_MAX).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => Bytes::new(),
        Err(error) => return Err(ConnectorError::io(error)),
    };
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let mut whole = HttpResponse::new(status, SdkBody::from(bytes));
    *whole.headers_mut() = headers;
    Ok((whole, text))
}

/// What an error of S3 says of the key; `None`: nothing.
fn refusal(status: u16, text: &str) -> Option<Refusal> {
    const KEY_CODES: &[&str] = &[
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "ExpiredToken",
        "InvalidToken",
        "TokenRefreshRequired",
        "AuthFailure",
    ];
    let code =
        text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>")).map(|(code, _)| code);
    match code {
        Some(code) if KEY_CODES.contains(&code) => Some(Refusal::Key),
        // A clock that is wrong refuses any key.
        Some("RequestTimeTooSkewed") => None,
        // An answer to HEAD has no text.
        _ if status != 400 => Some(Refusal::Doubtful),
        _ => None,
    }
}

/// The id of the key in `AWS4-HMAC-SHA256 Credential=AKID/20240102/us-east-1/s3/aws4_request, ...`.
fn signer(authorization: &str) -> Option<&str> {
    let (_, rest) = authorization.split_once("Credential=")?;
    rest.split('/').next().filter(|id| !id.is_empty())
}

#[cfg(test)]
mod tests {
    use aws_smithy_runtime_api::http::StatusCode;
    use http_body_util::StreamBody;
    use hyper::body::Frame;

    use super::*;

    #[tokio::test]
    async fn a_refusal_without_an_end_says_no_more_than_its_status() {
        let piece = || Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(b"<Error>")));
        let endless = StreamBody::new(futures::stream::repeat_with(piece));
        let status = StatusCode::try_from(403).expect("a status");
        let answer = HttpResponse::new(status, SdkBody::from_body_1_x(endless));
        let (answer, text) = with_text(answer).await.expect("an answer");
        assert_eq!((answer.status().as_u16(), text.as_str()), (403, ""));
        assert_eq!(answer.body().bytes(), Some(&b""[..]));
    }

    #[test]
    fn a_refused_key_is_told_from_a_refused_object() {
        let error = |code: &str| format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code></Error>");
        assert_eq!(refusal(403, &error("InvalidAccessKeyId")), Some(Refusal::Key));
        assert_eq!(refusal(400, &error("ExpiredToken")), Some(Refusal::Key));
        assert_eq!(refusal(403, &error("AccessDenied")), Some(Refusal::Doubtful));
        assert_eq!(refusal(403, ""), Some(Refusal::Doubtful));
        assert_eq!(refusal(400, &error("InvalidRange")), None);
        assert_eq!(refusal(403, &error("RequestTimeTooSkewed")), None);
    }

    #[test]
    fn the_key_that_signed_is_read_from_the_header() {
        let header =
            "AWS4-HMAC-SHA256 Credential=AKID/20240102/us-east-1/s3/aws4_request, SignedHeaders=host";
        assert_eq!(signer(header), Some("AKID"));
        for other in ["", "Basic x", "AWS4-HMAC-SHA256 Credential=/2024"] {
            assert_eq!(signer(other), None, "{other}");
        }
    }
}
