//! Taking secrets out of text: those that are known by value, and whatever looks like one.
//!
//! What must hold: rather one word too many is gone than one too few; a text without secrets stays as it is.

use regex_lite::{Captures, Regex};

use crate::config::{REDACTED, names_a_secret};

/// Shorter values are no secrets, and would tear holes into everything.
const SHORTEST: usize = 6;

/// What is taken out of every file of a bundle.
#[derive(Debug)]
pub struct Redactor {
    /// Longest first: one may be a part of another.
    known: Vec<String>,
    patterns: Vec<(Regex, &'static str)>,
}

impl Redactor {
    /// Takes out each of `known`, and what looks like a key, a token or a password.
    pub fn new(known: impl IntoIterator<Item = String>) -> Redactor {
        let mut known: Vec<String> =
            known.into_iter().filter(|value| value.trim().len() >= SHORTEST).collect();
        known.sort_by_key(|value| std::cmp::Reverse(value.len()));
        known.dedup();
        let patterns = [
            // An AWS key id, and a secret key behind it as in ID:SECRET.
            (r"\b(AKIA|ASIA|AROA|AIDA)[A-Z0-9]{12,}\b(:[A-Za-z0-9/+=]{16,})?", "[redacted]"),
            (r"(?i)\b(bearer|basic|aws4-hmac-sha256)\s+[A-Za-z0-9._~+/=:,\- ]{8,}", "$1 [redacted]"),
            (r"([a-zA-Z][a-zA-Z0-9+.\-]*://)[^/\s:@]+:[^\s@]+@", "${1}[redacted]@"),
            (
                r#"(?i)([?&][a-z0-9_\-]*(?:signature|token|secret|password|key|credential)[a-z0-9_\-]*)=[^&\s"']+"#,
                "${1}=[redacted]",
            ),
            (r"(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|$)", "[redacted]"),
            (r"\beyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]*", "[redacted]"),
        ];
        let compiled = |(pattern, to)| (Regex::new(pattern).expect("a constant pattern"), to);
        Redactor { known, patterns: patterns.map(compiled).into() }
    }

    /// `text` without secrets.
    pub fn text(&self, text: &str) -> String {
        let mut clean = text.to_owned();
        for secret in &self.known {
            clean = clean.replace(secret.as_str(), REDACTED);
        }
        for (pattern, to) in &self.patterns {
            clean = pattern.replace_all(&clean, *to).into_owned();
        }
        assignments(&clean)
    }

    /// A JSON document without secrets: strings, and the values of members whose names say what they are.
    pub fn json(&self, value: &mut serde_json::Value) {
        match value {
            serde_json::Value::String(text) => *text = self.text(text),
            serde_json::Value::Array(items) => items.iter_mut().for_each(|item| self.json(item)),
            serde_json::Value::Object(members) => {
                for (name, member) in members.iter_mut() {
                    match member {
                        serde_json::Value::String(text) if is_secret(name) => *text = REDACTED.to_owned(),
                        member => self.json(member),
                    }
                }
            }
            _ => {}
        }
    }
}

/// `name=value`, `name: value` and `"name": "value"` whose name says that the value is a secret.
fn assignments(text: &str) -> String {
    let pattern = r#"(?P<name>[A-Za-z][A-Za-z0-9_.\-]*)(?P<sign>["']?\s*(=>|=|:)\s*)(?P<value>"[^"\n]*"|'[^'\n]*'|[^\s,;&"'\]}]+)"#;
    let pattern = Regex::new(pattern).expect("a constant pattern");
    let replaced = pattern.replace_all(text, |found: &Captures<'_>| {
        let (name, value) = (&found["name"], &found["value"]);
        if is_secret(name) && value.len() >= SHORTEST && !value.contains(REDACTED) {
            format!("{name}{}{REDACTED}", &found["sign"])
        } else {
            found[0].to_owned()
        }
    });
    replaced.into_owned()
}

/// Whether a name says that its value is a secret; names of our own settings and objects are none.
fn is_secret(name: &str) -> bool {
    let plain =
        ["key", "keys", "secret", "credentials", "token", "author", "MS_TEMPPATH", "idempotency_token"];
    names_a_secret(name) && !plain.contains(&name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn secrets_go_whatever_they_stand_in() {
        let redactor = Redactor::new(["a-known-secret".to_owned(), "x".to_owned()]);
        for text in [
            "before a-known-secret after",
            "AKIAABCDEFGHIJKLMNOP:hunter2hunter2hunter2",
            "PGPASSWORD=hunter2hunter2",
            "host=db user=gis password=hunter2hunter2 port=1",
            "{\"secret_access_key\": \"hunter2hunter2\"}",
            "aws_secret_access_key = 'hunter2hunter2'",
            "postgresql://gis:hunter2hunter2@db/maps",
            "https://x/y?X-Amz-Signature=hunter2hunter2&a=b",
            "Authorization: Bearer hunter2hunter2hunter2",
            "-----BEGIN RSA PRIVATE KEY-----\nhunter2hunter2\n-----END RSA PRIVATE KEY-----",
            "X-Amz-Security-Token: hunter2hunter2hunter2",
        ] {
            let clean = redactor.text(text);
            assert!(!clean.contains("hunter2") && !clean.contains("a-known"), "{clean}");
            assert!(clean.contains(REDACTED), "{clean}");
        }
    }

    #[test]
    fn what_is_no_secret_stays() {
        let redactor = Redactor::new(Vec::new());
        for text in [
            "2026-11-21T19:16:45Z  INFO link is good link=credentials detail=\"0 s old, from the AWS default chain\"",
            "bucket=maps key=health.map errno=ENOENT",
            "secret = \"mapserver/s3\"",
            "MS_MAP_PATTERN=^/mapfiles/.*[.]map$",
            "36 35 0:97 / /srv/mapkeeper/mapfiles ro,nosuid,nodev - fuse.mapkeeper s3://maps ro",
        ] {
            assert_eq!(redactor.text(text), text);
        }
    }

    #[test]
    fn a_document_keeps_its_shape() {
        let redactor = Redactor::new(Vec::new());
        let mut shown = serde_json::json!({ "Env": ["PGPASSWORD=hunter2hunter2", "LANG=C"], "api_token": "hunter2hunter2", "Id": "abc" });
        redactor.json(&mut shown);
        assert_eq!(
            shown,
            serde_json::json!({ "Env": ["PGPASSWORD=[redacted]", "LANG=C"], "api_token": "[redacted]", "Id": "abc" })
        );
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic_and_no_known_secret_stays(text in any::<String>(), secret in "[a-z]{8,20}") {
            let redactor = Redactor::new([secret.clone()]);
            let clean = redactor.text(&format!("{text}{secret}"));
            prop_assert!(!clean.contains(&secret));
        }
    }
}
