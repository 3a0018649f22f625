//! The ledgers of the networks: accounts, conditional transactions, payments. Without a node, the operator's own server
//! is the authority: its ledger says who owns how many tokens.
//!
//! # What there is
//!
//! - An **account** is the hash of a key (SHA3-256 of the public key, [`Key::hash`](crate::receipt::Key::hash), which
//!   people see as a wallet's address) and a token. [`fund`] is the operator's and makes tokens; [`balance`], [`locked`],
//!   [`counter`], [`totals`], [`history`] tell about them. Amounts are datoshi, 10^18 of which are a token
//!   ([`vpn_core::money::Amount`] reads and writes decimal numbers of tokens).
//! - A **conditional transaction** locks a part of a balance for receipts. A wallet signs an
//!   [`Instruction`](vpn_core::money::Instruction), and [`submit`] takes it, wherever it comes from:
//!
//!   ```text
//!   let opening = Opening { net, authority, owner: key.hash(), counter: counter + 1, token, value, .. };
//!   let signed = Instruction::Open(opening).encode();
//!   let bytes = [signed.clone(), key.sign(&signed)?].concat();
//!   let hash = ledger::submit(net, &bytes)?;      // SHA3-256 of `signed`
//!   ```
//!
//!   `authority` is the SHA-256 of the server's public key, as a client pins it ([`authority`]); `counter` is higher than
//!   in the owner's earlier instructions, and need not be the next number. The same bytes again get the same answer, so a
//!   client whose connection broke repeats them.
//! - A **payment** is a receipt with both signatures ([`pay`]). It spends the chain's last transaction, and leaves the
//!   rest in its place: a chain of payments. What it pays is the operator's ([`earned`], [`totals`]).
//! - **Closing** gives the owner back what is left. A session may use the chain meanwhile: the ledger takes one operation
//!   after the other, so a payment before the closing stays, a receipt after it pays nothing, and the server gives no
//!   units for it. While a payment out of the chain waits in the mempool, a closing is refused.
//!
//! # Where it is kept
//!
//! [`open`] opens the ledgers of the configured networks in the state directory, a file each, locked for this process.
//! Each operation is on the disk before the ledger counts it. Until `open`, and after [`close`], ledgers are in memory,
//! which is for tests that play the SDK: they fill and hold them with the functions below. What is added goes to the
//! mempool first, and from there to the ledger, at once or when a test says so. Orders are never kept.

mod book;
mod error;
mod file;
mod operation;
mod orders;
mod pay;
mod rules;
mod state;
#[cfg(test)]
mod tests;

use crate::{config, net, receipt};
use book::{Book, Inner, now};
use operation::{Operation, What};
use parking_lot::Mutex;
use sha3::{Digest, Sha3_256};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use vpn_core::money::Token;

pub use error::{Error, OpenError};
pub use orders::{Order, VPN_UID, add_order, free_order, order};
pub(crate) use orders::{add_order_as, orders, remove_order};
pub use pay::{PayError, Refusal, fail_to_store, pay};
pub(crate) use pay::{value_bytes, value_of};
pub use state::{Event, EventKind, Totals};

/// A hash of a key, an order or a transaction.
pub type Hash = [u8; 32];

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

#[derive(Default)]
struct Books {
    /// Where the ledgers' files are; `None` for ledgers in memory.
    directory: Option<PathBuf>,
    nets: BTreeMap<u64, Arc<Book>>,
}

static BOOKS: Mutex<Books> = Mutex::new(Books { directory: None, nets: BTreeMap::new() });

fn book(net: u64) -> Arc<Book> {
    let mut books = BOOKS.lock();
    let is_closed = books.directory.is_some();
    Arc::clone(books.nets.entry(net).or_insert_with(|| Arc::new(Book::new(net, is_closed))))
}

fn with<R>(net: u64, body: impl FnOnce(&mut Inner) -> R) -> R {
    book(net).with(body)
}

