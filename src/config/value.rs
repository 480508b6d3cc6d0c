//! Texts with a grammar of their own: sources, paths, URLs, ports, binds, names.
//!
//! Each function takes text and returns the checked value, or else what was expected: a text that S3, Docker, Parameter
//! Store or CloudFormation would refuse, or that messages could not show, is refused here.

use std::net::IpAddr;
use std::path::{Component, Path, PathBuf};

use hyper::Uri;

use super::container::{Bind, Port, Protocol};
use super::fault::Expected;
use super::model::{Overlay, Source, Sse, StackSignal};

const SOURCE: Expected =
    Expected::fixed("s3://bucket[/prefix], nfs://host/export, efs://fs-id[/path] or external:");
const BUCKET: Expected = Expected::fixed(
    "a bucket name of 3 to 63 characters out of a-z, 0-9, \".\" and \"-\" that starts and ends with a letter or \
     digit, has no \"..\" and is no IP address",
);
const PREFIX: Expected = Expected::fixed(
    "a key prefix of at most 1024 bytes without empty, \".\" or \"..\" parts and without control characters",
);
const PATH: Expected = Expected::fixed("an absolute path other than / without \".\" and \"..\"");
const PORT: Expected = Expected::fixed(r#"a port such as "8080:80", "127.0.0.1:8080:80" or "8080:80/udp""#);
const BIND: Expected = Expected::fixed(r#"two absolute paths and options such as "/src:/dst:ro,rslave""#);
const BIND_OPTIONS: Expected = Expected::fixed(
    "bind options out of ro, rw, rprivate, private, rslave, slave, rshared, shared, z and Z, of which ro and rw, \
     and any two kinds of propagation, exclude each other",
);

/// Reads `s3://bucket[/prefix]`, `nfs://host/export`, `efs://fs-id[/path]` or `external:`.
pub fn source(text: &str) -> Result<Source, Expected> {
    if text == "external:" {
        return Ok(Source::External);
    }
    let (scheme, rest) = text.split_once("://").ok_or(SOURCE)?;
    match scheme {
        "s3" => part_of_bucket(rest).map(|(bucket, prefix)| Source::S3 { bucket, prefix }),
        "nfs" => nfs_source(rest),
        "efs" => efs_source(rest),
        _ => Err(SOURCE),
    }
}

/// A bucket and the prefix of a part of it: `bucket[/prefix]`, with or without a slash at the end.
fn part_of_bucket(text: &str) -> Result<(String, String), Expected> {
    let (bucket, prefix) = text.split_once('/').unwrap_or((text, ""));
    if !is_bucket(bucket) {
        return Err(BUCKET);
    }
    if prefix.is_empty() {
        return Ok((bucket.to_owned(), String::new()));
    }
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(char::is_control);
    if prefix.len() >= 1024 || !prefix.split('/').all(plain) {
        return Err(PREFIX);
    }
    Ok((bucket.to_owned(), format!("{prefix}/")))
}

fn is_bucket(name: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let inside = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.' || b == b'-';
    let bytes = name.as_bytes();
    (3..=63).contains(&bytes.len())
        && bytes.iter().all(|b| inside(*b))
        && edge(bytes.first())
        && edge(bytes.last())
        && !name.contains("..")
        && name.parse::<IpAddr>().is_err()
}

fn nfs_source(rest: &str) -> Result<Source, Expected> {
    const NFS: Expected = Expected::fixed("nfs://host/export with the absolute path of the export");
    let slash = rest.find('/').ok_or(NFS)?;
    let (host, export) = rest.split_at(slash);
    let named = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
    // It begins a word of a command line.
    let is_host = !host.is_empty() && !host.starts_with('-') && host.chars().all(named);
    if !is_host || (export != "/" && absolute_path(export).is_err()) {
        return Err(NFS);
    }
    Ok(Source::Nfs { host: host.to_owned(), export: export.to_owned() })
}

fn efs_source(rest: &str) -> Result<Source, Expected> {
    const EFS: Expected = Expected::fixed(
        "efs://fs-id[/path] with an id such as fs-0123456789abcdef0, or efs://NAME[/path] with the Name tag of one",
    );
    let (id, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let path = if path.is_empty() { "/" } else { path };
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    let named = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    let good = match id.strip_prefix("fs-") {
        Some(digits) => !digits.is_empty() && digits.bytes().all(hex),
        None => !id.is_empty() && id.len() <= 256 && id.bytes().all(named),
    };
    if !good || (path != "/" && absolute_path(path).is_err()) {
        return Err(EFS);
    }
    Ok(Source::Efs { id: id.to_owned(), path: path.to_owned() })
}

/// Reads an absolute path other than `/`; a slash at its end is dropped.
pub fn absolute_path(text: &str) -> Result<PathBuf, Expected> {
    let trimmed = text.strip_suffix('/').unwrap_or(text);
    let parts = trimmed.strip_prefix('/').ok_or(PATH)?;
    if parts.split('/').any(|part| matches!(part, "" | "." | "..")) || parts.contains(char::is_control) {
        return Err(PATH);
    }
    Ok(PathBuf::from(trimmed))
}

/// Reads a path of Parameter Store, as far as that would not refuse it: `/maps/prod`; a slash at its end is dropped.
pub fn parameter_path(text: &str) -> Result<String, Expected> {
    let trimmed = text.strip_suffix('/').unwrap_or(text);
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let is_path = |parts: &str| {
        let good = parts.split('/').all(|part| !part.is_empty() && part.chars().all(plain));
        good && trimmed.len() <= 900 && parts.split('/').count() <= 15
    };
    let expected = r#"a path of Parameter Store such as "/maps/prod": letters, digits, ".", "_", "-" and "/", at most 15 levels"#;
    kept(trimmed, trimmed.strip_prefix('/').is_some_and(is_path), expected)
}

/// Reads where an overlay is: `s3://bucket/prefix` or an absolute directory.
pub fn overlay(text: &str) -> Result<Overlay, Expected> {
    match text.strip_prefix("s3://") {
        Some(rest) => part_of_bucket(rest).map(|(bucket, prefix)| Overlay::Bucket { bucket, prefix }),
        None => absolute_path(text).map(Overlay::Directory),
    }
}

/// `text` if it is good.
fn kept(text: &str, good: bool, expected: &'static str) -> Result<String, Expected> {
    if good { Ok(text.to_owned()) } else { Err(Expected::fixed(expected)) }
}

/// Reads an `https://` URL without user or password, out of characters that need no quotes in a shell.
///
/// # Errors
///
/// Anything else.
pub fn https_url(text: &str) -> Result<String, Expected> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~:/?#[]@!&()*+,;=%".contains(c);
    let is_https = |uri: Uri| {
        let named = uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
        uri.scheme_str() == Some("https") && named && text.chars().all(plain)
    };
    kept(text, text.parse().is_ok_and(is_https), "an https:// URL without user and password")
}

/// Reads a checksum.
///
/// # Errors
///
/// Anything but 64 hexadecimal digits.
pub fn sha256(text: &str) -> Result<String, Expected> {
    let good = text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    kept(&text.to_ascii_lowercase(), good, "64 hexadecimal digits")
}

/// Reads the ARN of a role.
pub fn role(text: &str) -> Result<String, Expected> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "+=,.@_/-".contains(c);
    let good = match text.splitn(6, ':').collect::<Vec<_>>().as_slice() {
        ["arn", partition, "iam", "", account, resource] => {
            let name = resource.strip_prefix("role/").unwrap_or_default();
            let is_account = account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit());
            partition.starts_with("aws") && is_account && !name.is_empty() && name.chars().all(plain)
        }
        _ => false,
    };
    kept(text, good, r#"the ARN of a role such as "arn:aws:iam::123456789012:role/maps""#)
}

/// The name that a mount has by default: the last part of its path, where that can be a name.
pub fn name_of(path: &Path) -> Option<String> {
    match path.components().next_back()? {
        Component::Normal(part) => name(part.to_str()?).ok(),
        _ => None,
    }
}

/// Reads the name of a mount, which status and metrics can show.
pub fn name(text: &str) -> Result<String, Expected> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    let good = (1..=64).contains(&text.len()) && text.bytes().all(plain) && !text.starts_with('.');
    kept(text, good, r#"letters, digits, ".", "_" and "-", at most 64, of which the first is no dot"#)
}

/// Reads an AWS region, or what another S3 server calls one.
pub fn region(text: &str) -> Result<String, Expected> {
    let good = (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    kept(text, good, r#"an AWS region such as "us-east-1""#)
}

/// Reads text on one line that is not empty.
pub fn line(text: &str) -> Result<String, Expected> {
    kept(text, !text.is_empty() && !text.contains(char::is_control), "text on one line that is not empty")
}

/// Reads a text without spaces that is not empty: an image, a container's name, a label.
pub fn word(text: &str) -> Result<String, Expected> {
    let good = !text.is_empty() && !text.contains(|c: char| c.is_control() || c.is_whitespace());
    kept(text, good, "text without spaces that is not empty")
}

/// Reads how the store is to encrypt: an algorithm, and perhaps a key.
pub fn sse(text: &str) -> Result<Sse, Expected> {
    const SSE: Expected = Expected::fixed(
        "\"AES256\", \"aws:kms\" or \"aws:kms:KEY\" with the id, ARN or alias of a key: keys of the customer (SSE-C) can be used \
         neither to read nor to write",
    );
    if text == "AES256" {
        return Ok(Sse { algorithm: "AES256", key: None });
    }
    let plain = |key: &str| key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_/:".contains(&b));
    let of = |algorithm: &'static str| match text.strip_prefix(algorithm)? {
        "" => Some(Sse { algorithm, key: None }),
        rest => {
            let key = rest.strip_prefix(':').filter(|key| (1..=2048).contains(&key.len()) && plain(key))?;
            Some(Sse { algorithm, key: Some(key.to_owned()) })
        }
    };
    of("aws:kms:dsse").or_else(|| of("aws:kms")).ok_or(SSE)
}

/// Reads a storage class. Those of S3 may be written in small letters, as s3fs has them; other servers have their own.
pub fn storage_class(text: &str) -> Result<String, Expected> {
    const OF_S3: &[&str] = &[
        "STANDARD",
        "STANDARD_IA",
        "ONEZONE_IA",
        "INTELLIGENT_TIERING",
        "GLACIER_IR",
        "REDUCED_REDUNDANCY",
        "GLACIER",
        "DEEP_ARCHIVE",
    ];
    let large = text.to_ascii_uppercase();
    let class = if OF_S3.contains(&large.as_str()) { large } else { text.to_owned() };
    if matches!(class.as_str(), "GLACIER" | "DEEP_ARCHIVE") {
        return Err(Expected::fixed(
            "a storage class that can be read at once, such as \"GLACIER_IR\": a lifecycle rule of the bucket can archive \
             objects later",
        ));
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-".contains(&b);
    let good = (1..=64).contains(&class.len()) && class.bytes().all(plain);
    kept(&class, good, r#"a storage class such as "STANDARD_IA""#)
}

/// Reads the name or ARN of a secret. An access key and its secret, put here by mistake, is recognised by its colon.
pub fn secret_name(text: &str) -> Result<String, Expected> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/_+=.@-".contains(&b);
    let (rest, parts) = text.strip_prefix("arn:").map_or((text, 1), |rest| (rest, 6));
    let good = rest.split(':').count() == parts && rest.split(':').all(|part| part.bytes().all(plain));
    let good = good && (1..=2048).contains(&text.len());
    kept(text, good, "the name or ARN of a secret in Secrets Manager, never the key itself")
}

/// Reads the base URL of an S3 server; a slash at its end is dropped.
pub fn endpoint_url(text: &str) -> Result<String, Expected> {
    let is_base = |uri: Uri| matches!(uri.scheme_str(), Some("https" | "http")) && uri.query().is_none();
    let trimmed = text.strip_suffix('/').unwrap_or(text);
    let expected = r#"an http:// or https:// URL without query, "http://127.0.0.1:9000""#;
    kept(trimmed, web_address(text).is_some_and(is_base), expected)
}

/// Reads the URL of a probe: a probe asks this host, where TLS proves nothing.
pub fn probe_url(text: &str) -> Result<String, Expected> {
    let is_http = |uri: Uri| uri.scheme_str() == Some("http");
    let expected = r#"an http:// URL such as "http://127.0.0.1:8080/?map=/mapfiles/a.map""#;
    kept(text, web_address(text).is_some_and(is_http), expected)
}

/// The host port that a probe's URL leads to.
pub fn port_of_url(url: &str) -> Option<u16> {
    let uri: Uri = url.parse().ok()?;
    Some(uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 }))
}

fn web_address(text: &str) -> Option<Uri> {
    let uri: Uri = text.parse().ok()?;
    let authority = uri.authority()?;
    let after_host = authority.as_str().rsplit([']', '@']).next().unwrap_or_default();
    let port_reads = !after_host.contains(':') || authority.port_u16().is_some_and(|port| port != 0);
    (!authority.host().is_empty() && port_reads && !text.contains('#')).then_some(uri)
}

/// Reads `[address:]host:container[/tcp|/udp]`.
pub fn port(text: &str) -> Result<Port, Expected> {
    let (ports, protocol) = match text.split_once('/') {
        None | Some((_, "tcp")) => (text.split('/').next().unwrap_or(text), Protocol::Tcp),
        Some((ports, "udp")) => (ports, Protocol::Udp),
        Some(_) => return Err(PORT),
    };
    let (rest, container) = ports.rsplit_once(':').ok_or(PORT)?;
    let (address, host) = match rest.rsplit_once(':') {
        Some((address, host)) => (Some(ip_address(address)?), host),
        None => (None, rest),
    };
    Ok(Port { host_ip: address, host: port_number(host)?, container: port_number(container)?, protocol })
}

fn ip_address(text: &str) -> Result<IpAddr, Expected> {
    match text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inner) => inner.parse().ok().filter(IpAddr::is_ipv6).ok_or(PORT),
        None => text.parse().ok().filter(IpAddr::is_ipv4).ok_or(PORT),
    }
}

