//! What MapServer says about one map: its capabilities, then a small picture of each layer.

use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};

use crate::config::{Container, Expect};
use crate::diagnose::result::CheckResult;
use crate::error::Chain;
use crate::host::http;
use crate::host::probe::{ServiceVerdict, classify};

/// Longest wait for one answer.
const LIMIT: Duration = Duration::from_secs(15);
/// What may not stand in a query as it is.
const QUERY: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'-').remove(b'_').remove(b':').remove(b'~');
/// Most layers of which a picture is asked for.
const LAYERS_MAX: usize = 12;

/// Asks the service of `container` for the map that it sees at `inside`; `restored` is the command that brings the
/// version before back.
pub async fn asked(container: &Container, inside: &str, restored: Option<&str>) -> CheckResult {
    let Some(address) = address(container) else {
        return CheckResult::warn(
            "wms",
            "not asked: the container has neither a probe nor a port",
            "configure [container.probe]",
        );
    };
    let question = format!("{address}?map={}&SERVICE=WMS&VERSION=1.1.1", encoded(inside));
    let body = match body(&format!("{question}&REQUEST=GetCapabilities")).await {
        Ok((ServiceVerdict::Healthy | ServiceVerdict::LayerUnknown, body)) => body,
        Ok((verdict, _)) => return wrong(&verdict, "GetCapabilities", inside, restored),
        Err(result) => return result,
    };
    let capabilities = Capabilities::read(&body);
    let mut drawn = 0;
    for layer in capabilities.layers.iter().take(LAYERS_MAX) {
        let (bounds, name) = (&capabilities.bounds, encoded(layer));
        let picture = format!(
            "{question}&REQUEST=GetMap&LAYERS={name}&STYLES=&SRS=EPSG:4326&BBOX={bounds}&WIDTH=64&HEIGHT=64&FORMAT=image/png"
        );
        match self::body(&picture).await {
            Ok((ServiceVerdict::Healthy, _)) => drawn += 1,
            Ok((ServiceVerdict::ServiceException { message }, _)) if message.contains("SRS") => {
                let said = format!("layer {layer} is not offered in EPSG:4326, so no picture was asked for");
                return CheckResult::warn("wms", said, "add EPSG:4326 to wms_srs");
            }
            Ok((verdict, _)) => {
                return wrong(&verdict, &format!("a picture of layer {layer}"), inside, restored);
            }
            Err(result) => return result,
        }
    }
    let of = capabilities.layers.len();
    CheckResult::ok("wms", format!("MapServer answers, and draws {drawn} of {of} layers"))
}

async fn body(url: &str) -> Result<(ServiceVerdict, String), CheckResult> {
    match http::get(url, LIMIT).await {
        Ok(answer) => {
            let verdict = classify(answer.status, answer.content_type.as_deref(), &answer.body, Expect::Wms);
            Ok((verdict, String::from_utf8_lossy(&answer.body).into_owned()))
        }
        Err(error) => {
            let hint = "docker logs of the container says why; mapkeeper status whether it is being repaired";
            Err(CheckResult::fail("wms", Chain(&error).to_string(), hint))
        }
    }
}

/// The part of a URL before the query: that of the probe, else the first port of the container.
fn address(container: &Container) -> Option<String> {
    if let Some(probe) = &container.probe {
        return Some(probe.url.split('?').next().unwrap_or_default().to_owned());
    }
    container.ports.first().map(|port| match port.host_ip {
        Some(address) if !address.is_unspecified() => {
            format!("http://{}/", std::net::SocketAddr::new(address, port.host))
        }
        _ => format!("http://127.0.0.1:{}/", port.host),
    })
}

