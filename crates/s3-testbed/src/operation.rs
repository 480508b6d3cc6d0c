//! Which S3 operation a request asks for, told from its head alone.
//!
//! Faults and counters need this before anything of the request is believed: a request with a wrong signature counts
//! as what it claims to be.

use hyper::header::{HOST, HeaderMap, RANGE};
use hyper::{Method, Uri};
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};

/// An S3 operation, as counters and faults tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// GET of a whole object.
    GetObject,
    /// GET with a `Range`.
    GetRange,
    HeadObject,
    PutObject,
    CopyObject,
    DeleteObject,
    DeleteObjects,
    /// Both versions of the request.
    ListObjects,
    ListVersions,
    CreateMultipartUpload,
    UploadPart,
    UploadPartCopy,
    CompleteMultipartUpload,
    AbortMultipartUpload,
    ListMultipartUploads,
    ListParts,
    ListBuckets,
    HeadBucket,
    CreateBucket,
    DeleteBucket,
    /// Anything else: settings of a bucket, tags, and what S3 does not know.
    Other,
}

/// What a request is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub operation: Operation,
    pub bucket: String,
    /// For a list its prefix.
    pub key: String,
    /// The `Range` header.
    pub range: Option<String>,
}

impl Target {
    /// The bucket is the first part of the path, or what stands before `domain` in the name of the host.
    pub fn of(method: &Method, uri: &Uri, headers: &HeaderMap, domain: Option<&str>) -> Self {
        let path = decode(uri.path().strip_prefix('/').unwrap_or_default());
        let by_path = || path.split_once('/').unwrap_or((&path, ""));
        let (bucket, key) = domain
            .and_then(|domain| bucket_of(headers, domain))
            .map_or_else(by_path, |bucket| (bucket, &path));
        let query = uri.query().unwrap_or_default();
        let range = headers.get(RANGE).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let operation = match (bucket, key) {
            ("", _) => Operation::ListBuckets,
            (_, "") => of_bucket(method, query),
            _ => of_object(method, query, headers.contains_key("x-amz-copy-source"), range.is_some()),
        };
        let key = match operation {
            Operation::ListObjects | Operation::ListVersions => {
                parameter(query, "prefix").map(decode_query).unwrap_or_default()
            }
            _ => key.to_owned(),
        };
        Self { operation, bucket: bucket.to_owned(), key, range }
    }
}

/// The bucket of a request to `BUCKET.DOMAIN`, with or without a port.
fn bucket_of<'h>(headers: &'h HeaderMap, domain: &str) -> Option<&'h str> {
    let host = headers.get(HOST)?.to_str().ok()?;
    let name = host.split_once(':').map_or(host, |(name, _)| name);
    name.strip_suffix(domain)?.strip_suffix('.')
}

fn of_bucket(method: &Method, query: &str) -> Operation {
    let has = |name| parameter(query, name).is_some();
    let settings = "acl cors encryption lifecycle location logging notification policy replication tagging versioning \
                    website object-lock publicAccessBlock ownershipControls";
    match *method {
        _ if settings.split(' ').any(has) => Operation::Other,
        Method::GET if has("uploads") => Operation::ListMultipartUploads,
        Method::GET if has("versions") => Operation::ListVersions,
        Method::GET => Operation::ListObjects,
        Method::HEAD => Operation::HeadBucket,
        Method::PUT => Operation::CreateBucket,
        Method::DELETE => Operation::DeleteBucket,
        Method::POST if has("delete") => Operation::DeleteObjects,
        _ => Operation::Other,
    }
}

fn of_object(method: &Method, query: &str, has_source: bool, has_range: bool) -> Operation {
    let has = |name| parameter(query, name).is_some();
    let settings = ["acl", "attributes", "legal-hold", "retention", "tagging", "torrent"];
    match *method {
        _ if settings.into_iter().any(has) => Operation::Other,
        Method::GET if has("uploadId") => Operation::ListParts,
        Method::GET if has_range => Operation::GetRange,
        Method::GET => Operation::GetObject,
        Method::HEAD => Operation::HeadObject,
        Method::PUT if has("uploadId") && has_source => Operation::UploadPartCopy,
        Method::PUT if has("uploadId") => Operation::UploadPart,
        Method::PUT if has_source => Operation::CopyObject,
        Method::PUT => Operation::PutObject,
        Method::POST if has("uploads") => Operation::CreateMultipartUpload,
        Method::POST if has("uploadId") => Operation::CompleteMultipartUpload,
        Method::DELETE if has("uploadId") => Operation::AbortMultipartUpload,
        Method::DELETE => Operation::DeleteObject,
        _ => Operation::Other,
    }
}

