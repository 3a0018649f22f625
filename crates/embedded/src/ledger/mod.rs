//! The ledgers of the networks: orders, conditional transactions, payments. In memory, and empty until a test fills them.
//!
//! A payment spends a conditional transaction's output, and keeps what is left of it as its own: a chain of payments.
//! What is added goes to the mempool first, and from there to the ledger, at once or when a test says so.

mod pay;
#[cfg(test)]
mod tests;

use crate::net::NetRef;
use parking_lot::Mutex;
use sha3::{Digest, Sha3_256};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

pub use pay::{PayError, Refusal, fail_to_store, pay};
pub(crate) use pay::{value_bytes, value_of};

/// The VPN service's uid.
pub const VPN_UID: u64 = 1;

/// A hash of an order or a transaction.
pub type Hash = [u8; 32];

/// An order of this node: units of the VPN for a price.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// One of [`vpn_core::wire::unit`], or another number.
    pub unit: u32,
    /// The units of one receipt.
    pub units: u64,
    /// The value of one receipt.
    pub value: u128,
    /// The token of the price.
    pub token: String,
    /// The order is signed by this node's key.
    pub is_ours: bool,
}

/// A conditional transaction: what a client may spend by receipts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// The hash of the key that signs receipts.
    pub client_key: Hash,
    /// The unit that it pays for.
    pub unit: u32,
    /// What it holds.
    pub value: u128,
    /// The token that it holds.
    pub token: String,
    /// The service that it pays.
    pub srv_uid: u64,
    /// The highest price of one unit; 0 for none.
    pub max_unit_price: u128,
    /// The fee that each payment takes from it besides the value.
    pub fee: u128,
}

impl Default for Transaction {
    fn default() -> Self {
        Transaction {
            client_key: [0; 32],
            unit: 0,
            value: 0,
            token: "CELL".into(),
            srv_uid: VPN_UID,
            max_unit_price: 0,
            fee: 0,
        }
    }
}

/// A transaction in the ledger, as the means to pay for an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Means {
    /// The output that pays for a service; `None` if all is spent.
    pub output: Option<Transaction>,
    /// The first transaction of its chain.
    pub first: Hash,
    /// It spends another one.
    pub is_payment: bool,
    /// The last transaction of its chain; `None` if that one holds nothing any more.
    pub last: Option<Hash>,
}

impl Means {
    /// Whether payments have taken everything.
    pub(crate) fn is_used_up(&self) -> bool {
        self.is_payment && self.output.is_none()
    }
}

/// A transaction in the ledger.
#[derive(Clone, Debug)]
struct Entry {
    output: Option<Transaction>,
    first: Hash,
    is_payment: bool,
    spent_by: Option<Hash>,
}

/// What waits for a place in the ledger.
enum Pending {
    Transaction(Hash, Transaction),
    Payment(Hash, pay::Payment),
}

#[derive(Default)]
struct Ledger {
    orders: BTreeMap<Hash, Order>,
    entries: BTreeMap<Hash, Entry>,
    mempool: Vec<Pending>,
    /// The mempool waits for [`process`].
    by_hand: bool,
    is_offline: bool,
    net_fee: u128,
    earned: u128,
    refused: Vec<Refusal>,
}

static LEDGERS: Mutex<BTreeMap<u64, Ledger>> = Mutex::new(BTreeMap::new());
/// Called with the network for each transaction that its ledger accepts, on the thread that adds or processes it.
pub type Listener = fn(u64, Hash);

static LISTENER: Mutex<Option<Listener>> = Mutex::new(None);

fn with<R>(net: u64, body: impl FnOnce(&mut Ledger) -> R) -> R {
    body(LEDGERS.lock().entry(net).or_default())
}

/// Clears the ledgers of all networks.
pub fn reset() {
    LEDGERS.lock().clear();
}

static FOLLOWS_CHAINS: AtomicBool = AtomicBool::new(false);

/// Whether the billing takes the last transaction of the chain that REQUEST names, as the SDK's branch kelvpn-cf does: a
/// chain that holds nothing any more is to it as an unknown transaction.
pub fn follow_chains(on: bool) {
    FOLLOWS_CHAINS.store(on, Ordering::Relaxed);
}

pub(crate) fn follows_chains() -> bool {
    FOLLOWS_CHAINS.load(Ordering::Relaxed)
}

/// Sets the function that learns of each transaction in a ledger.
pub fn listen(listener: Listener) {
    *LISTENER.lock() = Some(listener);
}

/// The hash of the built-in order that gives the VPN away in a network.
pub fn free_order(net_id: u64) -> Hash {
    let mut hash = Sha3_256::new();
    hash.update(b"free order");
    hash.update(net_id.to_le_bytes());
    hash.update(VPN_UID.to_le_bytes());
    hash.finalize().into()
}

