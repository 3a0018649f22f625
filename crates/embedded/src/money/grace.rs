//! Grace: service before the payment, the timers that end it, and the clients that are banned after it.
//!
//! As in the SDK, the items are in one table by transaction, and an item is found by its hash alone.

use super::desk::Desk;
use crate::cview::usage::Usage;
use crate::ledger::Hash;
use crate::reactor::{Shared, Worker};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How many times as long as the grace a client is banned.
const BAN: u32 = 50;

/// One grace.
pub(super) struct Item {
    hash: Mutex<Hash>,
    pub(super) usage: Arc<Usage>,
    stream: u64,
    pub(super) worker: Arc<Shared>,
    timer: AtomicU64,
    freed: AtomicBool,
}

static ITEMS: Mutex<Vec<Arc<Item>>> = Mutex::new(Vec::new());
/// When the bans of networks and key hashes end.
static BANS: Mutex<BTreeMap<(u64, Hash), Instant>> = Mutex::new(BTreeMap::new());

/// Adds an item for the usage's transaction, and starts its timer, which calls `end`.
pub(super) fn start(desk: &Desk, end: fn(&Rc<Worker>, &Arc<Item>)) {
    let item = Arc::new(Item {
        hash: Mutex::new(desk.usage.fields().tx_cond_hash.get().raw),
        usage: Arc::clone(&desk.usage),
        stream: desk.stream,
        worker: Arc::clone(&desk.worker.shared),
        timer: AtomicU64::new(0),
        freed: AtomicBool::new(false),
    });
    let period = Duration::from_secs(desk.usage.service.grace_period().into());
    let ended = Arc::clone(&item);
    let timer = desk.worker.timers.once(period, move |worker| end(worker, &ended));
    item.timer.store(timer, Ordering::Relaxed);
    ITEMS.lock().push(item);
}

/// The latest item for a transaction.
pub(super) fn find(hash: &Hash) -> Option<Arc<Item>> {
    ITEMS.lock().iter().rev().find(|item| *item.hash.lock() == *hash).cloned()
}

impl Item {
    /// The usage with its stream.
    pub(super) fn desk(&self, worker: &Rc<Worker>) -> Desk {
        Desk { worker: Rc::clone(worker), stream: self.stream, usage: Arc::clone(&self.usage) }
    }

    pub(super) fn is_freed(&self) -> bool {
        self.freed.load(Ordering::Relaxed)
    }

    /// Takes the item out of the table and frees it.
    pub(super) fn free(self: &Arc<Self>) {
        ITEMS.lock().retain(|other| !Arc::ptr_eq(other, self));
        self.freed.store(true, Ordering::Relaxed);
    }

    /// Has the item wait for another transaction.
    pub(super) fn wait_for(&self, hash: Hash) {
        *self.hash.lock() = hash;
    }

    /// Ends the timer.
    pub(super) fn stop_timer(&self) {
        let timer = self.timer.load(Ordering::Relaxed);
        self.worker.post(Box::new(move |worker| drop(worker.timers.remove(timer))));
    }
}

/// Bans a usage's client.
pub(super) fn ban(usage: &Usage) {
    let period = Duration::from_secs(usage.service.grace_period().into()) * BAN;
    BANS.lock().insert(client(usage), Instant::now() + period);
}

/// Ends the ban of a usage's client.
pub(super) fn unban(usage: &Usage) {
    BANS.lock().remove(&client(usage));
}

/// Returns whether a usage's client is banned.
pub(super) fn is_banned(usage: &Usage) -> bool {
    BANS.lock().get(&client(usage)).is_some_and(|end| *end > Instant::now())
}

fn client(usage: &Usage) -> (u64, Hash) {
    (usage.net_id, usage.fields().client_pkey_hash.raw)
}

pub(super) fn clear() {
    ITEMS.lock().clear();
    BANS.lock().clear();
}
