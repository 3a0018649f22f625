//! The rests of clients: loaded where they are needed, stored on a thread of its own, because a write blocks.
//!
//! The record of a rest is the C module's: group, key and 16 bytes. Units of payments that wait for the ledger stand in
//! a group of ours beside it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::sdk::net::Net;
use crate::sdk::{http, store};
use vpn_core::meter::{Client, Holding, PaymentId, Pending, Rest, Rests, Urgency, Write};

/// The service's number in the names of its groups in the store.
const SERVICE: &str = "0x0000000000000001";
/// How often the thread looks for what is due.
const PERIOD: Duration = Duration::from_millis(250);
/// The length of a stored payment: its hash, bytes, seconds.
const PENDING_LEN: usize = 32 + Rest::RECORD_LEN;

/// The table of rests, and the thread that stores it.
pub(in crate::server) struct Store {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    rests: Mutex<Rests>,
    wake: Condvar,
    ending: AtomicBool,
    started: Instant,
}

/// Returns the group of rests in the store; `None` if this node has no key to sign receipts with.
pub(in crate::server) fn group(net: &Net) -> Option<String> {
    Some(format!("local.{}.{SERVICE}.remain_limits.{}", net.store_prefix(), http::receipt_key_hash()?))
}

/// Returns the key of a client's rest in the store.
pub(in crate::server) fn key(client: &[u8; 32]) -> String {
    client.iter().fold(String::from("0x"), |text, byte| format!("{text}{byte:02X}"))
}

impl Store {
    pub(super) fn new(save_every: Duration) -> Store {
        let shared = Arc::new(Shared {
            rests: Mutex::new(Rests::new(save_every)),
            wake: Condvar::new(),
            ending: AtomicBool::new(false),
            started: Instant::now(),
        });
        let worker = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("vpn-rests".into()).spawn(move || worker.run());
        if let Err(error) = &thread {
            log::error!("no thread for the store of rests: {error}; rests are stored when the service stops");
        }
        Store { shared, thread: Mutex::new(thread.ok()) }
    }

    /// Locks the table with a client's rest in it, loaded from the store if necessary.
    pub(super) fn with_client(&self, client: Client, net: &Net) -> MutexGuard<'_, Rests> {
        let mut rests = self.shared.rests.lock();
        if rests.get(&client).is_none() {
            self.shared.load(&mut rests, client, net);
        }
        rests
    }

    /// Returns a rest that is in memory.
    pub(in crate::server) fn get(&self, client: &Client) -> Option<Rest> {
        self.shared.rests.lock().get(client)
    }

    /// Has the thread store what an event has changed.
    pub(super) fn wake(&self) {
        self.shared.wake.notify_one();
    }

    /// Returns the time on the table's clock.
    pub(super) fn now(&self) -> Duration {
        self.shared.started.elapsed()
    }

    /// Stores everything, and ends the thread.
    pub(in crate::server) fn close(&self) {
        self.shared.ending.store(true, Ordering::Release);
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            log::error!("the thread that stores rests has panicked");
        }
        self.shared.write_all();
    }

    /// Updates a rest in a process that is about to exit.
    pub(super) fn update_within(
        &self,
        limit: Duration,
        client: Client,
        owner: u64,
        holding: Holding,
        payment: Option<PaymentId>,
    ) {
        if let Some(mut rests) = self.shared.rests.try_lock_for(limit) {
            rests.update(client, owner, holding, payment, Urgency::Event);
        }
    }

    /// Stores everything from a process that is about to exit, in which any lock may be held for ever: at most for
    /// `limit`.
    pub(in crate::server) fn flush_within(&self, limit: Duration) {
        let shared = Arc::clone(&self.shared);
        let (done, finished) = crossbeam::channel::bounded(1);
        let write = move || {
            shared.write_all();
            // The send fails if the wait has timed out.
            let _ = done.send(());
        };
        if std::thread::Builder::new().spawn(write).is_ok() {
            let _ = finished.recv_timeout(limit);
        }
    }
}

impl Shared {
    fn run(&self) {
        let mut settled = Instant::now();
        while !self.ending.load(Ordering::Acquire) {
            let due = {
                let mut rests = self.rests.lock();
                self.wake.wait_for(&mut rests, PERIOD);
                rests.due(self.started.elapsed())
            };
            due.iter().for_each(|write| self.write(write));
            if settled.elapsed() >= Duration::from_secs(1) {
                settled = Instant::now();
                self.settle();
            }
        }
    }

    /// Looks for payments of ended sessions in the ledger.
    fn settle(&self) {
        let waiting = self.rests.lock().waiting();
        for (client, payment) in waiting {
            if Net::by_id(client.net).is_some_and(|net| net.has_transaction(&payment)) {
                self.rests.lock().confirm(&payment);
            }
        }
        for expired in self.rests.lock().expire(self.started.elapsed()) {
            log::warn!(
                "client {}: a payment did not reach the ledger in time, its units are lost",
                key(&expired.client.key)
            );
        }
    }

    fn write_all(&self) {
        let dirty = self.rests.lock().all_dirty();
        dirty.iter().for_each(|write| self.write(write));
    }

    fn write(&self, write: &Write) {
        let stored = Net::by_id(write.client.net).as_ref().and_then(group).is_some_and(|group| {
            let client = key(&write.client.key);
            let pending: Vec<u8> = write.pending.iter().flat_map(encode).collect();
            // Payments first: a kill in between then costs nobody anything.
            let result =
                store_pending(&group, &client, &pending).and_then(|()| store::set(&group, &client, &write.record));
            result.inspect_err(|error| log::warn!("the rest of client {client} is not stored: {error}")).is_ok()
        });
        self.rests.lock().written(&write.client, write.version, stored);
    }

    fn load(&self, rests: &mut Rests, client: Client, net: &Net) {
        let (group, name) = (group(net), key(&client.key));
        let record = group.as_ref().and_then(|group| store::get(group, &name));
        if let Err(error) = rests.load(client, record.as_deref()) {
            log::warn!("the stored rest of client {name} is ignored: {error}");
        }
        let Some(group) = group else { return };
        let expires = self.started.elapsed() + Duration::from_secs(600);
        for pending in store::get(&pending_group(&group), &name).unwrap_or_default().chunks_exact(PENDING_LEN) {
            if let Some(pending) = decode(pending) {
                rests.load_pending(client, pending, expires);
            }
        }
    }
}

fn pending_group(group: &str) -> String {
    format!("{group}.pending")
}

/// Stores the payments that wait for the ledger. Most clients have none, and never had.
fn store_pending(group: &str, client: &str, pending: &[u8]) -> Result<(), store::StoreError> {
    let group = pending_group(group);
    let stored = store::get(&group, client).unwrap_or_default();
    if stored == pending || (stored == NOTHING && pending.is_empty()) {
        return Ok(());
    }
    // The SDK's store takes no empty values.
    store::set(&group, client, if pending.is_empty() { &NOTHING } else { pending })
}

/// Stands for an empty list of payments.
const NOTHING: [u8; 1] = [0];

fn encode(pending: &Pending) -> Vec<u8> {
    [pending.payment.as_slice(), pending.rest.to_record().as_slice()].concat()
}

fn decode(bytes: &[u8]) -> Option<Pending> {
    let (payment, record) = bytes.split_first_chunk::<32>()?;
    Some(Pending { payment: *payment, rest: Rest::from_record(record).ok()? })
}
