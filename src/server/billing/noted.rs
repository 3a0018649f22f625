//! What the account book learns of a session's service: its begin, its receipts, its amounts, its end.
//!
//! The amounts change with the client's rest, under the lock of the rests: a rest is never stored before the payment
//! that it came from is in the book.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::sdk::channel::Channel;
use crate::sdk::clock;
use crate::server::Server;
use crate::server::account::{Account, Metered, Noted, Payment};
use crate::server::book::Live;
use crate::server::session::Session;
use vpn_core::book::{Entry, Kind};
use vpn_core::meter::{Client, PaymentId, Rest, Use};

use super::replies::parsed;

/// How often an entry gets what a running service has carried.
const NOTE_EVERY: Duration = Duration::from_secs(60);

impl Server {
    /// Notes that the session has a service.
    pub(in crate::server) fn note_service(&self, channel: &Channel, session: &Session) {
        let mut account = session.account.lock();
        account.stopped = None;
        self.noted(channel, session, &mut account);
    }

    /// Notes that the client has signed a receipt, which was made into this payment.
    pub(super) fn note_signed(&self, channel: &Channel, session: &Session, payment: PaymentId) {
        let number = self.noted(channel, session, &mut session.account.lock());
        self.billing.book.sign(number, payment);
    }

    /// Notes that the client was asked to sign the next receipt.
    pub(super) fn note_asked(&self, account: &Account) {
        if let Some(noted) = &account.entry {
            self.billing.book.change(noted.number, false, |entry| entry.ask(clock::wall()));
        }
    }

    /// Returns the number of the session's entry, made if there is none yet.
    fn noted(&self, channel: &Channel, session: &Session, account: &mut Account) -> u64 {
        if let Some(noted) = &account.entry {
            return noted.number;
        }
        let request = account.current_request().and_then(parsed);
        let order = request.as_ref().map_or([0; 32], |request| request.order_hash);
        let now = clock::wall();
        let entry = match &account.metered {
            None => {
                // Without the gate nothing is known of the request.
                let of_usage = || channel.usage()?.net.map(|net| net.id());
                let net = request.map(|request| request.net_id).or_else(of_usage).unwrap_or(0);
                Entry::new(Client { key: session.client_key().unwrap_or_default(), net }, order, Kind::Free, now)
            }
            Some(metered) => {
                let is_unpaid = metered.taken.is_none() && matches!(metered.payment, Payment::None);
                let kind = if is_unpaid { Kind::Grace } else { Kind::Paid };
                let (terms, price) = (metered.meter.terms(), metered.order.value);
                let (brought, left) = amounts(metered);
                let unit = Some(terms.unit);
                let known = Entry { unit, units: terms.units, price, ..Entry::new(metered.client, order, kind, now) };
                Entry { brought, left, stored: i64::try_from(left).unwrap_or(i64::MAX), ..known }
            }
        };
        let (up, down) = session.carried.both_ways();
        let number = self.billing.book.begin(entry);
        account.entry = Some(Noted { number, up, down, at: self.now() });
        number
    }

    /// Notes what is left to the client. `held` is what the table of rests has for it, whose lock the caller holds.
    pub(super) fn note_amounts(&self, session: &Session, noted: &Noted, metered: &Metered, held: Option<Rest>) {
        self.billing.book.change(noted.number, false, with_amounts(session, noted, metered, held));
    }

    /// Does the same in a process that is about to exit. Returns false if the book cannot be had until the deadline:
    /// another thread may hold it for ever.
    pub(super) fn note_last_amounts(
        &self,
        deadline: Instant,
        session: &Session,
        account: &Account,
        held: Option<Rest>,
    ) -> bool {
        let (Some(noted), Some(metered)) = (&account.entry, &account.metered) else { return true };
        self.billing.book.change_until(deadline, noted.number, with_amounts(session, noted, metered, held))
    }

    /// Notes from time to time what a running service has carried.
    pub(in crate::server) fn note_progress(&self, session: &Session) {
        let now = self.now();
        let mut account = session.account.lock();
        let Some(noted) = account.entry.as_mut().filter(|noted| now.saturating_sub(noted.at) >= NOTE_EVERY) else {
            return;
        };
        noted.at = now;
        let carried = noted.carried(session);
        self.billing.book.change(noted.number, false, |entry| {
            (entry.up, entry.down, entry.updated) = (carried.0, carried.1, clock::wall());
        });
    }

    /// Notes why the service has ended.
    pub(super) fn note_end(&self, session: &Session, noted: &Noted, why: Option<String>) {
        let why = why.unwrap_or_else(|| session.journal.end());
        let carried = noted.carried(session);
        self.billing.book.change(noted.number, true, |entry| {
            (entry.up, entry.down) = carried;
            entry.close(clock::wall(), &why);
        });
    }

    /// Returns what the running services have at this moment, by the numbers of their entries.
    pub(in crate::server) fn live_entries(&self) -> HashMap<u64, Live> {
        let of = |channel: &Arc<Channel>| {
            let session = channel.data::<Session>()?;
            let account = session.account.lock();
            let noted = account.entry.as_ref()?;
            let (up, down) = noted.carried(session);
            let metered = account.metered.as_ref();
            let (brought, left) =
                metered.map_or((0, 0), |metered| (amounts(metered).0, self.left_now(session, metered)));
            Some((noted.number, Live { up, down, brought, left }))
        };
        self.channels().iter().filter_map(of).collect()
    }

    /// Returns the units that a client has left at this moment, also of payments that do not count yet.
    pub(in crate::server) fn left_now(&self, session: &Session, metered: &Metered) -> u64 {
        let Some(rest) = metered.taken.filter(|_| !metered.is_resumed) else {
            let used = Use { bytes: session.carried.total(), alive: metered.alive };
            let left = metered.meter.left(self.now(), used);
            let counted = left.current.max(0).saturating_add(left.next);
            return counted.unsigned_abs().saturating_add(metered.uncounted());
        };
        rest.of(metered.meter.terms().unit).max(0).unsigned_abs().saturating_add(metered.uncounted())
    }
}

impl Noted {
    /// Returns what the service has carried up and down.
    fn carried(&self, session: &Session) -> (u64, u64) {
        let (up, down) = session.carried.both_ways();
        (up.wrapping_sub(self.up), down.wrapping_sub(self.down))
    }
}

/// Returns the change of an entry to what is carried and left.
fn with_amounts(session: &Session, noted: &Noted, metered: &Metered, held: Option<Rest>) -> impl FnOnce(&mut Entry) {
    let stored = held.map(|held| held.of(metered.meter.terms().unit));
    let ((up, down), (brought, left)) = (noted.carried(session), amounts(metered));
    move |entry| {
        (entry.up, entry.down, entry.updated) = (up, down, clock::wall());
        if let Some(stored) = stored {
            (entry.brought, entry.left, entry.stored) = (brought, left, stored);
        }
    }
}

/// Returns what the client brought, and what it has left of that and of the session's payments.
fn amounts(metered: &Metered) -> (u64, u64) {
    let unit = metered.meter.terms().unit;
    let units = |units: i64| u64::try_from(units).unwrap_or(0);
    let holding = metered.holding();
    let brought = metered.taken.map_or(0, |rest| units(rest.of(unit)));
    (brought, units(holding.rest.of(unit)).saturating_add(holding.pending))
}
