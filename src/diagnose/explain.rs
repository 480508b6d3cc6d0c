//! One map, followed from the object in the bucket to the answer of MapServer.
//!
//! ```text
//!   object -> headers -> mapfile -> data -> mount -> file -> bind -> container -> wms
//!   in S3     readable?  its text   files   there?   same    same     runs, may   answers,
//!                                   there?           bytes?  device?  be asked?   draws?
//! ```
//!
//! The first wrong link is the cause; what comes after it is looked at all the same, because a person may have to cure
//! more than one. What must hold: nothing is changed, and every link has its deadline.

mod files;
mod location;
mod process_identity;
mod service;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use time::OffsetDateTime;
use tokio::time::{sleep, timeout};

pub use self::service::admits;

use self::location::{MapLocation, places};
use self::process_identity::{Reader, allows};
use super::clients::{BUCKET_LIMIT, KEYS_LIMIT, bucket, child, content, in_time, keys};
use super::lint::{Seen, remarks};
use super::mapfile::{self, Mapfile};
use super::result::{CheckResult, Grade, exit};
use crate::config::{Config, Mount, Source};
use crate::error::{Advise, Chain, Exit};
use crate::host::container::{Engine, Facts, Found, Phase};
use crate::host::mount::{MountTable, shows, store_hint};
use crate::host::probe::{CONTENT_BYTES, MountFinding, content_hash};
use bucketfs::Defaults;
use bucketfs::attr::Attributes;
use bucketfs::session::FS_TYPE;
use bucketfs::store::s3::{Change, S3};
use bucketfs::store::{Object, ObjectStore, StoreError};

/// Longest mapfile that is read.
const MAPFILE_BYTES: u64 = 4 << 20;
/// Most files that are followed through INCLUDE.
const INCLUDES_MAX: usize = 20;
/// Longest wait for Docker.
const DOCKER_LIMIT: Duration = Duration::from_secs(6);

/// What was found of one map.
#[derive(Debug, Clone, Serialize)]
pub struct Explanation {
    /// Its address in the bucket.
    pub map: String,
    /// The links of the chain, in order.
    pub links: Vec<CheckResult>,
    /// What is unwise in the mapfile.
    pub remarks: Vec<CheckResult>,
}

impl Explanation {
    /// The first link that is wrong.
    pub fn first_wrong(&self) -> Option<&CheckResult> {
        self.links.iter().find(|link| link.grade == Grade::Fail)
    }

    /// 0 where every link is good.
    pub fn exit(&self) -> Exit {
        exit(&self.links)
    }
}

/// Why a map was not followed.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    #[error("no mount shows {map:?}")]
    Nowhere { map: String, mounts: Vec<String> },
}

impl Advise for ExplainError {
    fn hint(&self) -> Option<String> {
        let ExplainError::Nowhere { mounts, .. } = self;
        Some(format!(
            "name it as it is in the bucket, on the host or in the container; there is {}",
            mounts.join(", ")
        ))
    }

    fn exit(&self) -> Exit {
        Exit::Usage
    }
}

/// Follows the map that a person calls `map`.
///
/// # Errors
///
/// [`ExplainError::Nowhere`] when no mount of `config` can show it.
pub async fn explain(config: &Config, map: &str) -> Result<Explanation, ExplainError> {
    let mut candidates = places(config, map);
    candidates.retain(|place| !place.below.is_empty());
    let (first, others) = candidates.split_first().ok_or_else(|| ExplainError::Nowhere {
        map: map.to_owned(),
        mounts: config
            .mounts
            .iter()
            .map(|mount| format!("{} at {}", mount.source, mount.path.display()))
            .collect(),
    })?;
    let explained = follow(config, first).await;
    // A name that several mounts could have is that of the one that has it.
    for place in others {
        if explained.links.first().is_some_and(|object| object.grade == Grade::Ok) {
            break;
        }
        let other = follow(config, place).await;
        if other.links.first().is_some_and(|object| object.grade == Grade::Ok) {
            return Ok(other);
        }
    }
    Ok(explained)
}

/// What is known of the container that shows a map.
struct Host {
    facts: Option<Facts>,
    environment: Vec<(String, String)>,
    reader: Option<Reader>,
    result: CheckResult,
}

async fn follow(config: &Config, place: &MapLocation<'_>) -> Explanation {
    let host = host(config, place).await;
    let mut links = Vec::new();
    let mut remarks = Vec::new();
    let (mut object, mut restored) = (None, None);
    if matches!(place.mount.source, Source::S3 { .. }) {
        let told = of_bucket(config, place, &host).await;
        links.extend(told.links);
        (remarks, object, restored) = (told.remarks, told.object, told.restored);
    }
    let (mounted, device) = mounted(place.mount);
    let serves = mounted.grade == Grade::Ok;
    links.push(mounted);
    if serves {
        links.push(file(place, object.as_ref()).await);
    }
    if place.container.is_some() {
        links.push(bind(place, host.facts.as_ref(), device));
    }
    let runs = host.result.grade != Grade::Fail;
    let host_running = host.facts.as_ref().is_some_and(|facts| facts.phase == Phase::Running);
    links.push(host.result);
    if let (Some(container), Some(inside), true) = (place.container, place.inside(), host_running || runs) {
        links.push(service::asked(container, &inside.to_string_lossy(), restored.as_deref()).await);
    }
    Explanation { map: place.url(&place.below), links, remarks }
}

