//! What the body of a WMS answer means.
//!
//! MapServer says HTTP 200 to a broken map, an absent one and a refused one alike, so only the body
//! tells. Nothing here does any input or output, and no bytes from outside can make it panic.

use crate::config::Expect;

/// Most characters of an answer that a verdict repeats.
const EXCERPT: usize = 160;

/// What an answer says about the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceVerdict {
    /// A capabilities document, an image, or, where any HTTP is expected, a status of 2xx or 3xx.
    Healthy,
    /// The mapfile has a mistake.
    MapBroken {
        /// The word at which reading stopped.
        near: String,
        line: u32,
        message: String,
    },
    /// MapServer cannot open the mapfile.
    MapMissing {
        path: String,
    },
    /// The log file that the mapfile names cannot be opened in the container.
    ErrorFile {
        message: String,
    },
    /// The image's MS_MAP_PATTERN refuses the path.
    PatternRefused,
    /// MAPSERVER_CONFIG_FILE names a file that is not there.
    ConfigMissing,
    /// The map loads, the request names a layer that it does not have.
    LayerUnknown,
    /// GDAL cannot read a raster that it fetches from S3 itself.
    RasterCredentials {
        message: String,
    },
    /// The service speaks WMS and refuses this request.
    ServiceException {
        message: String,
    },
    HttpStatus(u16),
    /// Anything else.
    NotWms {
        excerpt: String,
    },
}

impl std::fmt::Display for ServiceVerdict {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ServiceVerdict::Healthy => write!(out, "answers"),
            ServiceVerdict::MapBroken { near, line, .. } => {
                write!(out, "the mapfile is broken at line {line}, near {near:?}")
            }
            ServiceVerdict::MapMissing { path } => {
                write!(out, "MapServer cannot open {path}: no such object, or not readable by it")
            }
            ServiceVerdict::ErrorFile { message } => {
                write!(out, "MapServer cannot open its error log: {message}")
            }
            ServiceVerdict::PatternRefused => write!(out, "MS_MAP_PATTERN refuses the path of the map"),
            ServiceVerdict::ConfigMissing => write!(out, "MapServer's configuration file is missing"),
            ServiceVerdict::LayerUnknown => write!(out, "answers, but the probe asks for an unknown layer"),
            ServiceVerdict::RasterCredentials { message } => {
                write!(out, "MapServer cannot read a raster from S3: {message}")
            }
            ServiceVerdict::ServiceException { message } => {
                write!(out, "the service refuses the request: {message}")
            }
            ServiceVerdict::HttpStatus(status) => write!(out, "HTTP status {status}"),
            ServiceVerdict::NotWms { excerpt } => write!(out, "the answer is no WMS: {excerpt:?}"),
        }
    }
}

/// Tells what an answer means. `body` may be cut off after its first part.
pub fn classify(status: u16, content_type: Option<&str>, body: &[u8], expect: Expect) -> ServiceVerdict {
    match expect {
        Expect::Http if (200..400).contains(&status) => ServiceVerdict::Healthy,
        Expect::Http => ServiceVerdict::HttpStatus(status),
        Expect::Wms => classify_wms(status, content_type.unwrap_or(""), body),
    }
}

fn classify_wms(status: u16, content_type: &str, body: &[u8]) -> ServiceVerdict {
    let good_status = (200..300).contains(&status);
    if good_status && content_type.trim_start().starts_with("image/") && is_image(body) {
        return ServiceVerdict::Healthy;
    }
    let text = String::from_utf8_lossy(body);
    let root = root_element(&text).map(|name| name.rsplit(':').next().unwrap_or(name));
    if good_status && matches!(root, Some("WMS_Capabilities" | "WMT_MS_Capabilities")) {
        return ServiceVerdict::Healthy;
    }
    let message = message(&text);
    if let Some(verdict) = known_message(&text, &message) {
        return verdict;
    }
    if !good_status {
        return ServiceVerdict::HttpStatus(status);
    }
    match root {
        Some("ServiceExceptionReport") => ServiceVerdict::ServiceException { message: excerpt(&message) },
        _ => ServiceVerdict::NotWms { excerpt: excerpt(&message) },
    }
}

