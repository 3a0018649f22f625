//! What a connection is to pay, and with what: the order, and a conditional transaction that the ledger has.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::orders::{Choice, HashFormat, Wish, choose, is_metered};
use super::settings::Settings;
use super::stops::Began;
use super::wallet::{self, WalletError, unit_name};
use crate::sdk::net::{Net, Order};
use crate::sdk::wallet::{Chain, Funds, Ledger, OpenError, Purchase, TxHash, bank};
use vpn_core::exchange::Agreement;
use vpn_core::names;

/// How long a start waits for the ledger to get the transaction.
const LEDGER_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a start waits for the ledger to get the payment from the last signed receipt.
const PAYMENT_TIMEOUT: Duration = Duration::from_secs(15);
/// How long the server's ledger may be behind this node's.
const SERVER_LAG: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(250);
/// Held while a start asks a ledger.
static ASKING: Mutex<()> = Mutex::new(());
/// How soon a stop is noticed while a ledger is asked.
const LOOK: Duration = Duration::from_millis(20);

/// What a connection requests.
#[derive(Clone, Debug)]
pub(super) enum Contract {
    /// An order that costs nothing, or whose price is not known here: its hash.
    Free([u8; 32]),
    /// An order with a price.
    Paid(Box<Means>),
}

/// An order with a price, and the transaction that pays it.
#[derive(Clone, Debug)]
pub(super) struct Means {
    pub(super) order: Order,
    pub(super) wallet: String,
    /// The hash of the wallet's public key.
    pub(super) key_hash: [u8; 32],
    /// The conditional transaction, with which the chain of payments begins.
    pub(super) made: TxHash,
    /// The last transaction of the chain: the first payment spends it.
    pub(super) last: TxHash,
    /// The number of receipts that it can pay.
    pub(super) receipts: u64,
    /// The ledger that has it.
    pub(super) ledger: Ledger,
}

impl Means {
    /// Returns the terms on which receipts are signed.
    pub(super) fn agreement(&self) -> Agreement {
        let Order { unit, units, price, .. } = self.order;
        Agreement { unit, units, value: price, receipts: self.receipts }
    }
}

/// Why a paid order cannot be paid.
#[derive(Debug, thiserror::Error)]
pub(super) enum PaymentError {
    #[error(
        "the order costs {price}, but no {missing} is chosen: run vpn_client init -w <wallet_name> -token <token_name> \
         -value <value in datoshi> -net <net_name>, or cellframe-vpn client --wallet NAME --token TOKEN --value AMOUNT"
    )]
    Incomplete { price: String, missing: &'static str },
    #[error("the order costs {0}, but the chosen token is {1}: run vpn_client init with the order's token")]
    WrongToken(String, String),
    #[error(
        "the order costs {price}, a payment with its fees {cost} datoshi, more than the chosen value of {value}: run \
         vpn_client init with a larger -value"
    )]
    TooSmall { price: String, cost: u64, value: u64 },
    #[error("{0}: run vpn_client init with another wallet or value")]
    Wallet(WalletError),
    #[error("{0}")]
    Refused(String),
    #[error(
        "the network has not confirmed the conditional transaction {0} within {1} s; start again later, it will be used"
    )]
    Unconfirmed(String, u64),
    #[error("the conditional transaction {0} does not pay the order: the wallet's key, its value or its fee differs")]
    Unfit(String),
    #[error("{server}: {why}")]
    Open { server: String, why: OpenError },
    #[error("{server} does not sell order {order}: it sells {sold}")]
    NoSuchOrder { server: String, order: String, sold: String },
    #[error("order {order} costs {price}, which no server meters; expected an order by the second or by the byte")]
    Unmetered { order: String, price: String },
    #[error("{0} sells nothing in this network, and does not give its service away either")]
    SellsNothing(String),
    #[error("the ledger cannot be asked for the conditional transaction {0} at present; the log says why")]
    Unavailable(String),
    #[error("stopped")]
    Stopped,
}

impl From<WalletError> for PaymentError {
    fn from(error: WalletError) -> PaymentError {
        match error {
            WalletError::Refused(why) => PaymentError::Refused(why),
            error => PaymentError::Wallet(error),
        }
    }
}

