//! The rests of clients: loaded where they are needed, stored on a thread of its own, because a write blocks.
//!
//! The record of a rest is the C module's: group, key and 16 bytes. Units of payments that wait for the ledger stand in
//! a group of ours beside it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::KEEP_PENDING;
use crate::sdk::net::Net;
use crate::sdk::{http, store};
use crate::server::book::AccountBook;
use vpn_core::meter::{Client, Holding, Meter, PaymentId, Pending, Rest, Rests, Urgency, Write};
use vpn_core::wire::HashText;

/// The service's number in the names of its groups in the store.
const SERVICE: &str = "0x0000000000000001";
/// How often the thread looks for what is due.
const PERIOD: Duration = Duration::from_millis(250);
/// How often the log has the rest of a client whose session goes on, as the C module had it.
const TELL_EVERY: Duration = Duration::from_secs(60);
/// The length of a stored payment: its hash, bytes, seconds.
const PENDING_LEN: usize = 32 + Rest::RECORD_LEN;

/// The table of rests, and the thread that stores it.
pub(in crate::server) struct Store {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    rests: Mutex<Rests>,
    /// It gets what an event has changed before the rests of the event are stored.
    book: Arc<AccountBook>,
    /// When the log last had a client's record, and which.
    told: Mutex<HashMap<Client, (Instant, [u8; Rest::RECORD_LEN])>>,
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
    HashText(client).to_string()
}

impl Store {
    pub(super) fn new(save_every: Duration, book: Arc<AccountBook>) -> Store {
        let shared = Arc::new(Shared {
            rests: Mutex::new(Rests::new(save_every)),
            book,
            told: Mutex::default(),
            wake: Condvar::new(),
            ending: AtomicBool::new(false),
            started: Instant::now(),
        });
        let worker = Arc::clone(&shared);
        let thread = host::threads::spawn("vpn-rests", move || worker.run());
        if let Err(error) = &thread {
            log::error!("no thread for the store of rests: {error}; rests are stored when the service stops");
        }
        Store { shared, thread: Mutex::new(thread.ok()) }
    }

