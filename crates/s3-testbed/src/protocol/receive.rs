//! Bodies of uploads: collected, hashed once on the way in, compared with what the client says of them.

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
macro_rules! claimed_checksums {
    ($input:ident) => {
        $crate::object::Checksums {
            crc32: $input.checksum_crc32.clone(),
            crc32c: $input.checksum_crc32c.clone(),
            crc64nvme: $input.checksum_crc64nvme.clone(),
            sha1: $input.checksum_sha1.clone(),
            sha256: $input.checksum_sha256.clone(),
        }
    };
}
pub(super) use claimed_checksums;

/// Puts checksums into the fields of an answer.
macro_rules! answer_checksums {
    ($output:expr, $checksums:expr) => {{
        let checksums: $crate::object::Checksums = $checksums;
        $output.checksum_crc32 = checksums.crc32;
        $output.checksum_crc32c = checksums.crc32c;
        $output.checksum_crc64nvme = checksums.crc64nvme;
        $output.checksum_sha1 = checksums.sha1;
        $output.checksum_sha256 = checksums.sha256;
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
    let found = Checksums {
        crc32: found.checksum_crc32,
        crc32c: found.checksum_crc32c,
        crc64nvme: found.checksum_crc64nvme,
        sha1: found.checksum_sha1,
        sha256: found.checksum_sha256,
    };
    let claimed = with_trailers(claims.checksums, claims.trailers);
    let wrong = [
        ("crc32", &claimed.crc32, &found.crc32),
        ("crc32c", &claimed.crc32c, &found.crc32c),
        ("crc64nvme", &claimed.crc64nvme, &found.crc64nvme),
        ("sha1", &claimed.sha1, &found.sha1),
        ("sha256", &claimed.sha256, &found.sha256),
    ]
    .into_iter()
    .find(|(_, claimed, found)| claimed.is_some() && claimed != found);
    match wrong {
        Some((name, ..)) => {
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
    let announced: Vec<String> = claims
        .headers
        .get_all("x-amz-trailer")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    let wanted = |claimed: &Option<String>, header: &str| {
        claimed.is_some() || announced.iter().any(|announced| announced == header)
    };
    let claimed = &claims.checksums;
    ChecksumHasher {
        crc32: wanted(&claimed.crc32, "x-amz-checksum-crc32").then(Crc32::new),
        crc32c: wanted(&claimed.crc32c, "x-amz-checksum-crc32c").then(Crc32c::new),
        crc64nvme: wanted(&claimed.crc64nvme, "x-amz-checksum-crc64nvme").then(Crc64Nvme::new),
        sha1: wanted(&claimed.sha1, "x-amz-checksum-sha1").then(Sha1::new),
        sha256: wanted(&claimed.sha256, "x-amz-checksum-sha256").then(Sha256::new),
    }
}

fn with_trailers(mut claimed: Checksums, trailers: Option<TrailingHeaders>) -> Checksums {
    let Some(trailers) = trailers.and_then(|trailers| trailers.take()) else { return claimed };
    let fields = [
        ("x-amz-checksum-crc32", &mut claimed.crc32),
        ("x-amz-checksum-crc32c", &mut claimed.crc32c),
        ("x-amz-checksum-crc64nvme", &mut claimed.crc64nvme),
        ("x-amz-checksum-sha1", &mut claimed.sha1),
        ("x-amz-checksum-sha256", &mut claimed.sha256),
    ];
    for (name, field) in fields {
        if let Some(value) = trailers.get(name).and_then(|value| value.to_str().ok()) {
            *field = Some(value.to_owned());
        }
    }
    claimed
}

fn check_md5(claimed: &str, digest: &[u8; 16]) -> S3Result<()> {
    match decode_base64(claimed) {
        Some(claimed) if claimed == digest => Ok(()),
        Some(claimed) if claimed.len() == digest.len() => {
            Err(s3_error!(BadDigest, "The Content-MD5 you specified did not match what we received."))
        }
        _ => Err(s3_error!(InvalidDigest, "The Content-MD5 you specified was invalid.")),
    }
}

fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    let mut bytes = Vec::with_capacity(text.len());
    let mut bits = 0u32;
    let mut count = 0;
    for digit in digits.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(value)) & 0xFFFF;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    Some(bytes)
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
