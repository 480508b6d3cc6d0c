//! One mount: its credentials, the way to its bucket, each right, the headers in it, and its mount point.

use std::io;
use std::path::Path;
use std::time::Duration;

use futures::future::join_all;
use hyper::Uri;
use time::OffsetDateTime;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::ask::detached;
use super::tell::{of_one, skipped};
use crate::config::{Config, Mount, Source};
use crate::diagnose::clients::{bucket, child, content, in_time, keys};
use crate::diagnose::result::{CheckResult, Grade};
use crate::error::Chain;
use crate::host::credentials::Holder;
use crate::host::mount::{MountTable, defaults, shows, store_hint};
use crate::host::probe::MountFinding;
use bucketfs::attr::Attributes;
use bucketfs::session::FS_TYPE;
use bucketfs::store::s3::S3;
use bucketfs::store::{Depth, List, ListStart, ObjectStore, ObjectStoreWrite, StoreError};

const DNS_LIMIT: Duration = Duration::from_secs(5);
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// A key that nobody has.
const NO_KEY: &str = ".mapkeeper-doctor";
/// The clock may be this much off before it is worth a word, and before S3 refuses what it signs.
const CLOCK_DOUBT_S: u64 = 5;
const CLOCK_REFUSED_S: u64 = 15 * 60;
/// Objects whose headers are looked at.
const SAMPLE: usize = 10;
/// Objects that are listed to choose from.
const LISTED: u16 = 200;

/// The checks that need credentials.
const ASKED: [&str; 7] = [
    "bucket",
    "s3:ListBucket",
    "s3:GetObject",
    "s3:PutObject",
    "conditional writes",
    "clock against S3",
    "headers in bucket",
];

pub(super) async fn checks(config: &Config, mount: &Mount) -> Vec<CheckResult> {
    let point = mount_point(mount);
    let results = match &mount.source {
        Source::S3 { bucket, .. } => {
            let (mut results, (told, held), point) =
                futures::join!(way(config, mount, bucket), credentials(config, mount), point);
            results.push(told);
            match held {
                Some(held) => results.extend(asked(config, mount, &held).await),
                None => results.extend(skipped(&ASKED, "there are no credentials")),
            }
            results.extend(point);
            results
        }
        source => {
            let mut results =
                vec![CheckResult::ok("bucket", format!("not needed: {source} is the kernel's"))];
            results.extend(point.await);
            results
        }
    };
    of_one(&mount.name, config.mounts.len(), results)
}

async fn credentials(config: &Config, mount: &Mount) -> (CheckResult, Option<Holder>) {
    let name = if config.credentials.secret.is_some() { "secret" } else { "credentials" };
    match keys(config, mount).await {
        Ok(held) => (CheckResult::ok(name, held.description()), Some(held)),
        Err(error) => (CheckResult::failed(name, &error, "docs/iam.md says what is needed"), None),
    }
}

/// Name resolution and a connection: what everything else needs.
async fn way(config: &Config, mount: &Mount, bucket: &str) -> Vec<CheckResult> {
    let (host, port) = endpoint(config, mount, bucket);
    let asked = (host.clone(), port);
    let looked_up = detached(DNS_LIMIT, move || {
        std::net::ToSocketAddrs::to_socket_addrs(&(asked.0.as_str(), asked.1))
            .map(Iterator::collect::<Vec<_>>)
    });
    let addresses = match looked_up.await {
        None => Err(format!("no answer about {host} within {} s", DNS_LIMIT.as_secs())),
        Some(Err(error)) => Err(format!("{host}: {error}")),
        Some(Ok(addresses)) if addresses.is_empty() => Err(format!("{host} has no address")),
        Some(Ok(addresses)) => Ok(addresses),
    };
    let addresses = match addresses {
        Ok(addresses) => addresses,
        Err(why) => {
            let hint = "resolvectl query, /etc/resolv.conf; is DNS of the VPC on? is the bucket's name or `endpoint_url` right?";
            let mut results = vec![CheckResult::fail("dns", why, hint)];
            results.extend(skipped(&["connection to S3"], "its name has no address"));
            return results;
        }
    };
    let first = addresses[0];
    let connected = match timeout(CONNECT_LIMIT, TcpStream::connect(first)).await {
        Ok(Ok(_)) => CheckResult::ok("connection to S3", format!("{first} accepts")),
        failed => {
            let why = match failed {
                Ok(Err(error)) => error.to_string(),
                _ => format!("no answer within {} s", CONNECT_LIMIT.as_secs()),
            };
            let hint = "a route or security group stands between: a gateway endpoint for S3, or a NAT gateway, port 443";
            CheckResult::fail("connection to S3", format!("{first}: {why}"), hint)
        }
    };
    vec![CheckResult::ok("dns", format!("{host} is {first}")), connected]
}

