//! Between the kernel and `fuser`: every request and every answer passes here.
//!
//! ```text
//!              requests                       requests
//!   kernel ---------------> taker threads ---------------> fuser -> fuse.rs
//!   /dev/fuse  <-------------------------- answer thread <----'        |
//!              <-------------------------------------------------------'
//!                 answers                    bytes of files, at once
//!
//!   a request:  taken -> pending -> answered
//!                           | interrupted, and its caller is about to die
//!                           '-> abandoned: answered EINTR; what comes later is thrown away
//! ```
//!
//! `fuser` knows the protocol and no interrupts, and a process that is killed while it waits for an answer goes only
//! when it has one. So `fuser` serves one end of a pair of sockets, and this the other end. What must hold: every
//! request is answered once; a caller that is killed waits for nobody; what an answer told the kernel is taken back
//! if the kernel did not take the answer.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, MsgFlags, Shutdown, SockFlag, SockType, recv, send, setsockopt, shutdown, socketpair,
    sockopt::SndBufForce,
};

use super::caller::is_dying;
use super::wire::{self, Header};

/// Most bytes of one write request: larger ones do not fit into one message to `fuser`.
pub const WRITE_MAX: u32 = 128 * 1024;
/// Room that the kernel wants beside the bytes of a write.
const HEADERS_ROOM: usize = 4096;
/// Longest answer that goes through the sockets: a listing. The bytes of files do not.
const ANSWER_MAX: usize = 1024 * 1024;
/// What the sockets may hold.
const SOCKET_BYTES: usize = 4 * 1024 * 1024;
/// How often the callers of interrupted requests are looked at: a second signal is not announced.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Takes back that the kernel was told a number.
pub type TakeBack = Box<dyn Fn(u64) + Send + Sync>;

/// The door of one connection.
pub struct Door {
    device: OwnedFd,
    /// The other end is `fuser`'s.
    socket: OwnedFd,
    state: Mutex<State>,
    /// Something was interrupted, or the door was closed.
    changed: Condvar,
    take_back: TakeBack,
}

#[derive(Default)]
struct State {
    pending: HashMap<u64, Header>,
    /// Of those pending, the ones that somebody tried to interrupt.
    interrupted: Vec<u64>,
    /// Answered already, and not yet by `fuser`.
    abandoned: HashMap<u64, Header>,
    closed: bool,
}

impl Door {
    /// A door to `device`, and the descriptor for `fuser` to serve instead of it.
    ///
    /// # Errors
    ///
    /// Those of making sockets.
    pub fn new(device: File, take_back: TakeBack) -> io::Result<(Arc<Door>, OwnedFd)> {
        let (ours, fusers) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        for end in [&ours, &fusers] {
            setsockopt(end, SndBufForce, &SOCKET_BYTES)?;
        }
        let door = Door {
            device: device.into(),
            socket: ours,
            state: Mutex::default(),
            changed: Condvar::new(),
            take_back,
        };
        Ok((Arc::new(door), fusers))
    }

    /// Starts the threads: `takers` of them take requests, for as many threads of `fuser`. They end with the
    /// connection.
    ///
    /// # Errors
    ///
    /// Those of starting a thread.
    pub fn open(self: &Arc<Self>, takers: usize) -> io::Result<()> {
        let start = |name: String, work: fn(&Door)| {
            let door = self.clone();
            std::thread::Builder::new().name(name).spawn(move || work(&door)).map(drop)
        };
        for number in 0..takers {
            start(format!("fuse-take-{number}"), Door::take)?;
        }
        start("fuse-answer".into(), Door::pass_answers)?;
        start("fuse-interrupt".into(), Door::watch_interrupted)
    }

