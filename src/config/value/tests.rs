//! Every parser of a value, its limits and the words of its refusals.

use proptest::prelude::*;

use super::*;

fn s3(bucket: &str, prefix: &str) -> Source {
    Source::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() }
}

#[test]
fn every_kind_of_source_is_read_and_written() {
    let nfs = Source::Nfs { host: "filer.local".into(), export: "/maps".into() };
    let efs = |path: &str| Source::Efs { id: "fs-0123456789abcdef0".into(), path: path.into() };
    for (text, expected, shown) in [
        ("s3://maps", s3("maps", ""), "s3://maps"),
        ("s3://maps/", s3("maps", ""), "s3://maps"),
        ("s3://maps/a/b", s3("maps", "a/b/"), "s3://maps/a/b"),
        ("s3://maps/a b/", s3("maps", "a b/"), "s3://maps/a b"),
        ("nfs://filer.local/maps", nfs, "nfs://filer.local/maps"),
        ("efs://fs-0123456789abcdef0", efs("/"), "efs://fs-0123456789abcdef0"),
        ("efs://maps-data", Source::Efs { id: "maps-data".into(), path: "/".into() }, "efs://maps-data"),
        ("efs://fs-0123456789abcdef0/maps", efs("/maps"), "efs://fs-0123456789abcdef0/maps"),
        ("external:", Source::External, "external:"),
    ] {
        let read = source(text).expect(text);
        assert_eq!(read, expected, "{text}");
        assert_eq!(read.to_string(), shown, "{text}");
    }
}

#[test]
fn a_source_that_cannot_be_one_says_what_it_should_be() {
    let (bucket, prefix) = ("a".repeat(64), "a".repeat(1024));
    for (texts, expected) in [
        (
            "|maps|http://maps|S3://maps|external|external:x|://".to_owned(),
            "expected s3://bucket[/prefix], nfs://host/export, efs://fs-id[/path] or external:",
        ),
        (
            format!(
                "s3://|s3://ab|s3://Maps|s3://a_b|s3://-ab|s3://ab-|s3://a..b|s3://10.0.0.1|s3://{bucket}"
            ),
            "expected a bucket name of 3 to 63 characters out of a-z, 0-9, \".\" and \"-\" that starts and ends \
             with a letter or digit, has no \"..\" and is no IP address",
        ),
        (
            format!(
                "s3://maps//|s3://maps/a//b|s3://maps/../b|s3://maps/./b|s3://maps/a\nb|s3://maps/{prefix}"
            ),
            "expected a key prefix of at most 1024 bytes without empty, \".\" or \"..\" parts and without control \
             characters",
        ),
        (
            "nfs://|nfs://host|nfs:///export|nfs://ho st/export|nfs://-o/export|nfs://host/../x".to_owned(),
            "expected nfs://host/export with the absolute path of the export",
        ),
        (
            "efs://|efs://fs-|efs://a b|efs://fs-xyz|efs://fs-0/../x".to_owned(),
            "expected efs://fs-id[/path] with an id such as fs-0123456789abcdef0, or efs://NAME[/path] with the Name \
             tag of one",
        ),
    ] {
        refused(source, &texts, expected);
    }
}

/// Each of `texts`, between which stands `|`, is refused with the same words.
fn refused<T: std::fmt::Debug>(read: fn(&str) -> Result<T, Expected>, texts: &str, expected: &str) {
    for text in texts.split('|') {
        assert_eq!(read(text).expect_err(text).to_string(), expected, "{text}");
    }
}

#[test]
fn a_path_is_absolute_and_plain() {
    assert_eq!(absolute_path("/srv/maps/"), Ok(PathBuf::from("/srv/maps")));
    assert_eq!(absolute_path("/srv/a b"), Ok(PathBuf::from("/srv/a b")));
    let expected = r#"expected an absolute path other than / without "." and "..""#;
    refused(absolute_path, "|/|//|srv|./srv|/srv/../etc|/srv/./x|/srv//x|/srv\0", expected);
}

#[test]
fn a_mount_is_called_after_the_end_of_its_path() {
    assert_eq!(name_of(Path::new("/srv/mapfiles")).as_deref(), Some("mapfiles"));
    for path in ["/", "/srv/map files", "/srv/.maps"] {
        assert_eq!(name_of(Path::new(path)), None, "{path}");
    }
    let expected = r#"expected letters, digits, ".", "_" and "-", at most 64, of which the first is no dot"#;
    refused(name, &format!("|a b|.a|{}", "a".repeat(65)), expected);
}

