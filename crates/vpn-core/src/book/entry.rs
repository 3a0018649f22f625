//! What one session bought and used.

use crate::meter::{Client, PaymentId, Unit};

/// The receipts of one entry that are kept one by one: the last ones. All are counted.
pub const RECEIPTS_KEPT: usize = 16;
/// The most bytes of a reason.
const WHY_MAX: usize = 200;
/// The layout of a stored entry.
const VERSION: u8 = 1;

/// How a service is paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The order is free.
    Free,
    /// The client's transaction is not in the ledger yet, and nothing was paid.
    Grace,
    /// The client has paid a receipt, or used what it had left of earlier ones.
    Paid,
}

/// What has become of a receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ledger {
    /// The client has not signed it.
    Unsigned,
    /// It is signed and paid, and the ledger does not have the payment.
    Waiting,
    /// The ledger has the payment.
    Settled,
}

/// One receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// When it was signed, or asked for; seconds since 1970.
    pub at: u64,
    /// The hash of the payment that it was made into; zeros without one.
    pub payment: PaymentId,
    /// What has become of it.
    pub ledger: Ledger,
}

/// What one session bought and used, in units of its order: whole bytes or seconds.
///
/// What is charged is not kept but follows: [`Entry::charged`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The client and its network. Of a service that is not paid, nothing has proved the key.
    pub client: Client,
    /// The order's hash; zeros if it is not known.
    pub order: [u8; 32],
    /// How it is paid.
    pub kind: Kind,
    /// The unit of the order; `None` if it is free.
    pub unit: Option<Unit>,
    /// The units of one receipt.
    pub units: u64,
    /// The value of one receipt when the session began, in datoshi, as the SDK stores 256 bits: the higher half first,
    /// each half little-endian.
    pub price: [u8; 32],
    /// When the service began, in seconds since 1970.
    pub begun: u64,
    /// When the service ended, or as of when the numbers of a running one are.
    pub updated: u64,
    /// Why it ended; `None` while it runs.
    pub end: Option<String>,
    /// The bytes of inner packets from the client.
    pub up: u64,
    /// The bytes of inner packets to the client.
    pub down: u64,
    /// What the client had left of earlier payments when the session began.
    pub brought: u64,
    /// What the client has left of these and of the session's payments, in the ledger or not.
    pub left: u64,
    /// All that the store has for the client in this unit, as of `left`: also payments of earlier sessions.
    pub stored: i64,
    /// The receipts that the client was asked to sign.
    pub asked: u32,
    /// Those that it signed, and that were made into payments.
    pub signed: u32,
    /// Those whose payments the ledger has.
    pub settled: u32,
    /// The last [`RECEIPTS_KEPT`] of them.
    pub receipts: Vec<Receipt>,
}

/// A stored entry that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// It ends too early.
    #[error("it ends after {0} bytes, within a field")]
    Short(usize),
    /// It has bytes behind its end.
    #[error("it has {0} bytes behind its last field")]
    Long(usize),
    /// A field has a value that no version has written.
    #[error("its field {0} has a value that this version does not know")]
    Unknown(&'static str),
}

impl Entry {
    /// Creates the entry of a service that begins, and of which nothing is paid.
    pub fn new(client: Client, order: [u8; 32], kind: Kind, now: u64) -> Entry {
        Entry {
            client,
            order,
            kind,
            unit: None,
            units: 0,
            price: [0; 32],
            begun: now,
            updated: now,
            end: None,
            up: 0,
            down: 0,
            brought: 0,
            left: 0,
            stored: 0,
            asked: 0,
            signed: 0,
            settled: 0,
            receipts: Vec::new(),
        }
    }

    /// The units of all signed receipts.
    pub fn bought(&self) -> u64 {
        u64::from(self.signed).saturating_mul(self.units)
    }

    /// The units that are used of what the client brought and bought.
    pub fn charged(&self) -> u64 {
        self.brought.saturating_add(self.bought()).saturating_sub(self.left)
    }

    /// Notes that the client was asked to sign a receipt.
    pub fn ask(&mut self, now: u64) {
        self.asked = self.asked.saturating_add(1);
        self.keep(Receipt { at: now, payment: [0; 32], ledger: Ledger::Unsigned });
    }

    /// Notes a signed receipt, the one that was asked for last or the first one, and its payment. The client has its
    /// units.
    pub fn sign(&mut self, now: u64, payment: PaymentId) {
        self.kind = Kind::Paid;
        match self.receipts.last() {
            Some(Receipt { ledger: Ledger::Unsigned, .. }) => drop(self.receipts.pop()),
            _ => self.asked = self.asked.saturating_add(1),
        }
        self.signed = self.signed.saturating_add(1);
        self.left = self.left.saturating_add(self.units);
        self.stored = self.stored.saturating_add_unsigned(self.units);
        self.keep(Receipt { at: now, payment, ledger: Ledger::Waiting });
    }

    /// Notes that the ledger has a payment. Returns false if it is none of this entry that waits.
    pub fn settle(&mut self, payment: &PaymentId) -> bool {
        let waits = |receipt: &&mut Receipt| receipt.payment == *payment && receipt.ledger == Ledger::Waiting;
        let Some(receipt) = self.receipts.iter_mut().find(waits) else { return false };
        receipt.ledger = Ledger::Settled;
        self.settled = self.settled.saturating_add(1);
        true
    }