/// The catalogue of MapServer's messages. The order matters: a message may quote another file's name.
fn known_message(text: &str, message: &str) -> Option<ServiceVerdict> {
    if text.contains(r#"code="LayerNotDefined""#) {
        return Some(ServiceVerdict::LayerUnknown);
    }
    if message.contains("msLoadConfig(): Unable to access file") {
        return Some(ServiceVerdict::ConfigMissing);
    }
    if message.contains("msSetErrorFile()") {
        return Some(ServiceVerdict::ErrorFile { message: excerpt(message) });
    }
    if message.contains(r#""map" fails to validate"#) || message.contains("MS_MAP_PATTERN not set") {
        return Some(ServiceVerdict::PatternRefused);
    }
    if let Some((near, line)) = parsing_error(message) {
        return Some(ServiceVerdict::MapBroken { near, line, message: excerpt(message) });
    }
    if let Some((_, rest)) = message.split_once("msLoadMap(): Unable to access file. (") {
        let path = rest.split_once(')').map_or(rest, |(path, _)| path);
        return Some(ServiceVerdict::MapMissing { path: excerpt(path) });
    }
    if message.contains("/vsis3/") || message.contains("AWS_") {
        return Some(ServiceVerdict::RasterCredentials { message: excerpt(message) });
    }
    None
}

/// `Parsing error near (EXTNT):(line 4)`
fn parsing_error(message: &str) -> Option<(String, u32)> {
    let (_, rest) = message.split_once("Parsing error near (")?;
    let (near, rest) = rest.split_once("):(line ")?;
    let (line, _) = rest.split_once(')')?;
    Some((excerpt(near), line.trim().parse().ok()?))
}

