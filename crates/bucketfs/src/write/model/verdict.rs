//! What may be so after a call, by what its caller was told.
//!
//! What must hold: yes means all of it, no means nothing of it; only where no answer came may it be either.

use super::calls::Told;
use super::oracle::{Fate, File, MODE, Object, Oracle, Slot};
use super::step::Op;
use super::store::Fault;
use crate::error::FsError;

/// All that may be so, or why the caller should not have been told that.
pub fn possible(
    before: &Oracle,
    (op, ino): (&Op, u64),
    outcome: &Result<Told, FsError>,
    fault: Option<Fault>,
) -> Result<Vec<Oracle>, String> {
    let is_sure = !matches!(fault, Some(Fault::AnswerLost));
    match outcome {
        Ok(Told::Skipped) => Ok(vec![before.clone()]),
        Ok(told) => match after(before, op, *told) {
            // Somebody else's file under the name of one that was made here and not stored yet stays.
            Some(after) if matches!(op, Op::Unlink { .. }) && is_unsent(before, ino) => {
                Ok(vec![Oracle { bucket: before.bucket.clone(), ..after.clone() }, after])
            }
            Some(after) => Ok(vec![after]),
            None => Err("this cannot have been done".to_string()),
        },
        Err(error) if fault.is_none() && !is_due(before, op, ino, error) => {
            Err(format!("the caller was told {error:?}, and nothing was the matter"))
        }
        Err(error) => Ok(after_error(before, op, ino, error, is_sure)),
    }
}

/// The open file that a call is about; for a name it is the one that was found.
fn file_of(oracle: &Oracle, op: &Op, ino: u64) -> Option<u64> {
    match *op {
        Op::Write { slot, .. } | Op::Cut { slot, .. } | Op::Flush { slot } | Op::Close { slot } => {
            oracle.slots.get(&slot).map(|slot| slot.ino)
        }
        _ => Some(ino).filter(|ino| oracle.files.contains_key(ino)),
    }
}

fn is_unsent(oracle: &Oracle, ino: u64) -> bool {
    oracle.files.get(&ino).is_some_and(|file| file.base.is_none())
}

/// Whether an error is what anybody would expect with all requests well.
fn is_due(oracle: &Oracle, op: &Op, ino: u64, error: &FsError) -> bool {
    let is_absent = |name: usize| oracle.shown(name).is_none();
    let is_held =
        |name: usize| !is_absent(name) || oracle.files.values().any(|file| file.fate == Fate::Named(name));
    match (op, error) {
        (Op::Open { name, .. } | Op::Truncate { name, .. } | Op::Chmod { name, .. }, FsError::NotFound) => {
            is_absent(*name)
        }
        (Op::Unlink { name } | Op::Rename { from: name, .. }, FsError::NotFound) => is_absent(*name),
        (Op::CreateNew { name, .. }, FsError::Exists) => is_held(*name),
        (Op::Rename { to, keeps: true, .. }, FsError::Exists) => is_held(*to),
        (_, FsError::Lost | FsError::Stale) => file_of(oracle, op, ino).is_some_and(|ino| {
            oracle
                .files
                .get(&ino)
                .is_some_and(|file| file.was_raced || matches!(file.fate, Fate::Lost | Fate::Loose))
        }),
        _ => false,
    }
}

fn cut(body: &mut Vec<u8>, size: u8) {
    body.resize(usize::from(size), 0);
}

/// What is so once the call was done; `None` where it cannot be.
fn after(before: &Oracle, op: &Op, told: Told) -> Option<Oracle> {
    let mut oracle = before.clone();
    match (op, told) {
        (Op::Open { slot, name, writes }, Told::Opened(opened)) => {
            opened_file(&mut oracle, *name, opened);
            oracle.slots.insert(*slot, Slot { writes: *writes, ..opened });
        }
        (Op::CreateNew { slot, name }, Told::Opened(opened)) => {
            let made = Object { body: Vec::new(), mode: MODE };
            oracle.bucket.insert(*name, made.clone()).is_none().then_some(())?;
            let file =
                File { fate: Fate::Named(*name), now: made.clone(), base: Some(made), was_raced: false };
            oracle.files.insert(opened.ino, file);
            oracle.slots.insert(*slot, opened);
        }
        (Op::Write { slot, at, .. }, _) => {
            let (file, bytes) = (oracle.files.get_mut(&before.slots[slot].ino)?, before.written.clone());
            let end = usize::from(*at) + bytes.len();
            if file.now.body.len() < end {
                file.now.body.resize(end, 0);
            }
            file.now.body[usize::from(*at)..end].copy_from_slice(&bytes);
        }
        (Op::Cut { slot, size }, _) => {
            cut(&mut oracle.files.get_mut(&before.slots[slot].ino)?.now.body, *size)
        }
        (Op::Flush { slot }, _) => flushed(&mut oracle, before.slots[slot].ino)?,
        (Op::Close { slot }, _) => {
            if before.slots[slot].writes {
                flushed(&mut oracle, before.slots[slot].ino)?;
            }
            oracle.close(*slot);
        }
        (Op::Truncate { name, size }, Told::To(ino)) => {
            change(&mut oracle, *name, ino, |object| cut(&mut object.body, *size))?;
        }
        (Op::Chmod { name, mode }, Told::To(ino)) => {
            let has_bytes = |file: &File| file.base.as_ref().is_none_or(|base| base.body != file.now.body);
            let waits = oracle.writers(ino) == 0 || oracle.files.get(&ino).is_some_and(has_bytes);
            change(&mut oracle, *name, ino, |object| object.mode = *mode)?;
            if !waits {
                flushed(&mut oracle, ino)?;
            }
        }
        (Op::Unlink { name }, _) => oracle.take_away(*name),
        (Op::Rename { from, to, .. }, _) if from == to => {}
        (Op::Rename { from, to, .. }, Told::To(ino)) => {
            flushed(&mut oracle, ino)?;
            oracle.rename(ino, *from, *to);
        }
        _ => return None,
    }
    Some(oracle)
}

