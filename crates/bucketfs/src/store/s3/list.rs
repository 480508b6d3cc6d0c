//! Pages of keys from S3.

use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::EncodingType;

use super::answer;
use super::client::S3;
use super::said::{TOKEN_MAX, etag, form_decoded, length, malformed};
use crate::store::error::StoreError;
use crate::store::read::{Depth, EMPTY_PAGES, List, ListStart, Listed, Page};
use crate::store::version::ETag;
use crate::store::write::KEY_MAX;

impl S3 {
    /// A page with keys, or the last one: S3 may send pages without any, which say nothing.
    pub(super) async fn list_page(&self, list: List<'_>) -> Result<Page, StoreError> {
        let mut page = self.list_objects(&list).await?;
        for _ in 0..EMPTY_PAGES {
            let says_nothing = page.objects.is_empty() && page.prefixes.is_empty();
            let Some(token) = page.next.take_if(|_| says_nothing) else { return Ok(page) };
            page = self.list_objects(&List { from: ListStart::Page(&token), ..list }).await?;
        }
        Err(malformed("pages of a listing without a key"))
    }

    async fn list_objects(&self, list: &List<'_>) -> Result<Page, StoreError> {
        // Nothing can be below it. One byte more than a key: that of a directory of the longest name.
        if list.prefix.len() > KEY_MAX + 1 {
            return Ok(Page::default());
        }
        let mut request = self
            .client
            .list_objects_v2()
            .bucket(&self.bucket)
            .prefix(list.prefix)
            .encoding_type(EncodingType::Url)
            .max_keys(i32::from(list.limit));
        if list.depth == Depth::Directory {
            request = request.delimiter("/");
        }
        request = match list.from {
            ListStart::Start => request,
            ListStart::Page(token) => request.continuation_token(token),
        };
        let what = if list.prefix.is_empty() { &self.bucket } else { list.prefix };
        let answer = request.send().await.map_err(|error| self.failure(&error, what))?;
        // A key may hold what no XML can say.
        let decoded = match answer.encoding_type() {
            Some(EncodingType::Url) => form_decoded,
            _ => |key: String| key,
        };
        let token = if let ListStart::Page(token) = list.from { Some(token) } else { None };
        let next = match (answer.is_truncated(), answer.next_continuation_token) {
            (Some(true), Some(next)) if next.len() > TOKEN_MAX || token == Some(&*next) => {
                return Err(malformed("a continuation token that leads nowhere"));
            }
            (Some(true), None) => return Err(malformed("a page that is not the last, and no next one")),
            (Some(true), next) => next,
            _ => None,
        };
        let (contents, rolled) =
            (answer.contents.unwrap_or_default(), answer.common_prefixes.unwrap_or_default());
        if (contents.len() + rolled.len()) as u64 > answer::PAGE_KEYS {
            return Err(malformed("more keys than a page has"));
        }
        let listed = contents.into_iter().map(|object| {
            let known = etag(object.e_tag()).and_then(|etag| Ok((length(object.size())?, etag)));
            let (size, etag) = known.unwrap_or_else(|_| (0, ETag("".into())));
            let last_modified = object.last_modified().map_or(0, DateTime::secs);
            let key = decoded(object.key.ok_or_else(|| malformed("no Key"))?);
            Ok(Listed { key, size, etag, last_modified })
        });
        let page = Page {
            objects: listed.collect::<Result<_, StoreError>>()?,
            prefixes: rolled.into_iter().filter_map(|rolled| rolled.prefix.map(decoded)).collect(),
            next,
        };
        let mut keys = page.objects.iter().map(|object| &object.key).chain(&page.prefixes);
        match keys.all(|key| key.starts_with(list.prefix)) {
            true => Ok(page),
            false => Err(malformed("keys that are not below the prefix that was asked for")),
        }
    }
}
