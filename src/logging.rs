//! Where log lines go and which of them.
//!
//! To the journal when standard error is connected to it (fields stay fields), else to standard error as
//! lines for people; what prepares a host at boot, where cloud-init has standard error, is in the journal as well. `MAPKEEPER_LOG` says which: a level (`error`, `warn`, `info`, `debug`, `trace`) for
//! mapkeeper itself while its libraries stay at `warn`, or a list of directives such as
//! `info,bucketfs=debug`.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{EnvFilter, filter_fn};
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

/// The variable that says what is logged.
pub const VARIABLE: &str = "MAPKEEPER_LOG";

/// Of what is for the journal only, because standard error says it in another form.
pub const JOURNAL: &str = "mapkeeper::journal";

/// Where lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    /// The journal if standard error is that, else standard error.
    StandardError,
    /// The journal too, where there is one.
    Both,
}

/// Starts logging. A second call changes nothing.
pub fn start(to: To) {
    let wanted = std::env::var(VARIABLE).unwrap_or_default();
    let (filter, refused) = match filter(&wanted) {
        Some(filter) => (filter, false),
        None => (filter("info").expect("a level that exists"), true),
    };
    let started = Registry::default().with(filter).with(destination(to)).try_init();
    if refused && started.is_ok() {
        tracing::warn!(value = %wanted, "MAPKEEPER_LOG is no level and no list of directives, info is used");
    }
}

fn filter(wanted: &str) -> Option<EnvFilter> {
    let wanted = if wanted.is_empty() { "info" } else { wanted };
    if let Ok(level) = wanted.parse::<LevelFilter>() {
        return EnvFilter::try_new(format!("warn,mapkeeper={level}")).ok();
    }
    EnvFilter::try_new(wanted).ok().filter(|_| wanted.contains(['=', ',']))
}

fn destination<S>(to: To) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let stream = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    if is_journal(&stream, io::stderr())
        && let Ok(journal) = tracing_journald::layer()
    {
        return for_journal(journal).boxed();
    }
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let color = io::stderr().is_terminal() && !no_color;
    let lines = tracing_subscriber::fmt::layer()
        .fmt_fields(for_people())
        .with_writer(io::stderr)
        .with_ansi(color)
        .with_target(false)
        .with_timer(Seconds)
        .with_filter(filter_fn(|metadata| metadata.target() != JOURNAL));
    match tracing_journald::layer() {
        Ok(journal) if to == To::Both => lines.and_then(for_journal(journal)).boxed(),
        _ => lines.boxed(),
    }
}

/// Fields keep their own names, in capitals: only so does `MESSAGE_ID` mean to the journal what it should.
fn for_journal(journal: tracing_journald::Layer) -> tracing_journald::Layer {
    journal.with_syslog_identifier("mapkeeper".to_owned()).with_field_prefix(None)
}

/// Fields as people read them: the message, then `name=value`. A record's id is for programs.
fn for_people() -> impl for<'writer> FormatFields<'writer> {
    debug_fn(|writer, field, value| match field.name() {
        "message" => write!(writer, "{value:?} "),
        "message_id" => Ok(()),
        name => write!(writer, "{name}={value:?} "),
    })
}

/// Whether `file` is the stream that `JOURNAL_STREAM` names by device and inode.
fn is_journal(stream: &str, file: impl AsFd) -> bool {
    let named =
        stream.split_once(':').and_then(|(device, inode)| Some((device.parse().ok()?, inode.parse().ok()?)));
    let metadata = file.as_fd().try_clone_to_owned().and_then(|file| File::from(file).metadata());
    matches!((named, metadata), (Some(named), Ok(found)) if named == (found.dev(), found.ino()))
}

/// Time of day to the second, in UTC: `2026-01-02T03:04:05Z`.
struct Seconds;

impl FormatTime for Seconds {
    fn format_time(&self, out: &mut Writer<'_>) -> std::fmt::Result {
        let now = OffsetDateTime::now_utc().replace_nanosecond(0).map_err(|_| std::fmt::Error)?;
        out.write_str(&now.format(&Rfc3339).map_err(|_| std::fmt::Error)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_for_mapkeeper_and_not_for_its_libraries() {
        assert_eq!(filter("").map(|f| f.to_string()).as_deref(), Some("mapkeeper=info,warn"));
        assert_eq!(filter("debug").map(|f| f.to_string()).as_deref(), Some("mapkeeper=debug,warn"));
        let directives = filter("info,bucketfs=trace").map(|f| f.to_string());
        assert_eq!(directives.as_deref(), Some("bucketfs=trace,info"));
    }

    #[test]
    fn what_is_no_level_is_refused() {
        for text in ["loud", "mapkeeper=loud", "a=b=c"] {
            assert!(filter(text).is_none(), "{text}");
        }
    }

    #[test]
    fn the_journal_is_recognised_by_device_and_inode() {
        let file = tempfile::tempfile().expect("a temporary file");
        let metadata = file.metadata().expect("metadata");
        let (device, inode) = (metadata.dev(), metadata.ino());
        assert!(is_journal(&format!("{device}:{inode}"), &file));
        assert!(!is_journal(&format!("{device}:{}", inode + 1), &file));
        for text in ["", "x", "1:", ":", "-1:2", "99999999999999999999:1"] {
            assert!(!is_journal(text, &file), "{text}");
        }
    }
}
