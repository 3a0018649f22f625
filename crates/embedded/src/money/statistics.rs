//! What the SDK keeps of each client's use of the service, and `net_srv report` prints: at the end of channel 'R' it adds
//! up what the service has counted in the client's struct.

use crate::cview::usage::{Usage, state};
use crate::ledger::Hash;
use parking_lot::Mutex;
use std::collections::BTreeMap;

/// Bytes as the SDK names them: what the client has received, and what it has sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Down.
    pub received: u64,
    /// Up.
    pub sent: u64,
}

/// A client's traffic, by the state in which its usages ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Of paid service.
    pub paid: Traffic,
    /// Before the first payment.
    pub grace: Traffic,
    /// Of free orders.
    pub free: Traffic,
}

static CLIENTS: Mutex<BTreeMap<Hash, Statistics>> = Mutex::new(BTreeMap::new());

/// Returns the statistics of the client that named this key.
pub fn statistics(client_key: &Hash) -> Statistics {
    CLIENTS.lock().get(client_key).copied().unwrap_or_default()
}

/// Adds a usage that ends.
pub(super) fn add(usage: &Usage) {
    let mut clients = CLIENTS.lock();
    let client = clients.entry(usage.fields().client_pkey_hash.raw).or_default();
    let total = match usage.state() {
        state::GRACE => &mut client.grace,
        state::FREE => &mut client.free,
        _ if usage.fields().is_active.get() => &mut client.paid,
        _ => return,
    };
    let (received, sent) = usage.traffic();
    total.received += received;
    total.sent += sent;
}

pub(super) fn clear() {
    CLIENTS.lock().clear();
}
