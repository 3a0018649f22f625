//! The means of payment for paid service, kept in the store: a wallet, a token, a value, and the conditional transaction
//! that pays. Where each server has a ledger of its own, each has its own transaction.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::orders::{Choice, HashFormat, Wish, choose, is_metered};
use crate::sdk::config::BadValue;
use crate::sdk::net::Net;
use crate::sdk::store::{self, StoreError};
use crate::sdk::wallet::{Ledger, Purchase, TxHash, bank};
use vpn_core::wire::unit;

/// `local.` and `DAP_CHAIN_NET_SRV_VPN_CDB_GDB_PREFIX`.
const GROUP: &str = "local.srv.vpn";
/// The key of the conditional transaction.
const TX: &str = "client_tx_cond_hash";
/// The key of its network's number and of the time when it was made, in seconds since 1970.
const ORIGIN: &str = "client_tx_cond_origin";
/// The key of the transaction that the last signed receipt spends.
const SIGNED: &str = "client_tx_cond_signed";
/// How long the network may take to confirm a transaction; afterwards it counts as lost.
const CONFIRMED_AFTER: Duration = Duration::from_secs(600);

/// The user's choice; `None` for each value that is not set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Chosen {
    /// The wallet's name.
    pub wallet: Option<String>,
    /// The token's ticker.
    pub token: Option<String>,
    /// The value in datoshi.
    pub value: Option<u64>,
}

/// Why the purchase failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WalletError {
    /// A security key of the configuration cannot be read.
    #[error(transparent)]
    Config(#[from] BadValue),
    /// The wallet does not exist or cannot be opened.
    #[error("wallet \"{0}\" cannot be opened")]
    Closed(String),
    /// The choice cannot be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The conditional transaction cannot be created.
    #[error(
        "wallet \"{wallet}\" cannot make a conditional transaction of {value} datoshi {token} with a fee of {fee}: not \
         enough funds, or not the network's own token"
    )]
    Funds {
        /// The wallet.
        wallet: String,
        /// The token.
        token: String,
        /// The value.
        value: u64,
        /// The validators' fee.
        fee: u64,
    },
    /// No server serves the order that the configuration names.
    #[error("[vpn_client] order_hash = {order}: sells by the {unit}; expected an order by the second or by the byte")]
    Unmetered {
        /// Its hash.
        order: String,
        /// What it counts in.
        unit: &'static str,
    },
    /// The same, with the ledger's reason.
    #[error("{0}")]
    Refused(String),
}

/// What `update` gets from the configuration.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Preferences {
    /// The order that it names.
    pub(super) order: Option<[u8; 32]>,
    /// The validators' fee in datoshi; `None` for the least that they accept.
    pub(super) tx_fee: Option<u64>,
}

/// Stores the choice and creates the conditional transaction that pays for the service. It counts in the unit of the
/// order that a start would use, as far as that can be told without a server. Where each server has a ledger of its own,
/// the start makes the transaction.
pub(super) fn update(
    net: &Net,
    name: &str,
    token: &str,
    value: u64,
    preferences: &Preferences,
) -> Result<(), WalletError> {
    let bank = bank();
    if bank.key_hash(name).is_none() {
        return Err(WalletError::Closed(name.to_owned()));
    }
    choose_means(name, Some(token), Some(value))?;
    if bank.ledger(net) != Ledger::Network {
        log::info!("wallet \"{name}\" is chosen: a transaction of {value} datoshi {token} is made at the server");
        return Ok(());
    }
    let fees = bank.fees(net);
    let fee = preferences.tx_fee.unwrap_or(fees.validators);
    let wish = Wish {
        order: preferences.order,
        token: Some(token),
        value,
        fee: fees.network.saturating_add(fee),
        ..Wish::default()
    };
    // A free order needs no transaction; the user wants one all the same.
    let paid = bank.orders(net, true).into_iter().filter(|order| order.price > 0).collect();
    let unit = match choose(paid, &wish) {
        Choice::Order(order) if !is_metered(&order) => {
            let (order, unit) = (HashFormat::Hex.write(&order.hash), unit_name(order.unit));
            return Err(WalletError::Unmetered { order, unit });
        }
        Choice::Order(order) | Choice::Unpayable(order) => order.unit,
        Choice::Unknown(_) | Choice::None => unit::BYTES,
    };
    make(net, &Purchase { wallet: name.to_owned(), token: token.to_owned(), value, fee, unit }).map(|_| ())
}

