//! Drives the meter of a session: receipts, switches, stops, saves.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::sdk::NOTICE;
use crate::sdk::channel::Channel;
use crate::sdk::usage::{Rest, Step, UsageState};
use crate::sdk::worker;
use crate::server::Server;
use crate::server::session::Session;
use vpn_core::meter::{self, Action, Client, Event, StopReason, Unit, Urgency, Use};
use vpn_core::wire::{HashText, error_code, error_text, pkt};

use super::facts::can_pay;
use super::told::{grant, log_grant, log_half, log_stop, log_switch, stop_text};
use super::{KEEP_PENDING, SAVE_EVERY};
use crate::server::account::{Account, Ask, AskStep, Metered, Noted, Offer, Payment, Stage};
use crate::server::journal::Amount;

impl Account {
    /// Returns the session's meter, made for the offer if there is none yet.
    pub(super) fn meter_for(&mut self, offer: &Offer, server: &Server) -> &mut Metered {
        let confirm_within = server.billing.rules().payment_timeout;
        self.metered.get_or_insert_with(|| Metered::new(offer, confirm_within, SAVE_EVERY, server.now()))
    }
}

impl Server {
    /// Passes an event to the session's meter, and does what it asks for.
    pub(in crate::server) fn meter(&self, channel: &Arc<Channel>, event: Event) {
        let Some(session) = channel.data::<Session>() else { return };
        let mut event = Some(event);
        while let Some(current) = event.take() {
            let now = self.now();
            let heard = channel.silence().map_or(Duration::ZERO, |silent| now.saturating_sub(silent));
            let (actions, granted) = {
                let mut account = session.account.lock();
                let Some(metered) = &mut account.metered else { return };
                metered.alive = metered.alive.max(heard).max(session.heard());
                let actions = metered.handle(now, session.carried.total(), current);
                let granted = grant(session, metered, now, current);
                let allowance = metered.meter.allowance();
                session.carried.set_due(allowance.bytes_due);
                (actions, granted)
            };
            if let Some(granted) = granted {
                log_grant(session, now, granted);
            }
            for action in actions {
                // At most one question comes of an event.
                event = self.act(channel, session, action).or(event);
            }
        }
    }

    /// Performs an action of the meter. Returns the answer to it.
    fn act(&self, channel: &Arc<Channel>, session: &Session, action: Action) -> Option<Event> {
        match action {
            Action::Allow => {
                session.account.lock().stopped = None;
                self.refresh(channel);
            }
            Action::Stop(reason) => {
                log_stop(session, reason, self.now());
                if let Some(why) = stop_text(reason) {
                    session.account.lock().stopped = Some(why.to_owned());
                }
                self.refresh(channel);
                if reason == StopReason::NotConfirmed {
                    let account = session.account.lock();
                    if let Some(metered) = &account.metered {
                        self.charge_unpaid(metered, metered.meter.books().debt);
                    }
                }
                // A signature that is under way would otherwise find a client that has given up.
                let is_asked = matches!(session.account.lock().stage, Stage::Proving { .. } | Stage::FirstSign { .. });
                if reason != StopReason::Ended && !is_asked {
                    self.notify_stopped(channel, session, reason);
                }
            }
            // With the stop, so that its reason is known.
            Action::Notify => self.leave_grace(channel, session),
            Action::AskNext => {
                log_half(session, self.now());
                // Within its callback the SDK has not set the step yet, and would overwrite ours.
                if channel.usage().is_none_or(|usage| usage.step == Step::Normal) {
                    return self.ask_next(channel, session);
                }
                if let Some(metered) = &mut session.account.lock().metered {
                    metered.is_ask_due = true;
                }
            }
            Action::Switch => {
                channel.switch_receipt();
                log_switch(session, self.now());
            }
            Action::Save(_) => self.save_rest(session),
        }
        None
    }

    /// Has what the session holds stored.
    pub(super) fn save_rest(&self, session: &Session) {
        let account = session.account.lock();
        if let Some(metered) = account.metered.as_ref().filter(|metered| metered.taken.is_some()) {
            let mut rests = self.billing.store.with_client(metered.client, &metered.net);
            let (holding, payment) = (metered.holding(), metered.unsettled());
            rests.update(metered.client, account.number, holding, payment, Urgency::Event);
            if let Some(noted) = &account.entry {
                self.note_amounts(session, noted, metered, rests.held(&metered.client));
            }
            drop(rests);
            self.billing.store.wake();
        }
    }

