//! What the bucket tells of a map: the object, its headers, its text and the files that it names.

use time::OffsetDateTime;
use tokio::time::timeout;

use super::container::Host;
use super::files;
use super::location::{MapLocation, plain};
use super::process_identity::{Reader, allows};
use crate::config::{Config, Mount};
use crate::diagnose::clients::{BUCKET_LIMIT, bucket, content, in_time, keys};
use crate::diagnose::lint::{Seen, remarks};
use crate::diagnose::mapfile::{self, Mapfile};
use crate::diagnose::result::{CheckResult, Grade};
use crate::error::Chain;
use crate::host::mount::{defaults, store_hint};
use crate::host::probe::{CONTENT_BYTES, content_hash};
use crate::terminal::counted;
use bucketfs::attr::Attributes;
use bucketfs::listing::is_hidden;
use bucketfs::store::s3::{Change, S3};
use bucketfs::store::{Depth, List, ListStart, Object, ObjectStore, StoreError};

/// Longest mapfile that is read.
const MAPFILE_BYTES: u64 = 4 << 20;
/// Most files that are followed through INCLUDE.
const INCLUDES_MAX: usize = 20;

/// What the bucket tells of a map.
#[derive(Default)]
pub(super) struct Told {
    pub links: Vec<CheckResult>,
    pub remarks: Vec<CheckResult>,
    /// With the hash of its first bytes.
    pub object: Option<(Object, u64)>,
    /// How the version before is brought back, where there is one.
    pub restored: Option<String>,
}

pub(super) async fn of_bucket(config: &Config, place: &MapLocation<'_>, host: &Host) -> Told {
    let mut told = Told::default();
    let store = match asked(config, place.mount).await {
        Ok(store) => store,
        Err(result) => {
            told.links.push(result);
            return told;
        }
    };
    let key = place.key().unwrap_or_default();
    let history = in_time(store.history(&key)).await.unwrap_or_default();
    let (object, bytes) = match content(&store, &key, MAPFILE_BYTES).await {
        Ok(read) => read,
        Err(error) => {
            told.links.push(absent(&store, place, &error, &history).await);
            return told;
        }
    };
    told.links.push(CheckResult::ok("object", described(&object, &history)));
    told.restored = history.get(1).and_then(|before| before.version_id.as_ref()).map(|version| {
        let source = place.url(&place.below).replace("s3://", "");
        format!("aws s3api copy-object {} --copy-source '{source}?versionId={version}'", place.named())
    });
    told.links.push(headers(&store, place, &object, host).await);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let map = with_includes(&store, place, &text).await;
    let root = place.root_inside.as_ref().map(|root| root.to_string_lossy().into_owned());
    // Of a container that is not there nobody knows what its image says.
    let has_error_log =
        host.facts.is_none() || host.environment.iter().any(|(name, _)| name == "MS_ERRORFILE");
    told.remarks = self::remarks(&map, &text, &Seen { root: root.as_deref(), has_error_log });
    told.links.push(of_text(&told.remarks, &history, &map));
    let data = files::looked_for(&store, place, &map).await;
    told.links.push(data.unwrap_or_else(|error| unasked("data", &error)));
    let shown = bytes.get(..bytes.len().min(CONTENT_BYTES as usize)).unwrap_or_default();
    let hash = content_hash(shown);
    told.object = Some((object, hash));
    told
}

/// The bucket of a mount, with the keys that the agent would use.
async fn asked(config: &Config, mount: &Mount) -> Result<S3, CheckResult> {
    let failed = |error| CheckResult::failed("object", &error, "mapkeeper doctor looks at each source");
    let keys = keys(config, mount).await.map_err(failed)?;
    match timeout(2 * BUCKET_LIMIT, bucket(config, mount, &keys)).await {
        Ok(Ok(Some(store))) => Ok(store),
        Ok(Err(error)) => Err(unasked("object", &error)),
        Ok(Ok(None)) | Err(_) => Err(unasked("object", &StoreError::TimedOut(2 * BUCKET_LIMIT))),
    }
}

