//! Keys as they are handed to the SDK, and as they are sent.
//!
//! The SDK takes a key of nothing but blanks for one that is missing, and sends nothing; S3 stores objects under such
//! keys. So one goes to the SDK behind a word between two NULs, which no name of a file holds, and that is taken out of the
//! address before it is signed. Any other key with a NUL is left as it is. A key longer than S3's longest is sent to nobody: an address of any length would end the process.
//! A request without a body says so: some servers answer 411 to a copy that does not.

use std::borrow::Cow;

use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;

use crate::store::error::StoreError;
use crate::store::write::KEY_MAX;

/// What the SDK is given before a key of blanks, and how it writes that into an address.
const BEFORE_BLANKS: &str = "\0blanks\0";
const BEFORE_BLANKS_SENT: &str = "/%00blanks%00";

/// `key` as the SDK takes it.
///
/// # Errors
///
/// [`StoreError::KeyTooLong`].
pub(super) fn spelled(key: &str) -> Result<Cow<'_, str>, StoreError> {
    match key.len() {
        0..=KEY_MAX if key.trim().is_empty() => Ok(Cow::Owned(format!("{BEFORE_BLANKS}{key}"))),
        0..=KEY_MAX => Ok(Cow::Borrowed(key)),
        _ => Err(StoreError::KeyTooLong { key: key.to_string() }),
    }
}

/// Whether some servers take a key for none, and the request for one about the bucket: that of `s3fs` for the root.
pub(super) fn is_taken_for_none(key: &str) -> bool {
    key.bytes().all(|byte| byte == b'/')
}

/// Says the length of a body that is empty.
#[derive(Debug)]
pub(super) struct Length;

impl Intercept for Length {
    fn name(&self) -> &'static str {
        "Length"
    }

    fn modify_before_transmit(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request_mut();
        let is_empty = request.body().content_length() == Some(0);
        if is_empty
            && matches!(request.method(), "PUT" | "POST")
            && !request.headers().contains_key("content-length")
        {
            request.headers_mut().insert("content-length", "0");
        }
        Ok(())
    }
}

/// Sends keys of blanks as they are.
#[derive(Debug)]
pub(super) struct Blanks;

impl Intercept for Blanks {
    fn name(&self) -> &'static str {
        "Blanks"
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request_mut();
        let address = request.uri();
        let path = address.split('?').next().unwrap_or_default();
        if let Some(at) = path.find(BEFORE_BLANKS_SENT) {
            let sent = format!("{}/{}", &address[..at], &address[at + BEFORE_BLANKS_SENT.len()..]);
            request.set_uri(sent)?;
        }
        Ok(())
    }
}