fn opened_file(oracle: &mut Oracle, name: usize, opened: Slot) {
    let is_written = oracle.writers(opened.ino) > 0;
    let base = oracle.bucket.get(&name).cloned();
    let now = base.clone().unwrap_or(Object { body: Vec::new(), mode: MODE });
    let file = File { fate: Fate::Named(name), now, base, was_raced: false };
    match oracle.files.get_mut(&opened.ino) {
        Some(_) if is_written => {}
        Some(known) => *known = file,
        None => {
            oracle.files.insert(opened.ino, file);
        }
    }
}

/// What was written is stored, as far as there is a name for it.
fn flushed(oracle: &mut Oracle, ino: u64) -> Option<()> {
    let Some(file) = oracle.files.get(&ino).cloned() else { return Some(()) };
    match file.fate {
        // Whoever wrote was told.
        Fate::Lost if oracle.writers(ino) == 0 => {}
        Fate::Lost => return None,
        Fate::Named(_) if file.is_dirty() && oracle.writers(ino) > 0 => {
            if oracle.is_raced(ino) {
                return None;
            }
            oracle.store(ino);
        }
        Fate::Named(_) | Fate::Orphan | Fate::Loose => {}
    }
    Some(())
}

/// A change by name: of a file that somebody writes it waits for the flush, of any other it is in the bucket.
fn change(oracle: &mut Oracle, name: usize, ino: u64, edit: impl Fn(&mut Object)) -> Option<()> {
    if oracle.writers(ino) > 0 {
        edit(&mut oracle.files.get_mut(&ino)?.now);
        return Some(());
    }
    let object = oracle.bucket.get_mut(&name)?;
    edit(object);
    let object = object.clone();
    if let Some(file) = oracle.files.get_mut(&ino) {
        (file.now, file.base) = (object.clone(), Some(object));
    }
    Some(())
}

/// All that may be so after an error.
fn after_error(before: &Oracle, op: &Op, ino: u64, error: &FsError, is_sure: bool) -> Vec<Oracle> {
    let mut all = vec![before.clone()];
    if let Some(ino) = file_of(before, op, ino) {
        if matches!(op, Op::Rename { .. } | Op::Flush { .. } | Op::Close { .. })
            && (!is_sure || matches!(op, Op::Rename { .. }))
        {
            let mut stored = before.clone();
            if flushed(&mut stored, ino).is_some() {
                all.push(stored);
            }
        }
        if matches!(error, FsError::Lost) {
            all.iter_mut().for_each(|oracle| oracle.lose(ino));
        }
    }
    match *op {
        Op::Rename { from, to, .. } => {
            let copied = |oracle: &Oracle| {
                let mut both = oracle.clone();
                let object = both.bucket.get(&from).cloned()?;
                both.bucket.insert(to, object);
                Some(both)
            };
            // What was replaced cannot be brought back: a file that cannot be taken away is in both places then.
            let is_replaced = before.bucket.contains_key(&to);
            if !is_sure || is_replaced {
                all.extend(all.clone().iter().filter_map(copied));
                // Then it is another file that has the name, though it may have the same bytes.
                let files = all.iter_mut().flat_map(|oracle| oracle.files.values_mut());
                files.filter(|file| file.fate == Fate::Named(to)).for_each(|file| file.was_raced = true);
            }
            if !is_sure {
                all.extend(after(before, op, Told::To(ino)));
            }
        }
        Op::CreateNew { name, .. } if !is_sure => {
            let mut made = before.clone();
            made.bucket.entry(name).or_insert(Object { body: Vec::new(), mode: MODE });
            all.push(made);
        }
        Op::Truncate { .. } | Op::Chmod { .. } | Op::Unlink { .. } if !is_sure => {
            all.extend(after(before, op, Told::To(ino)));
        }
        Op::Close { slot } => all.iter_mut().for_each(|oracle| oracle.close(slot)),
        _ => {}
    }
    all
}
