//! Which channel letters exist, and the callbacks of each.

use crate::embedded::abi::stream::Proc;
use parking_lot::RwLock;
use std::sync::Arc;

struct Procs {
    by_letter: [Option<Arc<Proc>>; 256],
    /// Replaced ones: C may hold their address until the last release.
    replaced: Vec<Arc<Proc>>,
}

static PROCS: RwLock<Procs> = RwLock::new(Procs { by_letter: [const { None }; 256], replaced: Vec::new() });

/// Registers a letter's callbacks; streams opened from now on use them. The same ones again change nothing.
pub(crate) fn add(proc: Proc) {
    let mut procs = PROCS.write();
    let place = &mut procs.by_letter[usize::from(proc.letter())];
    if place.as_ref().is_some_and(|known| known.is_same(&proc)) {
        return;
    }
    let replaced = place.replace(Arc::new(proc));
    procs.replaced.extend(replaced);
}

/// The callbacks registered for a letter.
pub(crate) fn find(letter: u8) -> Option<Arc<Proc>> {
    PROCS.read().by_letter[usize::from(letter)].clone()
}

/// Forgets all.
pub(crate) fn clear() {
    let mut procs = PROCS.write();
    procs.by_letter.fill(None);
    procs.replaced = Vec::new();
}
