//! The channels of the process's open streams, by uuid: for packets from other threads.

use super::mailbox::Mailbox;
use parking_lot::RwLock;
use rustc_hash::FxHashMap;
use std::sync::{Arc, LazyLock};

static CHANNELS: LazyLock<RwLock<FxHashMap<u32, Arc<Mailbox>>>> = LazyLock::new(RwLock::default);

/// Adds channels of one stream.
pub(crate) fn add(uuids: impl Iterator<Item = u32>, mailbox: &Arc<Mailbox>) {
    CHANNELS.write().extend(uuids.map(|uuid| (uuid, Arc::clone(mailbox))));
}

/// Removes the channels of a stream.
pub(crate) fn remove(uuids: impl Iterator<Item = u32>) {
    let mut channels = CHANNELS.write();
    for uuid in uuids {
        channels.remove(&uuid);
    }
}

/// The mailbox of the stream that has the channel.
pub(crate) fn find(uuid: u32) -> Option<Arc<Mailbox>> {
    CHANNELS.read().get(&uuid).cloned()
}

/// True if an open channel has this uuid.
pub(crate) fn is_taken(uuid: u32) -> bool {
    CHANNELS.read().contains_key(&uuid)
}

/// Drains the registry and returns the entries; the caller decides when to free them.
pub(crate) fn take_all() -> impl Sized {
    std::mem::take(&mut *CHANNELS.write())
}