    /// Whether a transaction of the session's client can pay a receipt.
    pub(super) fn can_pay(&self, metered: &Metered, transaction: &[u8; 32]) -> bool {
        can_pay(&metered.net, transaction, &metered.order, &metered.client)
    }

    /// A grace that has ended without a payment leaves the session free for another REQUEST.
    fn leave_grace(&self, channel: &Arc<Channel>, session: &Session) {
        if matches!(session.account.lock().stage, Stage::Grace { .. }) {
            self.end_billing(channel);
        }
    }

    /// Counts what was served for a payment that did not come, or may not come, as grace of the client's address: who
    /// spends the transaction elsewhere gets no more in this way than by naming none.
    /// `served` is in bytes or nanoseconds, as the meter's books are.
    fn charge_unpaid(&self, metered: &Metered, served: u128) {
        let served = u64::try_from(served).unwrap_or(u64::MAX);
        if served == 0 {
            return;
        }
        let (time, bytes) = match metered.meter.terms().unit {
            Unit::Seconds => (Duration::from_nanos(served), 0),
            Unit::Bytes => (Duration::ZERO, served),
        };
        if let Some(source) = metered.source {
            self.billing.grace.lock().charge(self.now(), source, time, bytes);
        }
    }

    /// Issues the next receipt and asks the client to sign it, if the chain of payments can pay it. Returns `None` while
    /// the ledger lacks an earlier payment: it is tried again then.
    fn ask_next(&self, channel: &Arc<Channel>, session: &Session) -> Option<Event> {
        let Some(usage) = channel.usage().filter(|usage| usage.state == UsageState::Normal) else {
            return Some(Event::AskFailed);
        };
        // A client that came back with a rest may have named an earlier transaction of its chain of payments.
        let found = {
            let account = session.account.lock();
            let Some(metered) = &account.metered else { return Some(Event::AskFailed) };
            let terms = metered.net.transaction_terms(&usage.transaction, &metered.order);
            let last = terms.map(|terms| terms.last).filter(|last| *last != [0; 32]);
            let can_pay = last.is_some_and(|last| self.can_pay(metered, &last));
            let payer = (metered.client, metered.net.clone());
            last.zip(terms).filter(|_| can_pay).map(|(last, terms)| (last, terms.first, account.number, payer))
        };
        let Some((last, first, number, (client, net))) = found else {
            log::log!(
                target: NOTICE,
                session.journal.level(self.now(), "no receipt asked for"),
                "no receipt asked for: {}, its transaction cannot pay another one, the service ends with this one",
                session.who()
            );
            return Some(Event::AskFailed);
        };
        // After a restart the chains are forgotten, and the payments are not.
        let waits = self.billing.store.is_unsettled(&client, &net, self.billing.rules().payment_timeout);
        if waits || !self.billing.take_chain(first, number, self.now()) {
            log::debug!("receipt postponed: {}, until its chain of payments is in the ledger", session.who());
            if let Some(metered) = &mut session.account.lock().metered {
                metered.is_ask_due = true;
            }
            return None;
        }
        if let Some(metered) = &mut session.account.lock().metered {
            metered.chain = Some(first);
        }
        if !channel.issue_next_receipt(&last) || !channel.ask_for_signature() {
            let level = session.journal.warning(self.now(), "no receipt asked for");
            log::log!(level, "no receipt asked for: {}, the next one cannot be issued", session.who());
            return Some(Event::AskFailed);
        }
        let asked = {
            let mut account = session.account.lock();
            self.note_asked(&account);
            account.metered.as_mut().map(|metered| {
                metered.ask = Some(Ask::first(self.now()));
                let terms = metered.meter.terms();
                Amount::of_receipt(terms.unit, terms.units)
            })
        };
        if let Some(amount) = asked {
            let level = session.journal.level(self.now(), "receipt asked for");
            log::log!(target: NOTICE, level, "receipt asked for: {}, the next one of {amount}", session.who());
        }
        Some(Event::Asked)
    }