    /// Ends the threads once `fuser` has ended.
    pub fn close(&self) {
        self.state().closed = true;
        self.changed.notify_all();
        // Whoever waits for an answer of fuser is woken; a socket that is closed already is as good.
        let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Both);
    }

    /// Answers a `READ` with `bytes`, past `fuser`.
    pub fn answer(&self, unique: u64, bytes: &[u8]) {
        if self.state().pending.remove(&unique).is_some() {
            // A request that the kernel has given up is no error.
            let _ = self.write(&wire::out_header(unique, 0, bytes.len()), bytes);
        }
    }

    /// Has the kernel drop `name` in the directory `parent`. Blocks for as long as the directory is in use.
    ///
    /// # Errors
    ///
    /// `ENOENT` if the kernel does not know it.
    pub fn drop_name(&self, parent: u64, name: &str) -> io::Result<()> {
        self.write(&wire::drop_name(parent, name), &[])
    }

    /// Puts bytes into the kernel's page cache. Blocks for as long as the kernel does.
    ///
    /// # Errors
    ///
    /// `ENOENT` if the kernel does not know the number.
    pub fn store(&self, ino: u64, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write(&wire::store(ino, offset, bytes.len()), bytes)
    }

    fn take(&self) {
        let mut buffer = vec![0; WRITE_MAX as usize + HEADERS_ROOM];
        loop {
            let length = match rustix::io::read(&self.device, &mut buffer[..]) {
                Ok(length) => length,
                // Taken back by the kernel before it was read, or nothing at all.
                Err(rustix::io::Errno::NOENT | rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {
                    continue;
                }
                Err(_) => break,
            };
            let request = &buffer[..length];
            let Some(header) = Header::of(request) else { continue };
            if header.opcode == wire::INTERRUPT {
                self.interrupt(header.unique, wire::interrupted(request).unwrap_or_default());
                continue;
            }
            if header.wants_answer() {
                self.state().pending.insert(header.unique, header);
            }
            if send(self.socket.as_raw_fd(), request, MsgFlags::MSG_NOSIGNAL).is_err() {
                break;
            }
        }
        // One for each thread of fuser. If it has ended already, nobody needs it.
        let _ = send(self.socket.as_raw_fd(), &wire::destroy(), MsgFlags::MSG_NOSIGNAL);
    }

    fn pass_answers(&self) {
        let mut buffer = vec![0; ANSWER_MAX];
        while let Ok(length @ 1..) = recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            self.pass_answer(&buffer[..length]);
        }
    }

    fn pass_answer(&self, answer: &[u8]) {
        let unique = wire::answered(answer).unwrap_or_default();
        let (header, is_pending) = {
            let mut state = self.state();
            match state.pending.remove(&unique) {
                Some(header) => (header, true),
                None => match state.abandoned.remove(&unique) {
                    Some(header) => (header, false),
                    // Answered past fuser.
                    None => return,
                },
            }
        };
        if !is_pending || self.write(answer, &[]).is_err() {
            wire::told(header.opcode, answer).into_iter().for_each(|ino| (self.take_back)(ino));
        }
    }

    /// The caller of the request `unique` got a signal; `notice` is the kernel's number for saying so.
    fn interrupt(&self, notice: u64, unique: u64) {
        let mut state = self.state();
        if state.pending.contains_key(&unique) {
            state.interrupted.push(unique);
            drop(state);
            self.changed.notify_all();
        } else {
            drop(state);
            // The other taker has the request in its hands. If it was answered already, the kernel knows.
            let _ = self.write(&wire::out_header(notice, -libc::EAGAIN, 0), &[]);
        }
    }

    fn watch_interrupted(&self) {
        let mut state = self.state();
        while !state.closed {
            let State { pending, interrupted, .. } = &mut *state;
            interrupted.retain(|unique| pending.get(unique).is_some_and(Header::only_asks));
            let dying: Vec<u64> = interrupted
                .iter()
                .copied()
                .filter(|unique| pending.get(unique).is_some_and(|header| is_dying(header.thread)))
                .collect();
            for unique in dying {
                if let Some(header) = state.pending.remove(&unique) {
                    state.abandoned.insert(unique, header);
                    let _ = self.write(&wire::out_header(unique, -libc::EINTR, 0), &[]);
                }
            }
            state = match state.interrupted.is_empty() {
                true => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                false => {
                    let waited = self.changed.wait_timeout(state, LOOK_AGAIN);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    fn write(&self, header: &[u8], bytes: &[u8]) -> io::Result<()> {
        rustix::io::writev(&self.device, &[IoSlice::new(header), IoSlice::new(bytes)])?;
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
