//! Keys as they are handed to the SDK, and as they are sent.
//!
//! The SDK takes a key of nothing but blanks for one that is missing, and sends nothing; S3 stores objects under such
//! keys. So one goes to the SDK behind a word between two NULs, which no name of a file holds, and that is taken out of the
//! address before it is signed. Any other key with a NUL is left as it is. A key longer than S3's longest is sent to nobody: an address of any length would end the process.

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