    /// Locks the table with a client's rest in it, loaded from the store if necessary. Payments that have reached the ledger
    /// count: the client may be back before the thread looks.
    pub(super) fn with_client(&self, client: Client, net: &Net) -> MutexGuard<'_, Rests> {
        let mut rests = self.shared.rests.lock();
        if rests.get(&client).is_none() {
            self.shared.load(&mut rests, client, net);
        }
        for payment in rests.waiting_of(&client) {
            if net.has_transaction(&payment) {
                rests.confirm(&payment);
            }
        }
        rests
    }

    /// Returns a rest that is in memory.
    pub(in crate::server) fn get(&self, client: &Client) -> Option<Rest> {
        self.shared.rests.lock().get(client)
    }

    /// Has what an event has changed stored: by the thread, or at once if it has ended.
    pub(super) fn wake(&self) {
        if self.shared.ending.load(Ordering::Acquire) {
            self.shared.write_all();
        }
        self.shared.wake.notify_one();
    }

    /// Returns whether a payment of the client's ended sessions waits for the ledger, for less than `timeout` yet.
    pub(super) fn is_unsettled(&self, client: &Client, net: &Net, timeout: Duration) -> bool {
        let newest = self.with_client(*client, net).newest_wait(client);
        newest.is_some_and(|expires| expires.saturating_sub(self.now()) > KEEP_PENDING.saturating_sub(timeout))
    }

    /// Returns the units of payments that have reached the ledger while a session of the client runs, whose meter does
    /// not know them.
    pub(super) fn credit(&self, client: &Client, meter: &Meter) -> i64 {
        self.shared.rests.lock().credit(client).of(meter.terms().unit)
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

    /// Updates a rest in a process that is about to exit, and passes all that the client has to `note`. Returns false if
    /// the table could not be had in time.
    pub(super) fn update_until(
        &self,
        deadline: Instant,
        client: Client,
        owner: u64,
        holding: Holding,
        payment: Option<PaymentId>,
        note: impl FnOnce(Option<Rest>),
    ) -> bool {
        let Some(mut rests) = self.shared.rests.try_lock_until(deadline) else { return false };
        rests.update(client, owner, holding, payment, Urgency::Event);
        note(rests.held(&client));
        true
    }

    /// Stores everything from a process that is about to exit, in which any lock may be held for ever: until the
    /// deadline.
    pub(in crate::server) fn flush_until(&self, deadline: Instant) {
        self.shared.ending.store(true, Ordering::Release);
        let shared = Arc::clone(&self.shared);
        let (done, finished) = crossbeam::channel::bounded(1);
        let write = move || {
            shared.write_rests();
            // Last: its lock, too, may be held for ever.
            shared.book.close("the server's process has exited");
            // The send fails if the wait has timed out.
            let _ = done.send(());
        };
        if host::threads::spawn("vpn-rests-exit", write).is_ok() {
            let _ = finished.recv_deadline(deadline);
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
            let is_second = settled.elapsed() >= Duration::from_secs(1);
            self.book.store(is_second);
            due.iter().for_each(|write| self.write(write));
            if is_second {
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
                self.book.settle(&payment);
                self.rests.lock().confirm(&payment);
            }
        }
        for expired in self.rests.lock().expire(self.started.elapsed()) {
            host::log_bounded!(
                Warn,
                "payment lost: client {}, it did not reach the ledger in time, its units are gone",
                HashText(&expired.client.key)
            );
        }
    }

    fn write_all(&self) {
        self.book.store_all();
        self.write_rests();
    }

    fn write_rests(&self) {
        let dirty = self.rests.lock().all_dirty();
        // All are stored before the first is told: in a process that exits, the log's lock may be held for ever.
        let stored: Vec<_> = dirty.iter().filter(|write| self.store(write)).collect();
        stored.into_iter().for_each(|write| self.tell(write));
    }

    fn write(&self, write: &Write) {
        if self.store(write) {
            self.tell(write);
        }
    }

    /// Stores a record, and returns whether it is stored.
    fn store(&self, write: &Write) -> bool {
        let stored = Net::by_id(write.client.net).as_ref().and_then(group).is_some_and(|group| {
            let client = key(&write.client.key);
            let pending: Vec<u8> = write.pending.iter().flat_map(encode).collect();
            // A kill in between costs one side the units of the payments that have changed their place.
            let result =
                store_pending(&group, &client, &pending).and_then(|()| store::set(&group, &client, &write.record));
            result.inspect_err(|error| host::log_bounded!(Warn, "limits not saved: client {client}, {error}")).is_ok()
        });
        self.rests.lock().written(&write.client, write.version, stored);
        stored
    }

    fn tell(&self, write: &Write) {
        let mut told = self.told.lock();
        let is_new =
            |(at, record): &(Instant, _)| at.elapsed() >= TELL_EVERY || (write.is_event && *record != write.record);
        let is_due = told.get(&write.client).is_none_or(is_new);
        let level = if is_due { log::Level::Info } else { log::Level::Debug };
        if is_due {
            told.retain(|_, (at, _)| at.elapsed() < TELL_EVERY);
            told.insert(write.client, (Instant::now(), write.record));
        }
        drop(told);
        let Rest { bytes, seconds } = Rest::from_record(&write.record).unwrap_or_default();
        log::log!(level, "limits saved: client {}, {bytes} bytes, {seconds} s", HashText(&write.client.key));
    }

    fn load(&self, rests: &mut Rests, client: Client, net: &Net) {
        let (group, name) = (group(net), key(&client.key));
        let record = group.as_ref().and_then(|group| store::get(group, &name));
        if let Err(error) = rests.load(client, record.as_deref()) {
            host::log_bounded!(Warn, "limits ignored: client {name}, as stored: {error}");
        }
        let Some(group) = group else { return };
        let expires = self.started.elapsed() + KEEP_PENDING;
        for pending in store::get(&pending_group(&group), &name).unwrap_or_default().chunks_exact(PENDING_LEN) {
            if let Some(pending) = decode(pending) {
                // At once, so that a client is not asked to pay while it has something left.
                if rests.load_pending(client, pending, expires) && net.has_transaction(&pending.payment) {
                    rests.confirm(&pending.payment);
                }
            }
        }
    }
}

/// Returns what the store says that a client has left: its record, and the payments beside it that have reached the
/// ledger since the service stopped. Nobody looks after them before the client is back.
pub(in crate::server) fn stored(net: &Net, client: &[u8; 32]) -> Option<Rest> {
    Some(with_pending(&group(net)?, &key(client), |payment| net.has_transaction(payment)))
}

/// Returns all that the store has for a client: its record, and the payments beside it, in the ledger or not; `None` if
/// the store cannot be asked.
pub(super) fn held(client: &Client) -> Option<Rest> {
    Some(with_pending(&group(&Net::by_id(client.net)?)?, &key(&client.key), |_| true))
}

/// Returns a client's record with the stored payments that count. A client may have payments and no record yet, if the
/// process was killed between their writes.
fn with_pending(group: &str, client: &str, counts: impl Fn(&PaymentId) -> bool) -> Rest {
    let record = store::get(group, client).and_then(|record| Rest::from_record(&record).ok()).unwrap_or_default();
    let waiting = store::get(&pending_group(group), client).unwrap_or_default();
    let pending = waiting.chunks_exact(PENDING_LEN).filter_map(decode).filter(|pending| counts(&pending.payment));
    pending.fold(record, |total, Pending { rest, .. }| Rest {
        bytes: total.bytes.saturating_add(rest.bytes),
        seconds: total.seconds.saturating_add(rest.seconds),
    })
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
