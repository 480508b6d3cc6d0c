//! A small process that outlives the one that serves: what systemd does for the agent, where there is no systemd.
//!
//! ```text
//!   supervisor --starts--> server --keeps--> descriptors, in the supervisor
//!       ^                    | killed, or ended to be replaced        ends in order, or had nothing kept
//!       '--- starts anew ----'                                        '--> the supervisor ends with its code
//! ```
//!
//! It speaks systemd's protocol (`NOTIFY_SOCKET`, `FDSTORE=`, `LISTEN_FDS`), so the server does the same in both
//! places. SIGTERM, SIGINT and SIGHUP end both, in order; SIGUSR1 has the server replaced, by a newer program if there is
//! one by then. What must hold: it does nothing that could fail while the server is away, and it needs next to nothing;
//! should the supervisor itself be killed, the server goes on.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::DirBuilder;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use nix::unistd::Pid;

use crate::error::Exit;

/// Longest message: a few short lines.
const MESSAGE_MAX: usize = 4096;
/// The first descriptor that a server is handed.
const FIRST: RawFd = 3;
/// Servers started one after the other without one that became ready, before whoever waits is told that none will.
const STARTS: u32 = 10;
/// Pause before another start, times the starts that came to nothing.
const PAUSE: Duration = Duration::from_millis(300);
/// What the supervisor says to itself: all that was sent before has been read.
const MARK: &str = "X_MAPKEEPER_MARK=1";
/// A shell, to tell the server its own number: systemd's protocol wants it.
const START: &str = "LISTEN_PID=$$ exec \"$0\" \"$@\"";

enum Event {
    Said { text: String, descriptors: Vec<OwnedFd> },
    Ended(io::Result<ExitStatus>),
    Signal(Signal),
}

/// Starts `program` with `words` as a server, again and again while a session is kept, and returns its last code.
///
/// Descriptors that the first server inherits, and nobody else is to have, are `given`.
///
/// # Errors
///
/// Those of a directory for the socket, of threads, and of starting the first server.
pub fn supervise(program: &Path, words: &[OsString], given: Option<OwnedFd>) -> io::Result<Exit> {
    let watched = signals();
    // Blocked in all threads: one of them waits for them.
    watched.thread_block()?;
    let socket = Socket::new()?;
    let (sender, events) = channel();
    let receiving = socket.socket.try_clone()?;
    start_thread(sender.clone(), move |sender| {
        while let Ok((text, descriptors)) = receive(&receiving) {
            if sender.send(Event::Said { text, descriptors }).is_err() {
                return;
            }
        }
    })?;
    start_thread(sender.clone(), move |sender| {
        while let Ok(signal) = watched.wait() {
            if sender.send(Event::Signal(signal)).is_err() {
                return;
            }
        }
    })?;
    let mut supervisor = Supervisor {
        program: program.to_owned(),
        words: words.to_vec(),
        given,
        socket,
        sender,
        server: None,
        kept: BTreeMap::new(),
        is_ending: false,
        is_ready: false,
        fruitless: 0,
    };
    supervisor.start()?;
    Ok(supervisor.until_ended(&events))
}

fn signals() -> SigSet {
    let mut signals = SigSet::empty();
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR1]
        .into_iter()
        .for_each(|signal| signals.add(signal));
    signals
}

fn start_thread(sender: Sender<Event>, work: impl FnOnce(Sender<Event>) + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().stack_size(128 * 1024).spawn(move || work(sender)).map(drop)
}

struct Supervisor {
    program: PathBuf,
    words: Vec<OsString>,
    given: Option<OwnedFd>,
    socket: Socket,
    sender: Sender<Event>,
    server: Option<Pid>,
    kept: BTreeMap<String, OwnedFd>,
    /// The server ends for good, or is to.
    is_ending: bool,
    is_ready: bool,
    /// Servers that did not become ready, since one did.
    fruitless: u32,
}