/// Opens the files of the configured networks' ledgers in the state directory, and makes those that are missing. Ledgers
/// in memory are forgotten. Open ones of the same directory and networks stay.
pub fn open() -> Result<(), OpenError> {
    let directory = crate::state::open(&config::current())?;
    let nets = net::all();
    let mut books = BOOKS.lock();
    if books.directory.as_deref() == Some(directory.path())
        && nets.iter().all(|net| books.nets.get(&net.id()).is_some_and(|book| book.is_durable()))
    {
        return Ok(());
    }
    *books = Books::default();
    let mut opened = BTreeMap::new();
    for net in nets {
        opened.insert(net.id(), Arc::new(Book::open(net.id(), &directory)?));
    }
    *books = Books { directory: Some(directory.path().to_owned()), nets: opened };
    Ok(())
}

/// Whether the ledgers are open, and not in memory.
pub fn is_open() -> bool {
    BOOKS.lock().directory.is_some()
}

/// Closes the files of the ledgers, if they are open; ledgers in memory stay.
pub fn close() {
    let mut books = BOOKS.lock();
    if books.directory.is_some() {
        *books = Books::default();
    }
}

/// Clears the ledgers of all networks; files are closed and stay as they are.
pub fn reset() {
    *BOOKS.lock() = Books::default();
}

/// The hash that instructions to this node's ledgers name; `None`, and a line in the log, if its identity cannot be used.
pub fn authority() -> Option<Hash> {
    receipt::node_key().map(|key| key.fingerprint())
}

/// Gives an account an amount out of nothing: the operator's way to sell tokens. Returns the hash of the operation.
pub fn fund(net: u64, owner: &Hash, token: &Token, amount: u128) -> Result<Hash, Error> {
    let what = What::Fund { owner: *owner, token: *token, amount, number: unique() };
    book(net).execute(&Operation { time: now(), what })
}

/// Accepts an instruction with its wallet's signature ([`vpn_core::money::Instruction`]), and returns its hash.
pub fn submit(net: u64, bytes: &[u8]) -> Result<Hash, Error> {
    let hash = book(net).submit(bytes)?;
    tell(net, &[hash]);
    Ok(hash)
}

/// What an account holds, without what is locked.
pub fn balance(net: u64, owner: &Hash, token: &Token) -> u128 {
    with(net, |inner| inner.state.balance(owner, token))
}

/// What an owner's conditional transactions hold.
pub fn locked(net: u64, owner: &Hash, token: &Token) -> u128 {
    with(net, |inner| inner.state.locked(owner, token))
}

/// The highest counter of an owner's instructions; the next one has a higher one. 0 for an owner without any.
pub fn counter(net: u64, owner: &Hash) -> u64 {
    with(net, |inner| inner.state.counter(owner))
}

/// All accounts with their balances: owner, token, balance.
pub fn accounts(net: u64) -> Vec<(Hash, Token, u128)> {
    with(net, |inner| inner.state.accounts().collect())
}

/// The sums of a token.
pub fn totals(net: u64, token: &Token) -> Totals {
    with(net, |inner| inner.state.totals(token))
}

/// The latest events, of one owner or of all, the last one first; at most `most` of the last few thousand.
pub fn history(net: u64, owner: Option<&Hash>, most: usize) -> Vec<Event> {
    let is_theirs = |event: &&Event| owner.is_none_or(|owner| event.owner == *owner);
    with(net, |inner| inner.state.events().rev().filter(is_theirs).take(most).cloned().collect())
}

/// How many operations the ledger has.
pub fn operations(net: u64) -> u64 {
    with(net, |inner| inner.state.operations())
}

/// Adds a ledger up: for each token, what was emitted is what accounts and chains hold and what was earned and taken as
/// fees. Returns what does not fit.
pub fn audit(net: u64) -> Result<(), String> {
    with(net, |inner| inner.state.audit())
}

