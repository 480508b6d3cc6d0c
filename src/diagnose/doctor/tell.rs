//! Results in words that several checks share.

use crate::diagnose::result::CheckResult;
use ladder::{Condition, Fault};

/// What the agent would say of a link; `otherwise` is the cure where it knows none.
pub(super) fn of_condition(name: &str, condition: &Condition, otherwise: &str) -> CheckResult {
    let cure = |fault: &Fault| fault.hint.clone().unwrap_or_else(|| otherwise.to_owned());
    match condition {
        Condition::Good(detail) => CheckResult::ok(name, detail),
        Condition::Reduced(fault) => CheckResult::warn(name, &fault.detail, cure(fault)),
        Condition::Faulty(fault) => CheckResult::fail(name, &fault.detail, cure(fault)),
        Condition::Unknown(reason) => CheckResult::fail(name, format!("could not look: {reason}"), otherwise),
        Condition::Blocked(on) => CheckResult::fail(name, format!("waits for {on}"), otherwise),
    }
}

/// What was found of one mount or container, each result with its name where there are several.
pub(super) fn of_one(name: &str, of: usize, mut results: Vec<CheckResult>) -> Vec<CheckResult> {
    if of > 1 {
        results.iter_mut().for_each(|result| result.detail.insert_str(0, &format!("{name}: ")));
    }
    results
}

/// Results of checks that were not made because of an earlier one.
pub(super) fn skipped(names: &[&str], why: &str) -> Vec<CheckResult> {
    let said = format!("not looked at: {why}");
    names.iter().map(|name| CheckResult::warn(name, &said, "cure what fails above first")).collect()
}

/// Results of checks that do not concern this host.
pub(super) fn not_needed(names: &[&str], why: &str) -> Vec<CheckResult> {
    names.iter().map(|name| CheckResult::ok(name, format!("not needed: {why}"))).collect()
}
