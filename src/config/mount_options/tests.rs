//! Options of ours, of mount(8) and of s3fs, and any text at all.

use std::time::Duration;

use proptest::prelude::*;

use super::super::{OnConflict, Source};
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
    let request = request(&[
        "name=m,read_only=false,freshness=5s,uid=33,gid=34,file_mode=0600",
        "dir_mode=0700,memory=64MiB,disk_cache=1GiB,max_stale=0s,endpoint_url=http://127.0.0.1:9000",
        "path_style=false,region=eu-west-1,profile=maps,staging=/var/staging,on_conflict=overwrite",
        "resend=false,suid",
    ])
    .expect("valid");
    let expected = Mount {
        name: "m".into(),
        source: Source::S3 { bucket: "maps".into(), prefix: "a/".into() },
        path: "/srv/maps".into(),
        read_only: false,
        freshness: Duration::from_secs(5),
        uid: 33,
        gid: 34,
        file_mode: 0o600,
        dir_mode: 0o700,
        memory: 64 << 20,
        disk_cache: 1 << 30,
        max_stale: Duration::ZERO,
        staging: "/var/staging".into(),
        on_conflict: OnConflict::Overwrite,
        resend: false,
        suid: true,
        endpoint_url: Some("http://127.0.0.1:9000".into()),
        path_style: false,
        region: Some("eu-west-1".into()),
        profile: Some("maps".into()),
    };
    assert_eq!(request.mount, expected);
    assert_eq!(request.remarks, vec![]);
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
    for (option, text) in [
        ("freshnes=1s", "-o freshnes=1s: unknown option, did you mean `freshness`?"),
        ("multireqmax=5", "-o multireqmax=5: unknown option, did you mean `multireq_max`?"),
        ("colour=red", "-o colour=red: unknown option"),
        ("freshness=2h", "-o freshness=2h: expected a duration from 0s to 1h"),
        (
            "freshness",
            "-o freshness: expected a whole number with a unit (ms, s, m, h or d) such as \"250ms\", \"1s\" or \"5m\"",
        ),
        ("memory=1MiB", "-o memory=1MiB: expected a size of at least 16MiB"),
        ("uid=root", "-o uid=root: expected a user number from 0 to 4294967294"),
        ("umask=9", "-o umask=9: expected an octal mask such as \"0022\""),
        ("umask", "-o umask: expected an octal mask such as \"0022\""),
        ("stat_cache_expire=5m", "-o stat_cache_expire=5m: expected a number of seconds"),
        ("passwd_file", "-o passwd_file: expected the path of a file of s3fs credentials"),
        ("ro=1", "-o ro=1: unknown option, did you mean `ro`?"),
        (
            "remount",
            "-o remount: not supported: it changes a mount that exists, unmount and mount again instead",
        ),
        (
            "public_bucket=1",
            "-o public_bucket=1: not supported: requests are always signed, so credentials are needed",
        ),
        ("secret_access_kex=hunter2", "-o secret_access_kex: unknown option"),
        ("proxy=http://u:hunter2@h", "-o proxy=http://[redacted]@h: not supported: S3 is asked directly"),
    ] {
        assert_eq!(fault(&[option]), text);
    }
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
