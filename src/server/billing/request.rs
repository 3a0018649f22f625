//! From REQUEST to the begin of the service.

use std::sync::Arc;
use std::time::Duration;

use crate::sdk::channel::Channel;
use crate::sdk::gate::ServiceChannel;
use crate::sdk::ledger;
use crate::sdk::net::Net;
use crate::sdk::service;
use crate::sdk::usage::{OrderTerms, Step, UsageState};
use crate::server::Server;
use crate::server::session::Session;
use vpn_core::gate::{Facts, Network, Order, Paid, Transaction, Verdict, check_signed, judge};
use vpn_core::meter::{Client, Event, StopReason, Taken, Unit};
use vpn_core::wire::{Receipt, Request, Success, error_code, error_text, pkt};

use super::account::{Ask, AskStep, Offer, Stage};
use super::gate::refuse;
use super::{Billing, rests, source_of};

/// How long the client's former session is given to show that it is alive.
const PROBE: Duration = Duration::from_secs(3);

/// Where [`judge`] looks things up.
struct NodeFacts<'a> {
    billing: &'a Billing,
    order: std::cell::Cell<Option<OrderTerms>>,
}

impl Facts for NodeFacts<'_> {
    fn network(&self, id: u64) -> Option<Network> {
        let net = Net::by_id(id)?;
        let has_orders = self.billing.net().is_none_or(|own| own.id() == id);
        Some(Network { serves: net.role_serves(), is_offline: net.is_offline(), has_orders })
    }

    fn order(&self, hash: &[u8; 32]) -> Option<Order> {
        let terms = self.billing.net()?.order_terms(hash)?;
        self.order.set(Some(terms));
        let OrderTerms { is_free, is_ours, is_native, allows_free, unit, units, .. } = terms;
        Some(Order { is_free, is_ours, is_native, allows_free, unit, units })
    }

    fn transaction(&self, net: u64, hash: &[u8; 32]) -> Option<Transaction> {
        transaction(&Net::by_id(net)?, hash, &self.order.get()?)
    }
}

/// Returns what the ledger says of a transaction.
fn transaction(net: &Net, hash: &[u8; 32], order: &OrderTerms) -> Option<Transaction> {
    let terms = net.transaction_terms(hash, order)?;
    Some(Transaction {
        has_output: terms.has_output,
        is_for_vpn: terms.is_for_vpn,
        is_native: terms.is_native,
        unit: terms.unit,
        fits_max_price: terms.fits_max_price,
        is_enough: terms.is_enough,
        is_last: terms.is_last,
        client_key: terms.client_key,
        first: terms.first,
    })
}

