//! The tables of `docs/configuration.md`, made from the list of all settings.
//!
//! What must hold: each table has every setting of its section, in the order of the list, and says of each what the list
//! says. A test compares; `CONFIGURATION_WRITE=1 cargo test --lib reference` writes the page anew.

use super::setting::{KEYS, Kind, OnChange, Setting};

/// The page with its tables made anew. A run of rows is the table of the section that its first row belongs to.
fn rewritten(page: &str) -> String {
    let mut lines = page.lines().peekable();
    let mut made = String::new();
    while let Some(line) = lines.next() {
        let Some(section) = setting(line).map(section) else {
            made.push_str(line);
            made.push('\n');
            continue;
        };
        while lines.peek().is_some_and(|line| setting(line).is_some()) {
            lines.next();
        }
        KEYS.iter().filter(|key| self::section(key.path) == section).for_each(|key| made.push_str(&row(key)));
    }
    made
}

/// The setting of which a line of the page is the row.
fn setting(line: &str) -> Option<&str> {
    let (path, _) = line.strip_prefix("| `")?.split_once('`')?;
    let is_known = KEYS.iter().any(|key| key.path == path);
    is_known.then_some(path)
}

/// The outermost table that a setting stands in; empty for none.
fn section(path: &str) -> &str {
    path.split_once('.').map_or("", |(section, _)| section)
}

fn row(key: &Setting) -> String {
    let default = match key.default {
        None => "none".to_owned(),
        Some(text) if matches!(key.kind, Kind::Boolean | Kind::Number) => format!("`{text}`"),
        Some(text) => format!("`\"{text}\"`"),
    };
    let limits = if key.limits.is_empty() { String::new() } else { format!(" {}", key.limits) };
    let change = match key.on_change {
        OnChange::Live => "at once",
        OnChange::Remount => "mounted again",
        OnChange::RestartContainer => "made anew",
        OnChange::RestartAgent => "agent restarts",
        OnChange::Boot => "`bootstrap`",
    };
    format!("| `{}` | {default} |{limits} | {change} | {} |\n", key.path, key.meaning)
}

#[test]
fn the_page_is_made_from_the_settings() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");
    let page = std::fs::read_to_string(path).expect("readable");
    let made = rewritten(&page);
    if std::env::var_os("CONFIGURATION_WRITE").is_some() {
        std::fs::write(path, &made).expect("written");
    }
    let lines = || made.lines().zip(page.lines());
    let other = lines().find(|(made, found)| made != found);
    assert_eq!(other, None, "CONFIGURATION_WRITE=1 writes it anew");
    assert_eq!(made, page);
    let rows = made.lines().filter(|line| setting(line).is_some()).count();
    assert_eq!(rows, KEYS.len(), "each in one table");
    assert!(KEYS.iter().all(|key| !key.meaning.is_empty()));
}