fn unasked(name: &str, error: &StoreError) -> CheckResult {
    let hint = store_hint(error).unwrap_or_else(|| "mapkeeper doctor asks S3 step by step".to_owned());
    CheckResult::fail(name, Chain(error).to_string(), hint)
}

async fn absent(store: &S3, place: &MapLocation<'_>, error: &StoreError, history: &[Change]) -> CheckResult {
    if !matches!(error, StoreError::NotFound { .. }) {
        return unasked("object", error);
    }
    if let Some(directory) = directory(store, place).await {
        return directory;
    }
    let said = format!("there is no object {}", place.url(&place.below));
    if let [Change { deleted: true, at, author, version_id: Some(version) }, ..] = history {
        let said = format!("{said}: it was deleted on {}{}", date(*at), by(author.as_deref()));
        let hint = format!("bring it back: aws s3api delete-object {} --version-id {version}", place.named());
        return CheckResult::fail("object", said, hint);
    }
    let hint = match files::like(store, place, &place.below).await {
        Some(name) => format!("{name:?} is there: was that meant? Names are case-sensitive"),
        None => format!("put it there: aws s3 cp FILE {}", place.url(&place.below)),
    };
    CheckResult::fail("object", said, hint)
}

/// What is wrong with the directory that has this name, if one has: at the least that it is no map.
async fn directory(store: &S3, place: &MapLocation<'_>) -> Option<CheckResult> {
    let prefix = format!("{}/", place.key()?);
    let list = List { prefix: &prefix, depth: Depth::Tree, from: ListStart::Start, limit: 1000 };
    let page = in_time(store.list(list)).await.ok()?;
    let rests = page.objects.iter().filter_map(|object| object.key.strip_prefix(&*prefix));
    let below: Vec<&str> = rests.filter(|rest| !rest.is_empty()).collect();
    let url = place.url(&format!("{}/", place.below));
    let hidden: Vec<&str> = below.iter().copied().filter(|rest| is_hidden(rest)).collect();
    let Some(first) = hidden.first() else {
        let said = format!("{url} is a directory");
        return (!page.objects.is_empty())
            .then(|| CheckResult::fail("object", said, "name a map that is in it"));
    };
    let alone = if hidden.len() == below.len() { ": it looks empty, and cannot be removed" } else { "" };
    let said = format!(
        "{url} is a directory with {} that no file name can stand for, such as {:?}{alone}",
        counted(hidden.len(), "key"),
        format!("{prefix}{first}")
    );
    let hint = format!(
        "aws s3api delete-object {} --key '{prefix}{first}'; or mount with remove_hidden = true, and rmdir removes them",
        place.bucket()
    );
    Some(CheckResult::fail("object", said, hint))
}

/// Size, version, time and author of an object.
fn described(object: &Object, history: &[Change]) -> String {
    let newest = history.first();
    let version = object.version.version_id.as_deref().map(|id| format!(", version {id}"));
    let author = by(newest.and_then(|change| change.author.as_deref()));
    let others = history.len().saturating_sub(1);
    let before = match history.get(1).filter(|_| others > 0) {
        Some(Change { version_id: Some(id), at, .. }) => format!("; before it version {id} of {}", date(*at)),
        _ => String::new(),
    };
    format!(
        "{} bytes{}, ETag {}, written {}{author}{before}",
        object.size,
        version.unwrap_or_else(|| ", no versions kept".to_owned()),
        object.version.etag.0.trim_matches('"'),
        date(object.version.last_modified),
    )
}

fn by(author: Option<&str>) -> String {
    author.map(|author| format!(" by {author}")).unwrap_or_default()
}

/// Whole seconds since the epoch as a person reads them.
fn date(seconds: i64) -> String {
    let Ok(time) = OffsetDateTime::from_unix_timestamp(seconds) else {
        return "at an unknown time".to_owned();
    };
    let (day, clock) = (time.date(), time.time());
    format!("{day} {:02}:{:02}:{:02} UTC", clock.hour(), clock.minute(), clock.second())
}