#[test]
fn ports_are_read_and_written() {
    let any = |host, container, protocol| Port { host_ip: None, host, container, protocol };
    let on = |ip: &str| Port {
        host_ip: Some(ip.parse().expect("an address")),
        host: 8080,
        container: 80,
        protocol: Protocol::Tcp,
    };
    for (text, expected, shown) in [
        ("8080:80", any(8080, 80, Protocol::Tcp), "8080:80"),
        ("8080:80/tcp", any(8080, 80, Protocol::Tcp), "8080:80"),
        ("53:53/udp", any(53, 53, Protocol::Udp), "53:53/udp"),
        ("127.0.0.1:8080:80/tcp", on("127.0.0.1"), "127.0.0.1:8080:80"),
        ("[::1]:8080:80", on("::1"), "[::1]:8080:80"),
    ] {
        let read = port(text).expect(text);
        assert_eq!(read, expected, "{text}");
        assert_eq!(read.to_string(), shown, "{text}");
    }
    let texts = "|80|0:80|80:0|65536:80|80:80/sctp|80:80/tcp/udp|80-81:80|+80:80|host:80:80|::1:80:80|\
                 [127.0.0.1]:80:80|80:80:| 80:80";
    refused(port, texts, r#"expected a port such as "8080:80", "127.0.0.1:8080:80" or "8080:80/udp""#);
}

#[test]
fn binds_are_read_and_written() {
    for text in ["/a:/b", "/a:/b:ro", "/srv/maps:/mapfiles:ro,rslave", "/:/host:ro,rslave,z"] {
        assert_eq!(bind(text).expect(text).to_string(), text);
    }
    let texts = "|/a|a:/b|/a:b|/a:/|/a:/b:ro:x|/a/../b:/c|:/b";
    refused(bind, texts, r#"expected two absolute paths and options such as "/src:/dst:ro,rslave""#);
    let options = "expected bind options out of ro, rw, rprivate, private, rslave, slave, rshared, shared, z and \
                   Z, of which ro and rw, and any two kinds of propagation, exclude each other";
    refused(bind, "/a:/b:|/a:/b:ro,|/a:/b:ro,rw|/a:/b:rslave,rprivate|/a:/b:noexec|/a:/b:ro,ro", options);
}

#[test]
fn a_stack_and_a_resource_are_read_and_written() {
    for text in ["maps/Hosts", "maps-prod-2/Hosts7"] {
        assert_eq!(stack_signal(text).expect("right").to_string(), text);
    }
    let texts = "|maps|maps/|/Hosts|2maps/Hosts|maps/Ho-sts|maps/Hosts/x|m s/Hosts";
    let expected = "expected the name of a stack and the logical id of a resource such as \"maps/Hosts\"";
    refused(stack_signal, texts, expected);
}

#[test]
fn urls_are_checked() {
    assert_eq!(endpoint_url("http://127.0.0.1:9000/").as_deref(), Ok("http://127.0.0.1:9000"));
    assert_eq!(endpoint_url("https://s3.example/base").as_deref(), Ok("https://s3.example/base"));
    let texts = "|s3.example|ftp://x|http://|http://x?y|http://x:99999|http://x y|http://x#y";
    let expected = r#"expected an http:// or https:// URL without query, "http://127.0.0.1:9000""#;
    refused(endpoint_url, texts, expected);
    assert!(probe_url("http://127.0.0.1:8080/?map=/mapfiles/health.map&SERVICE=WMS").is_ok());
    assert!(probe_url("http://[::1]:8080/").is_ok());
    let expected = r#"expected an http:// URL such as "http://127.0.0.1:8080/?map=/mapfiles/a.map""#;
    refused(probe_url, "https://127.0.0.1/|/?map=x|http://127.0.0.1:0/|http://a b/", expected);
    assert_eq!(port_of_url("http://h/"), Some(80));
    assert_eq!(port_of_url("https://h/"), Some(443));
    assert_eq!(port_of_url("http://h:8080/"), Some(8080));
}

#[test]
fn names_of_other_things_are_checked() {
    refused(region, "us east", r#"expected an AWS region such as "us-east-1""#);
    refused(line, "|a\nb", "expected text on one line that is not empty");
    refused(word, "a b", "expected text without spaces that is not empty");
    let arn = "arn:aws:secretsmanager:us-east-1:123456789012:secret:maps/s3-AbCdEf";
    assert!(secret_name("mapserver/s3").is_ok());
    // Seven parts: the resource is `secret:name`.
    assert!(secret_name(arn).is_ok());
    let expected = "expected the name or ARN of a secret in Secrets Manager, never the key itself";
    refused(secret_name, "|AKIAIOSFODNN7EXAMPLE:wJalrXUtnFEMI|arn:aws:secretsmanager|a b", expected);
}

proptest! {
    #[test]
    fn no_text_makes_a_parser_panic(text in any::<String>(), number in any::<u64>()) {
        for text in [text.clone(), format!("s3://{text}"), format!("nfs://h/{text}"), format!("efs://fs-{text}"),
                     format!("{number}:{number}/{text}"), format!("/{text}:/{number}:{text}"), format!("http://{text}:{number}/")] {
            let _ = (source(&text), absolute_path(&text), port(&text), bind(&text), endpoint_url(&text));
            let _ = (probe_url(&text), name(&text), region(&text), secret_name(&text), line(&text), word(&text));
            let _ = (name_of(Path::new(&text)), port_of_url(&text));
        }
    }

    #[test]
    fn a_source_that_is_read_is_written_the_same(
        bucket in "[a-z0-9][a-z0-9-]{1,20}[a-z0-9]",
        parts in proptest::collection::vec("[^/\\x00-\\x1f\\x7f-\\u{9f}.]{1,8}", 0..4),
    ) {
        let text = [vec![format!("s3://{bucket}")], parts].concat().join("/");
        prop_assert_eq!(source(&text).map(|source| source.to_string()), Ok(text));
    }

    #[test]
    fn numbers_become_ports_exactly_when_they_are(host in any::<u64>(), container in any::<u64>()) {
        let valid = (1..=65_535).contains(&host) && (1..=65_535).contains(&container);
        prop_assert_eq!(port(&format!("{host}:{container}")).is_ok(), valid);
    }

    #[test]
    fn a_port_that_exists_reads_back(ip in any::<Option<IpAddr>>(), host in 1..u16::MAX, container in 1..u16::MAX, udp in any::<bool>()) {
        let protocol = if udp { Protocol::Udp } else { Protocol::Tcp };
        let wanted = Port { host_ip: ip, host, container, protocol };
        prop_assert_eq!(port(&wanted.to_string()), Ok(wanted));
    }
}