/// Host and port that requests for the bucket go to.
fn endpoint(config: &Config, mount: &Mount, bucket: &str) -> (String, u16) {
    let url = mount.endpoint_url.as_ref().and_then(|url| url.parse::<Uri>().ok());
    if let Some((url, host)) = url.as_ref().and_then(|url| Some((url, url.host()?))) {
        let port = if url.scheme_str() == Some("https") { 443 } else { 80 };
        return (host.trim_matches(['[', ']']).to_owned(), url.port_u16().unwrap_or(port));
    }
    let region = mount.region.as_deref().or(config.region.as_deref()).unwrap_or("us-east-1");
    match mount.path_style {
        true => (format!("s3.{region}.amazonaws.com"), 443),
        false => (format!("{bucket}.s3.{region}.amazonaws.com"), 443),
    }
}

/// What the bucket itself has to say.
async fn asked(config: &Config, mount: &Mount, held: &Holder) -> Vec<CheckResult> {
    let Source::S3 { bucket: name, prefix } = &mount.source else { return Vec::new() };
    let store = match bucket(config, mount, held).await {
        Ok(Some(store)) => store,
        Ok(None) => return Vec::new(),
        Err(error) => {
            let mut results = vec![refused("bucket", &error)];
            results.extend(skipped(&ASKED[1..], "the bucket does not answer"));
            return results;
        }
    };
    let (list, read, write, clock) = futures::join!(
        may_list(&store, prefix),
        may_read(&store, prefix),
        may_write(mount, &store, prefix),
        clock(&store)
    );
    // What may not be written is not tried.
    let conditions = match write.grade {
        Grade::Ok => conditions(mount, &store, prefix).await,
        _ => skipped(&ASKED[4..5], "nothing may be written"),
    };
    let headers = headers(mount, &store, prefix).await;
    let bucket = CheckResult::ok("bucket", format!("{name} answers"));
    let mut results = vec![bucket, list, read, write];
    results.extend(conditions);
    results.extend([clock, headers]);
    results
}

/// Whether a write says that it lost a race, tried with an object of a moment. AWS needs no trial.
async fn conditions(mount: &Mount, store: &S3, prefix: &str) -> Vec<CheckResult> {
    let name = ASKED[4];
    if mount.read_only {
        return vec![CheckResult::ok(name, "not needed: the mount is read only")];
    }
    vec![match in_time(store.conditions(prefix)).await.map(|found| found.lacking()) {
        Ok(None) => CheckResult::ok(name, "kept"),
        Ok(Some(lacking)) => {
            let hint = "docs/servers.md says what is lost; where none are kept, on_conflict = \"overwrite\" writes all the same";
            CheckResult::warn(name, lacking.to_string(), hint)
        }
        Err(error) => refused(name, &error),
    }]
}

fn refused(name: &str, error: &StoreError) -> CheckResult {
    let hint = store_hint(error).unwrap_or_else(|| "docs/iam.md says what is needed".to_owned());
    CheckResult::fail(name, Chain(error).to_string(), hint)
}

async fn may_list(store: &S3, prefix: &str) -> CheckResult {
    let one = List { prefix, depth: Depth::Directory, from: ListStart::Start, limit: 1 };
    match in_time(store.list(one)).await {
        Ok(page) if page.objects.is_empty() && page.prefixes.is_empty() => {
            let said = format!("allowed, and there is nothing below {prefix:?}");
            CheckResult::warn("s3:ListBucket", said, "check `source`: a bucket and a prefix that hold maps")
        }
        Ok(_) => CheckResult::ok("s3:ListBucket", "allowed"),
        Err(error) => refused("s3:ListBucket", &error),
    }
}