/// Stores the choice; what is `None` stays as it is.
pub(crate) fn choose_means(wallet: &str, token: Option<&str>, value: Option<u64>) -> Result<(), WalletError> {
    store::set(GROUP, "wallet_name", &terminated(wallet))?;
    if let Some(token) = token {
        store::set(GROUP, "token_name", &terminated(token))?;
    }
    if let Some(value) = value {
        store::set(GROUP, "value_datoshi", &value.to_ne_bytes())?;
    }
    Ok(())
}

/// Makes a conditional transaction, and stores its hash.
pub(super) fn make(net: &Net, purchase: &Purchase) -> Result<TxHash, WalletError> {
    let Purchase { wallet, token, value, fee, unit } = purchase;
    let hash = bank().pay(net, purchase).map_err(|why| match why {
        Some(why) => WalletError::Refused(why),
        None => WalletError::Funds { wallet: wallet.clone(), token: token.clone(), value: *value, fee: *fee },
    })?;
    let text = HashFormat::Hex.write(&hash);
    log::info!("conditional transaction {text} made: {value} datoshi {token} by the {}", unit_name(*unit));
    let origin = [net.id().to_ne_bytes(), now().as_secs().to_ne_bytes()].concat();
    store::set(GROUP, &key(net, TX), &hash)?;
    store::set(GROUP, &key(net, ORIGIN), &origin)?;
    Ok(hash)
}

/// Returns a key of the ledger that the client's transactions are in.
fn key(net: &Net, name: &str) -> String {
    match bank().ledger(net) {
        Ledger::Server(server) => format!("{name}.{:016x}.{}", net.id(), HashFormat::Hex.write(&server)),
        Ledger::Network | Ledger::None => name.to_owned(),
    }
}

/// Returns the conditional transaction of the last purchase.
pub(super) fn transaction(net: &Net) -> Option<TxHash> {
    store::get(GROUP, &key(net, TX))?.try_into().ok()
}

/// Returns whether the conditional transaction was made in this network a short time ago, so that the ledger may get it
/// yet.
pub(super) fn is_fresh(net: &Net) -> bool {
    let origin: Option<[u8; 16]> = store::get(GROUP, &key(net, ORIGIN)).and_then(|origin| origin.try_into().ok());
    let Some((id, made)) = origin.as_ref().and_then(|origin| origin.split_first_chunk::<8>()) else { return false };
    let made = made.try_into().map_or(0, u64::from_ne_bytes);
    u64::from_ne_bytes(*id) == net.id() && now().saturating_sub(Duration::from_secs(made)) < CONFIRMED_AFTER
}

/// Stores the transaction that a signed receipt spends.
pub(super) fn set_signed(net: &Net, tx: &TxHash) {
    if let Err(error) = store::set(GROUP, &key(net, SIGNED), tx) {
        log::warn!("cannot store which receipt was signed last: {error}");
    }
}

/// Returns the transaction that the last signed receipt spends.
pub(super) fn signed(net: &Net) -> Option<TxHash> {
    store::get(GROUP, &key(net, SIGNED))?.try_into().ok()
}

/// Returns the last choice.
pub(crate) fn chosen() -> Chosen {
    let text = |key| {
        let value = store::get(GROUP, key)?;
        let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
        String::from_utf8(value[..end].to_vec()).ok()
    };
    let value = store::get(GROUP, "value_datoshi").and_then(|value| value.try_into().ok()).map(u64::from_ne_bytes);
    Chosen { wallet: text("wallet_name"), token: text("token_name"), value }
}

/// Returns a unit's name, in the singular.
pub(super) fn unit_name(unit: u32) -> &'static str {
    match unit {
        unit::SECONDS => "second",
        unit::BYTES => "byte",
        unit::PIECES => "piece",
        _ => "unknown unit",
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Appends the NUL that the SDK's own code expects.
fn terminated(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.push(0);
    bytes
}
