//! What can be wrong with a configuration, in words that name place, key, value and what was expected.
//!
//! Faults are collected, never returned one by one: a person who made three mistakes is told of three.
//! No value that may be a secret is ever part of a fault.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::path::PathBuf;

use super::source::Origin;
use crate::error::{Advise, Exit};

/// What a parser wanted to see instead of the text it was given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {0}")]
pub struct Expected(pub Cow<'static, str>);

impl Expected {
    /// The end of a sentence that starts with "expected".
    pub const fn fixed(what: &'static str) -> Expected {
        Expected(Cow::Borrowed(what))
    }
}

impl From<String> for Expected {
    fn from(what: String) -> Expected {
        Expected(Cow::Owned(what))
    }
}

/// One thing wrong with one setting: `/etc/mapkeeper/config.toml:12: mount[0].uid = "x": expected ...`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where the setting, or the section that lacks it, was written.
    pub origin: Option<Origin>,
    /// The path of the setting; empty when the fault is about the configuration as a whole.
    pub key: String,
    /// The value as it was written, without secrets.
    pub found: Option<String>,
    /// What is wrong.
    pub problem: Problem,
}

impl Fault {
    /// What is wrong where no value is to be shown.
    pub fn new(origin: Option<Origin>, key: impl Into<String>, problem: Problem) -> Fault {
        Fault { origin, key: key.into(), found: None, problem }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            // What stands on the command line names its setting itself.
            Some(origin @ Origin::Option { .. }) => return write!(out, "{origin}: {}", self.problem),
            Some(origin @ Origin::Argument { .. }) => {
                let found = self.found.as_deref().unwrap_or_default();
                return write!(out, "{origin} {found}: {}", self.problem);
            }
            Some(origin) => write!(out, "{origin}: ")?,
            None => {}
        }
        out.write_str(&self.key)?;
        if let Some(found) = &self.found {
            write!(out, " = {found}")?;
        }
        if !self.key.is_empty() {
            out.write_str(": ")?;
        }
        write!(out, "{}", self.problem)
    }
}

/// What is wrong with a setting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("unknown key{}", did_you_mean(.suggestion))]
    UnknownKey { suggestion: Option<String> },
    #[error("unknown variable{}", did_you_mean(.suggestion))]
    UnknownVariable { suggestion: Option<String> },
    #[error("unknown option{}", did_you_mean(.suggestion))]
    UnknownOption { suggestion: Option<String> },
    #[error("not supported: {reason}")]
    Unsupported { reason: &'static str },
    #[error("missing, expected {expected}")]
    Missing { expected: Cow<'static, str> },
    #[error(transparent)]
    Value(#[from] Expected),
    #[error("not UTF-8 text")]
    NotText,
    #[error("a list without a gap was expected: the next entry is number {next}")]
    Gap { next: usize },
    #[error("no mount is configured, expected at least one [[mount]] with a source and a path")]
    NoMount,
    #[error("already {what} of {other}")]
    Taken { what: &'static str, other: String },
    #[error("lies below the mount point of {other}, and a mount cannot hold another")]
    Nested { other: String },
    #[error("host port {port} is already claimed by {other}")]
    PortTaken { port: String, other: String },
    #[error("container path {target} is already the target of {other}")]
    TargetTaken { target: String, other: String },
    #[error("both `secret` and `role` are given, expected at most one")]
    SecretAndRole,
    #[error("nothing is there in Parameter Store, the path is perhaps misspelt")]
    NoParameters,
    #[error(
        "the tags of this instance cannot be read: allow ec2:DescribeTags, or offer them in the instance metadata"
    )]
    TagsUnread,
    #[error(
        "the tags of this instance cannot be asked, what was last known of them stays in force: {reason}"
    )]
    TagsUnasked { reason: String },
    #[error(
        "no tag may set this, because whoever may write tags would decide what this host runs or reaches"
    )]
    NotByTag,
    #[error("both `name` and `match` are given, expected exactly one")]
    NameAndMatch,
    #[error("neither `name` nor `match` is given, expected exactly one")]
    NoSelector,
    #[error("`match` is empty, expected a `label`, an `image` or both")]
    EmptyMatch,
    #[error("mapkeeper creates this container, so it needs a `name` and cannot use `match`")]
    OwnedNeedsName,
    #[error("mapkeeper creates this container, so it needs an `image`")]
    OwnedNeedsImage,
    #[error("longer than the interval of {interval}, so questions would pile up")]
    TimeoutAboveInterval { interval: String },
    #[error("port {port} is not among the host ports of the container ({ports})")]
    ProbeElsewhere { port: u16, ports: String },
}

