//! Settings from a path of Parameter Store: `/maps/prod/mount/0/freshness` = `5s` below `/maps/prod`.
//!
//! A `StringList` is a list. What was a `SecureString` is never shown, whatever its name.

use super::entry::{Item, Value};
use super::key_syntax::plain;
use super::layer::Layer;
use super::origin::Origin;

/// A parameter as Parameter Store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Its whole name, path included.
    pub name: String,
    pub value: String,
    pub kind: ParameterKind,
}

/// What kind of value a parameter has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParameterKind {
    Text,
    /// Texts with commas between them.
    List,
    /// A text that is kept encrypted.
    Secure,
}

impl Layer {
    /// The settings among `parameters`, which stand below `path`.
    pub fn parameters(path: &str, parameters: impl IntoIterator<Item = Parameter>) -> Layer {
        let mut layer = Layer::default();
        for parameter in parameters {
            add(&mut layer, path, &parameter);
        }
        layer
    }
}

fn add(layer: &mut Layer, path: &str, parameter: &Parameter) {
    let Parameter { name, value, kind } = parameter;
    let Some(rest) = name.strip_prefix(path).map(|rest| rest.trim_start_matches('/')) else { return };
    let found = plain("/").path_or_fault(rest);
    let origin = Origin::Parameter { name: name.clone(), secure: *kind == ParameterKind::Secure };
    if *kind == ParameterKind::List {
        let item = |text: &str| Item { value: Value::Text(text.trim().to_owned()), origin: origin.clone() };
        let list = Value::List(value.split(',').map(item).collect());
        layer.insert(found.path, list, origin.clone());
    } else {
        layer.set_found(found, value, origin);
    }
}
