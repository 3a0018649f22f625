//! Plays the Cellframe SDK's paid service on channel 'R', for tests: the same messages with the same sizes, states and
//! callbacks in the same order, and its faults, which are recorded ([`faults`]) in place of a crash.
//!
//! It is off until [`play_the_sdk`] turns it on. The states are those of `billing`, which makes the SDK's faults then; the
//! ledger behind it is [`crate::ledger`].
//!
//! Not played: times and values in the statistics that the SDK keeps of a client, its record of the last receipt, and
//! timers that stay behind when a stream moves to another worker.

mod check;
mod request;
mod statistics;

pub use crate::billing::fault::{FAULT_LINE, Fault};
pub use statistics::{Statistics, Traffic, statistics};

use crate::billing::fault::{self, record};
use crate::billing::{self, At, SIGNATURE_WAIT, desk};
use crate::ctypes::*;
use crate::cview::service::Service;
use crate::cview::usage;
use crate::ledger;
use crate::reactor::timers;
use crate::service::{self, StandIn};
use crate::services;
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use vpn_core::wire::{Request, pkt};

/// The exchange, a service that every node has registered.
const EXCHANGE_UID: u64 = 2;

/// How many stale timers C had deleted when the play began.
static STALE_BEFORE: AtomicU64 = AtomicU64::new(0);

/// Plays the SDK's paid service from now on, or no more. Either way all that was recorded is forgotten, and the waiting
/// time for signatures is the SDK's again. No stream may be open.
pub fn play_the_sdk(on: bool) {
    service::set_stand_in(on.then_some(&Play as &dyn StandIn));
    fault::play(on);
    billing::register();
    billing::clear();
    billing::set_signature_wait(SIGNATURE_WAIT);
    ledger::follow_chains(false);
    STALE_BEFORE.store(timers::stale_deletes(), Ordering::Relaxed);
    statistics::clear();
}

/// Sets how long a signature is waited for before the receipt is sent again; it is 10 s until a test shortens it.
pub fn set_signature_wait(wait: Duration) {
    billing::set_signature_wait(wait);
}

/// Returns the faults since the play began, or ended.
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

impl StandIn for Play {
    fn packet(&self, at: &At, kind: u8, data: &[u8]) {
        register_exchange();
        match kind {
            pkt::REQUEST => request::request(at, data),
            pkt::CHECK_REQUEST => check::check(at, data),
            pkt::SIGN_RESPONSE => {
                if let Some(desk) = at.usage() {
                    billing::signed(&desk, data);
                }
            }
            pkt::NEW_TX_COND_RESPONSE if data.len() == Request::LEN => {
                let Ok(request) = Request::parse(data) else { return };
                if desk::active(&at.conn) == 0 {
                    return record(Fault::NoUsage);
                }
                if let Some(desk) = at.usage() {
                    billing::new_transaction(&desk, &request, services::find(request.srv_uid).is_some());
                }
            }
            _ => log::debug!("dropped a packet of type {kind:#x} on channel 'R'"),
        }
    }

    fn closed(&self, at: &At) {
        if let Some(usage) = usage::at(desk::active(&at.conn)).filter(|usage| !usage.is_deleted()) {
            statistics::add(&usage);
        }
        billing::closed(at);
    }
}

/// Registers the exchange as a node does, without callbacks of paid service.
fn register_exchange() {
    if services::find(EXCHANGE_UID).is_some() {
        return;
    }
    let callbacks = dap_chain_net_srv_callbacks::default();
    services::add(Service::new(dap_chain_net_srv {
        uid: dap_chain_net_srv_uid { uint64: EXCHANGE_UID },
        allow_free_srv: true.into(),
        grace_period: 0.into(),
        callbacks,
        _inheritor: Cell::new(std::ptr::null_mut()),
        _internal: Cell::new(std::ptr::null_mut()),
    }));
}
