//! Faults on demand: which requests go wrong, and how.
//!
//! Rules are asked in the order in which they were made; the first that fires decides. A rule counts every request
//! that fits it, also those that it lets pass and those that an earlier rule took.

use serde::{Deserialize, Serialize};

use super::operation::{Operation, Target};

/// One rule: which requests, how many of them, and what happens to them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    operation: Option<Operation>,
    /// Keys beginning with this; for lists, prefixes beginning with this.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    under: String,
    /// How many fitting requests pass unharmed first.
    #[serde(default)]
    after: u64,
    /// How many are harmed then. Absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    times: Option<u64>,
    action: Action,
}

/// What happens to a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// Is answered with this status and S3 error code instead of being done.
    Error { status: u16, code: String },
    /// Is answered so much later.
    Delay { milliseconds: u64 },
    /// Is not answered: the connection is reset.
    Reset,
    /// Is never answered; the connection stays open.
    Stall,
    /// Is done, but the connection is reset after so many bytes of the body of the answer.
    ResetAfter { bytes: u64 },
    /// Is done, but after so many bytes of the body of the answer nothing more comes.
    StallAfter { bytes: u64 },
    /// Is done, but the connection is closed in good order after so many bytes of the body of the answer.
    TruncateAfter { bytes: u64 },
    /// Is done, but in the body of the answer one bit of the byte at this offset is wrong.
    FlipBit { offset: u64 },
}

impl Fault {
    /// Every request.
    pub fn new(action: Action) -> Self {
        Self { operation: None, under: String::new(), after: 0, times: None, action }
    }

    /// Requests answered with an error that S3 gives when it is busy.
    pub fn slow_down() -> Self {
        Self::new(Action::Error { status: 503, code: "SlowDown".to_owned() })
    }

    /// Only this operation.
    #[must_use]
    pub fn on(mut self, operation: Operation) -> Self {
        self.operation = Some(operation);
        self
    }

    /// Only keys, or prefixes of lists, that begin with `prefix`.
    #[must_use]
    pub fn under(mut self, prefix: impl Into<String>) -> Self {
        self.under = prefix.into();
        self
    }

    /// The first `count` fitting requests pass.
    #[must_use]
    pub fn after(mut self, count: u64) -> Self {
        self.after = count;
        self
    }

    /// Only `count` requests are harmed.
    #[must_use]
    pub fn times(mut self, count: u64) -> Self {
        self.times = Some(count);
        self
    }

    fn fits(&self, target: &Target) -> bool {
        self.operation.is_none_or(|operation| operation == target.operation)
            && target.key.starts_with(&self.under)
    }
}

/// The rules in force.
#[derive(Debug, Default)]
pub(super) struct Faults {
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    fault: Fault,
    /// Requests that fitted so far.
    seen: u64,
}

impl Faults {
    pub fn add(&mut self, fault: Fault) {
        self.rules.push(Rule { fault, seen: 0 });
    }

    pub fn clear(&mut self) {
        self.rules.clear();
    }

    /// What happens to the request for `target`, which is counted.
    pub fn next(&mut self, target: &Target) -> Option<Action> {
        let mut action = None;
        for rule in self.rules.iter_mut().filter(|rule| rule.fault.fits(target)) {
            rule.seen += 1;
            let past = rule.seen.checked_sub(rule.fault.after.saturating_add(1));
            let fires = past.is_some_and(|past| rule.fault.times.is_none_or(|times| past < times));
            if fires && action.is_none() {
                action = Some(rule.fault.action.clone());
            }
        }
        action
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(key: &str) -> Target {
        Target { operation: Operation::GetObject, bucket: "b".into(), key: key.into(), range: None }
    }

    fn fired(faults: &mut Faults, key: &str, count: usize) -> Vec<bool> {
        (0..count).map(|_| faults.next(&get(key)).is_some()).collect()
    }

    #[test]
    fn the_third_request_alone_goes_wrong() {
        let mut faults = Faults::default();
        faults.add(Fault::slow_down().after(2).times(1));
        assert_eq!(fired(&mut faults, "k", 5), [false, false, true, false, false]);
    }

    #[test]
    fn a_rule_keeps_to_its_operation_and_prefix() {
        let mut faults = Faults::default();
        faults.add(Fault::new(Action::Reset).on(Operation::GetObject).under("maps/"));
        assert_eq!(fired(&mut faults, "maps/a", 1), [true]);
        assert_eq!(fired(&mut faults, "other", 1), [false]);
        let head = Target { operation: Operation::HeadObject, ..get("maps/a") };
        assert_eq!(faults.next(&head), None);
    }

    #[test]
    fn the_first_rule_wins_and_the_others_still_count() {
        let mut faults = Faults::default();
        faults.add(Fault::new(Action::Reset).times(1));
        faults.add(Fault::new(Action::Stall).times(2));
        assert_eq!(faults.next(&get("k")), Some(Action::Reset));
        assert_eq!(faults.next(&get("k")), Some(Action::Stall));
        assert_eq!(faults.next(&get("k")), None);
    }

    #[test]
    fn a_rule_with_the_largest_numbers_never_fires_early() {
        let mut faults = Faults::default();
        faults.add(Fault::new(Action::Reset).after(u64::MAX).times(u64::MAX));
        assert_eq!(fired(&mut faults, "k", 2), [false, false]);
    }

    #[test]
    fn a_rule_reads_from_json_as_a_person_writes_it() {
        let text = r#"{"operation":"get_range","under":"maps/","times":2,"action":{"error":{"status":500,"code":"InternalError"}}}"#;
        let fault: Fault = serde_json::from_str(text).unwrap();
        let expected = Fault::new(Action::Error { status: 500, code: "InternalError".into() })
            .on(Operation::GetRange)
            .under("maps/")
            .times(2);
        assert_eq!(fault, expected);
        assert!(serde_json::from_str::<Fault>(r#"{"action":"reset","tims":1}"#).is_err());
    }
}
