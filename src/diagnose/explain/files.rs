//! The files that a mapfile names: whether the bucket has them.

use std::path::Path;

use futures::{StreamExt, stream};
use strsim::levenshtein;

use super::location::{MapLocation, plain};
use crate::diagnose::clients::in_time;
use crate::diagnose::mapfile::{Layer, Mapfile};
use crate::diagnose::result::CheckResult;
use bucketfs::store::s3::S3;
use bucketfs::store::{Depth, List, ListStart, ObjectStore, StoreError};

/// Most files that are looked for.
const FILES_MAX: usize = 64;
/// Questions to the bucket at the same time.
const AT_ONCE: usize = 8;

/// A file that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted {
    /// `layer relief`, `FONTSET`.
    by: String,
    line: u32,
    /// As the mapfile has it.
    value: String,
    /// Below the mount; any one of them will do.
    either: Vec<String>,
    /// Further files that belong to it: endings that take the place of its own.
    beside: &'static [&'static str],
}

/// Looks for every file that `map` names: one result for all of them.
///
/// # Errors
///
/// When the bucket cannot be asked.
pub async fn looked_for(
    store: &S3,
    place: &MapLocation<'_>,
    map: &Mapfile,
) -> Result<CheckResult, StoreError> {
    let mut wanted = wanted(map, &place.directory(), place.root_inside.as_deref());
    let more = wanted.len().saturating_sub(FILES_MAX);
    wanted.truncate(FILES_MAX);
    let looks = wanted
        .iter()
        .map(|file| async move { Ok::<_, StoreError>((file, missing(store, place, file).await?)) });
    let mut found: Vec<_> = stream::iter(looks).buffered(AT_ONCE).collect().await;
    let mut faults = Vec::new();
    for look in found.drain(..) {
        if let (file, Some(absent)) = look? {
            faults.push((file.clone(), absent));
        }
    }
    let Some((file, absent)) = faults.first() else {
        let beyond = if more > 0 { format!(", {more} not looked for") } else { String::new() };
        let said = match wanted.len() {
            0 => "the map names no file of the bucket".to_owned(),
            1 => "the one file that it names is in the bucket".to_owned(),
            count => format!("all {count} files that it names are in the bucket{beyond}"),
        };
        return Ok(CheckResult::ok("data", said));
    };
    let others = match faults.len() {
        1 => String::new(),
        count => format!("; and {} more", count - 1),
    };
    let said = format!(
        "{} (line {}) names {:?}, and {} is not there{others}",
        file.by,
        file.line,
        file.value,
        place.url(absent)
    );
    let hint = match like(store, place, absent).await {
        Some(name) => format!("{name:?} is there: did somebody mean that one? Names are case-sensitive"),
        None => format!("put it there: aws s3 cp FILE {}", place.url(absent)),
    };
    Ok(CheckResult::fail("data", said, hint))
}

/// The first file that is missing of what is wanted; `None` if all is there.
async fn missing(store: &S3, place: &MapLocation<'_>, wanted: &Wanted) -> Result<Option<String>, StoreError> {
    for below in &wanted.either {
        if !is_there(store, place, below).await? {
            continue;
        }
        for ending in wanted.beside {
            let stem = below.rsplit_once('.').map_or(below.as_str(), |(stem, _)| stem);
            let beside = format!("{stem}{ending}");
            if !is_there(store, place, &beside).await? {
                return Ok(Some(beside));
            }
        }
        return Ok(None);
    }
    Ok(wanted.either.first().cloned())
}

/// Whether there is a file or a directory.
async fn is_there(store: &S3, place: &MapLocation<'_>, below: &str) -> Result<bool, StoreError> {
    let Some(key) = place.key_of(below) else { return Ok(true) };
    match in_time(store.head(&key)).await {
        Ok(_) => return Ok(true),
        Err(StoreError::NotFound { .. }) => {}
        // Not ours to see: then nobody can say that it is missing.
        Err(StoreError::Denied { .. }) => return Ok(true),
        Err(error) => return Err(error),
    }
    let directory = format!("{key}/");
    let list = List { prefix: &directory, depth: Depth::Tree, from: ListStart::Start, limit: 1 };
    Ok(!in_time(store.list(list)).await?.objects.is_empty())
}

/// A name in the directory of `below` that is nearly the same.
pub async fn like(store: &S3, place: &MapLocation<'_>, below: &str) -> Option<String> {
    let (directory, name) = below.rsplit_once('/').unwrap_or(("", below));
    let directory = if directory.is_empty() { String::new() } else { format!("{directory}/") };
    let prefix = place.key_of(&directory)?;
    let list = List { prefix: &prefix, depth: Depth::Directory, from: ListStart::Start, limit: 1000 };
    let page = in_time(store.list(list)).await.ok()?;
    let names = page.objects.iter().filter_map(|object| object.key.strip_prefix(&prefix));
    let near = names.filter(|other| *other != name).map(|other| (distance(other, name), other));
    let (_, best) = near.filter(|(distance, _)| *distance <= 2).min()?;
    Some(format!("{directory}{best}"))
}

