//! Judging a mount: by what the kernel shows, what our session says, and what a child saw at the path.

use super::condition::{Condition, Fault, Proven};
use crate::state::{
    DataSeen, Device, MountAnswer, MountEntry, MountSeen, Origin, Reason, Seen, Session, SessionState,
};

/// What a person can do about a mount that does not serve although its session lives.
const ASK_S3: &str =
    "check that this host reaches S3 and may read the bucket; it ends by itself when S3 answers";

/// Judges a mount by what the kernel shows and what our session says; only when these two agree does
/// the answer that a child got at the path matter.
pub(super) fn assess_mount(seen: &MountSeen) -> Condition {
    let (entry, session) = match (&seen.entry, &seen.session) {
        (Seen::Unknown(reason), _) | (_, Seen::Unknown(reason)) => return Condition::Unknown(reason.clone()),
        (Seen::Known(entry), Seen::Known(session)) => (entry, session),
    };
    if let Some(MountEntry { hidden_by: Some(cover), .. }) = entry {
        return Condition::Faulty(hidden(cover));
    }
    match (entry, session) {
        (None, None) => Condition::Faulty(Fault::new(Reason::NothingMounted, "nothing is mounted")),
        (Some(entry), None) => assess_stranger(entry, &seen.answer),
        (Some(entry), Some(session)) if entry.device != session.device => Condition::Faulty(Fault::new(
            Reason::Covered,
            format!("{} ({}) was mounted over {}", entry.source, entry.fs_type, session.device),
        )),
        (_, Some(Session { state: SessionState::Ended(reason), .. })) => {
            Condition::Faulty(Fault::new(Reason::SessionEnded, format!("the session ended: {reason}")))
        }
        (None, Some(_)) => Condition::Faulty(Fault::new(Reason::NothingMounted, "the mount was taken away")),
        (Some(_), Some(session)) => assess_answer(session, seen),
    }
}

/// A mount over a directory above: no repair of ours brings the path back, and containers that hold the mount are
/// served.
fn hidden(cover: &str) -> Fault {
    Fault::new(Reason::Hidden, format!("hidden by {cover}; who holds the mount is served"))
        .hint("unmount what is over the parent directory, or mount it before mapkeeper starts")
}

/// Judges a mount at our path that this process did not make.
///
/// One that a dead mapkeeper left behind is told by ENOTCONN: only then may it be detached. One that
/// still answers is served by somebody.
fn assess_stranger(entry: &MountEntry, answer: &Seen<MountAnswer>) -> Condition {
    let what = format!("{} ({}, device {})", entry.source, entry.fs_type, entry.device);
    match (entry.origin, answer) {
        (Origin::Mapkeeper, Seen::Unknown(reason)) => Condition::Unknown(reason.clone()),
        (Origin::Mapkeeper, Seen::Known(MountAnswer::Errno(errno))) if disconnected(errno) => {
            Condition::Faulty(Fault::new(
                Reason::LeftOver,
                format!("{what} was left by a process that is gone"),
            ))
        }
        (Origin::Mapkeeper, Seen::Known(_)) => Condition::Faulty(
            Fault::new(Reason::ForeignMount, format!("{what} is served by another mapkeeper process"))
                .hint("end that process, or unmount it"),
        ),
        // An agent that ends in order leaves nothing below it: this one was covered while it ran, or killed.
        (Origin::OverMapkeeper, _) => Condition::Faulty(Fault::new(
            Reason::Covered,
            format!("{what} was mounted over the mount of a process that is gone"),
        )),
        (Origin::Foreign, _) => Condition::Faulty(
            Fault::new(Reason::ForeignMount, format!("{what} is already mounted there"))
                .hint("unmount it and take it out of fstab, or give the mount another path"),
        ),
    }
}

fn assess_answer(session: &Session, seen: &MountSeen) -> Condition {
    match &seen.answer {
        Seen::Unknown(reason) => Condition::Unknown(reason.clone()),
        Seen::Known(MountAnswer::Serves(device)) if *device == session.device => match &session.state {
            SessionState::Degraded(reason) => Condition::Reduced(
                Fault::new(Reason::ServesFromCache, format!("serves what it remembers: {reason}"))
                    .hint("it ends by itself when S3 answers again"),
            ),
            SessionState::Keeps(kept) => Condition::Reduced(
                Fault::new(Reason::WriteKept, format!("another writer was faster: {kept}"))
                    .hint("compare the kept file with the object, put back what is missing, then remove it"),
            ),
            SessionState::Noted(note) => match assess_data(*device, &seen.data) {
                Condition::Good(said) => Condition::Good(format!("{said}; {note}")),
                condition => condition,
            },
            _ => assess_data(*device, &seen.data),
        },
        Seen::Known(MountAnswer::Serves(device)) => {
            let shown = format!("something of device {device}");
            Condition::Faulty(hidden(&shown))
        }
        Seen::Known(MountAnswer::Errno(errno)) if disconnected(errno) => Condition::Faulty(Fault::new(
            Reason::Disconnected,
            "the kernel has no connection to the session (ENOTCONN)",
        )),
        Seen::Known(MountAnswer::Errno(errno)) => {
            let why = match &session.state {
                SessionState::Degraded(reason) => format!("file calls fail with {errno}: {reason}"),
                _ => format!("file calls fail with {errno}"),
            };
            Condition::Faulty(Fault::new(Reason::MountErrors, why).hint(ASK_S3))
        }
        Seen::Known(MountAnswer::Silent(limit)) => Condition::Faulty(
            Fault::new(
                Reason::MountSilent,
                format!("file calls have not returned within {} s", limit.as_secs()),
            )
            .hint(ASK_S3),
        ),
    }
}

/// What a known key showed, on a mount that answers otherwise.
fn assess_data(device: Device, data: &DataSeen) -> Condition {
    match data {
        DataSeen::Same | DataSeen::NotCompared => Condition::Good(format!("proven, device {device}")),
        DataSeen::Differs(how) => Condition::Reduced(
            Fault::new(Reason::DataDiffers, how.clone())
                .hint("compare the file with the object; mapkeeper status shows whether it lasts"),
        ),
    }
}

fn disconnected(errno: &str) -> bool {
    errno == "ENOTCONN"
}

/// The proof that a mount serves, if the condition on it is one.
pub(super) fn prove(seen: &MountSeen, condition: &Condition) -> Option<Proven> {
    let from_cache = match condition {
        Condition::Good(_) => false,
        Condition::Reduced(fault) => fault.trigger == Reason::ServesFromCache,
        _ => return None,
    };
    match &seen.session {
        Seen::Known(Some(session)) => Some(Proven { device: session.device, from_cache }),
        _ => None,
    }
}