/// Returns how long the server's ledger may be behind the one that the client has asked: not at all if that is the
/// server's.
pub(super) fn server_lag(net: &Net) -> Duration {
    if bank().ledger(net) == Ledger::Network { SERVER_LAG } else { Duration::ZERO }
}

/// Chooses the order, and finds or makes the transaction that pays it. Blocks until the ledger has the transaction; a
/// stop after `began` ends that early, also while a server's ledger is silent.
pub(super) fn contract(
    net: &Net,
    (host, port): (&str, u16),
    settings: &Settings,
    began: Began,
) -> Result<Contract, PaymentError> {
    let chosen = wallet::chosen();
    if chosen.wallet.is_none() && settings.order_hash.is_none() {
        return decide(net, (host, port), settings, began);
    }
    let (found, result) = mpsc::channel();
    let (net, host, settings) = (net.clone(), host.to_owned(), settings.clone());
    let failed = |why: &str| PaymentError::Open {
        server: names::server(&host, port),
        why: OpenError::Busy(format!("the ledger cannot be asked: {why}")),
    };
    let asked = host.clone();
    let work = move || {
        // A start that was stopped may still wait for its server: what it has opened must not change under it.
        let _asking = ASKING.lock();
        let place = (&*asked, port);
        let stopped = || if began.is_stopped() { Err(PaymentError::Stopped) } else { Ok(()) };
        let opened = stopped().and_then(|()| open(&net, place)).and_then(|()| stopped());
        // Nobody waits for it after a stop.
        let _ = found.send(opened.and_then(|()| decide(&net, place, &settings, began)));
    };
    host::threads::spawn("vpn-contract", work).map_err(|error| failed(&format!("no thread: {error}")))?;
    loop {
        match result.recv_timeout(LOOK) {
            Ok(contract) => return contract,
            Err(RecvTimeoutError::Timeout) if began.is_stopped() => return Err(PaymentError::Stopped),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(failed("internal error")),
        }
    }
}

/// Prepares the ledger of the server that is dialled, if it is the server's own.
fn open(net: &Net, server: (&str, u16)) -> Result<(), PaymentError> {
    let opened = bank().open(net, server);
    opened.map_err(|why| PaymentError::Open { server: names::server(server.0, server.1), why })
}

fn decide(net: &Net, server: (&str, u16), settings: &Settings, began: Began) -> Result<Contract, PaymentError> {
    let chosen = wallet::chosen();
    let is_servers = matches!(bank().ledger(net), Ledger::Server(_));
    let fees = bank().fees(net);
    let wish = Wish {
        order: settings.order_hash,
        server: Some(server),
        token: chosen.token.as_deref(),
        value: chosen.value.unwrap_or(0),
        fee: fees.network.saturating_add(settings.tx_fee.unwrap_or(fees.validators)),
    };
    let look = || choose(bank().orders(net, true), &wish);
    let mut choice = look();
    if matches!(choice, Choice::Unknown(_)) && chosen.wallet.is_some() && !is_servers {
        // A node that has just come up gets the orders with its links.
        let known = || Some(look()).filter(|choice| !matches!(choice, Choice::Unknown(_)));
        choice = wait(settings.start_timeout, began, known)?.unwrap_or(choice);
    }
    let order = match choice {
        Choice::Order(order) if order.price == 0 => return Ok(Contract::Free(order.hash)),
        Choice::Order(order) | Choice::Unpayable(order) => order,
        Choice::Unknown(hash) if is_servers => {
            let sold: Vec<_> = bank().orders(net, true).iter().map(described).collect();
            return Err(PaymentError::NoSuchOrder {
                server: names::server(server.0, server.1),
                order: HashFormat::Hex.write(&hash),
                sold: if sold.is_empty() { "nothing".to_owned() } else { sold.join("; ") },
            });
        }
        Choice::Unknown(hash) => {
            let text = HashFormat::Hex.write(&hash);
            let line =
                format!("order {text} is not known here, so neither is its price: it is requested as a free one");
            if began.is_news("order", &line) {
                log::info!("{line}");
            }
            return Ok(Contract::Free(hash));
        }
        Choice::None if is_servers => {
            return Err(PaymentError::SellsNothing(names::server(server.0, server.1)));
        }
        // The server answers that the request names no order.
        Choice::None => return Ok(Contract::Free([0; 32])),
    };
    if !is_metered(&order) {
        // No transaction locks money for it.
        return Err(PaymentError::Unmetered { order: HashFormat::Hex.write(&order.hash), price: price(&order) });
    }
    log::info!("order {} costs {}", HashFormat::Hex.write(&order.hash), price(&order));
    let buyer = Buyer::new(net, order, settings.tx_fee)?;
    buyer.pay(began).map(Contract::Paid)
}

