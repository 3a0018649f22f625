//! Payments by receipts: what the mempool takes, and what the ledger then accepts.

use super::book::now;
use super::operation::{Operation, Payment, What};
use super::{Hash, add, book, hash_of, tell};
use crate::net::NetRef;
use std::sync::atomic::{AtomicBool, Ordering};
use vpn_core::wire::Receipt;

/// Why no payment was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PayError {
    /// The chain's last transaction does not hold the value and the fees.
    #[error("the transaction does not hold enough")]
    NotEnough,
    /// The transaction is spent, of another token, or not the one in the receipt; or the ledger cannot be written.
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

/// The mempools store nothing.
static STORE_FAILS: AtomicBool = AtomicBool::new(false);

/// Sets whether the mempools of all networks can store no payment, as with a full disk. The SDK then reports success, and
/// as the payment's hash the one of the transaction that was to be spent.
pub fn fail_to_store(fails: bool) {
    STORE_FAILS.store(fails, Ordering::Relaxed);
}

/// Makes a payment with a receipt out of the chain of payments that `hash` is in, and returns the payment's hash. As the
/// SDK's mempool, that of a ledger in memory looks at the amount, and neither at the client's signature nor at its other
/// payments. A ledger with a file has taken the payment on return: it is on the disk.
pub fn pay(net: NetRef, hash: &Hash, receipt: &[u8]) -> Result<Hash, PayError> {
    let info = Receipt::parse(receipt).map_err(|_| PayError::Impossible)?.info;
    let value = value_of(&info.value).ok_or(PayError::NotEnough)?;
    let book = book(net.id());
    let (spends, fees, by_hand) = book.with(|inner| {
        let Some(last) = inner.state.last(hash) else {
            // The SDK takes a chain whose payments have used it up for one that holds too little.
            let is_payment = inner.state.means(hash).is_some_and(|means| means.is_payment);
            return Err(if is_payment { PayError::NotEnough } else { PayError::Impossible });
        };
        let output = inner.state.means(&last).and_then(|means| means.output).ok_or(PayError::Impossible)?;
        if output.token != net.native_ticker() || info.prev_tx != last {
            return Err(PayError::Impossible);
        }
        let needed = inner.needed(&output, value).ok_or(PayError::NotEnough)?;
        if output.value < needed { Err(PayError::NotEnough) } else { Ok((last, needed - value, inner.by_hand)) }
    })?;
    if STORE_FAILS.load(Ordering::Relaxed) {
        return Ok(spends);
    }
    let payment = hash_of(&[&spends, receipt]);
    let what = What::Payment(Payment { hash: payment, spends, fees, receipt: receipt.to_vec() });
    let operation = Operation { time: now(), what };
    if by_hand || !book.is_durable() {
        add(net.id(), operation);
        return Ok(payment);
    }
    let paid = book.execute(&operation).map_err(|error| {
        book.refuse(&operation, &error);
        PayError::Impossible
    });
    paid.inspect(|payment| tell(net.id(), &[*payment]))
}

/// A value as the SDK lays out 256 bits: two little-endian halves of 128 bits, the upper one first. `None` if it is
/// larger than 128 bits.
pub(crate) fn value_of(value: &[u8; 32]) -> Option<u128> {
    let (high, low) = value.split_last_chunk::<16>()?;
    high.iter().all(|byte| *byte == 0).then(|| u128::from_le_bytes(*low))
}

/// Lays a value out as the SDK does.
pub(crate) fn value_bytes(value: u128) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[16..].copy_from_slice(&value.to_le_bytes());
    bytes
}
