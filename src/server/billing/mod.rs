//! What clients pay for: the gate in front of the SDK's billing, the meter of each session, and the rests of clients.
//!
//! - [`Billing`]: what all sessions share; its configuration.
//! - `gate`: packets on channel 'R' before the SDK sees them.
//! - `request`: from REQUEST to the begin of the service; `facts`: what it is judged by; `signed`: receipts that come
//!   back; `waiting`: sessions that wait for signatures, for a former session, or for the ledger; `replies`.
//! - `metering`: drives a session's meter, receipts included, until the end.
//! - `noted`: what the account book learns of that.
//! - `callbacks`: what the SDK's billing reports.
//! - `offers`: the node's own orders, and what keeps it from selling.
//! - `told`: what the log says of what is left.
//! - `rests`: loads rests, and stores them on a thread of its own.
//!
//! A session's events run on its worker. `super::account` is what they work on.

mod callbacks;
mod facts;
mod gate;
mod metering;
mod noted;
mod offers;
mod replies;
mod request;
mod rests;
mod signed;
mod told;
mod waiting;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;

use super::account::Account;
use super::book::AccountBook;
use super::{Settings, SettingsError};
use crate::sdk::channel::Channel;
use crate::sdk::config::{BadValue, Config};
use crate::sdk::net::Net;
use vpn_core::book::Limits;
use vpn_core::meter::{Client, Grace, GraceLimits, PaymentId};

pub(super) use gate::Gate;
pub(super) use offers::check_orders;
pub(super) use rests::{Store, stored};

const SECTION: &str = "srv_vpn";

/// How often sessions with dealings are looked at.
pub(super) const PERIOD: Duration = Duration::from_millis(250);
/// How long a payment of an ended session is waited for. Its units count only when the ledger has it.
const KEEP_PENDING: Duration = Duration::from_secs(24 * 3600);
/// The most ended services that the account book keeps of each kind.
const BOOK_MAX: i64 = 1_000_000;
/// The longest time between two saves of a rest that changes.
const SAVE_EVERY: Duration = Duration::from_secs(10);

/// The configuration of paid service. docs/config.md lists the keys.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// Whether the gate stands in front of channel 'R'.
    pub(super) gate: bool,
    /// Whether a client proves that it has its key before it gets its rest.
    prove_key: bool,
    /// How long a payment may take from the mempool to the ledger.
    payment_timeout: Duration,
    /// How much service there is without payment.
    grace: GraceLimits,
    /// How many ended services the account book keeps.
    book: Limits,
}

impl Rules {
    pub(super) fn read(config: &Config) -> Result<Rules, BadValue> {
        let number =
            |key, bounds, otherwise| config.checked_number(SECTION, key, bounds, otherwise).map(i64::unsigned_abs);
        let seconds = |key, bounds, otherwise| number(key, bounds, otherwise).map(Duration::from_secs);
        // A name that cannot be read must not be the default certificate's. The SDK reads it from the node's.
        Config::of_node().checked_text(SECTION, "receipt_sign_cert", "the name of a certificate")?;
        let mebibyte = 1 << 20;
        let defaults = GraceLimits::default();
        let time = seconds("grace_period", 0..=86_400, 60)?;
        let per_source = number("grace_per_hour", 0..=1000, 3)?;
        let bytes = number("grace_bytes", 0..=1 << 40, 64 * mebibyte)?;
        let services = |key, otherwise| {
            number(key, 0..=BOOK_MAX, otherwise).map(|services| usize::try_from(services).unwrap_or(usize::MAX))
        };
        Ok(Rules {
            gate: config.checked_flag(SECTION, "gate", true)?,
            prove_key: config.checked_flag(SECTION, "prove_key", true)?,
            payment_timeout: seconds("payment_timeout", 5..=86_400, 120)?,
            grace: GraceLimits {
                time,
                bytes,
                source_time: time.saturating_mul(u32::try_from(per_source).unwrap_or(u32::MAX)),
                source_bytes: bytes.saturating_mul(per_source),
                total_at_once: u32::try_from(number("grace_at_once", 0..=65_535, 64)?).unwrap_or(u32::MAX),
                total_bytes: number("grace_bytes_per_hour", 0..=1 << 50, 4096 * mebibyte)?,
                ..defaults
            },
            book: Limits { paid: services("account_book", 10_000)?, free: services("account_book_free", 2_500)? },
        })
    }
}

impl Rules {
    /// Checks what neither these nor the service's settings can check alone.
    pub(super) fn fit(&self, settings: &Settings) -> Result<(), SettingsError> {
        if settings.rates.has_orders() && !self.gate {
            let (key, expected) = ("order_limits", "none with gate = false: the gate reads a session's order");
            return Err(SettingsError::Value { key, value: "[...]".into(), expected });
        }
        Ok(())
    }
}

