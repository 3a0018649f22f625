//! From REQUEST to the begin of the service.

use std::sync::Arc;

use crate::sdk::NOTICE;
use crate::sdk::channel::Channel;
use crate::sdk::gate::ServiceChannel;
use crate::sdk::ledger;
use crate::sdk::net::Net;
use crate::sdk::service;
use crate::sdk::usage::{Step, UsageState};
use crate::server::Server;
use crate::server::account::{Ask, Offer, Stage};
use crate::server::figures::Refusal;
use crate::server::journal::Amount;
use crate::server::session::Session;
use vpn_core::gate::{Paid, Verdict, judge};
use vpn_core::meter::{Client, Event, Unit};
use vpn_core::wire::{Request, error_code, pkt};

use super::facts::NodeFacts;
use super::replies::{is_drained, parsed, refuse};
use super::source_of;

impl Server {
    /// Handles a REQUEST.
    pub(super) fn request(&self, r: &ServiceChannel<'_>, session: Option<&Arc<Channel>>, data: &[u8]) {
        // What follows belongs to no service that is served here, and is not kept.
        let Some(data) = data.get(..Request::LEN) else {
            return log::debug!("dropped a REQUEST of {} bytes, expected {}", data.len(), Request::LEN);
        };
        let Some(request) = parsed(data) else { return };
        let session = session.and_then(|channel| Some((channel, channel.data::<Session>()?)));
        if let Some((channel, session)) = session
            && self.answer_repeated(channel, session, data)
        {
            return;
        }
        if let Some((_, session)) = session {
            session.set_client_key(request.client_pkey_hash);
        }
        let facts = NodeFacts::new(&self.billing);
        let verdict = judge(&request, &facts);
        let Some((channel, session)) = session else {
            // The SDK would take the payment and then find that there is no channel for the packets.
            let code = match verdict {
                Verdict::Refuse(code) => code,
                _ => error_code::SERVICE_CH_NOT_FOUND,
            };
            self.figures.refuse(Refusal::of_code(code));
            return refuse(r, &request, code);
        };
        let offer = |unit, units, transaction, payment, chain| {
            let client = Client { key: request.client_pkey_hash, net: request.net_id };
            let (net, order) = (Net::by_id(request.net_id)?, facts.order()?);
            let unit = Unit::from_wire(unit)?;
            Some(Offer { request: data.to_vec(), client, net, unit, units, order, transaction, chain, payment })
        };
        let tx = request.tx_cond;
        match verdict {
            // A client that names another's transaction has no rest to use with it.
            Verdict::Refuse(code)
            | Verdict::Paid(Paid { payment: Err(code @ error_code::RECEIPT_WRONG_PKEY_HASH), .. }) => {
                self.refuse_on(channel, code, data);
            }
            Verdict::Free => {
                session.account.lock().stage = Stage::Served { request: data.to_vec() };
                self.pass_request(channel, data);
                if channel.usage().is_none_or(|usage| usage.state != UsageState::Free) {
                    self.end_billing(channel);
                }
            }
            Verdict::Paid(Paid { unit, units, chain, payment }) => {
                if let Some(offer) = offer(unit, units, tx, payment, Some(chain)) {
                    self.watch(channel, session);
                    self.consider(channel, session, offer);
                }
            }
            Verdict::Unknown { unit, units } => {
                if let Some(offer) = offer(unit, units, tx, Err(error_code::TX_COND_NOT_FOUND), None) {
                    self.begin_grace(channel, session, offer);
                }
            }
        }
    }

    /// Has the session looked at more often than once a second, until its dealings end.
    fn watch(&self, channel: &Arc<Channel>, session: &Session) {
        let number = session.account.lock().number;
        self.billing.watched.lock().insert(number, Arc::clone(channel));
    }

    /// Answers a REQUEST that is repeated, or that comes while the session has a service. Returns false if the session
    /// is free for it.
    fn answer_repeated(&self, channel: &Arc<Channel>, session: &Session, data: &[u8]) -> bool {
        let again = {
            let mut account = session.account.lock();
            let is_stopped = account.allows() == Some(false) && !account.is_deferred();
            let is_over = is_stopped && matches!(account.stage, Stage::Served { .. });
            match account.current_request() {
                None => None,
                Some(_) if is_over => None,
                Some(current) if current != data => Some(Again::Other),
                Some(_) => Some(match &mut account.stage {
                    Stage::Proving { receipt, .. } => Again::Proof(receipt.clone()),
                    Stage::FirstSign { .. } => Again::Receipt,
                    Stage::Grace { .. } | Stage::Served { .. } => Again::Success,
                    _ => Again::Nothing,
                }),
            }
        };
        let Some(again) = again else {
            session.account.lock().stopped.get_or_insert_with(|| "the client requested the service anew".to_owned());
            self.end_billing(channel);
            self.retire_usage(channel);
            return false;
        };
        match again {
            Again::Other => self.refuse_on(channel, error_code::CANT_ADD_USAGE, data),
            Again::Proof(receipt) if is_drained(channel) => drop(channel.send_service(pkt::SIGN_REQUEST, &receipt)),
            Again::Receipt if is_drained(channel) => drop(channel.ask_for_signature()),
            Again::Success => self.send_success(channel, session),
            _ => {}
        }
        true
    }

