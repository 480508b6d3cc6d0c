//! Percent-encoded text, as headers and lists of keys carry it.

/// `%41` becomes `A`; a percent sign that starts no such pair stays.
pub fn percent_decoded(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let pair = bytes.get(at + 1).zip(bytes.get(at + 2)).and_then(|(high, low)| {
            Some((char::from(*high).to_digit(16)? * 16 + char::from(*low).to_digit(16)?) as u8)
        });
        match pair {
            Some(byte) if bytes[at] == b'%' => {
                decoded.push(byte);
                at += 3;
            }
            _ => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    decoded
}

/// The opposite: what is neither a letter, a digit, one of `-._~` nor in `plain` becomes `%XX`.
pub fn percent_encoded(text: &str, plain: &[u8]) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || plain.contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_pair_stays() {
        assert_eq!(percent_decoded("a%20b%2fc"), b"a b/c");
        assert_eq!(percent_decoded("100%, %4, %zz, %"), b"100%, %4, %zz, %");
        assert_eq!(percent_decoded("%C3%A9"), "\u{e9}".as_bytes());
    }

    proptest! {
        #[test]
        fn any_bytes_survive_encoding(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let encoded: String = bytes.iter().map(|byte| format!("%{byte:02X}")).collect();
            prop_assert_eq!(percent_decoded(&encoded), bytes);
        }

        #[test]
        fn any_text_survives(text in any::<String>(), plain in prop::sample::select(vec![&b""[..], b"/"])) {
            let encoded = percent_encoded(&text, plain);
            prop_assert!(encoded.is_ascii());
            prop_assert_eq!(percent_decoded(&encoded), text.into_bytes());
        }

        #[test]
        fn no_text_panics(text in any::<String>()) {
            percent_decoded(&text);
        }
    }
}