/// The user's means for one order.
#[derive(Clone, Debug)]
pub(super) struct Buyer {
    net: Net,
    order: Order,
    purchase: Purchase,
    key_hash: [u8; 32],
}

impl Buyer {
    /// Compares the user's last choice with the order.
    pub(super) fn new(net: &Net, order: Order, tx_fee: Option<u64>) -> Result<Buyer, PaymentError> {
        let chosen = wallet::chosen();
        let without = |missing| PaymentError::Incomplete { price: price(&order), missing };
        let wallet = chosen.wallet.ok_or_else(|| without("wallet"))?;
        let token = chosen.token.ok_or_else(|| without("token"))?;
        let value = chosen.value.ok_or_else(|| without("value"))?;
        if token != order.token {
            return Err(PaymentError::WrongToken(price(&order), token));
        }
        let fees = bank().fees(net);
        let fee = tx_fee.unwrap_or(fees.validators);
        let key_hash = bank().key_hash(&wallet).ok_or_else(|| WalletError::Closed(wallet.clone()))?;
        let purchase = Purchase { wallet, token, value, fee, unit: order.unit };
        let cost = order.price.saturating_add(fees.network).saturating_add(fee);
        if cost > value {
            return Err(PaymentError::TooSmall { price: price(&order), cost, value });
        }
        Ok(Buyer { net: net.clone(), order, purchase, key_hash })
    }

    /// Returns the stored transaction if it pays the order, else a new one.
    fn pay(&self, began: Began) -> Result<Box<Means>, PaymentError> {
        if let Some(made) = wallet::transaction(&self.net) {
            match bank().chain(&self.net, &made) {
                Chain::Open(funds) => {
                    if let Some(means) = self.settle(made, funds, began)? {
                        return Ok(means);
                    }
                    take_back(&self.net, &self.purchase.wallet, &made);
                }
                Chain::Unknown if wallet::is_fresh(&self.net) => {
                    if let Some(means) = self.confirm(made, began)? {
                        return Ok(means);
                    }
                }
                Chain::Unknown | Chain::Spent => {}
                Chain::Unavailable => return Err(PaymentError::Unavailable(HashFormat::Hex.write(&made))),
            }
        }
        if began.is_stopped() {
            return Err(PaymentError::Stopped);
        }
        let made = self.make()?;
        self.confirm(made, began)?.ok_or_else(|| PaymentError::Unfit(HashFormat::Hex.write(&made)))
    }

    /// Makes a transaction, and stores its hash.
    pub(super) fn make(&self) -> Result<TxHash, WalletError> {
        wallet::make(&self.net, &self.purchase)
    }

    /// Returns the stored transaction if it is not `other`, else makes a new one.
    pub(super) fn another(&self, other: &TxHash) -> Result<TxHash, WalletError> {
        let is_usable = |made: &TxHash| {
            made != other
                && match bank().chain(&self.net, made) {
                    Chain::Open(funds) => self.means(*made, &funds).is_some(),
                    Chain::Unknown => wallet::is_fresh(&self.net),
                    // Not a second one while the first may be there.
                    Chain::Unavailable => true,
                    Chain::Spent => false,
                }
        };
        match wallet::transaction(&self.net).filter(is_usable) {
            Some(made) => Ok(made),
            None => self.make(),
        }
    }