    /// Asks for a proof of the client's key if it decides about what the client has left, and begins otherwise.
    pub(super) fn consider(&self, channel: &Arc<Channel>, session: &Session, offer: Offer) {
        let has_rest = self.rest_of(&offer) > 0;
        let is_served = self.billing.payers.lock().get(&offer.client).is_some_and(|other| !Arc::ptr_eq(other, channel));
        if !has_rest && !is_served {
            return self.start(channel, session, offer);
        }
        if !self.billing.rules().prove_key {
            return self.take_rest(channel, session, offer);
        }
        let mut nonce = [0; 32];
        let is_random = rustix::rand::getrandom(nonce.as_mut_slice(), rustix::rand::GetRandomFlags::empty()).is_ok();
        let receipt = is_random.then(|| ledger::proof_receipt(offer.unit.to_wire(), &nonce)).flatten();
        let Some(receipt) = receipt else {
            host::log_bounded!(
                Error,
                "no receipt can be signed: [srv_vpn] receipt_sign_cert names no certificate with a private key"
            );
            return self.give_up(channel, error_code::SERVICE_INTERNAL_ERROR);
        };
        channel.send_service(pkt::SIGN_REQUEST, &receipt);
        let level = session.journal.level(self.now(), "proof of key asked for");
        log::log!(level, "proof of key asked for: {}, a receipt of value 0", session.who());
        session.account.lock().stage = Stage::Proving { offer, receipt, ask: Ask::first(self.now()) };
    }

    /// Returns the units of earlier payments that the client has left.
    fn rest_of(&self, offer: &Offer) -> i64 {
        let rests = self.billing.store.with_client(offer.client, &offer.net);
        rests.get(&offer.client).map_or(0, |rest| rest.of(offer.unit))
    }

    /// Gives REQUEST to the SDK, if the client has a rest or can pay.
    pub(super) fn start(&self, channel: &Arc<Channel>, session: &Session, offer: Offer) {
        let has_rest = {
            let mut account = session.account.lock();
            account.stage = Stage::Starting { offer: offer.clone() };
            let taken = account.metered.as_ref().and_then(|metered| metered.taken);
            taken.is_some_and(|rest| rest.of(offer.unit) > 0)
        };
        if let (false, Err(code)) = (has_rest, offer.payment) {
            self.end_billing(channel);
            return self.refuse_on(channel, code, &offer.request);
        }
        if has_rest && is_lost_on_the_sdk(&offer) {
            return self.serve_rest(channel, session, offer);
        }
        self.pass_request(channel, &offer.request);
        match channel.usage() {
            Some(usage) if usage.step == Step::FirstSign => {
                // The SDK's timer would outlive the usage, and stay on this worker if the stream moves.
                channel.disarm_usage();
                let amount = Amount::of_receipt(offer.unit, offer.units);
                let level = session.journal.level(self.now(), "receipt asked for");
                log::log!(target: NOTICE, level, "receipt asked for: {}, the first one of {amount}", session.who());
                session.account.lock().stage = Stage::FirstSign { offer, ask: Ask::first(self.now()) };
            }
            Some(usage) if usage.state == UsageState::Normal => {}
            _ => self.end_billing(channel),
        }
    }

    /// Serves what the client has left without the SDK, which has no part in it: nothing more can be paid.
    fn serve_rest(&self, channel: &Arc<Channel>, session: &Session, offer: Offer) {
        let rest = {
            let mut account = session.account.lock();
            let metered = account.meter_for(&offer, self);
            metered.is_resumed = true;
            let rest = metered.taken.unwrap_or_default();
            account.stage = Stage::Served { request: offer.request };
            rest
        };
        session.set_grace_id();
        self.meter(channel, Event::Resumed { rest });
        channel.enable();
        self.refresh(channel);
        self.send_success(channel, session);
    }

    /// Gives REQUEST to the SDK. Afterwards the session's usage, if there is one, can be read.
    fn pass_request(&self, channel: &Arc<Channel>, data: &[u8]) {
        service::forget_refusal();
        channel.pass_to_billing(pkt::REQUEST, data);
        match service::take_refusal() {
            None => {}
            // The SDK has freed the usage, and left its address in the session.
            Some(error_code::PRICE_ERROR) => drop(channel.detach_usage()),
            Some(_) => self.retire_usage(channel),
        }
    }

    /// Serves the client for a while, until the ledger has its transaction.
    fn begin_grace(&self, channel: &Arc<Channel>, session: &Session, offer: Offer) {
        let source = source_of(channel);
        let limit = match self.billing.grace.lock().admit(self.now(), source) {
            Ok(limit) => limit,
            Err(error) => {
                log::log!(
                    session.journal.level(self.now(), "grace refused"),
                    "grace refused: {}, no service before its transaction is in the ledger: {error}",
                    session.who()
                );
                return self.refuse_on(channel, error_code::TX_COND_NOT_FOUND, &offer.request);
            }
        };
        self.watch(channel, session);
        log::log!(
            session.journal.level(self.now(), "grace granted"),
            "grace granted: {}, {} s or {} bytes until its transaction is in the ledger",
            session.who(),
            limit.time.as_secs(),
            limit.bytes
        );
        {
            let mut account = session.account.lock();
            account.meter_for(&offer, self).grace = Some((source, limit));
            account.stage = Stage::Grace { offer };
        }
        session.set_grace_id();
        self.meter(channel, Event::Grace { time: limit.time, bytes: limit.bytes });
        channel.enable();
        self.refresh(channel);
        self.send_success(channel, session);
    }
}

/// Whether the SDK would take a REQUEST with a rest for one of an unknown transaction, because nothing is left in the
/// chain of payments: it then grants a grace, bans the client, and never looks at the rest.
fn is_lost_on_the_sdk(offer: &Offer) -> bool {
    let is_used_up = || {
        let terms = offer.net.transaction_terms(&offer.transaction, &offer.order);
        terms.is_some_and(|terms| terms.last == [0; 32])
    };
    ledger::billing_follows_chains() && is_used_up()
}

/// How a repeated REQUEST is answered.
enum Again {
    Other,
    Proof(Vec<u8>),
    Receipt,
    Success,
    Nothing,
}
