//! Grace: service before the payment, the timers that end it, and the clients that are banned after it.

use super::desk::Desk;
use super::fault::plays_the_sdk;
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
/// The most bans that are kept, each for a key that anybody may have named.
const BANS_MAX: usize = 4096;

/// One grace.
pub(super) struct Item {
    hash: Mutex<Hash>,
    pub(super) usage: Arc<Usage>,
    pub(super) stream: u64,
    pub(super) worker: Arc<Shared>,
    timer: AtomicU64,
    freed: AtomicBool,
}

static ITEMS: Mutex<Vec<Arc<Item>>> = Mutex::new(Vec::new());
/// When the bans of networks and key hashes end.
static BANS: Mutex<BTreeMap<(u64, Hash), Instant>> = Mutex::new(BTreeMap::new());

/// Adds an item for the usage's transaction, and starts its timer, which calls `end`.
pub(super) fn start(desk: &Desk, end: fn(&Rc<Worker>, &Arc<Item>)) {
    if !plays_the_sdk() {
        stop(&desk.usage);
    }
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

/// The usage's own item. The SDK finds an item by the transaction alone, the latest, which may be another session's.
pub(super) fn of(usage: &Arc<Usage>) -> Option<Arc<Item>> {
    let items = ITEMS.lock();
    let found = if plays_the_sdk() {
        let hash = usage.fields().tx_cond_hash.get().raw;
        items.iter().rev().find(|item| *item.hash.lock() == hash)
    } else {
        items.iter().find(|item| Arc::ptr_eq(&item.usage, usage))
    };
    found.cloned()
}

/// Ends a usage's grace, if it has one.
pub(super) fn stop(usage: &Arc<Usage>) {
    if let Some(item) = of(usage) {
        item.stop_timer();
        item.free();
    }
}

/// The items that wait for a transaction of a network. The SDK knows the latest one alone, of whatever network.
pub(super) fn waiting_for(net: u64, hash: &Hash) -> Vec<Arc<Item>> {
    let items = ITEMS.lock();
    let mut waiting = items.iter().rev().filter(|item| *item.hash.lock() == *hash);
    if plays_the_sdk() {
        waiting.next().cloned().into_iter().collect()
    } else {
        waiting.filter(|item| item.usage.net_id == net).cloned().collect()
    }
}

impl Item {
    /// The usage with its stream.
    pub(super) fn desk(&self, worker: &Rc<Worker>) -> Desk {
        Desk { worker: Rc::clone(worker), stream: self.stream, usage: Arc::clone(&self.usage) }
    }

    pub(super) fn is_freed(&self) -> bool {
        self.freed.load(Ordering::Relaxed)
    }

    /// Takes the item out of the table and frees it. Returns false if another has done so.
    pub(super) fn free(self: &Arc<Self>) -> bool {
        ITEMS.lock().retain(|other| !Arc::ptr_eq(other, self));
        !self.freed.swap(true, Ordering::Relaxed)
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
    let now = Instant::now();
    let mut bans = BANS.lock();
    if bans.len() >= BANS_MAX {
        bans.retain(|_, end| *end > now);
    }
    if bans.len() < BANS_MAX {
        bans.insert(client(usage), now + period);
    }
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
