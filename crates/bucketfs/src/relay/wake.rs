//! Waking a thread that waits for the kernel's next request.
//!
//! It sleeps in `read(2)` of `/dev/fuse`, which nothing but a request or a signal ends. What must hold: the signal does
//! nothing else; it is repeated, because one that comes before the thread sleeps is lost.

use std::io;
use std::os::unix::thread::JoinHandleExt;
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::pthread::pthread_kill;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// Of no meaning to anybody in this process.
const SIGNAL: Signal = Signal::SIGUSR2;
const AGAIN: Duration = Duration::from_millis(1);
/// For about two seconds.
const TIMES: u32 = 2000;

extern "C" fn nothing(_: libc::c_int) {}

/// Has the signal end a `read(2)` and do nothing else.
///
/// # Errors
///
/// That of `sigaction(2)`.
pub fn prepare() -> io::Result<()> {
    let action = SigAction::new(SigHandler::Handler(nothing), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does nothing at all.
    unsafe { sigaction(SIGNAL, &action) }?;
    Ok(())
}

/// Wakes `threads` until each of them has ended, or does not although it was woken many times: then it is stuck, and
/// ends with the process.
pub fn until_ended(threads: Vec<JoinHandle<()>>) {
    for thread in threads {
        for _ in 0..TIMES {
            if thread.is_finished() {
                break;
            }
            // The thread is there until it is joined.
            let _ = pthread_kill(thread.as_pthread_t(), SIGNAL);
            std::thread::park_timeout(AGAIN);
        }
    }
}
