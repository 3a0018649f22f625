//! A paid connection's thread: it asks the ledger, signs, and buys the next transaction. All of that may block, so no
//! worker does it.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use super::payment::{Buyer, Look, Means, server_lag, take_back};
use super::wallet;
use crate::sdk::net::Net;
use crate::sdk::wallet::{Chain, TxHash, bank};
use vpn_core::wire::ReceiptInfo;

/// How often a renewal looks whether the ledger has the new transaction.
const POLL: Duration = Duration::from_millis(500);
/// How long a renewal waits after a failure.
const RETRY: Duration = Duration::from_secs(30);

/// Bytes of a receipt that are signed.
type Signed = [u8; ReceiptInfo::LEN];

/// What the connection wants.
pub(super) enum Job {
    /// The last transaction of the chain of payments.
    AskLedger,
    /// A signature over these bytes.
    Sign(Signed),
    /// Another transaction, and a connection that uses it.
    Renew,
}

/// An answer to the connection.
pub(super) enum Reply {
    LastPayment(TxHash),
    Signed(Signed, Vec<u8>),
    CannotSign(String),
}

/// What the thread needs of the connection. None of the functions keeps the connection alive.
pub(super) struct Hooks {
    pub(super) answer: Box<dyn Fn(Reply) + Send>,
    /// Whether the tunnel is up.
    pub(super) is_up: Box<dyn Fn() -> bool + Send>,
    /// Continues with these means on a new connection; false if that has to be tried again.
    pub(super) switch: Box<dyn Fn(Box<Means>) -> bool + Send>,
}

/// The thread; it ends when this is dropped.
pub(super) struct Payer(Sender<Job>);

impl Payer {
    /// Starts the thread; `None` if there are no resources for it.
    pub(super) fn start(net: &Net, means: &Means, tx_fee: Option<u64>, hooks: Hooks) -> Option<Payer> {
        let (jobs, queue) = channel();
        let work = Work { net: net.clone(), means: means.clone(), tx_fee, hooks, renewal: None };
        host::threads::spawn("vpn-payer", move || work.run(&queue)).ok()?;
        Some(Payer(jobs))
    }

    /// Gives the thread a job.
    pub(super) fn want(&self, job: Job) {
        // The send fails after a panic on the thread, which has been logged.
        let _ = self.0.send(job);
    }
}

struct Work {
    net: Net,
    means: Means,
    tx_fee: Option<u64>,
    hooks: Hooks,
    renewal: Option<Renewal>,
}

/// A renewal in progress.
struct Renewal {
    made: Option<TxHash>,
    /// When the ledger was first seen to have it.
    confirmed: Option<Instant>,
    /// When the next step is due.
    due: Instant,
    has_warned: bool,
}

impl Work {
    fn run(mut self, queue: &Receiver<Job>) {
        loop {
            let job = match self.renewal {
                Some(_) => queue.recv_timeout(POLL),
                None => queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match job {
                Ok(Job::AskLedger) => self.ask_ledger(),
                Ok(Job::Sign(bytes)) => self.sign(bytes),
                Ok(Job::Renew) => {
                    let now = Instant::now();
                    self.renewal = Some(Renewal { made: None, confirmed: None, due: now, has_warned: false });
                }
                Err(RecvTimeoutError::Timeout) => {
                    if self.renew() {
                        return;
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn ask_ledger(&self) {
        if let Chain::Open(funds) = bank().chain(&self.net, &self.means.made) {
            (self.hooks.answer)(Reply::LastPayment(funds.last));
        }
    }

    fn sign(&self, bytes: Signed) {
        let reply = match bank().sign(&self.means.wallet, &bytes) {
            Some(signature) => {
                // Stored before the receipt leaves: the next start must know that its transaction may be spent.
                if let Ok(info) = ReceiptInfo::parse(&bytes)
                    && info.units > 0
                {
                    wallet::set_signed(&self.net, &info.prev_tx);
                }
                Reply::Signed(bytes, signature)
            }
            None => Reply::CannotSign(format!("wallet \"{}\" cannot be opened, or cannot sign", self.means.wallet)),
        };
        (self.hooks.answer)(reply);
    }

    /// Takes the next step of a renewal; returns true if the connection has been replaced.
    fn renew(&mut self) -> bool {
        let Some(renewal) = self.renewal.as_mut().filter(|renewal| renewal.due <= Instant::now()) else { return false };
        if !(self.hooks.is_up)() {
            return false;
        }
        let order = self.means.order.clone();
        let buyer = Buyer::new(&self.net, order, self.tx_fee).map_err(|error| error.to_string());
        let step = buyer.and_then(|buyer| {
            let made = match renewal.made {
                Some(made) => made,
                None => buyer.another(&self.means.made).map_err(|error| error.to_string())?,
            };
            let look = buyer.look(made);
            renewal.made = Some(made).filter(|_| !matches!(look, Look::Unfit));
            Ok(look)
        });
        match step {
            Ok(Look::Ready(means)) => {
                let confirmed = *renewal.confirmed.get_or_insert_with(Instant::now);
                if confirmed.elapsed() < server_lag(&self.net) {
                    return false;
                }
                if (self.hooks.switch)(means) {
                    take_back(&self.net, &self.means.wallet, &self.means.made);
                    return true;
                }
                renewal.due = Instant::now() + RETRY;
            }
            Ok(Look::Missing | Look::Unfit) => {}
            Err(error) => {
                renewal.due = Instant::now() + RETRY;
                if !std::mem::replace(&mut renewal.has_warned, true) {
                    log::warn!("the service ends when its paid units are used, because no more can be paid: {error}");
                }
            }
        }
        false
    }
}
