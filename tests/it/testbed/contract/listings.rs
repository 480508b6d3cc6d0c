//! Lists, both versions of the request.

use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
use aws_sdk_s3::types::EncodingType;

use super::world::World;

/// Keys and common prefixes of a page, each in the order of the answer.
fn shown(page: &ListObjectsV2Output) -> (Vec<&str>, Vec<&str>) {
    let keys = page.contents().iter().map(|object| object.key().unwrap()).collect();
    let prefixes = page.common_prefixes().iter().map(|prefix| prefix.prefix().unwrap()).collect();
    (keys, prefixes)
}

async fn fill(w: &World, keys: &[&str]) {
    for key in keys {
        w.put(key, "x").await;
    }
}

pub async fn an_empty_bucket_lists_nothing(w: &World) {
    let page = w.s3.list_objects_v2().bucket(&w.bucket).delimiter("/").send().await.unwrap();
    assert_eq!((page.key_count(), page.is_truncated()), (Some(0), Some(false)));
    assert_eq!(shown(&page), (vec![], vec![]));
    w.put("a/b", "x").await;
    let page = w.s3.list_objects_v2().bucket(&w.bucket).prefix("nothing/").send().await.unwrap();
    assert_eq!(shown(&page), (vec![], vec![]));
}

pub async fn a_delimiter_rolls_keys_up(w: &World) {
    fill(w, &["a", "dir.txt", "dir/b", "dir/c", "dir/sub/d", "dir0", "z/e"]).await;
    let list = |prefix: &str| w.s3.list_objects_v2().bucket(&w.bucket).delimiter("/").prefix(prefix).send();
    let page = list("").await.unwrap();
    assert_eq!(shown(&page), (vec!["a", "dir.txt", "dir0"], vec!["dir/", "z/"]));
    assert_eq!(page.key_count(), Some(5));
    let page = list("dir").await.unwrap();
    assert_eq!(shown(&page), (vec!["dir.txt", "dir0"], vec!["dir/"]));
    let page = list("dir/b").await.unwrap();
    assert_eq!(shown(&page), (vec!["dir/b"], vec![]));
    let object = &page.contents()[0];
    assert_eq!(object.size(), Some(1));
    let head = w.s3.head_object().bucket(&w.bucket).key("dir/b").send().await.unwrap();
    assert_eq!((object.e_tag(), object.last_modified()), (head.e_tag(), head.last_modified()));
}

pub async fn a_list_pages_over_prefixes_and_keys_in_order(w: &World) {
    fill(w, &["a", "b/1", "b/2", "c", "d/1", "d/2", "e"]).await;
    let mut token = None;
    let mut pages = Vec::new();
    loop {
        let list = w.s3.list_objects_v2().bucket(&w.bucket).delimiter("/").max_keys(2);
        let page = list.set_continuation_token(token).send().await.unwrap();
        let (keys, prefixes) = shown(&page);
        pages.push([keys, prefixes].concat().join(" "));
        assert_eq!(page.is_truncated(), Some(page.next_continuation_token().is_some()));
        token = page.next_continuation_token;
        if token.is_none() {
            break;
        }
    }
    assert_eq!(pages, ["a b/", "c d/", "e"]);
}

/// Walks through a bucket of keys and prefixes with both requests and compares their pages.
async fn compare_lists(w: &World, delimiter: Option<&str>) {
    let nested = (0..25).map(|n| format!("{}/{n:02}", n % 7));
    let keys: Vec<String> = nested.chain((0..5).map(|n| format!("file-{n}"))).collect();
    fill(w, &keys.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let delimiter = delimiter.map(str::to_owned);
    let (mut token, mut marker) = (None, None);
    loop {
        let list = w.s3.list_objects_v2().bucket(&w.bucket).set_delimiter(delimiter.clone());
        let second = list.max_keys(4).set_continuation_token(token).send().await.unwrap();
        let list = w.s3.list_objects().bucket(&w.bucket).set_delimiter(delimiter.clone());
        let first = list.max_keys(4).set_marker(marker).send().await.unwrap();
        let keys: Vec<_> = first.contents().iter().map(|object| object.key().unwrap()).collect();
        let prefixes = first.common_prefixes().iter().map(|prefix| prefix.prefix().unwrap()).collect();
        assert_eq!((keys.clone(), prefixes), shown(&second));
        assert_eq!(first.is_truncated(), second.is_truncated());
        marker = match delimiter {
            Some(_) => first.next_marker.clone(),
            None => keys.last().map(|key| (*key).to_owned()),
        };
        token = second.next_continuation_token;
        if token.is_none() {
            break;
        }
    }
}

pub async fn both_lists_agree_on_every_page_of_keys(w: &World) {
    compare_lists(w, None).await;
}

pub async fn both_lists_agree_on_every_page_of_keys_and_prefixes(w: &World) {
    compare_lists(w, Some("/")).await;
}

pub async fn a_list_can_start_after_a_key(w: &World) {
    fill(w, &["a", "b", "c", "d"]).await;
    let list = w.s3.list_objects_v2().bucket(&w.bucket).start_after("b").max_keys(1);
    let page = list.send().await.unwrap();
    assert_eq!(shown(&page).0, ["c"]);
    let list = w.s3.list_objects_v2().bucket(&w.bucket).start_after("b").max_keys(1);
    let page = list.continuation_token(page.next_continuation_token().unwrap()).send().await.unwrap();
    assert_eq!(shown(&page).0, ["d"]);
    let page = w.s3.list_objects_v2().bucket(&w.bucket).start_after("bb").send().await.unwrap();
    assert_eq!(shown(&page).0, ["c", "d"]);
}

pub async fn a_directory_object_alone_is_listed(w: &World) {
    fill(w, &["dir/sub/"]).await;
    let list = |prefix: &str| w.s3.list_objects_v2().bucket(&w.bucket).delimiter("/").prefix(prefix).send();
    assert_eq!(shown(&list("").await.unwrap()), (vec![], vec!["dir/"]));
    assert_eq!(shown(&list("dir/").await.unwrap()), (vec![], vec!["dir/sub/"]));
    assert_eq!(shown(&list("dir/sub/").await.unwrap()), (vec!["dir/sub/"], vec![]));
}

pub async fn no_keys_on_demand(w: &World) {
    fill(w, &["a"]).await;
    let page = w.s3.list_objects_v2().bucket(&w.bucket).max_keys(0).send().await.unwrap();
    assert_eq!(shown(&page), (vec![], vec![]));
    assert_eq!(page.is_truncated(), Some(false));
}

pub async fn strange_keys_are_listed_in_byte_order_and_encoded_on_demand(w: &World) {
    let keys = ["/", "//a", "/b", "a b", "a%20b", "a+b", "a//b", "a/b", "~", "é", "漢", "\u{1F30D}"];
    fill(w, &keys).await;
    assert_eq!(w.keys().await, keys);
    let page = w.s3.list_objects_v2().bucket(&w.bucket).delimiter("/").send().await.unwrap();
    assert_eq!(shown(&page).1, ["/", "a/"]);
    let list = w.s3.list_objects_v2().bucket(&w.bucket).encoding_type(EncodingType::Url).prefix("a");
    let page = list.send().await.unwrap();
    let keys = shown(&page).0;
    assert!(keys.contains(&"a%2Bb") && keys.contains(&"a%2520b"), "{keys:?}");
    assert_eq!(page.encoding_type(), Some(&EncodingType::Url));
}