    /// Waits until the ledger has the transaction; `None` if it does not pay the order.
    fn confirm(&self, made: TxHash, began: Began) -> Result<Option<Box<Means>>, PaymentError> {
        let found = wait(LEDGER_TIMEOUT, began, || match self.look(made) {
            Look::Missing => None,
            Look::Unfit => Some(None),
            Look::Ready(means) => Some(Some(means)),
        })?;
        let hash = HashFormat::Hex.write(&made);
        let means = found.ok_or(PaymentError::Unconfirmed(hash, LEDGER_TIMEOUT.as_secs()))?;
        wait(server_lag(&self.net), began, || None::<()>)?;
        Ok(means)
    }

    /// Looks whether the ledger has the transaction.
    pub(super) fn look(&self, made: TxHash) -> Look {
        match bank().chain(&self.net, &made) {
            Chain::Unknown | Chain::Unavailable => Look::Missing,
            Chain::Spent => Look::Unfit,
            Chain::Open(funds) => self.means(made, &funds).map_or(Look::Unfit, Look::Ready),
        }
    }

    /// Waits until the ledger has the payment from the last signed receipt, which the next one must spend. It may never
    /// come: the server may not have made it.
    fn settle(&self, made: TxHash, funds: Funds, began: Began) -> Result<Option<Box<Means>>, PaymentError> {
        if wallet::signed(&self.net) != Some(funds.last) {
            return Ok(self.means(made, &funds));
        }
        let moved = wait(PAYMENT_TIMEOUT, began, || match bank().chain(&self.net, &made) {
            Chain::Unavailable => None,
            Chain::Open(now) if now.last == funds.last => None,
            Chain::Open(now) => Some(self.means(made, &now)),
            Chain::Spent | Chain::Unknown => Some(None),
        })?;
        Ok(moved.unwrap_or_else(|| self.means(made, &funds)))
    }

    /// Returns the means if the funds pay at least one receipt of the order.
    fn means(&self, made: TxHash, funds: &Funds) -> Option<Box<Means>> {
        let Order { unit, units, price, token, .. } = &self.order;
        let is_fit = funds.unit == *unit && funds.token == *token && funds.key_hash == self.key_hash;
        let is_within = funds.unit_price_max == 0 || price.checked_div(*units)? <= funds.unit_price_max;
        let receipts = funds.value.checked_div(price.checked_add(funds.fee)?)?;
        let means = || Means {
            order: self.order.clone(),
            wallet: self.purchase.wallet.clone(),
            key_hash: self.key_hash,
            made,
            last: funds.last,
            receipts,
            ledger: bank().ledger(&self.net),
        };
        (is_fit && is_within && receipts > 0).then(|| Box::new(means()))
    }
}

/// Gives the wallet what is left of a transaction that is not used any more, if the ledger can.
pub(super) fn take_back(net: &Net, wallet: &str, made: &TxHash) {
    if matches!(bank().chain(net, made), Chain::Open(_)) && bank().close(net, wallet, made) {
        log::info!("what is left of transaction {} is in wallet \"{wallet}\" again", HashFormat::Hex.write(made));
    }
}

/// What the ledger says of a transaction.
pub(super) enum Look {
    /// It does not have it.
    Missing,
    /// It does not pay the order.
    Unfit,
    /// It pays.
    Ready(Box<Means>),
}

/// Repeats `look` until it finds something or the time is over.
fn wait<T>(limit: Duration, began: Began, mut look: impl FnMut() -> Option<T>) -> Result<Option<T>, PaymentError> {
    let deadline = Instant::now() + limit;
    loop {
        if began.is_stopped() {
            return Err(PaymentError::Stopped);
        }
        if let Some(found) = look() {
            return Ok(Some(found));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        began.pause(POLL);
    }
}

/// Names an order with its price.
fn described(order: &Order) -> String {
    format!("{} for {}", HashFormat::Hex.write(&order.hash), price(order))
}

fn price(order: &Order) -> String {
    let Order { price, token, units, unit, .. } = order;
    format!("{price} datoshi {token} for {units} {}s", unit_name(*unit))
}
