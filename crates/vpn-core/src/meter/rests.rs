//! The rests of all clients.

use super::books::Holding;
use super::terms::{RecordError, Rest, Unit};
use std::time::Duration;

/// Whose rest it is: a client in a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Client {
    /// The hash of the client's public key.
    pub key: [u8; 32],
    /// The network's number.
    pub net: u64,
}

/// The hash of a payment's transaction.
pub type PaymentId = [u8; 32];

/// The most payments of one client that wait for the ledger after their sessions have ended.
pub const MAX_PENDING: usize = 8;

/// The units of a payment that was not in the ledger when its session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    /// The payment.
    pub payment: PaymentId,
    /// The unused units.
    pub rest: Rest,
}

/// The answer to [`Rests::take`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// The rest now belongs to the session.
    Rest(Rest),
    /// Another session has it. The second one waits or is refused.
    Busy {
        /// The session that has it.
        owner: u64,
    },
    /// The rest is not in memory. The driver reads the record, calls [`Rests::load`] and takes again.
    NotLoaded,
    /// [`MAX_PENDING`] payments of the client wait for the ledger.
    Unsettled,
}

/// How soon a change is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// At once.
    Event,
    /// With others, after at most the time that [`Rests::new`] was given.
    Change,
}

/// A record to be written to the store, acknowledged by [`Rests::written`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Whose record.
    pub client: Client,
    /// The number of this state of the record.
    pub version: u64,
    /// The rest, as stored.
    pub record: [u8; Rest::RECORD_LEN],
    /// The units that wait for the ledger, to be stored beside the record so that they outlast a restart.
    pub pending: Vec<Pending>,
}

/// A payment that did not reach the ledger in time. Its units are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expired {
    /// Whose payment.
    pub client: Client,
    /// The payment and its units.
    pub pending: Pending,
}

/// The rests of all clients, the authority while the process runs. One session at a time uses a rest.
#[derive(Debug)]
pub struct Rests {
    save_every: Duration,
}

impl Rests {
    /// Creates the table. A mere change is written after at most `save_every`.
    pub fn new(save_every: Duration) -> Rests {
        Rests { save_every }
    }

    /// Fills in what the store has; `None` if it has no record. Has no effect on a rest that is in memory.
    ///
    /// Errors: the record's size. The rest is then 0, and the record stays until a session changes it.
    pub fn load(&mut self, client: Client, record: Option<&[u8]>) -> Result<(), RecordError> {
        let _ = (client, record, self.save_every);
        todo!()
    }

    /// Fills in a payment that waited for the ledger when the process ended. It has until `expires` to get there.
    pub fn load_pending(&mut self, client: Client, pending: Pending, expires: Duration) {
        let _ = (client, pending, expires);
        todo!()
    }

    /// Gives a rest to the session `owner`, which sells `unit`. A second call of the same owner returns the rest again.
    pub fn take(&mut self, client: Client, unit: Unit, owner: u64) -> Taken {
        let _ = (client, unit, owner);
        todo!()
    }

    /// Returns a rest that is in memory.
    pub fn get(&self, client: &Client) -> Option<Rest> {
        let _ = client;
        todo!()
    }

    /// Replaces the rest in the unit that its owner sells. `payment` is the payment that `holding.pending` waits for,
    /// if there is one. Returns false if `owner` does not have the rest.
    pub fn update(
        &mut self,
        client: Client,
        owner: u64,
        holding: Holding,
        payment: Option<PaymentId>,
        urgency: Urgency,
    ) -> bool {
        let _ = (client, owner, holding, payment, urgency);
        todo!()
    }

    /// Ends the use of a rest with the last value of its session's meter. Pending units become a rest if
    /// [`Rests::confirm`] is called for `payment` before `expires`. Returns false if `owner` does not have the rest.
    pub fn release(
        &mut self,
        client: Client,
        owner: u64,
        holding: Holding,
        payment: Option<PaymentId>,
        expires: Duration,
    ) -> bool {
        let _ = (client, owner, holding, payment, expires);
        todo!()
    }

    /// Returns the payments that wait for the ledger.
    pub fn waiting(&self) -> impl Iterator<Item = (Client, PaymentId)> {
        std::iter::empty()
    }

    /// Turns the units of a payment that reached the ledger into a rest. Returns false if none waits for it.
    pub fn confirm(&mut self, payment: &PaymentId) -> bool {
        let _ = payment;
        todo!()
    }

    /// Removes the payments whose time is over.
    pub fn expire(&mut self, now: Duration) -> Vec<Expired> {
        let _ = now;
        todo!()
    }

    /// Returns the records that are to be written now.
    pub fn due(&mut self, now: Duration) -> Vec<Write> {
        let _ = now;
        todo!()
    }

    /// Returns all records that the store does not have, as at the end of the process.
    pub fn all_dirty(&mut self) -> Vec<Write> {
        todo!()
    }

    /// The store has (or, if not `stored`, could not take) a record. A record that could not be written is due again
    /// after `save_every`.
    pub fn written(&mut self, now: Duration, client: &Client, version: u64, stored: bool) {
        let _ = (now, client, version, stored);
        todo!()
    }
}
