//! The JSON Schema of the configuration, for editors and for whoever generates one.
//!
//! It is made from the table of settings, so it cannot name one that does not exist. It says of each value how it is
//! written; what has to hold between settings, and limits, only `config check` knows. Nothing is required, because
//! each setting may come from another layer.

use serde_json::{Map, Value, json};

use super::setting::{KEYS, Kind, Part, Setting};

/// The JSON Schema (draft 2020-12) of a configuration file.
pub fn schema() -> Value {
    let mut root = table();
    for key in KEYS.iter() {
        put(&mut root, &key.steps(), key);
    }
    root["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    root["title"] = json!("Configuration of mapkeeper");
    // One container may be written as a table, several as a list of tables.
    if let Some(list) = root["properties"].get_mut("container") {
        let one = list["items"].clone();
        *list = json!({ "oneOf": [one, list.clone()] });
    }
    root
}

fn table() -> Value {
    json!({ "type": "object", "additionalProperties": false, "properties": {} })
}

/// Puts the schema of `key` where `steps` lead to, making the tables on the way.
fn put(at: &mut Value, steps: &[Part], key: &Setting) {
    match steps {
        [Part::Name(name)] => {
            at["properties"][*name] = value(key);
        }
        [Part::AnyName] => at["additionalProperties"] = value(key),
        [Part::Name(name), Part::AnyPlace, rest @ ..] => {
            let list = child(at, name, || json!({ "type": "array", "items": table() }));
            put(&mut list["items"], rest, key);
        }
        [Part::Name(name), rest @ ..] => put(child(at, name, table), rest, key),
        [Part::AnyPlace | Part::AnyName, ..] | [] => unreachable!("a path begins with a name"),
    }
}

fn child<'a>(at: &'a mut Value, name: &str, make: impl FnOnce() -> Value) -> &'a mut Value {
    let properties = at["properties"].as_object_mut().expect("every table has properties");
    properties.entry(name).or_insert_with(make)
}

fn value(key: &Setting) -> Value {
    let mut schema = Map::new();
    let mut say = |name: &str, value: Value| schema.insert(name.to_owned(), value);
    say("description", json!(key.expects));
    let (kind, detail) = match key.kind {
        Kind::Text => ("string", None),
        Kind::Choice(words) => ("string", Some(("enum", json!(words)))),
        Kind::Boolean => ("boolean", None),
        Kind::Number => ("integer", Some(("minimum", json!(0)))),
        Kind::Duration => ("string", Some(("pattern", json!("^[0-9]+(ms|s|m|h|d)$")))),
        Kind::Size => ("string", Some(("pattern", json!("^(0|[0-9]+(B|kB|MB|GB|TB|KiB|MiB|GiB|TiB))$")))),
        Kind::Mode => ("string", Some(("pattern", json!("^[0-7]{3,4}$")))),
        Kind::Texts => ("array", Some(("items", json!({ "type": "string" })))),
    };
    say("type", json!(kind));
    if let Some((name, detail)) = detail {
        say(name, detail);
    }
    if key.kind == Kind::Number {
        say("maximum", json!(u32::MAX - 1));
    }
    if let Some(default) = key.default {
        let typed = match key.kind {
            Kind::Boolean | Kind::Number => serde_json::from_str(default).unwrap_or(Value::Null),
            _ => json!(default),
        };
        say("default", typed);
    }
    Value::Object(schema)
}
