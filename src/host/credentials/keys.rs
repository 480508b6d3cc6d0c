//! Keys in memory: values that no message shows.
//!
//! What must hold: a value is overwritten when it is dropped, and neither `Debug` nor `Display` tells it.

use std::fmt;

use aws_credential_types::Credentials;
use zeroize::Zeroize;

/// A value that must not be seen: `Debug` and `Display` say `[redacted]`, and its memory is overwritten
/// when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret<T: Zeroize>(pub(super) T);

impl<T: Zeroize> Secret<T> {
    /// Hides `value`.
    pub fn new(value: T) -> Secret<T> {
        Secret(value)
    }

    /// The value itself, for the one place that needs it.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("[redacted]")
    }
}

impl<T: Zeroize> fmt::Display for Secret<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("[redacted]")
    }
}

/// An access key, its secret, and the token of a session where there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeyPair {
    pub(super) access_key_id: Secret<String>,
    pub(super) secret_access_key: Secret<String>,
    pub(super) session_token: Option<Secret<String>>,
}

impl KeyPair {
    pub(super) fn credentials(&self, provider: &'static str) -> Credentials {
        let token = self.session_token.as_ref().map(|token| token.expose().clone());
        let (id, key) = (self.access_key_id.expose(), self.secret_access_key.expose());
        Credentials::new(id, key, token, None, provider)
    }
}
