//! Multipart uploads.

use aws_sdk_s3::operation::complete_multipart_upload::builders::CompleteMultipartUploadFluentBuilder;
use aws_sdk_s3::operation::upload_part_copy::builders::UploadPartCopyFluentBuilder;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};

use super::world::{World, refusal};

const PART: usize = 5 * 1024 * 1024;

pub async fn create(w: &World, key: &str) -> String {
    let create = w.s3.create_multipart_upload().bucket(&w.bucket).key(key);
    create.metadata("mode", "33188").content_type("text/x-map").send().await.unwrap().upload_id.unwrap()
}

pub async fn part(w: &World, key: &str, id: &str, number: i32, body: Vec<u8>) -> CompletedPart {
    let part = w.s3.upload_part().bucket(&w.bucket).key(key).upload_id(id).part_number(number);
    let tag = part.body(ByteStream::from(body)).send().await.unwrap().e_tag.unwrap();
    CompletedPart::builder().part_number(number).e_tag(tag).build()
}

pub fn complete(
    w: &World,
    key: &str,
    id: &str,
    parts: Vec<CompletedPart>,
) -> CompleteMultipartUploadFluentBuilder {
    let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
    w.s3.complete_multipart_upload().bucket(&w.bucket).key(key).upload_id(id).multipart_upload(parts)
}

pub async fn parts_become_an_object_in_the_order_of_their_numbers(w: &World) {
    let id = create(w, "a").await;
    let second = part(w, "a", &id, 7, b"tail".to_vec()).await;
    part(w, "a", &id, 2, vec![0; PART]).await;
    let first = part(w, "a", &id, 2, vec![1; PART]).await;
    complete(w, "a", &id, vec![first, second]).send().await.unwrap();
    assert!(w.s3.list_multipart_uploads().bucket(&w.bucket).send().await.unwrap().uploads().is_empty());
    let got = w.s3.get_object().bucket(&w.bucket).key("a").send().await.unwrap();
    assert_eq!(got.metadata().unwrap()["mode"], "33188");
    assert_eq!(got.content_type(), Some("text/x-map"));
    let bytes = got.body.collect().await.unwrap().to_vec();
    assert!(bytes[..PART].iter().all(|byte| *byte == 1));
    assert_eq!(&bytes[PART..], b"tail");
    let range = format!("bytes={}-{}", PART - 1, PART);
    let got = w.s3.get_object().bucket(&w.bucket).key("a").range(range).send().await.unwrap();
    assert_eq!(got.body.collect().await.unwrap().to_vec(), b"\x01t");
}

pub async fn the_tag_of_a_multipart_object_counts_its_parts(w: &World) {
    let id = create(w, "a").await;
    let parts = vec![part(w, "a", &id, 1, b"hello".to_vec()).await];
    let done = complete(w, "a", &id, parts).send().await.unwrap();
    assert_eq!(done.e_tag(), Some("\"62109206880d38a4010a98e11243924a-1\""));
}

fn copy_part(w: &World, id: &str, range: &str) -> UploadPartCopyFluentBuilder {
    let copy = w.s3.upload_part_copy().bucket(&w.bucket).key("a").upload_id(id).part_number(1);
    copy.copy_source(format!("{}/source", w.bucket)).copy_source_range(range)
}

pub async fn a_part_can_be_copied_from_a_range_of_an_object(w: &World) {
    w.put("source", "0123456789").await;
    let id = create(w, "a").await;
    let copied = copy_part(w, &id, "bytes=2-5").send().await.unwrap();
    let tag = copied.copy_part_result.unwrap().e_tag.unwrap();
    let parts = vec![CompletedPart::builder().part_number(1).e_tag(tag).build()];
    complete(w, "a", &id, parts).send().await.unwrap();
    assert_eq!(w.read("a").await, b"2345");
}

pub async fn a_part_cannot_be_copied_from_beyond_the_end(w: &World) {
    w.put("source", "0123456789").await;
    let id = create(w, "a").await;
    let status = refusal(copy_part(w, &id, "bytes=2-10").send().await).0;
    assert!((400..500).contains(&status), "{status}");
}

