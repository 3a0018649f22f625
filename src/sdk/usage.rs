//! The SDK's record of a session's paid use of the service: receipts, and the fields that the SDK and C read.
//!
//! Everything here works on the channel's worker, and does nothing without a usage.

use std::sync::atomic::AtomicPtr;

use super::channel::Channel;
use super::net::Net;
use super::raw;

pub use super::raw::{OrderTerms, Rest, TransactionTerms};

/// The most bytes that a receipt with the server's signature may have.
pub(super) const RECEIPT_MAX: usize = 64 * 1024;

/// The SDK's record of the session's use of the service.
#[derive(Clone, Debug)]
pub struct Usage {
    /// The number of the usage.
    pub id: u32,
    /// Whether the service may be provided.
    pub is_active: bool,
    /// How the usage is paid.
    pub state: UsageState,
    /// What the payment waits for.
    pub step: Step,
    /// Whether the node's role in the network allows it to serve (master or above).
    pub role_serves: bool,
    /// The network.
    pub net: Option<Net>,
    /// The unit of the price, one of [`vpn_core::wire::unit`]; 0 if there is no price.
    pub unit: u32,
    /// The units of one receipt.
    pub units: u64,
    /// The value of one receipt in datoshi, 256 bits as the SDK stores them.
    pub value: [u8; 32],
    /// The last transaction of the chain of payments, as far as the SDK knows it.
    pub transaction: [u8; 32],
    /// The hash of the key that the client says it has.
    pub client_key: [u8; 32],
}

/// How a usage is paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsageState {
    /// No payment agreed yet.
    Idle,
    /// The first payment is pending.
    Grace,
    /// Paid by receipts.
    Normal,
    /// Payment failed; no service.
    Error,
    /// A free order: nothing is billed.
    Free,
}

/// What the payment of a usage waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The client's signature of the first receipt.
    FirstSign,
    /// The client's signature of the next receipt.
    NextSign,
    /// Nothing.
    Normal,
    /// Another step of the SDK.
    Other,
}

/// A usage that was taken away from its session, to be freed later.
#[derive(Debug)]
pub struct DetachedUsage(AtomicPtr<std::ffi::c_void>);

impl DetachedUsage {
    /// Frees the usage. Called on the worker that detached it, in a later task.
    pub fn free(self) {
        // SAFETY: detach returned this pointer, and self is consumed.
        unsafe { raw::vpn_glue_usage_free(self.0.into_inner()) };
    }
}

impl Channel {
    /// Returns the SDK's record of the usage; `None` before REQUEST was accepted.
    pub fn usage(&self) -> Option<Usage> {
        let ch = self.here()?;
        // SAFETY: plain numbers and a pointer, for which zeros are valid.
        let mut usage: raw::Usage = unsafe { std::mem::zeroed() };
        // SAFETY: open and on its worker; usage is writable.
        if !unsafe { raw::vpn_glue_channel_usage(ch, &mut usage) } {
            return None;
        }
        Some(Usage {
            id: usage.id,
            is_active: usage.is_active,
            state: match usage.state {
                raw::USAGE_IDLE => UsageState::Idle,
                raw::USAGE_GRACE => UsageState::Grace,
                raw::USAGE_NORMAL => UsageState::Normal,
                raw::USAGE_FREE => UsageState::Free,
                _ => UsageState::Error,
            },
            step: match usage.substate {
                raw::SUBSTATE_FIRST_SIGN => Step::FirstSign,
                raw::SUBSTATE_NEXT_SIGN => Step::NextSign,
                raw::SUBSTATE_NORMAL => Step::Normal,
                _ => Step::Other,
            },
            role_serves: usage.role != raw::NO_ROLE && usage.role <= raw::ROLE_MASTER,
            net: Net::from_raw(usage.net),
            unit: usage.unit,
            units: usage.units,
            value: usage.value,
            transaction: usage.transaction,
            client_key: usage.client_key,
        })
    }

    /// Marks the usage active: the service has started.
    pub fn activate_usage(&self) {
        if let Some(ch) = self.here() {
            // SAFETY: open and on its worker.
            unsafe { raw::vpn_glue_channel_usage_activate(ch) };
        }
    }

