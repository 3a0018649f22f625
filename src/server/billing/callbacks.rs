//! What the SDK's billing reports of a session's usage.

use std::sync::Arc;

use crate::sdk::NOTICE;
use crate::sdk::channel::Channel;
use crate::sdk::usage::{OrderTerms, Rest, Step, Usage, UsageState};
use crate::server::Server;
use crate::server::figures::Refusal;
use crate::server::session::Session;
use vpn_core::meter::{self, Client, Event, Taken, Unit};
use vpn_core::wire::{error_code, error_text};

use super::source_of;
use crate::server::account::{Offer, Payment, Stage};
use crate::server::journal::Amount;

impl Server {
    /// The SDK accepted a request or the first receipt. Returns false to refuse.
    pub(in crate::server) fn usage_accepted(&self, channel: &Arc<Channel>) -> bool {
        let (Some(session), Some(usage)) = (channel.data::<Session>(), channel.usage()) else { return false };
        // With the gate it is known already.
        session.set_client_key(usage.client_key);
        match usage.state {
            UsageState::Free => true,
            UsageState::Grace => self.sdk_grants_grace(channel, session, &usage),
            UsageState::Normal if usage.step == Step::FirstSign => self.first_paid(channel, session, &usage),
            UsageState::Normal => self.resumed(channel, session, &usage),
            UsageState::Idle | UsageState::Error => false,
        }
    }

    /// The SDK serves before the first payment: without the gate, or if a first payment could not be made.
    fn sdk_grants_grace(&self, channel: &Arc<Channel>, session: &Session, usage: &Usage) -> bool {
        if self.billing.is_gated() {
            return false;
        }
        let Some(offer) = offer_of(usage) else { return false };
        let source = source_of(channel);
        let limit = match self.billing.grace.lock().admit(self.now(), source) {
            Ok(limit) => limit,
            Err(error) => {
                log::log!(
                    session.journal.level(self.now(), "grace refused"),
                    "grace refused: {}, no service before its payment: {error}",
                    session.who()
                );
                return false;
            }
        };
        {
            let mut account = session.account.lock();
            account.meter_for(&offer, self).grace = Some((source, limit));
            self.billing.watched.lock().insert(account.number, Arc::clone(channel));
        }
        self.meter(channel, Event::Grace { time: limit.time, bytes: limit.bytes });
        true
    }

    fn first_paid(&self, channel: &Arc<Channel>, session: &Session, usage: &Usage) -> bool {
        let Some(offer) = offer_of(usage) else { return false };
        if !self.is_good_payment(channel, session, &offer, usage, false) {
            return false;
        }
        let amount = Amount::of_receipt(offer.unit, offer.units);
        session.journal.pays();
        let level = session.journal.level(self.now(), "receipt signed");
        log::log!(target: NOTICE, level, "receipt signed: {}, the first one of {amount}, and paid", session.who());
        let rest = {
            let mut account = session.account.lock();
            let metered = account.meter_for(&offer, self);
            let (source, now, id) = (source_of(channel), self.now(), usage.transaction);
            metered.source = Some(source);
            metered.payment = Payment::Unsettled(id);
            if self.billing.grace.lock().is_used(now, source) {
                metered.payment = Payment::Deferred { id, since: now };
                log::log!(
                    session.journal.level(now, "payment awaited"),
                    "payment awaited: {}, served when it is in the ledger: its host used up its grace",
                    session.who()
                );
            }
            let rest = metered.taken.filter(|_| !metered.is_resumed);
            metered.is_resumed = true;
            let request = account.current_request().map(<[u8]>::to_vec).unwrap_or_default();
            account.stage = Stage::Served { request };
            rest
        };
        self.note_signed(channel, session, usage.transaction);
        // Before the payment: the rest, which is nothing in this unit but for a race, is used first.
        if let Some(rest) = rest {
            self.meter(channel, Event::Resumed { rest });
        }
        let is_deferred = session.account.lock().is_deferred();
        if is_deferred {
            // The client's units stand in the store, should it not wait.
            self.meter(channel, Event::Tick);
            self.save_rest(session);
        } else {
            self.meter(channel, Event::Paid);
        }
        true
    }

    /// The SDK starts a service from the rest that it was given.
    fn resumed(&self, channel: &Arc<Channel>, session: &Session, usage: &Usage) -> bool {
        let Some(offer) = offer_of(usage) else { return false };
        let rest = {
            let mut account = session.account.lock();
            let metered = account.meter_for(&offer, self);
            metered.is_resumed = true;
            let rest = metered.taken;
            let request = account.current_request().map(<[u8]>::to_vec).unwrap_or_default();
            account.stage = Stage::Served { request };
            rest
        };
        let Some(rest) = rest else { return false };
        // The last transaction of the chain may be another than the one that REQUEST names, and is in the ledger.
        self.meter(channel, Event::Resumed { rest });
        true
    }

    /// The SDK paid the next receipt. Returns false to refuse.
    pub(in crate::server) fn next_paid(&self, channel: &Arc<Channel>) -> bool {
        let (Some(session), Some(usage)) = (channel.data::<Session>(), channel.usage()) else { return false };
        let Some(offer) = offer_of(&usage) else { return false };
        if !self.is_good_payment(channel, session, &offer, &usage, true) {
            return false;
        }
        if let Some(metered) = &mut session.account.lock().metered {
            (metered.payment, metered.ask) = (Payment::Unsettled(usage.transaction), None);
        }
        self.note_signed(channel, session, usage.transaction);
        let amount = Amount::of_receipt(offer.unit, offer.units);
        let level = session.journal.level(self.now(), "receipt signed");
        log::log!(target: NOTICE, level, "receipt signed: {}, the next one of {amount}, and paid", session.who());
        self.meter(channel, Event::Paid);
        true
    }

