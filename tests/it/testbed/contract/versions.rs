//! Buckets that keep versions.

use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};

use super::world::{World, refusal};

async fn keep_versions(w: &World) {
    let enabled = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
    w.s3.put_bucket_versioning().bucket(&w.bucket).versioning_configuration(enabled).send().await.unwrap();
}

async fn put(w: &World, key: &str, text: &str) -> String {
    let put = w.s3.put_object().bucket(&w.bucket).key(key).body(text.as_bytes().to_vec().into());
    put.send().await.unwrap().version_id.unwrap()
}

async fn read(w: &World, key: &str, version: &str) -> Vec<u8> {
    let got = w.s3.get_object().bucket(&w.bucket).key(key).version_id(version).send().await.unwrap();
    assert_eq!(got.version_id(), Some(version));
    got.body.collect().await.unwrap().to_vec()
}

pub async fn a_deleted_object_is_still_there_by_its_version(w: &World) {
    w.put("before", "x").await;
    let plain = w.s3.head_object().bucket(&w.bucket).key("before").send().await.unwrap();
    assert_eq!(plain.version_id(), None);
    keep_versions(w).await;
    let first = put(w, "a", "one").await;
    let second = put(w, "a", "two").await;
    assert_ne!(first, second);
    let deleted = w.s3.delete_object().bucket(&w.bucket).key("a").send().await.unwrap();
    assert_eq!(deleted.delete_marker(), Some(true));
    assert_eq!(refusal(w.s3.get_object().bucket(&w.bucket).key("a").send().await), (404, "NoSuchKey".into()));
    assert_eq!(w.keys().await, ["before"]);
    assert_eq!((read(w, "a", &first).await, read(w, "a", &second).await), (b"one".to_vec(), b"two".to_vec()));
    let marker = deleted.version_id.unwrap();
    w.s3.delete_object().bucket(&w.bucket).key("a").version_id(&marker).send().await.unwrap();
    assert_eq!(w.read("a").await, b"two");
}

pub async fn a_delete_marker_cannot_be_read(w: &World) {
    keep_versions(w).await;
    put(w, "a", "one").await;
    let deleted = w.s3.delete_object().bucket(&w.bucket).key("a").send().await.unwrap();
    let got =
        w.s3.get_object().bucket(&w.bucket).key("a").version_id(deleted.version_id.unwrap()).send().await;
    assert_eq!(refusal(got), (405, "MethodNotAllowed".into()));
}

pub async fn versions_are_listed_newest_first_page_by_page(w: &World) {
    keep_versions(w).await;
    let first = put(w, "a", "1").await;
    let second = put(w, "a", "22").await;
    let other = put(w, "b", "333").await;
    let all = w.s3.list_object_versions().bucket(&w.bucket).send().await.unwrap();
    let versions: Vec<_> = all
        .versions()
        .iter()
        .map(|it| (it.key().unwrap(), it.version_id().unwrap(), it.is_latest().unwrap(), it.size().unwrap()))
        .collect();
    let expected =
        [("a", second.as_str(), true, 2), ("a", first.as_str(), false, 1), ("b", other.as_str(), true, 3)];
    assert_eq!(versions, expected);
    let list = w.s3.list_object_versions().bucket(&w.bucket).max_keys(1);
    let page = list.send().await.unwrap();
    assert_eq!(page.is_truncated(), Some(true));
    let list = w.s3.list_object_versions().bucket(&w.bucket).max_keys(1);
    let list = list.set_key_marker(page.next_key_marker).set_version_id_marker(page.next_version_id_marker);
    let page = list.send().await.unwrap();
    assert_eq!(page.versions()[0].version_id(), Some(first.as_str()));
}

pub async fn a_copy_can_bring_an_old_version_back(w: &World) {
    keep_versions(w).await;
    let first = put(w, "a", "one").await;
    put(w, "a", "two").await;
    let copy = w.s3.copy_object().bucket(&w.bucket).key("a");
    let copied = copy.copy_source(format!("{}/a?versionId={first}", w.bucket)).send().await.unwrap();
    assert_eq!(copied.copy_source_version_id(), Some(first.as_str()));
    assert_eq!(w.read("a").await, b"one");
}
