//! What the client does about payment: passes receipts to [`Payment`], and performs what it decides.

use std::time::Duration;

use super::super::action::{Action, Failure, Notice};
use super::super::payment::{Agreement, Payment, Verdict};
use super::Exchange;
use crate::wire::{self, ReceiptInfo, ServiceError};

impl Exchange {
    /// Returns the terms of a paid connection, and how many receipts it has signed.
    pub fn paid(&self) -> Option<(&Agreement, u64)> {
        self.payment.as_ref().map(|payment| (payment.agreement(), payment.signed()))
    }

    /// Handles the end of the service; `data` is empty or an error.
    pub(super) fn stopped(&mut self, data: &[u8]) {
        let reason = "the server has stopped the service".to_owned();
        match ServiceError::parse(data) {
            Ok(error) => self.turned_away(format!("{reason}: {}", error_text(&error)), failure_of(&error)),
            Err(_) => self.busy(reason),
        }
    }

    /// Handles ERROR.
    pub(super) fn refused_with(&mut self, error: &ServiceError) {
        self.turned_away(error_text(error), failure_of(error));
    }

    pub(super) fn sign_requested(&mut self, now: Duration, message: &[u8]) {
        self.is_answered = true;
        if self.payment.is_some() {
            self.pay(now, |payment, served| payment.requested(now, served, message));
        } else if self.is_alive() && !std::mem::replace(&mut self.has_refused, true) {
            self.report(Notice::Unagreed);
        }
    }

    /// Performs what `decide` finds out about a receipt; it gets the time since the service was granted.
    pub(super) fn pay(&mut self, now: Duration, decide: impl FnOnce(&mut Payment, Duration) -> Verdict) {
        let served = self.granted.map_or(Duration::ZERO, |granted| now.saturating_sub(granted));
        let is_alive = self.is_alive();
        let Some(payment) = self.payment.as_mut().filter(|_| is_alive) else { return };
        match decide(payment, served) {
            Verdict::Nothing => {}
            Verdict::AskLedger => self.actions.push_back(Action::AskLedger),
            Verdict::Sign(bytes) => self.actions.push_back(Action::Sign(bytes)),
            Verdict::Repeat(receipt) => self.actions.push_back(Action::SendReceipt(receipt)),
            Verdict::UsedUp => {
                self.report(Notice::UsedUp);
                self.renew();
            }
            Verdict::Refuse(why) => {
                let again = std::mem::replace(&mut self.has_refused, true);
                self.report(if again { Notice::RefusedAgain(why) } else { Notice::Refused(why) });
            }
        }
    }

    pub(super) fn signed(&mut self, now: Duration, signed: &[u8; ReceiptInfo::LEN], signature: &[u8]) {
        let is_alive = self.is_alive();
        let Some(payment) = self.payment.as_mut().filter(|_| is_alive) else { return };
        let before = payment.signed();
        let Some(receipt) = payment.signed_by_wallet(now, signed, signature) else { return };
        let (number, is_used_up) = (payment.signed(), payment.is_used_up());
        self.actions.push_back(Action::SendReceipt(receipt));
        self.report(Notice::Signed(if number == before { 0 } else { number }));
        if is_used_up {
            self.renew();
        }
    }

    pub(super) fn cannot_sign(&mut self, why: String) {
        let is_alive = self.is_alive();
        if let Some(payment) = self.payment.as_mut().filter(|_| is_alive) {
            payment.cannot_sign();
            self.report(Notice::CannotSign(why));
        }
    }

    /// Tells the driver once that the transaction is used up.
    pub(super) fn renew(&mut self) {
        if self.is_alive() && !std::mem::replace(&mut self.is_renewing, true) {
            self.actions.push_back(Action::Renew);
        }
    }
}

/// Returns the kind of an error: whether the same request may succeed later.
fn failure_of(error: &ServiceError) -> fn(String) -> Failure {
    if error.may_pass() { Failure::Busy } else { Failure::Refused }
}

/// Returns the meaning and the code of an error.
pub(super) fn error_text(error: &ServiceError) -> String {
    format!("{} (code {:#x})", wire::error_text(error.code), error.code)
}
