//! A mapfile as far as it names things outside of itself: files, connections, projections, settings.
//!
//! MapServer's own parser decides what is valid; this one reads what it can of anything and never fails. What it knows:
//! words and quoted strings, comments, blocks that end with `END`, and which of them hold pairs or lists.

/// A word of a mapfile and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Word {
    text: String,
    line: u32,
    quoted: bool,
}

/// A file or setting that something names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    pub value: String,
    pub line: u32,
}

/// One layer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layer {
    pub name: Option<String>,
    pub line: u32,
    /// `raster`, `polygon`, ...: lower case.
    pub kind: Option<String>,
    /// `ogr`, `postgis`, ...: lower case. `None`: a file.
    pub connection_type: Option<String>,
    pub connection: Option<Named>,
    pub data: Option<Named>,
    pub tile_index: Option<Named>,
    pub has_projection: bool,
    pub has_features: bool,
}

impl Layer {
    /// How it is called in messages.
    pub fn title(&self) -> String {
        self.name.clone().unwrap_or_else(|| format!("of line {}", self.line))
    }
}

/// What a mapfile names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mapfile {
    /// Whether there is a `MAP` at all.
    pub is_map: bool,
    pub layers: Vec<Layer>,
    /// `CONFIG` settings, names in upper case.
    pub settings: Vec<(String, Named)>,
    pub shape_path: Option<Named>,
    /// `SYMBOLSET`, `FONTSET`, `INCLUDE`, `TEMPLATE` files and the like, with the word that names them.
    pub files: Vec<(String, Named)>,
    pub has_projection: bool,
    /// Names of the map's own metadata, lower case.
    pub metadata: Vec<String>,
}

impl Mapfile {
    /// The value of a `CONFIG` setting.
    pub fn setting(&self, name: &str) -> Option<&Named> {
        self.settings.iter().find(|(known, _)| known == name).map(|(_, named)| named)
    }

    /// Adds what a file that it includes names.
    pub fn include(&mut self, other: Mapfile) {
        self.layers.extend(other.layers);
        self.settings.extend(other.settings);
        self.files.extend(other.files);
        self.metadata.extend(other.metadata);
        self.has_projection |= other.has_projection;
        self.shape_path = self.shape_path.take().or(other.shape_path);
    }
}

/// Blocks that end with `END`.
const BLOCKS: &str = "MAP LAYER CLASS STYLE LABEL WEB FEATURE CLUSTER COMPOSITE GRID JOIN LEADER LEGEND OUTPUTFORMAT QUERYMAP \
    REFERENCE SCALEBAR SCALETOKEN SYMBOL SYMBOLSET IDENTIFY";
/// Further ones, which hold nothing but strings and numbers.
const PLAIN: &str = "PROJECTION METADATA POINTS PATTERN VALUES VALIDATION CONNECTIONOPTIONS";

fn is_among(words: &str, word: &str) -> bool {
    words.split(' ').any(|known| known == word)
}

/// Reads what a mapfile names.
pub fn read(text: &str) -> Mapfile {
    let mut map = Mapfile::default();
    let words = words(text);
    let mut open: Vec<String> = Vec::new();
    let mut at = 0;
    while let Some(word) = words.get(at) {
        at += 1;
        let upper = word.text.to_ascii_uppercase();
        let inside = open.last().map(String::as_str).unwrap_or_default();
        if !word.quoted && upper == "END" {
            open.pop();
            continue;
        }
        if word.quoted {
            continue;
        }
        let next = words.get(at);
        if opens(&upper, inside, next) {
            begin(&mut map, &open, &upper, word.line);
            if is_among(PLAIN, &upper) {
                let rest = words.get(at..).unwrap_or_default();
                let is_end = |word: &Word| !word.quoted && word.text.eq_ignore_ascii_case("END");
                let length = rest.iter().position(is_end).unwrap_or(rest.len());
                let strings = rest.get(..length).unwrap_or_default();
                if upper == "METADATA" && open.iter().all(|name| name == "MAP" || name == "WEB") {
                    map.metadata.extend(strings.chunks(2).map(|pair| pair[0].text.to_ascii_lowercase()));
                }
                at += length + 1;
            } else {
                open.push(upper);
            }
            continue;
        }
        if let Some(next) = next
            && takes(&mut map, &open, &upper, next, words.get(at + 1))
        {
            at += if upper == "CONFIG" { 2 } else { 1 };
        }
    }
    map
}

