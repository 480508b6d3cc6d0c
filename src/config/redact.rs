//! What of a configuration may be shown.
//!
//! A configuration holds no credentials of mapkeeper's own, but people put passwords into the
//! environment of containers and into URLs. Whatever looks like one is replaced before a value enters a
//! message: rather one value too many hidden than one too few.

/// Stands where a secret stood.
pub const REDACTED: &str = "[redacted]";

const SECRET_WORDS: &[&str] =
    &["PASS", "PWD", "SECRET", "TOKEN", "CREDENTIAL", "KEY", "AUTH", "SIGNATURE", "PRIVATE", "COOKIE"];

/// Whether a variable, option or query parameter of this name holds a secret, going by the name.
pub fn names_a_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    SECRET_WORDS.iter().any(|word| name.contains(word))
}

/// `text` without what looks like a secret in it: the user and password of a URL, secret parameters of
/// its query; all of it where a password or an AWS key stands in free text.
pub fn shown(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    let assigns = ["password=", "passwd=", "pwd="].iter().any(|word| lower.contains(word));
    let is_url = text.contains("://");
    if holds_access_key(text) || (assigns && !is_url) {
        return REDACTED.to_owned();
    }
    if is_url { url(text) } else { text.to_owned() }
}

/// Everything up to the last `@` may be user and password: a password can hold any other character.
fn url(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let Some((before, after)) = rest.rsplit_once('@') else {
        return format!("{scheme}://{}", parameters(rest));
    };
    let open = before.rsplit(['?', '&']).next().unwrap_or_default();
    let in_secret = open.split_once('=').is_some_and(|(name, _)| names_a_secret(name));
    let after = if in_secret { after.find('&').map_or("", |end| &after[end..]) } else { after };
    format!("{scheme}://{REDACTED}@{}", parameters(after))
}

/// The address and query of a URL without the values of secret parameters.
fn parameters(text: &str) -> String {
    let shown = |piece: &str| {
        let (pair, end) = match piece.strip_suffix(['?', '&']) {
            Some(pair) => (pair, &piece[pair.len()..]),
            None => (piece, ""),
        };
        match pair.split_once('=') {
            Some((name, _)) if names_a_secret(name) => format!("{name}={REDACTED}{end}"),
            _ => piece.to_owned(),
        }
    };
    text.split_inclusive(['?', '&']).map(shown).collect()
}

/// Whether an AWS access key id stands in the text: `AKIA` or `ASIA` and 16 more capitals and digits.
fn holds_access_key(text: &str) -> bool {
    let capital = |b: &u8| b.is_ascii_uppercase() || b.is_ascii_digit();
    let starts = ["AKIA", "ASIA"];
    starts.iter().flat_map(|start| text.match_indices(start)).any(|(at, _)| {
        text.as_bytes()
            .get(at..)
            .is_some_and(|rest| rest.iter().take(20).filter(|b| capital(b)).count() == 20)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_of_secrets_are_recognised() {
        for name in ["PGPASSWORD", "api_token", "AWS_SECRET_ACCESS_KEY", "X-Amz-Signature", "db_pwd"] {
            assert!(names_a_secret(name), "{name}");
        }
        for name in ["MS_ERRORFILE", "MS_MAP_PATTERN", "map", "LANG"] {
            assert!(!names_a_secret(name), "{name}");
        }
    }

    #[test]
    fn a_password_never_shows() {
        for (text, expected) in [
            ("stderr", "stderr"),
            ("http://127.0.0.1:9000", "http://127.0.0.1:9000"),
            ("https://user:pa/s?s@host/x?map=a&token=t", "https://[redacted]@host/x?map=a&token=[redacted]"),
            ("http://host/?map=a&token=x@y&b=c", "http://[redacted]@&b=c"),
            ("http://user:p@ss@host/", "http://[redacted]@host/"),
            ("http://host/?token=x&b=c@d", "http://[redacted]@d"),
            ("host=db Password=hunter2", "[redacted]"),
            ("AKIAABCDEFGHIJKLMNOP:abc", "[redacted]"),
            ("AKIA is a prefix", "AKIA is a prefix"),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in any::<String>()) {
            let _ = (names_a_secret(&text), shown(&text));
        }

        #[test]
        fn the_password_of_a_url_is_gone(user in "[a-z]{1,8}", password in "[A-Za-z0-9:/?#!]{9,20}", path in "[a-z/]{0,9}") {
            let shown = shown(&format!("http://{user}:{password}@host/{path}"));
            prop_assert!(!shown.contains(&password), "{shown}");
        }
    }
}