    /// Drops the next receipt, and tells the client why.
    pub(super) fn drop_next(&self, channel: &Arc<Channel>, session: &Session, code: u32, event: Event) {
        let why = error_text(code);
        let level = session.journal.level(self.now(), "receipt refused");
        log::log!(level, "receipt refused: {}, the next one is dropped: {why} ({code:#x})", session.who());
        channel.drop_next_receipt(event == Event::AskRefused);
        channel.send_service(pkt::ERROR, &code.to_le_bytes());
        if let Some(metered) = &mut session.account.lock().metered {
            metered.ask = None;
        }
        self.meter(channel, event);
    }

    /// Checks a session with dealings periodically, on its worker.
    pub(in crate::server) fn check_billing(&self, channel: &Arc<Channel>) {
        let Some(session) = channel.data::<Session>() else { return };
        self.go_on(channel, session);
        let now = self.now();
        let (payment, settled, ask, is_ask_due) = {
            let mut account = session.account.lock();
            let Some(metered) = &mut account.metered else { return };
            let payment = metered.payment;
            let in_ledger = metered.unsettled().filter(|payment| metered.net.has_transaction(payment));
            let settled = in_ledger.is_some();
            if let Some(id) = in_ledger {
                metered.payment = Payment::Settled;
                self.billing.book.settle(&id);
            }
            let is_ask_due = std::mem::take(&mut metered.is_ask_due);
            (payment, settled, metered.ask.as_mut().map(|ask| ask.check(now)), is_ask_due)
        };
        match payment {
            Payment::Deferred { .. } if settled => self.meter(channel, Event::Paid),
            Payment::Deferred { since, .. } if now.saturating_sub(since) >= self.billing.rules().payment_timeout => {
                return self.give_up(channel, error_code::TX_CREATION_ERROR);
            }
            _ => {}
        }
        if is_ask_due && let Some(answer) = self.ask_next(channel, session) {
            self.meter(channel, answer);
        }
        match ask {
            Some(AskStep::Repeat) => drop(channel.ask_for_signature()),
            Some(AskStep::GiveUp) => self.drop_next(channel, session, error_code::RECEIPT_NO_SIGN, Event::AskRefused),
            Some(AskStep::Wait) | None => {}
        }
        self.meter(channel, if settled { Event::Confirmed } else { Event::Tick });
    }

    /// Stores the rests of all sessions from a process that is about to exit, whose workers may stand still with locks
    /// held: until the deadline.
    pub(in crate::server) fn save_rests_until(&self, deadline: Instant) {
        let mut has_book = true;
        let payers = self.billing.payers.try_lock_until(deadline).map(|payers| payers.clone()).unwrap_or_default();
        for channel in payers.values() {
            let Some(session) = channel.data::<Session>() else { continue };
            let soon = deadline.min(Instant::now() + Duration::from_millis(10));
            let Some(mut account) = session.account.try_lock_until(soon) else { continue };
            let number = account.number;
            let Some(metered) = &mut account.metered else { continue };
            metered.handle(self.now(), session.carried.total(), Event::Tick);
            let (client, holding, payment) = (metered.client, metered.holding(), metered.unsettled());
            let note = |held| has_book = has_book && self.note_last_amounts(soon, session, &account, held);
            if !self.billing.store.update_until(deadline, client, number, holding, payment, note) {
                break;
            }
        }
        self.billing.store.flush_until(deadline);
    }

    /// Shows C what is left and what was carried, once a second.
    pub(in crate::server) fn show_billing(&self, channel: &Channel) {
        let Some(session) = channel.data::<Session>() else { return };
        let (up, down) = session.carried.both_ways();
        channel.show_traffic(down, up);
        let shown = {
            let account = session.account.lock();
            account.metered.as_ref().map(|metered| {
                let used = Use { bytes: session.carried.total(), alive: metered.alive };
                let left = metered.meter.left(self.now(), used);
                let unit = metered.meter.terms().unit;
                (unit, meter::Rest::default().with(unit, left.current))
            })
        };
        if let Some((unit, rest)) = shown {
            channel.show_rest(unit.to_wire(), &Rest { bytes: rest.bytes, seconds: rest.seconds });
        }
    }