/// A chain of payments that a session pays from, or whose last payment is not in the ledger yet.
#[derive(Debug)]
enum ChainUse {
    /// A session has it.
    Session(u64),
    /// Its session has ended, before the payment was in the ledger.
    Unsettled { net: u64, payment: PaymentId, until: Duration },
}

/// What all sessions share.
pub(super) struct Billing {
    rules: ArcSwap<Rules>,
    /// The network of `[srv_vpn] net`, whose orders this node serves.
    net: Option<String>,
    /// The gate is in front of channel 'R'.
    is_gated: AtomicBool,
    /// The node had the certificate that signs receipts at the start.
    has_certificate: AtomicBool,
    grace: Mutex<Grace>,
    chains: Mutex<HashMap<[u8; 32], ChainUse>>,
    /// The sessions that have the rest of a client.
    payers: Mutex<HashMap<Client, Arc<Channel>>>,
    /// The sessions with dealings, by their numbers.
    watched: Mutex<HashMap<u64, Arc<Channel>>>,
    numbers: AtomicU64,
    pub(super) store: Store,
    pub(super) book: Arc<AccountBook>,
}

impl Billing {
    pub(super) fn new(config: &Config, rules: Rules) -> Billing {
        let held = |client: &Client, unit| rests::held(client).map(|rest| rest.of(unit));
        let book = Arc::new(AccountBook::open(rules.book, held));
        Billing {
            rules: ArcSwap::from_pointee(rules),
            net: config.text(SECTION, "net").or_else(|| cfg!(feature = "embedded").then(|| "backbone".to_owned())),
            is_gated: AtomicBool::new(false),
            has_certificate: AtomicBool::new(true),
            grace: Mutex::new(Grace::new(rules.grace)),
            chains: Mutex::default(),
            payers: Mutex::default(),
            watched: Mutex::default(),
            numbers: AtomicU64::new(1),
            store: Store::new(SAVE_EVERY, Arc::clone(&book)),
            book,
        }
    }

    /// Returns the rules that are in force now.
    fn rules(&self) -> Guard<Arc<Rules>> {
        self.rules.load()
    }

    /// Takes other rules, for what begins from now on. The gate and the account book stay as they are.
    pub(super) fn change(&self, rules: Rules) {
        self.grace.lock().set_limits(rules.grace);
        self.rules.store(Arc::new(rules));
    }

    /// Returns whether a client has to prove that it has the key that it names.
    pub(super) fn proves_keys(&self) -> bool {
        self.rules().prove_key
    }

    /// Returns the account of a session that has just begun.
    pub(super) fn open_account(&self) -> Account {
        Account::new(self.numbers.fetch_add(1, Ordering::Relaxed))
    }

    /// Returns the network whose orders this node serves.
    pub(super) fn net(&self) -> Option<Net> {
        self.net.as_deref().and_then(Net::by_name)
    }

    /// Puts the gate in front again if the registration of another service has replaced it.
    pub(super) fn keep_gate(&self) {
        if self.is_gated() {
            gate::stay();
        }
    }

    /// Takes the gate's handler away, and stores the rests.
    pub(super) fn close(&self) {
        if self.is_gated() {
            gate::close();
        }
        self.store.close();
        self.book.close("the service stops");
    }

    fn is_gated(&self) -> bool {
        self.is_gated.load(Ordering::Acquire)
    }

    /// Gives a chain of payments to a session. Returns false if another session has it, or its last payment is not in
    /// the ledger.
    fn take_chain(&self, chain: [u8; 32], session: u64, now: Duration) -> bool {
        let mut chains = self.chains.lock();
        let is_free = match chains.get(&chain) {
            None => true,
            Some(ChainUse::Session(owner)) => *owner == session,
            Some(ChainUse::Unsettled { net, payment, until }) => {
                now >= *until || Net::by_id(*net).is_some_and(|net| net.has_transaction(payment))
            }
        };
        if is_free {
            chains.insert(chain, ChainUse::Session(session));
        }
        is_free
    }

    /// Gives a chain back. `unsettled` is a payment that is not in the ledger yet.
    fn release_chain(&self, chain: [u8; 32], session: u64, unsettled: Option<(u64, PaymentId)>, now: Duration) {
        let mut chains = self.chains.lock();
        if !matches!(chains.get(&chain), Some(ChainUse::Session(owner)) if *owner == session) {
            return;
        }
        match unsettled {
            Some((net, payment)) => {
                let until = now + self.rules().payment_timeout;
                chains.insert(chain, ChainUse::Unsettled { net, payment, until });
            }
            None => drop(chains.remove(&chain)),
        }
        chains.retain(|_, used| !matches!(used, ChainUse::Unsettled { until, .. } if now >= *until));
    }
}

/// Returns the source that bounds count a client under; a client whose address is unknown shares one source.
pub(super) fn source_of(channel: &Channel) -> IpAddr {
    channel.address().unwrap_or(IpAddr::from([0, 0, 0, 0]))
}
