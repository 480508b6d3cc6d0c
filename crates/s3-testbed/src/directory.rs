//! A bucket that is a directory: the path of a file is its key.
//!
//! Nothing is remembered between requests, so files that people drop in with any tool just work. A sub-directory is
//! also the key `dir/` of zero bytes. What a file cannot say of itself (user metadata, content type) is in its
//! extended attribute `user.mapkeeper.s3`.
//!
//! What must hold: no key reaches anything outside the directory. Keys are checked, and the kernel is asked to
//! resolve them beneath the directory only. A link is followed to a file inside; a link to a directory is not
//! served, since it could be a loop. Files being uploaded have a reserved name and are no keys.
//!
//! Different from S3, because a file system is: a key cannot have empty segments, nor be a file and a directory at
//! once, and directories stay when the last key in them is deleted.

mod attributes;
mod beneath;
mod bucket;
mod place;
mod upload;
mod walk;

pub(super) use bucket::DirectoryBucket;

#[cfg(test)]
mod tests;
