//! The settings that one source gives.

use std::collections::BTreeMap;

use super::super::fault::Fault;
use super::super::setting::KeyPath;
use super::entry::{Entry, Value};
use super::origin::Origin;

/// The settings that one source gives, and what is wrong with their names.
#[derive(Debug, Clone, Default)]
pub struct Layer {
    pub(super) entries: BTreeMap<KeyPath, Entry>,
    pub(super) faults: Vec<Fault>,
    /// Settings of "the" container, given without its place.
    pub(super) unplaced: Vec<(KeyPath, Origin)>,
}

impl Layer {
    /// Adds a setting as text.
    pub fn set(&mut self, path: KeyPath, text: &str, origin: Origin) {
        self.insert(path, Value::Untyped(text.to_owned()), origin);
    }

    /// Adds something that is wrong.
    pub fn fault(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    /// Takes out what was written at `origin`; whether there was anything.
    pub fn leave_out(&mut self, origin: &Origin) -> bool {
        let before = self.entries.len();
        self.entries.retain(|_, entry| entry.origin != *origin);
        self.unplaced.retain(|(_, other)| other != origin);
        self.entries.len() < before
    }

    /// Whether the source says nothing at all, right or wrong.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.faults.is_empty()
    }

    pub(super) fn insert(&mut self, path: KeyPath, value: Value, origin: Origin) {
        self.entries.insert(path, Entry { value, origin });
    }
}