    /// Returns the payments that the ledger did not have when it was last asked.
    pub fn waiting(&self) -> impl Iterator<Item = PaymentId> + '_ {
        self.receipts.iter().filter(|receipt| receipt.ledger == Ledger::Waiting).map(|receipt| receipt.payment)
    }

    /// Gives the client `more` units than the entry says, or fewer. Returns how many of them it must have brought.
    pub(super) fn correct(&mut self, more: i128) -> i128 {
        let left = u64::try_from((i128::from(self.left) + more).max(0)).unwrap_or(u64::MAX);
        let brought = left.saturating_sub(self.bought()).max(self.brought) - self.brought;
        (self.left, self.brought) = (left, self.brought + brought);
        brought.into()
    }

    /// Ends the service. The first reason counts.
    pub fn close(&mut self, now: u64, why: &str) {
        if self.end.is_none() {
            self.end = Some(why.to_owned());
            self.updated = now;
        }
    }

    fn keep(&mut self, receipt: Receipt) {
        if self.receipts.len() >= RECEIPTS_KEPT {
            self.receipts.remove(0);
        }
        self.receipts.push(receipt);
    }

    /// Returns the entry as it is stored.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION, self.kind as u8, self.unit.map_or(0, Unit::to_wire) as u8];
        out.extend(self.client.key);
        out.extend(self.order);
        out.extend(self.price);
        let numbers = [
            self.client.net,
            self.units,
            self.begun,
            self.updated,
            self.up,
            self.down,
            self.brought,
            self.left,
            self.stored.cast_unsigned(),
        ];
        numbers.iter().for_each(|number| out.extend(number.to_le_bytes()));
        [self.asked, self.signed, self.settled].iter().for_each(|number| out.extend(number.to_le_bytes()));
        let why = self.end.as_deref().map(|why| &why.as_bytes()[..why.floor_char_boundary(WHY_MAX)]);
        out.push(why.map_or(u8::MAX, |why| why.len() as u8));
        out.extend(why.unwrap_or_default());
        out.push(self.receipts.len() as u8);
        for receipt in &self.receipts {
            out.push(receipt.ledger as u8);
            out.extend(receipt.at.to_le_bytes());
            out.extend(receipt.payment);
        }
        out
    }

    /// Reads a stored entry.
    pub fn decode(bytes: &[u8]) -> Result<Entry, EntryError> {
        let mut fields = Fields { bytes, read: 0 };
        let [version, kind, unit] = fields.take()?;
        if version != VERSION {
            return Err(EntryError::Unknown("version"));
        }
        let kind = [Kind::Free, Kind::Grace, Kind::Paid].into_iter().find(|known| *known as u8 == kind);
        let kind = kind.ok_or(EntryError::Unknown("kind"))?;
        let unit = match unit {
            0 => None,
            unit => Some(Unit::from_wire(unit.into()).ok_or(EntryError::Unknown("unit"))?),
        };
        let [key, order, price] = [fields.take()?, fields.take()?, fields.take()?];
        let [net, units, begun, updated] = [fields.number()?, fields.number()?, fields.number()?, fields.number()?];
        let [up, down, brought, left] = [fields.number()?, fields.number()?, fields.number()?, fields.number()?];
        let stored = fields.number()?.cast_signed();
        let mut count = || fields.take().map(u32::from_le_bytes);
        let [asked, signed, settled] = [count()?, count()?, count()?];
        let end = match fields.take()? {
            [u8::MAX] => None,
            [length] => {
                let why = fields.slice(length.into())?;
                Some(std::str::from_utf8(why).map_err(|_| EntryError::Unknown("end"))?.to_owned())
            }
        };
        let [kept] = fields.take()?;
        if usize::from(kept) > RECEIPTS_KEPT {
            return Err(EntryError::Unknown("receipts"));
        }
        let mut receipts = Vec::with_capacity(kept.into());
        for _ in 0..kept {
            let [state] = fields.take()?;
            let states = [Ledger::Unsigned, Ledger::Waiting, Ledger::Settled];
            let ledger = states.into_iter().find(|known| *known as u8 == state);
            let ledger = ledger.ok_or(EntryError::Unknown("receipt"))?;
            receipts.push(Receipt { at: fields.number()?, payment: fields.take()?, ledger });
        }
        fields.end()?;
        Ok(Entry {
            client: Client { key, net },
            order,
            kind,
            unit,
            units,
            price,
            begun,
            updated,
            end,
            up,
            down,
            brought,
            left,
            stored,
            asked,
            signed,
            settled,
            receipts,
        })
    }
}

/// The fields of something stored, in their order.
pub(super) struct Fields<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) read: usize,
}

impl<'a> Fields<'a> {
    pub(super) fn slice(&mut self, length: usize) -> Result<&'a [u8], EntryError> {
        let (field, rest) =
            self.bytes.split_at_checked(length).ok_or(EntryError::Short(self.read + self.bytes.len()))?;
        (self.bytes, self.read) = (rest, self.read + length);
        Ok(field)
    }

    pub(super) fn take<const N: usize>(&mut self) -> Result<[u8; N], EntryError> {
        let (field, rest) = self.bytes.split_first_chunk().ok_or(EntryError::Short(self.read + self.bytes.len()))?;
        (self.bytes, self.read) = (rest, self.read + N);
        Ok(*field)
    }

    pub(super) fn number(&mut self) -> Result<u64, EntryError> {
        self.take().map(u64::from_le_bytes)
    }

    pub(super) fn end(&self) -> Result<(), EntryError> {
        if self.bytes.is_empty() { Ok(()) } else { Err(EntryError::Long(self.bytes.len())) }
    }
}