/// How many letters two names differ by; capitals are as small letters.
fn distance(one: &str, other: &str) -> usize {
    levenshtein(&one.to_lowercase(), &other.to_lowercase())
}

fn wanted(map: &Mapfile, directory: &str, root_inside: Option<&Path>) -> Vec<Wanted> {
    // MapServer looks below SHAPEPATH first, then beside the mapfile.
    let shape_path = map.shape_path.as_ref().map(|named| named.value.as_str());
    let resolve = |base: Option<&str>, value: &str| -> Option<String> {
        let path = match base {
            Some(base) => Path::new(base).join(value),
            None => Path::new(value).to_owned(),
        };
        match (path.is_absolute(), root_inside) {
            (true, Some(root)) => plain(path.strip_prefix(root).ok()?.to_str()?),
            (true, None) => None,
            (false, _) => plain(&format!("{directory}/{}", path.to_str()?)),
        }
    };
    let either = |value: &str, in_shape_path: bool| -> Vec<String> {
        let bases = shape_path.filter(|_| in_shape_path).map(Some).into_iter().chain([None]);
        bases.filter_map(|base| resolve(base, value)).collect()
    };
    let mut wanted = Vec::new();
    for (word, named) in map.files.iter().filter(|(_, named)| is_file(&named.value)) {
        let either = either(&named.value, false);
        wanted.push(Wanted {
            by: word.clone(),
            line: named.line,
            value: named.value.clone(),
            either,
            beside: &[],
        });
    }
    for layer in &map.layers {
        for (named, is_shape) in named_by(layer) {
            let by = format!("layer {}", layer.title());
            let mut either = either(&named.value, true);
            let mut beside: &[&str] = &[];
            if is_shape && !named.value.to_ascii_lowercase().ends_with(".shp") {
                either = either.into_iter().map(|file| format!("{file}.shp")).collect();
            }
            if is_shape {
                beside = &[".shx", ".dbf"];
            }
            wanted.push(Wanted { by, line: named.line, value: named.value.clone(), either, beside });
        }
    }
    wanted.retain(|file| !file.either.is_empty());
    wanted
}

/// The files of a layer, and whether each is a shapefile.
fn named_by(layer: &Layer) -> Vec<(&crate::diagnose::mapfile::Named, bool)> {
    let is_raster = layer.kind.as_deref() == Some("raster");
    let mut named = Vec::new();
    if let Some(index) = &layer.tile_index {
        named.push((index, true));
    }
    match layer.connection_type.as_deref() {
        None | Some("local") if layer.tile_index.is_none() => {
            named.extend(layer.data.iter().map(|data| (data, !is_raster)));
        }
        Some("ogr") => named.extend(layer.connection.iter().map(|file| (file, false))),
        Some("raster" | "contour" | "kerneldensity") => {
            named.extend(layer.data.iter().map(|data| (data, false)))
        }
        _ => {}
    }
    named.retain(|(named, _)| is_file(&named.value));
    named
}

/// Whether a value is the name of a file: no address, no query, no part of a request, no virtual file.
fn is_file(value: &str) -> bool {
    let special = [":", "%", "<", "{", "/vsi", "\n"];
    !value.is_empty()
        && !special.iter().any(|mark| value.contains(mark))
        && !value.eq_ignore_ascii_case("inline")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::mapfile::read;

    fn files(map: &str) -> Vec<(String, Vec<String>, usize)> {
        let wanted = wanted(&read(map), "a", Some(Path::new("/mapfiles")));
        wanted.into_iter().map(|file| (file.by, file.either, file.beside.len())).collect()
    }

    #[test]
    fn files_are_looked_for_where_mapserver_does() {
        let map = "MAP SHAPEPATH 'data' FONTSET '../fonts.txt' \
            LAYER NAME land TYPE POLYGON DATA 'land' END \
            LAYER NAME dem TYPE RASTER DATA '/mapfiles/dem/x.tif' END \
            LAYER NAME roads CONNECTIONTYPE OGR CONNECTION 'roads.fgb' DATA 'roads' END \
            LAYER NAME db CONNECTIONTYPE POSTGIS CONNECTION 'host=db' DATA 'geom from t' END \
            LAYER NAME cloud TYPE RASTER DATA '/vsis3/b/x.tif' END \
            LAYER NAME tiles TYPE RASTER TILEINDEX 'tiles.shp' TILEITEM 'location' END END";
        let some = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            files(map),
            [
                ("FONTSET".to_owned(), some(&["fonts.txt"]), 0),
                ("layer land".to_owned(), some(&["a/data/land.shp", "a/land.shp"]), 2),
                ("layer dem".to_owned(), some(&["dem/x.tif", "dem/x.tif"]), 0),
                ("layer roads".to_owned(), some(&["a/data/roads.fgb", "a/roads.fgb"]), 0),
                ("layer tiles".to_owned(), some(&["a/data/tiles.shp", "a/tiles.shp"]), 2),
            ]
        );
    }

    #[test]
    fn names_that_are_nearly_the_same_are_near() {
        assert_eq!((distance("Island.map", "island.map"), distance("iland.map", "island.map")), (0, 1));
        assert!(distance("relief.tif", "island.map") > 2);
    }
}