impl Server {
    /// Handles a REQUEST.
    pub(super) fn request(&self, r: &ServiceChannel<'_>, session: Option<&Arc<Channel>>, data: &[u8]) {
        // What follows belongs to no service that is served here, and is not kept.
        let Some(data) = data.get(..Request::LEN) else {
            return log::debug!("dropped a REQUEST of {} bytes, expected {}", data.len(), Request::LEN);
        };
        let Some(request) = parsed(data) else { return };
        let facts = NodeFacts { billing: &self.billing, order: std::cell::Cell::new(None) };
        let verdict = judge(&request, &facts);
        let Some((channel, session)) = session.and_then(|channel| Some((channel, channel.data::<Session>()?))) else {
            // The SDK would take the payment and then find that there is no channel for the packets.
            let code = match verdict {
                Verdict::Refuse(code) => code,
                _ => error_code::SERVICE_CH_NOT_FOUND,
            };
            return refuse(r, &request, code);
        };
        if self.answer_repeated(channel, session, data) {
            return;
        }
        let offer = |unit, units, transaction, payment, chain| {
            let client = Client { key: request.client_pkey_hash, net: request.net_id };
            let (net, order) = (Net::by_id(request.net_id)?, facts.order.get()?);
            let unit = Unit::from_wire(unit)?;
            Some(Offer { request: data.to_vec(), client, net, unit, units, order, transaction, chain, payment })
        };
        let tx = request.tx_cond;
        match verdict {
            Verdict::Refuse(code) => {
                log::info!("{} is refused: {} ({code:#x})", channel.peer(), error_text(code));
                refuse(r, &request, code);
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
                    self.watch(channel, session);
                    self.begin_grace(channel, session, r, &request, offer);
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
            let is_over = account.allows() == Some(false) && matches!(account.stage, Stage::Served { .. });
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

    pub(super) fn send_success(&self, channel: &Channel, session: &Session) {
        let Some((net_id, srv_uid)) =
            session.account.lock().current_request().and_then(parsed).map(|r| (r.net_id, r.srv_uid))
        else {
            return;
        };
        let success = Success { usage_id: session.usage_id(), net_id, srv_uid };
        channel.send_service(pkt::SUCCESS, &success.encode());
    }

    pub(super) fn refuse_on(&self, channel: &Channel, code: u32, request: &[u8]) {
        let request = parsed(request).unwrap_or_default();
        log::info!("{} is refused: {} ({code:#x})", channel.peer(), error_text(code));
        let error =
            vpn_core::wire::ServiceError { net_id: request.net_id, srv_uid: request.srv_uid, usage_id: 0, code };
        channel.send_service(pkt::ERROR, &error.encode());
    }

    /// Asks for a proof of the client's key if it decides about what the client has left, and begins otherwise.
    fn consider(&self, channel: &Arc<Channel>, session: &Session, offer: Offer) {
        let has_rest = self.rest_of(&offer) > 0;
        let is_served = self.billing.payers.lock().get(&offer.client).is_some_and(|other| !Arc::ptr_eq(other, channel));
        if !has_rest && !is_served {
            return self.start(channel, session, offer);
        }
        if !self.billing.rules.prove_key {
            return self.take_rest(channel, session, offer);
        }
        let mut nonce = [0; 32];
        let is_random = rustix::rand::getrandom(nonce.as_mut_slice(), rustix::rand::GetRandomFlags::empty()).is_ok();
        let receipt = is_random.then(|| ledger::proof_receipt(offer.unit.to_wire(), &nonce)).flatten();
        let Some(receipt) = receipt else {
            log::error!(
                "no receipt can be signed: [srv_vpn] receipt_sign_cert names no certificate with a private key"
            );
            return self.refuse_on(channel, error_code::SERVICE_INTERNAL_ERROR, &offer.request);
        };
        channel.send_service(pkt::SIGN_REQUEST, &receipt);
        session.account.lock().stage = Stage::Proving { offer, receipt, ask: Ask::first(self.now()) };
    }

    /// Returns the units of earlier payments that the client has left.
    fn rest_of(&self, offer: &Offer) -> i64 {
        let rests = self.billing.store.with_client(offer.client, &offer.net);
        rests.get(&offer.client).map_or(0, |rest| rest.of(offer.unit))
    }

    /// Gives the client's rest to the session, or waits until its former session has shown whether it is alive.
    pub(super) fn take_rest(&self, channel: &Arc<Channel>, session: &Session, offer: Offer) {
        let number = session.account.lock().number;
        let taken = self.billing.store.with_client(offer.client, &offer.net).take(offer.client, offer.unit, number);
        match taken {
            Taken::Rest(rest) => {
                self.give_rest(channel, session, &offer, rest);
                self.start(channel, session, offer);
            }
            Taken::Busy { .. } => {
                self.probe_former(&offer.client);
                session.account.lock().stage = Stage::Waiting { offer, since: self.now() };
            }
            Taken::NotLoaded | Taken::Unsettled => self.refuse_on(channel, error_code::CANT_ADD_USAGE, &offer.request),
        }
    }

    /// Sends the client's former session a packet, which its TCP acknowledges if it is alive.
    fn probe_former(&self, client: &Client) {
        let former = self.billing.payers.lock().get(client).cloned();
        let Some(former) = former else { return };
        if let Some(worker) = former.worker() {
            crate::sdk::worker::exec(worker, move || {
                let ping = vpn_core::wire::encode_control(vpn_core::wire::op::PING, 0, 0);
                former.send(crate::sdk::channel::TYPE_DATA, &ping);
            });
        }
    }

    /// Closes the client's former session if it has not answered since `since`. Returns true if it is gone.
    fn take_over(&self, client: &Client, since: Duration) -> bool {
        let former = self.billing.payers.lock().get(client).cloned();
        let Some(former) = former else { return true };
        let alive = former.data::<Session>().map_or(Duration::ZERO, |session| session.alive());
        if alive < since
            && let Some(worker) = former.worker()
        {
            log::info!("a client is back: its former session, which does not answer, is closed");
            if let Some(session) = former.data::<Session>() {
                session.account.lock().set_vanished();
            }
            crate::sdk::worker::exec(worker, move || former.close());
        }
        false
    }

    /// Gives REQUEST to the SDK, if the client has a rest or can pay.
    fn start(&self, channel: &Arc<Channel>, session: &Session, offer: Offer) {
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
        self.pass_request(channel, &offer.request);
        match channel.usage() {
            Some(usage) if usage.step == Step::FirstSign => {
                // The SDK's timer would outlive the usage, and stay on this worker if the stream moves.
                channel.disarm_usage();
                session.account.lock().stage = Stage::FirstSign { offer, ask: Ask::first(self.now()) };
            }
            Some(usage) if usage.state == UsageState::Normal => {}
            _ => self.end_billing(channel),
        }
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

    fn begin_grace(
        &self,
        channel: &Arc<Channel>,
        session: &Session,
        r: &ServiceChannel<'_>,
        request: &Request,
        offer: Offer,
    ) {
        let source = source_of(channel);
        let limit = match self.billing.grace.lock().admit(self.now(), source) {
            Ok(limit) => limit,
            Err(error) => {
                log::info!("{}: no service before its transaction is in the ledger: {error}", channel.peer());
                return refuse(r, request, error_code::TX_COND_NOT_FOUND);
            }
        };
        log::info!(
            "{}: its transaction is not in the ledger yet, it is served for {} s or {} bytes",
            channel.peer(),
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

    /// Handles a SIGN_RESPONSE.
    pub(super) fn signed(&self, channel: &Arc<Channel>, data: &[u8]) {
        let Some(session) = channel.data::<Session>() else { return };
        enum Expected {
            Proof(Offer, Vec<u8>),
            First(Offer),
            Next,
        }
        let expected = {
            let account = session.account.lock();
            match &account.stage {
                Stage::Proving { offer, receipt, .. } => Expected::Proof(offer.clone(), receipt.clone()),
                Stage::FirstSign { offer, .. } => Expected::First(offer.clone()),
                _ if account.metered.as_ref().is_some_and(|metered| metered.ask.is_some()) => Expected::Next,
                _ => return log::debug!("dropped a SIGN_RESPONSE: no receipt waits for a signature"),
            }
        };
        let issued = match &expected {
            Expected::Proof(_, receipt) => Some(receipt.clone()),
            _ => channel.waiting_receipt(),
        };
        let Some(issued) = issued else { return log::debug!("dropped a SIGN_RESPONSE: no receipt waits") };
        let client_key = match &expected {
            Expected::Proof(offer, _) | Expected::First(offer) => offer.client.key,
            Expected::Next => session.account.lock().metered.as_ref().map_or([0; 32], |metered| metered.client.key),
        };
        let checked = check_signed(&issued, data).and_then(|signed| {
            let is_good = ledger::is_signed_by(signed.signature, signed.info, &client_key);
            if is_good { Ok(()) } else { Err(error_code::RECEIPT_WRONG_PKEY_HASH) }
        });
        if let Err(code) = checked {
            // The question stays open: it is repeated, and given up after a while.
            log::warn!("{}: its signature is refused: {} ({code:#x})", channel.peer(), error_text(code));
            channel.send_service(pkt::ERROR, &code.to_le_bytes());
            return;
        }
        match expected {
            Expected::Proof(offer, _) => {
                session.account.lock().stage = Stage::Starting { offer: offer.clone() };
                self.take_rest(channel, session, offer);
            }
            Expected::First(offer) => self.pay_first(channel, session, &offer, data),
            Expected::Next => self.pay_next(channel, session, data),
        }
    }

    /// Has the SDK pay with the first receipt.
    fn pay_first(&self, channel: &Arc<Channel>, session: &Session, offer: &Offer, data: &[u8]) {
        let Some(spent) = Receipt::parse(data).ok().map(|receipt| receipt.info.prev_tx) else { return };
        let payable =
            transaction(&offer.net, &spent, &offer.order).is_some_and(|terms| terms.is_last && terms.is_enough);
        if !payable {
            return self.give_up(channel, error_code::TX_CREATION_ERROR);
        }
        let number = session.account.lock().number;
        let taken = self.billing.store.with_client(offer.client, &offer.net).take(offer.client, offer.unit, number);
        let Taken::Rest(rest) = taken else { return self.give_up(channel, error_code::CANT_ADD_USAGE) };
        self.give_rest(channel, session, offer, rest);
        let chain = offer.chain.unwrap_or(offer.transaction);
        if !self.billing.take_chain(chain, number, self.now()) {
            return self.give_up(channel, error_code::CANT_ADD_USAGE);
        }
        if let Some(metered) = &mut session.account.lock().metered {
            metered.chain = Some(chain);
        }
        channel.pass_to_billing(pkt::SIGN_RESPONSE, data);
        if channel.usage().is_none_or(|usage| usage.state != UsageState::Normal) {
            self.end_billing(channel);
        }
    }

    /// Has the SDK pay with the next receipt.
    fn pay_next(&self, channel: &Arc<Channel>, session: &Session, data: &[u8]) {
        let payable = {
            let account = session.account.lock();
            let Some(metered) = &account.metered else { return };
            let Some(spent) = Receipt::parse(data).ok().map(|receipt| receipt.info.prev_tx) else { return };
            transaction(&metered.net, &spent, &metered.order).is_some_and(|terms| terms.is_last && terms.is_enough)
        };
        if payable {
            channel.pass_to_billing(pkt::SIGN_RESPONSE, data);
        } else {
            self.drop_next(channel, session, error_code::TX_CREATION_ERROR, Event::AskFailed);
        }
    }

    /// Ends what has not become a service: tells the client why, and forgets the usage.
    pub(super) fn give_up(&self, channel: &Arc<Channel>, code: u32) {
        log::info!("{} is refused: {} ({code:#x})", channel.peer(), error_text(code));
        channel.send_service(pkt::ERROR, &code.to_le_bytes());
        self.end_billing(channel);
    }

    /// Goes on with what waits: proofs, first receipts, former sessions, transactions of clients in grace.
    pub(super) fn go_on(&self, channel: &Arc<Channel>, session: &Session) {
        let now = self.now();
        let step = {
            let mut account = session.account.lock();
            match &mut account.stage {
                Stage::Proving { receipt, ask, .. } => match ask.check(now) {
                    AskStep::Wait => Next::Nothing,
                    AskStep::Repeat => Next::Send(receipt.clone()),
                    AskStep::GiveUp => Next::GiveUp(error_code::RECEIPT_NO_SIGN),
                },
                Stage::FirstSign { ask, .. } => match ask.check(now) {
                    AskStep::Wait => Next::Nothing,
                    AskStep::Repeat => Next::Ask,
                    AskStep::GiveUp => Next::GiveUp(error_code::RECEIPT_NO_SIGN),
                },
                Stage::Waiting { offer, since } => Next::TakeOver(offer.clone(), *since),
                Stage::Grace { offer } => Next::Look(offer.clone()),
                _ => Next::Nothing,
            }
        };
        match step {
            Next::Nothing => {}
            Next::Send(receipt) => drop(channel.send_service(pkt::SIGN_REQUEST, &receipt)),
            Next::Ask => drop(channel.ask_for_signature()),
            Next::GiveUp(code) => self.give_up(channel, code),
            Next::TakeOver(offer, since) => {
                if now.saturating_sub(since) < PROBE {
                    return;
                }
                if self.take_over(&offer.client, since) {
                    self.take_rest(channel, session, offer);
                } else if now.saturating_sub(since) >= 3 * PROBE {
                    self.give_up(channel, error_code::CANT_ADD_USAGE);
                }
            }
            Next::Look(mut offer) => {
                let Some(terms) = transaction(&offer.net, &offer.transaction, &offer.order) else { return };
                log::info!("{}: its transaction is in the ledger", channel.peer());
                offer.chain = Some(terms.first);
                let verdict = parsed(&offer.request).map(|request| {
                    judge(&request, &NodeFacts { billing: &self.billing, order: std::cell::Cell::new(None) })
                });
                match verdict {
                    Some(Verdict::Paid(Paid { payment, .. })) => {
                        offer.payment = payment;
                        self.consider(channel, session, offer);
                    }
                    Some(Verdict::Refuse(code)) => self.give_up(channel, code),
                    _ => self.give_up(channel, error_code::TX_COND_NOT_FOUND),
                }
            }
        }
    }

    /// Tells the client that its service has stopped, where old and new clients look for it.
    pub(super) fn notify_stopped(&self, channel: &Channel, session: &Session, reason: StopReason) {
        let in_grace = matches!(session.account.lock().stage, Stage::Grace { .. });
        let code = match reason {
            StopReason::GraceTime | StopReason::GraceBytes => error_code::TX_COND_NOT_FOUND,
            StopReason::NotConfirmed => error_code::TX_CREATION_ERROR,
            StopReason::UnitsUsed | StopReason::Ended => error_code::RECEIPT_CANT_FIND,
        };
        if in_grace {
            channel.send_service(pkt::ERROR, &code.to_le_bytes());
        }
        channel.send_service(pkt::NOTIFY_STOPPED, &[]);
        let request = session.account.lock().current_request().and_then(parsed).unwrap_or_default();
        let (net_id, srv_uid, usage_id) = (request.net_id, request.srv_uid, session.usage_id());
        let error = vpn_core::wire::ServiceError { net_id, srv_uid, usage_id, code };
        channel.send(pkt::NOTIFY_STOPPED, &error.encode());
    }
}

/// How a repeated REQUEST is answered.
enum Again {
    Other,
    Proof(Vec<u8>),
    Receipt,
    Success,
    Nothing,
}

/// What a waiting session needs next.
enum Next {
    Nothing,
    Send(Vec<u8>),
    Ask,
    GiveUp(u32),
    TakeOver(Offer, Duration),
    Look(Offer),
}

fn parsed(request: &[u8]) -> Option<Request> {
    Request::parse(request).ok()
}

/// Whether the client has received what was sent to it. A receipt is 28 times as long as the REQUEST that brings it.
fn is_drained(channel: &Channel) -> bool {
    channel.pending() == Some(0)
}

/// The key of a client, as the log names it.
pub(super) fn name(client: &Client) -> String {
    rests::key(&client.key).chars().take(14).collect()
}
