//! The document as a person reads it: one screen, at most 2,500 characters and 80 columns.
//!
//! Everything shown may come from outside (a container's answer, a kernel string): control characters
//! never reach the terminal.

use std::io::IsTerminal;

use super::{Document, Event, Happening, LinkReport, Report, Standing};
use crate::agent::state::{Health, LinkState, Maintenance, Outcome, Target, Trigger};

/// Longest line, with its line feed.
const COLUMNS: usize = 80;
/// Most links shown, one line each.
const LINKS: usize = 13;
/// Most lines of the cause and of the hint.
const CAUSE_LINES: usize = 5;
const HINT_LINES: usize = 3;
/// Most lines about a configuration that was refused.
const CONFIGURATION_LINES: usize = 2;
/// Events shown, one line each.
const EVENTS: usize = 5;

/// Whether colour is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    Plain,
    Coloured,
}

impl Style {
    /// Colour only on a terminal, and not where `NO_COLOR` is set.
    pub fn of(out: &impl IsTerminal) -> Style {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        if out.is_terminal() && !unwanted { Style::Coloured } else { Style::Plain }
    }
}

/// Shows a report on one screen. With [`Style::Coloured`] the escapes come on top of the limit.
pub fn render(report: &Report, style: Style) -> String {
    let Some(document) = &report.document else {
        return "mapkeeper: not running, and nothing is known of an earlier run\n".to_owned();
    };
    let mut lines = vec![headline(report.standing, document)];
    lines.extend(link_lines(&document.links).into_iter().map(|(state, line)| paint(&line, state, style)));
    if let Some(fault) = &document.first_fault {
        lines.push(String::new());
        lines.extend(wrap(&format!("{}: {}", fault.target, fault.cause), CAUSE_LINES));
        if let Some(hint) = &fault.hint {
            lines.extend(wrap(&format!("hint: {hint}"), HINT_LINES));
        }
    }
    if let Some(fault) = &document.configuration_fault {
        lines.push(String::new());
        lines.extend(wrap(&format!("an older configuration is in force: {fault}"), CONFIGURATION_LINES));
    }
    let newest = document.events.len().saturating_sub(EVENTS);
    for event in document.events.iter().skip(newest) {
        lines.push(fit(&event_line(event)));
    }
    let mut text = lines.join("\n");
    text.push('\n');
    text
}

fn headline(standing: Standing, document: &Document) -> String {
    let health = match document.health {
        Health::Healthy => "healthy",
        Health::Degraded => "degraded",
        Health::Repairing => "repairing",
        Health::Failed => "failed, needs a person",
    };
    let line = match (standing, &document.ended) {
        (Standing::Fresh, _) => match &document.acting {
            Some(acting) => format!(
                "mapkeeper: {health}, {} {} (attempt {})",
                word(&acting.action),
                acting.target,
                acting.attempt
            ),
            None => match document.maintenance {
                Maintenance::Off => format!("mapkeeper: {health} (pid {})", document.writer.pid),
                Maintenance::On { left: None } => {
                    format!("mapkeeper: {health}, paused: nothing is repaired until mapkeeper resume")
                }
                Maintenance::On { left: Some(left) } => {
                    let minutes = left.as_secs().div_ceil(60);
                    format!("mapkeeper: {health}, paused: nothing is repaired for {minutes} min more")
                }
            },
        },
        (Standing::Stale { age_ms }, _) => {
            format!("mapkeeper: stale, silent for {} s; last known: {health}", age_ms / 1000)
        }
        (_, Some(why)) => format!("mapkeeper: not running ({why}); last known: {health}"),
        (_, None) => format!("mapkeeper: not running; last known: {health}"),
    };
    fit(&line)
}

