//! The two shapes of a secret: a JSON object, or `ACCESS_KEY_ID:SECRET_ACCESS_KEY` as s3fs has it.

use serde_json::Value;

use super::error::CredentialsError;
use super::keys::{KeyPair, Secret};

const TEXT: &str = "text that is not empty and has no spaces";

/// Reads the value of the secret `name`. No part of the value is in any error.
pub(super) fn parse(name: &str, value: &Secret<String>) -> Result<KeyPair, CredentialsError> {
    let text = value.expose().trim();
    if text.starts_with('{') { json(name, text) } else { pair(name, text) }
}

fn json(name: &str, text: &str) -> Result<KeyPair, CredentialsError> {
    let object: Value = serde_json::from_str(text).map_err(|error| CredentialsError::NotJson {
        name: name.to_owned(),
        line: error.line(),
        column: error.column(),
    })?;
    let required = |field: &'static str| {
        optional(name, &object, field)?.ok_or_else(|| CredentialsError::NoField {
            name: name.to_owned(),
            field,
            expected: TEXT,
        })
    };
    Ok(KeyPair {
        access_key_id: required("access_key_id")?,
        secret_access_key: required("secret_access_key")?,
        session_token: optional(name, &object, "session_token")?,
    })
}

fn optional(
    name: &str,
    object: &Value,
    field: &'static str,
) -> Result<Option<Secret<String>>, CredentialsError> {
    let found = match object.get(field) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) if is_key(text) => return Ok(Some(Secret::new(text.clone()))),
        Some(Value::String(text)) if text.is_empty() => "empty",
        Some(Value::String(_)) => "text with spaces or control characters",
        Some(Value::Bool(_)) => "a boolean",
        Some(Value::Number(_)) => "a number",
        Some(Value::Array(_)) => "a list",
        Some(Value::Object(_)) => "an object",
    };
    Err(CredentialsError::BadField { name: name.to_owned(), field, found, expected: TEXT })
}

fn pair(name: &str, text: &str) -> Result<KeyPair, CredentialsError> {
    let fields: Vec<&str> = text.split(':').collect();
    let [id, key] = fields.as_slice() else {
        return Err(CredentialsError::Shape { name: name.to_owned(), found: fields.len() });
    };
    let field = |field: &'static str, text: &str| {
        if is_key(text) {
            return Ok(Secret::new(text.to_owned()));
        }
        let found = if text.is_empty() { "empty" } else { "text with spaces or control characters" };
        Err(CredentialsError::BadField { name: name.to_owned(), field, found, expected: TEXT })
    };
    Ok(KeyPair {
        access_key_id: field("access_key_id", id)?,
        secret_access_key: field("secret_access_key", key)?,
        session_token: None,
    })
}

fn is_key(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<KeyPair, String> {
        parse("maps/s3", &Secret::new(text.to_owned())).map_err(|error| error.to_string())
    }

    fn keys(id: &str, key: &str, token: Option<&str>) -> KeyPair {
        let hide = |text: &str| Secret::new(text.to_owned());
        KeyPair { access_key_id: hide(id), secret_access_key: hide(key), session_token: token.map(hide) }
    }

    #[test]
    fn both_shapes_are_read() {
        assert_eq!(read("AK:s/k+="), Ok(keys("AK", "s/k+=", None)));
        assert_eq!(read(" AK:SK\n"), Ok(keys("AK", "SK", None)));
        let json = r#"{"access_key_id":"AK","secret_access_key":"SK","note":1}"#;
        assert_eq!(read(json), Ok(keys("AK", "SK", None)));
        let token = r#"{"access_key_id":"AK","secret_access_key":"SK","session_token":"T"}"#;
        assert_eq!(read(token), Ok(keys("AK", "SK", Some("T"))));
    }

    #[test]
    fn a_fault_names_the_secret_and_the_field_and_no_value() {
        let expected = "expected text that is not empty and has no spaces";
        for (text, message) in [
            (
                "hunter2",
                r#"secret "maps/s3" has 1 fields, expected ACCESS_KEY_ID:SECRET_ACCESS_KEY or JSON"#
                    .to_owned(),
            ),
            (
                "a:hunter2:c",
                r#"secret "maps/s3" has 3 fields, expected ACCESS_KEY_ID:SECRET_ACCESS_KEY or JSON"#
                    .to_owned(),
            ),
            (":hunter2", format!(r#"field `access_key_id` of secret "maps/s3" is empty, {expected}"#)),
            (
                "AK:hunter2 x",
                format!(
                    r#"field `secret_access_key` of secret "maps/s3" is text with spaces or control characters, {expected}"#
                ),
            ),
            ("{hunter2", r#"secret "maps/s3" is no JSON object (line 1, column 2)"#.to_owned()),
            (
                r#"{"access_key_id":"hunter2"}"#,
                format!(r#"secret "maps/s3" has no field `secret_access_key`, {expected}"#),
            ),
            (
                r#"{"access_key_id":1,"secret_access_key":"hunter2"}"#,
                format!(r#"field `access_key_id` of secret "maps/s3" is a number, {expected}"#),
            ),
            (
                r#"{"access_key_id":"AK","secret_access_key":"hunter2","session_token":""}"#,
                format!(r#"field `session_token` of secret "maps/s3" is empty, {expected}"#),
            ),
        ] {
            let found = read(text).expect_err(text);
            assert_eq!(found, message, "{text}");
            assert!(!found.contains("hunter2"), "{found}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in any::<String>(), number in any::<u64>()) {
            let _ = (read(&text), read(&format!("{{{text}")), read(&format!(r#"{{"access_key_id":{number}}}"#)));
        }

        #[test]
        fn every_pair_of_keys_reads_back(id in "[A-Z0-9]{1,20}", key in "[A-Za-z0-9/+=]{1,40}") {
            prop_assert_eq!(read(&format!("{id}:{key}")), Ok(keys(&id, &key, None)));
        }
    }
}
