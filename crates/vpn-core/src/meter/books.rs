//! The numbers of a [`Meter`](super::Meter) that a reader sees.

use super::terms::{Rest, Unit};

/// What a session's client has left, in whole units of the order, rounded down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Of the current receipt or of the rest; below 0 in debt, as in grace.
    pub current: i64,
    /// Of the paid next receipt.
    pub next: i64,
}

/// What outlasts the session: the units that are left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holding {
    /// What payments in the ledger and the former rest cover; in the unit that the session does not use, the former
    /// rest.
    pub rest: Rest,
    /// The further units, which become a rest when the last payment reaches the ledger.
    pub pending: u64,
}

/// The account of a session, in steps: bytes, or nanoseconds.
///
/// Two equations hold at every moment ([`Books::is_balanced`]):
///
/// - `paid = charged + rest`: every paid unit is either charged or left.
/// - `served + rounded = charged + debt + written_off`: every served unit is charged, owed, or given away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Books {
    /// The units of all payments that count, and of the rest that the session started with.
    pub paid: u128,
    /// What the client has received.
    pub served: u128,
    /// The part of `paid` that is used.
    pub charged: u128,
    /// The part of `paid` that is left, with the paid next receipt.
    pub rest: u128,
    /// What was served without a payment that counts, and is charged to the next payment: grace, and service for a
    /// payment that did not reach the ledger.
    pub debt: u128,
    /// What was served and is never charged: what passed between the last unit and the stop, and the debt at the end.
    pub written_off: u128,
    /// The part of the last second that was charged and not served.
    pub rounded: u128,
    /// The units of payments that did not reach the ledger in time. They are not in `paid`.
    pub taken_back: u128,
}

impl Books {
    /// Returns whether the two equations hold.
    pub fn is_balanced(&self) -> bool {
        let used = self.charged.checked_add(self.debt).and_then(|sum| sum.checked_add(self.written_off));
        self.charged.checked_add(self.rest) == Some(self.paid) && self.served.checked_add(self.rounded) == used
    }
}

/// The account as the meter keeps it: sums only, in steps.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Account {
    pub(super) paid: u128,
    pub(super) served: u128,
    pub(super) written_off: u128,
    pub(super) rounded: u128,
    pub(super) taken_back: u128,
    /// The part of `paid` whose payments are not in the ledger. It is used last.
    pub(super) unconfirmed: u128,
}

impl Account {
    /// What is to be covered by `paid`.
    pub(super) fn used(&self) -> u128 {
        self.served.saturating_add(self.rounded).saturating_sub(self.written_off)
    }

    pub(super) fn rest(&self) -> u128 {
        self.paid.saturating_sub(self.used())
    }

    pub(super) fn debt(&self) -> u128 {
        self.used().saturating_sub(self.paid)
    }

    /// The rest that is covered by the ledger, and the rest that is not.
    pub(super) fn rests(&self) -> (u128, u128) {
        let rest = self.rest();
        let pending = rest.min(self.unconfirmed);
        (rest - pending, pending)
    }

    /// Charges the started units, so that the rests are whole.
    pub(super) fn round(&mut self, unit: Unit) {
        let (rest, pending) = self.rests();
        self.rounded = self.rounded.saturating_add(rest % unit.steps() + pending % unit.steps());
        self.unconfirmed = self.unconfirmed.min(pending - pending % unit.steps());
    }

    pub(super) fn books(&self) -> Books {
        let Account { paid, served, written_off, rounded, taken_back, .. } = *self;
        let rest = self.rest();
        Books { paid, served, charged: paid - rest, rest, debt: self.debt(), written_off, rounded, taken_back }
    }
}
