//! What a file cannot say of itself, kept in an extended attribute of it.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use rustix::fs::{self, XattrFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::beneath::file_error;
use crate::error::StoreError;
use crate::file::tag;
use crate::object::Attributes;

const ATTRIBUTES: &str = "user.mapkeeper.s3";
const ATTRIBUTES_LIMIT_BYTES: usize = 64 * 1024;

/// The extended attribute of a file.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Stored {
    #[serde(flatten)]
    pub attributes: Attributes,
    /// The version that the checksums were made of: another program may have changed the file since.
    #[serde(default)]
    pub tag: String,
}

/// Writes the attributes of a file down.
pub(super) fn store(key: &str, file: &File, attributes: &Attributes) -> Result<(), StoreError> {
    let failed = file_error("keep the attributes of", key);
    if *attributes == Attributes::default() {
        return match fs::fremovexattr(file, ATTRIBUTES) {
            Ok(()) | Err(Errno::NODATA | Errno::NOTSUP) => Ok(()),
            Err(errno) => Err(failed(errno.into())),
        };
    }
    let found = file.metadata().map_err(&failed)?;
    let stored = Stored { attributes: attributes.clone(), tag: tag(&found).to_string() };
    let text = serde_json::to_vec(&stored).map_err(|error| failed(error.into()))?;
    fs::fsetxattr(file, ATTRIBUTES, &text, XattrFlags::empty()).map_err(|errno| failed(errno.into()))
}

/// What was written down of a file.
pub(super) fn stored(file: impl AsFd) -> io::Result<Stored> {
    let mut text = vec![0; ATTRIBUTES_LIMIT_BYTES];
    match fs::fgetxattr(file, ATTRIBUTES, &mut text) {
        Ok(length) => {
            text.truncate(length);
            serde_json::from_slice(&text).map_err(io::Error::from)
        }
        Err(Errno::NODATA | Errno::NOTSUP) => {
            Ok(Stored { attributes: Attributes::default(), tag: String::new() })
        }
        Err(errno) => Err(errno.into()),
    }
}

/// The content type of a file that nobody gave one.
pub(super) fn content_type(key: &str) -> &'static str {
    if key.ends_with('/') {
        return "application/x-directory";
    }
    let extension = key.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
    match extension.as_deref() {
        Some("map" | "txt" | "sym" | "prj") => "text/plain",
        Some("csv") => "text/csv",
        Some("html") => "text/html",
        Some("xml" | "sld" | "gml" | "vrt") => "application/xml",
        Some("json") => "application/json",
        Some("geojson") => "application/geo+json",
        Some("kml") => "application/vnd.google-earth.kml+xml",
        Some("gpkg") => "application/geopackage+sqlite3",
        Some("tif" | "tiff") => "image/tiff",
        Some("png") => "image/png",
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("svg") => "image/svg+xml",
        _ => "binary/octet-stream",
    }
}
