//! The process that owns what this library has created. A fork's child has a copy of the memory, but none of the
//! threads, and shares the descriptors: it must not touch what belongs to its parent, nor wait for it.

use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;

/// How many [`Running`](super::Running) there are.
static USERS: Mutex<usize> = Mutex::new(0);
/// The process that has them; 0 for none.
static OWNER: AtomicU32 = AtomicU32::new(0);

/// Returns whether this process is the child of one in which the service, the client or the device existed when it was
/// forked. Takes no lock, because another thread of the parent may have held it.
pub fn is_forked() -> bool {
    let owner = OWNER.load(Ordering::Relaxed);
    owner != 0 && owner != std::process::id()
}

/// Counts a user.
pub(super) fn enter() {
    let mut users = USERS.lock();
    *users += 1;
    OWNER.store(std::process::id(), Ordering::Relaxed);
}

/// Counts a user less; after the last one a fork's child may use the library.
pub(super) fn leave() {
    let mut users = USERS.lock();
    *users -= 1;
    if *users == 0 {
        OWNER.store(0, Ordering::Relaxed);
    }
}
