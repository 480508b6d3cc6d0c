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
    fn this_thread_lives_and_a_thread_that_is_none_does_not() {
        assert!(!is_dying(std::process::id()));
        assert!(is_dying(u32::MAX));
    }
}
