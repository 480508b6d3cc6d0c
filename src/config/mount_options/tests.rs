//! Options of ours, of mount(8) and of s3fs, and any text at all.

use std::time::Duration;

use proptest::prelude::*;

use super::super::{Kind, Setting, Source};
use super::*;
use crate::error::Advise;

fn request(options: &[&str]) -> Result<MountRequest, String> {
    from("s3://maps/a", options)
}

fn from(source: &str, options: &[&str]) -> Result<MountRequest, String> {
    let options: Vec<String> = options.iter().map(|text| (*text).to_owned()).collect();
    MountRequest::parse(source, Path::new("/srv/maps"), &options).map_err(|error| error.to_string())
}

fn remarks(request: &MountRequest) -> Vec<String> {
    request.remarks.iter().map(ToString::to_string).collect()
}

/// The single fault of a request that has one.
fn fault(options: &[&str]) -> String {
    let text = request(options).expect_err("a fault");
    text.strip_prefix("the mount options have 1 fault\n  ").unwrap_or(&text).to_owned()
}

#[test]
fn without_options_everything_has_its_default() {
    let request = request(&[]).expect("valid");
    let mount = &request.mount;
    assert_eq!(mount.source, Source::S3 { bucket: "maps".into(), prefix: "a/".into() });
    assert_eq!((mount.name.as_str(), mount.path.as_path()), ("maps", Path::new("/srv/maps")));
    assert_eq!((mount.read_only, mount.freshness), (true, Duration::from_secs(1)));
    assert_eq!(request.credentials, CredentialsChoice::DefaultChain);
    assert_eq!((request.flags, request.remarks), (KernelFlags::default(), vec![]));
}

#[test]
fn every_key_of_a_mount_is_an_option() {
    let other = |key: &Setting| match (key.kind, key.default) {
        (Kind::Boolean, Some("true")) => "false".to_owned(),
        (Kind::Boolean, _) => "true".to_owned(),
        (Kind::Number, _) => "33".to_owned(),
        (Kind::Duration, _) => "5s".to_owned(),
        (Kind::Size, _) => "64MiB".to_owned(),
        (Kind::Mode, _) => "0600".to_owned(),
        (Kind::Choice(words), _) => words.last().expect("words").to_string(),
        (Kind::Text | Kind::Texts, _) if key.path.ends_with("url") => "http://127.0.0.1:9000".to_owned(),
        (Kind::Text | Kind::Texts, _) if key.path.ends_with("staging") => "/var/staging".to_owned(),
        (Kind::Text | Kind::Texts, _) if key.path.ends_with("sse") => "aws:kms:other".to_owned(),
        (Kind::Text | Kind::Texts, _) => "other".to_owned(),
    };
    let mut layer = Layer::default();
    for (name, text) in [("source", "s3://maps/a"), ("path", "/srv/maps")] {
        layer.set(mount_key(name), text, Origin::Default);
    }
    let mut options = Vec::new();
    for name in mount_keys() {
        let text = other(mount_key(name).known().value().expect("a setting"));
        layer.set(mount_key(name), &text, Origin::Default);
        options.push(format!("{name}={text}"));
    }
    let expected = Loaded::from_layers(vec![layer]).expect("valid").config.mounts;
    let plain = request(&[]).expect("valid").mount;
    let request = request(&[&options.join(",")]).expect("valid");
    assert_eq!((vec![request.mount.clone()], request.remarks), (expected, vec![]));
    assert!(request.mount.uid == 33 && request.mount.suid && request.mount != plain);
}

#[test]
fn how_s3fs_was_told_to_store_objects_is_how_they_are_stored() {
    let mount = |options: &str| request(&[options]).expect("valid").mount;
    for (option, sse) in [
        ("use_sse", "AES256"),
        ("use_sse=1", "AES256"),
        ("use_sse=kmsid:alias/maps", "aws:kms:alias/maps"),
        (
            "use_sse=k:arn:aws:kms:eu-west-1:123456789012:key/1a-2b",
            "aws:kms:arn:aws:kms:eu-west-1:123456789012:key/1a-2b",
        ),
        ("sse=aws:kms", "aws:kms"),
        ("sse=aws:kms:dsse:1a-2b", "aws:kms:dsse:1a-2b"),
    ] {
        assert_eq!(mount(option).sse.expect(option).to_string(), sse);
    }
    assert_eq!(mount("use_sse=0").sse, None);
    let class = |option: &str| mount(option).storage_class;
    assert_eq!(class("storage_class=standard_ia"), "STANDARD_IA");
    assert_eq!(class("use_rrs=1"), "REDUCED_REDUNDANCY");
    assert_eq!((class("use_rrs=0"), class("storage_class=Cold")), ("STANDARD".into(), "Cold".into()));
    assert_eq!(mount("default_acl=public-read").acl.to_string(), "public-read");
    for (option, cure) in [
        ("use_sse=custom:/etc/keys", "take a key of KMS"),
        ("use_sse=/etc/keys", "take a key of KMS"),
        ("use_sse=kmsid", "expected kmsid:KEY with the key"),
        ("use_sse=kmsid:", "expected \"AES256\", \"aws:kms\" or \"aws:kms:KEY\""),
        ("sse=aws:kms:a b", "expected \"AES256\", \"aws:kms\" or \"aws:kms:KEY\""),
        ("storage_class=glacier", "a lifecycle rule of the bucket can archive objects later"),
        ("default_acl=log-delivery-write", "expected a canned ACL such as \"bucket-owner-full-control\""),
    ] {
        assert!(fault(&[option]).contains(cure), "{}", fault(&[option]));
    }
    let said = remarks(&request(&["use_xattr,hard_remove,rw"]).expect("valid"));
    assert_eq!(
        said,
        [
            "option `use_xattr` is ignored: extended attributes are always shown, and set where the mount is written",
            "option `hard_remove` is ignored: a removed file that is open stays readable, and no hidden copy of it is made",
        ]
    );
}

