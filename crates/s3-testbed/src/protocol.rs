//! S3 requests, decoded by `s3s`, as calls of the store; and what the store says as S3 answers.
//!
//! Nothing here decides what an object is or who may have it. Calls that wait for a disk run on threads of their own.

mod adapter;
mod bucket;
mod convert;
mod dispatch;
mod list;
mod multipart;
mod read;
mod receive;
mod tags;
mod write;

pub(super) use adapter::Protocol;
