//! The password file of s3fs, by its own rules.
//!
//! A line is `ACCESS_KEY_ID:SECRET`, `bucket:ACCESS_KEY_ID:SECRET`, or one of `AWSAccessKeyId=...` and
//! `AWSSecretKey=...`; empty lines and lines that start with `#` say nothing. A pair of the last kind
//! wins over everything; then the bucket's own entry over the one for all buckets. As s3fs does, a file
//! that others may read is refused, and so is one with spaces or an ini section in it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::keys::{KeyPair, Secret};
use crate::error::{Advise, Exit};

/// The one file whose group may read it.
const SYSTEM_FILE: &str = "/etc/passwd-s3fs";

/// Largest file that is taken for a password file.
const LIMIT_BYTES: u64 = 1 << 20;

/// Why a password file gives no credentials. No error holds a value of the file.
#[derive(Debug, thiserror::Error)]
pub enum PasswdError {
    #[error("cannot read password file {path:?}")]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("password file {path:?} is no regular file of at most 1 MiB")]
    NoFile { path: PathBuf },
    #[error("password file {path:?} has mode {mode:04o}, expected no permission for {whom}")]
    Open { path: PathBuf, mode: u32, whom: &'static str },
    #[error("password file {path:?}, line {line}: {problem}")]
    Line { path: PathBuf, line: usize, problem: &'static str },
    #[error(
        "password file {path:?}, line {line}: second entry for the same bucket, the first is on line {first}"
    )]
    Twice { path: PathBuf, line: usize, first: usize },
    #[error("password file {path:?} has only one of AWSAccessKeyId and AWSSecretKey, expected both")]
    Half { path: PathBuf },
    #[error("password file {path:?} has no entry for bucket {bucket:?} and none for all buckets")]
    NoEntry { path: PathBuf, bucket: String },
}

impl Advise for PasswdError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            PasswdError::Unreadable { path, .. } => {
                format!("check that {path:?} exists and that root can read it")
            }
            PasswdError::NoFile { path } => {
                format!("name a file of ACCESS_KEY_ID:SECRET instead of {path:?}")
            }
            PasswdError::Open { path, .. } => format!("chmod 600 {}", path.display()),
            PasswdError::Line { .. } | PasswdError::Twice { .. } | PasswdError::Half { .. } => {
                "a line is ACCESS_KEY_ID:SECRET or bucket:ACCESS_KEY_ID:SECRET, without spaces".to_owned()
            }
            PasswdError::NoEntry { bucket, .. } => format!("add a line {bucket}:ACCESS_KEY_ID:SECRET"),
        })
    }

    fn exit(&self) -> Exit {
        Exit::CredentialsRefused
    }
}

/// The keys that the file at `path` has for `bucket`.
pub(super) fn read(path: &Path, bucket: &str) -> Result<KeyPair, PasswdError> {
    let unreadable = |source| PasswdError::Unreadable { path: path.to_owned(), source };
    let file = File::open(path).map_err(unreadable)?;
    // Of the open file, so that what is checked is what is read.
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() || metadata.len() > LIMIT_BYTES {
        return Err(PasswdError::NoFile { path: path.to_owned() });
    }
    private(path, metadata.mode())?;
    let mut text = Secret::new(String::new());
    file.take(LIMIT_BYTES).read_to_string(&mut text.0).map_err(unreadable)?;
    parse(path, text.expose(), bucket)
}

/// Refuses a file that anybody but its owner may use, and one that could be started.
fn private(path: &Path, mode: u32) -> Result<(), PasswdError> {
    let group = if path == Path::new(SYSTEM_FILE) { 0o020 } else { 0o070 };
    let whom = match mode {
        mode if mode & 0o007 != 0 => "others",
        mode if mode & group & 0o060 != 0 => "its group",
        mode if mode & 0o110 != 0 => "anybody to execute it",
        _ => return Ok(()),
    };
    Err(PasswdError::Open { path: path.to_owned(), mode: mode & 0o7777, whom })
}

/// An entry: the line it stands on, and the two keys.
struct Entry<'a> {
    line: usize,
    id: &'a str,
    secret: &'a str,
}

