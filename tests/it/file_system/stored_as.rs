//! What a mount says of how its objects are to be kept: encryption, storage class, access control list.

use std::sync::{Arc, Mutex};

use crate::file_system::common::hostile::{self, Answer, Request};
use crate::file_system::common::{Bucket, Mounted, s3_client};
use bucketfs::store::write::{CopyRequest, Encryption, Headers, Kept, NewContent, Put, WriteIf};
use bucketfs::store::{ETag, ObjectStoreWrite};
use bytes::Bytes;

fn kms(key: &str) -> Encryption {
    Encryption { algorithm: "aws:kms".into(), key: Some(key.into()), bucket_key: None }
}

fn new_content() -> NewContent {
    NewContent {
        encryption: Some(kms("alias/maps")),
        storage_class: Some("STANDARD_IA".into()),
        acl: Some("bucket-owner-full-control".into()),
    }
}

/// A server that takes every write, and what it was sent.
async fn listening() -> (String, Arc<Mutex<Vec<Request>>>) {
    let requests = Arc::new(Mutex::new(Vec::new()));
    let noted = requests.clone();
    let url = hostile::serve(&[], move |request| {
        noted.lock().expect("whole").push(request.clone());
        let body = match (request.header("x-amz-copy-source"), request.query.contains("uploads")) {
            (Some(_), _) => "<CopyObjectResult><ETag>\"e\"</ETag></CopyObjectResult>",
            (None, true) => {
                "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"
            }
            (None, false) => "",
        };
        Some(Answer::new("200 OK", "etag: \"e\"\r\nconnection: close\r\n", body.as_bytes()))
    })
    .await;
    (url, requests)
}

/// Class, algorithm, key and ACL as a request has them.
fn said(request: &Request) -> [Option<&str>; 4] {
    [
        "x-amz-storage-class",
        "x-amz-server-side-encryption",
        "x-amz-server-side-encryption-aws-kms-key-id",
        "x-amz-acl",
    ]
    .map(|name| request.header(name))
}

#[tokio::test]
async fn every_write_says_how_it_is_to_be_kept_and_a_copy_keeps_what_the_object_has() {
    let (url, requests) = listening().await;
    let store = s3_client(&url).await.with_new_content(new_content());
    let (body, etag, plain) = (Bytes::new(), ETag("\"e\"".into()), Headers::default());
    let put = Put { key: "a", body, headers: &plain, tags: &[], condition: WriteIf::Always };
    store.put(put.clone()).await.expect("put");
    store.begin_upload("a", &plain, &[]).await.expect("begun");
    let copy = |headers| CopyRequest { from: "a", etag: &etag, to: "b", headers, condition: WriteIf::Always };
    store.copy(copy(None)).await.expect("copied");
    store.copy(copy(Some(&plain))).await.expect("copied");
    let kept =
        Kept { storage_class: Some("GLACIER_IR".into()), encryption: Some(kms("own")), ..Kept::default() };
    let own = Headers { kept: Box::new(kept), ..Headers::default() };
    store.copy(copy(Some(&own))).await.expect("copied");
    let mut stamped = own.clone();
    store.stamp(&mut stamped.kept);
    store.put(Put { headers: &stamped, ..put.clone() }).await.expect("put");
    let silent = s3_client(&url).await;
    silent.put(put).await.expect("put");
    // But for those by which a store is tried, and looked at, that is not AWS.
    let requests = requests.lock().expect("whole").clone();
    let written = requests.iter().filter(|it| it.method != "HEAD" && !it.path.contains(".mapkeeper-trial-"));
    let (ia, acl) = (Some("STANDARD_IA"), Some("bucket-owner-full-control"));
    let ours = [Some("aws:kms"), Some("alias/maps")];
    let all = [ia, ours[0], ours[1], acl];
    let expected = [
        all,
        // Whoever begins an upload of a new content has stamped its headers.
        [None, ours[0], ours[1], acl],
        all,
        // Of the usual class, and encrypted by nobody's key: it stays in its class, and gets ours.
        [None, ours[0], ours[1], acl],
        [Some("GLACIER_IR"), Some("aws:kms"), Some("own"), acl],
        all,
        [None; 4],
    ];
    assert_eq!(written.map(said).collect::<Vec<_>>(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_through_a_mount_gets_the_class_and_what_is_only_changed_keeps_its_own() {
    let Bucket::S3 { server, client } = Bucket::s3().await else { panic!("a server") };
    let client = client.with_new_content(NewContent { encryption: None, ..new_content() });
    let world = Mounted::writable(Bucket::S3 { server, client }).await;
    world.bucket.put("old", b"content", &[("mode", "33188")]);
    world.bucket.put("d/old", b"content", &[("mode", "33188")]);
    world.sh("chmod 600 old; mkdir e; echo new > e/new; echo new > d/old; seq 3000000 > e/large").await;
    world.sh("mv e/new e/moved; touch e/large; mv d f").await;
    let Bucket::S3 { server, .. } = &world.bucket else { panic!("a server") };
    let class = |key: &str| server.store().get("bucket", key).expect(key).attributes.storage_class.clone();
    for key in ["e/", "e/moved", "e/large", "f/old", "f/"] {
        assert_eq!(class(key).as_deref(), Some("STANDARD_IA"), "{key}");
    }
    assert_eq!(class("old"), None);
    world.sh("echo new > old").await;
    assert_eq!(class("old").as_deref(), Some("STANDARD_IA"));
    world.end().await;
}
