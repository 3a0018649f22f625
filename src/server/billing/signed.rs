//! SIGN_RESPONSE: proofs of a key, and receipts that the SDK then pays with.

use std::sync::Arc;

use crate::sdk::channel::Channel;
use crate::sdk::ledger;
use crate::server::Server;
use crate::server::account::{Offer, Stage};
use crate::server::session::Session;
use vpn_core::gate::check_signed;
use vpn_core::meter::{Event, Taken};
use vpn_core::wire::{Receipt, error_code, error_text, pkt};

use super::facts::can_pay;

impl Server {
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
            let level = session.journal.warning(self.now(), "receipt refused");
            log::log!(level, "receipt refused: {}, {} ({code:#x})", session.who(), error_text(code));
            channel.send_service(pkt::ERROR, &code.to_le_bytes());
            return;
        }
        session.prove_key(client_key);
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
        let waits = self.billing.store.is_unsettled(&offer.client, &offer.net, self.billing.rules().payment_timeout);
        if waits || !can_pay(&offer.net, &spent, &offer.order, &offer.client) {
            return self.give_up(channel, error_code::TX_CREATION_ERROR);
        }
        let number = session.account.lock().number;
        if !matches!(self.claim_rest(channel, session, offer), Taken::Rest(_)) {
            return self.give_up(channel, error_code::CANT_ADD_USAGE);
        }
        let chain = offer.chain.unwrap_or(offer.transaction);
        if !self.billing.take_chain(chain, number, self.now()) {
            return self.give_up(channel, error_code::CANT_ADD_USAGE);
        }
        if let Some(metered) = &mut session.account.lock().metered {
            (metered.chain, metered.spending) = (Some(chain), Some(spent));
        }
        channel.pass_to_billing(pkt::SIGN_RESPONSE, data);
        let is_served = {
            let mut account = session.account.lock();
            if let Some(metered) = &mut account.metered {
                metered.spending = None;
            }
            matches!(account.stage, Stage::Served { .. })
        };
        if !is_served {
            // The SDK may have begun a grace of its own, with a timer.
            self.retire_usage(channel);
            self.give_up(channel, error_code::TX_CREATION_ERROR);
        }
    }

    /// Has the SDK pay with the next receipt.
    fn pay_next(&self, channel: &Arc<Channel>, session: &Session, data: &[u8]) {
        let Some(spent) = Receipt::parse(data).ok().map(|receipt| receipt.info.prev_tx) else { return };
        let payable = {
            let mut account = session.account.lock();
            let Some(metered) = &mut account.metered else { return };
            metered.spending = Some(spent);
            self.can_pay(metered, &spent)
        };
        if payable {
            channel.pass_to_billing(pkt::SIGN_RESPONSE, data);
            if let Some(metered) = &mut session.account.lock().metered {
                metered.spending = None;
            }
        } else {
            self.drop_next(channel, session, error_code::TX_CREATION_ERROR, Event::AskFailed);
        }
    }
}
