//! The rests of all clients.

use super::books::Holding;
use super::terms::{RecordError, Rest, Unit};
use std::collections::{BTreeSet, HashMap};
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
    /// An event of a session caused it, not the passage of time.
    pub is_event: bool,
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
///
/// A rest is in memory from [`Rests::load`] on while a session has it, while one of its payments waits for the ledger,
/// and until the store has its last state. Otherwise the next [`Rests::due`] drops it, so the driver calls `load` and
/// `take` under one lock.
///
/// ```
/// use std::time::Duration;
/// use vpn_core::meter::{Client, Rests, Taken, Unit};
///
/// let mut rests = Rests::new(Duration::from_secs(10));
/// let client = Client { key: [1; 32], net: 7 };
/// assert_eq!(rests.take(client, Unit::Seconds, 1), Taken::NotLoaded);
/// let record = [[0; 8], 15_u64.to_le_bytes()].concat();
/// rests.load(client, Some(&record)).unwrap();
/// let Taken::Rest(rest) = rests.take(client, Unit::Seconds, 1) else { panic!("the rest is free") };
/// assert_eq!(rest.seconds, 15);
/// assert_eq!(rests.take(client, Unit::Seconds, 2), Taken::Busy { owner: 1 });
/// ```
#[derive(Debug)]
pub struct Rests {
    save_every: Duration,
    entries: HashMap<Client, Entry>,
    /// Those whose state the store does not have.
    dirty: BTreeSet<Client>,
    /// Those that may be dropped by now.
    idle: Vec<Client>,
    /// The payments of ended sessions.
    waiting: BTreeSet<(PaymentId, Client)>,
}

#[derive(Debug, Default)]
struct Entry {
    /// Without `credit`.
    rest: Rest,
    /// Units of earlier payments that reached the ledger while a session had the rest. Its meter does not know them.
    credit: Rest,
    owner: Option<Owner>,
    waiting: Vec<Waiting>,
    /// The number of this state, and of the state in the store.
    version: u64,
    stored: u64,
    /// The driver writes a state.
    is_in_flight: bool,
    is_urgent: bool,
    /// When a state was last given to the driver.
    written: Option<Duration>,
}

#[derive(Clone, Copy, Debug)]
struct Owner {
    id: u64,
    unit: Unit,
    /// The session's payment that is not in the ledger.
    pending: Option<Pending>,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    pending: Pending,
    expires: Duration,
}

impl Rests {
    /// Creates the table. A mere change is written at most every `save_every`.
    pub fn new(save_every: Duration) -> Rests {
        Rests {
            save_every,
            entries: HashMap::new(),
            dirty: BTreeSet::new(),
            idle: Vec::new(),
            waiting: BTreeSet::new(),
        }
    }

    /// Fills in what the store has; `None` if it has no record. Has no effect on a rest that is in memory.
    ///
    /// Errors: the record's size. The rest is then 0, and the record stays until a session changes it.
    pub fn load(&mut self, client: Client, record: Option<&[u8]>) -> Result<(), RecordError> {
        if self.entries.contains_key(&client) {
            return Ok(());
        }
        let rest = record.map(Rest::from_record).unwrap_or(Ok(Rest::default()));
        self.entries.insert(client, Entry { rest: rest.unwrap_or_default(), ..Entry::default() });
        self.idle.push(client);
        rest.map(|_| ())
    }

    /// Fills in a payment that waited for the ledger when the process ended. It has until `expires` to get there.
    /// Returns false if the client's rest is not in memory.
    pub fn load_pending(&mut self, client: Client, pending: Pending, expires: Duration) -> bool {
        let Some(entry) = self.entries.get_mut(&client) else { return false };
        entry.wait(pending, expires);
        self.waiting.insert((pending.payment, client));
        true
    }

