//! Where a value was written, as messages tell it.

use std::fmt;
use std::path::PathBuf;

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nowhere: it is the default.
    Default,
    /// In a file, on this line, counted from 1.
    File { path: PathBuf, line: Option<usize> },
    /// In a parameter of Parameter Store; what was encrypted there is never shown.
    Parameter { name: String, secure: bool },
    /// In a tag of the instance.
    Tag { name: String },
    /// In an environment variable of mapkeeper.
    Environment { variable: String },
    /// In `--set`, by the name given there.
    Flag { name: String },
    /// In `-o`: the option as it was written, without secrets.
    Option { text: String },
    /// In an argument of the command line, by its name in the usage.
    Argument { name: &'static str },
    /// Where a process before said, in its words.
    Before { text: String, secure: bool },
}

impl fmt::Display for Origin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => out.write_str("default"),
            Origin::File { path, line: Some(line) } => write!(out, "{}:{line}", path.display()),
            Origin::File { path, line: None } => write!(out, "{}", path.display()),
            Origin::Parameter { name, secure: false } => write!(out, "parameter {name}"),
            Origin::Parameter { name, secure: true } => write!(out, "secure parameter {name}"),
            Origin::Tag { name } => write!(out, "tag {name}"),
            Origin::Flag { name } => write!(out, "--set {name}"),
            Origin::Environment { variable } => write!(out, "environment {variable}"),
            Origin::Option { text } => write!(out, "-o {text}"),
            Origin::Argument { name } => out.write_str(name),
            Origin::Before { text, .. } => out.write_str(text),
        }
    }
}

impl Origin {
    /// Whether the value was encrypted where it was written.
    pub fn is_secure(&self) -> bool {
        matches!(self, Origin::Parameter { secure: true, .. } | Origin::Before { secure: true, .. })
    }
}
