//! The relay of one connection: it takes requests from the kernel, hands them to `fuser`, and answers.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::socket::sockopt::{SndBuf, SndBufForce};
use nix::sys::socket::{
    AddressFamily, MsgFlags, Shutdown, SockFlag, SockType, recv, send, setsockopt, shutdown, socketpair,
};
use tokio::time::Instant;

use super::pending::{Pending, State};
use super::wake;
use crate::caller::is_dying;
use crate::journal::{InitExchange, Journal, MOST, REQUEST_MAX, Slot, Unanswered};
use crate::measure::Operations;
use crate::wire::{self, Header, KernelRef};

/// Most bytes of one write request: larger ones do not fit into one message to `fuser`.
pub const WRITE_MAX: u32 = 128 * 1024;
/// Room that the kernel wants beside the bytes of a write.
const HEADERS_ROOM: usize = 4096;
const _: () = assert!(WRITE_MAX as usize + HEADERS_ROOM <= REQUEST_MAX);
/// Longest answer that goes through the sockets: a listing. The bytes of files do not.
const ANSWER_MAX: usize = 1024 * 1024;
/// What the sockets may hold, where this process may ask for more than everybody (`CAP_NET_ADMIN`).
const SOCKET_BYTES: usize = 4 * 1024 * 1024;
/// How often the callers of interrupted requests are looked at: a second signal is not announced.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// How long the init may take, which is all in this process.
const INIT_LIMIT: Duration = Duration::from_secs(10);

/// For so long what a process before died with is done one after the other: should this one die as well, it is known of
/// which. Whoever reads waits for it; what takes longer must not keep the others waiting.
const ONE_BY_ONE: Duration = Duration::from_millis(500);

/// Takes back that the kernel was given something.
pub type TakeBack = Box<dyn Fn(KernelRef) + Send + Sync>;
/// Is told of a request that is answered with an error because two processes have died of it.
pub type GiveUp = Box<dyn Fn(&[u8]) + Send + Sync>;

/// The relay of one connection.
pub struct Relay {
    device: OwnedFd,
    /// The other end is `fuser`'s.
    socket: OwnedFd,
    pub(super) journal: Arc<Journal>,
    state: Mutex<State>,
    /// Something was interrupted or answered, or the relay was closed.
    pub(super) changed: Condvar,
    /// Nothing is to be taken any more.
    leaving: AtomicBool,
    receivers: Mutex<Vec<JoinHandle<()>>>,
    take_back: TakeBack,
    give_up: GiveUp,
    /// Whoever does what a process before died with, and until when one after the other.
    suspected: Mutex<Option<Instant>>,
    /// What was answered, and how long it took.
    operations: Arc<Operations>,
}

impl Relay {
    /// A relay to `device`, and the descriptor for `fuser` to serve instead of it.
    ///
    /// # Errors
    ///
    /// Those of making sockets.
    pub fn new(
        device: File,
        journal: Arc<Journal>,
        (take_back, give_up): (TakeBack, GiveUp),
    ) -> io::Result<(Arc<Relay>, OwnedFd)> {
        wake::prepare()?;
        let (ours, fusers) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        for end in [&ours, &fusers] {
            // What everybody may ask for is enough, if not as fast: the test below.
            setsockopt(end, SndBufForce, &SOCKET_BYTES)
                .or_else(|_| setsockopt(end, SndBuf, &SOCKET_BYTES))?;
        }
        let relay = Relay {
            device: device.into(),
            socket: ours,
            journal,
            state: Mutex::default(),
            changed: Condvar::new(),
            leaving: AtomicBool::new(false),
            receivers: Mutex::default(),
            take_back,
            give_up,
            suspected: Mutex::default(),
            operations: Arc::default(),
        };
        Ok((Arc::new(relay), fusers))
    }

    /// What was answered since this process serves, and how long it took.
    pub fn operations(&self) -> Arc<Operations> {
        self.operations.clone()
    }

    /// Starts the threads that answer, and those that take: `receivers` of them, for as many threads of `fuser`. They end
    /// with the connection.
    ///
    /// # Errors
    ///
    /// Those of starting a thread.
    pub fn open(self: &Arc<Self>, receivers: usize) -> io::Result<()> {
        self.answer_from_now_on()?;
        self.receive_from_now_on(receivers, Vec::new())
    }

    /// Greets `fuser` as the kernel once initialized the process before; nothing is taken yet.
    ///
    /// # Errors
    ///
    /// Those of starting a thread, and of the sockets.
    pub fn replay_init(self: &Arc<Self>, earlier: &InitExchange) -> io::Result<()> {
        self.state().init.request.clone_from(&earlier.request);
        self.state().is_initialized = true;
        self.answer_from_now_on()?;
        send(self.socket.as_raw_fd(), &earlier.request, MsgFlags::MSG_NOSIGNAL)?;
        Ok(())
    }

