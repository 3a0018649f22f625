//! The words between a driver and a [`Meter`](super::Meter).

use super::Holding;
use std::time::Duration;

/// What a receipt sells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unit {
    /// Bytes of inner packets, both ways together.
    Bytes,
    /// Seconds, with or without packets.
    Seconds,
}

impl Unit {
    /// Returns the unit with this number in orders and receipts; `None` for a unit that this service does not sell.
    pub fn from_wire(number: u32) -> Option<Unit> {
        match number {
            0x11 => Some(Unit::Bytes),
            0x2 => Some(Unit::Seconds),
            _ => None,
        }
    }

    /// Returns the unit's number in orders and receipts.
    pub fn to_wire(self) -> u32 {
        match self {
            Unit::Bytes => 0x11,
            Unit::Seconds => 0x2,
        }
    }

    /// Returns the steps in which a meter and its books count one unit: a byte is one step, a second 10^9.
    pub const fn steps(self) -> u128 {
        match self {
            Unit::Bytes => 1,
            Unit::Seconds => 1_000_000_000,
        }
    }
}

/// What a session sells, and by which rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The unit of the order.
    pub unit: Unit,
    /// The units of one receipt.
    pub units: u64,
    /// How long a payment may take from the mempool to the ledger.
    pub confirm_within: Duration,
    /// The longest time between two saves while the rest changes; at least a second.
    pub save_every: Duration,
}

/// How far a session's client has got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Use {
    /// The bytes of the session's inner packets since any fixed origin, up and down together, a super-packet counted as
    /// its segments (`Offload::billed` in `forward`).
    pub bytes: u64,
    /// When the client last showed that it is there, on the clock of `now`.
    pub alive: Duration,
}

/// What happened to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The client is served before its first payment, within these bounds. Ignored after any other grant.
    Grace {
        /// The longest time.
        time: Duration,
        /// The most bytes.
        bytes: u64,
    },
    /// The client comes back with a rest. A rest of 0 in the session's unit grants nothing. The rest in the other unit
    /// is kept for [`Action::Save`].
    Resumed {
        /// The rest that [`Rests::take`](super::Rests::take) gave.
        rest: Rest,
    },
    /// A receipt, the first or a next one, is signed, the driver has verified the client's signature, and the payment
    /// is in the mempool.
    Paid,
    /// The last payment is in the ledger. Payments spend each other's change, so all earlier ones are too.
    Confirmed,
    /// The next receipt was issued, after [`Action::AskNext`].
    Asked,
    /// The next receipt cannot be issued, because the transaction cannot pay it. The meter does not ask again.
    AskFailed,
    /// The SDK gave up waiting for the next receipt's signature, or refused it. The meter asks again a bounded number
    /// of times.
    AskRefused,
    /// Nothing but time and packets.
    Tick,
    /// The session ends. Everything after it is ignored.
    End,
}

/// What the driver does. The driver performs all actions of one event, in their order, before the next event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Lets the client's packets pass.
    Allow,
    /// Lets none pass any more.
    Stop(StopReason),
    /// Issues the next receipt and asks the client to sign it; answered by [`Event::Asked`] or [`Event::AskFailed`].
    AskNext,
    /// Makes the paid next receipt the SDK's current one.
    Switch,
    /// Passes this to [`Rests::update`](super::Rests::update) as an event.
    Save(Holding),
    /// Tells the client that its service has stopped.
    Notify,
}

/// Why service stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// All paid units are used.
    UnitsUsed,
    /// The time of grace is over.
    GraceTime,
    /// The bytes of grace are used.
    GraceBytes,
    /// The last payment did not reach the ledger in time, and what the earlier ones cover is used.
    NotConfirmed,
    /// The session has ended.
    Ended,
}

/// How far the data path may go before the meter must look again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// The value of [`Use::bytes`] at which packets are refused; `u64::MAX` for none. A paid next receipt is included,
    /// so packets flow on while one receipt takes over from another. 0 while nothing is allowed.
    pub bytes_limit: u64,
    /// The value of [`Use::bytes`] at which [`Event::Tick`] is due, at most `bytes_limit`; `u64::MAX` for none. This is
    /// the only number that the data path compares for each packet.
    pub bytes_due: u64,
    /// When [`Event::Tick`] is due at the latest; `None` for never.
    pub until: Option<Duration>,
}

/// The units that a client has left in a network, in both units. Values below 0 count as 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rest {
    /// Bytes.
    pub bytes: i64,
    /// Seconds.
    pub seconds: i64,
}

/// Why a stored rest cannot be read.
#[derive(thiserror::Error, Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordError {
    /// The record has another size.
    #[error("the record has {0} bytes, expected {expected}", expected = Rest::RECORD_LEN)]
    Size(usize),
}

impl Rest {
    /// The length of a stored rest, in bytes.
    pub const RECORD_LEN: usize = 16;

    /// Reads a stored rest: bytes, then seconds, little-endian. Values below 0, which the C module may have stored, are
    /// read as 0.
    pub fn from_record(record: &[u8]) -> Result<Rest, RecordError> {
        let record: &[u8; Rest::RECORD_LEN] = record.try_into().map_err(|_| RecordError::Size(record.len()))?;
        let number = |at: usize| {
            let bytes = std::array::from_fn(|index| record[at + index]);
            i64::from_le_bytes(bytes).max(0)
        };
        Ok(Rest { bytes: number(0), seconds: number(8) })
    }

    /// Writes the rest as it is stored.
    pub fn to_record(self) -> [u8; Rest::RECORD_LEN] {
        let mut record = [0; Rest::RECORD_LEN];
        record[..8].copy_from_slice(&self.bytes.max(0).to_le_bytes());
        record[8..].copy_from_slice(&self.seconds.max(0).to_le_bytes());
        record
    }

    /// Returns the rest in one unit, at least 0.
    pub fn of(self, unit: Unit) -> i64 {
        match unit {
            Unit::Bytes => self.bytes.max(0),
            Unit::Seconds => self.seconds.max(0),
        }
    }

    /// Returns this rest with another number of one unit.
    pub fn with(self, unit: Unit, units: i64) -> Rest {
        match unit {
            Unit::Bytes => Rest { bytes: units, ..self },
            Unit::Seconds => Rest { seconds: units, ..self },
        }
    }
}
