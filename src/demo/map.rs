//! One map of a MapServer: which mapfile to show, what it covers, and its picture.
//!
//! WMS 1.1.1, because its boxes are always x before y. What must hold: an answer that is no picture is an error that
//! shows what MapServer said, whatever the status was.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};

use crate::error::{Advise, Exit};
use crate::host::http::{self, HttpError};

/// Longest wait for a picture.
const LIMIT: Duration = Duration::from_secs(20);
/// Pixels from left to right; the height follows from the box.
const WIDTH: u32 = 800;
/// Every PNG begins with these bytes.
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";
/// Mapfiles that are shown rather than others.
const PREFERRED: [&str; 2] = ["island.map", "health.map"];

/// A map that was fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Where anybody on this host can see it.
    pub url: String,
    pub bytes: Bytes,
    /// Pixels.
    pub width: u32,
    pub height: u32,
}

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    #[error("cannot ask MapServer for {url:?}")]
    Ask { url: String, source: HttpError },
    #[error("the capabilities of {map:?} name no layer and no extent: {excerpt}")]
    Capabilities { map: String, excerpt: String },
    #[error("MapServer answered {url:?} with no picture: {excerpt}")]
    NoPicture { url: String, excerpt: String },
}

impl Advise for MapError {
    fn hint(&self) -> Option<String> {
        match self {
            MapError::Ask { .. } => None,
            MapError::Capabilities { map, .. } => Some(format!("enable WMS in the mapfile {map:?}")),
            MapError::NoPicture { .. } => Some("correct the mapfile: the next request reads it again".into()),
        }
    }

    fn exit(&self) -> Exit {
        Exit::Degraded
    }
}

/// The name of the mapfile to show from `directory`.
pub(super) fn first(directory: &Path) -> Option<String> {
    let entries = std::fs::read_dir(directory).ok()?.filter_map(Result::ok);
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.ends_with(".map") && !name.starts_with('.'))
        .collect();
    names.sort();
    let preferred = PREFERRED.iter().find(|wanted| names.iter().any(|name| name == *wanted));
    preferred.map(|name| name.to_string()).or_else(|| names.into_iter().next())
}

/// Where the capabilities of a mapfile are asked for.
pub(super) fn capabilities_url(port: u16, map: &str) -> String {
    format!("{}&SERVICE=WMS&VERSION=1.1.1&REQUEST=GetCapabilities", base(port, map))
}

fn base(port: u16, map: &str) -> String {
    format!("http://127.0.0.1:{port}/?map=/mapfiles/{}", escaped(map))
}

/// Escapes what may not stand in a URL's query.
fn escaped(text: &str) -> PercentEncode<'_> {
    const QUERY: &AsciiSet =
        &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');
    utf8_percent_encode(text, QUERY)
}

/// Fetches the whole extent of a mapfile as a picture.
///
/// # Errors
///
/// Any [`MapError`].
pub(super) async fn fetch(port: u16, map: &str) -> Result<Picture, MapError> {
    let body = ask(&capabilities_url(port, map)).await?;
    let text = String::from_utf8_lossy(&body);
    let (layer, extent) = covered(&text)
        .ok_or_else(|| MapError::Capabilities { map: map.to_owned(), excerpt: excerpt(&body) })?;
    let [left, bottom, right, top] = extent;
    let height = ((top - bottom) / (right - left) * f64::from(WIDTH)).clamp(100.0, 2000.0) as u32;
    let url = format!(
        "{}&SERVICE=WMS&VERSION=1.1.1&REQUEST=GetMap&LAYERS={}&STYLES=&SRS=EPSG:4326\
         &BBOX={left},{bottom},{right},{top}&WIDTH={WIDTH}&HEIGHT={height}&FORMAT=image/png",
        base(port, map),
        escaped(&layer),
    );
    let bytes = ask(&url).await?;
    match dimensions(&bytes) {
        Some((width, height)) => Ok(Picture { url, bytes, width, height }),
        None => Err(MapError::NoPicture { excerpt: excerpt(&bytes), url }),
    }
}

async fn ask(url: &str) -> Result<Bytes, MapError> {
    let answer = http::get(url, LIMIT).await;
    Ok(answer.map_err(|source| MapError::Ask { url: url.to_owned(), source })?.body)
}