fn is_image(body: &[u8]) -> bool {
    let starts: [&[u8]; 6] =
        [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*"];
    starts.iter().any(|start| body.starts_with(start))
        || (body.starts_with(b"RIFF") && body.get(8..12) == Some(b"WEBP"))
        || root_element(&String::from_utf8_lossy(body)) == Some("svg")
}

/// The name of an XML document's first element, as written; `None` if this is no XML.
fn root_element(text: &str) -> Option<&str> {
    let mut rest = text.trim_start_matches('\u{feff}').trim_start();
    loop {
        rest = if let Some(after) = rest.strip_prefix("<?") {
            after.split_once("?>")?.1
        } else if let Some(after) = rest.strip_prefix("<!--") {
            after.split_once("-->")?.1
        } else if let Some(after) = rest.strip_prefix("<!DOCTYPE") {
            after_doctype(after)?
        } else {
            break;
        }
        .trim_start();
    }
    let name = rest.strip_prefix('<')?;
    let end = name.find(|letter: char| letter.is_whitespace() || letter == '>' || letter == '/')?;
    let name = name.get(..end)?;
    (!name.is_empty()).then_some(name)
}

/// What follows a document type declaration, which may hold declarations of its own in brackets.
fn after_doctype(text: &str) -> Option<&str> {
    let end = text.find(['[', '>'])?;
    match text.get(end..=end)? {
        "[" => {
            let (_, after) = text.get(end..)?.split_once(']')?;
            Some(after.split_once('>')?.1)
        }
        _ => text.get(end + 1..),
    }
}

/// The text between the tags, on one line, with the entities that MapServer writes undone.
fn message(text: &str) -> String {
    let mut plain = String::new();
    // The title of MapServer's page says nothing.
    let mut rest = text.find("<BODY").and_then(|body| text.get(body..)).unwrap_or(text);
    while let Some((before, tag)) = rest.split_once('<') {
        plain.push_str(before);
        plain.push(' ');
        let end = if tag.starts_with("!--") { "-->" } else { ">" };
        rest = tag.split_once(end).map_or("", |(_, after)| after);
    }
    plain.push_str(rest);
    let undone =
        plain.replace("&quot;", "\"").replace("&#39;", "'").replace("&lt;", "<").replace("&gt;", ">");
    let undone = undone.replace("&amp;", "&");
    undone.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn excerpt(text: &str) -> String {
    let clean = text.chars().map(|letter| if letter.is_control() { ' ' } else { letter });
    clean.take(EXCERPT).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn page(message: &str) -> String {
        format!(
            "<HTML>\n<HEAD><TITLE>MapServer Message</TITLE></HEAD>\n<!-- MapServer version 8.0.0 \
             OUTPUT=PNG SUPPORTS=WMS_SERVER -->\n<BODY BGCOLOR=\"#FFFFFF\">\n{message}\n</BODY></HTML>"
        )
    }

    fn exception(attributes: &str, message: &str) -> String {
        format!(
            "<?xml version='1.0' encoding=\"UTF-8\" standalone=\"no\" ?>\n<!DOCTYPE \
             ServiceExceptionReport SYSTEM \"http://schemas.opengis.net/wms/1.1.1/exception_1_1_1.dtd\">\n\
             <ServiceExceptionReport version=\"1.1.1\">\n<ServiceException{attributes}>\n{message}\n\
             </ServiceException>\n</ServiceExceptionReport>\n"
        )
    }

    fn wms(body: &str) -> ServiceVerdict {
        classify(200, Some("text/html"), body.as_bytes(), Expect::Wms)
    }

    const CAPABILITIES_1_1_1: &str = "<?xml version='1.0' encoding=\"UTF-8\" standalone=\"no\" ?>\n\
        <!DOCTYPE WMT_MS_Capabilities SYSTEM \"http://schemas.opengis.net/wms/1.1.1/WMS_MS_Capabilities.dtd\"\n \
        [\n <!ELEMENT VendorSpecificCapabilities EMPTY>\n ]>  <!-- end of DOCTYPE declaration -->\n\n\
        <WMT_MS_Capabilities version=\"1.1.1\">";

    #[test]
    fn capabilities_of_both_versions_are_healthy() {
        assert_eq!(wms(CAPABILITIES_1_1_1), ServiceVerdict::Healthy);
        for root in ["WMS_Capabilities version=\"1.3.0\"", "wms:WMS_Capabilities", "WMS_Capabilities"] {
            assert_eq!(wms(&format!("<?xml version='1.0'?>\n<{root}>")), ServiceVerdict::Healthy, "{root}");
        }
        assert_eq!(wms("\u{feff} <WMS_Capabilities/>"), ServiceVerdict::Healthy);
    }

    #[test]
    fn capabilities_that_quote_an_error_are_still_healthy() {
        let body =
            format!("{CAPABILITIES_1_1_1}<Abstract>msLoadMap(): Parsing error near (X):(line 1)</Abstract>");
        assert_eq!(wms(&body), ServiceVerdict::Healthy);
    }

    #[test]
    fn an_image_is_healthy_only_if_it_is_one() {
        let images: [&[u8]; 5] =
            [b"\x89PNG\r\n\x1a\nrest", b"\xff\xd8\xff\xe0", b"GIF89a", b"II*\0", b"RIFF\0\0\0\0WEBPVP8"];
        for image in images {
            assert_eq!(classify(200, Some("image/png"), image, Expect::Wms), ServiceVerdict::Healthy);
        }
        assert_eq!(classify(200, Some("image/svg+xml"), b"<svg >", Expect::Wms), ServiceVerdict::Healthy);
        for (kind, body) in
            [("image/png", &b"not one"[..]), ("text/html", b"\x89PNG\r\n\x1a\n"), ("image/png", b"")]
        {
            let verdict = classify(200, Some(kind), body, Expect::Wms);
            assert!(matches!(verdict, ServiceVerdict::NotWms { .. }), "{verdict:?}");
        }
    }

    #[test]
    fn a_broken_mapfile_is_told_with_its_line_and_word() {
        let message = "msLoadMap(): Unknown identifier. Parsing error near (EXTNT):(line 4)";
        let expected =
            ServiceVerdict::MapBroken { near: "EXTNT".to_owned(), line: 4, message: message.to_owned() };
        assert_eq!(wms(&page(message)), expected);
        assert_eq!(expected.to_string(), "the mapfile is broken at line 4, near \"EXTNT\"");
    }

    #[test]
    fn a_missing_mapfile_is_told_with_its_path() {
        let verdict = wms(&page("msLoadMap(): Unable to access file. (/mapfiles/none.map)"));
        assert_eq!(verdict, ServiceVerdict::MapMissing { path: "/mapfiles/none.map".to_owned() });
        assert_eq!(
            verdict.to_string(),
            "MapServer cannot open /mapfiles/none.map: no such object, or not readable by it"
        );
    }

    #[test]
    fn an_error_log_that_cannot_be_opened_is_told() {
        let message =
            "msSetErrorFile(): General error message. Failed to open MS_ERRORFILE /var/log/ms_error.log";
        let verdict = wms(&page(message));
        assert_eq!(verdict, ServiceVerdict::ErrorFile { message: message.to_owned() });
        assert!(verdict.to_string().starts_with("MapServer cannot open its error log: "));
    }

    #[test]
    fn a_refused_path_is_told() {
        for message in [
            "msCGILoadMap(): Web application error. CGI variable &quot;map&quot; fails to validate.",
            "msCGILoadMap(): Web application error. Required configuration value MS_MAP_PATTERN not set.",
        ] {
            assert_eq!(wms(&page(message)), ServiceVerdict::PatternRefused);
        }
        assert_eq!(ServiceVerdict::PatternRefused.to_string(), "MS_MAP_PATTERN refuses the path of the map");
    }

    #[test]
    fn a_missing_configuration_file_is_told() {
        let verdict = wms(&page("msLoadConfig(): Unable to access file. See mapserver.org/config_file.html"));
        assert_eq!(verdict, ServiceVerdict::ConfigMissing);
        assert_eq!(verdict.to_string(), "MapServer's configuration file is missing");
    }

    #[test]
    fn an_unknown_layer_is_the_fault_of_the_request() {
        let verdict =
            wms(&exception(" code=\"LayerNotDefined\"", "msWMSLoadGetMapParams(): Invalid layer(s)"));
        assert_eq!(verdict, ServiceVerdict::LayerUnknown);
        assert_eq!(verdict.to_string(), "answers, but the probe asks for an unknown layer");
    }

    #[test]
    fn a_raster_that_gdal_cannot_fetch_is_told() {
        let verdict = wms(&exception(
            "",
            "msDrawRasterLayerLow(): Corrupt, empty or missing file &#39;/vsis3/bucket/x.tif&#39;",
        ));
        let message =
            "msDrawRasterLayerLow(): Corrupt, empty or missing file '/vsis3/bucket/x.tif'".to_owned();
        assert_eq!(verdict, ServiceVerdict::RasterCredentials { message });
        assert!(verdict.to_string().starts_with("MapServer cannot read a raster from S3: "));
    }

    #[test]
    fn another_exception_is_told_in_its_own_words() {
        let verdict = wms(&exception("", "msWMSGetMap(): no"));
        assert_eq!(verdict, ServiceVerdict::ServiceException { message: "msWMSGetMap(): no".to_owned() });
        assert_eq!(verdict.to_string(), "the service refuses the request: msWMSGetMap(): no");
    }

    #[test]
    fn what_is_no_wms_is_quoted_without_its_tags() {
        let verdict = wms("<html><body>It <b>works</b>!\x1b[31m</body></html>");
        assert_eq!(verdict, ServiceVerdict::NotWms { excerpt: "It works !  [31m".replace("  ", " ") });
        assert!(verdict.to_string().starts_with("the answer is no WMS: "));
    }

    #[test]
    fn a_bad_status_is_told_unless_the_body_says_more() {
        let verdict = |body: &str| classify(500, None, body.as_bytes(), Expect::Wms);
        assert_eq!(verdict("Internal Server Error"), ServiceVerdict::HttpStatus(500));
        assert_eq!(verdict(CAPABILITIES_1_1_1), ServiceVerdict::HttpStatus(500));
        assert!(matches!(
            verdict(&page("Parsing error near (X):(line 3)")),
            ServiceVerdict::MapBroken { .. }
        ));
        assert_eq!(ServiceVerdict::HttpStatus(500).to_string(), "HTTP status 500");
    }

    #[test]
    fn where_http_is_expected_only_the_status_counts() {
        for (status, healthy) in
            [(199, false), (200, true), (302, true), (399, true), (400, false), (503, false)]
        {
            let verdict = classify(status, None, b"msLoadMap(): Parsing error", Expect::Http);
            assert_eq!(verdict == ServiceVerdict::Healthy, healthy, "{status}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_repeat_more_than_an_excerpt(
            status in any::<u16>(),
            kind in proptest::option::of(".*"),
            bytes in proptest::collection::vec(any::<u8>(), 0..400),
            pieces in proptest::collection::vec(proptest::sample::select(vec![
                "<", ">", "<?", "?>", "<!--", "-->", "<!DOCTYPE", "[", "]", "(", ")", "):(line ", "4",
                "Parsing error near (", "msLoadMap(): Unable to access file. (", "WMS_Capabilities", "é", "\u{feff}",
                "<ServiceExceptionReport", "&quot;", " ", "/vsis3/", "99999999999999999999",
            ]), 0..40),
        ) {
            let woven: String = pieces.concat();
            for body in [bytes.as_slice(), woven.as_bytes()] {
                let verdict = classify(status, kind.as_deref(), body, Expect::Wms);
                prop_assert!(verdict.to_string().chars().count() <= 8 * EXCERPT);
                classify(status, kind.as_deref(), body, Expect::Http);
            }
        }
    }
}
