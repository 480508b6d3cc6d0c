//! The effective configuration as TOML.
//!
//! What is shown reads back as the same configuration, except for values that look like secrets: those
//! are replaced.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};

use super::container::Selector;
use super::model::{Bootstrap, Config, Container, Credentials, Ecs, Health, Mount, Probe, Sources};
use super::quantity::{show_duration, show_mode, show_size};
use super::redact::{self, REDACTED};
use super::setting::{KeyPath, Step, quoted, quoted_key};
use super::source::{Entries, Origin};
use super::table::settings;

/// Whether each value is followed by a comment that says where it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origins {
    Shown,
    Hidden,
}

/// Whether what nobody has written is shown as well, with its default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Defaults {
    Shown,
    LeftOut,
}

/// Column at which the comments with the origins begin, where the value leaves room.
const COMMENT_COLUMN: usize = 48;

pub(super) fn toml(config: &Config, entries: &Entries, origins: Origins, defaults: Defaults) -> String {
    let (text, pending) = (String::new(), String::new());
    let mut page = Page {
        entries,
        origins,
        defaults,
        text,
        pending,
        at: KeyPath::default(),
        is_alone: config.containers.len() == 1,
    };
    config.fill(&mut page);
    page.text
}

/// Writes a field that stands on a line.
macro_rules! line {
    ($page:ident $name:expr, $value:expr, in $($section:tt)+) => {};
    ($page:ident $name:expr, $value:expr, of $($rows:tt)+) => {
        $value.line($page)
    };
    ($page:ident $name:expr, $value:expr, named, $($how:tt)+) => {};
    ($page:ident $name:expr, $value:expr, none, $($how:tt)+) => {
        $page.optional($name, $value.as_ref())
    };
    ($page:ident $name:expr, $value:expr, $default:tt, Boolean, $($how:tt)+) => {
        $page.line($name, &$value.to_string())
    };
    ($page:ident $name:expr, $value:expr, $default:tt, Number, $($how:tt)+) => {
        $page.line($name, &$value.to_string())
    };
    ($page:ident $name:expr, $value:expr, $default:tt, Texts, $($how:tt)+) => {
        $page.list($name, &$value)
    };
    ($page:ident $name:expr, $value:expr, $default:tt, Duration, $($how:tt)+) => {
        $page.string($name, &show_duration($value))
    };
    ($page:ident $name:expr, $value:expr, $default:tt, Size, $($how:tt)+) => {
        $page.string($name, &show_size($value))
    };
    ($page:ident $name:expr, $value:expr, $default:tt, Mode, $($how:tt)+) => {
        $page.string($name, &show_mode($value))
    };
    ($page:ident $name:expr, $value:expr, $default:tt, Path, $($how:tt)+) => {
        $page.string($name, &$value.to_string_lossy())
    };
    ($page:ident $name:expr, $value:expr, $($how:tt)+) => {
        $page.string($name, &$value.to_string())
    };
}

/// Writes a field that is a table, or several.
macro_rules! tables {
    ($page:ident $name:expr, $value:expr, in always $section:ident) => {
        $page.table($page.at.with($name), |page| $value.fill(page))
    };
    ($page:ident $name:expr, $value:expr, in maybe $section:ident) => {
        if let Some(section) = &$value {
            $page.table($page.at.with($name), |page| section.fill(page));
        }
    };
    ($page:ident $name:expr, $value:expr, in each $section:ident $list:literal) => {
        for (place, section) in $value.iter().enumerate() {
            $page.table($page.at.with($list).at(place), |page| section.fill(page));
        }
    };
    ($page:ident $name:expr, $value:expr, of $($rows:tt)+) => {
        $value.tables($page)
    };
    ($page:ident $name:expr, $value:expr, named, $($how:tt)+) => {
        $page.named($name, &$value)
    };
    ($page:ident $name:expr, $value:expr, $($how:tt)+) => {};
}