/// Whether MapServer may read the object, and look into the directories above it.
async fn headers(store: &S3, place: &MapLocation<'_>, object: &Object, host: &Host) -> CheckResult {
    let mount = place.mount;
    let defaults = defaults(mount);
    let own = Attributes::of(&place.key().unwrap_or_default(), object, &defaults);
    // Who is not known is taken for somebody without any right.
    let stranger = Reader { uid: u32::MAX, groups: Vec::new(), process: "MapServer".to_owned() };
    let reader = host.reader.as_ref().unwrap_or(&stranger);
    let who = match host.reader {
        Some(_) => format!("uid {} of the container ({})", reader.uid, reader.process),
        None => "everybody".to_owned(),
    };
    let mut at = String::new();
    for part in place.directory().split('/').filter(|part| !part.is_empty()) {
        at.push_str(part);
        let key = format!("{}/", place.key_of(&at).unwrap_or_default());
        if let Ok(marker) = in_time(store.head(&key)).await {
            let directory = Attributes::of(&key, &marker, &defaults);
            if !allows(&directory, reader, 1) {
                return forbidden(&at, &directory, &who, &format!("{}/", place.url(&at)), 0o40755);
            }
        }
        at.push('/');
    }
    if !allows(&own, reader, 4) {
        return forbidden(&place.below, &own, &who, &place.url(&place.below), 0o100_644);
    }
    let said_by =
        if object.metadata.iter().any(|(name, _)| name == "mode") { "its headers" } else { "the mount" };
    let said = format!(
        "mode {:04o}, owner {}:{}, by {said_by}: readable by {who}",
        own.permissions, own.uid, own.gid
    );
    CheckResult::ok("headers", said)
}

fn forbidden(below: &str, found: &Attributes, who: &str, url: &str, mode: u32) -> CheckResult {
    let said = format!(
        "{below} has mode {:04o}, owner {}:{}: not readable by {who}",
        found.permissions, found.uid, found.gid
    );
    let hint = format!(
        "write its headers anew: aws s3 cp {url} {url} --metadata-directive REPLACE --metadata mode={mode}"
    );
    CheckResult::fail("headers", said, hint)
}

async fn with_includes(store: &S3, place: &MapLocation<'_>, text: &str) -> Mapfile {
    let mut map = mapfile::read(text);
    let mut next = 0;
    let mut read = 0;
    while let Some((word, named)) = map.files.get(next).cloned() {
        next += 1;
        let below = plain(&format!("{}/{}", place.directory(), named.value));
        if word != "INCLUDE" || named.value.starts_with('/') || read == INCLUDES_MAX {
            continue;
        }
        let Some(key) = below.and_then(|below| place.key_of(&below)) else { continue };
        read += 1;
        // What is missing is told where files are looked for.
        if let Ok((_, bytes)) = content(store, &key, MAPFILE_BYTES).await {
            map.include(mapfile::read(&String::from_utf8_lossy(&bytes)));
        }
    }
    map
}

fn of_text(remarks: &[CheckResult], history: &[Change], map: &Mapfile) -> CheckResult {
    let counted = match map.layers.len() {
        1 => "1 layer".to_owned(),
        count => format!("{count} layers"),
    };
    let Some(worst) =
        remarks.iter().max_by_key(|remark| (remark.grade, std::cmp::Reverse(remark.name.clone())))
    else {
        return CheckResult::ok("mapfile", format!("{counted}, nothing to remark"));
    };
    let more = if remarks.len() > 1 { format!("; {} remarks below", remarks.len()) } else { String::new() };
    let said = format!("{counted}; {}: {}{more}", worst.name, worst.detail);
    let hint = worst.hint.clone().unwrap_or_default();
    match worst.grade {
        Grade::Fail => {
            let since = history
                .first()
                .map(|change| format!(" (written {}{})", date(change.at), by(change.author.as_deref())));
            CheckResult::fail("mapfile", said + &since.unwrap_or_default(), hint)
        }
        _ => CheckResult::warn("mapfile", said, hint),
    }
}
