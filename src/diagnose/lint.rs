//! What is unwise in a mapfile, before MapServer meets it.
//!
//! What must hold: no remark repeats a secret that it found.

use std::path::Path;

use regex_lite::Regex;

use super::mapfile::Mapfile;
use super::result::{CheckResult, Grade};

/// Longest file name that a remark repeats.
const SHOWN: usize = 60;

/// Where a mapfile is seen from.
#[derive(Debug, Clone, Default)]
pub struct Seen<'a> {
    /// Where the container sees the root of the mount, as `/mapfiles`.
    pub root: Option<&'a str>,
    /// Whether the container's environment names an error log.
    pub has_error_log: bool,
}

/// Everything unwise that can be told from the text alone, in the order of the lines.
pub fn remarks(map: &Mapfile, text: &str, seen: &Seen<'_>) -> Vec<CheckResult> {
    let mut found = secrets(text);
    let mut doubt = |line, said: &str, hint: &str| {
        found.push((line, Grade::Warn, said.to_owned(), hint.to_owned()));
    };
    if !map.is_map {
        doubt(1, "there is no MAP in it", "is this the whole file, and a mapfile?");
        return sorted(found);
    }
    if map.setting("MS_ERRORFILE").is_none() && !seen.has_error_log {
        let hint = "add CONFIG \"MS_ERRORFILE\" \"stderr\", or set it in the environment of the container";
        doubt(1, "no error log is named: what goes wrong is told to nobody", hint);
    }
    if !map.has_projection {
        let hint = "add PROJECTION \"init=epsg:NUMBER\" END to the MAP";
        doubt(1, "the map has no PROJECTION: WMS cannot answer in any", hint);
    }
    for layer in map.layers.iter().filter(|layer| !layer.has_projection && !layer.has_features) {
        let said = format!("layer {} has no PROJECTION: it is taken for that of the map", layer.title());
        doubt(layer.line, &said, "say which it is, or PROJECTION AUTO END");
    }
    if !map.metadata.iter().any(|name| name.ends_with("_srs")) {
        let hint = "add \"wms_srs\" \"EPSG:4326 EPSG:3857\" to WEB METADATA";
        doubt(1, "no wms_srs: clients are offered no coordinates", hint);
    }
    if !map.metadata.iter().any(|name| name.ends_with("_enable_request")) {
        let hint = "add \"ows_enable_request\" \"*\" to WEB METADATA";
        doubt(1, "no ows_enable_request: MapServer refuses every request", hint);
    }
    found.extend(outside(map, seen.root));
    sorted(found)
}

type Remark = (u32, Grade, String, String);

fn sorted(mut found: Vec<Remark>) -> Vec<CheckResult> {
    found.sort_by_key(|(line, ..)| *line);
    let result = |(line, grade, detail, hint)| CheckResult {
        name: format!("line {line}"),
        grade,
        detail,
        hint: Some(hint),
    };
    found.into_iter().map(result).collect()
}

/// Absolute paths that the mount does not hold.
fn outside(map: &Mapfile, root: Option<&str>) -> Vec<Remark> {
    let Some(root) = root else { return Vec::new() };
    let layers = map.layers.iter().flat_map(|layer| {
        let file = layer.connection.iter().filter(|_| layer.connection_type.as_deref() == Some("ogr"));
        layer.data.iter().chain(&layer.tile_index).chain(file)
    });
    let files = map.files.iter().map(|(_, named)| named).chain(&map.shape_path).chain(layers);
    files
        .filter(|named| named.value.starts_with('/') && !named.value.starts_with("/vsi"))
        .filter(|named| !Path::new(&named.value).starts_with(root))
        .map(|named| {
            let file: String = named.value.chars().take(SHOWN).collect();
            let hint = format!("put it into the bucket and name it from {root}, unless the image has it");
            (named.line, Grade::Warn, format!("{file} is outside of the mount"), hint)
        })
        .collect()
}

