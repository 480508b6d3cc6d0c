//! Results in words that several checks share.

use crate::diagnose::result::CheckResult;
use crate::error::{Advise, Chain};
use ladder::{Condition, Fault};

/// A result of an error that knows its cure, prefixed with what it is about.
pub(super) fn of_error<E: Advise + 'static>(
    name: &str,
    about: &str,
    error: &E,
    otherwise: &str,
) -> CheckResult {
    let hint = error.hint().unwrap_or_else(|| otherwise.to_owned());
    CheckResult::fail(name, format!("{about}{}", Chain(error)), hint)
}

/// What the agent would say of a link, prefixed with what it is about; `otherwise` is the cure where it knows none.
pub(super) fn of_condition(name: &str, about: &str, condition: &Condition, otherwise: &str) -> CheckResult {
    let said = |fault: &Fault| format!("{about}{}", fault.detail);
    let cure = |fault: &Fault| fault.hint.clone().unwrap_or_else(|| otherwise.to_owned());
    match condition {
        Condition::Good(detail) => CheckResult::ok(name, format!("{about}{detail}")),
        Condition::Reduced(fault) => CheckResult::warn(name, said(fault), cure(fault)),
        Condition::Faulty(fault) => CheckResult::fail(name, said(fault), cure(fault)),
        Condition::Unknown(reason) => {
            CheckResult::fail(name, format!("{about}could not look: {reason}"), otherwise)
        }
        Condition::Blocked(on) => CheckResult::fail(name, format!("{about}waits for {on}"), otherwise),
    }
}

/// `mount: ` where there are several, so that a result says which is meant.
pub(super) fn about(name: &str, of: usize) -> String {
    if of > 1 { format!("{name}: ") } else { String::new() }
}

/// Names of the checks that look at one mount or container.
pub(super) fn skipped(names: &[&str], about: &str, why: &str) -> Vec<CheckResult> {
    let result = |name: &&str| {
        CheckResult::warn(name, format!("{about}not looked at: {why}"), "cure what fails above first")
    };
    names.iter().map(result).collect()
}

/// Results of checks that do not concern this host.
pub(super) fn not_needed(names: &[&str], why: &str) -> Vec<CheckResult> {
    names.iter().map(|name| CheckResult::ok(name, format!("not needed: {why}"))).collect()
}