/// The outermost layer of a capabilities document and its box in degrees: west, south, east, north.
fn covered(capabilities: &str) -> Option<(String, [f64; 4])> {
    let layer = &capabilities[capabilities.find("<Layer")?..];
    let name = layer.split_once("<Name>")?.1.split_once("</Name>")?.0.trim();
    let box_tag = layer.split_once("<LatLonBoundingBox")?.1.split_once('>')?.0;
    let side = |name: &str| -> Option<f64> {
        let value = box_tag.split_once(&format!("{name}=\""))?.1.split_once('"')?.0;
        value.trim().parse().ok().filter(|side: &f64| side.is_finite())
    };
    let extent = [side("minx")?, side("miny")?, side("maxx")?, side("maxy")?];
    (extent[0] < extent[2] && extent[1] < extent[3]).then(|| (name.to_owned(), extent))
}

/// Width and height of a PNG; `None` for anything else.
fn dimensions(bytes: &[u8]) -> Option<(u32, u32)> {
    let header = bytes.strip_prefix(PNG)?.get(8..16)?;
    let (width, height) = header.split_at(4);
    Some((u32::from_be_bytes(width.try_into().ok()?), u32::from_be_bytes(height.try_into().ok()?)))
}

/// The beginning of an answer, on one line.
fn excerpt(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CAPABILITIES: &str = r#"<Capability><Layer queryable="1"><Name>island</Name>
        <LatLonBoundingBox minx="1" miny="-2.5" maxx="3" maxy="4" /><Layer><Name>land</Name></Layer></Layer>"#;

    #[test]
    fn the_outermost_layer_and_its_box_are_found() {
        assert_eq!(covered(CAPABILITIES), Some(("island".into(), [1.0, -2.5, 3.0, 4.0])));
        assert_eq!(covered(&CAPABILITIES.replace("maxx=\"3\"", "maxx=\"1\"")), None);
        assert_eq!(covered(&CAPABILITIES.replace("maxx=\"3\"", "maxx=\"inf\"")), None);
        assert_eq!(covered("<ServiceExceptionReport/>"), None);
    }

    #[test]
    fn a_png_says_how_large_it_is() {
        let mut picture = PNG.to_vec();
        picture.extend(b"\0\0\0\x0dIHDR\0\0\x03\x20\0\0\x01\x2c");
        assert_eq!(dimensions(&picture), Some((800, 300)));
        assert_eq!(dimensions(b"<html>"), None);
        assert_eq!(dimensions(PNG), None);
    }

    #[test]
    fn names_are_escaped_in_urls() {
        let url = capabilities_url(81, "a b&c.map");
        assert!(url.starts_with("http://127.0.0.1:81/?map=/mapfiles/a%20b%26c.map&SERVICE=WMS"), "{url}");
    }

    #[test]
    fn the_island_is_shown_rather_than_another_map() {
        let scratch = tempfile::tempdir().expect("a directory");
        assert_eq!(first(scratch.path()), None);
        for name in ["b.map", "a.map", ".c.map", "d.txt"] {
            std::fs::write(scratch.path().join(name), "").expect("written");
        }
        assert_eq!(first(scratch.path()).as_deref(), Some("a.map"));
        std::fs::write(scratch.path().join("island.map"), "").expect("written");
        assert_eq!(first(scratch.path()).as_deref(), Some("island.map"));
    }

    #[test]
    fn what_mapserver_said_is_in_the_error() {
        let error = MapError::NoPicture { url: "u".into(), excerpt: excerpt(b"msLoadMap():\n  no") };
        assert_eq!(error.to_string(), "MapServer answered \"u\" with no picture: msLoadMap(): no");
        let error = MapError::Capabilities { map: "m".into(), excerpt: "x".into() };
        assert_eq!(error.to_string(), "the capabilities of \"m\" name no layer and no extent: x");
        assert_eq!(error.hint().as_deref(), Some("enable WMS in the mapfile \"m\""));
    }

    proptest! {
        #[test]
        fn no_answer_panics(body in prop::collection::vec(any::<u8>(), 0..100), text in any::<String>()) {
            dimensions(&body);
            excerpt(&body);
            covered(&text);
            covered(&format!("<Layer<Name>{text}</Name><LatLonBoundingBox minx=\"{text}\""));
        }
    }
}
