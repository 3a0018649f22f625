//! What changes a ledger: one operation after the other, each with the evidence that justifies it.
//!
//! An operation's bytes are what the ledger's file keeps. All numbers are little-endian:
//!
//! | bytes | field | |
//! |---|---|---|
//! | 1 | kind | 1 fund, 2 grant, 3 instruction, 4 payment |
//! | 8 | time | seconds since 1970 |
//! | | fund | owner 32, token 10, amount 16, number 8 |
//! | | grant | number 8, owner 32, token 10, value 16, max unit price 16, fee 16, service 8, unit 4 |
//! | | instruction | as a wallet has signed it ([`vpn_core::money`]), with its signature |
//! | | payment | hash 32, spends 32, fees 16, then the receipt with the zeros at the ends of its signatures left out |

use super::{Hash, Transaction};
use vpn_core::money::{TOKEN_MAX, Token};
use vpn_core::wire::{Receipt, ReceiptInfo};

const FUND: u8 = 1;
const GRANT: u8 = 2;
const INSTRUCTION: u8 = 3;
const PAYMENT: u8 = 4;

/// One change of a ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Operation {
    /// Seconds since 1970.
    pub(super) time: u64,
    pub(super) what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// The operator gives an account an amount. The number tells equal ones apart.
    Fund { owner: Hash, token: Token, amount: u128, number: u64 },
    /// The operator opens a conditional transaction for a key, out of nothing. The number tells equal ones apart.
    Grant { terms: Transaction, number: u64 },
    /// A wallet opens or closes a conditional transaction.
    Instruction(Vec<u8>),
    /// A receipt is paid.
    Payment(Payment),
}

/// A payment: a receipt with both signatures, and what it spends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Payment {
    pub(super) hash: Hash,
    pub(super) spends: Hash,
    /// What it takes besides the receipt's value.
    pub(super) fees: u128,
    pub(super) receipt: Vec<u8>,
}

impl Operation {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut head = |kind: u8| {
            out.push(kind);
            out.extend_from_slice(&self.time.to_le_bytes());
        };
        match &self.what {
            What::Fund { owner, token, amount, number } => {
                head(FUND);
                out.extend_from_slice(owner);
                out.extend_from_slice(&padded(token.as_str()));
                out.extend_from_slice(&amount.to_le_bytes());
                out.extend_from_slice(&number.to_le_bytes());
            }
            What::Grant { terms, number } => {
                head(GRANT);
                out.extend_from_slice(&grant(*number, terms));
            }
            What::Instruction(bytes) => {
                head(INSTRUCTION);
                out.extend_from_slice(bytes);
            }
            What::Payment(Payment { hash, spends, fees, receipt }) => {
                head(PAYMENT);
                out.extend_from_slice(hash);
                out.extend_from_slice(spends);
                out.extend_from_slice(&fees.to_le_bytes());
                out.extend_from_slice(&shortened(receipt));
            }
        }
        out
    }

    /// Parses an operation; `None` if the bytes are none.
    pub(super) fn parse(bytes: &[u8]) -> Option<Operation> {
        let mut reader = Reader(bytes);
        let ([kind], time) = (reader.take()?, reader.u64()?);
        let what = match kind {
            FUND => What::Fund {
                owner: reader.take()?,
                token: reader.token()?,
                amount: reader.u128()?,
                number: reader.u64()?,
            },
            GRANT => {
                let number = reader.u64()?;
                let (client_key, token) = (reader.take()?, reader.token()?.to_string());
                let (value, max_unit_price, fee) = (reader.u128()?, reader.u128()?, reader.u128()?);
                let (srv_uid, unit) = (reader.u64()?, u32::from_le_bytes(reader.take()?));
                let terms = Transaction { client_key, unit, value, token, srv_uid, max_unit_price, fee };
                What::Grant { terms, number }
            }
            INSTRUCTION => What::Instruction(std::mem::take(&mut reader.0).to_vec()),
            PAYMENT => {
                let (hash, spends, fees) = (reader.take()?, reader.take()?, reader.u128()?);
                let receipt = lengthened(std::mem::take(&mut reader.0))?;
                What::Payment(Payment { hash, spends, fees, receipt })
            }
            _ => return None,
        };
        reader.0.is_empty().then_some(Operation { time, what })
    }
}

/// The bytes of a grant behind its time, of which its hash is made.
pub(super) fn grant(number: u64, terms: &Transaction) -> Vec<u8> {
    let mut out = number.to_le_bytes().to_vec();
    out.extend_from_slice(&terms.client_key);
    out.extend_from_slice(&padded(&terms.token));
    for amount in [terms.value, terms.max_unit_price, terms.fee] {
        out.extend_from_slice(&amount.to_le_bytes());
    }
    out.extend_from_slice(&terms.srv_uid.to_le_bytes());
    out.extend_from_slice(&terms.unit.to_le_bytes());
    out
}