/// Adds an order, and returns its hash.
pub fn add_order(net: u64, order: Order) -> Hash {
    let hash = hash_of(&[format!("{net} {order:?}").as_bytes()]);
    with(net, |ledger| ledger.orders.insert(hash, order));
    hash
}

/// Adds an order under a hash that the caller has made of it.
pub(crate) fn add_order_as(net: u64, hash: Hash, order: Order) {
    with(net, |ledger| ledger.orders.insert(hash, order));
}

/// Removes an order. Who has paid for it is served on.
pub(crate) fn remove_order(net: u64, hash: &Hash) {
    with(net, |ledger| ledger.orders.remove(hash));
}

/// The order with this hash, or the free one.
pub fn order(net: NetRef, hash: &Hash) -> Option<Order> {
    if *hash == free_order(net.id()) {
        let token = net.native_ticker().to_owned();
        return Some(Order { unit: 0, units: 0, value: 0, token, is_ours: true });
    }
    with(net.id(), |ledger| ledger.orders.get(hash).cloned())
}

/// Adds a conditional transaction to the mempool, and returns its hash. Equal ones get different hashes.
pub fn add_transaction(net: u64, transaction: Transaction) -> Hash {
    static NUMBER: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let hash = hash_of(&[format!("{net} {number} {transaction:?}").as_bytes()]);
    add(net, Pending::Transaction(hash, transaction));
    hash
}

fn add(net: u64, pending: Pending) {
    let by_hand = with(net, |ledger| {
        ledger.mempool.push(pending);
        ledger.by_hand
    });
    if !by_hand {
        process(net);
    }
}

/// Moves everything from a network's mempool into its ledger, or refuses it.
pub fn process(net: u64) {
    let accepted: Vec<Hash> = with(net, |ledger| {
        let mempool = std::mem::take(&mut ledger.mempool);
        mempool.into_iter().filter_map(|pending| ledger.accept(pending)).collect()
    });
    let listener = *LISTENER.lock();
    if let Some(listener) = listener {
        accepted.into_iter().for_each(|hash| listener(net, hash));
    }
}

/// Sets whether a network's mempool waits for [`process`], as with a slow chain.
pub fn set_by_hand(net: u64, by_hand: bool) {
    with(net, |ledger| ledger.by_hand = by_hand);
}

/// Sets whether this node is not connected to a network.
pub fn set_offline(net: u64, is_offline: bool) {
    with(net, |ledger| ledger.is_offline = is_offline);
}

/// Returns whether this node is not connected to a network.
pub fn is_offline(net: u64) -> bool {
    with(net, |ledger| ledger.is_offline)
}

/// Sets the fee that the network takes from each payment.
pub fn set_net_fee(net: u64, fee: u128) {
    with(net, |ledger| ledger.net_fee = fee);
}

/// Returns what payments in the ledger have brought this node.
pub fn earned(net: u64) -> u128 {
    with(net, |ledger| ledger.earned)
}

/// Returns the payments that the ledger has refused, with its reasons.
pub fn refused(net: u64) -> Vec<Refusal> {
    with(net, |ledger| ledger.refused.clone())
}

/// Returns how many transactions wait in the mempool.
pub fn waiting(net: u64) -> usize {
    with(net, |ledger| ledger.mempool.len())
}

/// Returns the transaction with this hash, if the ledger has it.
pub fn means(net: u64, hash: &Hash) -> Option<Means> {
    with(net, |ledger| {
        let entry = ledger.entries.get(hash)?;
        let Entry { output, first, is_payment, .. } = entry.clone();
        Some(Means { output, first, is_payment, last: ledger.last(hash) })
    })
}

/// Returns whether an output holds one payment of this value, with the fees.
pub fn is_enough(net: u64, output: &Transaction, value: u128) -> bool {
    with(net, |ledger| ledger.needed(output, value)).is_some_and(|needed| needed <= output.value)
}

impl Ledger {
    /// What a payment of `value` takes from an output.
    fn needed(&self, output: &Transaction, value: u128) -> Option<u128> {
        value.checked_add(self.net_fee)?.checked_add(output.fee)
    }

    /// The last transaction of the chain that `hash` is in; `None` if that one holds nothing.
    fn last(&self, hash: &Hash) -> Option<Hash> {
        let mut hash = *hash;
        loop {
            let entry = self.entries.get(&hash)?;
            match entry.spent_by {
                Some(next) => hash = next,
                None => return entry.output.is_some().then_some(hash),
            }
        }
    }

    fn accept(&mut self, pending: Pending) -> Option<Hash> {
        match pending {
            Pending::Transaction(hash, transaction) => {
                let entry = Entry { output: Some(transaction), first: hash, is_payment: false, spent_by: None };
                self.entries.insert(hash, entry);
                Some(hash)
            }
            Pending::Payment(hash, payment) => self.accept_payment(hash, &payment),
        }
    }
}

fn hash_of(parts: &[&[u8]]) -> Hash {
    let mut hash = Sha3_256::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().into()
}
