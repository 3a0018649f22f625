//! Entries added up.

use super::entry::{Entry, EntryError, Fields};
use crate::meter::Unit;

/// Entries added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// The entries.
    pub sessions: u64,
    /// The receipts that clients were asked to sign.
    pub asked: u64,
    /// The receipts that they signed.
    pub signed: u64,
    /// Those whose payments are in the ledger.
    pub settled: u64,
    /// The value of the signed ones, in datoshi; the largest number also stands for more.
    pub signed_value: u128,
    /// The value of those in the ledger.
    pub settled_value: u128,
    /// The bytes that the signed receipts sold.
    pub bought_bytes: u64,
    /// The seconds that they sold.
    pub bought_seconds: u64,
    /// The bytes that are charged.
    pub charged_bytes: u64,
    /// The seconds that are charged.
    pub charged_seconds: u64,
    /// The bytes of inner packets from clients.
    pub up: u64,
    /// The bytes of inner packets to clients.
    pub down: u64,
}

/// The number of a value as the SDK stores it; the largest number for more than it can hold.
fn value_of(value: &[u8; 32]) -> u128 {
    match value.split_last_chunk() {
        Some((high, low)) if high.iter().all(|byte| *byte == 0) => u128::from_le_bytes(*low),
        _ => u128::MAX,
    }
}

impl Sums {
    /// Adds an entry.
    pub fn add(&mut self, entry: &Entry) {
        let price = value_of(&entry.price);
        let worth = |receipts: u32| price.saturating_mul(receipts.into());
        let mut sums = Sums {
            sessions: 1,
            asked: entry.asked.into(),
            signed: entry.signed.into(),
            settled: entry.settled.into(),
            signed_value: worth(entry.signed),
            settled_value: worth(entry.settled),
            up: entry.up,
            down: entry.down,
            ..Sums::default()
        };
        match entry.unit {
            Some(Unit::Bytes) => (sums.bought_bytes, sums.charged_bytes) = (entry.bought(), entry.charged()),
            Some(Unit::Seconds) => (sums.bought_seconds, sums.charged_seconds) = (entry.bought(), entry.charged()),
            None => {}
        }
        self.add_sums(&sums);
    }

    /// Adds other sums.
    pub fn add_sums(&mut self, other: &Sums) {
        self.counts_mut().into_iter().zip(other.counts()).for_each(|(sum, more)| *sum = sum.saturating_add(more));
        self.signed_value = self.signed_value.saturating_add(other.signed_value);
        self.settled_value = self.settled_value.saturating_add(other.settled_value);
    }

    fn counts_mut(&mut self) -> [&mut u64; 10] {
        [
            &mut self.sessions,
            &mut self.asked,
            &mut self.signed,
            &mut self.settled,
            &mut self.bought_bytes,
            &mut self.bought_seconds,
            &mut self.charged_bytes,
            &mut self.charged_seconds,
            &mut self.up,
            &mut self.down,
        ]
    }

    fn counts(mut self) -> [u64; 10] {
        self.counts_mut().map(|count| *count)
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        self.counts().iter().for_each(|count| out.extend(count.to_le_bytes()));
        [self.signed_value, self.settled_value].iter().for_each(|value| out.extend(value.to_le_bytes()));
    }

    pub(super) fn decode(fields: &mut Fields<'_>) -> Result<Sums, EntryError> {
        let mut sums = Sums::default();
        for count in sums.counts_mut() {
            *count = fields.number()?;
        }
        for value in [&mut sums.signed_value, &mut sums.settled_value] {
            *value = u128::from_le_bytes(fields.take()?);
        }
        Ok(sums)
    }
}