fn port_number(text: &str) -> Result<u16, Expected> {
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(PORT);
    }
    text.parse().ok().filter(|port| *port != 0).ok_or(PORT)
}

/// Reads `/source:/target[:options]`.
pub fn bind(text: &str) -> Result<Bind, Expected> {
    let mut parts = text.split(':');
    let (source, target) = (parts.next().unwrap_or_default(), parts.next().ok_or(BIND)?);
    let options: Vec<String> =
        parts.next().map_or_else(Vec::new, |o| o.split(',').map(str::to_owned).collect());
    if parts.next().is_some() {
        return Err(BIND);
    }
    let source = if source == "/" { PathBuf::from("/") } else { absolute_path(source).map_err(|_| BIND)? };
    let target = absolute_path(target).map_err(|_| BIND)?;
    let target = target.into_os_string().into_string().map_err(|_| BIND)?;
    let kinds: [&[&str]; 3] =
        [&["ro", "rw"], &["rprivate", "private", "rslave", "slave", "rshared", "shared"], &["z", "Z"]];
    let of_kind = |kind: &[&str]| options.iter().filter(|option| kind.contains(&option.as_str())).count();
    let counts = kinds.map(of_kind);
    if counts.iter().sum::<usize>() != options.len() || counts.iter().any(|count| *count > 1) {
        return Err(BIND_OPTIONS);
    }
    Ok(Bind { source, target, options })
}

/// Reads a stack and a resource: `STACK/RESOURCE`.
pub fn stack_signal(text: &str) -> Result<StackSignal, Expected> {
    const SIGNAL: Expected =
        Expected::fixed("the name of a stack and the logical id of a resource such as \"maps/Hosts\"");
    let (stack, resource) = text.split_once('/').ok_or(SIGNAL)?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let is_stack = (1..=128).contains(&stack.len())
        && stack.starts_with(|c: char| c.is_ascii_alphabetic())
        && stack.chars().all(is_name);
    let is_resource =
        (1..=255).contains(&resource.len()) && resource.chars().all(|c| c.is_ascii_alphanumeric());
    match is_stack && is_resource {
        true => Ok(StackSignal { stack: stack.to_owned(), resource: resource.to_owned() }),
        false => Err(SIGNAL),
    }
}

#[cfg(test)]
mod tests;
