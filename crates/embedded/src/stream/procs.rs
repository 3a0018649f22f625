//! The registered channel letters and their callbacks. They stay until the process ends, as in the real SDK: C code
//! registers a letter once, across stops and starts.

use crate::cview::stream::Proc;
use parking_lot::RwLock;
use std::sync::Arc;

struct Procs {
    by_letter: [Option<Arc<Proc>>; 256],
    /// All registrations ever made: C may hold their addresses. A program has few, as they are functions of its code.
    known: Vec<Arc<Proc>>,
}

static PROCS: RwLock<Procs> = RwLock::new(Procs { by_letter: [const { None }; 256], known: Vec::new() });

/// Registers a letter's callbacks; streams opened later use them.
pub(crate) fn add(proc: Proc) {
    let mut procs = PROCS.write();
    let letter = usize::from(proc.letter());
    let known = procs.known.iter().find(|known| known.is_same(&proc)).cloned();
    let proc = known.unwrap_or_else(|| {
        let proc = Arc::new(proc);
        procs.known.push(Arc::clone(&proc));
        proc
    });
    procs.by_letter[letter] = Some(proc);
}

/// The callbacks registered for a letter.
pub(crate) fn find(letter: u8) -> Option<Arc<Proc>> {
    PROCS.read().by_letter[usize::from(letter)].clone()
}