/// One line a link; if there are too many, those that are not good come first.
fn link_lines(links: &[LinkReport]) -> Vec<(LinkState, String)> {
    let line = |link: &LinkReport| {
        let name = shorten(&clean(&link.target.to_string()), 26);
        (link.state, fit(&format!("  {:<9}{name:<27}{}", state_word(link.state), link.detail)))
    };
    if links.len() <= LINKS {
        return links.iter().map(line).collect();
    }
    let mut ordered: Vec<&LinkReport> = links.iter().collect();
    ordered.sort_by_key(|link| link.state == LinkState::Ok);
    let mut lines: Vec<_> = ordered.iter().take(LINKS - 1).map(|link| line(link)).collect();
    let rest = links.len() - lines.len();
    let state = ordered.get(LINKS - 1).map_or(LinkState::Ok, |link| link.state);
    lines.push((state, format!("  and {rest} more")));
    lines
}

fn state_word(state: LinkState) -> &'static str {
    match state {
        LinkState::Ok => "ok",
        LinkState::Degraded => "degraded",
        LinkState::Broken => "broken",
        LinkState::Unknown => "unknown",
        LinkState::Waiting => "waiting",
    }
}

fn event_line(event: &Event) -> String {
    let target = event.target.as_ref().map_or_else(|| "everything".to_owned(), Target::to_string);
    let what = match &event.what {
        Happening::Detected { seen, .. } => seen.clone(),
        Happening::Configured { consequences } if consequences.is_empty() => "new configuration".to_owned(),
        Happening::Configured { consequences } => format!("new configuration: {}", consequences.join(", ")),
        Happening::ConfigurationRefused { error } => format!("new configuration refused: {error}"),
        Happening::Recovered { elapsed_ms } => {
            format!("good again after {}.{} s", elapsed_ms / 1000, elapsed_ms % 1000 / 100)
        }
        Happening::Acted { action, attempt, outcome, trigger, .. } => {
            let action = word(action);
            match outcome {
                Outcome::Done => format!("{action} done ({}, attempt {attempt})", cause_word(trigger)),
                Outcome::Failed(failure) => format!("{action} failed: {}", failure.error),
            }
        }
    };
    // 2024-05-06T07:08:09.123Z -> 05-06 07:08:09
    let at = event.at.get(5..19).unwrap_or(&event.at).replace('T', " ");
    format!("{at} {target}: {what}")
}

fn cause_word(trigger: &Trigger) -> String {
    word(trigger).replace('_', " ")
}

/// The word that a plain enum has in the document.
pub(super) fn word(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

fn paint(line: &str, state: LinkState, style: Style) -> String {
    let colour = match state {
        LinkState::Ok => "32",
        LinkState::Degraded | LinkState::Waiting | LinkState::Unknown => "33",
        LinkState::Broken => "31",
    };
    match style {
        Style::Plain => line.to_owned(),
        Style::Coloured => format!("\x1b[{colour}m{line}\x1b[0m"),
    }
}

/// `text` without control characters.
fn clean(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

/// `text` on one line.
fn fit(text: &str) -> String {
    shorten(&clean(text), COLUMNS - 1)
}

fn shorten(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(most.saturating_sub(3)).collect();
    short.push_str("...");
    short
}

/// `text` on as many lines as it needs, at most `most`; broken at spaces where there are any.
fn wrap(text: &str, most: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in clean(text).split_whitespace() {
        for piece in pieces(word) {
            let line = lines.last_mut().expect("there is always a line");
            let joined = line.chars().count() + 1 + piece.chars().count();
            if line.is_empty() {
                line.push_str(&piece);
            } else if joined < COLUMNS {
                line.push(' ');
                line.push_str(&piece);
            } else {
                lines.push(piece);
            }
        }
    }
    if lines.len() > most {
        lines.truncate(most);
        if let Some(last) = lines.last_mut() {
            *last = shorten(&format!("{last} ..."), COLUMNS - 1);
        }
    }
    lines
}

/// A word cut into lines, if it is longer than one.
fn pieces(word: &str) -> Vec<String> {
    let letters: Vec<char> = word.chars().collect();
    letters.chunks(COLUMNS - 1).map(|piece| piece.iter().collect()).collect()
}