pub async fn an_aborted_upload_leaves_nothing(w: &World) {
    let id = create(w, "a").await;
    part(w, "a", &id, 1, b"x".to_vec()).await;
    w.s3.abort_multipart_upload().bucket(&w.bucket).key("a").upload_id(&id).send().await.unwrap();
    assert!(w.keys().await.is_empty());
    assert!(w.s3.list_multipart_uploads().bucket(&w.bucket).send().await.unwrap().uploads().is_empty());
}

pub async fn an_aborted_upload_is_unknown(w: &World) {
    let id = create(w, "a").await;
    let abort = || w.s3.abort_multipart_upload().bucket(&w.bucket).key("a").upload_id(&id).send();
    abort().await.unwrap();
    assert_eq!(refusal(abort().await), (404, "NoSuchUpload".into()));
    let late = w.s3.upload_part().bucket(&w.bucket).key("a").upload_id(&id).part_number(1).send().await;
    assert_eq!(refusal(late), (404, "NoSuchUpload".into()));
}

pub async fn open_uploads_are_listed(w: &World) {
    let id = create(w, "dir/a").await;
    create(w, "other").await;
    let list = w.s3.list_multipart_uploads().bucket(&w.bucket).prefix("dir/").send().await.unwrap();
    let uploads: Vec<_> =
        list.uploads().iter().map(|it| (it.key().unwrap(), it.upload_id().unwrap())).collect();
    assert_eq!(uploads, [("dir/a", id.as_str())]);
    assert!(w.keys().await.is_empty());
}

pub async fn parts_are_listed_page_by_page(w: &World) {
    let id = create(w, "dir/a").await;
    for number in [1, 3, 2] {
        part(w, "dir/a", &id, number, vec![0; number as usize]).await;
    }
    let list = || w.s3.list_parts().bucket(&w.bucket).key("dir/a").upload_id(&id).max_parts(2);
    let page = list().send().await.unwrap();
    let sizes: Vec<_> =
        page.parts().iter().map(|part| (part.part_number().unwrap(), part.size().unwrap())).collect();
    assert_eq!((sizes, page.is_truncated()), (vec![(1, 1), (2, 2)], Some(true)));
    let marker = page.next_part_number_marker().unwrap();
    let page = list().part_number_marker(marker).send().await.unwrap();
    assert_eq!((page.parts().len(), page.is_truncated()), (1, Some(false)));
}

pub async fn a_completion_can_insist_on_absence(w: &World) {
    let id = create(w, "a").await;
    let parts = vec![part(w, "a", &id, 1, b"new".to_vec()).await];
    w.put("a", "old").await;
    let refused = complete(w, "a", &id, parts.clone()).if_none_match("*").send().await;
    assert_eq!(refusal(refused), (412, "PreconditionFailed".into()));
    w.s3.delete_object().bucket(&w.bucket).key("a").send().await.unwrap();
    complete(w, "a", &id, parts).if_none_match("*").send().await.unwrap();
    assert_eq!(w.read("a").await, b"new");
}

pub async fn parts_that_are_wrong_are_refused(w: &World) {
    let id = create(w, "a").await;
    let small = part(w, "a", &id, 1, b"x".to_vec()).await;
    let last = part(w, "a", &id, 2, b"y".to_vec()).await;
    let done = |parts| complete(w, "a", &id, parts).send();
    let wrong = CompletedPart::builder().part_number(1).e_tag("\"0123\"").build();
    assert_eq!(refusal(done(vec![wrong]).await), (400, "InvalidPart".into()));
    assert_eq!(refusal(done(vec![small, last]).await), (400, "EntityTooSmall".into()));
    assert!(w.keys().await.is_empty());
}

pub async fn parts_out_of_order_are_refused(w: &World) {
    let id = create(w, "a").await;
    let first = part(w, "a", &id, 1, vec![0; PART]).await;
    let second = part(w, "a", &id, 2, vec![0; PART]).await;
    let swapped = complete(w, "a", &id, vec![second, first]).send().await;
    assert_eq!(refusal(swapped), (400, "InvalidPartOrder".into()));
    assert!(w.keys().await.is_empty());
}