/// The undecoded value of a query parameter.
fn parameter<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .find(|(found, _)| *found == name)
        .map(|(_, value)| value)
}

fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// The same of a query, which may write a space as `+`.
pub(super) fn decode_query(text: &str) -> String {
    decode(&text.replace('+', " "))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn target(method: Method, uri: &str, headers: &[(&'static str, &str)]) -> Target {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        Target::of(&method, &uri.parse().unwrap(), &map, Some("s3.example"))
    }

    #[test]
    fn a_bucket_is_in_the_path_or_in_the_name_of_the_host() {
        let asked = |host| {
            let target = target(Method::GET, "/b/k", &[("host", host)]);
            (target.bucket, target.key)
        };
        let by_path = ("b".to_owned(), "k".to_owned());
        for host in ["s3.example", "127.0.0.1:80", "maps.s3.example.org"] {
            assert_eq!(asked(host), by_path, "{host}");
        }
        for host in ["maps.s3.example", "maps.s3.example:443"] {
            assert_eq!(asked(host), ("maps".to_owned(), "b/k".to_owned()), "{host}");
        }
        let list = target(Method::GET, "/?list-type=2&prefix=a", &[("host", "maps.s3.example")]);
        assert_eq!((list.operation, list.key.as_str()), (Operation::ListObjects, "a"));
    }

    #[test]
    fn a_get_is_told_by_its_range() {
        assert_eq!(target(Method::GET, "/b/a%20b/c+d", &[]).operation, Operation::GetObject);
        let target = target(Method::GET, "/b/a%20b/c+d", &[("range", "bytes=0-3")]);
        assert_eq!(target.operation, Operation::GetRange);
        assert_eq!((target.bucket.as_str(), target.key.as_str()), ("b", "a b/c+d"));
        assert_eq!(target.range.as_deref(), Some("bytes=0-3"));
    }

    #[test]
    fn a_list_is_about_its_prefix() {
        let target = target(Method::GET, "/b/?list-type=2&prefix=a%2Fb+c", &[]);
        assert_eq!((target.operation, target.key.as_str()), (Operation::ListObjects, "a/b c"));
    }

    #[test]
    fn puts_are_told_by_their_source_and_upload() {
        let source = [("x-amz-copy-source", "b/k")];
        assert_eq!(target(Method::PUT, "/b/k", &[]).operation, Operation::PutObject);
        assert_eq!(target(Method::PUT, "/b/k", &source).operation, Operation::CopyObject);
        let part = "/b/k?partNumber=1&uploadId=u";
        assert_eq!(target(Method::PUT, part, &[]).operation, Operation::UploadPart);
        assert_eq!(target(Method::PUT, part, &source).operation, Operation::UploadPartCopy);
        assert_eq!(target(Method::PUT, "/b", &[]).operation, Operation::CreateBucket);
    }

    #[test]
    fn keys_may_begin_with_a_slash_or_be_one() {
        assert_eq!(target(Method::HEAD, "/b//a", &[]).key, "/a");
        let slash = target(Method::HEAD, "/b//", &[]);
        assert_eq!((slash.operation, slash.key.as_str()), (Operation::HeadObject, "/"));
        assert_eq!(target(Method::HEAD, "/b/", &[]).operation, Operation::HeadBucket);
    }

    proptest! {
        #[test]
        fn no_path_is_too_strange(path in "[/%a-z0-9+?&=]{0,40}") {
            if let Ok(uri) = format!("/{path}").parse::<Uri>() {
                Target::of(&Method::GET, &uri, &HeaderMap::new(), None);
            }
        }
    }
}
