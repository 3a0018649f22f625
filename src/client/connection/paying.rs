//! What a connection does for payment: its payer's thread, and its place in a renewal.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::super::payer::{Hooks, Job, Payer, Reply};
use super::super::payment::{Contract, Means};
use super::{Connection, Origin, tunnel};
use crate::client::error::ClientError;
use crate::client::settings::Settings;
use crate::client::stops::Began;
use crate::client::wallet;
use crate::sdk::net::Net;
use crate::sdk::{Running, worker};
use vpn_core::exchange::{Agreement, Event, State};

/// How long an answer waits for a stream that moves from one worker to another.
const MOVE_TIMEOUT: Duration = Duration::from_secs(5);

/// What a connection pays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paid {
    /// The token's ticker.
    pub token: String,
    /// What a receipt costs at most, in datoshi.
    pub price: u64,
    /// The units that a receipt buys.
    pub units: u64,
    /// One of [`unit`](vpn_core::wire::unit).
    pub unit: u32,
    /// How many receipts the connection has signed.
    pub receipts: u64,
    /// How many more its transaction can pay; another one follows then.
    pub left: u64,
}

impl Paid {
    /// Returns the unit's name, in the singular.
    pub fn unit_name(&self) -> &'static str {
        wallet::unit_name(self.unit)
    }
}

/// Starts the thread of a paid connection.
pub(super) fn payer(
    net: &Net,
    contract: &Contract,
    settings: &Settings,
    connection: &Weak<Connection>,
) -> Option<Payer> {
    let Contract::Paid(means) = contract else { return None };
    let (answering, looking, switching) = (Weak::clone(connection), Weak::clone(connection), Weak::clone(connection));
    let hooks = Hooks {
        answer: Box::new(move |reply| {
            if let Some(connection) = answering.upgrade() {
                connection.answer(reply);
            }
        }),
        is_up: Box::new(move || looking.upgrade().is_some_and(|connection| connection.state() == State::Up)),
        switch: Box::new(move |means| {
            switching.upgrade().is_none_or(|connection| (connection.origin.switch)(&connection, means))
        }),
    };
    let payer = Payer::start(net, means, settings.tx_fee, hooks);
    if payer.is_none() {
        log::error!("no thread for payments: the receipts of this connection are not signed");
    }
    payer
}

impl Connection {
    /// Returns what is paid on this connection; `None` for a free order.
    pub(in crate::client) fn paid(&self) -> Option<Paid> {
        let shared = self.shared.lock();
        let (agreement, receipts) = shared.exchange.paid()?;
        let &Agreement { value: price, units, unit, receipts: of } = agreement;
        Some(Paid { token: self.token.clone(), price, units, unit, receipts, left: of.saturating_sub(receipts) })
    }

    pub(super) fn want(&self, job: Job) {
        if let Some(payer) = &self.payer {
            payer.want(job);
        }
    }

    /// Passes an answer on, on the stream's worker, which alone may send.
    fn answer(self: &Arc<Self>, reply: Reply) {
        self.on_worker(move |connection| {
            connection.handle(match &reply {
                Reply::LastPayment(last) => Event::LastPayment(*last),
                Reply::Signed(signed, signature) => Event::Signed { signed: *signed, signature },
                Reply::CannotSign(why) => Event::CannotSign(why.clone()),
            });
        });
    }

    /// Runs `work` on the stream's worker; drops it if the stream is closed.
    fn on_worker(self: &Arc<Self>, work: impl FnOnce(&Connection) + Send + 'static) {
        let deadline = Instant::now() + MOVE_TIMEOUT;
        let here = loop {
            match self.channel().map(|channel| channel.worker()) {
                Some(Some(worker)) => break worker,
                Some(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(10)),
                _ => return,
            }
        };
        let connection = Arc::clone(self);
        worker::exec(here, move || work(&connection));
    }

    /// Returns whether the connection was up and is lost, or cannot continue one that was.
    pub(in crate::client) fn is_lost(&self) -> bool {
        let shared = self.shared.lock();
        shared.exchange.state() == State::Lost || (self.origin.is_renewal && shared.exchange.failure().is_some())
    }

    /// Returns whether the tunnel is up, or is being taken over from the connection before.
    pub(in crate::client) fn is_started(&self) -> bool {
        let shared = self.shared.lock();
        shared.exchange.state() == State::Up || (self.origin.is_renewal && shared.exchange.is_alive())
    }

    /// Returns why the connection is lost.
    pub(in crate::client) fn loss(&self) -> Option<ClientError> {
        if !self.is_lost() {
            return None;
        }
        let shared = self.shared.lock();
        let reason = shared.exchange.loss().map(str::to_owned);
        let reason = reason.unwrap_or_else(|| self.start_error(&shared.exchange).to_string());
        Some(self.lost_for(reason))
    }

    /// Returns the error of a connection that was lost for this reason.
    pub(in crate::client) fn lost_for(&self, reason: impl Into<String>) -> ClientError {
        ClientError::Lost { server: self.server.clone(), reason: reason.into() }
    }

    /// Creates the connection that continues this one with other means.
    pub(in crate::client) fn continued(&self, means: Box<Means>) -> Option<Arc<Connection>> {
        let running = Running::retain().ok()?;
        let (place, contract) = ((&*self.host, self.port), Contract::Paid(means));
        let origin = Origin { is_renewal: true, address: self.server_address().or(self.origin.address), ..self.origin };
        Some(Connection::new(self.net.clone(), place, self.settings.clone(), &contract, origin, running))
    }

    /// When the start of this connection began, or that of the first connection that it continues.
    pub(in crate::client) fn began(&self) -> Began {
        self.origin.began
    }

    /// Connects, and waits until the stream is up; REQUEST is held back.
    pub(in crate::client) fn prepare(self: &Arc<Self>) -> Result<(), ClientError> {
        self.dial()?;
        let mut shared = self.shared.lock();
        while !shared.exchange.is_ready() && shared.exchange.is_alive() {
            let Some(deadline) = shared.exchange.deadline() else { break };
            self.wait_step(&mut shared, deadline);
        }
        if shared.exchange.is_ready() { Ok(()) } else { Err(self.start_error(&shared.exchange)) }
    }

    /// Sends the REQUEST that was held back, and takes the tunnel over.
    pub(in crate::client) fn proceed(self: &Arc<Self>) -> Result<(), ClientError> {
        self.on_worker(|connection| {
            connection.handle(Event::Proceed);
        });
        let grant = self.await_grant()?;
        self.bring_up(&grant)?;
        self.keep_token(grant.token);
        Ok(())
    }

    /// Leaves the server, while the tunnel waits for the connection that continues this one.
    pub(in crate::client) fn hand_over(&self) {
        tunnel::suspend();
        self.end();
    }
}
