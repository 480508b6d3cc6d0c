//! Buckets as other tools leave them, seen through the kernel.
//!
//! Needs root and `/dev/fuse`. Each test is a bucket of one kind, and what `ls`, `stat`, `cat` and `getfattr` of it say.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::file_system::common::hostile::{self, Answer, STAMP, contents};
use crate::file_system::common::{Bucket, Mounted, s3_client};
use bucketfs::StoreHealth;
use bucketfs::store::memory::Memory;
use s3_testbed::Server;

async fn mounted(fill: impl FnOnce(&Memory)) -> (Mounted, Memory) {
    mounted_for(Duration::ZERO, fill).await
}

async fn mounted_for(freshness: Duration, fill: impl FnOnce(&Memory)) -> (Mounted, Memory) {
    let memory = Memory::default();
    fill(&memory);
    (Mounted::new(Bucket::Memory(memory.clone()), freshness).await, memory)
}

/// Mode, owner, size and type of each name.
const STAT: &str = "stat -c '%n %a %u %g %s %F'";

#[tokio::test(flavor = "multi_thread")]
async fn directories_of_every_make_are_directories() {
    let (mounted, _) = mounted(|store| {
        store.put("marker/", "", &[("mode", "16832"), ("uid", "33")]);
        store.put("prefix/x", "1", &[]);
        store.put("body/", "a marker with a body", &[]);
        store.put_typed("typed", "", Some("application/x-directory"), &[]);
        store.put("moded", "", &[("mode", "16877")]);
        store.put("hadoop_$folder$", "", &[("mode", "16832")]);
    })
    .await;
    assert_eq!(mounted.sh("ls").await, "body\nhadoop\nmarker\nmoded\nprefix\ntyped");
    let stat = mounted.sh(&format!("{STAT} *")).await;
    let expected = "body 755 0 0 4096 directory\nhadoop 700 0 0 4096 directory\nmarker 700 33 0 4096 directory\n\
                    moded 755 0 0 4096 directory\nprefix 755 0 0 4096 directory\ntyped 755 0 0 4096 directory";
    assert_eq!(stat, expected);
    assert_eq!(
        mounted.sh("find . -type d | sort | tr '\\n' ' '").await,
        "./body ./hadoop ./marker ./moded ./prefix ./typed ."
            .split_once(" .")
            .map(|_| ". ./body ./hadoop ./marker ./moded ./prefix ./typed")
            .expect("text")
    );
    for directory in ["body", "hadoop", "marker", "moded", "typed"] {
        assert_eq!(mounted.sh(&format!("ls -A {directory}")).await, "");
    }
    mounted.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_key_is_found_by_name_once_one_was_seen() {
    let (mounted, memory) = mounted(|store| {
        store.put("x", "1", &[]);
        store.put("d_$folder$", "", &[]);
    })
    .await;
    memory.take_asked();
    assert!(!mounted.run("stat absent").await.status.success());
    let ordinary = memory.take_asked().len();
    assert_eq!(ordinary, 2, "an ordinary bucket pays nothing");
    mounted.sh("ls").await;
    assert_eq!(mounted.sh("stat -c %F d").await, "directory");
    mounted.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_wins_over_an_object_of_its_name() {
    let (mounted, _) = mounted(|store| {
        store.put("d", "an object", &[]);
        store.put("d/x", "1", &[]);
        // Far more keys between the two than a page holds.
        (0..1500).for_each(|number| store.put(&format!("d-{number:04}"), "x", &[]));
    })
    .await;
    assert_eq!(mounted.sh("ls | grep -c '^d$'; ls -l | grep -c '^d.* d$'; ls | wc -l").await, "1\n1\n1501");
    assert_eq!(mounted.sh("stat -c %F d; cat d/x").await, "directory\n1");
    mounted.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn links_of_both_makes_lead_somewhere_and_can_be_turned() {
    let (mounted, memory) = mounted(|store| {
        store.put("dir/file", "content", &[]);
        store.put("s3fs", " dir/file ", &[("mode", "41471")]);
        store.put("geesefs", "", &[("--symlink-target", "dir%2Ffile")]);
        store.put("empty", "", &[("mode", "41471")]);
    })
    .await;
    assert_eq!(
        mounted.sh("cat s3fs geesefs; readlink s3fs geesefs").await,
        "contentcontentdir/file\ndir/file"
    );
    assert_eq!(
        mounted.sh("find . -type l | sort; stat -c %F empty").await,
        "./geesefs\n./s3fs\nregular empty file"
    );
    memory.put_headers("geesefs", &[("--symlink-target", "elsewhere")]);
    assert_eq!(mounted.sh("readlink geesefs").await, "elsewhere");
    mounted.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn special_files_are_shown_and_what_has_content_is_a_file() {
    let (mounted, _) = mounted(|store| {
        store.put("fifo", "", &[("mode", "4516")]);
        store.put("char", "", &[("mode", "8612")]);
        store.put("block", "", &[("mode", "24996")]);
        store.put("socket", "", &[("mode", "49645")]);
        store.put("dirmode", "content", &[("mode", "16877")]);
        store.put("fifomode", "content", &[("mode", "4516")]);
    })
    .await;
    let listed = mounted.sh("ls -l | tail -n +2 | cut -c1").await;
    assert_eq!(listed, "b\nc\n-\np\n-\ns");
    assert_eq!(mounted.sh("cat dirmode fifomode").await, "contentcontent");
    // No device has the number 0.
    assert_eq!(mounted.sh("stat -c '%t:%T' block char").await, "0:0\n0:0");
    for device in ["block", "char"] {
        assert!(mounted.fails(&format!("cat {device}")).await.contains("cat"));
    }
    mounted.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_object_gives_a_program_the_rights_of_another_unless_the_mount_says_so() {
    let xattrs = "{\"security.capability\":\"AQAAAgAgAAAAAAAAAAAAAAAAAAA=\",\"trusted.x\":\"eQ==\",\"user.x\":\"eQ==\"}";
    let look = "stat -c '%n %a' *; getfattr -d -m - --absolute-names a | grep = | cut -d= -f1";
    for (suid, seen) in [
        (false, "a 755\nb 755\nc 1755\nd 2755\nlink 777\nuser.x"),
        (true, "a 4755\nb 2755\nc 7755\nd 2755\nlink 777\nsecurity.capability\ntrusted.x\nuser.x"),
    ] {
        let store = Memory::default();
        store.put("a", "program", &[("mode", "35309"), ("uid", "0"), ("xattr", xattrs)]);
        store.put("b", "program", &[("mode", "0102755"), ("uid", "0")]);
        store.put("c", "program", &[("mode", "07755"), ("uid", "0")]);
        store.put("d/", "", &[("mode", "042755")]);
        store.put("link", "a", &[("mode", "41471")]);
        let mounted = Mounted::with(Bucket::Memory(store.clone()), |options| {
            options.read_only = false;
            options.suid = suid;
        })
        .await;
        assert_eq!(mounted.sh(look).await, seen);
        assert_eq!(mounted.sh("ls -l a | cut -c1-10").await, if suid { "-rwsr-xr-x" } else { "-rwxr-xr-x" });
        let set = "setfattr -n security.capability -v 0sAQAAAgAgAAAAAAAAAAAAAAAAAAA= a";
        let said = mounted.run(set).await;
        assert_eq!(said.status.success(), suid, "{}", String::from_utf8_lossy(&said.stderr));
        assert_eq!(mounted.run("setfattr -x trusted.x a").await.status.success(), suid);
        // What is stored is what was said; another owner gets none of it.
        let mode = |key: &str| {
            let (headers, _) = store.headers(key).expect("there");
            headers.metadata.iter().find(|(name, _)| name == "mode").expect("a mode").1.clone()
        };
        mounted.sh("touch a; echo more >> b; chmod 6750 c").await;
        assert_eq!((mode("a"), mode("b"), mode("c")), ("35309".into(), "34285".into(), "36328".into()));
        assert_eq!(mounted.sh("stat -c %a c").await, if suid { "6750" } else { "750" });
        mounted.sh("chown 5 c; chmod 1777 .; chown 5 b; chmod 6777 b").await;
        mounted.sh("setpriv --reuid=5 --clear-groups sh -c 'echo x >> b'").await;
        assert_eq!((mode("b"), mode("c")), ("33279".into(), "33256".into()));
        mounted.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn extended_attributes_are_read() {
    let (mounted, memory) = mounted_for(Duration::from_secs(600), |store| {
        let xattr = "%7B%22user.title%22%3A%22dmFsdWU%3D%22%2C%22user.empty%22%3A%22%22%7D";
        store.put("a", "1", &[("xattr", xattr), ("colour", "dark%20blue")]);
        store.put("plain", "1", &[("mode", "33188")]);
        store.put("d/", "", &[("xattr", "{\"user.x\":\"eQ==\"}")]);
    })
    .await;
    let read = "/usr/bin/python3 -c 'import os,sys; p=sys.argv[1]; \
                print({n: os.getxattr(p, n) for n in sorted(os.listxattr(p))})'";
    assert_eq!(
        mounted.sh(&format!("{read} a")).await,
        "{'user.colour': b'dark blue', 'user.empty': b'', 'user.title': b'value'}"
    );
    assert_eq!(mounted.sh(&format!("{read} plain; {read} d")).await, "{}\n{'user.x': b'y'}");
    let absent = mounted.run("/usr/bin/python3 -c 'import os; os.getxattr(\"a\", \"user.absent\")'").await;
    assert!(String::from_utf8_lossy(&absent.stderr).contains("No data available"));
    memory.take_asked();
    mounted.sh(&format!("{read} a; {read} d")).await;
    assert_eq!(memory.take_asked(), [], "they came with the headers");
    mounted.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_may_not_be_read_is_shown_and_opens_to_nobody() {
    let (mounted, memory) = mounted(|store| {
        store.put("secret", "12345", &[]);
        store.put("open", "1", &[]);
    })
    .await;
    memory.deny("secret");
    assert_eq!(
        mounted.sh(&format!("ls -l >/dev/null; {STAT} secret open")).await,
        "secret 0 0 0 5 regular file\nopen 644 0 0 1 regular file"
    );
    let refused = mounted.run("cat secret").await;
    assert!(String::from_utf8_lossy(&refused.stderr).contains("Permission denied"));
    mounted.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_no_names_are_hidden_and_counted_once() {
    let long = "n".repeat(256);
    let (mounted, _) = mounted(|store| {
        for key in ["/lead", "a//b", "..", "x/../y", "nul\0", long.as_str(), "ok"] {
            store.put(key, "x", &[]);
        }
    })
    .await;
    for _ in 0..3 {
        assert_eq!(mounted.sh("ls -A; ls -A a x").await, "a\nok\nx\na:\n\nx:");
    }
    assert_eq!(mounted.session.health().hidden_keys, 6);
    mounted.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_roots_own_object_says_who_owns_the_root() {
    let (bucket, _) = mounted(|store| {
        store.put("/", "", &[("mode", "16832"), ("uid", "33"), ("gid", "34")]);
        store.put("a", "1", &[]);
    })
    .await;
    assert_eq!(bucket.sh("stat -c '%a %u %g' .; ls -A").await, "700 33 34\na");
    assert_eq!(bucket.session.health().hidden_keys, 0);
    bucket.end().await;

    let memory = Memory::default();
    memory.put("maps/", "", &[("mode", "16832"), ("uid", "35")]);
    memory.put("maps/a", "1", &[]);
    memory.put("other", "1", &[]);
    let prefix = Mounted::with(Bucket::Memory(memory), |options| options.prefix = "maps/".into()).await;
    assert_eq!(prefix.sh("stat -c '%a %u' .; ls -A; cat a").await, "700 35\na\n1");
    prefix.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_listed_name_can_be_looked_up_as_what_it_was_listed() {
    let (mounted, _) = mounted(|store| {
        for key in ["plain", "d/x", "d", "e/", "f_$folder$", "sp ace", "\u{e9}", "new\nline", "*", "-n", "~"]
        {
            store.put(key, "x", &[]);
        }
        store.put("link", "plain", &[("mode", "41471")]);
        store.put("fifo", "", &[("mode", "4516")]);
    })
    .await;
    // The type in the directory against that of the file, before anything else was asked.
    let compare = "/usr/bin/python3 -c '
import os, stat
for entry in sorted(os.scandir(b\".\"), key=lambda entry: entry.name):
    mode = os.lstat(entry.path).st_mode
    said = (entry.is_dir(follow_symlinks=False), entry.is_file(follow_symlinks=False), entry.is_symlink())
    assert said == (stat.S_ISDIR(mode), stat.S_ISREG(mode), stat.S_ISLNK(mode)), entry.name
    print(entry.inode() == os.lstat(entry.path).st_ino, end=\" \")
'";
    assert_eq!(mounted.sh(compare).await, ["True"; 12].join(" "));
    mounted.end().await;
}

/// A server that answers as `hostile` says, mounted.
async fn mounted_at(url: &str) -> Mounted {
    mounted_with(url, true).await
}

async fn mounted_with(url: &str, read_only: bool) -> Mounted {
    let server = Server::start(s3_testbed::Options::memory(["bucket"])).expect("a free port");
    let client = s3_client(url).await;
    Mounted::with(Bucket::S3 { server, client }, |options| {
        (options.freshness, options.read_only) = (Duration::ZERO, read_only);
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_blanks_are_shown_and_reachable() {
    let bucket = Bucket::s3().await;
    let names = [" ", "\t", "\r", "\u{a0}", "\u{2003}"];
    names.iter().for_each(|name| bucket.put(name, b"x", &[("mode", "33188")]));
    bucket.put("d\u{a0}/ ", b"x", &[]);
    let mounted = Mounted::new(bucket, Duration::ZERO).await;
    assert_eq!(
        mounted.fails("LC_ALL=C stat '  '").await,
        "stat: cannot statx '  ': No such file or directory\n"
    );
    assert_eq!(mounted.sh("ls -l >/dev/null && ls | wc -l && ls d*").await, "6\n ".trim_end());
    for name in names {
        assert_eq!(mounted.sh(&format!("stat -c %a '{name}' && cat '{name}'")).await, "644\nx", "{name:?}");
    }
    assert_eq!(mounted.session.health().store, StoreHealth::Answering);
    mounted.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_asked_about_is_an_unreadable_file_and_hides_no_other() {
    let url =
        hostile::serve(&[("a", "1"), ("bad", "12345"), ("marked/", ""), ("marked/x", "1")], |request| {
            let is_bad = ["/bucket/bad", "/bucket/marked/"].contains(&request.path.as_str());
            is_bad.then(|| Answer::raw("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n"))
        })
        .await;
    let mounted = mounted_at(&url).await;
    assert_eq!(mounted.sh("stat -c '%a %s' bad").await, "0 5", "asked for by name");
    for _ in 0..2 {
        assert_eq!(mounted.sh("ls -l | grep -c . && ls").await, "4\na\nbad\nmarked");
        assert_eq!(
            mounted.sh(&format!("{STAT} a bad marked/x")).await.lines().nth(1),
            Some("bad 0 0 0 5 regular file")
        );
    }
    assert_eq!(mounted.sh("cat a marked/x").await, "11");
    assert!(mounted.fails("cat bad").await.contains("Input/output error"));
    let health = mounted.session.health();
    assert_eq!((health.store, health.unreadable_keys), (StoreHealth::Answering, 2));
    mounted.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_whose_headers_do_not_come_does_not_fail_the_listing() {
    for answer in
        ["HTTP/1.1 500 X\r\ncontent-length: 0\r\n\r\n", "nonsense\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"]
    {
        let url = hostile::serve(&[("a", "1"), ("bad", "12345"), ("c", "1")], move |request| {
            (request.path == "/bucket/bad").then(|| Answer::raw(answer))
        })
        .await;
        let mounted = mounted_at(&url).await;
        assert_eq!(
            mounted.sh("ls && find . -name a -size -2 && cat a c").await,
            "a\nbad\nc\n./a\n11",
            "{answer}"
        );
        mounted.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_were_not_asked_for_are_never_shown_and_never_kept() {
    let lies = Arc::new(AtomicBool::new(true));
    let are_lies = lies.clone();
    let body: &str = (0..50_000).map(|number| format!("{number:06}")).collect::<String>().leak();
    let objects: &[(&str, &str)] = vec![("a", body)].leak();
    let url = hostile::serve(objects, move |request| {
        let (first, last) =
            request.range.filter(|(first, _)| *first > 0 && are_lies.load(Ordering::Relaxed))?;
        let size = body.len();
        let (first, last) = (first - 6, last.min(size - 1) - 6);
        let headers = format!("{STAMP}content-range: bytes {first}-{last}/{size}\r\n");
        Some(Answer::new("206 Partial Content", &headers, &body.as_bytes()[first..=last]))
    })
    .await;
    let mounted = mounted_at(&url).await;
    for _ in 0..2 {
        assert!(mounted.fails("cat a").await.contains("Input/output error"));
    }
    lies.store(false, Ordering::Relaxed);
    let sums = mounted.sh("cat a | cksum && seq -f %06g 0 49999 | tr -d '\\n' | cksum").await;
    let (shown, right) = sums.split_once('\n').expect("two sums");
    assert_eq!(shown, right);
    mounted.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_size_of_the_same_version_is_never_shown_and_never_kept() {
    let lies = Arc::new(AtomicBool::new(false));
    let are_lies = lies.clone();
    let url = hostile::serve(&[("a", "123456")], move |request| {
        let is_lie = request.path == "/bucket/a" && are_lies.load(Ordering::Relaxed);
        is_lie.then(|| Answer::new("200 OK", STAMP, b"123"))
    })
    .await;
    let mounted = mounted_at(&url).await;
    assert_eq!(mounted.sh("ls; cat a").await, "a\n123456");
    lies.store(true, Ordering::Relaxed);
    assert!(mounted.fails("cat a").await.contains("Input/output error"));
    lies.store(false, Ordering::Relaxed);
    assert_eq!(mounted.sh("cat a").await, "123456");
    mounted.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_size_that_cannot_be_is_neither_copied_nor_moved() {
    let url = hostile::serve(&[("d/", ""), ("d/a", "1"), ("d/z", "1")], |request| {
        let head =
            |size: &str| Answer::raw(format!("HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n{STAMP}\r\n"));
        match (request.path.as_str(), request.method.as_str()) {
            ("/bucket/d/z", "HEAD") => Some(head("9223372036854775807")),
            ("/bucket/", _)
                if request.query.contains("prefix=d%2F") && !request.query.contains("max-keys=2&") =>
            {
                Some(Answer::page(&(contents("d/", "0") + &contents("d/z", "9223372036854775807"))))
            }
            _ => None,
        }
    })
    .await;
    let mounted = mounted_with(&url, false).await;
    assert!(mounted.fails("chmod 600 d/z").await.contains("Input/output error"));
    assert!(mounted.fails("mv d e").await.contains("Input/output error"));
    assert_eq!(mounted.sh("stat -c %a d/z").await, "0");
    mounted.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_without_an_end_ends() {
    let pages = AtomicU64::new(0);
    let url = hostile::serve(&[("a", "1")], move |request| {
        let page = |token: u64| {
            format!("<IsTruncated>true</IsTruncated><NextContinuationToken>t{token}</NextContinuationToken>")
        };
        let number = pages.fetch_add(1, Ordering::Relaxed);
        match request.query.split('&').find_map(|pair| pair.strip_prefix("prefix="))? {
            "circle%2F" => Some(Answer::page(&(contents("circle/a", "1") + &page(number % 2)))),
            "empty%2F" if request.query.contains("continuation") => Some(Answer::page(&page(number))),
            "empty%2F" => Some(Answer::page(&(contents("empty/a", "1") + &page(number)))),
            _ => None,
        }
    })
    .await;
    let mounted = mounted_at(&url).await;
    for name in ["circle", "empty"] {
        assert!(mounted.fails(&format!("ls {name}")).await.contains("Input/output error"), "{name}");
    }
    assert_eq!(mounted.sh("cat a").await, "1");
    mounted.end().await;
}
