//! A value before it is judged, and where it was written.

use serde::{Deserialize, Serialize};

use super::super::redact::{self, REDACTED};
use super::super::setting::quoted;
use super::origin::Origin;

/// A value before it is judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Value {
    /// A table of the configuration; its settings are entries of their own.
    Section,
    /// A string of a typed layer.
    Text(String),
    Integer(i64),
    Boolean(bool),
    List(Vec<Item>),
    /// A value of a kind that no setting has: a float, a date, a table inside a list. As written.
    Foreign(String),
    /// Text of a layer that has nothing but text; what kind it is depends on the setting.
    Untyped(String),
}

/// One value of a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Item {
    pub value: Value,
    pub origin: Origin,
}

/// A value and where it was written.
pub type Entry = Item;

impl Item {
    /// The value as a message may show it: nothing of what was encrypted where it came from.
    pub fn shown(&self) -> String {
        if self.origin.is_secure() { REDACTED.to_owned() } else { self.value.shown() }
    }
}

impl Value {
    /// The value as a message may show it.
    pub fn shown(&self) -> String {
        match self {
            Value::Section => "a table".to_owned(),
            Value::Text(text) | Value::Untyped(text) => quoted(&shortened(&redact::shown(text))),
            Value::Integer(number) => number.to_string(),
            Value::Boolean(value) => value.to_string(),
            Value::List(items) => {
                let items: Vec<String> = items.iter().map(|item| item.value.shown()).collect();
                format!("[{}]", items.join(", "))
            }
            Value::Foreign(text) => shortened(text),
        }
    }
}

fn shortened(text: &str) -> String {
    const LIMIT: usize = 200;
    match text.char_indices().nth(LIMIT) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}