/// Called with the network for each transaction that its ledger accepts, on the thread that adds or processes it.
pub type Listener = fn(u64, Hash);

static LISTENER: Mutex<Option<Listener>> = Mutex::new(None);

/// Sets the function that learns of each transaction in a ledger.
pub fn listen(listener: Listener) {
    *LISTENER.lock() = Some(listener);
}

fn tell(net: u64, accepted: &[Hash]) {
    let listener = *LISTENER.lock();
    if let Some(listener) = listener {
        let is_in = |hash: &&Hash| with(net, |inner| inner.state.knows(hash));
        accepted.iter().filter(is_in).for_each(|hash| listener(net, *hash));
    }
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

/// Adds a conditional transaction to the mempool, out of nothing and without the signature of its owner, and returns its
/// hash. Equal ones get different hashes. For tests; others [`fund`] and [`submit`].
pub fn add_transaction(net: u64, terms: Transaction) -> Hash {
    let number = unique();
    let hash = rules::grant_hash(net, number, &terms);
    add(net, Operation { time: now(), what: What::Grant { terms, number } });
    hash
}

/// A number that no operation has yet, also after a restart.
fn unique() -> u64 {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    now().wrapping_mul(1_000_000_000).wrapping_add(NUMBER.fetch_add(1, Ordering::Relaxed))
}

fn add(net: u64, operation: Operation) {
    let by_hand = with(net, |inner| {
        inner.mempool.push(operation);
        inner.by_hand
    });
    if !by_hand {
        process(net);
    }
}

/// Moves everything from a network's mempool into its ledger, or refuses it.
pub fn process(net: u64) {
    let accepted = book(net).process();
    tell(net, &accepted);
}

/// Sets whether a network's mempool waits for [`process`], as with a slow chain.
pub fn set_by_hand(net: u64, by_hand: bool) {
    with(net, |inner| inner.by_hand = by_hand);
}

/// Sets whether this node is not connected to a network.
pub fn set_offline(net: u64, is_offline: bool) {
    with(net, |inner| inner.is_offline = is_offline);
}

/// Returns whether this node is not connected to a network.
pub fn is_offline(net: u64) -> bool {
    with(net, |inner| inner.is_offline)
}

/// Sets the fee that the network takes from each payment.
pub fn set_net_fee(net: u64, fee: u128) {
    with(net, |inner| inner.net_fee = fee);
}

/// Returns the fee that the network takes from each payment.
pub(crate) fn net_fee(net: u64) -> u128 {
    with(net, |inner| inner.net_fee)
}

/// Returns what payments in the ledger have brought this node, all tokens together: only the network's own pays.
pub fn earned(net: u64) -> u128 {
    with(net, |inner| inner.state.earned())
}

/// Returns the payments that the ledger has refused, with its reasons, the last thousand of them.
pub fn refused(net: u64) -> Vec<Refusal> {
    with(net, |inner| inner.refused.iter().cloned().collect())
}

/// Returns how many transactions wait in the mempool.
pub fn waiting(net: u64) -> usize {
    with(net, |inner| inner.mempool.len())
}

/// Returns the transaction with this hash, if the ledger has it.
pub fn means(net: u64, hash: &Hash) -> Option<Means> {
    with(net, |inner| inner.state.means(hash))
}

/// Returns whether an output holds one payment of this value, with the fees.
pub fn is_enough(net: u64, output: &Transaction, value: u128) -> bool {
    with(net, |inner| inner.needed(output, value)).is_some_and(|needed| needed <= output.value)
}

impl Inner {
    /// What a payment of `value` takes from an output.
    fn needed(&self, output: &Transaction, value: u128) -> Option<u128> {
        value.checked_add(self.net_fee)?.checked_add(output.fee)
    }
}

fn hash_of(parts: &[&[u8]]) -> Hash {
    let mut hash = Sha3_256::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().into()
}
