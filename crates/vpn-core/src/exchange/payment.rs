//! The client's side of payment: which receipts it signs.
//!
//! A receipt is signed if it sells what the order sells, for no more than the order's price, out of the transaction
//! that is next in the chain of payments. The first receipt of a connection spends REQUEST's transaction. A later one
//! spends the payment that the server has made from the receipt before; only the ledger knows that payment's hash, so
//! the driver asks the ledger and the receipt waits until the ledger has it.
//!
//! A repeated receipt gets the same answer: a receipt names the transaction that it spends, so the same bytes can be
//! paid only once.

use std::time::Duration;

use crate::wire::{HashText, Receipt, ReceiptInfo, WireError, unit};

/// The hash of a transaction.
pub type TxHash = [u8; 32];

/// How often the ledger is asked for a payment that it does not have yet, and the shortest interval between two answers
/// to the same receipt.
const PERIOD: Duration = Duration::from_secs(1);
/// The most proofs of the wallet's key that a connection gives.
const PROOFS_MAX: u32 = 4;

/// What the client has agreed to pay: the terms of the order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// One of [`unit`](crate::wire::unit).
    pub unit: u32,
    /// The units that a receipt sells.
    pub units: u64,
    /// The most that a receipt costs, in datoshi.
    pub value: u64,
    /// The number of receipts that REQUEST's transaction can pay.
    pub receipts: u64,
}

/// Why a receipt is not signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It cannot be parsed.
    #[error("malformed receipt: {0}")]
    Malformed(WireError),
    /// A field differs from the agreement.
    #[error("the receipt's {field} is {got}, expected {expected}")]
    Differs {
        /// The field.
        field: &'static str,
        /// Its value.
        got: String,
        /// The expected value.
        expected: String,
    },
}

/// What follows from a receipt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing: it is being handled, or was answered a moment ago.
    Nothing,
    /// Ask the ledger which transaction is the last of the chain of payments.
    AskLedger,
    /// Sign these bytes.
    Sign([u8; ReceiptInfo::LEN]),
    /// Send this signed receipt again.
    Repeat(Vec<u8>),
    /// The transaction cannot pay it.
    UsedUp,
    /// Do not sign it.
    Refuse(Refusal),
}

/// A receipt that is not answered yet.
#[derive(Debug)]
struct Pending {
    message: Vec<u8>,
    signed: [u8; ReceiptInfo::LEN],
    prev_tx: TxHash,
    is_proof: bool,
    /// The signature was requested.
    is_signing: bool,
    /// When the ledger was last asked.
    asked: Duration,
}

/// The payments of one connection.
#[derive(Debug)]
pub(super) struct Payment {
    service: u64,
    agreement: Agreement,
    /// The transaction of REQUEST.
    first: TxHash,
    /// The transaction that the last signed receipt spends.
    spent: Option<TxHash>,
    /// The number of signed receipts, without proofs.
    signed: u64,
    /// The number of requested proofs.
    proofs: u32,
    pending: Option<Pending>,
    /// The last answer, and when it was sent.
    answer: Option<([u8; ReceiptInfo::LEN], Vec<u8>, Duration)>,
}

impl Payment {
    /// Begins with `first`, the transaction that REQUEST names.
    pub(super) fn new(service: u64, agreement: Agreement, first: TxHash) -> Payment {
        Payment { service, agreement, first, spent: None, signed: 0, proofs: 0, pending: None, answer: None }
    }

    /// Returns the number of signed receipts.
    pub(super) fn signed(&self) -> u64 {
        self.signed
    }

    /// Returns the terms.
    pub(super) fn agreement(&self) -> &Agreement {
        &self.agreement
    }

    /// Returns whether the transaction cannot pay another receipt.
    pub(super) fn is_used_up(&self) -> bool {
        self.signed >= self.agreement.receipts
    }

    /// Handles a SIGN_REQUEST. `served` is how long the service has been granted.
    pub(super) fn requested(&mut self, now: Duration, served: Duration, message: &[u8]) -> Verdict {
        let receipt = match Receipt::parse(message) {
            Ok(receipt) => receipt,
            Err(error) => return Verdict::Refuse(Refusal::Malformed(error)),
        };
        if let Some((signed, answer, sent)) = &mut self.answer
            && signed == receipt.signed
        {
            if now.saturating_sub(*sent) < PERIOD {
                return Verdict::Nothing;
            }
            *sent = now;
            return Verdict::Repeat(answer.clone());
        }
        // One signature at a time: a peer must not queue them.
        if self.pending.as_ref().is_some_and(|pending| pending.is_signing || pending.signed == *receipt.signed) {
            return Verdict::Nothing;
        }
        let is_proof = receipt.info.units == 0 && receipt.info.datoshi() == Some(0);
        let checked = if is_proof { self.check_proof(&receipt) } else { self.check(&receipt) };
        if let Err(refusal) = checked {
            return Verdict::Refuse(refusal);
        }
        if !is_proof && self.is_used_up() {
            return Verdict::UsedUp;
        }
        let is_signing = is_proof || self.spent.is_none();
        self.proofs += u32::from(is_proof);
        let asked = self.pending.as_ref().map(|pending| pending.asked);
        self.pending = Some(Pending {
            message: message.to_vec(),
            signed: *receipt.signed,
            prev_tx: receipt.info.prev_tx,
            is_proof,
            is_signing,
            asked: asked.unwrap_or(now),
        });
        match (is_signing, asked) {
            (true, _) => Verdict::Sign(*receipt.signed),
            // The ledger is asked at the next tick.
            (false, Some(_)) => Verdict::Nothing,
            (false, None) if self.is_early(served) => Verdict::Nothing,
            (false, None) => Verdict::AskLedger,
        }
    }