/// A verdict with its cure.
fn wrong(verdict: &ServiceVerdict, question: &str, inside: &str, restored: Option<&str>) -> CheckResult {
    let hint = match verdict {
        ServiceVerdict::MapBroken { line, .. } => match restored {
            Some(command) => format!("correct line {line}, or bring the version before back: {command}"),
            None => format!("correct line {line}; the next request reads it"),
        },
        ServiceVerdict::MapMissing { .. } => {
            "the first wrong link above says why; if all are ok, an INCLUDE or another file of the map is meant".to_owned()
        }
        ServiceVerdict::ErrorFile { .. } => {
            "CONFIG \"MS_ERRORFILE\" \"stderr\" in the mapfile; or make the file: docker exec -u 0 CONTAINER install -m 640 -o USER /dev/null FILE".to_owned()
        }
        ServiceVerdict::PatternRefused => {
            format!("environment = {{ MS_MAP_PATTERN = '...' }} of the container must match {inside}")
        }
        ServiceVerdict::ConfigMissing => "MAPSERVER_CONFIG_FILE of the container must name a file of the image".to_owned(),
        ServiceVerdict::RasterCredentials { .. } => {
            "GDAL reads it from S3 by itself: give the task a role, or name the file on the mount instead of /vsis3/".to_owned()
        }
        ServiceVerdict::ServiceException { message } if message.contains("msDraw") || message.contains("Unable to access") => {
            "a file of the layer is missing, unreadable or broken: see `data` above, and docker logs".to_owned()
        }
        _ => "docker logs of the container says more".to_owned(),
    };
    CheckResult::fail("wms", format!("{question}: {verdict}"), hint)
}

/// What of the capabilities is needed to ask for pictures.
#[derive(Debug, Default, PartialEq, Eq)]
struct Capabilities {
    layers: Vec<String>,
    /// `minx,miny,maxx,maxy` in degrees.
    bounds: String,
}

impl Capabilities {
    /// Reads what MapServer writes; of anything else, what can be understood.
    fn read(text: &str) -> Capabilities {
        let mut parts = text.split("<Layer").skip(1);
        // The first is the map itself.
        let root = parts.next().unwrap_or_default();
        let bounds =
            root.split_once("<LatLonBoundingBox").map(|(_, rest)| rest.split('>').next().unwrap_or_default());
        let side = |name: &str| {
            let value = bounds?.split_once(&format!("{name}=\""))?.1.split('"').next()?;
            value.parse::<f64>().ok().filter(|value| value.is_finite()).map(|value| value.to_string())
        };
        let sides = ["minx", "miny", "maxx", "maxy"].map(side);
        let bounds = match sides {
            [Some(west), Some(south), Some(east), Some(north)] => format!("{west},{south},{east},{north}"),
            _ => "-180,-90,180,90".to_owned(),
        };
        let layers = parts.filter_map(|part| {
            let name = part.split_once("<Name>")?.1.split_once("</Name>")?.0;
            Some(name.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&"))
        });
        Capabilities { layers: layers.collect(), bounds }
    }
}

/// A value of a query, percent-encoded where it must be.
fn encoded(text: &str) -> PercentEncode<'_> {
    utf8_percent_encode(text, QUERY)
}

/// The container's MS_MAP_PATTERN, and whether it admits the map; `None`: it says nothing, or in a way not understood.
pub fn admits(pattern: &str, inside: &str) -> Option<bool> {
    regex_lite::Regex::new(pattern).ok().map(|pattern| pattern.is_match(inside))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_and_bounds_are_found_in_capabilities() {
        let text = "<WMT_MS_Capabilities><Service><Name>OGC:WMS</Name></Service><Capability><Layer>\n<Name>atlas</Name>\
            <LatLonBoundingBox minx=\"-40.6\" miny=\"39.65\" maxx=\"-39.4\" maxy=\"40.35\" />\
            <Layer queryable=\"0\"><Name>land</Name></Layer><Layer><Name>a&amp;b</Name></Layer></Layer>";
        let read = Capabilities::read(text);
        assert_eq!(read.layers, ["land", "a&b"]);
        assert_eq!(read.bounds, "-40.6,39.65,-39.4,40.35");
        assert_eq!(Capabilities::read("nonsense").bounds, "-180,-90,180,90");
    }

    #[test]
    fn a_path_is_written_as_a_query_takes_it() {
        assert_eq!(encoded("/mapfiles/a b&c.map").to_string(), "/mapfiles/a%20b%26c.map");
    }

    #[test]
    fn a_pattern_is_judged_as_mapserver_would() {
        let pattern = "^/mapfiles/([^./][^/]*/)*[^./][^/]*[.]map$";
        assert_eq!(admits(pattern, "/mapfiles/a/b.map"), Some(true));
        assert_eq!(admits(pattern, "/mapfiles/.a.map"), Some(false));
        assert_eq!(admits("(", "/mapfiles/a.map"), None);
    }
}
