//! Bodies of uploads: collected, hashed once on the way in, compared with what the client says of them.

use base64_simd::STANDARD;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use hyper::header::HeaderMap;
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum as _, Crc32, Crc32c, Crc64Nvme, Md5, Sha1, Sha256};
use s3s::dto::StreamingBlob;
use s3s::{S3Error, S3ErrorCode, S3Result, TrailingHeaders, s3_error};

use super::super::object::Checksums;

/// Room made for a body before it comes, at most; larger ones grow.
const ROOM_LIMIT_BYTES: usize = 64 * 1024 * 1024;
/// Beginning of the headers, and of the trailers, that hold checksums.
const CHECKSUM: &str = "x-amz-checksum-";

/// What a client says of the body that it sends.
#[derive(Debug, Default)]
pub(super) struct Claims {
    pub length: Option<i64>,
    /// `Content-MD5`, base64.
    pub md5: Option<String>,
    pub checksums: Checksums,
    /// Headers of the request: they name the checksums that follow the body.
    pub headers: HeaderMap,
    pub trailers: Option<TrailingHeaders>,
}

/// A body that is what its sender says.
#[derive(Debug)]
pub(super) struct Received {
    pub bytes: Bytes,
    pub digest: [u8; 16],
    pub checksums: Checksums,
}

/// The checksums among the fields of a request.
macro_rules! checksums_of {
    ($fields:ident) => {
        $crate::protocol::receive::named([
            ("crc32", &$fields.checksum_crc32),
            ("crc32c", &$fields.checksum_crc32c),
            ("crc64nvme", &$fields.checksum_crc64nvme),
            ("sha1", &$fields.checksum_sha1),
            ("sha256", &$fields.checksum_sha256),
        ])
    };
}
pub(super) use checksums_of;

/// What a request says of its body.
macro_rules! claims {
    ($input:ident, $request:ident) => {
        $crate::protocol::receive::Claims {
            length: $input.content_length,
            md5: $input.content_md5.clone(),
            checksums: $crate::protocol::receive::checksums_of!($input),
            headers: $request.headers,
            trailers: $request.trailing_headers,
        }
    };
}
pub(super) use claims;

pub(super) fn named(fields: [(&str, &Option<String>); 5]) -> Checksums {
    fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?))).collect()
}

/// Puts checksums into the fields of an answer.
macro_rules! answer_checksums {
    ($output:expr, $checksums:expr) => {{
        let field = |name: &str| $checksums.get(name).cloned();
        $output.checksum_crc32 = field("crc32");
        $output.checksum_crc32c = field("crc32c");
        $output.checksum_crc64nvme = field("crc64nvme");
        $output.checksum_sha1 = field("sha1");
        $output.checksum_sha256 = field("sha256");
    }};
}
pub(super) use answer_checksums;

/// Reads a body to its end.
pub(super) async fn receive(body: Option<StreamingBlob>, claims: Claims) -> S3Result<Received> {
    let mut hasher = hasher(&claims);
    let mut md5 = Md5::new();
    let room = claims.length.and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
    let mut whole = BytesMut::with_capacity(room.min(ROOM_LIMIT_BYTES));
    if let Some(mut body) = body {
        while let Some(piece) = body.next().await {
            // Either the connection broke, and nobody reads this, or the body is not what was signed.
            let piece = piece.map_err(not_as_signed)?;
            hasher.update(&piece);
            md5.update(&piece);
            whole.extend_from_slice(&piece);
        }
    }
    let digest = md5.finalize();
    if let Some(claimed) = &claims.md5 {
        check_md5(claimed, &digest)?;
    }
    let found = hasher.finalize();
    let found = checksums_of!(found);
    let claimed = with_trailers(claims.checksums, claims.trailers);
    match claimed.iter().find(|(name, value)| found.get(*name) != Some(value)) {
        Some((name, _)) => {
            Err(s3_error!(BadDigest, "The {name} you specified did not match the calculated checksum."))
        }
        None => Ok(Received { bytes: whole.freeze(), digest, checksums: claimed }),
    }
}

fn not_as_signed(error: s3s::StdError) -> S3Error {
    let code = S3ErrorCode::from_bytes(b"XAmzContentSHA256Mismatch").unwrap_or(S3ErrorCode::BadDigest);
    let mut answer = S3Error::with_source(code, error);
    answer.set_message("The provided 'x-amz-content-sha256' header does not match what was computed.");
    answer.set_status_code(hyper::StatusCode::BAD_REQUEST);
    answer
}

/// A hasher for every checksum that is claimed before or announced to come after the body.
fn hasher(claims: &Claims) -> ChecksumHasher {
    let announced = claims.headers.get_all("x-amz-trailer").iter().filter_map(|value| value.to_str().ok());
    let announced: Vec<String> = announced
        .flat_map(|value| value.split(','))
        .filter_map(|name| Some(name.trim().to_ascii_lowercase().strip_prefix(CHECKSUM)?.to_owned()))
        .collect();
    let wanted = |name: &str| {
        claims.checksums.contains_key(name) || announced.iter().any(|announced| announced == name)
    };
    ChecksumHasher {
        crc32: wanted("crc32").then(Crc32::new),
        crc32c: wanted("crc32c").then(Crc32c::new),
        crc64nvme: wanted("crc64nvme").then(Crc64Nvme::new),
        sha1: wanted("sha1").then(Sha1::new),
        sha256: wanted("sha256").then(Sha256::new),
    }
}

fn with_trailers(mut claimed: Checksums, trailers: Option<TrailingHeaders>) -> Checksums {
    for (name, value) in &trailers.and_then(|trailers| trailers.take()).unwrap_or_default() {
        if let (Some(name), Ok(value)) = (name.as_str().strip_prefix(CHECKSUM), value.to_str()) {
            claimed.insert(name.to_owned(), value.to_owned());
        }
    }
    claimed
}

fn check_md5(claimed: &str, digest: &[u8; 16]) -> S3Result<()> {
    match STANDARD.decode_to_vec(claimed) {
        Ok(claimed) if claimed == digest => Ok(()),
        Ok(claimed) if claimed.len() == digest.len() => {
            Err(s3_error!(BadDigest, "The Content-MD5 you specified did not match what we received."))
        }
        _ => Err(s3_error!(InvalidDigest, "The Content-MD5 you specified was invalid.")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn base64_of_an_md5_is_read() {
        let digest = Md5::checksum(b"hello");
        check_md5("XUFAKrxLKna5cZ2REBfFkg==", &digest).unwrap();
        let other = check_md5("AAAAAAAAAAAAAAAAAAAAAA==", &digest).unwrap_err();
        assert_eq!(*other.code(), S3ErrorCode::BadDigest);
        let short = check_md5("AAAA", &digest).unwrap_err();
        assert_eq!(*short.code(), S3ErrorCode::InvalidDigest);
        assert_eq!(*check_md5("?", &digest).unwrap_err().code(), S3ErrorCode::InvalidDigest);
    }

    proptest! {
        #[test]
        fn no_digest_is_too_strange(text in prop_oneof![any::<String>(), "[A-Za-z0-9+/=]{0,30}"]) {
            let _ = check_md5(&text, &[0; 16]);
        }
    }
}
