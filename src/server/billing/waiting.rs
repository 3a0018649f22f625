//! Sessions that wait: for signatures, for a former session of the client, for the ledger.

use std::sync::Arc;
use std::time::Duration;

use crate::sdk::channel::{Channel, TYPE_DATA};
use crate::sdk::worker;
use crate::server::Server;
use crate::server::account::{AskStep, Offer, Stage};
use crate::server::session::Session;
use vpn_core::gate::{Paid, Verdict, judge};
use vpn_core::meter::{Client, Taken};
use vpn_core::wire::{encode_control, error_code, op, pkt};

use super::facts::{NodeFacts, transaction};
use super::replies::parsed;

/// How long the client's former session is given to show that it is alive.
const PROBE: Duration = Duration::from_secs(3);

impl Server {
    /// Gives the client's rest to the session, or waits until its former session has shown whether it is alive.
    pub(super) fn take_rest(&self, channel: &Arc<Channel>, session: &Session, offer: Offer) {
        match self.claim_rest(channel, session, &offer) {
            Taken::Rest(_) => self.start(channel, session, offer),
            Taken::Busy { .. } => {
                let client = offer.client;
                let mut account = session.account.lock();
                // Before the probe, whose answer may arrive at once.
                let since = match account.stage {
                    Stage::Waiting { since, .. } => since,
                    _ => self.now(),
                };
                account.stage = Stage::Waiting { offer, since };
                drop(account);
                self.probe_former(&client);
            }
            Taken::NotLoaded | Taken::Unsettled => self.give_up(channel, error_code::CANT_ADD_USAGE),
        }
    }

    /// Sends the client's former session a packet, which its TCP acknowledges if it is alive.
    fn probe_former(&self, client: &Client) {
        let former = self.billing.payers.lock().get(client).cloned();
        let Some(former) = former else { return };
        if let Some(worker) = former.worker() {
            worker::exec(worker, move || {
                let ping = encode_control(op::PING, 0, 0);
                former.send(TYPE_DATA, &ping);
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
            if let Some(session) = former.data::<Session>() {
                session.journal.ends("it does not answer, and its client is back in another session");
                session.account.lock().set_vanished();
            }
            worker::exec(worker, move || former.close());
        }
        false
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
                let is_gone = !self.billing.payers.lock().contains_key(&offer.client);
                if !is_gone && now.saturating_sub(since) < PROBE {
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
                log::log!(
                    session.journal.level(now, "transaction found"),
                    "transaction found: {}, it is in the ledger now, and grace ends",
                    session.who()
                );
                offer.chain = Some(terms.first);
                let verdict = parsed(&offer.request).map(|request| judge(&request, &NodeFacts::new(&self.billing)));
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