/// Whether a word begins a block where it stands: `STYLE 3` and `SYMBOL "circle"` do not.
fn opens(upper: &str, inside: &str, next: Option<&Word>) -> bool {
    match upper {
        "SYMBOL" => matches!(inside, "MAP" | "SYMBOLSET" | ""),
        "SYMBOLSET" => inside.is_empty(),
        "GRID" => inside == "LAYER",
        "STYLE" | "LABEL" | "CLASS" => {
            !next.is_some_and(|next| next.quoted || next.text.parse::<f64>().is_ok())
        }
        _ => is_among(BLOCKS, upper) || is_among(PLAIN, upper),
    }
}

fn begin(map: &mut Mapfile, open: &[String], block: &str, line: u32) {
    let in_layer = open.iter().any(|name| name == "LAYER");
    match block {
        "MAP" => map.is_map = true,
        "LAYER" => map.layers.push(Layer { line, ..Layer::default() }),
        "PROJECTION" if in_layer => {
            if let Some(layer) = map.layers.last_mut() {
                layer.has_projection = true;
            }
        }
        "PROJECTION" => map.has_projection = true,
        "FEATURE" | "GRID" => {
            if let Some(layer) = map.layers.last_mut() {
                layer.has_features = true;
            }
        }
        _ => {}
    }
}

/// Notes what a word names; whether it takes the next one.
fn takes(map: &mut Mapfile, open: &[String], upper: &str, next: &Word, after: Option<&Word>) -> bool {
    let inside = open.last().map(String::as_str).unwrap_or_default();
    let named = Named { value: next.text.clone(), line: next.line };
    if inside == "LAYER"
        && let Some(layer) = map.layers.last_mut()
    {
        match upper {
            "NAME" => layer.name = Some(named.value),
            "TYPE" => layer.kind = Some(named.value.to_ascii_lowercase()),
            "CONNECTIONTYPE" => layer.connection_type = Some(named.value.to_ascii_lowercase()),
            "CONNECTION" => layer.connection = Some(named),
            "DATA" => layer.data = Some(named),
            "TILEINDEX" => layer.tile_index = Some(named),
            _ => return next.quoted,
        }
        return true;
    }
    match (upper, after) {
        ("CONFIG", Some(value)) => {
            let value = Named { value: value.text.clone(), line: value.line };
            map.settings.push((next.text.to_ascii_uppercase(), value));
        }
        ("SHAPEPATH", _) => map.shape_path = Some(named),
        ("SYMBOLSET" | "FONTSET" | "INCLUDE" | "IMAGE", _) => map.files.push((upper.to_owned(), named)),
        _ => return next.quoted,
    }
    true
}