    /// Whether the SDK has really paid, with a signature of the client's key.
    fn is_good_payment(
        &self,
        channel: &Arc<Channel>,
        session: &Session,
        offer: &Offer,
        usage: &Usage,
        next: bool,
    ) -> bool {
        let spending = session.account.lock().metered.as_ref().and_then(|metered| metered.spending);
        match spending {
            // The SDK takes the transaction that was to be spent for the payment if its store refuses the payment.
            Some(spent) if spent == usage.transaction => {
                host::log_bounded!(Error, "payment lost: {}, the node could not store the payment", session.who());
                false
            }
            Some(_) => true,
            None => self.verify_ungated(channel, session, offer, usage, next),
        }
    }

    /// Without the gate, the SDK pays with any signature: checks it before units are given, and takes the client's rest.
    fn verify_ungated(
        &self,
        channel: &Arc<Channel>,
        session: &Session,
        offer: &Offer,
        usage: &Usage,
        next: bool,
    ) -> bool {
        if !channel.is_receipt_signed_by(next, &usage.client_key) {
            let code = error_code::RECEIPT_WRONG_PKEY_HASH;
            let level = session.journal.warning(self.now(), "receipt refused");
            log::log!(level, "receipt refused: {}, {} ({code:#x})", session.who(), error_text(code));
            return false;
        }
        if !matches!(self.claim_rest(channel, session, offer), Taken::Rest(_)) {
            let level = session.journal.warning(self.now(), "receipt refused");
            log::log!(level, "receipt refused: {}, another session of the same client is served", session.who());
            return false;
        }
        true
    }

    /// Gives the rest of the offer's client to the session, unless another one has it.
    pub(super) fn claim_rest(&self, channel: &Arc<Channel>, session: &Session, offer: &Offer) -> Taken {
        let number = session.account.lock().number;
        let taken = self.billing.store.with_client(offer.client, &offer.net).take(offer.client, offer.unit, number);
        if let Taken::Rest(rest) = taken {
            self.billing.payers.lock().insert(offer.client, Arc::clone(channel));
            session.account.lock().meter_for(offer, self).taken.get_or_insert(rest);
            self.billing.watched.lock().insert(number, Arc::clone(channel));
        }
        taken
    }

    /// Returns what the client has left of earlier payments, for the SDK to start its service from.
    pub(in crate::server) fn rest_for_usage(&self, channel: &Arc<Channel>) -> Option<Rest> {
        let session = channel.data::<Session>()?;
        let usage = channel.usage()?;
        let offer = offer_of(&usage)?;
        if !self.billing.is_gated() {
            // A second REQUEST on the stream may name another client.
            let is_other =
                session.account.lock().metered.as_ref().is_some_and(|metered| metered.client != offer.client);
            if is_other {
                self.end_billing(channel);
            }
            if !matches!(self.claim_rest(channel, session, &offer), Taken::Rest(_)) {
                return None;
            }
        }
        let taken = session.account.lock().metered.as_ref().and_then(|metered| metered.taken);
        let rest = taken.filter(|rest| rest.of(offer.unit) > 0)?;
        let only = meter::Rest::default().with(offer.unit, rest.of(offer.unit));
        Some(Rest { bytes: only.bytes, seconds: only.seconds })
    }

    /// The SDK refused a request, or a payment failed.
    pub(in crate::server) fn usage_refused(&self, channel: &Arc<Channel>, code: u32) {
        let (Some(session), Some(usage)) = (channel.data::<Session>(), channel.usage()) else { return };
        self.figures.refuse(Refusal::of_code(code));
        log::log!(
            session.journal.level(self.now(), "request refused"),
            "request refused: {}, by the node's billing: {} ({code:#x})",
            session.who(),
            error_text(code)
        );
        match usage.state {
            UsageState::Idle | UsageState::Error => {
                // The SDK frees such a usage and goes on reading it, so it must not find it.
                self.retire_usage(channel);
                self.end_billing(channel);
            }
            UsageState::Grace => self.end_billing(channel),
            UsageState::Normal => {
                if let Some(metered) = &mut session.account.lock().metered {
                    (metered.ask, metered.is_ask_due) = (None, false);
                }
                self.meter(channel, Event::AskFailed);
            }
            UsageState::Free => {}
        }
    }
}

/// Returns what a usage sells; `None` for a unit that this service does not sell.
fn offer_of(usage: &Usage) -> Option<Offer> {
    let (net, unit) = (usage.net.clone()?, Unit::from_wire(usage.unit)?);
    let order = OrderTerms {
        is_free: false,
        is_ours: true,
        is_native: true,
        allows_free: false,
        unit: usage.unit,
        units: usage.units,
        value: usage.value,
    };
    Some(Offer {
        request: Vec::new(),
        client: Client { key: usage.client_key, net: net.id() },
        unit,
        units: usage.units,
        order,
        transaction: usage.transaction,
        chain: None,
        payment: Ok(()),
        net,
    })
}
