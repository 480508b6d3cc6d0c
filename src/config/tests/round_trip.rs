//! What `config show` prints is read back as the same configuration.

use proptest::prelude::*;

use super::*;

fn short_text() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9 äß\"\\\\\t\n#=.-]{0,12}"
}

prop_compose! {
    fn configurations()(
        numbers in any::<(u32, u32, u32, u32)>(),
        flags in any::<(bool, bool)>(),
        bytes in (16_u64 << 20).., disk in any::<u64>(),
        millis in 0..=3_600_000_u64, interval in 1_000..=3_600_000_u64,
        variables in proptest::collection::btree_map("[A-LN-Z]{1,6}", short_text(), 0..4),
        port in 1..=u16::MAX, prefix in "[a-z]{0,5}",
    ) -> Config {
        let variables: BTreeMap<String, String> =
            variables.into_iter().filter(|(name, _)| !redact::names_a_secret(name)).collect();
        let source = Source::S3 { bucket: "maps".into(), prefix: if prefix.is_empty() { prefix } else { prefix + "/" } };
        let mount = Mount {
            name: "m".into(), source, path: "/srv/m".into(), read_only: flags.0,
            freshness: Duration::from_millis(millis), uid: numbers.0 & 0x7fff_ffff, gid: numbers.1 & 0x7fff_ffff,
            file_mode: numbers.2 % 0o1000, dir_mode: numbers.3 % 0o1000, memory: bytes, disk_cache: disk,
            staging: "/var/lib/mapkeeper".into(),
            resend: flags.0,
            suid: flags.0,
            on_conflict: if flags.1 { OnConflict::Fail } else { OnConflict::Overwrite },
            max_stale: Duration::from_millis(millis * 7), endpoint_url: None, path_style: flags.1,
            region: flags.0.then(|| "eu-west-1".to_owned()), profile: None,
        };
        let probe = Probe {
            url: format!("http://127.0.0.1:{port}/"), expect: if flags.0 { Expect::Wms } else { Expect::Http },
            interval: Duration::from_millis(interval), timeout: Duration::from_millis(interval.div_ceil(2)),
        };
        let selector = if flags.1 { Selector::Name("a1".into()) }
            else { Selector::Match { label: Some("role".into()), image: None } };
        let container = Container {
            owner: Owner::Ecs, selector, image: None,
            ports: vec![Port { host_ip: None, host: port, container: 80, protocol: Protocol::Tcp }],
            binds: vec![], environment: variables, probe: Some(probe),
        };
        Config {
            region: None, sources: Sources::default(), credentials: Credentials { secret: None, role: None, refresh: Duration::from_secs(60) },
            mounts: vec![mount], containers: vec![container; usize::from(numbers.0 % 2 == 0)], bootstrap: Default::default(), ecs: None, health: None, escalate: Escalate::default(),
        }
    }
}

proptest! {
    #[test]
    fn what_is_shown_reads_back_the_same(config in configurations(), origins in any::<bool>()) {
        let origins = if origins { Origins::Shown } else { Origins::Hidden };
        let text = show::toml(&config, &Entries::default(), origins, Defaults::Shown);
        let loaded = load(&text).expect("valid");
        prop_assert_eq!(&loaded.config, &config, "{}", text);
        let said = loaded.said();
        prop_assert_eq!(load(&said).expect("valid").config, config, "{}", said);
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
