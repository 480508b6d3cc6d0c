//! A connection that can be made to break.
//!
//! hyper writes everything it was given and then flushes. A connection that is to break does so at that flush, so
//! what came before the break is in the kernel's hands and reaches the client.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// How a connection is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Break {
    /// In good order, with FIN.
    Close,
    /// With RST.
    Reset,
}

/// Decides that a connection breaks; shared between it and the answers on it.
#[derive(Debug, Clone, Default)]
pub(super) struct Breaker(Arc<OnceLock<Break>>);

impl Breaker {
    /// Has the connection break as soon as all that was written so far is sent.
    pub fn trip(&self, how: Break) {
        // It breaks once, in the way that came first.
        let _ = self.0.set(how);
    }

    fn tripped(&self) -> Option<Break> {
        self.0.get().copied()
    }
}

#[derive(Debug)]
pub(super) struct Wire {
    stream: TokioIo<TcpStream>,
    breaker: Breaker,
}

impl Wire {
    pub fn new(stream: TcpStream, breaker: Breaker) -> Self {
        Self { stream: TokioIo::new(stream), breaker }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.breaker.tripped() == Some(Break::Reset) {
            // With this the close that follows sends RST. If it cannot be set, the client sees FIN: a fault all the same.
            let _ = self.stream.inner().set_zero_linger();
        }
    }
}

impl Read for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl Write for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        Poll::Ready(match self.breaker.tripped() {
            None => Ok(()),
            Some(_) => {
                Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the connection breaks on demand"))
            }
        })
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }
}
