//! Plays the Cellframe SDK's paid service on channel 'R', for tests: the same messages with the same sizes, states and
//! callbacks in the same order, and its faults, which are recorded ([`faults`]) in place of a crash.
//!
//! It is off until [`play_the_sdk`] turns it on. The ledger behind it is [`crate::ledger`].
//!
//! Not played: times and values in the statistics that the SDK keeps of a client, its record of the last receipt, and
//! timers that stay behind when a stream moves to another worker.

mod check;
mod desk;
mod fault;
mod grace;
mod machine;
mod request;
mod signed;
mod statistics;

pub use fault::{FAULT_LINE, Fault};
pub use statistics::{Statistics, Traffic, statistics};

use crate::ctypes::*;
use crate::cview::service::Service;
use crate::cview::usage::{self, Usage};
use crate::ledger::{self, Hash};
use crate::reactor::timers;
use crate::service::{self, At, Billing};
use crate::stream::conn::registry::on_channel;
use desk::Desk;
use fault::record;
use parking_lot::Mutex;
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use vpn_core::wire::{Request, pkt};

/// The exchange, a service that every node has registered.
const EXCHANGE_UID: u64 = 2;
const SIGNATURE_WAIT: Duration = Duration::from_secs(10);

static WAIT: Mutex<Duration> = Mutex::new(SIGNATURE_WAIT);
/// How many stale timers C had deleted when the play began.
static STALE_BEFORE: AtomicU64 = AtomicU64::new(0);

/// Plays the SDK's paid service from now on, or no more. Either way all that was recorded is forgotten, and the waiting
/// time for signatures is the SDK's again. No stream may be open.
pub fn play_the_sdk(on: bool) {
    service::set_billing(on.then_some(&Play as &dyn Billing));
    usage::set_receipt_timer(on.then_some(receipt_timer));
    if on {
        ledger::listen(transaction_added);
    }
    ledger::follow_chains(false);
    *WAIT.lock() = SIGNATURE_WAIT;
    STALE_BEFORE.store(timers::stale_deletes(), Ordering::Relaxed);
    fault::clear();
    grace::clear();
    statistics::clear();
    usage::forget_all();
}

/// Sets how long the SDK waits for a signature before it asks again; it is 10 s until a test shortens it.
pub fn set_signature_wait(wait: Duration) {
    *WAIT.lock() = wait;
}

fn signature_wait() -> Duration {
    *WAIT.lock()
}

/// Returns the faults since the play began.
pub fn faults() -> Vec<Fault> {
    let mut faults = fault::all();
    let stale = timers::stale_deletes().saturating_sub(STALE_BEFORE.load(Ordering::Relaxed));
    faults.extend((0..stale).map(|_| Fault::StaleTimer));
    faults
}

/// Returns how many usages exist: after the end of all streams, how many nothing has freed.
pub fn usages() -> usize {
    usage::alive()
}

struct Play;

impl Billing for Play {
    fn packet(&self, at: &At, kind: u8, data: &[u8]) {
        register_exchange();
        match kind {
            pkt::REQUEST => request::request(at, data),
            pkt::CHECK_REQUEST => check::check(at, data),
            pkt::SIGN_RESPONSE => {
                if let Some(desk) = desk_of(at) {
                    signed::signed(&desk, data);
                }
            }
            pkt::NEW_TX_COND_RESPONSE if data.len() == Request::LEN => {
                let Ok(request) = Request::parse(data) else { return };
                if desk::active(&at.conn) == 0 {
                    return record(Fault::NoUsage);
                }
                if let Some(desk) = desk_of(at) {
                    signed::new_transaction(&desk, &request);
                }
            }
            _ => log::debug!("dropped a packet of type {kind:#x} on channel 'R'"),
        }
    }

    fn closed(&self, at: &At) {
        let Some(desk) = desk_of(at) else { return };
        statistics::add(&desk.usage);
        if desk.usage.service.save_remain(&desk.usage.handle()).is_err() {
            record(Fault::NullCallback);
        }
        // C may have taken the usage away in the callback.
        let active = desk::active(&at.conn);
        if active != 0 {
            desk::set_active(&at.conn, None);
            service::delete_usage(active);
        }
    }

    fn deleted(&self, usage: &Arc<Usage>, is_first: bool) {
        if !is_first {
            return record(Fault::DoubleFree);
        }
        // The SDK looks for the item by the transaction, and may find another session's.
        if let Some(item) = grace::find(&usage.fields().tx_cond_hash.get().raw) {
            item.stop_timer();
            item.free();
        }
    }
}

/// The session's usage with its stream; a freed one is a fault.
fn desk_of(at: &At) -> Option<Desk> {
    let usage = usage::at(desk::active(&at.conn))?;
    if usage.is_deleted() {
        record(Fault::FreedUsage);
        desk::set_active(&at.conn, None);
        return None;
    }
    Some(Desk { worker: at.worker.clone(), stream: at.conn.uuid, usage })
}

/// C wants a receipt to be asked for again.
fn receipt_timer(usage: &Arc<Usage>) {
    let desk = on_channel(usage.channel(), |worker, conn, _| Desk {
        worker: worker.clone(),
        stream: conn.uuid,
        usage: Arc::clone(usage),
    });
    match desk {
        Some(desk) => machine::start_receipt_timer(&desk),
        None => record(Fault::FreedChannel),
    }
}

/// The ledger has a transaction that a grace may wait for. Called on any thread.
fn transaction_added(net: u64, hash: Hash) {
    let pays = ledger::means(net, &hash).is_some_and(|means| means.output.is_some());
    if let Some(item) = grace::find(&hash).filter(|_| pays) {
        let worker = Arc::clone(&item.worker);
        worker.post(Box::new(move |worker| machine::transaction_came(worker, &item)));
    }
}

/// Registers the exchange as a node does, without callbacks of paid service.
fn register_exchange() {
    if service::find(EXCHANGE_UID).is_some() {
        return;
    }
    let callbacks = dap_chain_net_srv_callbacks {
        requested: None,
        response_success: None,
        response_error: None,
        receipt_next_success: None,
        get_remain_service: None,
        save_remain_service: None,
    };
    service::add(Service::new(dap_chain_net_srv {
        uid: dap_chain_net_srv_uid { uint64: EXCHANGE_UID },
        allow_free_srv: true,
        grace_period: 0,
        callbacks,
        _inheritor: Cell::new(std::ptr::null_mut()),
        _internal: Cell::new(std::ptr::null_mut()),
    }));
}
