//! The servers whose ledgers this process's client asks: one for each network, the one that it connects to.
//!
//! A server is known by the fingerprint of its key, which names its ledger: the same key under another name or address is
//! the same ledger. Every function that asks blocks; do not call it on a worker.

use super::teller::{Opened, Teller};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::Arc;
use vpn_core::money::Token;
use vpn_core::money::bank::{Ask, BankAnswer, BankRequest, ChainState, Prices, refusal};
use vpn_core::names;

/// Why a bank gives no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BankError {
    /// [`open`] has not been called, or has failed.
    #[error("no server's ledger is known in this network: connect to a server first")]
    Closed,
    /// The server has no bank.
    #[error("{0} has no ledger that sells: it is of an earlier version")]
    NoBank(String),
    /// The connection failed: an errno.
    #[error("the ledger of {server} cannot be reached: {}", std::io::Error::from_raw_os_error(*.errno))]
    Unreachable {
        /// host:port.
        server: String,
        /// The reason.
        errno: i32,
    },
    /// The connection broke, or the server did not answer in time.
    #[error("the ledger of {server} does not answer: {reason}")]
    NoAnswer {
        /// host:port.
        server: String,
        /// The reason.
        reason: String,
    },
    /// The server has refused.
    #[error("{server} refuses: {reason}")]
    Refused {
        /// host:port.
        server: String,
        /// One of [`refusal`](vpn_core::money::bank::refusal), or another number.
        code: u8,
        /// Its reason.
        reason: String,
    },
}

impl BankError {
    /// Returns whether the same question may be answered later.
    pub fn may_pass(&self) -> bool {
        match self {
            BankError::Closed | BankError::NoBank(_) => false,
            BankError::Unreachable { .. } | BankError::NoAnswer { .. } => true,
            BankError::Refused { code, .. } => *code == refusal::BUSY,
        }
    }
}

/// A server's ledger.
struct Account {
    host: String,
    port: u16,
    identity: [u8; 32],
    /// `None` if the server has no bank.
    prices: Option<Prices>,
    teller: Option<Teller>,
}

/// What an account of a ledger holds of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Balance {
    /// In datoshi.
    pub value: u128,
    /// What the owner's transactions hold besides.
    pub locked: u128,
    /// The highest counter of the owner's instructions.
    pub counter: u64,
}

static ACCOUNTS: Mutex<BTreeMap<u64, Arc<Mutex<Account>>>> = Mutex::new(BTreeMap::new());

fn account(net_id: u64) -> Result<Arc<Mutex<Account>>, BankError> {
    ACCOUNTS.lock().get(&net_id).cloned().ok_or(BankError::Closed)
}

/// Connects to the bank of a server and reads its prices; from now on its ledger is the network's. A server without a
/// bank sells nothing, and gives its service away if it has the free order.
pub fn open(net_id: u64, host: &str, port: u16) -> Result<(), BankError> {
    let server = names::server(host, port);
    let Opened { teller, identity } =
        Teller::connect(host, port).map_err(|errno| BankError::Unreachable { server: server.clone(), errno })?;
    let has_bank = teller.is_some();
    let mut opened = Account { host: host.to_owned(), port, identity, prices: None, teller };
    if has_bank {
        match opened.ask(net_id, Ask::Prices)? {
            BankAnswer::Prices(prices) => opened.prices = Some(prices),
            other => return Err(opened.misunderstood(&other)),
        }
    } else {
        log::info!("{server} sells nothing: it has no bank");
    }
    ACCOUNTS.lock().insert(net_id, Arc::new(Mutex::new(opened)));
    Ok(())
}

/// Returns the prices of the server that was opened last; `None` if it has no bank.
pub fn prices(net_id: u64) -> Result<Option<Prices>, BankError> {
    Ok(account(net_id)?.lock().prices.clone())
}

/// Returns host:port of the server that was opened last.
pub fn server(net_id: u64) -> Result<String, BankError> {
    Ok(account(net_id)?.lock().server())
}

/// Returns the fingerprint of the server that was opened last.
pub fn identity(net_id: u64) -> Result<[u8; 32], BankError> {
    Ok(account(net_id)?.lock().identity)
}

/// Asks what an account holds of a token.
pub fn balance(net_id: u64, key_hash: &[u8; 32], token: Token) -> Result<Balance, BankError> {
    let account = account(net_id)?;
    let mut account = account.lock();
    match account.ask(net_id, Ask::Balance { key_hash: *key_hash, token })? {
        BankAnswer::Balance { value, locked, counter } => Ok(Balance { value, locked, counter }),
        other => Err(account.misunderstood(&other)),
    }
}

/// Asks where a chain of payments ends.
pub fn chain(net_id: u64, tx: &[u8; 32]) -> Result<ChainState, BankError> {
    let account = account(net_id)?;
    let mut account = account.lock();
    match account.ask(net_id, Ask::Chain(*tx))? {
        BankAnswer::Chain(state) => Ok(state),
        other => Err(account.misunderstood(&other)),
    }
}

/// Brings a signed transaction; returns its hash.
pub fn submit(net_id: u64, transaction: &[u8]) -> Result<[u8; 32], BankError> {
    let account = account(net_id)?;
    let mut account = account.lock();
    match account.ask(net_id, Ask::Submit(transaction.to_vec()))? {
        BankAnswer::Submitted(hash) => Ok(hash),
        other => Err(account.misunderstood(&other)),
    }
}

impl Account {
    fn server(&self) -> String {
        names::server(&self.host, self.port)
    }

    /// Asks by the connection that there is, or by a new one. A connection that has answered before may have been closed
    /// by the server meanwhile: then the question is asked again, by another.
    fn ask(&mut self, net_id: u64, ask: Ask) -> Result<BankAnswer, BankError> {
        let request = BankRequest { net_id, ask };
        let server = self.server();
        if let Some(mut teller) = self.teller.take().filter(Teller::is_fresh) {
            let has_answered = teller.has_answered();
            match teller.ask(&request) {
                Ok(answer) => {
                    self.teller = Some(teller);
                    return Self::granted(server, answer);
                }
                Err(error) if has_answered && error.kind() != ErrorKind::TimedOut => {}
                Err(error) => return Err(BankError::NoAnswer { server, reason: error.to_string() }),
            }
        }
        let Opened { teller, identity } = Teller::connect(&self.host, self.port)
            .map_err(|errno| BankError::Unreachable { server: server.clone(), errno })?;
        if identity != self.identity {
            // Another key is another ledger, with other money.
            return Err(BankError::Unreachable { server, errno: libc::EKEYREJECTED });
        }
        let mut teller = teller.ok_or_else(|| BankError::NoBank(server.clone()))?;
        match teller.ask(&request) {
            Ok(answer) => {
                self.teller = Some(teller);
                Self::granted(server, answer)
            }
            Err(error) => Err(BankError::NoAnswer { server, reason: error.to_string() }),
        }
    }

    fn granted(server: String, answer: BankAnswer) -> Result<BankAnswer, BankError> {
        match answer {
            BankAnswer::Refused { code, reason } => Err(BankError::Refused { server, code, reason }),
            answer => Ok(answer),
        }
    }

    /// The error of an answer to another question.
    fn misunderstood(&self, answer: &BankAnswer) -> BankError {
        let (kind, _) = answer.encode();
        BankError::NoAnswer { server: self.server(), reason: format!("its answer is of type {kind:#x}") }
    }
}