    fn check(&self, receipt: &Receipt<'_>) -> Result<(), Refusal> {
        let (info, agreed) = (&receipt.info, &self.agreement);
        differs("number of signatures", receipt.signatures.len() == 1, receipt.signatures.len(), 1)?;
        differs("service", info.srv_uid == self.service, info.srv_uid, self.service)?;
        differs("unit", info.units_type == agreed.unit, info.units_type, agreed.unit)?;
        differs("number of units", info.units == agreed.units, info.units, agreed.units)?;
        let got = info.datoshi().map_or("above 64 bits".to_owned(), |value| value.to_string());
        let is_agreed = info.datoshi().is_some_and(|value| value <= agreed.value);
        differs("value in datoshi", is_agreed, got, format!("at most {}", agreed.value))?;
        match self.spent {
            None => differs("transaction", info.prev_tx == self.first, HashText(&info.prev_tx), HashText(&self.first)),
            // Its units were paid already.
            Some(spent) => {
                differs("transaction", info.prev_tx != spent, HashText(&info.prev_tx), "the payment from it")
            }
        }
    }

    /// Checks a receipt of value 0 and units 0, by which a server asks for a proof that the client has the wallet's
    /// key before it gives the rest of earlier units. `prev_tx` is a nonce, and must not be a transaction of the chain:
    /// a payment of value 0 would still cost the fees. So a proof is signed only before the first receipt, when the
    /// only transaction that can be spent is REQUEST's: a later payment's hash depends on a signature that does not
    /// exist yet. The server's signature may be missing, for the proof gives nothing away.
    fn check_proof(&self, receipt: &Receipt<'_>) -> Result<(), Refusal> {
        let info = &receipt.info;
        differs("number of signatures", receipt.signatures.len() <= 1, receipt.signatures.len(), 1)?;
        differs("service", info.srv_uid == self.service, info.srv_uid, self.service)?;
        differs("value in datoshi", self.spent.is_none(), 0, format!("{} after a payment", self.agreement.value))?;
        differs("number of proofs", self.proofs < PROOFS_MAX, self.proofs + 1, format!("at most {PROOFS_MAX}"))?;
        differs("nonce", info.prev_tx != self.first, "REQUEST's transaction", "a random number")
    }

    /// Returns whether a receipt comes too early: the receipts before it have more than one receipt's time left. An
    /// honest server asks when half of the last one is left. Of bytes the two ends have different counts, so there the
    /// value of the transaction alone limits what a server can take.
    fn is_early(&self, served: Duration) -> bool {
        self.agreement.unit == unit::SECONDS && served.as_secs() < (self.signed - 1) * self.agreement.units
    }

    /// Asks the ledger again for the payment that a receipt waits for.
    pub(super) fn tick(&mut self, now: Duration, served: Duration) -> Verdict {
        if self.signed > 0 && self.is_early(served) {
            return Verdict::Nothing;
        }
        match &mut self.pending {
            Some(pending) if !pending.is_signing && now.saturating_sub(pending.asked) >= PERIOD => {
                pending.asked = now;
                Verdict::AskLedger
            }
            _ => Verdict::Nothing,
        }
    }

    /// Handles the ledger's answer: the last transaction of the chain of payments.
    pub(super) fn ledger_says(&mut self, last: &TxHash) -> Verdict {
        match &mut self.pending {
            Some(pending) if !pending.is_signing && pending.prev_tx == *last => {
                pending.is_signing = true;
                Verdict::Sign(pending.signed)
            }
            _ => Verdict::Nothing,
        }
    }

    /// Handles the signature over `signed`; returns the signed receipt to send, if a receipt waits for it.
    pub(super) fn signed_by_wallet(
        &mut self,
        now: Duration,
        signed: &[u8; ReceiptInfo::LEN],
        signature: &[u8],
    ) -> Option<Vec<u8>> {
        let pending = self.pending.take_if(|pending| pending.signed == *signed)?;
        if !pending.is_proof {
            self.spent = Some(pending.prev_tx);
            self.signed += 1;
        }
        let answer = Receipt::append_signature(&pending.message, signature);
        self.answer = Some((pending.signed, answer.clone(), now));
        Some(answer)
    }

    /// Forgets the receipt that cannot be signed; a repetition is tried anew.
    pub(super) fn cannot_sign(&mut self) {
        self.pending = None;
    }
}

fn differs(field: &'static str, is_equal: bool, got: impl ToString, expected: impl ToString) -> Result<(), Refusal> {
    if is_equal {
        return Ok(());
    }
    Err(Refusal::Differs { field, got: got.to_string(), expected: expected.to_string() })
}

#[cfg(test)]
pub(super) mod tests;
