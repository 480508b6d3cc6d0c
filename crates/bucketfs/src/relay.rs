//! Between the kernel and `fuser`: every request and every answer passes here.
//!
//! ```text
//!              requests                       requests
//!   kernel ---------------> receiver threads ---------------> fuser -> fuse.rs
//!   /dev/fuse  <-------------------------- answer thread <----'        |
//!              <-------------------------------------------------------'
//!                 answers                    bytes of files, at once
//!
//!   a request:  taken, in the journal -> pending -> answered, out of the journal
//!                                          | interrupted, and its caller is about to die
//!                                          '-> abandoned: answered EINTR; what comes later is thrown away
//!
//!   a request of which two processes have died: answered EIO, and not done again
//!
//!   a relay:  new -> initialized by the kernel   -> open -> closed: by the kernel
//!            resumed -> initialized as before --'      '-> left: nothing is taken any more, a successor goes on
//! ```
//!
//! `fuser` knows the protocol and no interrupts, and a process that is killed while it waits for an answer goes only
//! when it has one. So `fuser` serves one end of a pair of sockets, and this the other end; and what is under way is
//! known here, and written down for a successor (`journal/requests.rs`), who has `fuser` answer it once more. What must
//! hold: every request is answered once, by whichever process; a caller that is killed waits for nobody; what an answer
//! told the kernel is taken back if the kernel did not take the answer.

mod forward;
mod notices;
mod pending;
mod wake;

pub use forward::{GiveUp, Relay, TakeBack, WRITE_MAX};
