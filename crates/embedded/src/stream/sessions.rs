//! The sessions of the streams that clients opened to this node, and the lock under which C walks their list.
//!
//! The lock blocks no stream: a session that ends while the list is locked is kept until the unlock.

use crate::cview::session::Session;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

struct Sessions {
    live: BTreeMap<u32, Arc<Session>>,
    /// The number, by the address that C holds.
    by_address: Option<HashMap<usize, u32>>,
    locks: usize,
    /// Returned under a lock that is still held.
    lent: Vec<Arc<Session>>,
}

static SESSIONS: Mutex<Sessions> =
    Mutex::new(Sessions { live: BTreeMap::new(), by_address: None, locks: 0, lent: Vec::new() });

pub(crate) fn add(session: &Arc<Session>) {
    let mut sessions = SESSIONS.lock();
    sessions.live.insert(session.id(), Arc::clone(session));
    sessions.by_address.get_or_insert_default().insert(session.as_ptr().addr(), session.id());
}

pub(crate) fn remove(session: &Session) {
    let mut sessions = SESSIONS.lock();
    let gone = sessions.live.remove(&session.id());
    if let (Some(gone), Some(by_address)) = (&gone, &mut sessions.by_address) {
        by_address.remove(&gone.as_ptr().addr());
    }
    // The memory is freed outside the lock.
    drop(sessions);
    drop(gone);
}

/// The session at an address, which is compared, never followed.
pub(crate) fn find(address: usize) -> Option<Arc<Session>> {
    let sessions = SESSIONS.lock();
    let id = sessions.by_address.as_ref()?.get(&address)?;
    sessions.live.get(id).cloned()
}

/// Locks the list: the returned sessions live until each lock has had its [`unlock`].
pub(crate) fn lock() -> Vec<Arc<Session>> {
    let mut sessions = SESSIONS.lock();
    let list: Vec<_> = sessions.live.values().cloned().collect();
    sessions.locks += 1;
    sessions.lent.extend(list.iter().cloned());
    list
}

/// Releases one lock.
pub(crate) fn unlock() {
    let mut sessions = SESSIONS.lock();
    if sessions.locks == 0 {
        drop(sessions);
        return log::error!("dap_stream_session_get_list_sessions_unlock: the list is not locked");
    }
    sessions.locks -= 1;
    if sessions.locks == 0 {
        let lent = std::mem::take(&mut sessions.lent);
        drop(sessions);
        drop(lent);
    }
}

/// Drains the registry, except for sessions that a lock keeps; the caller decides when the sessions are freed.
pub(crate) fn take_all() -> impl Sized {
    let mut sessions = SESSIONS.lock();
    sessions.by_address = None;
    std::mem::take(&mut sessions.live)
}