/// Reads the first object that is listed; a key that nobody has where there is none.
async fn may_read(store: &S3, prefix: &str) -> CheckResult {
    let list = List { prefix, depth: Depth::Tree, from: ListStart::Start, limit: 20 };
    let listed = in_time(store.list(list)).await.map(|page| page.objects).unwrap_or_default();
    let key = listed.iter().find(|object| !object.key.ends_with('/')).map(|object| object.key.clone());
    let key = key.unwrap_or_else(|| format!("{prefix}{NO_KEY}"));
    match content(store, &key, 1).await {
        Ok(_) | Err(StoreError::NotFound { .. }) => CheckResult::ok("s3:GetObject", "allowed"),
        Err(error) => refused("s3:GetObject", &error),
    }
}

/// Asks to add to an upload that does not exist: refused before anything is written, or not known.
async fn may_write(mount: &Mount, store: &S3, prefix: &str) -> CheckResult {
    let name = "s3:PutObject";
    if mount.read_only {
        return CheckResult::ok(name, "not needed: the mount is read only");
    }
    let key = format!("{prefix}{NO_KEY}");
    let upload = bucketfs::store::write::Upload { key: &key, id: "mapkeeper-doctor" };
    match in_time(store.put_part(upload, 1, bytes::Bytes::from_static(b"x"))).await {
        Err(StoreError::NoUpload { .. } | StoreError::NotFound { .. }) => CheckResult::ok(name, "allowed"),
        Err(error @ (StoreError::Denied { .. } | StoreError::Credentials { .. })) => {
            let hint = "allow s3:PutObject, s3:DeleteObject and s3:AbortMultipartUpload (docs/iam.md), or set read_only = true";
            CheckResult::fail(name, Chain(&error).to_string(), hint)
        }
        Ok(_) => {
            // Such a server may have begun one.
            let _ = in_time(store.abort_upload(upload)).await;
            let said = "the store takes parts of an upload that does not exist";
            CheckResult::warn(name, said, "is it an S3 server?")
        }
        Err(error) => refused(name, &error),
    }
}

async fn clock(store: &S3) -> CheckResult {
    let name = "clock against S3";
    let here = OffsetDateTime::now_utc().unix_timestamp();
    match in_time(store.clock(NO_KEY)).await {
        Ok(Some(there)) => {
            let off = here.abs_diff(there);
            let said = format!("{off} s apart");
            let hint = "systemctl enable --now chronyd; chronyc makestep";
            if off <= CLOCK_DOUBT_S {
                CheckResult::ok(name, said)
            } else if off < CLOCK_REFUSED_S {
                CheckResult::warn(name, said, hint)
            } else {
                CheckResult::fail(name, said, hint)
            }
        }
        Ok(None) => {
            CheckResult::warn(name, "the store does not say what time it has", "date -u; curl -sI of its URL")
        }
        Err(error) => refused(name, &error),
    }
}

/// Whether what is in the bucket can be read by MapServer, judged by some of it.
async fn headers(mount: &Mount, store: &S3, prefix: &str) -> CheckResult {
    let name = "headers in bucket";
    let list = List { prefix, depth: Depth::Tree, from: ListStart::Start, limit: LISTED };
    let listed = match in_time(store.list(list)).await {
        Ok(page) => page.objects,
        Err(error) => return refused(name, &error),
    };
    let step = (listed.len() / SAMPLE).max(1);
    let sample: Vec<_> = listed.iter().step_by(step).take(SAMPLE).collect();
    let looks = join_all(sample.iter().map(|object| in_time(store.head(&object.key)))).await;
    let defaults = defaults(mount);
    let mut with_mode = 0;
    let mut hidden = None;
    let mut seen = 0;
    for (listed, look) in sample.iter().zip(looks) {
        let Ok(object) = look else { continue };
        seen += 1;
        with_mode += usize::from(object.metadata.iter().any(|(name, _)| name == "mode"));
        let found = Attributes::of(&listed.key, &object, &defaults);
        let needed = if listed.key.ends_with('/') { 0o005 } else { 0o004 };
        if found.permissions & needed != needed {
            hidden.get_or_insert((listed.key.clone(), found));
        }
    }
    match hidden {
        None => CheckResult::ok(
            name,
            format!("{seen} looked at, {with_mode} with headers of s3fs, all readable by everybody"),
        ),
        Some((key, found)) => {
            let said =
                format!("{key:?} has mode {:04o}, owner {}:{}", found.permissions, found.uid, found.gid);
            let hint = "MapServer reads as another user: mapkeeper explain MAP says whether that one may, and how to change it";
            CheckResult::warn(name, said, hint)
        }
    }
}