impl Supervisor {
    fn until_ended(&mut self, events: &Receiver<Event>) -> Exit {
        // The sender is here as well, so there is always somebody who may say something.
        while let Ok(event) = events.recv() {
            match event {
                Event::Said { text, descriptors } => self.heard(&text, descriptors),
                Event::Signal(signal) => self.pass_on(signal),
                Event::Ended(status) => {
                    self.server = None;
                    self.read_to_the_end(events);
                    if let Some(exit) = self.replace(status) {
                        return exit;
                    }
                }
            }
        }
        Exit::Degraded
    }

    fn start(&mut self) -> io::Result<()> {
        let mut server = self.spawn()?;
        self.server = i32::try_from(server.id()).ok().map(Pid::from_raw);
        self.is_ready = false;
        start_thread(self.sender.clone(), move |sender| {
            // Nobody is left to be told only when this process ends.
            let _ = sender.send(Event::Ended(server.wait()));
        })
    }

    fn spawn(&self) -> io::Result<Child> {
        let names: Vec<&str> = self.kept.keys().map(String::as_str).collect();
        let descriptors: Vec<RawFd> = self.kept.values().map(AsRawFd::as_raw_fd).collect();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", START]).arg(&self.program).args(&self.words);
        command.env("NOTIFY_SOCKET", &self.socket.path);
        command.env("LISTEN_FDS", names.len().to_string()).env("LISTEN_FDNAMES", names.join(":"));
        let given = self.given.as_ref().map(AsRawFd::as_raw_fd);
        let mut places = vec![-1; descriptors.len()];
        // SAFETY: between fork and exec only async-signal-safe calls are made: pthread_sigmask, signal, fcntl
        // and dup2.
        unsafe { command.pre_exec(move || hand_over(&descriptors, &mut places, given)) };
        command.spawn()
    }

    fn heard(&mut self, text: &str, descriptors: Vec<OwnedFd>) {
        let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        let name = value("FDNAME").unwrap_or("stored").to_owned();
        if value("FDSTORE").is_some() {
            self.kept.extend(descriptors.into_iter().next().map(|descriptor| (name, descriptor)));
        } else if value("FDSTOREREMOVE").is_some() {
            self.kept.remove(&name);
        }
        if value("STOPPING").is_some() {
            self.is_ending = true;
        }
        if value("READY").is_some() {
            (self.is_ready, self.fruitless) = (true, 0);
            if self.given.take().is_some() {
                let_go_of_terminal();
            }
            if self.is_ending {
                self.pass_on(Signal::SIGTERM);
            }
        }
    }

    fn pass_on(&mut self, signal: Signal) {
        let order = if signal == Signal::SIGUSR1 { Signal::SIGUSR1 } else { Signal::SIGTERM };
        self.is_ending |= order == Signal::SIGTERM;
        if let Some(server) = self.server {
            // One that has ended a moment ago needs it no more.
            let _ = kill(server, order);
        }
    }

    /// Reads what the server had said before it ended.
    fn read_to_the_end(&mut self, events: &Receiver<Event>) {
        if self.socket.socket.send_to(MARK.as_bytes(), &self.socket.path).is_err() {
            return;
        }
        while let Ok(event) = events.recv() {
            match event {
                Event::Said { text, .. } if text == MARK => return,
                Event::Said { text, descriptors } => self.heard(&text, descriptors),
                Event::Signal(signal) => self.pass_on(signal),
                Event::Ended(_) => {}
            }
        }
    }

    /// Starts another server, unless the one that ended was the last; then its code.
    fn replace(&mut self, ended: io::Result<ExitStatus>) -> Option<Exit> {
        let code = ended.as_ref().ok().and_then(ExitStatus::code);
        let exit = code.and_then(|code| Exit::of(u8::try_from(code).unwrap_or(1))).unwrap_or(Exit::Degraded);
        if self.is_ending || self.kept.is_empty() {
            return Some(exit);
        }
        if !self.is_ready {
            self.fruitless += 1;
        }
        match ended.as_ref().ok().and_then(ExitStatus::signal) {
            Some(signal) => {
                tracing::warn!(signal, "the process that serves was killed: another takes its place")
            }
            None => tracing::info!("the process that serves is replaced"),
        }
        while self.fruitless < STARTS {
            std::thread::park_timeout(PAUSE * self.fruitless);
            match self.start() {
                Ok(()) => return None,
                Err(error) => tracing::error!(error = %error, "cannot start another process"),
            }
            self.fruitless += 1;
        }
        tracing::error!("no process comes up that serves: whoever waits gets an error");
        Some(exit)
    }
}