/// A ticker, which is not longer than that.
fn padded(token: &str) -> [u8; TOKEN_MAX + 1] {
    let mut out = [0; TOKEN_MAX + 1];
    out.iter_mut().zip(token.bytes()).for_each(|(place, byte)| *place = byte);
    out
}

/// Shortens a receipt: its signed part, then for each signature its length, its length without the zeros at its end, and
/// the signature without them. Bytes that are no receipt stay unchanged behind a marker byte; the ledger refuses them.
fn shortened(receipt: &[u8]) -> Vec<u8> {
    let whole = || [&[0], receipt].concat();
    let Ok(parsed) = Receipt::parse(receipt) else { return whole() };
    let mut out = vec![1];
    out.extend_from_slice(parsed.signed);
    for signature in &parsed.signatures {
        let end = signature.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let (Ok(len), Ok(short)) = (u32::try_from(signature.len()), u32::try_from(end)) else { return whole() };
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(&short.to_le_bytes());
        out.extend_from_slice(&signature[..end]);
    }
    // A receipt with extensions, or of another type, would come back differently.
    if lengthened(&out).as_deref() == Some(receipt) { out } else { whole() }
}

/// The most bytes of a receipt that the ledger keeps.
const RECEIPT_MAX: usize = 64 << 10;

fn lengthened(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut reader = Reader(bytes);
    if reader.take()? == [0] {
        return Some(reader.0.to_vec());
    }
    let info = ReceiptInfo::parse(&reader.take()?).ok()?;
    let mut receipt = Receipt::unsigned(&info);
    while !reader.0.is_empty() {
        let (len, short) = (reader.length()?, reader.length()?);
        let (signature, rest) = reader.0.split_at_checked(short)?;
        reader.0 = rest;
        if short > len || receipt.len() + len > RECEIPT_MAX {
            return None;
        }
        let mut signature = signature.to_vec();
        signature.resize(len, 0);
        receipt = Receipt::append_signature(&receipt, &signature);
    }
    Some(receipt)
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*field)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn u128(&mut self) -> Option<u128> {
        self.take().map(u128::from_le_bytes)
    }

    fn length(&mut self) -> Option<usize> {
        usize::try_from(u32::from_le_bytes(self.take()?)).ok()
    }

    fn token(&mut self) -> Option<Token> {
        let bytes: [u8; TOKEN_MAX + 1] = self.take()?;
        let end = bytes.iter().position(|byte| *byte == 0)?;
        let token = Token::new(str::from_utf8(&bytes[..end]).ok()?).ok()?;
        (padded(token.as_str()) == bytes).then_some(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::receipt::Key;
    use proptest::prelude::*;

    fn comes_back(what: What) -> usize {
        let operation = Operation { time: 5, what };
        let bytes = operation.encode();
        assert_eq!(Operation::parse(&bytes).as_ref(), Some(&operation));
        for len in 0..bytes.len() {
            assert_ne!(Operation::parse(&bytes[..len]).as_ref(), Some(&operation), "cut to {len}");
        }
        bytes.len()
    }

    fn token() -> Token {
        Token::new("CELL").unwrap()
    }

    #[test]
    fn operations_come_back() {
        assert_eq!(comes_back(What::Fund { owner: [1; 32], token: token(), amount: u128::MAX, number: 2 }), 75);
        let terms = Transaction { client_key: [2; 32], value: 3, max_unit_price: 4, fee: 5, ..Transaction::default() };
        comes_back(What::Grant { terms, number: 6 });
        comes_back(What::Instruction(b"signed".to_vec()));
        let payment = |receipt| What::Payment(Payment { hash: [1; 32], spends: [2; 32], fees: 3, receipt });
        let info = ReceiptInfo { srv_uid: 1, units_type: 2, version: 2, units: 20, ..ReceiptInfo::default() };
        let issued = Key::generate().unwrap().issue(&info).unwrap();
        let signed = Key::generate_wallet().unwrap().add_to(&issued).unwrap();
        assert!(comes_back(payment(signed.clone())) < 500, "the padding is not kept");
        // What a receipt cannot be without loss stays as it is.
        for strange in [vec![], b"no receipt".to_vec(), [&[0x70], &signed[1..]].concat()] {
            comes_back(payment(strange));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_operation_or_nothing(kind in 0..6_u8, rest: Vec<u8>) {
            let bytes = [&[kind], rest.as_slice()].concat();
            if let Some(operation) = Operation::parse(&bytes) {
                prop_assert_eq!(Operation::parse(&operation.encode()), Some(operation));
            }
        }
    }
}