/// The directory, or what is mounted there; the latter is asked by a child.
async fn mount_point(mount: &Mount) -> Vec<CheckResult> {
    let names = ["mount point", "mount answers"];
    let path = mount.path.clone();
    let fail = |said: &str, hint: &str| CheckResult::fail(names[0], said, hint);
    let entry = match MountTable::of(None) {
        Ok(table) => table.top(&path).cloned(),
        Err(error) => return vec![fail(&error.to_string(), "is /proc mounted?")],
    };
    let shown = path.display();
    let Some(entry) = entry else {
        let looked = path.clone();
        let found = detached(Duration::from_secs(3), move || directory(&looked)).await;
        let point = match found {
            None => fail(&format!("{shown} does not answer"), "findmnt -T shows what it is on"),
            Some(Ok(said)) => CheckResult::ok(names[0], format!("{shown} {said}")),
            Some(Err(said)) => {
                fail(&format!("{shown} {said}"), "move away what is there, or mount elsewhere")
            }
        };
        let answers = CheckResult::warn(names[1], "nothing is mounted", "systemctl start mapkeeper");
        return vec![point, answers];
    };
    if entry.fs_type != FS_TYPE && !shows(&mount.source, &entry) && mount.source != Source::External {
        let said = format!("{} ({}) is mounted at {shown}", entry.source, entry.fs_type);
        let unasked = "not asked: it is not ours";
        let answers = CheckResult::warn(names[1], unasked, "see `mount point` above");
        return vec![fail(&said, &format!("umount {shown}, and take it out of fstab")), answers];
    }
    let device = (entry.device.major, entry.device.minor);
    let point = CheckResult::ok(names[0], format!("{} at {shown}, device {}", entry.source, entry.device));
    let hint = "mapkeeper status says what is done about it; while no agent runs: systemctl start mapkeeper";
    let silent = |said: String| CheckResult::fail(names[1], said, hint);
    let answers = match child().ask(&path, Some(device), true).await {
        Ok(MountFinding::Listed { .. } | MountFinding::Answered { .. }) => CheckResult::ok(names[1], "yes"),
        Ok(MountFinding::Failed { errno }) => silent(format!("no: {errno}")),
        Ok(other) => silent(format!("{other:?}")),
        Err(error) => silent(Chain(&error).to_string()),
    };
    vec![point, answers]
}

/// What is at a path where nothing is mounted.
fn directory(path: &Path) -> Result<&'static str, String> {
    match std::fs::read_dir(path) {
        Ok(mut entries) => match entries.next() {
            None => Ok("is an empty directory"),
            Some(_) => Err("is not empty".to_owned()),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok("does not exist yet, and is made"),
        Err(error) => Err(format!("cannot be used: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{LEAST, config};

    #[test]
    fn requests_go_where_the_configuration_says() {
        let at = |url: Option<&str>| {
            let url = url.map_or(String::new(), |url| format!("endpoint_url = {url:?}\n"));
            let config = config(&format!("region = \"eu-west-1\"\n{LEAST}{url}"));
            endpoint(&config, &config.mounts[0], "maps")
        };
        assert_eq!(at(None), ("maps.s3.eu-west-1.amazonaws.com".to_owned(), 443));
        assert_eq!(at(Some("http://127.0.0.1:9000")), ("127.0.0.1".to_owned(), 9000));
        assert_eq!(at(Some("https://minio.example.com")), ("minio.example.com".to_owned(), 443));
        assert_eq!(at(Some("http://[::1]:9000")), ("::1".to_owned(), 9000));
    }
}
