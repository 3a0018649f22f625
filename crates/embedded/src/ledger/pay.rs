//! Payments by receipts: what the mempool takes, and what the ledger then accepts.

use super::{Entry, Hash, Ledger, Pending, Transaction, add, hash_of, with};
use crate::net::NetRef;
use crate::receipt;
use std::sync::atomic::{AtomicBool, Ordering};
use vpn_core::wire::Receipt;

/// Why no payment was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PayError {
    /// The chain's last transaction does not hold the value and the fees.
    #[error("the transaction does not hold enough")]
    NotEnough,
    /// The transaction is spent, of another token, or not the one in the receipt.
    #[error("the payment cannot be made")]
    Impossible,
}

/// A payment that the ledger has refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The payment.
    pub payment: Hash,
    /// The reason.
    pub reason: &'static str,
}

/// A payment in the mempool.
pub(super) struct Payment {
    spends: Hash,
    receipt: Vec<u8>,
}

/// The mempools store nothing.
static STORE_FAILS: AtomicBool = AtomicBool::new(false);

/// Sets whether the mempools of all networks can store no payment, as with a full disk. The SDK then reports success, and
/// as the payment's hash the one of the transaction that was to be spent.
pub fn fail_to_store(fails: bool) {
    STORE_FAILS.store(fails, Ordering::Relaxed);
}

/// Makes a payment with a receipt out of the chain of payments that `hash` is in, and returns the payment's hash. As the
/// SDK's mempool, it looks at the amount, and neither at the client's signature nor at the mempool's other payments.
pub fn pay(net: NetRef, hash: &Hash, receipt: &[u8]) -> Result<Hash, PayError> {
    let info = Receipt::parse(receipt).map_err(|_| PayError::Impossible)?.info;
    let value = value_of(&info.value).ok_or(PayError::NotEnough)?;
    let spends = with(net.id(), |ledger| {
        let Some(last) = ledger.last(hash) else {
            // The SDK takes a chain whose payments have used it up for one that holds too little.
            let is_payment = ledger.entries.get(hash).is_some_and(|entry| entry.is_payment);
            return Err(if is_payment { PayError::NotEnough } else { PayError::Impossible });
        };
        let output = ledger.entries.get(&last).and_then(|entry| entry.output.as_ref()).ok_or(PayError::Impossible)?;
        if output.token != net.native_ticker() || info.prev_tx != last {
            return Err(PayError::Impossible);
        }
        let needed = ledger.needed(output, value).ok_or(PayError::NotEnough)?;
        if output.value < needed { Err(PayError::NotEnough) } else { Ok(last) }
    })?;
    if STORE_FAILS.load(Ordering::Relaxed) {
        return Ok(spends);
    }
    let payment = hash_of(&[&spends, receipt]);
    add(net.id(), Pending::Payment(payment, Payment { spends, receipt: receipt.to_vec() }));
    Ok(payment)
}

impl Ledger {
    pub(super) fn accept_payment(&mut self, hash: Hash, payment: &Payment) -> Option<Hash> {
        match self.checked(payment) {
            Ok((value, output, first)) => {
                if let Some(spent) = self.entries.get_mut(&payment.spends) {
                    spent.spent_by = Some(hash);
                }
                self.entries.insert(hash, Entry { output, first, is_payment: true, spent_by: None });
                self.earned = self.earned.saturating_add(value);
                Some(hash)
            }
            Err(reason) => {
                host::log_bounded!(Warn, "the ledger refuses a payment: {reason}");
                self.refused.push(Refusal { payment: hash, reason });
                None
            }
        }
    }

    /// What a payment brings, what it leaves, and the first transaction of its chain.
    fn checked(&self, payment: &Payment) -> Result<(u128, Option<Transaction>, Hash), &'static str> {
        let spent = self.entries.get(&payment.spends).ok_or("it spends what the ledger does not have")?;
        if spent.spent_by.is_some() {
            return Err("it spends what is spent already");
        }
        let output = spent.output.as_ref().ok_or("it spends a transaction that holds nothing")?;
        let receipt = Receipt::parse(&payment.receipt).map_err(|_| "its receipt is malformed")?;
        let [provider, client] = *receipt.signatures else { return Err("its receipt has not two signatures") };
        if !receipt::verify(provider, receipt.signed) || !receipt::verify(client, receipt.signed) {
            return Err("a signature of its receipt is wrong");
        }
        if receipt::key_hash(client) != Some(output.client_key) {
            return Err("its receipt is signed by another client");
        }
        let value = value_of(&receipt.info.value).ok_or("its receipt's value is too large")?;
        let needed = self.needed(output, value).ok_or("its receipt's value is too large")?;
        let left = output.value.checked_sub(needed).ok_or("it spends more than there is")?;
        let output = (left > 0).then(|| Transaction { value: left, ..output.clone() });
        Ok((value, output, spent.first))
    }
}

/// A value of 256 bits as a number; `None` if it is larger.
pub(crate) fn value_of(value: &[u8; 32]) -> Option<u128> {
    let (low, high) = value.split_first_chunk::<16>()?;
    high.iter().all(|byte| *byte == 0).then(|| u128::from_le_bytes(*low))
}

/// A value as a number of 256 bits.
pub(crate) fn value_bytes(value: u128) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..16].copy_from_slice(&value.to_le_bytes());
    bytes
}
