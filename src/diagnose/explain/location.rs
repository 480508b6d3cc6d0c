//! One map by all of its names: object, file of the host, file in the container.

use std::path::{Component, Path, PathBuf};

use percent_encoding::percent_decode_str;

use crate::agent::live::seen_at;
use crate::config::{Config, Container, Mount, Source};

/// Where one map is.
#[derive(Debug, Clone)]
pub struct MapLocation<'a> {
    pub mount: &'a Mount,
    /// Below the root of the mount, without a leading `/`.
    pub below: String,
    pub container: Option<&'a Container>,
    /// Where the container sees the root of the mount; it may be above what the container sees.
    pub root_inside: Option<PathBuf>,
}

impl MapLocation<'_> {
    /// Bucket and key, where the mount shows a bucket.
    pub fn key(&self) -> Option<String> {
        self.key_of(&self.below)
    }

    /// The key of another file of the same mount.
    pub fn key_of(&self, below: &str) -> Option<String> {
        match &self.mount.source {
            Source::S3 { prefix, .. } => Some(format!("{prefix}{below}")),
            _ => None,
        }
    }

    /// `s3://bucket/key`.
    pub fn url(&self, below: &str) -> String {
        match &self.mount.source {
            Source::S3 { bucket, prefix } => format!("s3://{bucket}/{prefix}{below}"),
            source => format!("{source} {below}"),
        }
    }

    /// The object as commands of AWS take it: `--bucket b --key k`.
    pub fn named(&self) -> String {
        match &self.mount.source {
            Source::S3 { prefix, .. } => format!("{} --key {prefix}{}", self.bucket(), self.below),
            source => format!("{source} {}", self.below),
        }
    }

    /// The bucket as commands of AWS take it: `--bucket b`.
    pub fn bucket(&self) -> String {
        match &self.mount.source {
            Source::S3 { bucket, .. } => format!("--bucket {bucket}"),
            source => source.to_string(),
        }
    }

    pub fn on_host(&self) -> PathBuf {
        self.mount.path.join(&self.below)
    }

    /// Where the container sees it.
    pub fn inside(&self) -> Option<PathBuf> {
        self.root_inside.as_ref().map(|root| root.join(&self.below))
    }

    /// The directory of the mapfile below the root: empty, or without a final `/`.
    pub fn directory(&self) -> String {
        self.below.rsplit_once('/').map(|(directory, _)| directory.to_owned()).unwrap_or_default()
    }
}

/// The places that a person may mean, the likeliest first: a URL with `map=`, `s3://bucket/key`, a path of the host or of
/// a container, or a name below a mount. Empty: no mount shows such a path.
pub fn places<'a>(config: &'a Config, asked: &str) -> Vec<MapLocation<'a>> {
    let asked = map_of_url(asked).unwrap_or_else(|| asked.to_owned());
    let all = || config.mounts.iter();
    if let Some(rest) = asked.strip_prefix("s3://") {
        let (wanted, key) = rest.split_once('/').unwrap_or((rest, ""));
        let below = |mount: &'a Mount| match &mount.source {
            Source::S3 { bucket, prefix } if bucket == wanted => {
                let below = key.strip_prefix(prefix.as_str())?;
                Some(place(config, mount, below.trim_end_matches('/')))
            }
            _ => None,
        };
        return all().filter_map(below).collect();
    }
    if !asked.starts_with('/') {
        return all().map(|mount| place(config, mount, &plain(&asked).unwrap_or_default())).collect();
    }
    let path = Path::new(&asked);
    let on_host = all().filter_map(|mount| Some((mount, path.strip_prefix(&mount.path).ok()?.to_owned())));
    let inside = all().filter_map(|mount| {
        let (_, root) = shown_by(config, mount)?;
        Some((mount, path.strip_prefix(root).ok()?.to_owned()))
    });
    let text = |below: PathBuf| plain(&below.to_string_lossy()).unwrap_or_default();
    on_host.chain(inside).map(|(mount, below)| place(config, mount, &text(below))).collect()
}

fn place<'a>(config: &'a Config, mount: &'a Mount, below: &str) -> MapLocation<'a> {
    let shown = shown_by(config, mount);
    MapLocation {
        mount,
        below: below.to_owned(),
        container: shown.as_ref().map(|(container, _)| *container),
        root_inside: shown.map(|(_, root)| root),
    }
}

/// The first container that shows `mount`, and where it sees its root.
fn shown_by<'a>(config: &'a Config, mount: &Mount) -> Option<(&'a Container, PathBuf)> {
    config.containers.iter().find_map(|container| {
        let root = container.binds.iter().find_map(|bind| seen_at(&bind.source, &bind.target, &mount.path));
        root.map(|root| (container, root))
    })
}

/// `/mapfiles/a.map` of `http://host/?map=/mapfiles/a.map&...`.
fn map_of_url(text: &str) -> Option<String> {
    let (scheme, _) = text.split_once("://")?;
    let (_, query) = text.split_once('?')?;
    let mut fields = query.split('&').filter_map(|field| field.split_once('='));
    let map = fields.find_map(|(name, value)| name.eq_ignore_ascii_case("map").then_some(value))?;
    scheme.starts_with("http").then(|| percent_decode_str(map).decode_utf8_lossy().into_owned())
}

/// A relative path without `.`, `..` and empty parts; `None` if it leads out of where it begins.
pub fn plain(path: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for component in Path::new(path).components() {
        match component {
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::ParentDir => drop(parts.pop()?),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::config;

    const MAPS: &str = "[[mount]]\nsource = \"s3://maps/prod\"\npath = \"/srv/maps\"\n[container]\nname = \"mapserver\"\n\
        binds = [\"/srv/maps:/mapfiles:ro\"]\n";

    #[test]
    fn a_map_is_known_by_each_of_its_names() {
        let config = config(MAPS);
        for asked in [
            "a/b.map",
            "./a/b.map",
            "/srv/maps/a/b.map",
            "/mapfiles/a/b.map",
            "s3://maps/prod/a/b.map",
            "http://host:8080/?MAP=%2fmapfiles/a/b.map&SERVICE=WMS",
        ] {
            let places = places(&config, asked);
            let [place] = places.as_slice() else { panic!("{asked}: {places:?}") };
            assert_eq!(place.below, "a/b.map", "{asked}");
            assert_eq!(place.key().as_deref(), Some("prod/a/b.map"));
            assert_eq!(place.url(&place.below), "s3://maps/prod/a/b.map");
            assert_eq!(place.inside().as_deref(), Some(Path::new("/mapfiles/a/b.map")));
            assert_eq!(
                (place.on_host().as_path(), place.directory().as_str()),
                (Path::new("/srv/maps/a/b.map"), "a")
            );
        }
        for asked in ["/etc/passwd", "s3://other/a.map", "s3://maps/test/a.map"] {
            assert!(places(&config, asked).is_empty(), "{asked}");
        }
    }

    #[test]
    fn a_path_that_leads_out_is_none() {
        assert_eq!(plain("a/../b//./c").as_deref(), Some("b/c"));
        assert_eq!(plain("../a"), None);
    }
}
