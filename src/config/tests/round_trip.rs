//! What `config show` prints is read back as the same configuration.

use proptest::prelude::*;

use super::*;

/// A value that a setting of this kind can have, going by its kind or by the example that it expects a value like.
fn value(key: &Setting, pick: u64) -> String {
    let example = || {
        let (_, example) = key.expects.split_once("such as ").unwrap_or(("", "\"abc\""));
        example.split(" or ").next().unwrap_or_default().trim_matches('"').to_owned()
    };
    match key.kind {
        Kind::Boolean => pick.is_multiple_of(2).to_string(),
        Kind::Number => (pick % u64::from(u32::MAX)).to_string(),
        Kind::Duration => quantity::show_duration(Duration::from_millis(pick % 3_600_001)),
        Kind::Size => quantity::show_size(pick),
        Kind::Mode => format!("{:04o}", pick % 0o1000),
        Kind::Choice(words) => words[usize::try_from(pick % 7).unwrap_or(0) % words.len()].to_owned(),
        Kind::Text | Kind::Texts => example(),
    }
}

/// What these variables make of the least configuration, without those that it refuses.
fn loaded(mut variables: BTreeMap<String, String>) -> Loaded {
    loop {
        let pairs: Vec<_> = variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let faults = match load_with(LEAST, &pairs) {
            Ok(loaded) => return loaded,
            Err(ConfigError::Faults(Faults(faults))) => faults,
            Err(other) => panic!("{other}"),
        };
        let before = variables.len();
        for fault in &faults {
            if let Some(Origin::Environment { variable }) = &fault.origin {
                variables.remove(variable);
            }
        }
        assert!(variables.len() < before, "{}", Faults(faults));
    }
}

proptest! {
    #[test]
    fn what_is_shown_reads_back_the_same(
        picks in proptest::collection::vec(any::<Option<u64>>(), KEYS.len()),
        text in "[a-zA-Z0-9 äß\"\\\\\t\n#=.-]{0,12}", name in "[A-LN-Z]{1,6}", origins in any::<bool>(),
    ) {
        let picked = KEYS.iter().zip(&picks).filter_map(|(key, pick)| Some((variable_of(key), value(key, (*pick)?))));
        let mut variables: BTreeMap<_, _> = picked.collect();
        if !redact::names_a_secret(&name) {
            variables.insert(format!("MAPKEEPER_CONTAINER__0__ENVIRONMENT__{name}"), text);
        }
        let first = loaded(variables);
        let text = first.show(if origins { Origins::Shown } else { Origins::Hidden });
        let second = load(&text).expect("valid");
        prop_assert_eq!(&second.config, &first.config, "{}", text);
        for said in [first.said(), second.said()] {
            prop_assert_eq!(&load(&said).expect("valid").config, &first.config, "{}", said);
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in any::<String>(), key in 0..KEYS.len(), number in any::<u64>()) {
        let _ = load(&text);
        let variable = variable_of(&KEYS[key]);
        let _ = load_with(LEAST, &[(variable.as_str(), text.replace('\0', "").as_str())]);
        let _ = load_with(LEAST, &[(variable.as_str(), number.to_string().as_str())]);
        let name = KEYS[key].path.replace("[]", "").replace('*', "name");
        for value in [number.to_string(), setting::quoted(&text), format!("[{number}]"), format!("{{ a = {number} }}")] {
            let _ = load(&format!("{name} = {value}\n{LEAST}"));
        }
    }
}
