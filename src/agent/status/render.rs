//! The document as a person reads it: one screen, at most 2,500 characters and 80 columns.
//!
//! Everything shown may come from outside (a container's answer, a kernel string): control characters
//! never reach the terminal.

use super::document::{Document, Event, EventKind, LinkReport};
use super::report::{Report, Standing};
use crate::terminal::{COLUMNS, Colour, Style, clean, fit, paint, shorten, wrap};
use ladder::state::{Health, LinkState, Maintenance, Outcome, Reason, Target};

/// Most links shown, one line each.
const LINKS: usize = 8;
/// Most lines of the cause and of the hint.
const CAUSE_LINES: usize = 5;
const HINT_LINES: usize = 3;
/// What to do about an agent that is not there, or hangs.
const START: &str = "systemctl start mapkeeper; journalctl -u mapkeeper says why it ended";
const RESTART: &str = "systemctl restart mapkeeper: mounts and containers stay";
/// Most lines about a configuration that was refused.
const CONFIGURATION_LINES: usize = 2;
/// Mounts whose figures are shown, one line each.
const FIGURES: usize = 2;
/// Events shown, one line each.
const EVENTS: usize = 5;

/// Shows a report on one screen. With [`Style::Coloured`] the escapes come on top of the limit.
pub fn render(report: &Report, style: Style) -> String {
    let Some(document) = &report.document else {
        return format!("mapkeeper: not running, and nothing is known of an earlier run\nhint: {START}\n");
    };
    let mut lines = vec![headline(report.standing, document)];
    lines.extend(
        link_lines(&document.links).into_iter().map(|(state, line)| paint(&line, colour(state), style)),
    );
    lines.extend(figure_lines(document).iter().map(|line| fit(&format!("  {line}"))));
    if let Some(fault) = &document.first_fault {
        lines.push(String::new());
        lines.extend(wrap(&format!("{}: {}", fault.target, fault.cause), COLUMNS - 1, CAUSE_LINES));
    }
    if let Some(hint) = cure(report.standing, document) {
        lines.extend(wrap(&format!("hint: {hint}"), COLUMNS - 1, HINT_LINES));
    }
    if let Some(fault) = &document.configuration_fault {
        lines.push(String::new());
        lines.extend(wrap(
            &format!("an older configuration is in force: {fault}"),
            COLUMNS - 1,
            CONFIGURATION_LINES,
        ));
    }
    let newest = document.events.len().saturating_sub(EVENTS);
    for event in document.events.iter().skip(newest) {
        lines.push(fit(&event_line(event)));
    }
    let mut text = lines.join("\n");
    text.push('\n');
    text
}

/// What is to be done first; `None`: nothing.
fn cure(standing: Standing, document: &Document) -> Option<String> {
    match standing {
        Standing::Fresh => {}
        // What it last said is of the past.
        Standing::Stale { .. } => return Some(RESTART.to_owned()),
        Standing::Ended | Standing::Absent => return Some(START.to_owned()),
    }
    let fault = document.first_fault.as_ref()?;
    let otherwise = match (document.maintenance, document.health) {
        (Maintenance::On { .. }, _) => "mapkeeper resume has it repaired",
        (_, Health::Repairing) => "it is being repaired: mapkeeper status --watch",
        _ => "mapkeeper doctor looks at everything around it",
    };
    Some(fault.hint.clone().unwrap_or_else(|| otherwise.to_owned()))
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

/// What was counted, a line each: how fresh and how cached the mounts are, what S3 was asked, the agent itself. Each
/// begins with a word of its own, in a column of nine.
pub fn figure_lines(document: &Document) -> Vec<String> {
    let mut lines = Vec::new();
    let figures = &document.figures;
    for mount in figures.mounts.iter().take(FIGURES) {
        let age = mount.oldest_answer_ms.map_or("not asked for a minute".to_owned(), |age| {
            format!("oldest answer {} of {}", seconds(age), seconds(mount.freshness_ms))
        });
        let asked = mount.cache_hits + mount.cache_misses;
        let hits = match asked {
            0 => "cache unused".to_owned(),
            _ => format!("cache {} %", mount.cache_hits.saturating_mul(100) / asked),
        };
        let name = shorten(&mount.mount, 12);
        let resumed = match mount.resumed {
            0 => String::new(),
            1 => "; resumed once".to_owned(),
            count => format!("; resumed {count} times"),
        };
        let unreadable = match mount.unreadable_keys {
            0 => String::new(),
            count => format!("; {count} unreadable"),
        };
        lines.push(format!("{:<9}{name}: {age}; {hits}{unreadable}{resumed}", "fresh"));
    }
    if !figures.buckets.is_empty() {
        let requests: u64 = figures.buckets.iter().flat_map(|bucket| bucket.requests.values()).sum();
        let failed: u64 = figures.buckets.iter().map(|bucket| bucket.failed).sum();
        let costs: Vec<u64> = figures.buckets.iter().filter_map(|bucket| bucket.cents_per_month).collect();
        let cost = match costs.iter().sum::<u64>() {
            _ if costs.is_empty() => "cost not known yet".to_owned(),
            cents => format!("about ${}.{:02} a month", cents / 100, cents % 100),
        };
        let failed = if failed > 0 { format!(" ({failed} failed)") } else { String::new() };
        lines.push(format!("{:<9}{requests} requests{failed}; {cost}", "s3"));
    }
    if !document.program.is_empty() {
        let up = duration(document.up_ms / 1000);
        let repairs: u64 = document.repairs.iter().map(|repair| repair.done).sum();
        lines.push(format!("{:<9}{}, up {up}, {repairs} repairs", "agent", document.program));
    }
    lines
}

/// Milliseconds as seconds with one digit behind the point.
fn seconds(ms: u64) -> String {
    format!("{}.{} s", ms / 1000, ms % 1000 / 100)
}

/// Seconds in the two largest units that they fill.
fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

/// One line a link; if there are too many, those that are not good come first.
fn link_lines(links: &[LinkReport]) -> Vec<(LinkState, String)> {
    let line = |link: &LinkReport| {
        let name = shorten(&clean(&link.target.to_string()), 26);
        (link.state, fit(&format!("  {:<9}{name:<27}{}", link.state.word(), link.detail)))
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

/// An event on one line, as long as it is.
pub fn event_line(event: &Event) -> String {
    let target = event.target.as_ref().map_or_else(|| "everything".to_owned(), Target::to_string);
    let what = match &event.what {
        EventKind::Detected { seen, .. } => seen.clone(),
        EventKind::Configured { consequences } if consequences.is_empty() => "new configuration".to_owned(),
        EventKind::Configured { consequences } => format!("new configuration: {}", consequences.join(", ")),
        EventKind::ConfigurationRefused { error } => format!("new configuration refused: {error}"),
        EventKind::Recovered { elapsed_ms } => {
            format!("good again after {}.{} s", elapsed_ms / 1000, elapsed_ms % 1000 / 100)
        }
        EventKind::Acted { action, attempt, outcome, trigger, .. } => {
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

fn cause_word(trigger: &Reason) -> String {
    word(trigger).replace('_', " ")
}

/// The word that a plain enum has in the document.
pub fn word(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

fn colour(state: LinkState) -> Colour {
    match state {
        LinkState::Ok => Colour::Good,
        LinkState::Degraded | LinkState::Waiting | LinkState::Unknown => Colour::Doubtful,
        LinkState::Broken => Colour::Bad,
    }
}