    /// Gives a rest to the session `owner`, which sells `unit`. A second call of the same owner returns the rest again.
    pub fn take(&mut self, client: Client, unit: Unit, owner: u64) -> Taken {
        let Some(entry) = self.entries.get_mut(&client) else { return Taken::NotLoaded };
        match &mut entry.owner {
            Some(current) if current.id != owner => return Taken::Busy { owner: current.id },
            Some(current) => current.unit = unit,
            None if entry.waiting.len() >= MAX_PENDING => return Taken::Unsettled,
            None => entry.owner = Some(Owner { id: owner, unit, pending: None }),
        }
        Taken::Rest(entry.rest)
    }

    /// Returns a rest that is in memory.
    pub fn get(&self, client: &Client) -> Option<Rest> {
        self.entries.get(client).map(Entry::total)
    }

    /// Returns all units of a client that are in memory: its rest, and those of payments that wait for the ledger.
    pub fn held(&self, client: &Client) -> Option<Rest> {
        let entry = self.entries.get(client)?;
        let pending = entry.owner.and_then(|owner| owner.pending);
        let waiting = entry.waiting.iter().map(|waiting| waiting.pending).chain(pending);
        Some(waiting.fold(entry.total(), |total, pending| sum(total, pending.rest)))
    }

    /// Replaces the rest in the unit that its owner sells. `payment` is the payment that `holding.pending` waits for:
    /// without it these units are lost. Returns false if `owner` does not have the rest.
    pub fn update(
        &mut self,
        client: Client,
        owner: u64,
        holding: Holding,
        payment: Option<PaymentId>,
        urgency: Urgency,
    ) -> bool {
        let Some(entry) = self.entries.get_mut(&client) else { return false };
        let Some(current) = entry.owner.as_mut().filter(|current| current.id == owner) else { return false };
        let units = i64::try_from(holding.pending).unwrap_or(i64::MAX);
        let rest = Rest::default().with(current.unit, units);
        let pending = payment.filter(|_| units > 0).map(|payment| Pending { payment, rest });
        let rest = entry.rest.with(current.unit, holding.rest.of(current.unit));
        let is_changed = rest != entry.rest || pending != current.pending;
        (entry.rest, current.pending) = (rest, pending);
        if is_changed {
            entry.version += 1;
            self.dirty.insert(client);
        }
        entry.is_urgent |= urgency == Urgency::Event && entry.is_dirty();
        true
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
        if !self.update(client, owner, holding, payment, Urgency::Event) {
            return false;
        }
        let Some(entry) = self.entries.get_mut(&client) else { return false };
        entry.rest = entry.total();
        entry.credit = Rest::default();
        if let Some(pending) = entry.owner.take().and_then(|owner| owner.pending) {
            entry.wait(pending, expires);
            self.waiting.insert((pending.payment, client));
        }
        self.idle.push(client);
        true
    }

    /// Returns until when the newest payment of the client's ended sessions waits for the ledger.
    pub fn newest_wait(&self, client: &Client) -> Option<Duration> {
        self.entries.get(client)?.waiting.iter().map(|waiting| waiting.expires).max()
    }

    /// Returns the units of payments that reached the ledger while a session had the rest, and that its meter does not
    /// know.
    pub fn credit(&self, client: &Client) -> Rest {
        self.entries.get(client).map_or(Rest::default(), |entry| entry.credit)
    }

    /// Returns the payments of ended sessions that wait for the ledger: a copy, because a look-up there may take long.
    pub fn waiting(&self) -> Vec<(Client, PaymentId)> {
        self.waiting.iter().map(|(payment, client)| (*client, *payment)).collect()
    }

    /// The same, of one client.
    pub fn waiting_of(&self, client: &Client) -> Vec<PaymentId> {
        let waiting = self.entries.get(client).map_or(&[][..], |entry| &entry.waiting);
        waiting.iter().map(|waiting| waiting.pending.payment).collect()
    }

    /// Turns the units of an ended session's payment, which has reached the ledger, into a rest. Returns false if none
    /// waits for it.
    pub fn confirm(&mut self, payment: &PaymentId) -> bool {
        let settled = self.settle(|waiting| waiting.pending.payment == *payment);
        for (client, pending) in &settled {
            let Some(entry) = self.entries.get_mut(client) else { continue };
            match entry.owner {
                Some(_) => entry.credit = sum(entry.credit, pending.rest),
                None => entry.rest = sum(entry.rest, pending.rest),
            }
        }
        !settled.is_empty()
    }

