//! The body of an answer on its way out: counted, spoiled.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Frame, SizeHint};

use super::control::Ticket;
use super::wire::{Break, Breaker};

type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// What goes wrong with a body, and at which byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spoil {
    Break { at: u64, how: Break },
    Stall { at: u64 },
    FlipBit { at: u64 },
}

impl Spoil {
    /// Bytes that may be sent from `position` on before something happens.
    fn room(self, position: u64) -> u64 {
        match self {
            Self::Break { at, .. } | Self::Stall { at } => at.saturating_sub(position),
            Self::FlipBit { .. } => u64::MAX,
        }
    }
}

pub(super) struct AnswerBody {
    inner: s3s::Body,
    /// Got from `inner` and not yet sent.
    rest: Bytes,
    /// Bytes sent.
    position: u64,
    spoil: Option<Spoil>,
    breaker: Breaker,
    /// `None` once the last byte is on its way, and for an answer that counts nowhere.
    ticket: Option<Ticket>,
    size: Option<u64>,
}

impl AnswerBody {
    pub fn new(inner: s3s::Body, ticket: Option<Ticket>, breaker: Breaker, spoil: Option<Spoil>) -> Self {
        let size = inner.size_hint().exact();
        let ticket = ticket.filter(|_| size != Some(0));
        Self { inner, rest: Bytes::new(), position: 0, spoil, breaker, ticket, size }
    }

    /// An answer that is no S3 request's.
    pub fn plain(body: impl Into<Bytes>) -> Self {
        Self::new(body.into().into(), None, Breaker::default(), None)
    }

    /// The next piece to send, as large as spoil allows. Not empty.
    fn cut(&mut self, room: u64) -> Bytes {
        let length = usize::try_from(room).unwrap_or(usize::MAX).min(self.rest.len());
        let piece = self.rest.split_to(length);
        match self.spoil {
            Some(Spoil::FlipBit { at }) => flip(piece, at.checked_sub(self.position)),
            _ => piece,
        }
    }

    fn send(&mut self, piece: Bytes) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.position += piece.len() as u64;
        if let Some(ticket) = &self.ticket {
            ticket.sent(piece.len() as u64);
        }
        if self.size.is_some_and(|size| size <= self.position) {
            self.ticket = None;
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

/// `piece` with the lowest bit of the byte at `offset` turned over, if it has that byte.
fn flip(piece: Bytes, offset: Option<u64>) -> Bytes {
    let Some(offset) = offset.and_then(|offset| usize::try_from(offset).ok()) else { return piece };
    if offset >= piece.len() {
        return piece;
    }
    let mut copy = BytesMut::from(&piece[..]);
    copy[offset] ^= 1;
    copy.freeze()
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let room = this.spoil.map_or(u64::MAX, |spoil| spoil.room(this.position));
        if room == 0 {
            if let Some(Spoil::Break { how, .. }) = this.spoil {
                this.breaker.trip(how);
            }
            // Nothing more comes. A breaking connection ends at the flush that follows.
            return Poll::Pending;
        }
        while this.rest.is_empty() {
            match ready!(Pin::new(&mut this.inner).poll_frame(cx)) {
                Some(Ok(frame)) => this.rest = frame.into_data().unwrap_or_default(),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => {
                    this.ticket = None;
                    return Poll::Ready(None);
                }
            }
        }
        let piece = this.cut(room);
        this.send(piece)
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.size {
            Some(size) => SizeHint::with_exact(size.saturating_sub(self.position)),
            None => SizeHint::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::super::control::Control;
    use super::super::operation::{Operation, Target};
    use super::*;

    #[test]
    fn a_request_is_over_when_its_last_byte_is_on_its_way_and_not_later() {
        let control = Control::default();
        let target =
            Target { operation: Operation::GetObject, bucket: "b".into(), key: "k".into(), range: None };
        let ticket = control.begin(target);
        let inner = s3s::Body::from(Bytes::from("content"));
        let mut body = AnswerBody::new(inner, Some(ticket), Breaker::default(), None);
        assert_eq!(control.in_progress(), 1);
        let frame = Pin::new(&mut body).poll_frame(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(frame, Poll::Ready(Some(Ok(_)))));
        // A client that has it all may ask again before this body is dropped.
        assert_eq!((control.in_progress(), control.bytes_sent()), (0, 7));
    }

    #[test]
    fn a_bit_is_flipped_only_where_the_piece_has_that_byte() {
        assert_eq!(flip(Bytes::from("abc"), Some(1)), "acc");
        assert_eq!(flip(Bytes::from("abc"), Some(3)), "abc");
        assert_eq!(flip(Bytes::from("abc"), None), "abc");
        assert_eq!(flip(Bytes::from("abc"), Some(u64::MAX)), "abc");
    }

    #[test]
    fn a_body_that_breaks_at_a_byte_lets_all_before_it_through() {
        let spoil = Spoil::Break { at: 10, how: Break::Reset };
        assert_eq!((spoil.room(0), spoil.room(4), spoil.room(10), spoil.room(11)), (10, 6, 0, 0));
    }
}
