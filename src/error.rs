//! What every part says when something is wrong: the chain of causes, the cure, the exit code.
//!
//! A person meets an error as two lines on standard error, `mapkeeper: <one sentence, the chain>` and
//! `hint: <the cure>`, and a script meets it as an exit code. Each module has an error type of its
//! own; those that can end a command implement [`Advise`]. An exit code, once released, keeps its
//! number and its meaning.

use std::error::Error;
use std::fmt;
use std::process::ExitCode;

/// Shows an error with everything that caused it: `outer: inner: root`.
///
/// Errors here say only what their own layer adds, so the chain is printed once, where the error is
/// handled.
pub struct Chain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(out, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl fmt::Debug for Chain<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

/// How the process ended, for scripts and for systemd. The numbers are a contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Exit {
    /// Everything asked for was done; `status`: every link is healthy.
    Success = 0,
    /// `status`: at least one link is degraded or being repaired; any other command: it failed, for a
    /// reason that has no number of its own.
    Degraded = 1,
    /// `status`: no agent is running, or its report is too old to be believed.
    NotRunning = 2,
    /// `/dev/fuse` is absent or cannot be opened.
    NoFuse = 10,
    /// The bucket does not exist, or is in another account and hidden from us.
    BucketMissing = 11,
    /// There are no credentials, or S3 or Secrets Manager refused them.
    CredentialsRefused = 12,
    /// The mount point is absent, is not a directory, or is not empty.
    MountPointUnusable = 13,
    /// Something is already mounted at the mount point.
    AlreadyMounted = 14,
    /// Docker does not answer on its socket.
    DockerUnreachable = 15,
    /// A port that a container or a listener needs is in use.
    PortTaken = 16,
    /// S3 could not be asked: name resolution, connection, TLS or timeout.
    S3Unreachable = 17,
    /// The container's image is not on this host and cannot be pulled.
    ImageMissing = 18,
    /// The command needs root.
    NotRoot = 19,
    /// Another agent holds the runtime directory.
    AlreadyRunning = 20,
    /// What was waited for did not happen in time.
    TimedOut = 21,
    /// The command line or the configuration is wrong; nothing was started.
    Usage = 64,
}

impl Exit {
    /// The code that has this number.
    pub fn of(number: u8) -> Option<Exit> {
        use Exit::*;
        let all = [
            Success,
            Degraded,
            NotRunning,
            NoFuse,
            BucketMissing,
            CredentialsRefused,
            MountPointUnusable,
            AlreadyMounted,
            DockerUnreachable,
            PortTaken,
            S3Unreachable,
            ImageMissing,
            NotRoot,
            AlreadyRunning,
            TimedOut,
            Usage,
        ];
        all.into_iter().find(|exit| exit.code() == number)
    }

    /// The number that the shell sees.
    pub fn code(self) -> u8 {
        self as u8
    }
}

impl From<()> for Exit {
    fn from((): ()) -> Exit {
        Exit::Success
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

/// An error that a person meets: it knows its cure and its exit code.
pub trait Advise: Error {
    /// The cure, one sentence without full stop, for the `hint:` line; `None` where there is nothing
    /// better to say than the error itself.
    fn hint(&self) -> Option<String>;

    /// The code that the process ends with when nobody handles the error.
    fn exit(&self) -> Exit;
}

/// Why a command ended before its end: any error that a person meets.
#[derive(Debug)]
pub struct Failed(pub Box<dyn Advise>);

impl<E: Advise + 'static> From<E> for Failed {
    fn from(error: E) -> Failed {
        Failed(Box::new(error))
    }
}

/// What to do where an error knows no cure of its own.
const OTHERWISE: &str = "mapkeeper doctor looks at everything that it may be, and changes nothing";

/// The lines that a person sees for `error`: `mapkeeper: ...`, and what to do: `hint: ...`.
pub fn report(error: &(dyn Advise + 'static)) -> String {
    let hint = error.hint().unwrap_or_else(|| OTHERWISE.to_owned());
    format!("mapkeeper: {}\nhint: {hint}\n", Chain(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read {path:?}")]
    struct Outer {
        path: &'static str,
        source: std::io::Error,
    }

    impl Advise for Outer {
        fn hint(&self) -> Option<String> {
            (!self.path.is_empty()).then(|| format!("create {}", self.path))
        }

        fn exit(&self) -> Exit {
            Exit::Usage
        }
    }

    fn outer(path: &'static str) -> Outer {
        Outer { path, source: std::io::Error::other("the disk is on fire") }
    }

    #[test]
    fn a_chain_names_every_cause_from_the_outside_in() {
        assert_eq!(Chain(&outer("/a")).to_string(), r#"cannot read "/a": the disk is on fire"#);
        assert_eq!(format!("{:?}", Chain(&outer("/a"))), r#"cannot read "/a": the disk is on fire"#);
    }

    #[test]
    fn a_report_is_one_sentence_and_a_hint_on_a_line_of_its_own() {
        let expected = "mapkeeper: cannot read \"/a\": the disk is on fire\nhint: create /a\n";
        assert_eq!(report(&outer("/a")), expected);
    }

    #[test]
    fn a_report_without_a_cure_says_who_looks_for_one() {
        let expected = "mapkeeper: cannot read \"\": the disk is on fire\nhint: mapkeeper doctor looks at ";
        assert!(report(&outer("")).starts_with(expected), "{}", report(&outer("")));
    }

    #[test]
    fn the_exit_codes_keep_their_numbers() {
        let codes = [
            (Exit::Success, 0),
            (Exit::Degraded, 1),
            (Exit::NotRunning, 2),
            (Exit::NoFuse, 10),
            (Exit::BucketMissing, 11),
            (Exit::CredentialsRefused, 12),
            (Exit::MountPointUnusable, 13),
            (Exit::AlreadyMounted, 14),
            (Exit::DockerUnreachable, 15),
            (Exit::PortTaken, 16),
            (Exit::S3Unreachable, 17),
            (Exit::ImageMissing, 18),
            (Exit::NotRoot, 19),
            (Exit::AlreadyRunning, 20),
            (Exit::TimedOut, 21),
            (Exit::Usage, 64),
        ];
        for (exit, code) in codes {
            assert_eq!(exit.code(), code, "{exit:?}");
            assert_eq!(Exit::of(code), Some(exit));
        }
    }
}