    /// Removes the payments whose time is over.
    pub fn expire(&mut self, now: Duration) -> Vec<Expired> {
        let settled = self.settle(|waiting| now >= waiting.expires);
        settled.into_iter().map(|(client, pending)| Expired { client, pending }).collect()
    }

    /// Returns the records that are to be written now. A record that the driver still writes is not among them, so
    /// that the store gets each client's states in their order.
    pub fn due(&mut self, now: Duration) -> Vec<Write> {
        for client in std::mem::take(&mut self.idle) {
            if self.entries.get(&client).is_some_and(Entry::is_idle) {
                self.entries.remove(&client);
            }
        }
        let mut writes = Vec::new();
        for client in &self.dirty {
            let Some(entry) = self.entries.get_mut(client).filter(|entry| !entry.is_in_flight) else { continue };
            let is_time = entry.written.is_none_or(|written| now.saturating_sub(written) >= self.save_every);
            if entry.is_urgent || is_time {
                writes.push(entry.write(*client));
                (entry.is_in_flight, entry.is_urgent, entry.written) = (true, false, Some(now));
            }
        }
        writes
    }

    /// Returns all records that the store does not have, also those that the driver still writes: what a process
    /// writes before it ends.
    pub fn all_dirty(&self) -> Vec<Write> {
        self.dirty.iter().filter_map(|client| Some(self.entries.get(client)?.write(*client))).collect()
    }

    /// Reports that the store has a record or, if not `stored`, that it could not take it. Such a record is due again
    /// after `save_every`.
    pub fn written(&mut self, client: &Client, version: u64, stored: bool) {
        let Some(entry) = self.entries.get_mut(client) else { return };
        entry.is_in_flight = false;
        if stored {
            entry.stored = entry.stored.max(version);
        }
        if !entry.is_dirty() {
            self.dirty.remove(client);
            self.idle.push(*client);
        }
    }

    /// Returns the number of rests in memory.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether no rest is in memory.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Ends the wait of the payments that match.
    fn settle(&mut self, matches: impl Fn(&Waiting) -> bool) -> Vec<(Client, Pending)> {
        let mut settled = Vec::new();
        let entries = &mut self.entries;
        self.waiting.retain(|(payment, client)| {
            let Some(entry) = entries.get_mut(client) else { return false };
            let is_it = |waiting: &Waiting| waiting.pending.payment == *payment && matches(waiting);
            let Some(at) = entry.waiting.iter().position(is_it) else { return true };
            settled.push((*client, entry.waiting.remove(at).pending));
            entry.version += 1;
            entry.is_urgent = true;
            false
        });
        self.dirty.extend(settled.iter().map(|(client, _)| *client));
        settled
    }
}

impl Entry {
    fn total(&self) -> Rest {
        sum(self.rest, self.credit)
    }

    fn is_dirty(&self) -> bool {
        self.version != self.stored
    }

    fn is_idle(&self) -> bool {
        self.owner.is_none() && self.waiting.is_empty() && !self.is_dirty() && !self.is_in_flight
    }

    /// A payment that waits already is replaced.
    fn wait(&mut self, pending: Pending, expires: Duration) {
        self.waiting.retain(|waiting| waiting.pending.payment != pending.payment);
        self.waiting.push(Waiting { pending, expires });
    }

    fn write(&self, client: Client) -> Write {
        let waiting = self.waiting.iter().map(|waiting| waiting.pending);
        let pending = waiting.chain(self.owner.and_then(|owner| owner.pending)).collect();
        let record = self.total().to_record();
        Write { client, version: self.version, record, pending, is_event: self.is_urgent }
    }
}

fn sum(one: Rest, other: Rest) -> Rest {
    Rest { bytes: one.bytes.saturating_add(other.bytes), seconds: one.seconds.saturating_add(other.seconds) }
}

#[cfg(test)]
mod tests;