/// Keys and passwords. Everybody who may read the bucket reads them, and MapServer may print them.
fn secrets(text: &str) -> Vec<Remark> {
    let patterns = [
        (r"\b(AKIA|ASIA)[A-Z0-9]{16}\b", "an AWS access key id"),
        (r"(?i)aws_secret_access_key\W+[A-Za-z0-9/+]{20,}", "an AWS secret key"),
        (r"(?i)aws_session_token\W+\S{20,}", "an AWS session token"),
        (r#"(?i)\b(password|passwd|pwd)\s*=\s*[^\s'";]+"#, "a password"),
        (r"(?i)[a-z][a-z0-9+.-]*://[^/\s:@]+:[^/\s@]+@", "a password in a URL"),
        (r"(?i)(x-amz-signature|[?&](api_?key|access_?token|token|sig))=[^&\s]{8,}", "a key in a URL"),
        (r"-----BEGIN [A-Z ]*PRIVATE KEY-----", "a private key"),
    ];
    let mut found = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        for (pattern, what) in patterns {
            let pattern = Regex::new(pattern).expect("a constant pattern");
            if pattern.is_match(line) {
                let hint = "replace it in the file and revoke it: old versions of the object and caches keep it; \
                            databases take a service file or a secret of the container, S3 the role of the task";
                found.push((number, Grade::Fail, format!("{what} stands in it"), hint.to_owned()));
                break;
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::mapfile::read;
    use super::*;

    fn said(text: &str) -> Vec<String> {
        let seen = Seen { root: Some("/mapfiles"), has_error_log: false };
        let found = remarks(&read(text), text, &seen);
        found
            .iter()
            .map(|remark| format!("{} {}: {}", remark.grade.word(), remark.name, remark.detail))
            .collect()
    }

    const GOOD: &str = "MAP\nCONFIG MS_ERRORFILE stderr\nPROJECTION 'init=epsg:4326' END\nWEB METADATA \
        'wms_srs' 'EPSG:4326' 'wms_enable_request' '*' END END\nLAYER NAME a TYPE RASTER DATA 'a.tif' PROJECTION AUTO END END\nEND";

    #[test]
    fn a_good_map_has_no_remark() {
        assert!(said(GOOD).is_empty(), "{:?}", said(GOOD));
    }

    #[test]
    fn what_is_missing_is_told() {
        let found = said("MAP\nLAYER NAME a DATA '/data/a' END\nEND");
        for text in [
            "no error log",
            "the map has no PROJECTION",
            "layer a has no PROJECTION",
            "no wms_srs",
            "no ows_enable_request",
            "/data/a is outside of the mount",
        ] {
            assert!(found.iter().any(|remark| remark.contains(text)), "{text}: {found:?}");
        }
        assert_eq!(said("hello"), ["warn line 1: there is no MAP in it"]);
    }

    #[test]
    fn a_secret_is_told_by_its_line_and_never_repeated() {
        for (line, what) in [
            ("CONFIG 'AWS_ACCESS_KEY_ID' 'AKIAABCDEFGHIJKLMNOP'", "an AWS access key id"),
            ("CONFIG \"AWS_SECRET_ACCESS_KEY\" \"hunter2hunter2hunter2hunter2\"", "an AWS secret key"),
            ("CONNECTION 'host=db user=gis password=hunter2hunter2'", "a password"),
            ("CONNECTION 'postgresql://gis:hunter2hunter2@db/maps'", "a password in a URL"),
            ("DATA '/vsicurl/https://x/y?token=hunter2hunter2'", "a key in a URL"),
            ("-----BEGIN RSA PRIVATE KEY-----", "a private key"),
        ] {
            let text = format!("{GOOD}\n{line}\n");
            let found = said(&text);
            assert_eq!(found, [format!("fail line 7: {what} stands in it")], "{line}");
            assert!(!found[0].contains("hunter2"));
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in any::<String>()) {
            let _ = remarks(&read(&text), &text, &Seen::default());
        }
    }
}
