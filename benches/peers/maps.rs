//! Maps: a Cloud Optimized GeoTIFF of some 300 MB, a mapfile, and MapServer that draws from it.
//!
//! MapServer runs as a CGI program, one process for each request. The picture is drawn
//! once and kept in the cache directory. What must hold: whatever file system MapServer reads from, it draws the
//! same bytes as from the local disk.

use std::collections::hash_map::DefaultHasher;
use std::fs::File;
use std::hash::{Hash, Hasher};
use std::io::{BufWriter, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use fastrand::Rng;
use tokio::process::Command;
use tokio::time::Instant;

use super::reader::output;
use super::timing::Timing;

/// Pixels of a side of the picture.
const SIDE: u64 = 9_216;
/// Degrees of one pixel.
const PIXEL: f64 = 0.000_1;
const WEST: f64 = 5.0;
const NORTH: f64 = 48.0;
/// Pixels of a side of a map.
const MAP_SIDE: u64 = 512;
pub const MAPS: usize = 100;
const DRAW_LIMIT: Duration = Duration::from_secs(60);
const MAKE_LIMIT: Duration = Duration::from_secs(900);
const MAPFILE: &str = "bench.map";
const RASTER: &str = "picture.tif";

/// Makes the directory of mapfile and raster in `cache`, unless it is there already.
pub async fn make(cache: &Path) -> anyhow::Result<PathBuf> {
    let ready = cache.join("bench-maps-1");
    if ready.is_dir() {
        return Ok(ready);
    }
    std::fs::create_dir_all(cache)?;
    let scratch = tempfile::Builder::new().prefix("bench-maps-").tempdir_in(cache)?;
    let (raw, maps) = (scratch.path().join("raw.ppm"), scratch.path().join("maps"));
    std::fs::create_dir(&maps)?;
    eprintln!("drawing the raster of the WMS phases, once: a few minutes");
    draw(&raw).context("cannot draw the raster")?;
    let corner = |pixels: u64| pixels as f64 * PIXEL;
    let (east, south) = (WEST + corner(SIDE), NORTH - corner(SIDE));
    let mut translate = Command::new("gdal_translate");
    translate.args(["-q", "-of", "COG", "-a_srs", "EPSG:4326", "-a_ullr"]);
    translate.args([WEST, NORTH, east, south].map(|degrees| degrees.to_string()));
    translate.args(["-co", "COMPRESS=DEFLATE", "-co", "LEVEL=1", "-co", "NUM_THREADS=ALL_CPUS"]);
    translate.args(["-co", "OVERVIEW_RESAMPLING=NEAREST"]).arg(&raw).arg(maps.join(RASTER));
    output(translate, MAKE_LIMIT).await?;
    std::fs::write(maps.join(MAPFILE), mapfile())?;
    std::fs::rename(&maps, &ready)?;
    Ok(ready)
}

/// A picture that compresses to about half, as photographs of the ground do.
fn draw(path: &Path) -> anyhow::Result<()> {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    write!(file, "P6\n{SIDE} {SIDE}\n255\n")?;
    let mut numbers = Rng::with_seed(7);
    let mut row = Vec::with_capacity(3 * SIDE as usize);
    for y in 0..SIDE {
        row.clear();
        for x in 0..SIDE {
            let noise = numbers.u64(..);
            let band =
                |slope: u64, shift: u32| ((x * slope + y * 3) >> 5) as u8 ^ (noise >> shift) as u8 & 0x0f;
            row.extend([band(2, 0), band(5, 8), band(7, 16)]);
        }
        file.write_all(&row)?;
    }
    Ok(file.flush()?)
}

fn mapfile() -> String {
    let (east, south) = (WEST + SIDE as f64 * PIXEL, NORTH - SIDE as f64 * PIXEL);
    format!(
        r#"MAP
  NAME "bench"
  SIZE {MAP_SIDE} {MAP_SIDE}
  EXTENT {WEST} {south} {east} {NORTH}
  UNITS DD
  IMAGETYPE JPEG
  PROJECTION "init=epsg:4326" END
  WEB METADATA "wms_title" "bench" "wms_enable_request" "*" "wms_srs" "EPSG:4326" END END
  LAYER
    NAME "picture"
    TYPE RASTER
    STATUS ON
    DATA "{RASTER}"
    PROJECTION "init=epsg:4326" END
    METADATA "wms_title" "picture" END
  END
END
"#
    )
}

/// Where a map lies, west, south, east, north: anywhere, at full, half or quarter resolution.
fn extents(seed: u64) -> Vec<[f64; 4]> {
    let mut numbers = Rng::with_seed(seed);
    let extent = |_| {
        let side = MAP_SIDE << numbers.u64(..3);
        let (x, y) = (numbers.u64(..SIDE - side), numbers.u64(..SIDE - side));
        let (west, north) = (WEST + x as f64 * PIXEL, NORTH - y as f64 * PIXEL);
        [west, north - side as f64 * PIXEL, west + side as f64 * PIXEL, north]
    };
    (0..MAPS).map(extent).collect()
}

/// MapServer's own configuration, without which version 8 does not start.
pub fn configuration(directory: &Path) -> anyhow::Result<PathBuf> {
    let path = directory.join("mapserver.conf");
    std::fs::write(&path, "CONFIG\n  ENV\n    MS_MAP_PATTERN \".\"\n  END\nEND\n")?;
    Ok(path)
}

/// Draws [`MAPS`] different maps from the mapfile in `directory`, and hashes the answers.
pub async fn requests(
    directory: &Path,
    configuration: &Path,
    seed: u64,
) -> anyhow::Result<(Timing, Vec<u64>)> {
    let map = directory.join(MAPFILE);
    let mut parts = Vec::with_capacity(MAPS);
    let mut hashes = Vec::with_capacity(MAPS);
    let mut total = Duration::ZERO;
    for [west, south, east, north] in extents(seed) {
        let mut command = Command::new("mapserv");
        command.env_clear().env("REQUEST_METHOD", "GET").env("MAPSERVER_CONFIG_FILE", configuration).env(
            "QUERY_STRING",
            format!(
                "map={}&SERVICE=WMS&VERSION=1.1.1&REQUEST=GetMap&LAYERS=picture&STYLES=&SRS=EPSG:4326\
                 &BBOX={west:.6},{south:.6},{east:.6},{north:.6}&WIDTH={MAP_SIDE}&HEIGHT={MAP_SIDE}&FORMAT=image/jpeg",
                map.display()
            ),
        );
        let begun = Instant::now();
        let answer = output(command, DRAW_LIMIT).await?;
        parts.push(begun.elapsed());
        total += begun.elapsed();
        let said = String::from_utf8_lossy(&answer[..answer.len().min(400)]).into_owned();
        ensure!(said.contains("image/jpeg"), "MapServer has no map of {map:?}: {said}");
        let mut hasher = DefaultHasher::new();
        answer.hash(&mut hasher);
        hashes.push(hasher.finish());
    }
    Ok((Timing::of(total, parts), hashes))
}

/// Has the kernel forget what it holds of the files in `directory`, on a local disk.
pub fn drop_pages(directory: &Path) -> anyhow::Result<()> {
    for file in std::fs::read_dir(directory)? {
        let file = File::open(file?.path())?;
        file.sync_all()?;
        // SAFETY: the descriptor is open, and no memory is involved.
        let refused = unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
        ensure!(refused == 0, "the kernel keeps its pages: {}", std::io::Error::from_raw_os_error(refused));
    }
    Ok(())
}