    /// Goes on where the process before has ended: with the requests that it left unanswered.
    ///
    /// # Errors
    ///
    /// Those of starting a thread.
    pub fn resume(self: &Arc<Self>, receivers: usize, left: Vec<Unanswered>, resend: bool) -> io::Result<()> {
        let mut unanswered = Vec::new();
        for left in left {
            match left.answer {
                // Done already. If the kernel had the answer before, it says that it knows of no such request.
                Some(answer) => {
                    let _ = self.write(&answer, &[]);
                    self.journal.requests.release(left.slot);
                }
                None if self.is_given_up(&left.header, &left.request) => {
                    self.journal.requests.release(left.slot)
                }
                None if resend => self.journal.requests.release(left.slot),
                None => unanswered.push(left),
            }
        }
        *self.suspected() = Some(Instant::now() + ONE_BY_ONE);
        if resend {
            self.write(&wire::resend(), &[])?;
        }
        self.receive_from_now_on(receivers, unanswered)
    }

    /// The init and its answer, as soon as there is one.
    pub fn init(&self) -> Option<InitExchange> {
        let state = self.state();
        let is_open = |state: &mut State| state.init.answer.is_empty() && !state.closed;
        let waited = self.changed.wait_timeout_while(state, INIT_LIMIT, is_open);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        (!state.init.answer.is_empty()).then(|| state.init.clone())
    }

    fn answer_from_now_on(self: &Arc<Self>) -> io::Result<()> {
        let start = |name: &str, work: fn(&Relay)| {
            let relay = self.clone();
            std::thread::Builder::new().name(name.into()).spawn(move || work(&relay)).map(drop)
        };
        start("fuse-answer", Relay::forward_answers)?;
        start("fuse-interrupt", Relay::watch_interrupted)
    }

    fn receive_from_now_on(
        self: &Arc<Self>,
        receivers: usize,
        unanswered: Vec<Unanswered>,
    ) -> io::Result<()> {
        self.journal.serves(true);
        let mut unanswered = Some(unanswered);
        for number in 0..receivers {
            let (relay, first) = (self.clone(), unanswered.take().unwrap_or_default());
            let work = move || {
                first.into_iter().for_each(|left| relay.repeat(left));
                relay.receive();
            };
            let receiver = std::thread::Builder::new().name(format!("fuse-take-{number}")).spawn(work)?;
            self.receivers.lock().unwrap_or_else(PoisonError::into_inner).push(receiver);
        }
        Ok(())
    }

    /// Takes nothing any more, and waits for at most `limit` until what was taken is answered; how much is not. That
    /// stays in the journal, and so does what a receiver holds that is stuck. The kernel's connection stays as well: a successor goes on.
    pub fn leave(&self, limit: Duration) -> usize {
        self.leaving.store(true, Ordering::SeqCst);
        self.journal.serves(false);
        self.journal.requests.close();
        let receivers = std::mem::take(&mut *self.receivers.lock().unwrap_or_else(PoisonError::into_inner));
        wake::until_ended(receivers);
        let waited = self.changed.wait_timeout_while(self.state(), limit, |state| !state.pending.is_empty());
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.pending.len()
    }

