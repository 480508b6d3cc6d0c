//! Whoever waits for an answer of the file system: is it about to die?
//!
//! What must hold: only a signal that ends the process counts. One that is handled must not disturb a read: programs
//! do not expect a file to say `EINTR`, and many have timers.

use std::path::Path;

/// Signals that do nothing unless they are handled: CHLD, CONT, URG, WINCH; and those that stop: STOP, TSTP, TTIN, TTOU.
const HARMLESS: u64 = bit(17) | bit(18) | bit(19) | bit(20) | bit(21) | bit(22) | bit(23) | bit(28);
const KILL: u64 = bit(9);

const fn bit(signal: u32) -> u64 {
    1 << (signal - 1)
}

/// Whether `thread` has a signal waiting that will end its process, or has gone. One file of `/proc` is read.
pub fn is_dying(thread: u32) -> bool {
    let status = std::fs::read_to_string(Path::new("/proc").join(thread.to_string()).join("status"));
    status.map_or(true, |status| has_fatal_signal(&status))
}

/// Whether `thread` is on its way out because of a signal. What it has open is closed then, and it waits for that without
/// any more signal reaching it. One file of `/proc` is read.
pub fn was_killed(thread: u32) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(thread.to_string()).join("stat"));
    stat.is_ok_and(|stat| says_killed(&stat))
}

/// Of `/proc/PID/stat`: the flags of a task are the 9th field. A name has blanks.
fn says_killed(stat: &str) -> bool {
    // `PF_EXITING` and `PF_SIGNALED`.
    const KILLED: u64 = 0x4 | 0x400;
    let flags = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(6)?.parse().ok());
    flags.is_some_and(|flags: u64| flags & KILLED == KILLED)
}

fn has_fatal_signal(status: &str) -> bool {
    let set = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0)
    };
    let pending = set("SigPnd") | set("ShdPnd");
    let survived = set("SigBlk") | set("SigIgn") | set("SigCgt") | HARMLESS;
    pending & KILL != 0 || pending & !survived != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(pending: u64, blocked: u64, ignored: u64, caught: u64) -> String {
        format!(
            "Name:\tcat\nSigQ:\t0/1\nSigPnd:\t{pending:016x}\nShdPnd:\t0000000000000000\nSigBlk:\t{blocked:016x}\n\
             SigIgn:\t{ignored:016x}\nSigCgt:\t{caught:016x}\n"
        )
    }

    #[test]
    fn only_a_signal_that_ends_the_process_is_fatal() {
        let (int, term, alarm) = (bit(2), bit(15), bit(14));
        assert!(has_fatal_signal(&status(KILL, u64::MAX, 0, 0)));
        assert!(has_fatal_signal(&status(term, 0, 0, 0)));
        assert!(has_fatal_signal(&status(int | alarm, 0, 0, alarm)));
        assert!(!has_fatal_signal(&status(0, 0, 0, 0)));
        assert!(!has_fatal_signal(&status(alarm, 0, 0, alarm)));
        assert!(!has_fatal_signal(&status(int, int, 0, 0)));
        assert!(!has_fatal_signal(&status(int, 0, int, 0)));
        assert!(!has_fatal_signal(&status(HARMLESS, 0, 0, 0)));
        assert!(!has_fatal_signal("junk"));
    }

    #[test]
    fn only_who_ends_by_a_signal_was_killed() {
        let stat = |flags: u64| format!("7 (d d) x) D 1 7 7 0 -1 {flags} 0 0 17\n");
        assert!(says_killed(&stat(0x40_0504)));
        // It exits by itself; it has not begun to.
        assert!(!says_killed(&stat(0x40_0104)));
        assert!(!says_killed(&stat(0x40_0500)));
        assert!(!says_killed("junk"));
        assert!(!was_killed(std::process::id()));
    }

    #[test]
    fn this_thread_lives_and_a_thread_that_is_none_does_not() {
        assert!(!is_dying(std::process::id()));
        assert!(is_dying(u32::MAX));
    }
}
