//! What a client pays with: a wallet of its state directory, and the transaction that locks a part of what it holds in
//! the ledger of a server.
//!
//! The client signs what it has decided and nothing else: the value, the fee and the unit are its own, and the server's
//! key stands in the transaction, so that no other ledger accepts it. Of the server's answers only the counter enters a
//! transaction; a wrong one makes that server refuse it.

use super::account::{self, Balance, BankError};
use crate::config;
use crate::ledger::{Hash, VPN_UID};
use crate::net::NetRef;
use crate::receipt::{Key, KeyError};
use crate::wallets;
use sha3::{Digest, Sha3_256};
use vpn_core::money::bank::ChainState;
use vpn_core::money::{Amount, Closing, Instruction, Opening, Token, TokenError};

/// Why nothing is paid.
#[derive(Debug, thiserror::Error)]
pub enum PurseError {
    /// The token has no such ticker.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The wallet cannot be opened.
    #[error(transparent)]
    Wallet(#[from] wallets::WalletError),
    /// The key cannot sign.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The bank does not answer, or refuses.
    #[error(transparent)]
    Bank(#[from] BankError),
    /// The wallet holds too little.
    #[error(
        "wallet \"{wallet}\" has {has} {token} at {server}, {needs} {token} are needed: ask its operator to fund {address}"
    )]
    TooLittle {
        /// The wallet.
        wallet: String,
        /// The token.
        token: Token,
        /// host:port.
        server: String,
        /// What it holds.
        has: Amount,
        /// What is to be locked.
        needs: Amount,
        /// The wallet's address.
        address: String,
    },
}

/// What a transaction is to lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// In datoshi.
    pub value: u128,
    /// What each payment takes besides its value, in datoshi.
    pub fee: u128,
    /// One of [`unit`](vpn_core::wire::unit).
    pub unit: u32,
}

/// Opens a wallet of the state directory.
pub fn open(name: &str) -> Result<Key, PurseError> {
    Ok(wallets::open(&config::current(), name)?)
}

/// Closes a wallet's chain of payments: returns the rest to the wallet. `first` is the first transaction of the chain.
pub fn close(net: NetRef, name: &str, first: &Hash) -> Result<(), PurseError> {
    let key = open(name)?;
    let (net_id, owner) = (net.id(), key.hash());
    // Every token has the same counter.
    let Balance { counter, .. } = account::balance(net_id, &owner, Token::new(net.native_ticker())?)?;
    let authority = account::identity(net_id)?;
    let closing = Closing { net: net_id, authority, owner, counter: counter.saturating_add(1), first: *first };
    let signed = Instruction::Close(closing).encode();
    account::submit(net_id, &[signed.as_slice(), &key.sign(&signed)?].concat())?;
    Ok(())
}

/// Locks a value of a wallet's in the ledger of the server that was opened last, for the VPN service; returns the hash of
/// the transaction.
pub fn pay(net: NetRef, name: &str, token: &str, terms: &Terms) -> Result<Hash, PurseError> {
    let (key, token) = (open(name)?, Token::new(token)?);
    let (net_id, owner) = (net.id(), key.hash());
    let Balance { value: has, counter, .. } = account::balance(net_id, &owner, token)?;
    if has < terms.value {
        return Err(PurseError::TooLittle {
            wallet: name.to_owned(),
            token,
            server: account::server(net_id)?,
            has: Amount(has),
            needs: Amount(terms.value),
            address: wallets::address_text(&owner),
        });
    }
    let opening = Instruction::Open(Opening {
        net: net_id,
        authority: account::identity(net_id)?,
        owner,
        counter: counter.saturating_add(1),
        token,
        value: terms.value,
        // Each receipt is compared with the order before it is signed.
        max_unit_price: 0,
        fee: terms.fee,
        srv_uid: VPN_UID,
        unit: terms.unit,
    });
    let signed = opening.encode();
    let hash: Hash = Sha3_256::digest(&signed).into();
    let transaction = [signed.as_slice(), &key.sign(&signed)?].concat();
    match account::submit(net_id, &transaction) {
        Ok(_) => Ok(hash),
        // The answer to a first attempt may be lost, and the second be refused as a repetition.
        Err(error) => match account::chain(net_id, &hash) {
            Ok(ChainState::Open(_)) => Ok(hash),
            _ => Err(error.into()),
        },
    }
}