/// What the bucket tells of a map.
#[derive(Default)]
struct Told {
    links: Vec<CheckResult>,
    remarks: Vec<CheckResult>,
    /// With the hash of its first bytes.
    object: Option<(Object, u64)>,
    /// How the version before is brought back, where there is one.
    restored: Option<String>,
}

async fn of_bucket(config: &Config, place: &MapLocation<'_>, host: &Host) -> Told {
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
    let keys = match timeout(KEYS_LIMIT, keys(config, mount)).await {
        Ok(Ok(keys)) => keys,
        Ok(Err(error)) => {
            return Err(CheckResult::failed("object", &error, "mapkeeper doctor looks at each source"));
        }
        Err(_) => {
            let said = format!("not asked for: no credentials within {} s", KEYS_LIMIT.as_secs());
            return Err(CheckResult::fail(
                "object",
                said,
                "mapkeeper doctor looks at each source of credentials",
            ));
        }
    };
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
    let defaults = Defaults {
        uid: mount.uid,
        gid: mount.gid,
        file_permissions: (mount.file_mode & 0o7777) as u16,
        directory_permissions: (mount.dir_mode & 0o7777) as u16,
    };
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
        let below = location::plain(&format!("{}/{}", place.directory(), named.value));
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

/// What the kernel has at the mount's path, and its device.
fn mounted(mount: &Mount) -> (CheckResult, Option<bucketfs::mountinfo::Device>) {
    let path = mount.path.display();
    let table = match MountTable::of(None) {
        Ok(table) => table,
        Err(error) => {
            return (
                CheckResult::fail(
                    "mount",
                    format!("cannot read the list of mounts: {error}"),
                    "is /proc mounted?",
                ),
                None,
            );
        }
    };
    match table.top(&mount.path) {
        None => {
            let hint = "mapkeeper status says why; where no agent runs: systemctl start mapkeeper";
            (CheckResult::fail("mount", format!("nothing is mounted at {path}"), hint), None)
        }
        Some(entry) if entry.fs_type != FS_TYPE && !shows(&mount.source, entry) => {
            let said =
                format!("{} ({}) is mounted at {path}, not {}", entry.source, entry.fs_type, mount.source);
            (
                CheckResult::fail(
                    "mount",
                    said,
                    format!("umount {path}; look for it in /etc/fstab and rc.local"),
                ),
                None,
            )
        }
        Some(entry) => {
            let said = format!("{} at {path}, device {}", entry.source, entry.device);
            (CheckResult::ok("mount", said), Some(entry.device))
        }
    }
}

/// Whether the mount shows the bytes of the object, asked by a child. A change is given the mount's freshness to show.
async fn file(place: &MapLocation<'_>, object: Option<&(Object, u64)>) -> CheckResult {
    let (path, child) = (place.on_host(), child());
    let freshness = place.mount.freshness;
    for attempt in 0..2 {
        let found = child.read(&path).await;
        let said = match (&found, object) {
            (Ok(MountFinding::Content { size, hash }), Some((object, wanted))) => {
                if (*size, *hash) == (object.size, *wanted) {
                    return CheckResult::ok(
                        "file",
                        format!("{} shows what the object holds", path.display()),
                    );
                }
                format!(
                    "{} shows {size} bytes that are not those of the object ({} bytes)",
                    path.display(),
                    object.size
                )
            }
            (Ok(MountFinding::Content { size, .. }), None) => {
                return CheckResult::ok("file", format!("{} has {size} bytes", path.display()));
            }
            (Ok(MountFinding::Failed { errno }), _) => format!("{} cannot be read: {errno}", path.display()),
            (Ok(other), _) => format!("{}: {other:?}", path.display()),
            (Err(error), _) => format!("{}: {}", path.display(), Chain(error)),
        };
        if attempt == 1 {
            let hint = match found {
                Ok(MountFinding::Content { .. }) => {
                    "wait for `freshness`; if it stays: mapkeeper status, and report it"
                }
                _ => "mapkeeper status says how the mount is, and whether it is being repaired",
            };
            return CheckResult::fail("file", said, hint);
        }
        if found.is_ok() {
            sleep(freshness.min(Duration::from_secs(5)) + Duration::from_millis(500)).await;
        }
    }
    unreachable!("the second attempt returns")
}

/// Whether the container sees the mount that the host has.
fn bind(
    place: &MapLocation<'_>,
    facts: Option<&Facts>,
    device: Option<bucketfs::mountinfo::Device>,
) -> CheckResult {
    let (Some(root), Some(inside)) = (&place.root_inside, place.inside()) else {
        return CheckResult::fail(
            "bind",
            "no bind of the container shows the mount",
            "add it to `binds` of [container]",
        );
    };
    let Some(pid) = facts.filter(|facts| facts.phase == Phase::Running).and_then(|facts| facts.pid) else {
        return CheckResult::warn(
            "bind",
            "not looked at: the container does not run",
            "see `container` below",
        );
    };
    let table = match MountTable::of(Some(pid)) {
        Ok(table) => table,
        Err(error) => {
            return CheckResult::warn(
                "bind",
                format!("cannot look into the container: {error}"),
                "run it as root",
            );
        }
    };
    let visible: Option<PathBuf> =
        inside.ancestors().find(|path| table.top(path).is_some()).map(Path::to_path_buf);
    let seen = visible.as_deref().and_then(|path| table.top(path)).map(|entry| entry.device);
    let restart =
        "the agent restarts it by itself; by hand: docker restart of the container, once the mount serves";
    match (seen, device) {
        (Some(seen), Some(device)) if seen == device => CheckResult::ok(
            "bind",
            format!("the container sees device {seen} at {}, as the host does", root.display()),
        ),
        (Some(seen), Some(device)) => {
            let said = format!(
                "stale: the container sees device {seen} at {}, the host has mounted {device}",
                root.display()
            );
            CheckResult::fail("bind", said, restart)
        }
        (seen, None) => {
            let seen = seen.map_or_else(|| "nothing".to_owned(), |seen| format!("device {seen}"));
            let said =
                format!("the container sees {seen} at {}, the host has nothing mounted", root.display());
            CheckResult::fail("bind", said, "repair the mount first: see `mount` above")
        }
        (None, Some(_)) => {
            CheckResult::fail("bind", format!("the container sees no mount at {}", root.display()), restart)
        }
    }
}

/// The container that shows the map, as Docker knows it.
async fn host(config: &Config, place: &MapLocation<'_>) -> Host {
    let result = |result| Host { facts: None, environment: Vec::new(), reader: None, result };
    let Some(container) = place.container else {
        let said = match config.containers.is_empty() {
            true => "no container is configured",
            false => "no configured container binds the mount",
        };
        return result(CheckResult::warn("container", said, "add it: [container] with `binds`"));
    };
    let asked = async {
        let engine = Engine::connect().await?;
        let found = engine.find(container).await?;
        let environment = match &found {
            Found::Present(facts) => engine.environment(&facts.id).await.unwrap_or_default(),
            _ => Vec::new(),
        };
        Ok::<_, crate::host::container::ContainerError>((found, environment))
    };
    let (facts, environment) = match timeout(DOCKER_LIMIT, asked).await {
        Err(_) => {
            let said = format!("Docker does not answer within {} s", DOCKER_LIMIT.as_secs());
            return result(CheckResult::fail(
                "container",
                said,
                "systemctl status docker; journalctl -u docker",
            ));
        }
        Ok(Err(error)) => return result(CheckResult::failed("container", &error, "systemctl status docker")),
        Ok(Ok((Found::Absent, _))) => {
            let said = format!("there is no container {}", crate::host::container::title(container));
            return result(CheckResult::fail("container", said, "mapkeeper status says why it is not made"));
        }
        Ok(Ok((Found::Foreign { id, .. }, _))) => {
            let said = format!("container {id} has the name, and was not made by mapkeeper");
            return result(CheckResult::fail(
                "container",
                said,
                format!("docker rm -f {id}, or choose another name"),
            ));
        }
        Ok(Ok((Found::Present(facts), environment))) => (*facts, environment),
    };
    let reader = facts.pid.and_then(process_identity::reader);
    let result = running(&facts, &environment, place.inside().as_deref());
    Host { facts: Some(facts), environment, reader, result }
}

fn running(facts: &Facts, environment: &[(String, String)], inside: Option<&Path>) -> CheckResult {
    let name = &facts.name;
    if facts.phase != Phase::Running {
        let ended =
            facts.exit_code.filter(|_| facts.phase == Phase::Exited).map(|code| format!(" with code {code}"));
        let memory = if facts.oom_killed { ", out of memory" } else { "" };
        let said = format!("{name} is {:?}{}{memory}", facts.phase, ended.unwrap_or_default()).to_lowercase();
        return CheckResult::fail(
            "container",
            said,
            format!("docker logs {name}; mapkeeper status says what is done about it"),
        );
    }
    let pattern = environment.iter().find(|(name, _)| name == "MS_MAP_PATTERN").map(|(_, value)| value);
    let path = inside.map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
    if let Some(pattern) = pattern
        && service::admits(pattern, &path) == Some(false)
    {
        let said = format!("MS_MAP_PATTERN of {name} is {pattern:?} and does not match {path}");
        let hint = "set it: environment = { MS_MAP_PATTERN = \"^/mapfiles/.*[.]map$\" } in [container], or rename the map";
        return CheckResult::fail("container", said, hint);
    }
    CheckResult::ok(
        "container",
        format!("{name} runs {} since {}", facts.image, facts.started.get(..19).unwrap_or(&facts.started)),
    )
}
