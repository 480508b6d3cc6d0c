//! S3 and whatever speaks like it, through the AWS SDK.
//!
//! What must hold: bodies are streamed, never collected; an error says whether the store answered; credentials are
//! asked for at each request, so that a rotation needs no new mount; every request ends within [`OPERATION_LIMIT`],
//! a body whenever its reader's patience ends, and where it was announced to; what an answer says is believed only as
//! far as it answers the question.

mod answer;
mod cause;
mod client;
mod conditions;
mod counted;
mod failure;
mod history;
mod key;
mod knowledge;
mod list;
mod pace;
mod read;
mod said;
mod write;

pub use client::{Endpoint, OPERATION_LIMIT, S3};
pub use history::Change;
