//! Settings from a TOML file.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::super::fault::{ConfigError, SyntaxFault};
use super::super::redact;
use super::super::setting::KeyPath;
use super::entry::{Item, Value};
use super::layer::Layer;
use super::origin::Origin;

/// Largest file that is taken for a configuration.
const LIMIT_BYTES: u64 = 1 << 20;

impl Layer {
    /// The settings in the file at `path`.
    ///
    /// # Errors
    ///
    /// The file is absent, unreadable, larger than 1 MiB, not UTF-8 or not TOML.
    pub fn file(path: &Path) -> Result<Layer, ConfigError> {
        let unreadable = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => ConfigError::Absent { path: path.to_owned() },
            _ => ConfigError::Unreadable { path: path.to_owned(), source },
        };
        let file = File::open(path).map_err(unreadable)?;
        let mut bytes = Vec::new();
        file.take(LIMIT_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() as u64 > LIMIT_BYTES {
            return Err(ConfigError::TooLarge { path: path.to_owned(), limit: LIMIT_BYTES });
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            let offset = error.utf8_error().valid_up_to();
            ConfigError::NotText { path: path.to_owned(), offset }
        })?;
        Layer::toml(path, &text)
    }

    /// The settings in `text`, which stands in the file at `path`.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Syntax`] with everything that is not TOML.
    pub fn toml(path: &Path, text: &str) -> Result<Layer, ConfigError> {
        let (document, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            let faults = errors.iter().map(|error| syntax_fault(text, error)).collect();
            return Err(ConfigError::Syntax { path: path.to_owned(), faults });
        }
        let mut flat = Flat { path, lines: line_starts(text), layer: Layer::default() };
        flat.table(&KeyPath::default(), document.get_ref());
        Ok(flat.layer)
    }
}

fn line_starts(text: &str) -> Vec<usize> {
    std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect()
}

fn syntax_fault(text: &str, error: &toml::de::Error) -> SyntaxFault {
    let at = error.span().map_or(0, |span| span.start).min(text.len());
    let before = text.get(..at).unwrap_or_default();
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = text.get(start..).and_then(|rest| rest.lines().next()).unwrap_or_default();
    SyntaxFault {
        line: before.matches('\n').count() + 1,
        column: before.get(start..).map_or(0, |shown| shown.chars().count()) + 1,
        text: may_show(line).then(|| line.to_owned()),
        message: error.message().replace('\n', ", "),
    }
}

/// Whether nothing in a line that could not be understood looks like a secret.
fn may_show(line: &str) -> bool {
    line.chars().count() <= 200 && !redact::names_a_secret(line) && redact::shown(line) == line
}

/// A document on its way to a flat layer.
struct Flat<'a> {
    path: &'a Path,
    lines: Vec<usize>,
    layer: Layer,
}

impl Flat<'_> {
    fn origin(&self, offset: usize) -> Origin {
        let line = self.lines.partition_point(|start| *start <= offset);
        Origin::File { path: self.path.to_owned(), line: Some(line) }
    }

    fn table(&mut self, at: &KeyPath, table: &DeTable<'_>) {
        for (key, value) in table.iter() {
            let path = at.with(key.get_ref());
            let origin = self.origin(key.span().start);
            match value.get_ref() {
                DeValue::Table(inner) if path.to_string() == "container" => {
                    self.section(&path.at(0), origin, inner)
                }
                DeValue::Table(inner) if path.to_string() != "mount" => self.section(&path, origin, inner),
                DeValue::Array(list) if is_list_of_tables(&path) => self.tables(&path, list),
                other => {
                    let value = self.value(other);
                    self.layer.insert(path, value, origin);
                }
            }
        }
    }

    fn section(&mut self, path: &KeyPath, origin: Origin, table: &DeTable<'_>) {
        self.layer.insert(path.clone(), Value::Section, origin);
        self.table(path, table);
    }

    fn tables(&mut self, path: &KeyPath, list: &DeArray<'_>) {
        for (place, item) in list.iter().enumerate() {
            let origin = self.origin(item.span().start);
            match item.get_ref() {
                DeValue::Table(table) => self.section(&path.at(place), origin, table),
                other => {
                    let value = self.value(other);
                    self.layer.insert(path.at(place), value, origin);
                }
            }
        }
    }

    fn value(&self, value: &DeValue<'_>) -> Value {
        match value {
            DeValue::String(text) => Value::Text(text.clone().into_owned()),
            DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => Value::Integer(number),
                Err(_) => Value::Foreign(number.to_string()),
            },
            DeValue::Float(number) => Value::Foreign(number.as_str().to_owned()),
            DeValue::Boolean(value) => Value::Boolean(*value),
            DeValue::Datetime(date) => Value::Foreign(date.to_string()),
            DeValue::Array(list) => Value::List(list.iter().map(|item| self.item(item)).collect()),
            DeValue::Table(_) => Value::Foreign("a table".to_owned()),
        }
    }

    fn item(&self, item: &Spanned<DeValue<'_>>) -> Item {
        Item { value: self.value(item.get_ref()), origin: self.origin(item.span().start) }
    }
}

fn is_list_of_tables(path: &KeyPath) -> bool {
    matches!(path.to_string().as_str(), "mount" | "container")
}