fn did_you_mean(suggestion: &Option<String>) -> String {
    suggestion.as_ref().map_or_else(String::new, |name| format!(", did you mean `{name}`?"))
}

/// Everything that is wrong, in the order of the configuration; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Faults {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => write!(out, "1 fault")?,
            count => write!(out, "{count} faults")?,
        }
        self.0.iter().try_for_each(|fault| write!(out, "\n  {fault}"))
    }
}

/// A place where a file is not TOML.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntaxFault {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// The line itself; `None` when it may hold a secret.
    pub text: Option<String>,
    /// What the parser says.
    pub message: String,
}

impl fmt::Display for SyntaxFault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "line {}, column {}: {}", self.line, self.column, self.message)?;
        if let Some(text) = &self.text {
            let margin = self.line.to_string();
            let indent = " ".repeat(margin.len() + 3 + self.column - 1);
            write!(out, "\n    {margin} | {text}\n    {indent}^")?;
        }
        Ok(())
    }
}

/// Why there is no configuration to run with.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("configuration file {path:?} does not exist")]
    Absent { path: PathBuf },
    #[error("cannot read configuration file {path:?}")]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("configuration file {path:?} has more than {limit} bytes")]
    TooLarge { path: PathBuf, limit: u64 },
    #[error("configuration file {path:?} is not UTF-8 text: byte {offset} does not belong to a character")]
    NotText { path: PathBuf, offset: usize },
    #[error("configuration file {path:?} is not valid TOML{}", listed(.faults))]
    Syntax { path: PathBuf, faults: Vec<SyntaxFault> },
    #[error("the configuration has {0}")]
    Faults(Faults),
    #[error("the mount options have {0}")]
    Options(Faults),
    #[error("cannot read the parameters below {path:?}: {reason}")]
    Parameters { path: String, reason: String },
    #[error("access to the parameters below {path:?} is denied")]
    ParametersDenied { path: String },
}

fn listed(faults: &[SyntaxFault]) -> String {
    faults.iter().map(|fault| format!("\n  {fault}")).collect()
}