macro_rules! writers {
    ($(
        $(#[$about:meta])+
        $section:ident $prefix:literal { $($(#[$doc:meta])+ $field:ident: $type:ty { $($how:tt)+ })+ } $rule:tt
    )+) => { $(
        impl $section {
            fn fill(&self, page: &mut Page<'_>) {
                $(line!(page stringify!($field), self.$field, $($how)+);)+
                $(tables!(page stringify!($field), self.$field, $($how)+);)+
            }
        }
    )+ };
}

settings!(writers);

impl Selector {
    fn line(&self, page: &mut Page<'_>) {
        if let Selector::Name(name) = self {
            page.string("name", name);
        }
    }

    fn tables(&self, page: &mut Page<'_>) {
        if let Selector::Match { label, image } = self {
            page.table(page.at.with("match"), |page| {
                page.optional("label", label.as_ref());
                page.optional("image", image.as_ref());
            });
        }
    }
}

struct Page<'a> {
    entries: &'a Entries,
    origins: Origins,
    defaults: Defaults,
    text: String,
    /// The heading of a table in which nothing stands yet.
    pending: String,
    /// The table that is being written.
    at: KeyPath,
    /// There is but one container.
    is_alone: bool,
}

impl Page<'_> {
    /// Writes the table at `at`, filled by `fill`.
    fn table(&mut self, at: KeyPath, fill: impl FnOnce(&mut Self)) {
        let names = at.0.iter().filter_map(|step| match step {
            Step::Name(name) => Some(name.as_str()),
            Step::Place(_) => None,
        });
        let name = names.collect::<Vec<_>>().join(".");
        let is_one_of_many =
            matches!(at.0.last(), Some(Step::Place(_))) && !(name == "container" && self.is_alone);
        let heading = if is_one_of_many { format!("[[{name}]]") } else { format!("[{name}]") };
        let gap = if self.text.is_empty() { "" } else { "\n" };
        self.pending = format!("{gap}{heading}\n");
        // One of a list counts, and so does a section that somebody has written, whatever is in it.
        if is_one_of_many || self.entries.origin(&at) != Origin::Default {
            self.flush();
        }
        let outer = std::mem::replace(&mut self.at, at);
        fill(self);
        self.at = outer;
    }

    fn flush(&mut self) {
        self.text.push_str(&std::mem::take(&mut self.pending));
    }

    /// A table whose names the user has chosen; left out when empty.
    fn named(&mut self, name: &str, values: &BTreeMap<String, String>) {
        if values.is_empty() {
            return;
        }
        self.table(self.at.with(name), |page| {
            for (name, value) in values {
                page.string(name, if redact::names_a_secret(name) { REDACTED } else { value });
            }
        });
    }

    fn list(&mut self, name: &str, values: &[impl Display]) {
        let items: Vec<String> = values.iter().map(|value| quoted(&value.to_string())).collect();
        self.line(name, &format!("[{}]", items.join(", ")));
    }

    fn optional(&mut self, name: &str, value: Option<&impl Display>) {
        match value {
            Some(value) => self.string(name, &value.to_string()),
            None if self.defaults == Defaults::LeftOut => {}
            None => {
                self.flush();
                self.text.push_str(&format!("# {name} is not set\n"));
            }
        }
    }

    fn string(&mut self, name: &str, value: &str) {
        self.line(name, &quoted(&redact::shown(value)));
    }

    fn line(&mut self, name: &str, value: &str) {
        let origin = self.entries.origin(&self.at.with(name));
        if self.defaults == Defaults::LeftOut && origin == Origin::Default {
            return;
        }
        self.flush();
        let value = if origin.is_secure() { &quoted(REDACTED) } else { value };
        let line = format!("{} = {value}", quoted_key(name));
        let written = match self.origins {
            Origins::Hidden => writeln!(self.text, "{line}"),
            Origins::Shown => {
                let origin = origin.to_string().replace(char::is_control, "?");
                writeln!(self.text, "{line:COMMENT_COLUMN$}  # {origin}")
            }
        };
        written.expect("writing to a String cannot fail");
    }
}