    /// Ends the threads once `fuser` has ended, or has it end.
    pub fn close(&self) {
        self.state().closed = true;
        self.changed.notify_all();
        // Whoever waits for an answer of fuser is woken; a socket that is closed already is as good.
        let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Both);
    }

    /// Requests that are pending.
    pub fn taken(&self) -> u64 {
        self.state().pending.len() as u64
    }

    /// Whether a process before may have done what `unique` asks for.
    pub fn may_be_done(&self, unique: u64) -> bool {
        unique & wire::SENT_AGAIN != 0 || self.state().repeated.contains(&unique)
    }

    /// Answers a `READ` with `bytes`, past `fuser`.
    pub fn answer(&self, unique: u64, bytes: &[u8]) {
        let pending = self.state().pending.remove(&unique);
        if let Some(Pending { header, slot, taken, .. }) = pending {
            self.operations.note(header.opcode, taken.elapsed(), false);
            // A request that the kernel has given up is no error.
            let _ = self.write(&wire::out_header(unique, 0, bytes.len()), bytes);
            self.journal.requests.release(slot);
            self.note_answered(unique);
        }
    }

    fn receive(&self) {
        let mut next = self.journal.requests.large();
        while let Some(mut large) = next {
            let read = rustix::io::read(&self.device, self.journal.requests.room(&mut large));
            next = match read {
                Ok(length) => match self.forward_request(large, length) {
                    Ok(large) => large.or_else(|| self.journal.requests.large()),
                    Err(_) => break,
                },
                // Taken back by the kernel before it was read, or nothing at all.
                Err(rustix::io::Errno::NOENT | rustix::io::Errno::INTR | rustix::io::Errno::AGAIN)
                    if !self.leaving.load(Ordering::SeqCst) =>
                {
                    Some(large)
                }
                Err(_) => {
                    self.journal.requests.release(large);
                    break;
                }
            };
            if self.leaving.load(Ordering::SeqCst)
                && let Some(large) = next.take()
            {
                self.journal.requests.release(large);
            }
        }
        if !self.leaving.load(Ordering::SeqCst) {
            // One for each thread of fuser. If it has ended already, nobody needs it.
            let _ = send(self.socket.as_raw_fd(), &wire::destroy(), MsgFlags::MSG_NOSIGNAL);
        }
    }

    /// Has `fuser` answer the request that the kernel has written into `large`; the slot comes back if it is free.
    fn forward_request(&self, mut large: Slot, length: usize) -> io::Result<Option<Slot>> {
        let requests = &self.journal.requests;
        let room = requests.room(&mut large);
        let request = room.get(..length).unwrap_or_default();
        let Some(header) = Header::of(request) else {
            requests.void(&large);
            return Ok(Some(large));
        };
        if header.opcode == wire::INTERRUPT {
            self.interrupt(header.unique, wire::interrupted(request).unwrap_or_default());
            requests.void(&large);
            return Ok(Some(large));
        }
        if !header.wants_answer() || header.opcode == wire::INIT {
            let request = request.to_vec();
            // What is given back is not given back twice: a successor that knows nothing of it only keeps a number
            // that nobody needs.
            requests.void(&large);
            if header.opcode == wire::INIT {
                self.state().init.request.clone_from(&request);
            }
            send(self.socket.as_raw_fd(), &request, MsgFlags::MSG_NOSIGNAL)?;
            return Ok(Some(large));
        }
        let deaths = self.journal.deaths.of(header.unique);
        if deaths > 0 && self.is_given_up(&header, request) {
            requests.void(&large);
            return Ok(Some(large));
        }
        let (slot, rest, request) = requests.settle(large, length);
        if deaths > 0 {
            self.forward_suspected(header, slot, &request)?;
        } else {
            self.state().pending.insert(header.unique, Pending::new(header, slot, &request));
            send(self.socket.as_raw_fd(), &request, MsgFlags::MSG_NOSIGNAL)?;
        }
        Ok(rest)
    }

    /// Has `fuser` answer a request with which a process before died; at first one at a time.
    fn forward_suspected(&self, header: Header, slot: Slot, request: &[u8]) -> io::Result<()> {
        let until = self.suspected();
        self.journal.deaths.begin(header.unique);
        self.state().pending.insert(header.unique, Pending::new(header, slot, request));
        send(self.socket.as_raw_fd(), request, MsgFlags::MSG_NOSIGNAL)?;
        let rest = until.map(|until| until.saturating_duration_since(Instant::now())).unwrap_or_default();
        let is_under_way = |state: &mut State| state.pending.contains_key(&header.unique) && !state.closed;
        drop(self.changed.wait_timeout_while(self.state(), rest, is_under_way));
        Ok(())
    }

    /// Answers a request of which so many processes have died already, whoever ended them; whether it was that. Those
    /// that only were in hand beside it at both times are answered so as well.
    fn is_given_up(&self, header: &Header, request: &[u8]) -> bool {
        let deaths = self.journal.deaths.of(header.unique);
        if deaths < MOST {
            return false;
        }
        (self.give_up)(request);
        if header.opcode == wire::RELEASE && deaths == MOST {
            // Something is to be closed, and nothing is stored any more: that can be done.
            return false;
        }
        self.operations.note(header.opcode, Duration::ZERO, true);
        // Should the kernel have taken it back by now, nobody waits.
        let _ = self.write(&wire::out_header(header.unique, -libc::EIO, 0), &[]);
        self.journal.deaths.forget(header.unique);
        true
    }

    /// Has `fuser` answer what a process before has left.
    fn repeat(&self, left: Unanswered) {
        let Unanswered { slot, header, request, .. } = left;
        let mut state = self.state();
        state.repeated.insert(header.unique);
        // Whether somebody tried to interrupt it was known to the process before alone.
        state.interrupted.push(header.unique);
        drop(state);
        self.changed.notify_all();
        let _ = self.forward_suspected(header, slot, &request);
    }

    fn forward_answers(&self) {
        let mut buffer = vec![0; ANSWER_MAX];
        while let Ok(length @ 1..) = recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            self.forward_answer(&mut buffer[..length]);
        }
    }

    fn forward_answer(&self, answer: &mut [u8]) {
        let unique = wire::answered(answer).unwrap_or_default();
        let mut state = self.state();
        let pending = state.pending.remove(&unique);
        let abandoned = state.abandoned.remove(&unique);
        state.repeated.remove(&unique);
        if pending.is_none() && abandoned.is_none() && self.is_init_answer(&mut state, unique, answer) {
            return;
        }
        drop(state);
        if let Some(header) = pending.as_ref().map(|one| one.header).or(abandoned) {
            wire::settle_listing(header.opcode, answer);
        }
        let (header, is_taken) = match (pending, abandoned) {
            (Some(Pending { header, slot, taken, .. }), _) => {
                self.operations.note(header.opcode, taken.elapsed(), wire::is_error(answer));
                if !header.only_asks() {
                    self.journal.requests.note_answer(&slot, answer);
                }
                let outcome = self.write(answer, &[]);
                self.journal.requests.release(slot);
                self.note_answered(unique);
                (header, outcome.is_ok())
            }
            (None, Some(header)) => (header, false),
            // Answered past fuser.
            (None, None) => return,
        };
        if !is_taken {
            wire::told(header.opcode, answer).into_iter().for_each(|told| (self.take_back)(told));
        }
    }

    /// Whether that was the answer to the init: the kernel is told, unless it was told before.
    fn is_init_answer(&self, state: &mut State, unique: u64, answer: &[u8]) -> bool {
        let is_it = state.init.answer.is_empty()
            && Header::of(&state.init.request).is_some_and(|init| init.unique == unique);
        if is_it {
            if !state.is_initialized
                && let Err(error) = self.write(answer, &[])
            {
                tracing::debug!(error = %error, "the kernel does not take the answer to its init");
            }
            state.init.answer = answer.to_vec();
            self.changed.notify_all();
        }
        is_it
    }

    /// Nobody dies of this request any more; wakes whoever waits for everything to be answered, or for just that.
    fn note_answered(&self, unique: u64) {
        if self.journal.deaths.forget(unique) || self.leaving.load(Ordering::Relaxed) {
            self.changed.notify_all();
        }
    }

    fn suspected(&self) -> MutexGuard<'_, Option<Instant>> {
        self.suspected.lock().unwrap_or_else(PoisonError::into_inner)
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
            // The other receiver has the request in its hands. If it was answered already, the kernel knows.
            let _ = self.write(&wire::out_header(notice, -libc::EAGAIN, 0), &[]);
        }
    }

    fn watch_interrupted(&self) {
        let mut state = self.state();
        while !state.closed {
            let State { pending, interrupted, .. } = &mut *state;
            interrupted.retain(|unique| pending.contains_key(unique));
            let callers: Vec<(u64, u32)> = interrupted
                .iter()
                .filter_map(|unique| Some((*unique, pending.get(unique)?.header.thread)))
                .collect();
            // Nobody waits for what `/proc` says.
            drop(state);
            let dying: Vec<u64> = callers
                .into_iter()
                .filter(|(_, thread)| is_dying(*thread))
                .map(|(unique, _)| unique)
                .collect();
            state = self.state();
            if state.closed {
                break;
            }
            for unique in dying {
                if let Some(Pending { header, slot, .. }) = state.pending.remove(&unique) {
                    state.abandoned.insert(unique, header);
                    let _ = self.write(&wire::out_header(unique, -libc::EINTR, 0), &[]);
                    self.journal.requests.release(slot);
                    self.journal.deaths.forget(unique);
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

    pub(super) fn write(&self, header: &[u8], bytes: &[u8]) -> io::Result<()> {
        rustix::io::writev(&self.device, &[IoSlice::new(header), IoSlice::new(bytes)])?;
        Ok(())
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsFd for Relay {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Linux's default for what everybody may ask for, `net.core.wmem_max`.
    const EVERYBODYS: usize = 212_992;
    /// A page of 1,000 names of 255 bytes, each with its head: more than a write with its own.
    const LONGEST: usize = 16 + 1_000 * (24 + 256);

    #[test]
    fn sockets_that_everybody_may_have_hold_the_longest_message() {
        let (ours, fusers) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_NONBLOCK)
                .expect("a pair");
        setsockopt(&fusers, SndBuf, &EVERYBODYS).expect("set");
        let sent = send(fusers.as_raw_fd(), &vec![7; LONGEST], MsgFlags::empty());
        assert_eq!(sent, Ok(LONGEST));
        let mut buffer = vec![0; ANSWER_MAX];
        assert_eq!(recv(ours.as_raw_fd(), &mut buffer, MsgFlags::empty()), Ok(LONGEST));
    }
}