impl Advise for ConfigError {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            ConfigError::Absent { path } => {
                format!("create {path:?}, or name another file with --config FILE or MAPKEEPER_CONFIG")
            }
            ConfigError::Unreadable { .. } => {
                "run as root, or name another file with --config FILE or MAPKEEPER_CONFIG".to_owned()
            }
            ConfigError::TooLarge { .. } | ConfigError::NotText { .. } => {
                "a configuration is a small TOML file: is this the right one?".to_owned()
            }
            ConfigError::Syntax { .. } => {
                "texts stand in double quotes and tables in square brackets, as in docs/configuration.md"
                    .to_owned()
            }
            ConfigError::Faults(_) => {
                "`mapkeeper config check` repeats this check and starts nothing".to_owned()
            }
            ConfigError::Options(_) => "`mapkeeper mount --help` lists the options".to_owned(),
            ConfigError::Parameters { .. } => {
                "check `region`, and that this host reaches the service: route, endpoint, proxy, clock"
                    .to_owned()
            }
            ConfigError::ParametersDenied { path } => format!(
                "allow ssm:GetParametersByPath on arn:aws:ssm:REGION:ACCOUNT:parameter{path}, and kms:Decrypt on the \
                 key of its secure parameters"
            ),
        };
        Some(hint)
    }

    fn exit(&self) -> Exit {
        match self {
            // It gets better by itself, or by somebody else's hand: worth another start.
            ConfigError::Parameters { .. } => Exit::Degraded,
            ConfigError::ParametersDenied { .. } => Exit::CredentialsRefused,
            _ => Exit::Usage,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Those that no test of a configuration meets.
    #[test]
    fn every_other_problem_says_what_is_wrong_in_one_sentence() {
        for (problem, expected) in [
            (Problem::SecretAndRole, "both `secret` and `role` are given, expected at most one"),
            (Problem::NoParameters, "nothing is there in Parameter Store, the path is perhaps misspelt"),
            (
                Problem::TagsUnread,
                "the tags of this instance cannot be read: allow ec2:DescribeTags, or offer them in the instance \
                 metadata",
            ),
            (
                Problem::TagsUnasked { reason: "no route".into() },
                "the tags of this instance cannot be asked, what was last known of them stays in force: no route",
            ),
        ] {
            assert_eq!(problem.to_string(), expected);
        }
    }

    #[test]
    fn a_fault_names_place_key_value_and_expectation() {
        let fault = Fault {
            origin: Some(Origin::File { path: "/etc/mapkeeper/config.toml".into(), line: Some(12) }),
            key: "mount[0].uid".into(),
            found: Some("\"x\"".into()),
            problem: Expected::fixed("a user number").into(),
        };
        let expected = "/etc/mapkeeper/config.toml:12: mount[0].uid = \"x\": expected a user number";
        assert_eq!(fault.to_string(), expected);
        let whole = Fault { origin: None, key: String::new(), found: None, problem: Problem::NotText };
        assert_eq!(whole.to_string(), "not UTF-8 text");
        assert_eq!(Faults(vec![whole.clone()]).to_string(), "1 fault\n  not UTF-8 text");
        let option = Fault { origin: Some(Origin::Option { text: "uid=x".into() }), ..fault };
        assert_eq!(option.to_string(), "-o uid=x: expected a user number");
        let argument = Fault { origin: Some(Origin::Argument { name: "SOURCE" }), ..option.clone() };
        assert_eq!(argument.to_string(), "SOURCE \"x\": expected a user number");
        let two = Faults(vec![whole, option]).to_string();
        assert_eq!(two, "2 faults\n  not UTF-8 text\n  -o uid=x: expected a user number");
    }

    #[test]
    fn a_source_that_cannot_be_read_is_worth_another_start() {
        let cases = [
            (
                ConfigError::Parameters { path: "/maps".into(), reason: "no route".into() },
                "cannot read the parameters below \"/maps\": no route",
                Exit::Degraded,
            ),
            (
                ConfigError::ParametersDenied { path: "/maps".into() },
                "access to the parameters below \"/maps\" is denied",
                Exit::CredentialsRefused,
            ),
        ];
        for (error, text, exit) in cases {
            assert_eq!(error.to_string(), text);
            assert_eq!(error.exit(), exit);
            assert!(error.hint().is_some());
        }
    }

    /// Those that no test of a command meets.
    #[test]
    fn every_other_configuration_error_has_its_text_and_its_cure() {
        let path = || PathBuf::from("/etc/m.toml");
        let source = io::Error::other("x");
        let small = "a configuration is a small TOML file: is this the right one?";
        for (error, text, hint) in [
            (
                ConfigError::Unreadable { path: path(), source },
                r#"cannot read configuration file "/etc/m.toml""#,
                "run as root, or name another file with --config FILE or MAPKEEPER_CONFIG",
            ),
            (
                ConfigError::TooLarge { path: path(), limit: 10 },
                r#"configuration file "/etc/m.toml" has more than 10 bytes"#,
                small,
            ),
            (
                ConfigError::NotText { path: path(), offset: 7 },
                r#"configuration file "/etc/m.toml" is not UTF-8 text: byte 7 does not belong to a character"#,
                small,
            ),
            (
                ConfigError::Syntax { path: path(), faults: Vec::new() },
                r#"configuration file "/etc/m.toml" is not valid TOML"#,
                "texts stand in double quotes and tables in square brackets, as in docs/configuration.md",
            ),
        ] {
            assert_eq!((error.to_string().as_str(), error.hint().as_deref()), (text, Some(hint)));
            assert_eq!(error.exit(), Exit::Usage);
        }
    }
}