fn parse(path: &Path, text: &str, bucket: &str) -> Result<KeyPair, PasswdError> {
    let wrong = |line, problem| PasswdError::Line { path: path.to_owned(), line, problem };
    let mut named = BTreeMap::new();
    // By bucket; the empty name is the entry for all buckets.
    let mut entries: BTreeMap<&str, Entry<'_>> = BTreeMap::new();
    for (line, text) in (1..).zip(text.lines()).map(|(line, text)| (line, text.trim())) {
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        if text.contains([' ', '\t']) {
            return Err(wrong(line, "a space or tab, expected ACCESS_KEY_ID:SECRET"));
        }
        if text.starts_with('[') {
            return Err(wrong(line, "a bracket at the start, expected no ini section"));
        }
        if let Some((name, value)) = text.split_once('=') {
            named.entry(name).or_insert(value);
        }
        let Some((first, rest)) = text.split_once(':') else { continue };
        let (name, id, secret) = match rest.rsplit_once(':') {
            Some((id, secret)) => (first, id, secret),
            None => ("", first, rest),
        };
        if let Some(known) = entries.get(name) {
            return Err(PasswdError::Twice { path: path.to_owned(), line, first: known.line });
        }
        entries.insert(name, Entry { line, id, secret });
    }
    let keys = |id: &str, secret: &str| KeyPair {
        access_key_id: Secret::new(id.to_owned()),
        secret_access_key: Secret::new(secret.to_owned()),
        session_token: None,
    };
    match (named.get("AWSAccessKeyId"), named.get("AWSSecretKey")) {
        (Some(id), Some(secret)) if !id.is_empty() && !secret.is_empty() => return Ok(keys(id, secret)),
        (None, None) => {}
        _ => return Err(PasswdError::Half { path: path.to_owned() }),
    }
    let entry = entries.get(bucket).or_else(|| entries.get(""));
    let entry =
        entry.ok_or_else(|| PasswdError::NoEntry { path: path.to_owned(), bucket: bucket.to_owned() })?;
    if entry.id.is_empty() || entry.secret.is_empty() {
        return Err(wrong(entry.line, "an empty key, expected ACCESS_KEY_ID:SECRET"));
    }
    Ok(keys(entry.id, entry.secret))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use proptest::prelude::*;

    use super::*;

    fn found(text: &str) -> Result<(String, String), String> {
        let keys = parse(Path::new("/p"), text, "maps").map_err(|error| error.to_string())?;
        Ok((keys.access_key_id.expose().clone(), keys.secret_access_key.expose().clone()))
    }

    fn pair(id: &str, secret: &str) -> Result<(String, String), String> {
        Ok((id.to_owned(), secret.to_owned()))
    }

    #[test]
    fn every_form_of_entry_is_read() {
        assert_eq!(found("AK:SK\n"), pair("AK", "SK"));
        assert_eq!(found("# old\n\n  AK:SK  \n"), pair("AK", "SK"));
        assert_eq!(found("maps:AK:SK"), pair("AK", "SK"));
        assert_eq!(found("AWSAccessKeyId=AK\nAWSSecretKey=S=K"), pair("AK", "S=K"));
        assert_eq!(found("AK:with=sign"), pair("AK", "with=sign"));
    }

    #[test]
    fn the_entry_of_the_bucket_wins_over_the_one_for_all() {
        assert_eq!(found("A1:S1\nmaps:A2:S2\nother:A3:S3"), pair("A2", "S2"));
        assert_eq!(found("other:A3:S3\nA1:S1"), pair("A1", "S1"));
        assert_eq!(found("maps:A2:S2\nAWSAccessKeyId=A4\nAWSSecretKey=S4"), pair("A4", "S4"));
    }

    #[test]
    fn a_fault_names_file_and_line_and_no_key() {
        for (text, message) in [
            (
                "AK:hunter2\nA B",
                r#"password file "/p", line 2: a space or tab, expected ACCESS_KEY_ID:SECRET"#,
            ),
            ("[hunter2]", r#"password file "/p", line 1: a bracket at the start, expected no ini section"#),
            (
                "maps:A:hunter2\n#\nmaps:B:hunter2",
                r#"password file "/p", line 3: second entry for the same bucket, the first is on line 1"#,
            ),
            (
                "AWSSecretKey=hunter2",
                r#"password file "/p" has only one of AWSAccessKeyId and AWSSecretKey, expected both"#,
            ),
            (":hunter2", r#"password file "/p", line 1: an empty key, expected ACCESS_KEY_ID:SECRET"#),
            (
                "other:A:hunter2",
                r#"password file "/p" has no entry for bucket "maps" and none for all buckets"#,
            ),
            ("", r#"password file "/p" has no entry for bucket "maps" and none for all buckets"#),
        ] {
            assert_eq!(found(text), Err(message.to_owned()), "{text}");
        }
    }

    #[test]
    fn a_file_that_others_can_use_is_refused() {
        let check = |path: &str, mode| private(Path::new(path), mode).map_err(|error| error.to_string());
        let refused = |mode: &str, whom: &str| {
            Err(format!("password file \"/p\" has mode {mode}, expected no permission for {whom}"))
        };
        assert_eq!(check("/p", 0o100600), Ok(()));
        assert_eq!(check("/p", 0o400), Ok(()));
        assert_eq!(check("/p", 0o604), refused("0604", "others"));
        assert_eq!(check("/p", 0o640), refused("0640", "its group"));
        assert_eq!(check("/p", 0o620), refused("0620", "its group"));
        assert_eq!(check("/p", 0o700), refused("0700", "anybody to execute it"));
        assert_eq!(check("/p", 0o610), refused("0610", "anybody to execute it"));
        assert_eq!(check(SYSTEM_FILE, 0o640), Ok(()));
        assert!(check(SYSTEM_FILE, 0o660).is_err());
        assert!(check(SYSTEM_FILE, 0o644).is_err());
        assert!(check(SYSTEM_FILE, 0o650).is_err());
    }

    #[test]
    fn a_file_is_read_from_disk_and_every_error_has_a_cure() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("passwd");
        std::fs::write(&path, "AK:SK").expect("writes");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).expect("chmod");
        let open = read(&path, "maps").expect_err("open to others");
        assert_eq!(open.hint(), Some(format!("chmod 600 {}", path.display())));
        assert_eq!(open.exit(), Exit::CredentialsRefused);
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("chmod");
        assert_eq!(read(&path, "maps").expect("reads").access_key_id.expose(), "AK");

        let is_directory = read(directory.path(), "maps").expect_err("no file");
        let text = format!("password file {:?} is no regular file of at most 1 MiB", directory.path());
        assert_eq!(is_directory.to_string(), text);
        let hint = format!("name a file of ACCESS_KEY_ID:SECRET instead of {:?}", directory.path());
        assert_eq!(is_directory.hint(), Some(hint));

        let absent = directory.path().join("absent");
        let error = read(&absent, "maps").expect_err("absent");
        assert_eq!(error.to_string(), format!("cannot read password file {absent:?}"));
        assert_eq!(error.hint(), Some(format!("check that {absent:?} exists and that root can read it")));

        let hint = |text| parse(&path, text, "maps").expect_err(text).hint();
        let form = "a line is ACCESS_KEY_ID:SECRET or bucket:ACCESS_KEY_ID:SECRET, without spaces";
        assert_eq!(hint("A B").as_deref(), Some(form));
        assert_eq!(hint("").as_deref(), Some("add a line maps:ACCESS_KEY_ID:SECRET"));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in any::<String>(), mode in any::<u32>(), number in any::<u64>()) {
            let _ = (found(&text), found(&format!("{number}:{text}:{number}")), private(Path::new("/p"), mode));
        }

        #[test]
        fn every_entry_reads_back(id in "[A-Z0-9]{1,20}", secret in "[A-Za-z0-9/+=]{1,40}") {
            prop_assert_eq!(found(&format!("maps:{id}:{secret}")), Ok((id, secret)));
        }
    }
}
