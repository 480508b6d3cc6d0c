//! A step of a run: one call, or something that happens, and what becomes of one of its requests.

use proptest::prelude::*;

use super::oracle::NAMES;
use super::store::Fault;

/// Descriptors that may be open at a time.
pub const SLOTS: usize = 3;

/// What is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    Open {
        slot: usize,
        name: usize,
        writes: bool,
    },
    CreateNew {
        slot: usize,
        name: usize,
    },
    Write {
        slot: usize,
        at: u8,
    },
    Cut {
        slot: usize,
        size: u8,
    },
    Flush {
        slot: usize,
    },
    Close {
        slot: usize,
    },
    Truncate {
        name: usize,
        size: u8,
    },
    Chmod {
        name: usize,
        mode: u16,
    },
    Unlink {
        name: usize,
    },
    Rename {
        from: usize,
        to: usize,
        keeps: bool,
    },
    /// Somebody else writes the object, or takes it away.
    Replace {
        name: usize,
    },
    Remove {
        name: usize,
    },
    /// The process is killed between two calls, and another goes on, or the host begins anew.
    Restart,
    Remount,
}

#[derive(Clone, Debug)]
pub struct Step {
    pub op: Op,
    pub fault: Option<(u8, Fault)>,
}

fn op() -> impl Strategy<Value = Op> {
    let (slot, name) = (|| 0..SLOTS, || 0..NAMES.len());
    prop_oneof![
        6 => (slot(), name(), any::<bool>()).prop_map(|(slot, name, writes)| Op::Open { slot, name, writes }),
        2 => (slot(), name()).prop_map(|(slot, name)| Op::CreateNew { slot, name }),
        8 => (slot(), 0..12u8).prop_map(|(slot, at)| Op::Write { slot, at }),
        2 => (slot(), 0..16u8).prop_map(|(slot, size)| Op::Cut { slot, size }),
        5 => slot().prop_map(|slot| Op::Flush { slot }),
        5 => slot().prop_map(|slot| Op::Close { slot }),
        2 => (name(), 0..16u8).prop_map(|(name, size)| Op::Truncate { name, size }),
        2 => (name(), prop_oneof![Just(0o600), Just(0o664)]).prop_map(|(name, mode)| Op::Chmod { name, mode }),
        4 => name().prop_map(|name| Op::Unlink { name }),
        4 => (name(), name(), any::<bool>()).prop_map(|(from, to, keeps)| Op::Rename { from, to, keeps }),
        3 => name().prop_map(|name| Op::Replace { name }),
        1 => name().prop_map(|name| Op::Remove { name }),
        1 => Just(Op::Restart),
        1 => Just(Op::Remount),
    ]
}

fn fault() -> impl Strategy<Value = Option<(u8, Fault)>> {
    use Fault::{AnswerLost, KilledAfter, KilledBefore, Refused, Unavailable};
    let kinds = prop::sample::select(vec![Refused, Unavailable, AnswerLost, KilledBefore, KilledAfter]);
    prop_oneof![3 => Just(None), 2 => (0..6u8, kinds).prop_map(Some)]
}

pub fn step() -> impl Strategy<Value = Step> {
    (op(), fault()).prop_map(|(op, fault)| Step { op, fault })
}
