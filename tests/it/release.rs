//! The release build runs where it is to run: Amazon Linux 2 and 2023, and whatever is newer.
//!
//! `make test` builds it (`scripts/release`) and names it in `PROGRAM_UNDER_TEST`.

use std::path::PathBuf;
use std::process::Command;

use tokio::time::Instant;

/// What the program may want of the C library: Amazon Linux 2 has this, Amazon Linux 2023 2.34.
const NEWEST: (u32, u32) = (2, 26);
/// Bytes. It is fetched at the first boot of each host.
const SIZE_MAX: u64 = 60 << 20;

fn release() -> Option<PathBuf> {
    let named = std::env::var_os("PROGRAM_UNDER_TEST").map(PathBuf::from);
    if named.is_none() {
        println!("SKIPPED: PROGRAM_UNDER_TEST does not name a release build, see scripts/release");
    }
    named
}

/// Every `GLIBC_x.y` that the dynamic linker looks for.
fn wanted(readelf: &str) -> Vec<(u32, u32)> {
    let versions = readelf.split_whitespace().filter_map(|word| word.strip_prefix("GLIBC_"));
    let mut found: Vec<(u32, u32)> = versions
        .filter_map(|version| {
            let mut parts = version.split('.').map(str::parse::<u32>);
            Some((parts.next()?.ok()?, parts.next()?.ok()?))
        })
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

#[test]
fn versions_are_read_and_compared_as_numbers() {
    let text = "0x0010:   Name: GLIBC_2.9  Flags: none\n 0x0020:   Name: GLIBC_2.34\n Name: GLIBC_2.2.5 Name: GCC_3.0";
    assert_eq!(wanted(text), [(2, 2), (2, 9), (2, 34)]);
}

#[test]
fn it_wants_no_newer_c_library_than_the_oldest_host_has() {
    let Some(release) = release() else { return };
    let output =
        Command::new("readelf").args(["--version-info", "--wide"]).arg(&release).output().expect("readelf");
    let versions = wanted(&String::from_utf8_lossy(&output.stdout));
    println!("wants GLIBC {versions:?}");
    assert!(versions.last().is_some_and(|newest| *newest <= NEWEST), "{versions:?}");
    let output =
        Command::new("readelf").args(["--dynamic", "--wide"]).arg(&release).output().expect("readelf");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let libraries: Vec<&str> =
        text.lines().filter_map(|line| line.split_once("Shared library: [")?.1.strip_suffix(']')).collect();
    println!("needs {libraries:?}");
    let of_every_host =
        ["libgcc_s.so", "libc.so", "libm.so", "libpthread.so", "libdl.so", "librt.so", "ld-linux"];
    assert!(
        libraries.iter().all(|library| of_every_host.iter().any(|name| library.starts_with(name))),
        "a host need not have all of these: {libraries:?}"
    );
}

#[test]
fn it_is_small_and_starts_at_once() {
    let Some(release) = release() else { return };
    let size = release.metadata().expect("there").len();
    let times = (0..10).map(|_| {
        let began = Instant::now();
        let output = Command::new(&release).arg("--version").output().expect("started");
        assert!(output.status.success());
        began.elapsed()
    });
    let fastest = times.min().expect("ten");
    println!("{:.1} MB, starts in {:.1} ms", size as f64 / 1e6, fastest.as_secs_f64() * 1e3);
    assert!(size < SIZE_MAX && fastest.as_millis() < 200);
}

#[test]
fn it_has_no_s3_server_and_says_so_when_it_is_asked_for_the_demo() {
    let Some(release) = release() else { return };
    let program = std::fs::read(&release).expect("readable");
    for (word, expected) in [("ladder", true), ("s3_testbed", false)] {
        let found = program.windows(word.len()).any(|bytes| bytes == word.as_bytes());
        assert_eq!(found, expected, "{word}");
    }
    let output = Command::new(&release).args(["demo", "/nonexistent"]).output().expect("started");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("built without the demo") && said.contains("hint: make demo"), "{said}");
}