    /// Stops the timer with which the SDK waits for a signature. Only right after the SDK has started it: once it has
    /// ended, the SDK keeps its stale address.
    pub fn disarm_usage(&self) {
        if let Some(ch) = self.here() {
            // SAFETY: open and on its worker; the caller calls it while the timer runs, as the comment asks.
            unsafe { raw::vpn_glue_usage_disarm(ch) };
        }
    }

    /// Stops that timer if a receipt waits for its signature, and does nothing otherwise.
    pub fn disarm_waiting(&self) {
        if self.usage().is_some_and(|usage| matches!(usage.step, Step::FirstSign | Step::NextSign)) {
            self.disarm_usage();
        }
    }

    /// Sends the receipt that waits for its signature. Returns false if there is none.
    pub fn ask_for_signature(&self) -> bool {
        // SAFETY: open and on its worker.
        self.here().is_some_and(|ch| unsafe { raw::vpn_glue_usage_ask(ch) })
    }

    /// Issues the next receipt, which spends the transaction with this hash and waits for its signature. Returns false if
    /// the SDK could not.
    pub fn issue_next_receipt(&self, transaction: &[u8; 32]) -> bool {
        // SAFETY: open and on its worker; 32 bytes.
        self.here().is_some_and(|ch| unsafe { raw::vpn_glue_usage_issue_next(ch, transaction.as_ptr()) })
    }

    /// Drops the next receipt: no more is paid, or a later one may be issued.
    pub fn drop_next_receipt(&self, may_issue_again: bool) {
        let substate = if may_issue_again { raw::SUBSTATE_NORMAL } else { raw::SUBSTATE_ERROR };
        if let Some(ch) = self.here() {
            // SAFETY: open and on its worker.
            unsafe { raw::vpn_glue_usage_drop_next(ch, substate) };
        }
    }

    /// Replaces the receipt by the next one.
    pub fn switch_receipt(&self) {
        if let Some(ch) = self.here() {
            // SAFETY: open and on its worker.
            unsafe { raw::vpn_glue_usage_switch(ch) };
        }
    }

    /// Returns whether the client that has the key with this hash signed the next or the current receipt.
    pub fn is_receipt_signed_by(&self, next: bool, key: &[u8; 32]) -> bool {
        // SAFETY: open and on its worker; 32 bytes.
        self.here().is_some_and(|ch| unsafe { raw::vpn_glue_usage_is_signed_by(ch, next, key.as_ptr()) })
    }

    /// Returns the receipt that waits for the client's signature; `None` if none waits.
    pub fn waiting_receipt(&self) -> Option<Vec<u8>> {
        let (ch, mut receipt) = (self.here()?, vec![0; RECEIPT_MAX]);
        // SAFETY: open and on its worker; at most the vector's length is written.
        let size = unsafe { raw::vpn_glue_usage_waiting(ch, receipt.as_mut_ptr(), receipt.len()) };
        receipt.truncate(size);
        (!receipt.is_empty()).then_some(receipt)
    }

    /// Takes the usage away from the session: the SDK then neither uses nor frees it.
    pub fn detach_usage(&self) -> Option<DetachedUsage> {
        let ch = self.here()?;
        // SAFETY: open and on its worker.
        let usage = unsafe { raw::vpn_glue_usage_detach(ch) };
        (!usage.is_null()).then(|| DetachedUsage(AtomicPtr::new(usage)))
    }

    /// Shows what is left in the fields that C reads.
    pub fn show_rest(&self, unit: u32, rest: &Rest) {
        if let Some(ch) = self.here() {
            // SAFETY: open and on its worker; rest is read during the call.
            unsafe { raw::vpn_glue_usage_show_rest(ch, unit, rest) };
        }
    }

    /// Shows the client's traffic in the fields of which the SDK makes its statistics. They are named from the client's
    /// end: bytes that it received, and that it sent.
    pub fn show_traffic(&self, received: u64, sent: u64) {
        if let Some(ch) = self.here() {
            // SAFETY: open and on its worker.
            unsafe { raw::vpn_glue_usage_show_traffic(ch, received, sent) };
        }
    }
}