    /// Returns what a client has left while a session serves it.
    pub(in crate::server) fn live_rest(&self, client: &Client) -> Option<meter::Rest> {
        let channel = self.billing.payers.lock().get(client).cloned()?;
        let session = channel.data::<Session>()?;
        let stored = self.billing.store.get(client)?;
        let account = session.account.lock();
        let metered = account.metered.as_ref().filter(|metered| metered.client == *client)?;
        let used = Use { bytes: session.carried.total(), alive: self.now() };
        let left = metered.meter.left(self.now(), used);
        let total = left
            .current
            .max(0)
            .saturating_add(left.next)
            .saturating_add(self.billing.store.credit(client, &metered.meter));
        Some(stored.with(metered.meter.terms().unit, total))
    }

    /// Ends a session's paid service, or what has not become one: the rest is kept, and the usage forgotten.
    pub(in crate::server) fn end_billing(&self, channel: &Arc<Channel>) {
        let Some(session) = channel.data::<Session>() else { return };
        self.meter(channel, Event::End);
        let (ended, noted, why) = {
            let mut account = session.account.lock();
            account.stage = Stage::Ended;
            self.billing.watched.lock().remove(&account.number);
            let ended = account.metered.take().map(|metered| (metered, account.number));
            (ended, account.entry.take(), account.stopped.take())
        };
        session.carried.set_due(u64::MAX);
        if let Some((metered, number)) = ended {
            self.settle_account(channel, &metered, number, session, noted.as_ref());
        }
        if let Some(noted) = noted {
            self.note_end(session, &noted, why);
        }
        self.refresh(channel);
    }

    fn settle_account(
        &self,
        channel: &Arc<Channel>,
        metered: &Metered,
        number: u64,
        session: &Session,
        noted: Option<&Noted>,
    ) {
        let Metered { meter, client, net, grace, chain, taken, .. } = metered;
        let unsettled = metered.unsettled();
        if taken.is_some() {
            let expires = self.billing.store.now() + KEEP_PENDING;
            let mut rests = self.billing.store.with_client(*client, net);
            rests.release(*client, number, metered.holding(), unsettled, expires);
            if let Some(noted) = noted {
                self.note_amounts(session, noted, metered, rests.held(client));
            }
            drop(rests);
            self.billing.store.wake();
            let mut payers = self.billing.payers.lock();
            if payers.get(client).is_some_and(|owner| Arc::ptr_eq(owner, channel)) {
                payers.remove(client);
            }
        }
        if let Some(chain) = chain {
            self.billing.release_chain(*chain, number, unsettled.map(|payment| (net.id(), payment)), self.now());
        }
        if let Some((source, limit)) = grace {
            let (time, bytes) = meter.grace_used();
            self.billing.grace.lock().release(self.now(), *source, *limit, time, bytes);
        }
        let books = meter.books();
        self.charge_unpaid(metered, metered.served_unpaid());
        if books.served > 0 || books.paid > 0 {
            let amount = |steps: u128| match meter.terms().unit {
                Unit::Bytes => format!("{steps} bytes"),
                Unit::Seconds => format!("{}.{:03} s", steps / 1_000_000_000, steps / 1_000_000 % 1000),
            };
            log::log!(
                session.journal.level(self.now(), "books closed"),
                "books closed: client {}, paid {}, served {}, charged {}, left {}, written off {}",
                HashText(&client.key),
                amount(books.paid),
                amount(books.served),
                amount(books.charged),
                amount(books.rest),
                amount(books.written_off)
            );
        }
    }

    /// Takes the usage of an ended service away from the SDK, and frees it in a later task: the SDK may still be
    /// reading it.
    pub(super) fn retire_usage(&self, channel: &Arc<Channel>) {
        channel.disarm_waiting();
        if let (Some(usage), Some(owner)) = (channel.detach_usage(), channel.worker()) {
            worker::exec(owner, move || usage.free());
        }
    }

    /// Checks the sessions with dealings whose stream is on a worker, every [`PERIOD`](super::PERIOD).
    pub(in crate::server) fn check_watched(&self, worker: u32) {
        let watched: Vec<_> = {
            let watched = self.billing.watched.lock();
            watched.values().filter(|channel| channel.worker() == Some(worker)).cloned().collect()
        };
        watched.iter().for_each(|channel| self.check_billing(channel));
    }
}
