//! Ceph's RADOS Gateway, started for one test by `tests/support/rgw`: an S3 server that nobody here wrote.
//!
//! What must hold: it ends with the test, however that ends: the script waits for the end of its standard input.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

pub struct Rgw {
    pub url: String,
    script: Child,
    input: Option<ChildStdin>,
    _directory: tempfile::TempDir,
}

impl Rgw {
    /// Serving, with one user.
    pub fn start(key: &str, secret: &str) -> Rgw {
        let directory = tempfile::tempdir().expect("a directory");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/rgw");
        let mut script = Command::new(script)
            .arg(directory.path())
            .args([key, secret])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("bash");
        let input = script.stdin.take();
        let mut url = String::new();
        let said = script.stdout.take().expect("piped");
        BufReader::new(said).read_line(&mut url).expect("text");
        let log = std::fs::read_to_string(directory.path().join("log/out")).unwrap_or_default();
        assert!(url.starts_with("http://"), "Ceph's gateway does not start (scripts/install test?): {log}");
        Rgw { url: url.trim().to_owned(), script, input, _directory: directory }
    }
}

impl Drop for Rgw {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.script.wait();
    }
}