/// Where servers send their messages: in a directory that only root may enter.
struct Socket {
    socket: UnixDatagram,
    directory: PathBuf,
    path: PathBuf,
}

impl Socket {
    fn new() -> io::Result<Socket> {
        let name = format!("mapkeeper-supervisor-{}-{:08x}", std::process::id(), fastrand::u32(..));
        let directory = std::env::temp_dir().join(name);
        DirBuilder::new().mode(0o700).create(&directory)?;
        let path = directory.join("notify");
        let socket = UnixDatagram::bind(&path)?;
        Ok(Socket { socket, directory, path })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Nothing of value is in it.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn receive(socket: &UnixDatagram) -> io::Result<(String, Vec<OwnedFd>)> {
    let mut buffer = [0; MESSAGE_MAX];
    let mut room = nix::cmsg_space!([RawFd; 4]);
    let mut parts = [IoSliceMut::new(&mut buffer)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut room), flags)?;
    let mut descriptors = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = control {
            // SAFETY: received just now, for this process to own.
            descriptors.extend(numbers.into_iter().map(|number| unsafe { OwnedFd::from_raw_fd(number) }));
        }
    }
    let length = message.bytes;
    Ok((String::from_utf8_lossy(&buffer[..length]).into_owned(), descriptors))
}

/// In the new process: puts `descriptors` where the server looks for them, and lets it have `given`. Nothing may be
/// allocated there, so `places`, one for each, come from before.
fn hand_over(descriptors: &[RawFd], places: &mut [RawFd], given: Option<RawFd>) -> io::Result<()> {
    // Blocked here because a thread waits for them; not so there.
    SigSet::empty().thread_set_mask()?;
    // A terminal that is closed tells both; the order to end comes from here.
    // SAFETY: plain numbers.
    unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) };
    let checked = |number: RawFd| if number < 0 { Err(io::Error::last_os_error()) } else { Ok(number) };
    // First out of the way of each other: all to numbers that nobody wants.
    let above = FIRST + RawFd::try_from(descriptors.len()).unwrap_or(RawFd::MAX / 2);
    let moved = |number: RawFd| {
        // SAFETY: plain numbers.
        checked(unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, above) })
    };
    for (place, number) in places.iter_mut().zip(descriptors) {
        *place = moved(*number)?;
    }
    for (place, number) in places.iter().zip(FIRST..) {
        // SAFETY: plain numbers. The copy is not closed by exec.
        checked(unsafe { libc::dup2(*place, number) })?;
    }
    if let Some(given) = given {
        // SAFETY: plain numbers.
        checked(unsafe { libc::fcntl(given, libc::F_SETFD, 0) })?;
    }
    Ok(())
}

/// Lets go of the terminal, so that whoever reads what this process says sees the end of it.
pub fn let_go_of_terminal() {
    if let Ok(null) = std::fs::File::options().read(true).write(true).open("/dev/null") {
        let _ = nix::unistd::dup2_stdin(&null);
        let _ = nix::unistd::dup2_stdout(&null);
        let _ = nix::unistd::dup2_stderr(&null);
    }
}

/// A descriptor that this process was given by its number.
///
/// # Safety
///
/// Nobody else in this process has it.
pub unsafe fn given(number: RawFd) -> Option<OwnedFd> {
    // SAFETY: a number that is none is said to be none.
    let is_open = unsafe { libc::fcntl(number, libc::F_GETFD) } >= 0;
    // SAFETY: open, and ours alone, as the caller says.
    is_open.then(|| {
        let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
        let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
        let _ = rustix::io::fcntl_setfd(borrowed, rustix::io::FdFlags::CLOEXEC);
        descriptor
    })
}
