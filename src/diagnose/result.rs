//! One thing that was looked at, how it is, and what cures it; a list of them as text and as JSON.

use serde::Serialize;

use crate::error::{Advise, Chain, Exit};
use crate::terminal::{COLUMNS, Colour, Style, paint, shorten, wrap};

/// Columns of a result's grade and name.
const GRADE: usize = 6;
const NAME: usize = 21;
/// Most lines of what was found, and of its cure.
const LINES: usize = 6;

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Grade {
    Ok,
    /// It works, or could not be looked at; somebody should know.
    Warn,
    /// It keeps maps from being served, or will.
    Fail,
}

impl Grade {
    /// The word that is printed.
    pub fn word(self) -> &'static str {
        match self {
            Grade::Ok => "ok",
            Grade::Warn => "warn",
            Grade::Fail => "fail",
        }
    }

    fn colour(self) -> Colour {
        match self {
            Grade::Ok => Colour::Good,
            Grade::Warn => Colour::Doubtful,
            Grade::Fail => Colour::Bad,
        }
    }
}

/// What was found of one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckResult {
    /// What was looked at: lower case, at most 20 characters.
    pub name: String,
    pub grade: Grade,
    /// What was seen; of a fault, its cause.
    pub detail: String,
    /// The cure, one sentence without full stop.
    pub hint: Option<String>,
}

impl CheckResult {
    pub fn ok(name: &str, detail: impl Into<String>) -> CheckResult {
        CheckResult { name: name.to_owned(), grade: Grade::Ok, detail: detail.into(), hint: None }
    }

    /// A doubt, and its cure.
    pub fn warn(name: &str, detail: impl Into<String>, hint: impl Into<String>) -> CheckResult {
        CheckResult { grade: Grade::Warn, hint: Some(hint.into()), ..CheckResult::ok(name, detail) }
    }

    /// A fault, and its cure.
    pub fn fail(name: &str, detail: impl Into<String>, hint: impl Into<String>) -> CheckResult {
        CheckResult { grade: Grade::Fail, hint: Some(hint.into()), ..CheckResult::ok(name, detail) }
    }

    /// A fault that an error tells of; `otherwise` is the cure if it knows none.
    pub fn failed<E: Advise + 'static>(name: &str, error: &E, otherwise: &str) -> CheckResult {
        let hint = error.hint().unwrap_or_else(|| otherwise.to_owned());
        CheckResult::fail(name, Chain(error).to_string(), hint)
    }
}

/// Findings as lines of 80 columns, each with its cure below it.
pub fn text(results: &[CheckResult], style: Style) -> String {
    let mut text = String::new();
    for result in results {
        let indent = " ".repeat(GRADE + NAME);
        let width = COLUMNS - 1 - indent.len();
        let grade = paint(&format!("{:<GRADE$}", result.grade.word()), result.grade.colour(), style);
        let name = format!("{:<NAME$}", shorten(&result.name, NAME - 1));
        for (number, line) in wrap(&result.detail, width, LINES).iter().enumerate() {
            match number {
                0 => text.push_str(&format!("{grade}{name}{line}\n")),
                _ => text.push_str(&format!("{indent}{line}\n")),
            }
        }
        if let Some(hint) = &result.hint {
            for line in wrap(&format!("hint: {hint}"), width, LINES) {
                text.push_str(&format!("{indent}{line}\n"));
            }
        }
    }
    text
}

/// How many are how, in a sentence.
pub fn counts(results: &[CheckResult]) -> String {
    let count = |grade: Grade| results.iter().filter(|result| result.grade == grade).count();
    format!("{} ok, {} warn, {} fail", count(Grade::Ok), count(Grade::Warn), count(Grade::Fail))
}

/// The worst of them; that of none is ok.
pub fn worst(results: &[CheckResult]) -> Grade {
    results.iter().map(|result| result.grade).max().unwrap_or(Grade::Ok)
}

/// How a command ends that found these: 0 unless something fails.
pub fn exit(results: &[CheckResult]) -> Exit {
    if worst(results) == Grade::Fail { Exit::Degraded } else { Exit::Success }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_a_line_and_its_cure_stands_below() {
        let results = [
            CheckResult::ok("kernel", "6.1"),
            CheckResult::fail("clock", "it is \x1b[31mthree hours off", "set it"),
        ];
        let text = text(&results, Style::Plain);
        let indent = " ".repeat(27);
        assert_eq!(
            text,
            format!(
                "ok    kernel               6.1\nfail  clock                it is [31mthree hours off\n{indent}hint: set it\n"
            )
        );
        assert_eq!(counts(&results), "1 ok, 0 warn, 1 fail");
        assert_eq!((worst(&results), worst(&[])), (Grade::Fail, Grade::Ok));
    }

    #[test]
    fn no_line_is_longer_than_the_terminal() {
        let long = "word ".repeat(300) + &"x".repeat(300);
        let text = text(
            &[CheckResult::warn("a name that is much too long for it", long.clone(), long)],
            Style::Plain,
        );
        assert!(text.lines().all(|line| line.chars().count() < COLUMNS), "{text}");
        assert!(text.lines().count() <= 2 * LINES, "{text}");
    }
}