#[test]
fn a_key_without_a_value_means_true_and_the_last_one_counts() {
    assert!(request(&["path_style"]).expect("valid").mount.path_style);
    assert!(!request(&["ro,rw"]).expect("valid").mount.read_only);
    assert!(request(&["rw", "ro"]).expect("valid").mount.read_only);
    assert_eq!(request(&["uid=1,uid=2"]).expect("valid").mount.uid, 2);
}

#[test]
fn a_comma_can_be_part_of_a_value() {
    assert_eq!(split(r"a=1\,2,b,,c=\\,d=\x\"), ["a=1,2", "b", r"c=\", r"d=\x\"]);
}

#[test]
fn a_line_of_fstab_for_s3fs_moves_over() {
    let request = from("s3fs#mapserver-bucket:/maps", &["_netdev,allow_other,passwd_file=/etc/passwd-s3fs,\
         url=https://s3.example/,use_path_request_style,umask=0022,uid=1000,multireq_max=5,endpoint=eu-west-1,\
         stat_cache_expire=60,nofail,x-systemd.automount,use_cache=/tmp"])
    .expect("valid");
    let mount = &request.mount;
    assert_eq!(mount.source, Source::S3 { bucket: "mapserver-bucket".into(), prefix: "maps/".into() });
    assert_eq!(mount.endpoint_url.as_deref(), Some("https://s3.example"));
    assert_eq!((mount.path_style, mount.region.as_deref()), (true, Some("eu-west-1")));
    assert_eq!((mount.file_mode, mount.dir_mode, mount.uid), (0o755, 0o755, 1000));
    assert_eq!(mount.freshness, Duration::from_secs(60));
    assert_eq!(request.credentials, CredentialsChoice::PasswdFile("/etc/passwd-s3fs".into()));
    let expected = [
        "option `allow_other` is ignored: every user may read the mount as the modes of its files say",
        "option `umask` is taken as file_mode=0755,dir_mode=0755: for objects without s3fs headers, while s3fs \
         shows it for all",
        "option `multireq_max` is ignored: `memory` bounds all caches and buffers, and requests in flight follow \
         the readers",
        "option `stat_cache_expire` is taken as freshness=1m",
        "option `use_cache` is ignored: nothing is cached on disk in this version, see `disk_cache`",
        "option `uid` is for objects without s3fs headers, while s3fs shows it for all",
    ];
    assert_eq!(remarks(&request), expected);
}

#[test]
fn files_are_staged_below_the_directory_of_s3fs_unless_it_is_everybodys() {
    for (given, staging, said) in [
        (
            "/mnt/disk/",
            "/mnt/disk/mapkeeper",
            "is taken as staging=/mnt/disk/mapkeeper, a directory of root's",
        ),
        (
            "/tmp",
            "/var/lib/mapkeeper/staging",
            "is ignored: everybody may write there; `staging` says where files are while they are written",
        ),
    ] {
        let request = from("maps", &[&format!("tmpdir={given}")]).expect("valid");
        assert_eq!(request.mount.staging, Path::new(staging));
        assert_eq!(remarks(&request), [format!("option `tmpdir` {said}")]);
    }
}

#[test]
fn set_id_bits_are_shown_only_to_whoever_asks_for_them() {
    for (options, suid) in [(&["defaults"][..], false), (&["suid"], true), (&["suid,nosuid"], false)] {
        assert_eq!(request(options).expect("valid").mount.suid, suid);
    }
}

#[test]
fn a_bucket_is_named_as_s3fs_names_it() {
    for (text, shown) in [
        ("maps", "s3://maps"),
        ("maps:/", "s3://maps"),
        ("maps:/a/b", "s3://maps/a/b"),
        ("s3fs#maps", "s3://maps"),
        ("s3://maps/a", "s3://maps/a"),
        ("external:", "external:"),
    ] {
        assert_eq!(from(text, &[]).expect(text).mount.source.to_string(), shown, "{text}");
    }
    let error = from("s3://M", &[]).expect_err("no bucket");
    assert!(
        error.starts_with("the mount options have 1 fault\n  SOURCE \"s3://M\": expected a bucket name"),
        "{error}"
    );
}

#[test]
fn a_relative_directory_is_taken_from_here() {
    let here = std::env::current_dir().expect("a directory");
    let request = MountRequest::parse("maps", Path::new("mnt"), &[]).expect("valid");
    assert_eq!(request.mount.path, here.join("mnt"));
    let error = MountRequest::parse("maps", Path::new("/"), &[]).expect_err("no mount point").to_string();
    assert!(error.contains("DIR \"/\": expected an absolute path other than /"), "{error}");
}

#[test]
fn a_role_of_the_instance_wins_over_a_password_file() {
    let request = request(&["iam_role=auto,passwd_file=/p"]).expect("valid");
    assert_eq!(request.credentials, CredentialsChoice::DefaultChain);
    let expected = [
        "option `iam_role` is taken as the AWS default chain, which asks for the role of the instance or task",
        "option `passwd_file` is ignored: a role was asked for too",
    ];
    assert_eq!(remarks(&request), expected);
}

#[test]
fn a_very_long_cache_time_becomes_the_longest_there_is() {
    let request = request(&["stat_cache_expire=86400"]).expect("valid");
    assert_eq!(request.mount.freshness, Duration::from_secs(3_600));
    assert_eq!(
        remarks(&request),
        ["option `stat_cache_expire` is taken as freshness=1h, the longest there is"]
    );
}

#[test]
fn options_of_mount_are_accepted_in_silence_and_flags_are_kept() {
    let all = format!("{},user=maps,x-systemd.requires=a,comment=b", SILENT.replace(' ', ","));
    let request_of = |options: &str| request(&[options]).expect("valid");
    assert_eq!(request_of(&all).remarks, vec![]);
    assert!(request_of("user").flags.no_exec);
    assert!(request_of("noexec").flags.no_exec);
    assert!(!request_of("noexec,exec").flags.no_exec);
    let both = KernelFlags { no_exec: true, no_symlink_follow: true };
    assert_eq!(request_of("noexec,nosymfollow").flags, both);
}

#[test]
fn every_option_of_s3fs_is_known() {
    for name in s3fs::names() {
        let refused = matches!(s3fs::treatment(name), Some(s3fs::Treatment::Refused(_)));
        for option in [name.to_owned(), format!("{name}=0022")] {
            let text = request(&[&option]).err().unwrap_or_default();
            assert!(!text.contains("unknown option"), "{text}");
            assert_eq!(text.contains("not supported"), refused, "{option}: {text}");
        }
        assert!(!is_mount_key(name), "{name} is a key of ours");
    }
}

#[test]
fn a_fault_names_the_option_and_what_was_expected() {
    let cases = r#"
        freshnes=1s: unknown option, did you mean `freshness`?
        multireqmax=5: unknown option, did you mean `multireq_max`?
        colour=red: unknown option
        freshness=2h: expected a duration from 0s to 1h
        freshness: expected a whole number with a unit (ms, s, m, h or d) such as "250ms", "1s" or "5m"
        memory=1MiB: expected a size of at least 16MiB
        uid=root: expected a user number from 0 to 4294967294
        umask=9: expected an octal mask such as "0022"
        umask: expected an octal mask such as "0022"
        stat_cache_expire=5m: expected a number of seconds
        passwd_file: expected the path of a file of s3fs credentials
        ro=1: unknown option, did you mean `ro`?
        remount: not supported: it changes a mount that exists, unmount and mount again instead
        public_bucket=1: not supported: requests are always signed, so credentials are needed
    "#;
    for case in cases.lines().map(str::trim).filter(|case| !case.is_empty()) {
        let (option, _) = case.split_once(": ").expect("an option and what is said of it");
        assert_eq!(fault(&[option]), format!("-o {case}"));
    }
    let proxy = fault(&["proxy=http://u:hunter2@h"]);
    assert_eq!(proxy, "-o proxy=http://[redacted]@h: not supported: S3 is asked directly");
    assert_eq!(fault(&["secret_access_kex=hunter2"]), "-o secret_access_kex: unknown option");
    assert_eq!(request(&["public_bucket=0"]).map(|request| request.remarks), Ok(vec![]));
}

#[test]
fn all_faults_come_together() {
    let options = vec!["freshnes=1s,uid=x".to_owned(), "memory=1".to_owned()];
    let error = MountRequest::parse("s3://B", Path::new("/m"), &options).expect_err("four faults");
    assert!(error.to_string().starts_with("the mount options have 4 faults\n"), "{error}");
    assert_eq!(error.hint().as_deref(), Some("`mapkeeper mount --help` lists the options"));
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(source in any::<String>(), options in any::<String>(), number in any::<u64>()) {
        let given = [options.clone(), format!("umask={number},stat_cache_expire={number},uid={number}"), format!("umask={options}")];
        let _ = MountRequest::parse(&source, Path::new(&options), &given);
        let _ = MountRequest::parse("maps", Path::new("/m"), &given[1..2]);
    }

    #[test]
    fn a_cache_time_of_any_length_is_within_the_limits(seconds in any::<u64>()) {
        let freshness = request(&[&format!("stat_cache_expire={seconds}")]).expect("valid").mount.freshness;
        prop_assert_eq!(freshness, Duration::from_secs(seconds.min(3_600)));
    }
}