/// The words of a mapfile, in order; comments left out.
fn words(text: &str) -> Vec<Word> {
    let mut words = Vec::new();
    let mut letters = text.char_indices().peekable();
    let mut line = 1;
    while let Some((start, letter)) = letters.next() {
        let began = line;
        match letter {
            '\n' => line += 1,
            _ if letter.is_whitespace() => {}
            '#' => while letters.next_if(|(_, letter)| *letter != '\n').is_some() {},
            '/' if letters.peek().is_some_and(|(_, next)| *next == '*') => {
                let rest = text.get(start + 2..).unwrap_or_default();
                let length = rest.find("*/").map_or(rest.len(), |end| end + 2);
                let end = start + 2 + length;
                while let Some((_, skipped)) = letters.next_if(|(at, _)| *at < end) {
                    line += u32::from(skipped == '\n');
                }
            }
            '"' | '\'' => {
                let mut word = String::new();
                while let Some((_, inner)) = letters.next() {
                    if inner == letter {
                        break;
                    }
                    line += u32::from(inner == '\n');
                    match (inner, letters.peek()) {
                        ('\\', Some((_, next))) if *next == letter => {
                            word.extend(letters.next().map(|(_, c)| c))
                        }
                        _ => word.push(inner),
                    }
                }
                words.push(Word { text: word, line: began, quoted: true });
            }
            _ => {
                let mut word = String::from(letter);
                while let Some((_, next)) =
                    letters.next_if(|(_, next)| !next.is_whitespace() && !"\"'#".contains(*next))
                {
                    word.push(next);
                }
                words.push(Word { text: word, line: began, quoted: false });
            }
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAP: &str = r#"
# a comment with "quotes" and END
MAP
  NAME "atlas" /* SHAPEPATH "no"
  */
  CONFIG "MS_ERRORFILE" "/var/log/ms_error.log"
  SHAPEPATH 'data'
  FONTSET "fonts.txt"
  PROJECTION "init=epsg:4326" END
  WEB METADATA "wms_title" "Atlas" "WMS_SRS" "EPSG:4326" END END
  SYMBOL NAME "dot" TYPE ELLIPSE POINTS 1 1 END END
  LAYER
    NAME "land" TYPE POLYGON DATA "land.shp"
    CLASS STYLE COLOR 1 2 3 SYMBOL "dot" END END
    PROJECTION AUTO END
  END
  LAYER NAME relief TYPE RASTER
    DATA "relief.tif"
    METADATA "wms_title" "x" END
  END
  LAYER NAME roads TYPE LINE CONNECTIONTYPE PostGIS
    CONNECTION "host=db password=hunter2" DATA "geom from roads" END
  LAYER NAME square TYPE POLYGON FEATURE POINTS 0 0 1 1 END END END
END
"#;

    #[test]
    fn what_a_mapfile_names_is_found_with_its_lines() {
        let map = read(MAP);
        assert!(map.is_map && map.has_projection);
        assert_eq!(
            map.setting("MS_ERRORFILE").map(|named| (named.value.as_str(), named.line)),
            Some(("/var/log/ms_error.log", 6))
        );
        assert_eq!(map.shape_path.as_ref().map(|named| named.value.as_str()), Some("data"));
        assert_eq!(map.files, [("FONTSET".to_owned(), Named { value: "fonts.txt".to_owned(), line: 8 })]);
        assert_eq!(map.metadata, ["wms_title", "wms_srs"]);
        let names: Vec<_> = map.layers.iter().map(Layer::title).collect();
        assert_eq!(names, ["land", "relief", "roads", "square"]);
        assert!(map.layers[0].has_projection && !map.layers[1].has_projection);
        assert_eq!(map.layers[1].kind.as_deref(), Some("raster"));
        assert_eq!(map.layers[1].data.as_ref().map(|named| named.line), Some(18));
        assert_eq!(map.layers[2].connection_type.as_deref(), Some("postgis"));
        assert!(map.layers[3].has_features);
    }

    #[test]
    fn a_symbol_or_style_of_a_name_is_no_block() {
        let map = read(
            "MAP LAYER NAME a CLASS STYLE SYMBOL 'x' END SYMBOL 0 END DATA 'd' END LAYER NAME b END END",
        );
        assert_eq!(map.layers.len(), 2);
        assert_eq!(map.layers[0].data.as_ref().map(|named| named.value.as_str()), Some("d"));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in prop_oneof![
            any::<String>(),
            "(MAP|LAYER|END|DATA|\"[a-z]\"|'|/\\*|\\*/|#|\n| |CONFIG|STYLE|PROJECTION|[0-9]){0,40}",
        ]) {
            let _ = read(&text);
        }
    }
}
